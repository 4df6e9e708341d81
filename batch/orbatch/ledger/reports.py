"""Sums over the attempts: every figure is a query, so it is true after any interruption."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from orbatch.ledger.store import Ledger

Grouping = Literal["model", "batch", "day", "prompt", "status"]
GROUPINGS: tuple[Grouping, ...] = ("model", "batch", "day", "prompt", "status")

# Bills of one shape that are needed before their mean says something about the next one.
BILLS_NEEDED = 3

_ATTEMPT_KEY: Mapping[str, str] = {
    "model": "a.model",
    "batch": "(select name from batches where id = a.batch_id)",
    "day": "a.day",
    "prompt": "(select prompt_id from jobs where id = a.job_id)",
    "status": "(select status from jobs where id = a.job_id)",
}
_JOB_KEY: Mapping[str, str] = {
    "model": "model",
    "batch": "(select name from batches where id = batch_id)",
    "prompt": "prompt_id",
    "status": "status",
}

_SUMS = """
  count(*) filter (where a.status not in ('released', 'rejected')) as attempts,
  coalesce(sum(case when a.settled = 1 and a.is_byok = 0 then a.cost_nusd end), 0) as charged_nusd,
  coalesce(sum(case when a.settled = 1 and a.is_byok = 1 then a.cost_nusd end), 0) as byok_fee_nusd,
  count(*) filter (where a.is_byok = 1) as byok_attempts,
  coalesce(sum(case when a.settled = 0 then a.reserved_nusd end), 0) as reserved_nusd,
  count(*) filter (where a.settled = 0 and a.reserved_nusd is null) as unpriced_open,
  coalesce(sum(case when a.settled = 1 and a.status in ('failed', 'cancelled', 'expired', 'lost')
    then a.cost_nusd end), 0) as failed_charged_nusd,
  count(*) filter (where a.status = 'uncertain') as uncertain,
  coalesce(sum(case when a.status = 'uncertain' then a.reserved_nusd end), 0) as uncertain_nusd,
  coalesce(sum(case when a.status = 'done' then a.output_seconds end), 0) as seconds,
  coalesce(sum(case when a.status = 'done' and a.output_seconds is not null and a.is_byok = 0
    then a.cost_nusd end), 0) as seconds_cost_nusd,
  coalesce(sum(case when {billed} then coalesce(a.estimate_exact_nusd, a.estimate_high_nusd) end), 0) as estimated_nusd,
  coalesce(sum(case when {billed} then a.cost_nusd end), 0) as billed_nusd
""".replace(
    "{billed}",
    "a.settled = 1 and a.is_byok = 0 and a.status in ('completed', 'done', 'lost') "
    "and a.estimate_high_nusd is not null and a.cost_nusd is not null",
)


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One group. ``charged_nusd`` is all that OpenRouter charged to credits, failures included; ``reserved_nusd``
    may still be charged; ``byok_fee_nusd`` is OpenRouter's fee for attempts that the provider bills to the user's own
    account. ``estimated_nusd`` and ``billed_nusd`` compare estimate and charge over the bills that have both."""

    key: str
    jobs: int
    done: int
    attempts: int
    charged_nusd: int
    reserved_nusd: int
    failed_charged_nusd: int
    uncertain: int
    uncertain_nusd: int
    byok_attempts: int
    byok_fee_nusd: int
    unpriced_open: int
    seconds: float
    seconds_cost_nusd: int
    estimated_nusd: int
    billed_nusd: int


@dataclass(frozen=True, slots=True)
class Filter:
    """Which attempts a report is about; ``since`` and ``until`` are UTC days (YYYY-MM-DD), both included."""

    batch_id: int | None = None
    since: str | None = None
    until: str | None = None

    @property
    def is_dated(self) -> bool:
        return self.since is not None or self.until is not None


@dataclass(frozen=True, slots=True)
class Bills:
    """Estimate against charge over the bills of one shape: the same model and price lines."""

    count: int
    estimated_nusd: int
    charged_nusd: int


