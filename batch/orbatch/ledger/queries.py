"""What a run and its user ask of the ledger: the next jobs, the open ones, one job with its history."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orbatch.ledger.database import Database, LedgerError, timestamp
from orbatch.ledger.records import (
    SELECT_ATTEMPT,
    SELECT_ATTEMPT_ALONE,
    SELECT_JOB,
    AttemptRecord,
    JobRecord,
    OutputRecord,
    attempt_from_row,
    job_from_row,
)
from orbatch.ledger.schema import OPEN
from orbatch.ledger.status import Status
from orbatch.ledger.transitions import IS_SUPERSEDED

# How many matches an ambiguous prefix names in its error.
_MATCHES_SHOWN = 5

# A job's pattern for --only: its prompt's id, its model, or its own id.
ONLY = "(? is null or jobs.prompt_id glob ? or jobs.model glob ? or jobs.id glob ?)"


# Attempts of one batch, or of all; said so that SQLite looks the batches up in an index.
_IN_BATCH = "latest.batch_id in (select id from batches where ? is null or id = ?)"


class NoSuchJob(LedgerError):
    """No job, or more than one, has an id that begins as was said."""


@dataclass(frozen=True, slots=True)
class Event:
    at: str
    from_status: str | None
    to_status: str
    detail: str | None


@dataclass(frozen=True, slots=True)
class Counts:
    """Jobs by status. Those that are retired and pending will never be sent, and are only in ``retired``."""

    by_status: Mapping[str, int]
    retired: int

    def __getitem__(self, status: Status) -> int:
        return self.by_status.get(status, 0)

    @property
    def total(self) -> int:
        return sum(self.by_status.values())


class Queries:
    """The reading verbs of a ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def pending_models(self, batch_id: int, only: str | None = None) -> list[str]:
        """Models that still have jobs to send. Steps from model to model in the index instead of reading every job."""
        models: list[str] = []
        with self._database.read() as db:
            while True:
                row = db.execute(
                    "select model from jobs where batch_id = ? and status = 'pending' and retired = 0 and model > ? "
                    f"and {ONLY} order by model limit 1",
                    (batch_id, models[-1] if models else "", *[only] * 4),
                ).fetchone()
                if row is None:
                    return models
                models.append(row[0])

    def next_pending(
        self,
        batch_id: int,
        model: str,
        *,
        room_nusd: int | None,
        unpriced_nusd: int | None,
        limit: int,
        only: str | None = None,
        after: int = -1,
    ) -> list[JobRecord]:
        """The next jobs of a model whose worst case fits in ``room_nusd`` (None: no cap), in the order of the file,
        behind position ``after``. A job without an upper price counts as ``unpriced_nusd``."""
        with self._database.read() as db:
            rows = db.execute(
                SELECT_JOB + "where jobs.batch_id = ? and jobs.status = 'pending' and jobs.retired = 0 "
                "and jobs.model = ? and jobs.position > ? "
                "and (? is null or coalesce(jobs.estimate_high_nusd, ?, ? + 1) <= ?) "
                f"and {ONLY} order by jobs.position limit ?",
                (
                    *(batch_id, model, after, room_nusd, unpriced_nusd, room_nusd, room_nusd),
                    *([only] * 4),
                    limit,
                ),
            )
            return [job_from_row(row) for row in rows]

    def open_attempts(self, batch_id: int) -> list[JobRecord]:
        """Everything accepted and not yet finished, each with the attempt that is open; retired jobs too, since they
        are paid for."""
        with self._database.read() as db:
            rows = db.execute(
                SELECT_ATTEMPT
                + f"where latest.batch_id = ? and latest.status in ('submitted', 'completed') and latest.{OPEN} "
                "order by +latest.id",
                (batch_id,),
            )
            return [job_from_row(row) for row in rows]

    def unsettled(self, batch_id: int | None = None) -> list[JobRecord]:
        """Ended attempts whose charge is still unknown, over one batch or the whole ledger."""
        with self._database.read() as db:
            rows = db.execute(
                SELECT_ATTEMPT + "where latest.settled = 0 "
                f"and {_IN_BATCH} "
                "and latest.status in ('completed', 'done', 'failed', 'cancelled', 'expired', 'lost') "
                "order by +latest.id",
                (batch_id, batch_id),
            )
            return [job_from_row(row) for row in rows]

    def uncertain(self, batch_id: int | None = None) -> list[JobRecord]:
        """Every attempt whose fate is unknown, over one batch or the whole ledger."""
        with self._database.read() as db:
            rows = db.execute(
                SELECT_ATTEMPT + f"where latest.status = 'uncertain' and latest.{OPEN} and {_IN_BATCH} "
                "order by +latest.id",
                (batch_id, batch_id),
            )
            return [job_from_row(row) for row in rows]

    def job(self, job_id: str) -> JobRecord:
        """The job with exactly this id."""
        with self._database.read() as db:
            row = db.execute(SELECT_JOB + "where jobs.id = ?", (job_id,)).fetchone()
        if row is None:
            raise LedgerError(f"There is no job {job_id} in {self._database.path}.")
        return job_from_row(row)

    def find_job(self, prefix: str) -> JobRecord:
        """The one job whose id or remote id begins so. Raises NoSuchJob for none or several."""
        upper = prefix + "\U0010ffff"
        with self._database.read() as db:
            ids = [
                row[0]
                for row in db.execute(
                    "select id from jobs where id >= ? and id < ? "
                    "union select job_id from attempts where remote_id >= ? and remote_id < ? limit ?",
                    (prefix, upper, prefix, upper, _MATCHES_SHOWN),
                )
            ]
        if len(ids) == 1:
            return self.job(ids[0])
        if not ids:
            raise NoSuchJob(f"No job of {self._database.path} has an id that begins with {prefix!r}.")
        more = " and more" if len(ids) == _MATCHES_SHOWN else ""
        raise NoSuchJob(f"{prefix!r} begins the ids of several jobs: {', '.join(ids)}{more}. Give more of it.")

    def attempts(self, job_id: str) -> list[AttemptRecord]:
        with self._database.read() as db:
            rows = db.execute(SELECT_ATTEMPT_ALONE + "where job_id = ? order by number", (job_id,))
            return [attempt_from_row(row) for row in rows]

    def attempt(self, attempt_id: int) -> AttemptRecord:
        """The attempt with exactly this id."""
        with self._database.read() as db:
            row = db.execute(SELECT_ATTEMPT_ALONE + "where id = ?", (attempt_id,)).fetchone()
        if row is None:
            raise LedgerError(f"There is no attempt {attempt_id} in {self._database.path}.")
        return attempt_from_row(row)

    def is_overtaken(self, attempt: AttemptRecord) -> bool:
        """Whether a later attempt of the same job was started, so that the job stands for that one."""
        with self._database.read() as db:
            row = db.execute(
                f"select {IS_SUPERSEDED} from jobs where id = ?", (attempt.number, attempt.job_id)
            ).fetchone()
        return row is not None and bool(row[0])

    def is_submitting(self, attempt_id: int) -> bool:
        """Whether the intent still stands: no other runner has taken over and called it uncertain."""
        with self._database.read() as db:
            row = db.execute("select 1 from attempts where id = ? and status = 'submitting'", (attempt_id,)).fetchone()
        return row is not None

    def attempts_made(self, job_id: str) -> int:
        """Attempts that count against ``retries.attempts``: sent, and not forgiven by ``retry``."""
        with self._database.read() as db:
            row = db.execute(
                "select count(*) from attempts join jobs on jobs.id = job_id where job_id = ? "
                "and attempts.status not in ('released', 'rejected') and number > attempts_forgiven",
                (job_id,),
            ).fetchone()
        return int(row[0])

    def outputs(self, job_id: str, attempt_id: int | None = None) -> list[OutputRecord]:
        """The files of a job, or of one of its attempts alone."""
        with self._database.read() as db:
            rows = db.execute(
                "select path, bytes, sha256, mime_type, seconds, width, height, fps, video_codec, audio_codec, warning "
                "from outputs where job_id = ? and (? is null or attempt_id = ?) order by attempt_id, number",
                (job_id, attempt_id, attempt_id),
            )
            return [OutputRecord(**dict(row)) for row in rows]

    def placed_files(self, batch_id: int | None = None) -> list[tuple[str, OutputRecord]]:
        """Every file the ledger vouches for, with its job's id."""
        with self._database.read() as db:
            rows = db.execute(
                "select outputs.job_id, path, bytes, sha256, mime_type, seconds, width, height, fps, video_codec, "
                "audio_codec, warning from outputs join jobs on jobs.id = outputs.job_id "
                "where (? is null or jobs.batch_id = ?) order by outputs.id",
                (batch_id, batch_id),
            ).fetchall()
        return [
            (row["job_id"], OutputRecord(**{name: value for name, value in dict(row).items() if name != "job_id"}))
            for row in rows
        ]

    def path_owner(self, path: str) -> str | None:
        """The job whose output this path is, if any."""
        with self._database.read() as db:
            row = db.execute("select job_id from outputs where path = ?", (path,)).fetchone()
        return None if row is None else str(row[0])

    def variables(self, job_id: str) -> Mapping[str, Any]:
        with self._database.read() as db:
            row = db.execute("select variables from jobs where id = ?", (job_id,)).fetchone()
        values: Mapping[str, Any] = json.loads(row[0])
        return values

    def events(self, job_id: str) -> list[Event]:
        with self._database.read() as db:
            rows = db.execute(
                "select at, from_status, to_status, detail from events where job_id = ? order by id", (job_id,)
            )
            return [Event(**dict(row)) for row in rows]

    def counts(self, batch_id: int, only: str | None = None) -> Counts:
        with self._database.read() as db:
            rows = db.execute(
                "select status, retired, count(*) as jobs from jobs where batch_id = ? "
                f"and {ONLY} group by status, retired",
                (batch_id, *[only] * 4),
            ).fetchall()
        by_status: dict[str, int] = {}
        retired = 0
        for row in rows:
            if row["retired"]:
                retired += row["jobs"]
            if not row["retired"] or row["status"] != Status.PENDING:
                by_status[row["status"]] = by_status.get(row["status"], 0) + row["jobs"]
        return Counts(by_status, retired)

    def reopenable(self, batch_id: int, statuses: Sequence[Status], only: str | None = None) -> list[str]:
        """Jobs of the file, in these states, that ``retry`` may send again."""
        marks = ", ".join("?" * len(statuses))
        with self._database.read() as db:
            rows = db.execute(
                f"select id from jobs where batch_id = ? and status in ({marks}) and retired = 0 "
                f"and {ONLY} order by +position",
                (batch_id, *statuses, *[only] * 4),
            )
            return [row[0] for row in rows]

    def holds(self, batch_id: int) -> list[tuple[str, int]]:
        """Why pending jobs wait: each reason with its number of jobs, the most frequent first."""
        with self._database.read() as db:
            rows = db.execute(
                "select hold, count(*) as jobs from jobs where batch_id = ? and status = 'pending' and retired = 0 "
                "and hold is not null group by hold order by jobs desc",
                (batch_id,),
            )
            return [(row["hold"], row["jobs"]) for row in rows]

    def recent_submits(self, since: datetime, model: str | None) -> int:
        """Submits since a time, over all batches: what a rate limit shared by several runs counts."""
        with self._database.read() as db:
            row = db.execute(
                "select count(*) from attempts where created_at > ? and (? is null or model = ?)",
                (timestamp(since), model, model),
            ).fetchone()
        return int(row[0])

    def in_flight_elsewhere(self, batch_id: int, model: str | None, now: datetime) -> int:
        """Accepted and unfinished attempts of the other batches that are being run now."""
        with self._database.read() as db:
            row = db.execute(
                "select count(*) from attempts "
                "where batch_id in (select id from batches where lease_until > ? and id <> ?) "
                f"and status in ('submitting', 'submitted') and {OPEN} and (? is null or model = ?)",
                (timestamp(now), batch_id, model, model),
            ).fetchone()
        return int(row[0])

    def durations(self, batch_id: int | None = None, limit: int = 2000) -> list[tuple[str, int | None, float]]:
        """How long recent jobs took from acceptance to completion: (model, ordered seconds, seconds it took)."""
        with self._database.read() as db:
            rows = db.execute(
                "select attempts.model, json_extract(jobs.request, '$.duration') as seconds, "
                "(julianday(completed_at) - julianday(submitted_at)) * 86400.0 as took "
                "from attempts join jobs on jobs.id = job_id where attempts.id in "
                "(select id from attempts where completed_at is not null and status in ('completed', 'done', 'lost') "
                "order by id desc limit ?) "
                "and submitted_at is not null and (? is null or attempts.batch_id = ?)",
                (limit, batch_id, batch_id),
            )
            return [(row["model"], row["seconds"], row["took"]) for row in rows]
