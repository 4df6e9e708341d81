"""From a batch file to a plan in the ledger: expand, check, price, write. Spends nothing.

Planning is idempotent by job key: planning the same file twice changes nothing, and jobs that have left it are retired.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from operator import attrgetter
from urllib.parse import urlsplit

from orbatch.batchfile.models import BatchConfig, BudgetConfig
from orbatch.ledger import BatchFile, BatchRecord, Caps, Ledger, ModelTotals, PriceGroup, variant_text
from orbatch.money import to_nano, to_nano_up_to
from orbatch.plan.catalogs import Catalogs
from orbatch.plan.estimate import PricedJob, planned_job, price_jobs
from orbatch.plan.jobs import Job, expand
from orbatch.plan.same_words import known_jobs
from orbatch_provider import PriceChange, UnsetField

SHOWN_JOBS = 3  # jobs named per problem; the others are counted
_SUMMED = tuple(column.name for column in fields(ModelTotals) if column.name != "model")


class PlanError(Exception):
    """The plan cannot be made or kept to; the message says why. Nothing was submitted."""


class PlanProblems(PlanError):
    """Jobs that their models would refuse. ``problems`` has one entry per problem, with the jobs it concerns."""

    def __init__(self, problems: list[ProblemGroup]) -> None:
        self.problems = problems
        number = sum(group.count for group in problems)
        count = "1 problem" if number == 1 else f"{number} problems"
        super().__init__("\n".join([*map(str, problems), f"{count}; nothing was submitted."]))


@dataclass(slots=True)
class ProblemGroup:
    """One thing a model does not support, and the jobs that need it."""

    model: str
    text: str
    count: int = 0
    jobs: list[str] = field(default_factory=list)

    def add(self, job: str) -> None:
        """Count a job; the first few are named."""
        self.count += 1
        if len(self.jobs) < SHOWN_JOBS:
            self.jobs.append(job)

    def __str__(self) -> str:
        more = f" and {self.count - len(self.jobs)} more" if self.count > len(self.jobs) else ""
        text = self.text if self.model in self.text else f"{self.model}: {self.text}"
        return f"{text}\n    in {', '.join(self.jobs)}{more}"


@dataclass(frozen=True, slots=True)
class UnsetGroup:
    """Pending jobs of one model that do not set a field on which the price depends, with the price range in USD that
    this causes for one job (None: unknown)."""

    model: str
    field: str
    low_usd: Decimal | None
    high_usd: Decimal | None
    jobs: int


@dataclass(frozen=True, slots=True)
class CapForecast:
    """One cap, in nano-dollars: what is already spent and reserved under it, and what the pending jobs that it limits
    may cost at most. ``never``: jobs that each cost more than the cap; ``unpriced``: jobs it refuses because they have
    no upper price."""

    name: str
    cap_nusd: int
    committed_nusd: int
    needed_nusd: int
    never: int
    unpriced: int

    @property
    def covers(self) -> bool:
        """Whether every pending job fits at its worst case."""
        left = max(0, self.cap_nusd - self.committed_nusd)
        return self.needed_nusd <= left and not self.never and not self.unpriced


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan as the ledger has it. ``digest`` identifies its jobs and prices; ``expected_nusd``: what past
    charges suggest for the pending jobs, None where too few are known. ``only``: the pattern that selected jobs."""

    batch: BatchRecord
    config: BatchConfig
    catalogs: Catalogs
    only: str | None
    totals: list[ModelTotals]
    groups: list[PriceGroup]
    unset: list[UnsetGroup]
    price_changes: list[PriceChange]
    expected_nusd: int | None
    digest: str

    @property
    def total(self) -> ModelTotals:
        """The sums over all models, in a row of its own."""
        return ModelTotals("total", *(sum(map(attrgetter(name), self.totals)) for name in _SUMMED))


