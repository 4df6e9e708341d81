"""A batch before any money moves: every job checked against its model, and priced. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from orbatch.jobspec import JobSpec
from orbatch.money import nusd, nusd_at_most
from orbatch_provider.catalog import Catalog, Problem, VideoModel, check
from orbatch_provider.pricing import Estimate, OpenDimension, estimate, open_dimensions


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job with its price and everything its model does not support. ``left_open``: what the request leaves to
    chance although it is billed."""

    spec: JobSpec
    estimate: Estimate
    problems: tuple[Problem, ...] = ()
    left_open: tuple[OpenDimension, ...] = ()

    @property
    def low_nusd(self) -> int | None:
        return None if self.estimate.low is None else nusd(self.estimate.low)

    @property
    def exact_nusd(self) -> int | None:
        return None if self.estimate.exact is None else nusd(self.estimate.exact)

    @property
    def high_nusd(self) -> int | None:
        return None if self.estimate.high is None else nusd_at_most(self.estimate.high)


UNPRICED = Estimate(low=None, exact=None, high=None, why="no price is known")


def plan_jobs(specs: Iterable[JobSpec], catalog: Catalog) -> Iterator[PlannedJob]:
    """Check and price each job, lazily.

    Jobs that differ only in prompt and seed cost the same and are refused for the same reasons, so each distinct set
    of settings is worked out once: a batch of 100,000 prompts has a handful.
    """
    known: dict[str, PlannedJob] = {}
    for spec in specs:
        settings = _settings(spec)
        planned = known.get(settings)
        if planned is None:
            planned = known[settings] = _plan_job(spec, catalog)
        yield PlannedJob(spec, planned.estimate, planned.problems, planned.left_open)


def _settings(spec: JobSpec) -> str:
    body = spec.request.body()
    body["prompt"] = bool(body.get("prompt"))
    body["seed"] = "seed" in body
    return json.dumps(body, sort_keys=True, default=str)


def _plan_job(spec: JobSpec, catalog: Catalog) -> PlannedJob:
    model = catalog.find(spec.model)
    if model is None:
        return PlannedJob(spec, UNPRICED, (_unknown_model(spec.model, catalog),))
    return _plan_known(spec, model)


def _plan_known(spec: JobSpec, model: VideoModel) -> PlannedJob:
    return PlannedJob(
        spec,
        estimate(spec.request, model),
        tuple(check(spec.request, model)),
        open_dimensions(spec.request, model),
    )


def _unknown_model(model: str, catalog: Catalog) -> Problem:
    return Problem("model", model, f"{model} is not in the catalog of {catalog.source}", nearest=catalog.nearest(model))
