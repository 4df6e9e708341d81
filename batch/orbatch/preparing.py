"""From a batch file to a plan in the ledger: load, expand, read the catalog, check, price, write. Spends nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orbatch.budget import Caps
from orbatch.catalogs import LoadedCatalog
from orbatch.config import BatchConfig, BudgetConfig
from orbatch.expand import expand
from orbatch.ledger import BatchFile, BatchRecord, Ledger
from orbatch.ledger.planning import ModelOutlook
from orbatch.money import nusd, nusd_at_most
from orbatch.plan import PlannedJob, plan_jobs
from orbatch_provider.catalog import PriceChange, price_changes

SHOWN_JOBS = 3  # jobs named per problem; the rest is counted


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
    """Jobs of one model that leave a billed field to chance, with the price range it causes for one of them."""

    model: str
    field: str
    low_usd: Decimal | None
    high_usd: Decimal | None
    jobs: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan that stands in the ledger. ``digest`` names its jobs and prices; ``expected_nusd`` is what earlier bills
    say the jobs will really cost, None where too few are known."""

    batch: BatchRecord
    config: BatchConfig
    catalog: LoadedCatalog
    outlook: list[ModelOutlook]
    left_open: list[OpenGroup]
    price_changes: list[PriceChange]
    expected_nusd: int | None
    digest: str

    @property
    def to_send(self) -> int:
        return sum(part.to_send for part in self.outlook)

    @property
    def low_nusd(self) -> int:
        return sum(part.low_nusd for part in self.outlook)

    @property
    def high_nusd(self) -> int:
        return sum(part.high_nusd for part in self.outlook)

    @property
    def unpriced(self) -> int:
        return sum(part.unpriced for part in self.outlook)


def caps_of(budget: BudgetConfig, total_usd: Decimal | None = None) -> Caps:
    """The caps of a batch file in nano-dollars; ``total_usd`` from the command line wins."""

    def amount(value: Decimal | None) -> int | None:
        return None if value is None else nusd(value)

    return Caps(
        total=amount(budget.total_usd if total_usd is None else total_usd),
        per_job=amount(budget.per_job_usd),
        per_day=amount(budget.per_day_usd),
        per_model={model: nusd(cap) for model, cap in budget.per_model_usd.items()},
        unpriced=None if budget.unpriced is None else nusd_at_most(budget.unpriced),
    )


def simulated(config: BatchConfig) -> BatchConfig:
    """The same batch with an output folder of its own, so that play files never mix with paid ones."""
    return replace(config, output_dir=config.output_dir.with_name(config.output_dir.name + "-sim"))


def prepare(ledger: Ledger, config: BatchConfig, loaded: LoadedCatalog, origin: str, only: str | None = None) -> Plan:
    """Check and price every job and write the plan. Raises ConfigError, PlanProblems, PlanError or LedgerError, and
    then the ledger is as it was."""
    _refuse_mixed_money(ledger, config.name, origin)
    before = ledger.plans.last_catalog(config.name)
    survey = _Survey()
    file = BatchFile(config.name, config.path.absolute(), config.sha256, config.output_dir, origin)
    batch = ledger.plans.write(file, loaded.catalog, survey.watch(plan_jobs(expand(config), loaded.catalog)))
    outlook = ledger.plans.outlook(batch.id, only)
    models = [part.model for part in outlook]
    return Plan(
        batch=batch,
        config=config,
        catalog=loaded,
        outlook=outlook,
        left_open=survey.left_open(),
        price_changes=[] if before is None else price_changes(before, loaded.catalog, models),
        expected_nusd=_expected(ledger, batch.id, models),
        digest=survey.digest(),
    )


class _Survey:
    """Watches the jobs of a plan go by: problems, open fields and the plan's digest, in memory that does not grow."""

    def __init__(self) -> None:
        self._problems: dict[tuple[str, str], ProblemGroup] = {}
        self._open: dict[tuple[str, str], OpenGroup] = {}
        self._hash = hashlib.sha256()

    def watch(self, jobs: Iterator[PlannedJob]) -> Iterator[PlannedJob]:
        for job in jobs:
            for problem in job.problems:
                key = (job.spec.model, str(problem))
                self._problems.setdefault(key, ProblemGroup(*key)).add(f"{job.spec.prompt_id} ({job.spec.where})")
            for left in job.left_open:
                known = self._open.get((job.spec.model, left.field))
                count = 1 if known is None else known.jobs + 1
                self._open[job.spec.model, left.field] = OpenGroup(
                    job.spec.model, left.field, left.low, left.high, count
                )
            line = f"{job.spec.key} {job.low_nusd} {job.exact_nusd} {job.high_nusd}\n"
            self._hash.update(line.encode())
            yield job
        if self._problems:
            # Inside the ledger's transaction: raising rolls the whole plan back.
            raise PlanProblems(list(self._problems.values()))

    def left_open(self) -> list[OpenGroup]:
        return list(self._open.values())

    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()


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


def _expected(ledger: Ledger, batch_id: int, models: list[str]) -> int | None:
    """What the jobs to send cost if they are billed like earlier ones of their shape; None where one shape has too few
    bills to say."""
    shapes = ledger.plans.shapes_to_send(batch_id)
    bills = ledger.reports.bills(models) if shapes else {}
    total = 0
    for model, lines, _, estimated in shapes:
        known = bills.get((model, lines))
        if known is None or not known.estimated_nusd:
            return None
        total += round(Decimal(estimated) * known.charged_nusd / known.estimated_nusd)
    return total if shapes else None


# -- plans as files ---------------------------------------------------------------------------------------------------

PLAN_FORMAT = "orbatch plan 1"


def plan_file(plan: Plan) -> dict[str, Any]:
    """The content of ``plan -o``: what ``run`` needs to execute exactly this plan, and to refuse any other."""
    return {
        "format": PLAN_FORMAT,
        "batch": plan.config.name,
        "config": str(plan.config.path.absolute()),
        "config_sha256": plan.config.sha256,
        "catalog_digest": plan.catalog.catalog.digest,
        "catalog_read_at": plan.catalog.catalog.captured_at.isoformat(),
        "jobs_digest": plan.digest,
        "jobs_to_send": plan.to_send,
        "low_nusd": plan.low_nusd,
        "high_nusd": plan.high_nusd,
    }


def read_plan_file(path: Path) -> dict[str, Any] | None:
    """The plan in this file, or None when it is no plan (a batch file, then). Raises PlanError when it is broken."""
    if path.suffix != ".json":
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as exc:
        raise PlanError(f"The plan {path} cannot be read: {exc}.") from exc
    if not isinstance(content, dict) or content.get("format") != PLAN_FORMAT:
        raise PlanError(f"{path} is not a plan of this orbatch; make one with `orbatch plan CONFIG -o {path.name}`.")
    return content


def check_against_file(plan: Plan, file: dict[str, Any]) -> None:
    """Raises PlanError when the plan made now differs from the one in the file, saying in what."""
    now = plan_file(plan)
    if file["jobs_digest"] == now["jobs_digest"]:
        return
    causes = []
    if file["config_sha256"] != now["config_sha256"]:
        causes.append("the batch file was edited")
    if file["catalog_digest"] != now["catalog_digest"]:
        causes.append("the catalog has other prices or models")
    if not causes:
        causes.append("a prompt file or an input file has changed")
    raise PlanError(
        f"This is not the plan that was made: {' and '.join(causes)}. Nothing was sent; look at "
        f"`orbatch plan {plan.config.path}` and make the plan again."
    )
