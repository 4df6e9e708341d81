"""Writing a plan into the ledger: idempotent by job key, so that loading the same file twice changes nothing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from orbatch.ledger.database import Database, timestamp, utc_now
from orbatch.ledger.leases import check_free
from orbatch.ledger.records import BatchRecord, OpenField, PlanRecord
from orbatch.ledger.status import TRANSITIONS, Status
from orbatch.ledger.totals import one_of

if TYPE_CHECKING:
    from orbatch.plan.estimate import PricedJob


# A plan writes all of a job that was certainly never accepted, and what has ended for good is never sent again.
_MAY_LAG = one_of("status", [s for s in Status if TRANSITIONS[s] and s not in (Status.PENDING, Status.REJECTED)])

# In the order of what is compared with it.
_AS_PLANNED = """
delete from temp.lagging where key = ? and exists (select 1 from jobs where batch_id = ? and jobs.key = lagging.key
  and stem = ? and request = ? and estimate_low_nusd is ? and estimate_exact_nusd is ? and estimate_high_nusd is ?
  and price_lines = ? and price_why = ?)
"""


class AsPlanned(NamedTuple):
    """What a plan has of a job."""

    key: str
    stem: str
    request: str
    low_nusd: int | None
    exact_nusd: int | None
    high_nusd: int | None
    price_lines: str
    price_why: str


class Lagging:
    """The jobs of a batch that may not stand as the plan has them, while the plan is written. Kept on disk: they may be
    all of a long batch."""

    def __init__(self, db: sqlite3.Connection, batch_id: int) -> None:
        self._db = db
        self._batch_id = batch_id
        db.execute("create temp table if not exists lagging (key text primary key) without rowid")
        db.execute("delete from temp.lagging")
        found = db.execute(
            f"insert into temp.lagging select key from jobs where batch_id = ? and {_MAY_LAG}", (batch_id,)
        )
        self._are_any = found.rowcount > 0

    def compare(self, planned: Iterable[AsPlanned]) -> None:
        """Jobs that were just written."""
        if self._are_any:
            self._db.executemany(_AS_PLANNED, ((job.key, self._batch_id, *job[1:]) for job in planned))

    def end(self) -> bool:
        """Whether there are any. Jobs that have left the file are not sent, and a plan that brings them back compares
        them."""
        row = self._db.execute(
            "select 1 from temp.lagging join jobs on batch_id = ? and jobs.key = lagging.key where retired = 0",
            (self._batch_id,),
        ).fetchone()
        self._db.execute("delete from temp.lagging")
        return row is not None


def keep(db: sqlite3.Connection, batch_id: int, record: PlanRecord) -> None:
    db.execute(
        "insert into plans (batch_id, sources, prices, models, left_open, jobs_digest) values (?, ?, ?, ?, ?, ?)",
        (
            *(batch_id, record.sources, record.prices, json.dumps(record.models)),
            *(json.dumps([astuple(each) for each in record.left_open]), record.digest),
        ),
    )


def forget(db: sqlite3.Connection, batch_id: int) -> None:
    db.execute("delete from plans where batch_id = ?", (batch_id,))
    db.execute("delete from plan_pictures where batch_id = ?", (batch_id,))


def add_pictures(db: sqlite3.Connection, batch_id: int, pictures: Iterable[tuple[str, str]]) -> None:
    """A file that changed while the jobs were made has two contents; what is kept of it then equals no content."""
    db.executemany(
        "insert into plan_pictures (batch_id, path, sha256) values (?, ?, ?) "
        "on conflict do update set sha256 = 'changed' where sha256 <> excluded.sha256",
        ((batch_id, path, content) for path, content in pictures),
    )


def find(db: sqlite3.Connection, name: str) -> PlanRecord | None:
    row = db.execute(
        "select sources, prices, models, left_open, jobs_digest from plans "
        "join batches on batches.id = plans.batch_id where name = ?",
        (name,),
    ).fetchone()
    if row is None:
        return None
    left_open = tuple(OpenField(*each) for each in json.loads(row["left_open"]))
    return PlanRecord(row["sources"], row["prices"], json.loads(row["models"]), left_open, row["jobs_digest"])


_ENCODE = json.JSONEncoder(ensure_ascii=False, default=str).encode  # made once, for every job of a plan
CHUNK = 1000  # jobs per statement batch; bounds memory for a plan of any length

# What may still be sent follows the batch file; what is paid for keeps its request and its price. An uncertain job may
# be sent again, and so may what a dead run left submitting, which the next one makes uncertain only after its plan. The
# attempts of both hold what they were sent at themselves.
_SENDABLE = "jobs.status in ('pending', 'submitting', 'uncertain', 'rejected', 'failed', 'cancelled', 'expired')"
# A file that was being fetched keeps its name, so only what was certainly never accepted takes a new one.
_NEVER_ACCEPTED = "jobs.status in ('pending', 'rejected')"
_PRICE = ("estimate_low_nusd", "estimate_exact_nusd", "estimate_high_nusd", "price_lines", "price_why")
_OF_THE_REQUEST = ("request", *_PRICE)  # the request names local inputs by their path, which is not in its key

_WRITE_JOB = f"""
insert into jobs (id, batch_id, key, position, kind, model, prompt_id, prompt, variables, request, repeat, stem, status,
  {", ".join(_PRICE)}, created_at)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?, ?, ?, ?, ?)
