"""Sums over the attempts: every figure is a query, so it is true after any interruption."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any, Literal, NamedTuple, get_args

from orbatch.ledger.database import Database, timestamp
from orbatch.ledger.records import AttemptRecord, OutputRecord, columns_of, parse_json
from orbatch.ledger.schema import COUNTED, COUNTED_JOBS, EVERY_JOB, Selection

Grouping = Literal["model", "batch", "day", "prompt", "status"]
GROUPINGS: tuple[Grouping, ...] = get_args(Grouping)

BILLS_NEEDED = 3  # charges of one shape that are needed before their mean says something about the next one
_BILLS_READ = 100_000  # the newest attempts, because prices change; reading a million takes a second

# What a group is named by, over attempts and over jobs.
_KEYS: Mapping[Grouping, tuple[str, str]] = {
    "model": ("a.model", "model"),
    "batch": ("(select name from batches where id = a.batch_id)", "(select name from batches where id = batch_id)"),
    "day": ("a.day", "''"),  # a day's jobs are counted by their attempts; here only all of them together
    "prompt": ("(select prompt_id from jobs where id = a.job_id)", "prompt_id"),
    "status": ("(select status from jobs where id = a.job_id)", "status"),
}

# The columns of ReportRow, in their order. A cost is known where an attempt is settled. Milliseconds, because sums of
# whole numbers do not drift.
_SUMS = """
select $KEY as key,
  count(*) filter (where number = 1) as jobs,
  count(*) filter (where status = 'done') as done,
  count(*) filter (where status not in ('released', 'rejected')) as attempts,
  coalesce(sum(cost_nusd) filter (where is_byok = 0), 0) as charged_nusd,
  coalesce(sum(reserved_nusd) filter (where settled = 0), 0) as reserved_nusd,
  coalesce(sum(cost_nusd) filter (where is_byok = 0 and status in ('failed', 'cancelled', 'expired', 'lost')), 0)
    as failed_charged_nusd,
  count(*) filter (where status = 'uncertain') as uncertain,
  coalesce(sum(reserved_nusd) filter (where status = 'uncertain'), 0) as uncertain_nusd,
  count(*) filter (where is_byok = 1) as byok_attempts,
  coalesce(sum(cost_nusd) filter (where is_byok = 1), 0) as byok_fee_nusd,
  count(*) filter (where settled = 0 and reserved_nusd is null) as unpriced_open,
  coalesce(sum(output_ms) filter (where status = 'done'), 0) as output_ms,
  coalesce(sum(output_ms) filter (where status = 'done' and is_billed = 1), 0) as billed_ms,
  coalesce(sum(cost_nusd) filter (where status = 'done' and is_billed = 1 and output_ms is not null), 0)
    as billed_ms_nusd,
  count(*) filter (where is_comparable = 1) as bills,
  coalesce(sum(estimate_nusd) filter (where is_comparable = 1), 0) as estimated_nusd,
  coalesce(sum(cost_nusd) filter (where is_comparable = 1), 0) as billed_nusd
from (select attempts.*, cast(round(output_seconds * 1000) as integer) as output_ms,
  coalesce(estimate_exact_nusd, estimate_high_nusd) as estimate_nusd,
  case when settled = 1 and is_byok = 0 then 1 else 0 end as is_billed,
  case when settled = 1 and is_byok = 0 and estimate_high_nusd is not null
    and status in ('completed', 'done', 'lost') then 1 else 0 end as is_comparable
  from attempts) as a
where $WHERE $JOBS group by 1
"""
# Charges of every job count; jobs that have left their batch file count only while they are open.
_JOB_COUNTS = f"""
select $KEY as key, count(*) as jobs, count(*) filter (where status = 'done') as done
from jobs where {COUNTED_JOBS} and $WHERE $JOBS group by 1
"""
_BILLS = f"""
select model, price_lines, count(*) as count, sum(coalesce(estimate_exact_nusd, estimate_high_nusd)) as estimated_nusd,
  sum(cost_nusd) as charged_nusd
from attempts where id > (select coalesce(max(id), 0) - {_BILLS_READ} from attempts)
  and model in ($MODELS) and settled = 1 and is_byok = 0
  and estimate_high_nusd is not null and status in ('completed', 'done', 'lost')
