"""From a batch file to a plan in the ledger: load, expand, read the catalog, check, price, write. Spends nothing.

Of a batch that was planned before, only what it was made from is looked at: while that is unchanged, its jobs stand.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import orbatch
import orbatch_provider
from orbatch.batchfile.models import BatchConfig, BudgetConfig
from orbatch.ledger import BatchFile, BatchRecord, Ledger, ModelTotals, OpenField, PlanRecord, PriceGroup
from orbatch.ledger.budget import Caps
from orbatch.money import to_nano, to_nano_up_to
from orbatch.plan.catalogs import LoadedCatalog, Offers, changes
from orbatch.plan.estimate import PricedJob, price_jobs
from orbatch.plan.jobs import expand, models_by_kind
from orbatch_provider.catalog import PriceChange
from orbatch_provider.pricing import UnsetField

_TAG = "sha256:"
_LIBRARIES = ("jinja2", "pyyaml", "pillow")  # that jobs are made with


def sources_digest(config: BatchConfig) -> str | None:
    """Names the program, the batch file, where it lies, and its prompt file. None: something of it cannot be read."""
    parts = [
        program_digest(),
        str(config.path.absolute()),  # pictures and prompts are found from there
        os.path.expanduser("~"),  # noqa: PTH111 - Path.home() raises where there is none
        config.sha256,
        "" if config.prompts_from is None else file_digest(config.prompts_from.path),
    ]
    return None if None in parts else _TAG + hashlib.sha256(repr(parts).encode()).hexdigest()


def program_digest() -> str | None:
    """Names the code that makes keys and prices, with its data and what renders its prompts. Our own by content,
    because a checkout changes without a new version. None where it does not lie in files."""
    digest = hashlib.sha256(repr([sys.version, *map(version, _LIBRARIES)]).encode())
    for package in (orbatch, orbatch_provider):
        folder = Path(package.__path__[0])
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*") if path.is_file())
        code = [name for name in names if "__pycache__" not in name]
        if not code:
            return None
        for name in code:
            digest.update(f"{name} {file_digest(folder / name)}\n".encode())
    return _TAG + digest.hexdigest()


def file_digest(path: Path) -> str | None:
    """``sha256:...`` of a file's bytes; None when it cannot be read."""
    try:
        with path.open("rb") as file:
            return _TAG + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


SHOWN_JOBS = 3  # jobs named per problem; the rest is pluralize


class PlanProblems(Exception):
    """Jobs that their models would refuse. ``problems`` has one entry per kind, with the jobs it concerns."""

    def __init__(self, problems: list[ProblemGroup]) -> None:
        self.problems = problems
        super().__init__(f"{sum(group.count for group in problems)} problems; nothing was sent")


class PlanError(Exception):
    """The plan cannot be made or kept to; the message says why. Nothing was sent."""


@dataclass(slots=True)
class ProblemGroup:
    """One thing a model does not support, and the jobs that ask for it."""

    model: str
    text: str
    count: int = 0
    jobs: list[str] = field(default_factory=list)

    def add(self, job: str) -> None:
        self.count += 1
        if len(self.jobs) < SHOWN_JOBS:
            self.jobs.append(job)


@dataclass(frozen=True, slots=True)
class OpenGroup:
    """Jobs to send of one model that leave a billed field to chance, with the price range it causes for one of them."""

    model: str
    field: str
    low_usd: Decimal | None
    high_usd: Decimal | None
    jobs: int


