"""Sums over the attempts: every figure is a query, so it is true after any interruption."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from orbatch.ledger.database import Database
from orbatch.ledger.totals import MEASURES, OVER_ATTEMPTS, OVER_SPEND

_JOBS = """
select id as job_id, prompt_id, prompt, variables, model, kind, status, request, repeat, coalesce(error, hold) as error,
  (select sum(cost_nusd) from attempts where job_id = jobs.id) as cost_nusd,
  (select json_group_array(path) from
    (select path from outputs where job_id = jobs.id order by attempt_id, number)) as paths
from jobs where batch_id = ? and retired = 0 order by position
"""


@dataclass(frozen=True, slots=True)
class ExportedJob:
    """``cost_nusd``: over all attempts, None while nothing is known. ``paths``: of its files, the first one first."""

    job_id: str
    prompt_id: str
    prompt: str
    variables: Mapping[str, Any]
    model: str
    kind: str
    status: str
    request: Mapping[str, Any]
    repeat: int
    error: str | None
    cost_nusd: int | None
    paths: tuple[str, ...]


Grouping = Literal["model", "batch", "day", "prompt", "status"]
GROUPINGS: tuple[Grouping, ...] = ("model", "batch", "day", "prompt", "status")

# Bills of one shape that are needed before their mean says something about the next one.
BILLS_NEEDED = 3

_BATCH_NAME = "(select name from batches where id = batch_id)"
_KEY: Mapping[Grouping, str] = {
    "model": "model",
    "batch": _BATCH_NAME,
    "day": "day",
    "prompt": "prompt_id",
    "status": "status",
}

_Sums = Mapping[str, int]  # by the names of MEASURES
_NOTHING: _Sums = dict.fromkeys(MEASURES, 0)


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One group of jobs, and the sums over their attempts.

    ``charged_nusd`` is all that OpenRouter charged to credits, failures included (``failed_charged_nusd`` of it);
    ``reserved_nusd`` may still be charged; ``byok_fee_nusd`` is OpenRouter's fee for attempts that the provider bills
    to the user's own account. ``output_ms`` is the length of all finished videos in milliseconds, ``billed_ms`` of
    those whose charge is known, ``billed_ms_nusd``. ``estimated_nusd`` and ``billed_nusd`` compare estimate and charge
    over the ``bills`` that have both. Within dates, and by day, a job counts where its first attempt is.
    """

    key: str
    jobs: int = 0
    done: int = 0
    attempts: int = 0
    charged_nusd: int = 0
    reserved_nusd: int = 0
    failed_charged_nusd: int = 0
    uncertain: int = 0
    uncertain_nusd: int = 0
    byok_attempts: int = 0
    byok_fee_nusd: int = 0
    unpriced_open: int = 0
    output_ms: int = 0
    billed_ms: int = 0
    billed_ms_nusd: int = 0
    bills: int = 0
    estimated_nusd: int = 0
    billed_nusd: int = 0

    @property
    def seconds(self) -> float:
        return self.output_ms / 1000

    @property
    def nusd_per_second(self) -> int | None:
        """What a finished second cost, over those whose charge is known."""
        return round(self.billed_ms_nusd * 1000 / self.billed_ms) if self.billed_ms else None


