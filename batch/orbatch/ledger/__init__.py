"""The ledger: one SQLite file with every job, every paid request and every cent. The only place with SQL."""

from orbatch.ledger.database import LedgerConflict, LedgerError, OnDisk, parse_timestamp, timestamp, utc_now
from orbatch.ledger.leases import BatchHeld, Holder, LeaseLost
from orbatch.ledger.plans import BatchFile, ModelTotals, PriceGroup
from orbatch.ledger.queries import Counts, NoSuchJob
from orbatch.ledger.records import (
    AttemptRecord,
    BatchRecord,
    JobRecord,
    OpenField,
    OutputRecord,
    PlanRecord,
    Reservation,
    Settlement,
)
from orbatch.ledger.reports import GROUPINGS, Bills, Filter, Grouping, ReportRow
from orbatch.ledger.store import Ledger

__all__ = [
    "GROUPINGS",
    "AttemptRecord",
    "BatchFile",
    "BatchHeld",
    "BatchRecord",
    "Bills",
    "Counts",
    "Filter",
    "Grouping",
    "Holder",
    "JobRecord",
    "LeaseLost",
    "Ledger",
    "LedgerConflict",
    "LedgerError",
    "ModelTotals",
    "NoSuchJob",
    "OnDisk",
    "OpenField",
    "OutputRecord",
    "PlanRecord",
    "PriceGroup",
    "ReportRow",
    "Reservation",
    "Settlement",
    "parse_timestamp",
    "timestamp",
    "utc_now",
]
