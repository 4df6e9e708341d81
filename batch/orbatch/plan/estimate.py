"""Every job checked against its model, and priced, before any money moves. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from orbatch.ledger import PlannedJob
from orbatch.money import MOST_USD, to_nano, to_nano_up_to
from orbatch.plan.catalogs import Catalogs
from orbatch.plan.jobs import Job
from orbatch.plan.kinds import KINDS
from orbatch_provider import Estimate, Problem, UnsetField

_KEPT = 1000  # price checks that are remembered, so that a batch whose jobs all differ does not fill the memory
UNPRICED = Estimate(low=None, exact=None, high=None, why="no price is known")


@dataclass(frozen=True, slots=True)
class PricedJob:
    """A job with its price and everything its model does not support. ``unset``: fields on which the price depends and
    which the request does not set."""

    spec: Job
    estimate: Estimate
    problems: tuple[Problem, ...] = ()
    unset: tuple[UnsetField, ...] = ()

    @property
    def bounds_nusd(self) -> tuple[int | None, int | None, int | None]:
        """Low, exact and high in nano-dollars, None: unknown; high is what is reserved, so it is rounded up."""
        low, exact, high = self.estimate.low, self.estimate.exact, self.estimate.high
        return (
            None if low is None else to_nano(low),
            None if exact is None else to_nano(exact),
            None if high is None else to_nano_up_to(high),
        )


def planned_job(job: PricedJob) -> PlannedJob:
    """What the ledger keeps of a job."""
    spec = job.spec
    low, exact, high = job.bounds_nusd
    return PlannedJob(
        key=spec.key,
        position=spec.position,
        kind=spec.kind,
        model=spec.model,
        prompt_id=spec.prompt_id,
        prompt=spec.prompt,
        variables=spec.variables,
        request=spec.body,
        repeat=spec.repeat,
        stem=spec.stem,
        estimate_low_nusd=low,
        estimate_exact_nusd=exact,
        estimate_high_nusd=high,
        price_lines=" ".join(job.estimate.lines),
        price_why=job.estimate.why,
    )


def price_jobs(jobs: Iterable[Job], catalogs: Catalogs) -> Iterator[PricedJob]:
    """Check and price each job, lazily.

    Jobs that differ only in prompt and seed mostly cost the same and are refused for the same reasons, so each distinct
    set of settings is worked out once: a batch of 100,000 prompts has a handful.
    """
    known: dict[tuple[object, ...], PricedJob] = {}
    for job in jobs:
        # All that price and check depend on; of a seed only whether there is one.
        inputs = KINDS[job.kind].price_inputs(job.request)
        key = (job.kind, job.model, job.settings, inputs, job.request.seed is None)
        priced = known.get(key)
        if priced is None:
            if len(known) >= _KEPT:
                known.clear()  # as good as forgetting the oldest, and simpler
            priced = known[key] = _priced(job, catalogs)
        yield PricedJob(job, priced.estimate, priced.problems, priced.unset)


def _priced(job: Job, catalogs: Catalogs) -> PricedJob:
    kind, request, model = KINDS[job.kind], job.request, catalogs.find(job.kind, job.model)
    if model is None:
        return PricedJob(job, UNPRICED, (_unknown_model(job, catalogs),))
    estimate = kind.estimate(request, model)
    if max(estimate.low or 0, estimate.high or 0) > MOST_USD:  # more than any cap, and than the ledger can add up
        estimate = Estimate.unpriced(f"the price list makes it cost more than {MOST_USD:,} USD, which is no price")
    return PricedJob(job, estimate, tuple(kind.check(request, model)), kind.unset_fields(request, model))


def _unknown_model(job: Job, catalogs: Catalogs) -> Problem:
    message = f"{job.model} is not among the {job.kind} models of {catalogs.source}"
    other = next((kind for kind in KINDS if catalogs.find(kind, job.model) is not None), None)
    if other is not None:
        return Problem("model", job.model, f"{message}; it makes {other}: set kind: {other}")
    own = catalogs.by_kind.get(job.kind)
    return Problem("model", job.model, message, nearest=None if own is None else own.nearest(job.model))