_SUMMED = [field.name for field in fields(ReportRow) if field.name != "key"]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which attempts a report is about; ``since`` and ``until`` are UTC days (YYYY-MM-DD), both included."""

    batch_id: int | None = None
    since: str | None = None
    until: str | None = None

    @property
    def is_dated(self) -> bool:
        return self.since is not None or self.until is not None

    def where(self, table: str = "") -> tuple[str, list[object]]:
        """The condition on rows of ``table`` that have ``batch_id`` and ``day``, and its values."""
        wanted = [("batch_id = ?", self.batch_id), ("day >= ?", self.since), ("day <= ?", self.until)]
        given = [(table + text, value) for text, value in wanted if value is not None]
        return " and ".join(text for text, _ in given) or "true", [value for _, value in given]


@dataclass(frozen=True, slots=True)
class Bills:
    """Estimate against charge over the bills of one shape: the same model and price lines."""

    count: int
    estimated_nusd: int
    charged_nusd: int


class Reports:
    """The summing verbs of a ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def report(self, by: Grouping, which: Filter) -> tuple[list[ReportRow], ReportRow]:
        """The groups and their total, of one moment: while a run writes, too, they agree."""
        with self._database.snapshot() as db:
            rows = _groups(db, by, which)
            if by != "day" or which.is_dated:
                return rows, _added("total", rows)
            # A day's jobs are those that were sent; the total counts those that wait, too.
            counts = _job_counts(db, "status", which).values()
            jobs, done = sum(jobs for jobs, _ in counts), sum(done for _, done in counts)
            return rows, replace(_added("total", rows), jobs=jobs, done=done)

    def rows(self, by: Grouping, which: Filter) -> list[ReportRow]:
        """One row per group, the dearest first; by day in their order."""
        return self.report(by, which)[0]

    def total(self, which: Filter) -> ReportRow:
        """All groups as one row."""
        return self.report("batch", which)[1]

    def spend(self, batch_id: int) -> tuple[int, int]:
        """(charged, reserved) of a batch now, as in its total."""
        with self._database.read() as db:
            row = db.execute(
                "select coalesce(sum(charged_nusd), 0), coalesce(sum(reserved_nusd), 0) from spend where batch_id = ?",
                (batch_id,),
            ).fetchone()
        return int(row[0]), int(row[1])

    def bills(self, models: Sequence[str]) -> dict[tuple[str, str], Bills]:
        """By (model, price lines): what was estimated and what was charged, where at least BILLS_NEEDED bills are."""
        marks = ", ".join("?" * len(models))
        with self._database.read() as db:
            rows = db.execute(
                "select model, price_lines, sum(bills) as count, sum(estimated_nusd) as estimated_nusd, "
                f"sum(billed_nusd) as charged_nusd from spend where model in ({marks}) "
                "group by model, price_lines having sum(bills) >= ?",
                (*models, BILLS_NEEDED),
            )
            return {
                (row["model"], row["price_lines"]): Bills(row["count"], row["estimated_nusd"], row["charged_nusd"])
                for row in rows
            }

    def job_rows(
        self,
        batch_id: int | None = None,
        status: str | None = None,
        limit: int | None = None,
        *,
        columns: Sequence[str] = ("*",),
    ) -> Iterator[Mapping[str, Any]]:
        """Rows of the view ``job_report``, in the order of the batch file; without jobs that have left it unsent.

        ``columns``: those that are wanted; what is not asked for is not looked up.
        """
        with self._database.read() as db:
            batches = [row[0] for row in db.execute("select id from batches order by id")]
            left = -1 if limit is None else limit
            for batch in batches if batch_id is None else [batch_id]:
                for row in _job_rows(db, batch, status, left, columns):
                    yield dict(row)
                    left -= limit is not None

    def exported_jobs(self, batch_id: int) -> Iterator[ExportedJob]:
        """The jobs of the batch file; those whose prompt has left it are not among them."""
        with self._database.read() as db:
            for row in db.execute(_JOBS, (batch_id,)):
                values = dict(row)
                for name in ("variables", "request", "paths"):
                    values[name] = json.loads(values[name])
                yield ExportedJob(**values | {"paths": tuple(values["paths"])})


def _job_rows(
    db: sqlite3.Connection, batch_id: int, status: str | None, limit: int, columns: Sequence[str]
) -> sqlite3.Cursor:
    """The shown jobs of a batch in order. The plus keeps SQLite from reading the whole batch in its order when the few
    jobs of a status are wanted."""
    return db.execute(
        f"select {', '.join(columns)} from job_report where batch_id = ? {'and status = ? ' if status else ''}"
        "and (retired = 0 or status <> 'pending' or attempts > 0) "
        f"order by {'+position' if status else 'position'} limit ?",
        (batch_id, *([status] if status else []), limit),
    )