group by model, price_lines having count(*) >= {BILLS_NEEDED}
"""
# Charged is what is committed without what is only reserved; both of the other sums are over few rows of an index.
_SPEND = f"""
select committed - reserved - byok as charged, reserved from (select
  (select coalesce(sum(committed_nusd), 0) from committed where batch_id = :batch_id) as committed,
  (select coalesce(sum(reserved_nusd), 0) from attempts where batch_id = :batch_id and settled = 0) as reserved,
  (select coalesce(sum({COUNTED}), 0) from attempts where batch_id = :batch_id and is_byok = 1 and settled = 1) as byok
) as sums
"""
_OUTPUT = columns_of(OutputRecord)
_EXPORT = f"""
select jobs.id as job_id, batches.name as batch, prompt_id, prompt, variables, model, kind, status, request, repeat,
  coalesce(error, wait_reason) as error,
  (select sum(cost_nusd) from attempts where job_id = jobs.id) as cost_nusd,
  {", ".join(f"outputs.{name} as output_{name}" for name in _OUTPUT)}
from jobs join batches on batches.id = batch_id left join outputs on outputs.job_id = jobs.id
where batch_id = :batch_id and retired = 0 $JOBS
order by position, jobs.id, outputs.attempt_id, outputs.number
"""
# The readings around an attempt, the last one before it and the newest one after it, and the charges between them.
_USAGE = """
select earlier.read_at as before_at, later.read_at, later.usage_nusd - earlier.usage_nusd as rise_nusd,
  (select coalesce(sum(cost_nusd), 0) from attempts where account = :account and settled = 1
    and settled_at > earlier.read_at and settled_at <= later.read_at) as explained_nusd
from usage_readings earlier, usage_readings later
where earlier.id = (select id from usage_readings where account = :account and read_at <= :at
    order by read_at desc, id desc limit 1)
  and later.id = (select id from usage_readings where account = :account and read_at > :at
    order by read_at desc, id desc limit 1)
"""


class ReportRow(NamedTuple):
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
        """Length of all finished videos."""
        return self.output_ms / 1000

    @property
    def nusd_per_second(self) -> int | None:
        """What a finished second cost, over those whose charge is known."""
        return round(self.billed_ms_nusd * 1000 / self.billed_ms) if self.billed_ms else None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which attempts a report is about; ``since`` and ``until`` are UTC days (YYYY-MM-DD), both included."""

    batch_id: int | None = None
    since: str | None = None
    until: str | None = None
    jobs: Selection = EVERY_JOB

    def where(self, query: str) -> tuple[str, dict[str, object]]:
        """A query with $WHERE and $JOBS, over rows with a batch and a day, as SQL and its parameters."""
        given = [("batch_id = :batch_id", self.batch_id), ("day >= :since", self.since), ("day <= :until", self.until)]
        condition = " and ".join(text for text, value in given if value is not None) or "1 = 1"
        of_jobs = self.jobs.condition()
        if of_jobs and "from attempts" in query:
            of_jobs = f"and a.job_id in (select jobs.id from jobs where 1 = 1 {of_jobs})"
        values: dict[str, object] = {
            "batch_id": self.batch_id,
            "since": self.since,
            "until": self.until,
            **self.jobs.values,
        }
        return query.replace("$WHERE", condition).replace("$JOBS", of_jobs), values


@dataclass(frozen=True, slots=True)
class Bills:
    """Estimate against charge over the charges of one shape: the same model and price lines."""

    count: int
    estimated_nusd: int
    charged_nusd: int


@dataclass(frozen=True, slots=True)
class ExportedJob:
    """A job with its results. ``cost_nusd``: over all attempts, None while nothing is known. ``outputs``: its files,
    the first one first."""

    job_id: str
    batch: str
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
    outputs: tuple[OutputRecord, ...]


@dataclass(frozen=True, slots=True)
class UsageDelta:
    """How an account's usage moved around an attempt. ``explained_nusd``: what settled attempts of this ledger and
    account were charged in between. ``read_at``: the time of the later reading, UTC."""

    before_at: str
    read_at: str
    rise_nusd: int
    explained_nusd: int

    @property
    def unexplained_nusd(self) -> int:
        """The part of the rise that no attempt of this ledger accounts for."""
        return max(0, self.rise_nusd - self.explained_nusd)