def caps_from_config(budget: BudgetConfig, total_usd: Decimal | None = None) -> Caps:
    """The caps of a batch file in nano-dollars; ``total_usd`` from the command line wins."""

    def amount(value: Decimal | None) -> int | None:
        return None if value is None else to_nano(value)

    return Caps(
        total=amount(budget.total_usd if total_usd is None else total_usd),
        per_job=amount(budget.per_job_usd),
        per_day=amount(budget.per_day_usd),
        per_model={model: to_nano(cap) for model, cap in budget.per_model_usd.items()},
        # Rounded up, like every reservation.
        unpriced=None if budget.unpriced is None else to_nano_up_to(budget.unpriced),
    )


def simulated(config: BatchConfig) -> BatchConfig:
    """The same batch with an output directory of its own, so that simulated files never mix with paid ones."""
    return replace(config, output_dir=config.output_dir.with_name(config.output_dir.name + "-sim"))


def make_plan(
    ledger: Ledger,
    config: BatchConfig,
    catalogs: Catalogs,
    origin: str,
    only: str | None = None,
    *,
    when_written: Callable[[BatchRecord], None] = lambda _: None,
) -> Plan:
    """Check and price every job of the batch and write the plan. ``when_written`` may change jobs before they are
    counted; what it raises leaves the plan written.

    ``origin``: the API that the jobs would be submitted to. Raises ConfigError, PlanProblems, PlanError or LedgerError;
    the ledger is then unchanged, except when the only problem is that ``only`` matches nothing.
    """
    _refuse_mixed_money(ledger, config.name, origin)
    before = ledger.plans.last_catalog(config.name)  # first, because the new plan replaces it
    file = BatchFile(config.name, config.path.absolute(), config.sha256, config.output_dir, origin)
    kept = catalogs.only([model.model for model in config.models])
    survey = _Survey()
    jobs = known_jobs(expand(config), lambda: ledger.plans.requests(config.name))
    batch = ledger.plans.write(file, kept, map(planned_job, survey.watch(price_jobs(jobs, catalogs))))
    when_written(batch)
    totals = ledger.plans.totals_by_model(batch.id, only)
    if not totals:  # the plan stays written: it is right, only the pattern is not
        raise PlanError(f"--only {only} matches no prompt id, model or job id of batch {config.name}.")
    groups = ledger.plans.price_groups(batch.id, only)
    return Plan(
        batch=batch,
        config=config,
        catalogs=catalogs,
        only=only,
        totals=totals,
        groups=groups,
        unset=survey.unset(groups),
        price_changes=[]
        if before is None
        else catalogs.price_changes(Catalogs.from_text(before), [part.model for part in totals]),
        expected_nusd=_expected(ledger, groups),
        digest=survey.digest,
    )


# Model, price lines, low and high: jobs alike in these do not set the same fields.
_GroupKey = tuple[str, str, int | None, int | None]


def _label(job: Job) -> str:
    variant = variant_text(job.variables, job.body.get("seed"))
    return f"{job.prompt_id} ({variant}; {job.where})" if variant else f"{job.prompt_id} ({job.where})"


class _Survey:
    """Watches the jobs of a plan pass by: problems, unset fields and the digest, in memory that does not grow."""

    def __init__(self) -> None:
        self._problems: dict[tuple[str, str], ProblemGroup] = {}
        self._unset: dict[_GroupKey, tuple[UnsetField, ...]] = {}
        self._hash = hashlib.sha256()

    def watch(self, jobs: Iterable[PricedJob]) -> Iterator[PricedJob]:
        """The same jobs. Raises PlanProblems after the last one when there are any."""
        for job in jobs:
            for problem in job.problems:
                key = (job.spec.model, str(problem))
                self._problems.setdefault(key, ProblemGroup(*key)).add(_label(job.spec))
            low, exact, high = job.bounds_nusd
            if job.unset:  # the last one speaks for its group, in which all cost alike
                self._unset[job.spec.model, " ".join(job.estimate.lines), low, high] = job.unset
            self._hash.update(f"{job.spec.key} {low} {exact} {high}\n".encode())
            yield job
        if self._problems:
            # Inside the ledger's transaction: raising rolls the whole plan back.
            raise PlanProblems(list(self._problems.values()))

    @property
    def digest(self) -> str:
        """``sha256:...`` of the keys and prices of all jobs, in order."""
        return "sha256:" + self._hash.hexdigest()

    def unset(self, groups: Iterable[PriceGroup]) -> list[UnsetGroup]:
        """What the pending jobs do not set; those that are paid for do not depend on it any more."""
        jobs: Counter[tuple[str, str, Decimal | None, Decimal | None]] = Counter()
        for group in groups:
            key = (group.model, group.price_lines, group.low_nusd, group.high_nusd)
            for each in self._unset.get(key, ()):
                jobs[group.model, each.field, each.low, each.high] += group.jobs
        return [UnsetGroup(*group, number) for group, number in jobs.items()]