@dataclass(frozen=True, slots=True)
class CapForecast:
    """One cap, in nano-dollars: what is spent and reserved under it already, and what the jobs to send that it limits
    may cost at most. ``never``: jobs that alone cost more than the cap; ``unpriced``: jobs it refuses for want of an
    upper price."""

    name: str
    cap_nusd: int
    committed_nusd: int
    needed_nusd: int
    never: int
    unpriced: int

    @property
    def left_nusd(self) -> int:
        return max(0, self.cap_nusd - self.committed_nusd)

    @property
    def covers(self) -> bool:
        """Whether every job to send fits, whatever it turns out to cost."""
        return self.needed_nusd <= self.left_nusd and not self.never and not self.unpriced


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan that stands in the ledger. ``digest`` names its jobs and prices; ``expected_nusd`` is what earlier bills
    say the jobs will really cost, None where too few are known. ``only``: the pattern that chose among its jobs."""

    batch: BatchRecord
    config: BatchConfig
    catalog: LoadedCatalog
    only: str | None
    outlook: list[ModelTotals]
    shapes: list[PriceGroup]
    left_open: list[OpenGroup]
    price_changes: list[PriceChange]
    expected_nusd: int | None
    digest: str

    @property
    def to_send(self) -> int:
        return sum(part.to_send for part in self.outlook)

    @property
    def paid(self) -> int:
        """Jobs that are done, or paid for and not finished: they cost nothing any more."""
        return sum(part.done + part.open for part in self.outlook)

    @property
    def low_nusd(self) -> int:
        return sum(part.low_nusd for part in self.outlook)

    @property
    def high_nusd(self) -> int:
        return sum(part.high_nusd for part in self.outlook)

    @property
    def unpriced(self) -> int:
        return sum(part.unpriced for part in self.outlook)


def caps_from_config(budget: BudgetConfig, total_usd: Decimal | None = None) -> Caps:
    """The caps of a batch file in nano-dollars; ``total_usd`` from the command line wins."""

    def amount(value: Decimal | None) -> int | None:
        return None if value is None else to_nano(value)

    return Caps(
        total=amount(budget.total_usd if total_usd is None else total_usd),
        per_job=amount(budget.per_job_usd),
        per_day=amount(budget.per_day_usd),
        per_model={model: to_nano(cap) for model, cap in budget.per_model_usd.items()},
        unpriced=None if budget.unpriced is None else to_nano_up_to(budget.unpriced),
    )


def simulated(config: BatchConfig) -> BatchConfig:
    """The same batch with an output folder of its own, so that play files never mix with paid ones."""
    return replace(config, output_dir=config.output_dir.with_name(config.output_dir.name + "-sim"))


def prepare(ledger: Ledger, config: BatchConfig, loaded: LoadedCatalog, origin: str, only: str | None = None) -> Plan:
    """Check and price every job and write the plan. Raises ConfigError, PlanProblems, PlanError or LedgerError; what
    the ledger has of the batch is then as it was, unless it was only that ``only`` matches nothing."""
    _refuse_mixed_money(ledger, config.name, origin)
    before = ledger.plans.last_catalog(config.name)
    offers = loaded.offers
    batch, record = _planned(ledger, config, offers, origin)
    outlook = ledger.plans.outlook(batch.id, only)
    if not outlook:
        raise PlanError(f"--only {only} matches no prompt id, model or job id of batch {config.name}.")
    models = [part.model for part in outlook]
    shapes = ledger.plans.shapes_to_send(batch.id, only)
    return Plan(
        batch=batch,
        config=config,
        catalog=loaded,
        only=only,
        outlook=outlook,
        shapes=shapes,
        left_open=_left_open(record.left_open, shapes),
        price_changes=[] if before is None else changes(before, offers, models),
        expected_nusd=_expected(ledger, shapes),
        digest=record.digest,
    )


def models_to_price(ledger: Ledger, config: BatchConfig) -> Mapping[str, Collection[str]]:
    """The models that a batch has jobs for, by kind. The prompts are read for it only when they are not known."""
    record = ledger.plans.record(config.name)
    if record is not None and record.sources == sources_digest(config):
        return record.models
    return models_by_kind(config)


def _planned(ledger: Ledger, config: BatchConfig, offers: Offers, origin: str) -> tuple[BatchRecord, PlanRecord]:
    """The batch with its jobs as they are to be, and what they were made from."""
    file = BatchFile(config.name, config.path.absolute(), config.sha256, config.output_dir, origin)
    kept = offers.only([model.model for model in config.models])
    sources = sources_digest(config)
    record = ledger.plans.record(config.name)
    if record is not None and _is_unchanged(record, sources, offers, ledger.plans.pictures(config.name)):
        batch = ledger.plans.renew(file, kept, record)
        if batch is not None:
            return batch, record
    survey = _Survey()
    made: list[PlanRecord] = []

    def record_made() -> PlanRecord:
        # A file that was edited while it was read may have been read in two states.
        made.append(survey.record(sources if sources_digest(config) == sources else None, offers))
        return made[-1]

    batch = ledger.plans.write(file, kept, survey.watch(price_jobs(expand(config), offers)), record_made)
    return batch, made[-1]


def _is_unchanged(record: PlanRecord, sources: str | None, offers: Offers, pictures: Iterable[tuple[str, str]]) -> bool:
    """Whether the jobs of ``record`` would be made again as they stand."""
    return (
        record.sources == sources
        and record.prices == offers.digest_for(record.models)
        and all(file_digest(Path(path)) == content for path, content in pictures)
    )


# Model, price lines, low and high: jobs alike in these leave the same fields open.
_ShapeKey = tuple[str, str, int | None, int | None]


class _Survey:
    """Watches the jobs of a plan go by: problems, open fields and the plan's digest, in memory that does not grow."""

    def __init__(self) -> None:
        self._problems: dict[tuple[str, str], ProblemGroup] = {}
        self._open: dict[_ShapeKey, tuple[UnsetField, ...]] = {}
        self._models: dict[str, set[str]] = {}
        self._hash = hashlib.sha256()

    def watch(self, jobs: Iterator[PricedJob]) -> Iterator[PricedJob]:
        for job in jobs:
            for problem in job.problems:
                key = (job.spec.model, str(problem))
                self._problems.setdefault(key, ProblemGroup(*key)).add(f"{job.spec.prompt_id} ({job.spec.where})")
            if job.left_open:
                lines = " ".join(job.estimate.lines)
                self._open[job.spec.model, lines, job.low_nusd, job.high_nusd] = job.left_open
            self._models.setdefault(job.spec.kind, set()).add(job.spec.model)
            line = f"{job.spec.key} {job.low_nusd} {job.exact_nusd} {job.high_nusd}\n"
            self._hash.update(line.encode())
            yield job
        if self._problems:
            # Inside the ledger's transaction: raising rolls the whole plan back.
            raise PlanProblems(list(self._problems.values()))

    def record(self, sources: str | None, offers: Offers) -> PlanRecord:
        """What was seen, once all jobs have gone by."""
        models = {kind: sorted(names) for kind, names in self._models.items()}
        left_open = tuple(
            OpenField(*key, left.field, _text(left.low), _text(left.high))
            for key, dimensions in self._open.items()
            for left in dimensions
        )
        digest = "sha256:" + self._hash.hexdigest()
        return PlanRecord(sources, offers.digest_for(models), models, left_open, digest)