class Reports:
    """The summing verbs of a ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def report(self, by: Grouping, which: Filter) -> tuple[list[ReportRow], ReportRow]:
        """One row per group, the most expensive first, or by day in their order; and their total.

        All are of one moment: while a run writes, too, they agree.
        """
        with self._database.snapshot() as db:
            rows = [ReportRow(*row) for row in db.execute(*which.where(_SUMS.replace("$KEY", _KEYS[by][0])))]
            # Without dates all jobs of the file count, also those without an attempt.
            counts = None if which.since or which.until else _job_counts(db, by, which)
        if by == "day":
            rows.sort()
        else:
            if counts is not None:
                sums = {row.key: row[3:] for row in rows}  # all but key, jobs and done
                rows = [ReportRow(key, *counts.get(key, (0, 0)), *sums.get(key, ())) for key in {*sums, *counts}]
            rows.sort(key=lambda row: (-row.charged_nusd, -row.reserved_nusd, row.key))
        columns = list(zip(*rows, strict=True))[1:]
        total = ReportRow("total", *map(sum, columns))
        if by == "day" and counts is not None:
            # A day's jobs are those that were submitted; the total counts those that wait, too.
            jobs, done = counts.get("", (0, 0))
            total = total._replace(jobs=jobs, done=done)
        return rows, total

    def total(self, which: Filter) -> ReportRow:
        """All groups as one row."""
        return self.report("batch", which)[1]

    def spend(self, batch_id: int) -> tuple[int, int]:
        """(charged, reserved) of a batch now, as in its total, without reading its attempts."""
        [(charged, reserved)] = self._database.rows(_SPEND, batch_id=batch_id)
        return charged, reserved

    def bills(self, models: Sequence[str]) -> dict[tuple[str, str], Bills]:
        """By (model, price lines): what was estimated and what was charged, where at least BILLS_NEEDED charges are."""
        values = {f"model_{number}": model for number, model in enumerate(models)}
        rows = self._database.rows(_BILLS.replace("$MODELS", ", ".join(f":{name}" for name in values)), **values)
        return {(model, lines): Bills(*sums) for model, lines, *sums in rows}

    def job_rows(
        self,
        batch_id: int | None = None,
        status: str | None = None,
        limit: int | None = None,
        *,
        which: Selection = EVERY_JOB,
        columns: Sequence[str] = ("*",),
    ) -> Iterator[Mapping[str, Any]]:
        """Rows of the view ``job_report``, in the order of the batch file; without jobs that have left it unsubmitted.

        ``columns``: those that are wanted; what is not wanted is not looked up.
        """
        # The plus keeps SQLite from reading the whole batch in its order when the few jobs of a status are wanted.
        by_status, order = ("and status = :status", "+position") if status else ("", "position")
        query = (
            f"select {', '.join(columns)} from job_report where batch_id = :batch_id {by_status} "
            f"and (retired = 0 or status <> 'pending' or attempts > 0) {which.condition('job_id')} order by {order} "
            f"{'' if limit is None else 'limit :limit'}"
        )
        left = limit
        with self._database.read() as db:
            batches = [row["id"] for row in db.execute("select id from batches order by id")]
            for batch in batches if batch_id is None else [batch_id]:
                for row in db.execute(query, {"batch_id": batch, "status": status, "limit": left, **which.values}):
                    yield dict(row)
                    left = None if left is None else left - 1

    def exported_jobs(self, batch_id: int, which: Selection = EVERY_JOB) -> Iterator[ExportedJob]:
        """The jobs of the batch file with their results; those whose prompt has left it are not among them."""
        with self._database.read() as db:
            rows = db.execute(_EXPORT.replace("$JOBS", which.condition()), {"batch_id": batch_id, **which.values})
            for _, of_job in groupby(rows, key=lambda row: row["job_id"]):
                files = list(of_job)
                outputs = [OutputRecord(*(row[f"output_{name}"] for name in _OUTPUT)) for row in files]
                values = {name: files[0][name] for name in columns_of(ExportedJob) if name != "outputs"}
                values["variables"], values["request"] = parse_json(values["variables"]), parse_json(values["request"])
                yield ExportedJob(**values, outputs=tuple(each for each in outputs if each.path is not None))


def _job_counts(db: sqlite3.Connection, by: Grouping, which: Filter) -> dict[str, tuple[int, int]]:
    """Jobs and finished ones by group."""
    rows = db.execute(*which.where(_JOB_COUNTS.replace("$KEY", _KEYS[by][1])))
    return {key: (jobs, done) for key, jobs, done in rows}


class UsageReadings:
    """What the account's own usage says about attempts of unknown fate: readings of ``GET /key`` around each submit.

    A hint, never a proof: usage lags, and other programs may use the same key.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, account: str, usage_nusd: int, at: datetime) -> None:
        """Keep what the provider said an account has used in all, in nano-dollars."""
        with self._database.write() as db:
            db.execute(
                "insert into usage_readings (account, read_at, usage_nusd) values (:account, :read_at, :usage_nusd)",
                {"account": account, "read_at": timestamp(at), "usage_nusd": usage_nusd},
            )

    def around(self, attempt: AttemptRecord) -> UsageDelta | None:
        """The rise from the last reading before the attempt to the newest one; None without both."""
        row = self._database.row(_USAGE, account=attempt.account, at=attempt.created_at)
        return None if row is None else UsageDelta(*row)
