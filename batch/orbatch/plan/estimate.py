"""A batch before any money moves: every job checked against its model, and priced. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from orbatch.money import to_nano, to_nano_up_to
from orbatch.plan.catalogs import Offers
from orbatch.plan.jobs import Job
from orbatch.plan.kinds import KINDS
from orbatch_provider.catalog import Problem
from orbatch_provider.pricing import Estimate, UnsetField


@dataclass(frozen=True, slots=True)
class PricedJob:
    """A job with its price and everything its model does not support. ``left_open``: what the request leaves to
    chance although it is billed."""

    spec: Job
    estimate: Estimate
    problems: tuple[Problem, ...] = ()
    left_open: tuple[UnsetField, ...] = ()

    @property
    def low_nusd(self) -> int | None:
        return None if self.estimate.low is None else to_nano(self.estimate.low)

    @property
    def exact_nusd(self) -> int | None:
        return None if self.estimate.exact is None else to_nano(self.estimate.exact)

    @property
    def high_nusd(self) -> int | None:
        return None if self.estimate.high is None else to_nano_up_to(self.estimate.high)


_KEPT = 1000  # settings worked out and kept, so that a batch in which each job has a picture of its own stays small
_ENCODE = json.JSONEncoder(sort_keys=True, default=str).encode  # made once: it is asked for every job of a plan
UNPRICED = Estimate(low=None, exact=None, high=None, why="no price is known")


def price_jobs(specs: Iterable[Job], offers: Offers) -> Iterator[PricedJob]:
    """Check and price each job, lazily.

    Jobs that differ only in prompt and seed mostly cost the same and are refused for the same reasons, so each distinct
    set of settings is worked out once: a batch of 100,000 prompts has a handful.
    """
    known: dict[str, PricedJob] = {}
    for spec in specs:
        settings = _settings(spec)
        planned = known.get(settings)
        if planned is None:
            if len(known) >= _KEPT:
                known.clear()
            planned = known[settings] = _plan_job(spec, offers)
        yield PricedJob(spec, planned.estimate, planned.problems, planned.left_open)


def _settings(spec: Job) -> str:
    """All that the price and the check depend on."""
    body = spec.request.body()
    for name in ("prompt", "messages"):
        body.pop(name, None)
    body["seed"] = "seed" in body
    weight = KINDS[spec.kind].weight(spec.request)
    return _ENCODE([spec.kind, weight, body])


def _plan_job(spec: Job, offers: Offers) -> PricedJob:
    kind, model = KINDS[spec.kind], offers.find(spec.kind, spec.model)
    if model is None:
        return PricedJob(spec, UNPRICED, (_unknown_model(spec, offers),))
    return PricedJob(
        spec,
        kind.estimate(spec.request, model),
        tuple(kind.check(spec.request, model)),
        kind.left_open(spec.request, model),
    )


def _unknown_model(spec: Job, offers: Offers) -> Problem:
    others = [kind for kind in KINDS if kind != spec.kind and offers.find(kind, spec.model) is not None]
    hint = f"; it makes {others[0]}: say kind: {others[0]}" if others else ""
    message = f"{spec.model} is not among the {spec.kind} models of {offers.source}{hint}"
    return Problem("model", spec.model, message, nearest=None if others else offers.nearest(spec.kind, spec.model))