def _text(usd: Decimal | None) -> str | None:
    return None if usd is None else str(usd)


def _left_open(fields: Sequence[OpenField], shapes: list[PriceGroup]) -> list[OpenGroup]:
    """What the jobs to send leave open; those that are paid for leave nothing to chance any more."""
    by_shape: dict[_ShapeKey, list[OpenField]] = {}
    for left in fields:
        by_shape.setdefault((left.model, left.price_lines, left.low_nusd, left.high_nusd), []).append(left)
    jobs: dict[tuple[str, str, Decimal | None, Decimal | None], int] = {}
    for shape in shapes:
        for left in by_shape.get((shape.model, shape.price_lines, shape.low_nusd, shape.high_nusd), ()):
            group = (left.model, left.field, _amount(left.least_usd), _amount(left.most_usd))
            jobs[group] = jobs.get(group, 0) + shape.jobs
    return [OpenGroup(*group, number) for group, number in jobs.items()]


def _amount(usd: str | None) -> Decimal | None:
    return None if usd is None else Decimal(usd)


def _refuse_mixed_money(ledger: Ledger, name: str, origin: str) -> None:
    known = ledger.plans.find(name)
    if known is not None and is_loopback(known.origin) != is_loopback(origin):
        raise PlanError(
            f"Batch {name} of {ledger.path} was run against {known.origin}, and now it would be {origin}: play money "
            "and real money must not mix. Name another ledger with --db, or use --simulate for rehearsals."
        )


def is_loopback(origin: str) -> bool:
    """Whether an origin is this machine, that is, a simulator."""
    host = urlsplit(origin).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _expected(ledger: Ledger, shapes: list[PriceGroup]) -> int | None:
    """What the jobs to send cost if they are billed like earlier ones of their shape; None where one shape has too few
    bills to say."""
    bills = ledger.reports.bills(list(dict.fromkeys(shape.model for shape in shapes))) if shapes else {}
    total = 0
    for shape in shapes:
        known = bills.get((shape.model, shape.price_lines))
        estimated = shape.high_nusd if shape.exact_nusd is None else shape.exact_nusd
        if estimated is None or known is None or not known.estimated_nusd:
            return None
        total += round(Decimal(estimated * shape.jobs) * known.charged_nusd / known.estimated_nusd)
    return total if shapes else None


def forecast_caps(ledger: Ledger, plan: Plan, caps: Caps) -> list[CapForecast]:
    """Every cap that limits the jobs to send, beside what they may cost at most."""
    if not plan.shapes:
        return []
    batch, committed = plan.batch.id, ledger.attempts.committed(plan.batch.id, "")
    scopes = [
        ("budget.total_usd", caps.total, committed.total, plan.shapes),
        ("budget.per_day_usd", caps.per_day, committed.day, plan.shapes),
    ]
    for model in dict.fromkeys(shape.model for shape in plan.shapes):
        of_model = [shape for shape in plan.shapes if shape.model == model]
        used = ledger.attempts.committed(batch, model).model
        scopes.append((f"budget.per_model_usd of {model}", caps.per_model.get(model), used, of_model))
    found = [_outlook(name, cap, used, shapes, caps.unpriced) for name, cap, used, shapes in scopes if cap is not None]
    if caps.per_job is not None:
        all_jobs = _outlook("budget.per_job_usd", caps.per_job, 0, plan.shapes, caps.unpriced)
        dearest = max(_worst(shape, caps.unpriced) or 0 for shape in plan.shapes)
        found.append(replace(all_jobs, needed_nusd=dearest))
    return found


def _outlook(name: str, cap: int, used: int, shapes: list[PriceGroup], unpriced: int | None) -> CapForecast:
    worst = [(_worst(shape, unpriced), shape.jobs) for shape in shapes]
    priced = [(amount, jobs) for amount, jobs in worst if amount is not None]
    return CapForecast(
        name,
        cap,
        used,
        needed_nusd=sum(amount * jobs for amount, jobs in priced),
        never=sum(jobs for amount, jobs in priced if amount > cap),
        unpriced=sum(jobs for amount, jobs in worst if amount is None),
    )


def _worst(shape: PriceGroup, unpriced: int | None) -> int | None:
    """What one job of this shape reserves; None: it has no upper price, and none was named for such jobs."""
    return unpriced if shape.high_nusd is None else shape.high_nusd
