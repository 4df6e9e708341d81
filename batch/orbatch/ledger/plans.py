"""Writing a plan into the ledger: idempotent by job key, so that loading the same file twice changes nothing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Protocol

from orbatch.ledger.database import Database, timestamp, utc_now
from orbatch.ledger.leases import check_free
from orbatch.ledger.records import BatchFile, BatchRecord, PlannedJob, columns_of, parse_json
from orbatch.ledger.schema import only_condition

_ENCODE = json.JSONEncoder(ensure_ascii=False, default=str).encode  # made once, for every job of a plan
_CHUNK = 1000  # jobs per statement batch; bounds memory for a plan of any length

_ALWAYS = "1 = 1"
# What is paid for keeps what was paid for; an uncertain job may be submitted again.
_NOT_PAID = "jobs.status in ('pending', 'submitting', 'uncertain', 'rejected', 'failed', 'cancelled', 'expired')"
# A file that is being downloaded keeps its name.
_NEVER_ACCEPTED = "jobs.status in ('pending', 'rejected')"
_PRICE = ("estimate_low_nusd", "estimate_exact_nusd", "estimate_high_nusd", "price_lines", "price_why")
# What a new plan changes of a job that it finds, by the states of the job. The rest of a job is in its key; a request
# names local inputs by their path, which is not.
_CHANGES = {
    _ALWAYS: ("position", "prompt_id", "variables"),
    _NEVER_ACCEPTED: ("stem",),
    _NOT_PAID: ("request", *_PRICE),
}
_JOB_COLUMNS = columns_of(PlannedJob)
_SET = [f"{c} = case when {states} then excluded.{c} else jobs.{c} end" for states, cs in _CHANGES.items() for c in cs]
_DIFFERS = [
    f"({states} and ({' or '.join(f'jobs.{c} is distinct from excluded.{c}' for c in columns)}))"
    for states, columns in _CHANGES.items()
]
# Made aside while the jobs are expanded and priced, which may take a minute: only then is the ledger locked.
_STAGE = f"""
create temp table if not exists staged (number integer primary key, short_key text not null,
  {", ".join(_JOB_COLUMNS)}, unique (key, number))
"""
_STAGE_JOB = f"""
insert into staged (short_key, {", ".join(_JOB_COLUMNS)})
values (:short_key, {", ".join(f":{name}" for name in _JOB_COLUMNS)})
"""
# The condition behind the last `where` keeps an unchanged job from being written again.
_WRITE_JOBS = f"""
insert into jobs (id, batch_id, {", ".join(_JOB_COLUMNS)}, status, created_at)
select short_key || '-' || :batch_id, :batch_id, {", ".join(_JOB_COLUMNS)}, 'pending', :at
from staged where true order by number
on conflict (batch_id, key) do update set retired = 0, {", ".join(_SET)}
where jobs.retired = 1 or {" or ".join(_DIFFERS)}
"""
_WRITE_BATCH = """
insert into batches (name, config_path, config_sha256, output_dir, origin, catalog_id, created_at, planned_at)
select :name, :config_path, :config_sha256, :output_dir, :origin, id, :at, :at from catalogs where digest = :digest
on conflict (name) do update set config_path = excluded.config_path, config_sha256 = excluded.config_sha256,
  output_dir = excluded.output_dir, origin = excluded.origin, catalog_id = excluded.catalog_id,
  planned_at = excluded.planned_at,
  receipts_read = case when batches.output_dir = excluded.output_dir then batches.receipts_read else 0 end,
  receipts_written = case when batches.output_dir = excluded.output_dir then batches.receipts_written else 0 end
returning id
"""
_BATCHES = """
select batches.id, name, config_path, output_dir, origin, catalogs.digest as catalog_digest, planned_at
from batches left join catalogs on catalogs.id = catalog_id
"""
_TOTALS = """
select model, count(*) as jobs,
  coalesce(sum(cast(request ->> 'duration' as integer)), 0) as seconds,
  count(*) filter (where status = 'pending') as to_submit,
  coalesce(sum(estimate_low_nusd) filter (where status = 'pending'), 0) as low_nusd,
  coalesce(sum(estimate_high_nusd) filter (where status = 'pending'), 0) as high_nusd,
  count(*) filter (where status = 'pending' and estimate_high_nusd is null) as unpriced,
  count(*) filter (where status = 'done') as done,
  count(*) filter (where status in ('submitting', 'submitted', 'completed', 'uncertain')) as open,
  count(*) filter (where status in ('rejected', 'failed', 'cancelled', 'expired', 'lost')) as ended