on conflict (batch_id, key) do update set
  position = excluded.position,
  prompt_id = excluded.prompt_id,
  variables = excluded.variables,
  retired = 0,
  stem = case when {_NEVER_ACCEPTED} then excluded.stem else jobs.stem end,
  {", ".join(f"{c} = case when {_SENDABLE} then excluded.{c} else jobs.{c} end" for c in _OF_THE_REQUEST)}
where jobs.position <> excluded.position or jobs.prompt_id <> excluded.prompt_id
  or jobs.variables <> excluded.variables or jobs.retired = 1
  or ({_NEVER_ACCEPTED} and jobs.stem <> excluded.stem)
  or ({_SENDABLE} and ({" or ".join(f"jobs.{c} is not excluded.{c}" for c in _OF_THE_REQUEST)}))
"""


class StoredCatalog(Protocol):
    """What is kept of the catalogs that a plan was made with."""

    @property
    def digest(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def captured_at(self) -> datetime: ...
    def to_json(self) -> str: ...


@dataclass(frozen=True, slots=True)
class BatchFile:
    """What the ledger keeps of a batch file. ``origin``: the API its jobs are sent to."""

    name: str
    config_path: Path
    config_sha256: str
    output_dir: Path
    origin: str


@dataclass(frozen=True, slots=True)
class ModelTotals:
    """One model's part of a batch. ``low_nusd`` and ``high_nusd`` bound what the ``to_send`` jobs may cost;
    ``unpriced`` of them have no upper bound. ``open`` are paid for, or may be, and not finished; ``ended`` ended
    without a result. ``seconds``: ordered length of all jobs."""

    model: str
    jobs: int
    seconds: int
    to_send: int
    low_nusd: int
    high_nusd: int
    unpriced: int
    done: int
    open: int
    ended: int


@dataclass(frozen=True, slots=True)
class PriceGroup:
    """Pending jobs that cost alike: the same model, price lines and estimate in nano-dollars (None: unknown)."""

    model: str
    price_lines: str
    low_nusd: int | None
    exact_nusd: int | None
    high_nusd: int | None
    jobs: int


class Plans:
    """The planning verbs of a ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(
        self,
        batch: BatchFile,
        catalog: StoredCatalog,
        jobs: Iterable[PricedJob],
        made: Callable[[], PlanRecord] | None = None,
    ) -> BatchRecord:
        """Add the batch and its jobs, in one transaction; jobs that have left the file are retired.

        Jobs that are known keep their status, their attempts and their files. ``made`` is asked after the last job what
        they were made from; that is kept for ``renew``. Raises BatchHeld while the batch is run.
        """
        at = timestamp(utc_now())
        with self._database.write() as db:
            batch_id = self._begin(db, batch, catalog, at)
            forget(db, batch_id)
            leaving, lagging = _Leaving(db, batch_id), Lagging(db, batch_id)
            for chunk in _chunks(jobs):
                rows = [_row(job, batch_id, at) for job in chunk]
                db.executemany(_WRITE_JOB, rows)
                leaving.keep(row[2] for row in rows)
                lagging.compare(map(_as_compared, chunk))
            leaving.retire()
            record = None if made is None else made()
            if record is not None and record.sources is not None and not lagging.end():
                keep(db, batch_id, record)
        return self._found(batch)

    def renew(self, batch: BatchFile, catalog: StoredCatalog, record: PlanRecord) -> BatchRecord | None:
        """Plan the batch again without its jobs, if ``record`` is still what they were made from, else None.

        Only for what makes the same jobs again. Raises BatchHeld while the batch is run.
        """
        with self._database.write() as db:
            # Another process may have planned the batch since the record was read.
            if find(db, batch.name) != record:
                return None
            self._begin(db, batch, catalog, timestamp(utc_now()))
        return self._found(batch)

    def record(self, name: str) -> PlanRecord | None:
        """What the jobs of a batch were made from, if all of them stand as they would be made again from it."""
        with self._database.read() as db:
            return find(db, name)

    def pictures(self, name: str) -> Iterator[tuple[str, str]]:
        """The local files that the jobs of such a batch start from, each with the hash of its content."""
        with self._database.read() as db:
            yield from db.execute(
                "select path, sha256 from plan_pictures join batches on batches.id = batch_id where name = ?", (name,)
            )

    def _begin(self, db: sqlite3.Connection, batch: BatchFile, catalog: StoredCatalog, at: str) -> int:
        """What every plan does, whether it writes the jobs or not."""
        batch_id = self._write_batch(db, batch, self._write_catalog(db, catalog), at)
        # A plan adds and retires jobs, which a runner at work would buy or lose under its feet.
        check_free(db, batch_id, utc_now())
        # Why a job waited in an earlier run may be over.
        db.execute("update jobs set hold = null where batch_id = ? and hold is not null", (batch_id,))
        return batch_id

    def _found(self, batch: BatchFile) -> BatchRecord:
        found = self.find(batch.name)
        assert found is not None
        return found

    def find(self, name: str) -> BatchRecord | None:
        with self._database.read() as db:
            row = db.execute(
                "select batches.id, name, config_path, output_dir, origin, catalogs.digest as catalog_digest, "
                "planned_at from batches left join catalogs on catalogs.id = catalog_id where name = ?",
                (name,),
            ).fetchone()
        return None if row is None else BatchRecord(**dict(row))

    def outlook(self, batch_id: int, only: str | None = None) -> list[ModelTotals]:
        """The jobs of the file by model: what is still to be bought, and what is done or paid already."""
        with self._database.read() as db:
            rows = db.execute(
                "select model, count(*) as jobs, "
                "coalesce(sum(json_extract(request, '$.duration')), 0) as seconds, "
                "count(*) filter (where status = 'pending') as to_send, "
                "coalesce(sum(case when status = 'pending' then estimate_low_nusd end), 0) as low_nusd, "
                "coalesce(sum(case when status = 'pending' then estimate_high_nusd end), 0) as high_nusd, "
                "count(*) filter (where status = 'pending' and estimate_high_nusd is null) as unpriced, "
                "count(*) filter (where status = 'done') as done, "
                "count(*) filter (where status in ('submitting', 'submitted', 'completed', 'uncertain')) as open, "
                "count(*) filter (where status in ('rejected', 'failed', 'cancelled', 'expired', 'lost')) as ended "
                "from jobs where batch_id = ? and retired = 0 "
                "and (? is null or prompt_id glob ? or model glob ? or id glob ?) "
                "group by model order by min(position)",
                (batch_id, *[only] * 4),
            )
            return [ModelTotals(**dict(row)) for row in rows]

    def shapes_to_send(self, batch_id: int, only: str | None = None) -> list[PriceGroup]:
        """Pending jobs by model, price lines and price: as many rows as the batch has kinds of jobs, not jobs."""
        with self._database.read() as db:
            rows = db.execute(
                "select model, price_lines, estimate_low_nusd as low_nusd, estimate_exact_nusd as exact_nusd, "
                "estimate_high_nusd as high_nusd, count(*) as jobs from jobs "
                "where batch_id = ? and retired = 0 and status = 'pending' "
                "and (? is null or prompt_id glob ? or model glob ? or id glob ?) "
                "group by model, price_lines, estimate_low_nusd, estimate_exact_nusd, estimate_high_nusd",
                (batch_id, *[only] * 4),
            )
            return [PriceGroup(**dict(row)) for row in rows]

    def names(self) -> list[str]:
        """All batches, the one planned last first."""
        with self._database.read() as db:
            return [row[0] for row in db.execute("select name from batches order by planned_at desc, id desc")]

    def last_catalog(self, name: str) -> str | None:
        """The catalogs that the batch was last planned with, as they were stored; None when it never was."""
        with self._database.read() as db:
            row = db.execute(
                "select models from catalogs join batches on catalogs.id = catalog_id where name = ?", (name,)
            ).fetchone()
        return None if row is None else str(row["models"])

    @staticmethod
    def _write_catalog(db: sqlite3.Connection, catalog: StoredCatalog) -> int:
        db.execute(
            "insert into catalogs (digest, source, read_at, models) values (?, ?, ?, ?) "
            "on conflict (digest) do nothing",
            (catalog.digest, catalog.source, timestamp(catalog.captured_at), catalog.to_json()),
        )
        return int(db.execute("select id from catalogs where digest = ?", (catalog.digest,)).fetchone()[0])

    @staticmethod
    def _write_batch(db: sqlite3.Connection, batch: BatchFile, catalog_id: int, at: str) -> int:
        row = db.execute(
            "insert into batches (name, config_path, config_sha256, output_dir, origin, catalog_id, created_at, "
            "planned_at) "
            "values (?, ?, ?, ?, ?, ?, ?, ?) on conflict (name) do update set config_path = excluded.config_path, "
            "config_sha256 = excluded.config_sha256, output_dir = excluded.output_dir, origin = excluded.origin, "
            "catalog_id = excluded.catalog_id, planned_at = excluded.planned_at returning id",
            (
                *(batch.name, str(batch.config_path), batch.config_sha256, str(batch.output_dir), batch.origin),
                *(catalog_id, at, at),
            ),
        ).fetchone()
        return int(row["id"])


