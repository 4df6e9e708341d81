"""From a batch to priced jobs; spends nothing. Heavy, so commands that only read the ledger must not import it."""

from orbatch.plan.catalogs import CatalogCache, Catalogs, load_catalogs
from orbatch.plan.finals import finals, finals_file, offer_finals, picked_jobs, upscaling, with_picks
from orbatch.plan.jobs import expand, models_by_kind
from orbatch.plan.kinds import KINDS
from orbatch.plan.overrides import overridden
from orbatch.plan.plan import (
    CapForecast,
    Plan,
    PlanError,
    UnsetGroup,
    caps_from_config,
    forecast_caps,
    is_loopback,
    make_plan,
    simulated,
)
from orbatch.plan.plan_file import PlanFile, check_against_file, check_destination, read_plan_file

__all__ = [
    "KINDS",
    "CapForecast",
    "CatalogCache",
    "Catalogs",
    "Plan",
    "PlanError",
    "PlanFile",
    "UnsetGroup",
    "caps_from_config",
    "check_against_file",
    "check_destination",
    "expand",
    "finals",
    "finals_file",
    "forecast_caps",
    "is_loopback",
    "load_catalogs",
    "make_plan",
    "models_by_kind",
    "offer_finals",
    "overridden",
    "picked_jobs",
    "read_plan_file",
    "simulated",
    "upscaling",
    "with_picks",
]