from jobs where batch_id = :batch_id and retired = 0 $ONLY
group by model order by min(position)
"""
# Prompts with jobs to submit; ``retired``: of the same prompt, and paid for, so that it was changed.
_TO_SUBMIT = """
select prompt_id,
  count(distinct model) filter (where status = 'pending' and retired = 0) as models,
  count(*) filter (where status = 'pending' and retired = 0) as jobs,
  coalesce(sum(estimate_low_nusd) filter (where status = 'pending' and retired = 0), 0) as low_nusd,
  coalesce(sum(estimate_high_nusd) filter (where status = 'pending' and retired = 0), 0) as high_nusd,
  count(*) filter (where status = 'pending' and retired = 0 and estimate_high_nusd is null) as unpriced,
  count(*) filter (where status <> 'pending' and retired = 0) as others,
  count(*) filter (where status = 'done' and retired = 1) as retired
from jobs where batch_id = :batch_id $ONLY
group by prompt_id having count(*) filter (where status = 'pending' and retired = 0) > 0
order by min(case when retired = 0 then position end) limit :limit
"""
_GROUPS = """
select model, price_lines, estimate_low_nusd as low_nusd, estimate_exact_nusd as exact_nusd,
  estimate_high_nusd as high_nusd, count(*) as jobs
from jobs where batch_id = :batch_id and retired = 0 and status = 'pending' $ONLY
group by model, price_lines, estimate_low_nusd, estimate_exact_nusd, estimate_high_nusd
"""


class StoredCatalog(Protocol):
    """What is kept of the catalogs that a plan was made with."""

    @property
    def digest(self) -> str:
        """Hash of the content; a catalog is kept once."""

    @property
    def source(self) -> str:
        """Where it was read."""

    @property
    def captured_at(self) -> datetime:
        """When it was read."""

    def to_json(self) -> str:
        """Its models, as ``Plans.last_catalog`` returns them."""


@dataclass(frozen=True, slots=True)
class ModelTotals:
    """One model's part of a batch. ``low_nusd`` and ``high_nusd`` bound what the ``to_submit`` jobs may cost;
    ``unpriced`` of them have no upper bound. ``open`` are paid for, or may be, and not finished; ``ended`` ended
    without a result. ``seconds``: requested length of all jobs."""

    model: str
    jobs: int
    seconds: int
    to_submit: int
    low_nusd: int
    high_nusd: int
    unpriced: int
    done: int
    open: int
    ended: int


@dataclass(frozen=True, slots=True)
class PromptTotals:
    """The jobs of one prompt that are to be submitted, as in ModelTotals. ``others``: its jobs that are not;
    ``retired``: its finished jobs that have left the file, because the prompt or a setting was changed."""

    prompt_id: str
    models: int
    jobs: int
    low_nusd: int
    high_nusd: int
    unpriced: int
    others: int
    retired: int


@dataclass(frozen=True, slots=True)
class PriceGroup:
    """Pending jobs that cost alike: the same model, price lines and estimate in nano-dollars (None: unknown)."""

    model: str
    price_lines: str
    low_nusd: int | None
    exact_nusd: int | None
    high_nusd: int | None
    jobs: int


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """What identifies a job: the request, and which repeat of it."""

    key: str
    kind: str
    repeat: int
    request: Mapping[str, Any]


class Plans:
    """The planning verbs of a ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, batch: BatchFile, catalog: StoredCatalog, jobs: Iterable[PlannedJob]) -> BatchRecord:
        """Add the batch and its jobs, in one transaction; jobs that have left the file are retired.

        Jobs that are known keep their status, their attempts and their files. Raises BatchHeld while the batch is run;
        what ``jobs`` raises leaves the ledger as it was.
        """
        known = self.find(batch.name)
        if known is not None:  # before the work, too
            with self._database.read() as db:
                check_free(db, known.id, utc_now())
        with self._database.aside() as db:
            db.execute(_STAGE)
            db.execute("delete from staged")
            every_row = map(_row, jobs)
            while rows := list(islice(every_row, _CHUNK)):
                db.executemany(_STAGE_JOB, rows)
        now = utc_now()
        at = timestamp(now)
        with self._database.write() as db:
            batch_id = _write_batch(db, batch, catalog, at)
            # A plan adds and retires jobs, which a runner at work would submit or lose unnoticed.
            check_free(db, batch_id, now)
            of_batch = {"batch_id": batch_id, "at": at}
            # Why a job waited in an earlier run may be over.
            waits = "batch_id = :batch_id and wait_reason is not null"
            db.execute(f"update jobs set wait_reason = null where {waits}", of_batch)
            db.execute(_WRITE_JOBS, of_batch)
            left = "batch_id = :batch_id and retired = 0 and key not in (select key from staged)"
            db.execute(f"update jobs set retired = 1 where {left}", of_batch)
            db.execute("delete from staged")
        found = self.find(batch.name)
        assert found is not None  # just written
        return found

    def find(self, name: str) -> BatchRecord | None:
        """The batch of this name; None when it was never planned."""
        row = self._database.row(f"{_BATCHES} where name = :name", name=name)
        return None if row is None else BatchRecord(*row)

    def totals_by_model(self, batch_id: int, only: str | None = None) -> list[ModelTotals]:
        """The jobs of the file by model: what is still to be submitted, and what is done or paid already."""
        query = _TOTALS.replace("$ONLY", only_condition(only))
        return [ModelTotals(*row) for row in self._database.rows(query, batch_id=batch_id, only=only)]

    def requests(self, name: str) -> Iterator[StoredRequest]:
        """Of every job that a batch has or had."""
        query = (
            "select key, kind, repeat, request from jobs "
            "where batch_id = (select id from batches where name = :name) order by retired"
        )
        for row in self._database.rows(query, name=name):
            yield StoredRequest(row["key"], row["kind"], row["repeat"], parse_json(row["request"]))

    def to_submit(self, batch_id: int, only: str | None = None, limit: int = 1000) -> list[PromptTotals]:
        """The jobs to submit by prompt, in the order of the file, ``limit`` prompts at most."""
        query = _TO_SUBMIT.replace("$ONLY", only_condition(only))
        rows = self._database.rows(query, batch_id=batch_id, only=only, limit=limit)
        return [PromptTotals(*row) for row in rows]

    def price_groups(self, batch_id: int, only: str | None = None) -> list[PriceGroup]:
        """Pending jobs by model, price lines and price: as many rows as the batch has kinds of jobs, not jobs."""
        query = _GROUPS.replace("$ONLY", only_condition(only))
        return [PriceGroup(*row) for row in self._database.rows(query, batch_id=batch_id, only=only)]

    def batches(self) -> list[BatchRecord]:
        """All of them, the one planned last first."""
        return [
            BatchRecord(*row) for row in self._database.rows(f"{_BATCHES} order by planned_at desc, batches.id desc")
        ]

    def names(self) -> list[str]:
        """Of all batches, in the same order."""
        return [batch.name for batch in self.batches()]

    def last_catalog(self, name: str) -> str | None:
        """The catalogs that the batch was last planned with, as JSON; None when it never was."""
        query = "select models from catalogs join batches on catalogs.id = catalog_id where name = :name"
        row = self._database.row(query, name=name)
        return None if row is None else str(row["models"])