class _Leaving:
    """The jobs of a batch that are not among those of its file any more, known once all of these were written."""

    def __init__(self, db: sqlite3.Connection, batch_id: int) -> None:
        self._db = db
        self._batch_id = batch_id
        self._may_be_any = (
            db.execute("select 1 from jobs where batch_id = ? limit 1", (batch_id,)).fetchone() is not None
        )
        db.execute("create temp table if not exists seen (key text primary key) without rowid")
        db.execute("delete from temp.seen")

    def keep(self, keys: Iterable[object]) -> None:
        if self._may_be_any:
            # Two alike are a problem of the file, which is told with its lines after the last job.
            self._db.executemany("insert or ignore into temp.seen values (?)", ((key,) for key in keys))

    def retire(self) -> None:
        if self._may_be_any:
            self._db.execute(
                "update jobs set retired = 1 where batch_id = ? and retired = 0 "
                "and key not in (select key from temp.seen)",
                (self._batch_id,),
            )
            self._db.execute("delete from temp.seen")


def _chunks(jobs: Iterable[PricedJob]) -> Iterator[list[PricedJob]]:
    iterator = iter(jobs)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


def job_id(key: str, batch_id: int) -> str:
    """The first 16 hex digits of the key, and the batch: the same request in two batches is two jobs."""
    return f"{key.partition(':')[2][:16]}-{batch_id}"


def _as_compared(job: PricedJob) -> AsPlanned:
    spec = job.spec
    return AsPlanned(spec.key, spec.stem, _ENCODE(spec.request.body()), *_price(job))


def _price(job: PricedJob) -> tuple[int | None, int | None, int | None, str, str]:
    """In the order of _PRICE."""
    return job.low_nusd, job.exact_nusd, job.high_nusd, " ".join(job.estimate.lines), job.estimate.why


def _row(job: PricedJob, batch_id: int, at: str) -> tuple[object, ...]:
    spec = job.spec
    return (
        *(job_id(spec.key, batch_id), batch_id, spec.key, spec.position, spec.kind, spec.model, spec.prompt_id),
        *(spec.prompt, _ENCODE(spec.variables), _ENCODE(spec.request.body()), spec.repeat, spec.stem),
        *(*_price(job), at),
    )
