"""Every job checked against its model, and priced, before any money moves. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from orbatch.ledger import PlannedJob
from orbatch.money import to_nano, to_nano_up_to
from orbatch.plan.catalogs import Catalogs
from orbatch.plan.jobs import Job
from orbatch.plan.kinds import KINDS
from orbatch_provider.catalog import Problem
from orbatch_provider.pricing import Estimate, UnsetField

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
    def low_nusd(self) -> int | None:
        """The least it costs, in nano-dollars; None: unknown."""
        return None if self.estimate.low is None else to_nano(self.estimate.low)

    @property
    def exact_nusd(self) -> int | None:
        """What it costs, where the price is certain, in nano-dollars."""
        return None if self.estimate.exact is None else to_nano(self.estimate.exact)

    @property
    def high_nusd(self) -> int | None:
        """The most it costs, in nano-dollars, rounded up: what is reserved before a submit."""
        return None if self.estimate.high is None else to_nano_up_to(self.estimate.high)


def planned_job(job: PricedJob) -> PlannedJob:
    """What the ledger keeps of a job."""
    spec = job.spec
    return PlannedJob(
        key=spec.key,
        position=spec.position,
        kind=spec.kind,
        model=spec.model,
        prompt_id=spec.prompt_id,
        prompt=spec.prompt,
        variables=spec.variables,
        request=spec.request.body(),
        repeat=spec.repeat,
        stem=spec.stem,
        estimate_low_nusd=job.low_nusd,
        estimate_exact_nusd=job.exact_nusd,
        estimate_high_nusd=job.high_nusd,
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
    kind, model = KINDS[job.kind], catalogs.find(job.kind, job.model)
    if model is None:
        return PricedJob(job, UNPRICED, (_unknown_model(job, catalogs),))
    return PricedJob(
        job,
        kind.estimate(job.request, model),
        tuple(kind.check(job.request, model)),
        kind.unset_fields(job.request, model),
    )


def _unknown_model(job: Job, catalogs: Catalogs) -> Problem:
    others = [kind for kind in KINDS if kind != job.kind and catalogs.find(kind, job.model) is not None]
    hint = f"; it makes {others[0]}: set kind: {others[0]}" if others else ""
    message = f"{job.model} is not among the {job.kind} models of {catalogs.source}{hint}"
    return Problem("model", job.model, message, nearest=None if others else catalogs.nearest(job.kind, job.model))