def job_id(key: str, batch_id: int) -> str:
    """The first 16 hex digits of the key, and the batch: the same request in two batches is two jobs."""
    return f"{_short(key)}-{batch_id}"


def _short(key: str) -> str:
    return key.partition(":")[2][:16]


def _write_batch(db: sqlite3.Connection, batch: BatchFile, catalog: StoredCatalog, at: str) -> int:
    values = {
        "name": batch.name,
        "config_path": str(batch.config_path),
        "config_sha256": batch.config_sha256,
        "output_dir": str(batch.output_dir),
        "origin": batch.origin,
        "at": at,
        "digest": catalog.digest,
        "source": catalog.source,
        "read_at": timestamp(catalog.captured_at),
        "models": catalog.to_json(),
    }
    db.execute(
        "insert into catalogs (digest, source, read_at, models) values (:digest, :source, :read_at, :models) "
        "on conflict (digest) do nothing",
        values,
    )
    return int(db.execute(_WRITE_BATCH, values).fetchone()["id"])


def _row(job: PlannedJob) -> dict[str, Any]:
    # Not `asdict`, which copies the request deeply: 100,000 jobs would take seconds more.
    values = {name: getattr(job, name) for name in _JOB_COLUMNS}
    values |= {"variables": _ENCODE(job.variables), "request": _ENCODE(job.request)}
    return {**values, "short_key": _short(job.key)}