def _refuse_mixed_money(ledger: Ledger, name: str, origin: str) -> None:
    known = ledger.plans.find(name)
    if known is not None and is_loopback(known.origin) != is_loopback(origin):
        raise PlanError(
            f"Batch {name} of {ledger.path} was run against {known.origin}, not {origin}, and simulated and real money "
            "must not mix. Name another ledger with --db, or rehearse with --simulate."
        )


def is_loopback(origin: str) -> bool:
    """Whether an origin is this machine, that is, a simulator."""
    host = urlsplit(origin).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _expected(ledger: Ledger, groups: list[PriceGroup]) -> int | None:
    """What the pending jobs cost if they are charged like earlier ones with the same price lines; None where one group
    has too few charges to say."""
    bills = ledger.reports.bills(list(dict.fromkeys(group.model for group in groups))) if groups else {}
    total = 0
    for group in groups:
        known = bills.get((group.model, group.price_lines))
        # Past charges are compared with the same figure: the exact price, or the worst case where there is none.
        estimated = group.high_nusd if group.exact_nusd is None else group.exact_nusd
        if estimated is None or known is None or not known.estimated_nusd:
            return None  # a sum without this group would be too low
        total += round(Decimal(estimated * group.jobs) * known.charged_nusd / known.estimated_nusd)
    return total if groups else None


def forecast_caps(ledger: Ledger, plan: Plan, caps: Caps) -> list[CapForecast]:
    """Every cap that limits the pending jobs, beside what they may cost at most."""
    if not plan.groups:
        return []  # nothing will be reserved, so no cap matters
    batch, committed = plan.batch.id, ledger.attempts.committed(plan.batch.id, "")
    scopes = [
        ("budget.total_usd", caps.total, committed.total, plan.groups),
        ("budget.per_day_usd", caps.per_day, committed.day, plan.groups),
    ]
    for model in dict.fromkeys(group.model for group in plan.groups):
        of_model = [group for group in plan.groups if group.model == model]
        used = ledger.attempts.committed(batch, model).model
        scopes.append((f"budget.per_model_usd of {model}", caps.per_model.get(model), used, of_model))
    found = [_forecast(name, cap, used, groups, caps.unpriced) for name, cap, used, groups in scopes if cap is not None]
    if caps.per_job is not None:
        # Every job has the cap for itself, so the most expensive decides.
        every = _forecast("budget.per_job_usd", caps.per_job, 0, plan.groups, caps.unpriced)
        found.append(replace(every, needed_nusd=max(_worst(group, caps.unpriced) or 0 for group in plan.groups)))
    return found


def _forecast(name: str, cap: int, used: int, groups: list[PriceGroup], unpriced: int | None) -> CapForecast:
    worst = [(_worst(group, unpriced), group.jobs) for group in groups]
    priced = [(amount, jobs) for amount, jobs in worst if amount is not None]
    return CapForecast(
        name,
        cap,
        used,
        needed_nusd=sum(amount * jobs for amount, jobs in priced),
        never=sum(jobs for amount, jobs in priced if amount > cap),
        unpriced=sum(jobs for amount, jobs in worst if amount is None),
    )


def _worst(group: PriceGroup, unpriced: int | None) -> int | None:
    """What one job of the group reserves; None: it has no upper price, and no amount is set for such jobs."""
    return unpriced if group.high_nusd is None else group.high_nusd