def _groups(db: sqlite3.Connection, by: Grouping, which: Filter) -> list[ReportRow]:
    sums = _sums(db, by, which)
    by_attempt = which.is_dated or by == "day"
    counts = {} if by_attempt else _job_counts(db, by, which)
    rows = [
        _row(key, sums.get(key, _NOTHING), None if by_attempt else counts.get(key, (0, 0)))
        for key in dict.fromkeys([*sums, *counts])
    ]
    if by_attempt:
        rows = [row for row in rows if row != ReportRow(row.key)]
    if by == "day":
        return sorted(rows, key=lambda row: row.key)
    return sorted(rows, key=lambda row: (-row.charged_nusd, -row.reserved_nusd, row.key))


def _sums(db: sqlite3.Connection, by: Grouping, which: Filter) -> dict[str, _Sums]:
    if by == "status":
        return _sums_by_status(db, which)
    if by == "prompt":
        where, values = which.where("a.")
        sql = (
            f"select prompt_id as key, {OVER_ATTEMPTS} from attempts a join jobs on jobs.id = a.job_id "
            f"where {where} group by 1"
        )
    else:
        where, values = which.where()
        sql = f"select {_KEY[by]} as key, {OVER_SPEND} from spend where {where} group by 1"
    return {row["key"]: {name: row[name] for name in MEASURES} for row in db.execute(sql, values)}


def _sums_by_status(db: sqlite3.Connection, which: Filter) -> dict[str, _Sums]:
    """What jobs in each state cost. Most jobs of a large ledger are in one state: its sums are what the others leave of
    the whole, so that only the others' attempts are read."""
    where, values = which.where("a.")
    batches, of_batch = Filter(which.batch_id).where()
    numbers = dict(
        db.execute(f"select status, count(*) from jobs where {batches} group by status", of_batch).fetchall()
    )
    if not numbers:
        return {}
    in_whole, whole_values = which.where()
    whole = db.execute(f"select {OVER_SPEND} from spend where {in_whole}", whole_values).fetchone()
    rest = {name: int(whole[name]) for name in MEASURES}
    most = max(numbers, key=lambda status: int(numbers[status]))
    sums: dict[str, _Sums] = {most: rest}
    for status in numbers.keys() - {most}:
        row = db.execute(
            f"select {OVER_ATTEMPTS} from jobs cross join attempts a on a.job_id = jobs.id "
            f"where jobs.batch_id in (select id from batches) and jobs.status = ? and {where}",
            (status, *values),
        ).fetchone()
        sums[status] = {name: row[name] for name in MEASURES}
        for name in MEASURES:
            rest[name] -= row[name]
    return sums


def _job_counts(db: sqlite3.Connection, by: Grouping, which: Filter) -> dict[str, tuple[int, int]]:
    """Jobs and finished ones by group, without those that have left their batch file before they were sent."""
    where, values = Filter(which.batch_id).where()
    if by != "prompt":
        # In the order of an index, so that a million jobs are pluralize without being sorted or read.
        pluralize = (
            f"select batch_id, status, retired, model, count(*) as number from jobs where {where} "
            "group by batch_id, status, retired, model"
        )
    else:
        pluralize = f"select prompt_id, status, retired, count(*) as number from jobs where {where} group by 1, 2, 3"
    rows = db.execute(
        f"select {_KEY[by]} as key, sum(number) as jobs, "
        "coalesce(sum(number) filter (where status = 'done'), 0) as done "
        f"from ({pluralize}) where retired = 0 or status <> 'pending' group by 1",
        values,
    )
    return {row["key"]: (row["jobs"], row["done"]) for row in rows}


def _row(key: str, sums: _Sums, counts: tuple[int, int] | None) -> ReportRow:
    """``counts``: jobs and finished ones; None where they are pluralize by their attempts."""
    jobs, done = counts or (sums["first_attempts"], sums["done"])
    values = {**sums, "jobs": jobs, "done": done}
    return ReportRow(key, **{name: values[name] for name in _SUMMED})


def _added(key: str, rows: Iterable[ReportRow]) -> ReportRow:
    totals = dict.fromkeys(_SUMMED, 0)
    for row in rows:
        for name in _SUMMED:
            totals[name] += getattr(row, name)
    return ReportRow(key, **totals)