class Reports:
    """The summing verbs of a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def rows(self, by: Grouping, which: Filter) -> list[ReportRow]:
        """One row per group, the dearest first; by day and by status in their own order."""
        with self._ledger.reading() as db:
            sums = {row["key"]: row for row in self._attempt_sums(db, by, which)}
            jobs = {row["key"]: row for row in self._job_counts(db, by, which)}
        rows = [_row(key, sums.get(key), jobs.get(key)) for key in dict.fromkeys([*sums, *jobs])]
        if which.is_dated:
            rows = [row for row in rows if row.attempts]
        if by == "day":
            return sorted(rows, key=lambda row: row.key)
        return sorted(rows, key=lambda row: (-row.charged_nusd, -row.reserved_nusd, row.key))

    def total(self, which: Filter) -> ReportRow:
        """All groups as one row."""
        with self._ledger.reading() as db:
            sums = db.execute(f"select {_SUMS} from attempts a where {_WHERE}", _params(which)).fetchone()
            jobs = db.execute(
                "select count(*) as jobs, count(*) filter (where status = 'done') as done from jobs "
                "where (retired = 0 or status <> 'pending') and (? is null or batch_id = ?)",
                (which.batch_id, which.batch_id),
            ).fetchone()
        return _row("total", sums, jobs)

    def spend(self, batch_id: int) -> tuple[int, int]:
        """What counts against the caps of a batch now: (charged, reserved). Kept by triggers, so it costs nothing to
        ask while a run goes on; it equals the sum of the attempts."""
        with self._ledger.reading() as db:
            row = db.execute(
                "select coalesce(sum(charged_nusd), 0), coalesce(sum(reserved_nusd), 0) from spend where batch_id = ?",
                (batch_id,),
            ).fetchone()
        return int(row[0]), int(row[1])

    def bills(self, models: list[str]) -> dict[tuple[str, str], Bills]:
        """By (model, price lines): what was estimated and what was charged, where at least BILLS_NEEDED bills are."""
        marks = ", ".join("?" * len(models))
        with self._ledger.reading() as db:
            rows = db.execute(
                "select model, price_lines, count(*) as bills, "
                "sum(coalesce(estimate_exact_nusd, estimate_high_nusd)) as estimated, sum(cost_nusd) as charged "
                f"from attempts where model in ({marks}) and settled = 1 and is_byok = 0 and cost_nusd is not null "
                "and status in ('completed', 'done', 'lost') and estimate_high_nusd is not null "
                "group by model, price_lines having bills >= ?",
                (*models, BILLS_NEEDED),
            )
            return {
                (row["model"], row["price_lines"]): Bills(row["bills"], row["estimated"], row["charged"])
                for row in rows
            }

    def job_rows(
        self, batch_id: int | None = None, status: str | None = None, limit: int | None = None
    ) -> Iterator[Mapping[str, Any]]:
        """Rows of the view ``job_report``, in the order of the batch file."""
        with self._ledger.reading() as db:
            ids = db.execute(
                "select id from jobs where (? is null or batch_id = ?) and (? is null or status = ?) "
                "and (retired = 0 or status <> 'pending') order by batch_id, position limit ?",
                (batch_id, batch_id, status, status, -1 if limit is None else limit),
            ).fetchall()
            for (job_id,) in ids:
                yield dict(db.execute("select * from job_report where job_id = ?", (job_id,)).fetchone())

    @staticmethod
    def _attempt_sums(db: sqlite3.Connection, by: Grouping, which: Filter) -> list[sqlite3.Row]:
        return db.execute(
            f"select {_ATTEMPT_KEY[by]} as key, {_SUMS} from attempts a where {_WHERE} group by 1",
            _params(which),
        ).fetchall()

    @staticmethod
    def _job_counts(db: sqlite3.Connection, by: Grouping, which: Filter) -> list[sqlite3.Row]:
        if by == "day":
            return []
        return db.execute(
            f"select {_JOB_KEY[by]} as key, count(*) as jobs, "
            "count(*) filter (where status = 'done') as done from jobs "
            "where (retired = 0 or status <> 'pending') and (? is null or batch_id = ?) group by 1",
            (which.batch_id, which.batch_id),
        ).fetchall()


_WHERE = "(? is null or a.batch_id = ?) and (? is null or a.day >= ?) and (? is null or a.day <= ?)"


def _params(which: Filter) -> tuple[object, ...]:
    return (which.batch_id, which.batch_id, which.since, which.since, which.until, which.until)


def _row(key: str, sums: sqlite3.Row | None, jobs: sqlite3.Row | None) -> ReportRow:
    def of(name: str) -> Any:
        return 0 if sums is None else sums[name]

    return ReportRow(
        key=key,
        jobs=0 if jobs is None else jobs["jobs"],
        done=0 if jobs is None else jobs["done"],
        attempts=of("attempts"),
        charged_nusd=of("charged_nusd"),
        reserved_nusd=of("reserved_nusd"),
        failed_charged_nusd=of("failed_charged_nusd"),
        uncertain=of("uncertain"),
        uncertain_nusd=of("uncertain_nusd"),
        byok_attempts=of("byok_attempts"),
        byok_fee_nusd=of("byok_fee_nusd"),
        unpriced_open=of("unpriced_open"),
        seconds=of("seconds"),
        seconds_cost_nusd=of("seconds_cost_nusd"),
        estimated_nusd=of("estimated_nusd"),
        billed_nusd=of("billed_nusd"),
    )
