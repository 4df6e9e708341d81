"""What a run and its user ask of the ledger: the next jobs, the open ones, one job with its history."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from orbatch.ledger.database import Database, LedgerError, parse_timestamp, timestamp
from orbatch.ledger.records import (
    SELECT_ATTEMPT,
    SELECT_ATTEMPT_ALONE,
    SELECT_JOB,
    AttemptRecord,
    JobRecord,
    OutputRecord,
    ReusableJob,
    attempt_from_row,
    columns_of,
    job_from_row,
)
from orbatch.ledger.schema import COUNTED_JOBS, EVERY_JOB, OPEN, Selection, only_condition
from orbatch.ledger.status import Status

_MATCHES_SHOWN = 5  # how many matches an ambiguous prefix names in its error

_OUTPUT = ", ".join(columns_of(OutputRecord))
_FIND_JOB = """
select id from jobs where id >= :first and id < :last
union select job_id from attempts where remote_id >= :first and remote_id < :last
limit :limit
"""
_REUSABLE = """
select jobs.id as pending_id, jobs.stem, other.id as job_id, batches.name as batch, attempts.id as attempt_id,
  attempts.cost_nusd
from jobs
join jobs other on other.key = jobs.key and other.batch_id <> jobs.batch_id and other.kind = jobs.kind
  and other.status = 'done'
join attempts on attempts.job_id = other.id and attempts.status = 'done'
join batches on batches.id = other.batch_id
where jobs.batch_id = :batch_id and jobs.status = 'pending' and jobs.retired = 0
"""
_JOBS_BY_MODEL = f"""
select model, status, count(*) as jobs from jobs
where batch_id = :batch_id and {COUNTED_JOBS}
group by model, status order by min(position)
"""
_CHARGES_BY_MODEL = """
select model, coalesce(sum(cost_nusd), 0) as nusd from attempts
where batch_id = :batch_id and is_byok = 0 group by model
"""
_DURATIONS = """
select attempts.model, cast(jobs.request ->> 'duration' as integer) as seconds, submitted_at, completed_at
from attempts join jobs on jobs.id = job_id
where attempts.id in (select id from attempts
  where completed_at is not null and status in ('completed', 'done', 'lost') order by id desc limit :limit)
and submitted_at is not null
"""


class NoSuchJob(LedgerError):
    """No job, or more than one, has an id that begins with the given text."""


_OPEN_ELSEWHERE = f"""
select jobs.id, paid.batch from jobs
join (
  select other.key, other.kind, batches.name as batch from attempts
  join jobs other on other.id = attempts.job_id
  join batches on batches.id = attempts.batch_id
  where attempts.batch_id <> :batch_id and attempts.{OPEN}
) paid on paid.key = jobs.key and paid.kind = jobs.kind
where jobs.batch_id = :batch_id and jobs.status = 'pending' and jobs.retired = 0
"""


@dataclass(frozen=True, slots=True)
class Event:
    """One row of a job's history. Equal statuses: a remark."""

    at: str
    from_status: str | None
    to_status: str
    detail: str | None


@dataclass(frozen=True, slots=True)
class Counts:
    """Jobs by status: those of the batch file, and those that have left it and are still open. ``retired``: those that
    have left it and are over, also by status; the others of them were never submitted."""

    by_status: Mapping[str, int]
    retired: Mapping[str, int] = field(default_factory=dict)

    def __getitem__(self, status: Status) -> int:
        return self.by_status.get(status, 0)

    @property
    def total(self) -> int:
        """All jobs but those that have left the file."""
        return sum(self.by_status.values())


@dataclass(frozen=True, slots=True)
class ProblemGroup:
    """Jobs of one status with the same error; ``job_id`` is one of them."""

    status: str
    error: str
    jobs: int
    job_id: str


@dataclass(frozen=True, slots=True)
class ModelProgress:
    """How far the jobs of one model are. ``charged_nusd``: so far, without what goes to the user's own provider key."""

    model: str
    counts: Counts
    charged_nusd: int


class Queries:
    """The reading verbs of a ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- for the scheduler ---------------------------------------------------------------------------------------------

    def pending_models(self, batch_id: int, only: str | None = None) -> list[str]:
        """Models that still have jobs to submit."""
        # Steps from model to model in the index, where `select distinct` would read every job.
        query = (
            "select model from jobs where batch_id = :batch_id and status = 'pending' and retired = 0 "
            f"and model > :after {only_condition(only)} order by model limit 1"
        )
        models = [""]
        while row := self._database.row(query, batch_id=batch_id, after=models[-1], only=only):
            models.append(row["model"])
        return models[1:]

    def pending_outputs(self, batch_id: int, only: str | None = None) -> list[tuple[str, str]]:
        """File stem and kind of each job that is still to be submitted."""
        query = "select stem, kind from jobs where batch_id = :batch_id and status = 'pending' and retired = 0 "
        rows = self._database.rows(query + only_condition(only), batch_id=batch_id, only=only)
        return [(row["stem"], row["kind"]) for row in rows]

    def reusable(self, batch_id: int, only: str | None = None) -> list[ReusableJob]:
        """Pending jobs whose request another batch of the ledger has paid for and finished."""
        rows = self._database.rows(_REUSABLE + only_condition(only), batch_id=batch_id, only=only)
        found = {row["pending_id"]: ReusableJob(*row) for row in rows}
        return list(found.values())

    def open_elsewhere(self, batch_id: int, only: str | None = None) -> dict[str, str]:
        """Pending jobs whose request another batch has submitted and has no file of yet: job id -> that batch."""
        rows = self._database.rows(_OPEN_ELSEWHERE + only_condition(only), batch_id=batch_id, only=only)
        return {row["id"]: row["batch"] for row in rows}

    def pending_keys(self, batch_id: int, only: str | None = None) -> set[str]:
        """The keys of the jobs that are still to be submitted."""
        query = "select key from jobs where batch_id = :batch_id and status = 'pending' and retired = 0 "
        return {row["key"] for row in self._database.rows(query + only_condition(only), batch_id=batch_id, only=only)}

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
        # One that has neither does not fit: its worst case is unknown.
        fits = "" if room_nusd is None else "and coalesce(jobs.estimate_high_nusd, :unpriced) <= :room"
        return self._jobs(
            f"{SELECT_JOB} where jobs.batch_id = :batch_id and jobs.status = 'pending' and jobs.retired = 0 "
            f"and jobs.model = :model and jobs.position > :after {fits} {only_condition(only)} "
            "order by jobs.position limit :limit",
            batch_id=batch_id,
            model=model,
            after=after,
            only=only,
            limit=limit,
            room=room_nusd,
            unpriced=unpriced_nusd,
        )

    def recent_submits(self, since: datetime, model: str | None) -> int:
        """Submits since a time, over all batches: what a rate limit shared by several runs counts."""
        query = f"from attempts where created_at > :since {_of_model(model)}"
        return self._database.count(query, since=timestamp(since), model=model)

    def in_flight_elsewhere(self, batch_id: int, model: str | None, now: datetime) -> int:
        """Accepted and unfinished attempts of the other batches that are being run now."""
        query = (
            "from attempts where batch_id in (select id from batches where lease_until > :now and id <> :batch_id) "
            f"and status in ('submitting', 'submitted') and {OPEN} {_of_model(model)}"
        )
        return self._database.count(query, batch_id=batch_id, model=model, now=timestamp(now))

    def durations(self, limit: int = 2000) -> list[tuple[str, int | None, float]]:
        """How long recent jobs took from acceptance to completion: (model, requested seconds, seconds it took)."""
        return [
            (model, seconds, (parse_timestamp(completed_at) - parse_timestamp(submitted_at)).total_seconds())
            for model, seconds, submitted_at, completed_at in self._database.rows(_DURATIONS, limit=limit)
        ]

    # -- attempts that need somebody -----------------------------------------------------------------------------------

    def open_attempts(self, batch_id: int) -> list[JobRecord]:
        """Everything accepted and not yet finished; retired jobs too, since they are paid for."""
        return self._jobs_by_attempt(f"latest.status in ('submitted', 'completed') and latest.{OPEN}", batch_id)

    def unsettled(self, batch_id: int | None = None) -> list[JobRecord]:
        """Ended attempts whose charge is still unknown, over one batch or the whole ledger."""
        ended = "latest.status in ('completed', 'done', 'failed', 'cancelled', 'expired', 'lost')"
        return self._jobs_by_attempt(f"latest.settled = 0 and {ended}", batch_id)

    def uncertain(self, batch_id: int | None = None) -> list[JobRecord]:
        """Every attempt whose fate is unknown, over one batch or the whole ledger."""
        return self._jobs_by_attempt(f"latest.status = 'uncertain' and latest.{OPEN}", batch_id)

    def _jobs_by_attempt(self, condition: str, batch_id: int | None) -> list[JobRecord]:
        # All attempts are found by their batches, too, because the partial indexes begin with these. The plus keeps
        # SQLite from walking all attempts in their order instead.
        batches = "= :batch_id" if batch_id is not None else "in (select id from batches)"
        query = f"{SELECT_ATTEMPT} where {condition} and latest.batch_id {batches} order by +latest.id"
        return self._jobs(query, batch_id=batch_id)

    def submitting(self, batch_id: int) -> tuple[int, int]:
        """How many requests of a batch have no answer yet, and what is reserved for them in nano-dollars."""
        query = (
            "select count(*) as requests, coalesce(sum(reserved_nusd), 0) as nusd from attempts "
            f"where batch_id = :batch_id and status = 'submitting' and {OPEN}"
        )
        [(requests, nusd)] = self._database.rows(query, batch_id=batch_id)
        return requests, nusd

    def is_submitting(self, attempt_id: int) -> bool:
        """Whether the intent still stands: no other runner has taken over and marked it uncertain."""
        return self._database.count("from attempts where id = :id and status = 'submitting'", id=attempt_id) > 0

    # -- one job -------------------------------------------------------------------------------------------------------

    def job(self, job_id: str) -> JobRecord:
        """The job with exactly this id. Raises LedgerError when there is none."""
        found = self._jobs(f"{SELECT_JOB} where jobs.id = :job_id", job_id=job_id)
        if not found:
            raise LedgerError(f"There is no job {job_id} in {self._database.path}.")
        return found[0]

    def find_job(self, prefix: str) -> JobRecord:
        """The one job whose id or remote id begins so. Raises NoSuchJob for none or several."""
        # Compared as a range, which an index finds; the last code point there is ends it.
        rows = self._database.rows(_FIND_JOB, first=prefix, last=prefix + "\U0010ffff", limit=_MATCHES_SHOWN)
        ids = [row["id"] for row in rows]
        if len(ids) == 1:
            return self.job(ids[0])
        if not ids:
            raise NoSuchJob(f"No job of {self._database.path} has an id that begins with {prefix!r}.")
        more = " and more" if len(ids) == _MATCHES_SHOWN else ""
        raise NoSuchJob(f"{prefix!r} begins the ids of several jobs: {', '.join(ids)}{more}. Type more of it.")

    def attempts(self, job_id: str) -> list[AttemptRecord]:
        """All attempts of a job, the oldest first."""
        query = f"{SELECT_ATTEMPT_ALONE} where job_id = :job_id order by number"
        return [attempt_from_row(row) for row in self._database.rows(query, job_id=job_id)]

    def attempt(self, attempt_id: int) -> AttemptRecord:
        """The attempt with exactly this id. Raises LedgerError when there is none."""
        row = self._database.row(f"{SELECT_ATTEMPT_ALONE} where id = :id", id=attempt_id)
        if row is None:
            raise LedgerError(f"There is no attempt {attempt_id} in {self._database.path}.")
        return attempt_from_row(row)

    def known_remote_ids(self, remote_ids: Iterable[str]) -> set[str]:
        """Those of these ids that belong to an attempt of this ledger."""
        query = "select remote_id from attempts where remote_id in (select value from json_each(:ids))"
        return {row["remote_id"] for row in self._database.rows(query, ids=json.dumps(list(remote_ids)))}

    def attempts_made(self, job_id: str) -> int:
        """Attempts that count against ``retries.attempts``: submitted, and not forgiven by ``retry``."""
        return self._database.count(
            "from attempts join jobs on jobs.id = job_id where job_id = :job_id "
            "and attempts.status not in ('released', 'rejected') and attempts.number > attempts_forgiven",
            job_id=job_id,
        )

    def outputs(self, job_id: str, attempt_id: int | None = None) -> list[OutputRecord]:
        """The files of a job, or of one of its attempts alone."""
        of_attempt = "" if attempt_id is None else "and attempt_id = :attempt_id"
        query = f"select {_OUTPUT} from outputs where job_id = :job_id {of_attempt} order by attempt_id, number"
        return [OutputRecord(*row) for row in self._database.rows(query, job_id=job_id, attempt_id=attempt_id)]

    def placed_files(self, batch_id: int | None = None, which: Selection = EVERY_JOB) -> list[tuple[str, OutputRecord]]:
        """Every file the ledger vouches for, with its job's id."""
        of_batch = "1 = 1" if batch_id is None else "batch_id = :batch_id"
        chosen = f"select jobs.id from jobs where {of_batch} {which.condition()}"
        query = f"select job_id, {_OUTPUT} from outputs where job_id in ({chosen}) order by id"
        rows = self._database.rows(query, batch_id=batch_id, **which.values)
        return [(job_id, OutputRecord(*output)) for job_id, *output in rows]

    def path_owner(self, path: str) -> str | None:
        """The job whose output this path is, if any."""
        row = self._database.row("select job_id from outputs where path = :path", path=path)
        return None if row is None else str(row["job_id"])

    def output_paths(self) -> set[str]:
        """The path of every output of the ledger."""
        return {row["path"] for row in self._database.rows("select path from outputs")}

    def events(self, job_id: str) -> list[Event]:
        """The history of a job, the oldest first."""
        query = "select at, from_status, to_status, detail from events where job_id = :job_id order by id"
        return [Event(*row) for row in self._database.rows(query, job_id=job_id)]

    # -- a batch -------------------------------------------------------------------------------------------------------

    def counts(self, batch_id: int, only: str | None = None) -> Counts:
        """The jobs of a batch by status."""
        query = (
            f"select status, case when {COUNTED_JOBS} then 0 else 1 end as is_retired, count(*) as jobs from jobs "
            f"where batch_id = :batch_id {only_condition(only)} group by status, is_retired"
        )
        rows = self._database.rows(query, batch_id=batch_id, only=only)
        counted = {status: jobs for status, is_retired, jobs in rows if not is_retired}
        retired = {status: jobs for status, is_retired, jobs in rows if is_retired and status != Status.PENDING}
        return Counts(counted, retired)

    def retired_outputs(self, batch_id: int) -> list[tuple[int, OutputRecord]]:
        """The files of jobs that have left the batch file and are over, each with its attempt's id."""
        query = (
            f"select attempt_id, {_OUTPUT} from outputs where job_id in (select id from jobs "
            f"where batch_id = :batch_id and not {COUNTED_JOBS}) order by attempt_id, number"
        )
        rows = self._database.rows(query, batch_id=batch_id)
        return [(attempt_id, OutputRecord(*output)) for attempt_id, *output in rows]

    def progress(self, batch_id: int) -> list[ModelProgress]:
        """How far a batch is, model by model, in the order of the file."""
        charges = self._database.rows(_CHARGES_BY_MODEL, batch_id=batch_id)
        charged: dict[str, int] = {row["model"]: row["nusd"] for row in charges}
        by_model: dict[str, dict[str, int]] = {}
        for model, status, jobs in self._database.rows(_JOBS_BY_MODEL, batch_id=batch_id):
            by_model.setdefault(model, {})[status] = jobs
        return [ModelProgress(model, Counts(found), charged.get(model, 0)) for model, found in by_model.items()]

    def reopenable(self, batch_id: int, which: Selection) -> list[str]:
        """Jobs of the file that ``retry`` may submit again, in the order of the file."""
        query = f"select id from jobs where batch_id = :batch_id and retired = 0 {which.condition()} order by +position"
        return [row["id"] for row in self._database.rows(query, batch_id=batch_id, **which.values)]

    def problems(self, batch_id: int, limit: int) -> list[ProblemGroup]:
        """What went wrong with jobs that have no output, the most frequent first; equal problems are one."""
        query = (
            "select status, error, count(*) as jobs, min(id) as job_id from jobs "
            f"where batch_id = :batch_id and {COUNTED_JOBS} and error is not null "
            "and status not in ('pending', 'done') group by status, error "
            "order by jobs desc, job_id limit :limit"
        )
        return [ProblemGroup(*row) for row in self._database.rows(query, batch_id=batch_id, limit=limit)]

    def wait_reasons(self, batch_id: int) -> list[tuple[str, int]]:
        """Why pending jobs wait: each reason with its number of jobs, the most frequent first."""
        query = (
            "select wait_reason, count(*) as jobs from jobs where batch_id = :batch_id and status = 'pending' "
            "and retired = 0 and wait_reason is not null group by wait_reason order by jobs desc"
        )
        return [(reason, jobs) for reason, jobs in self._database.rows(query, batch_id=batch_id)]

    def _jobs(self, query: str, **values: object) -> list[JobRecord]:
        return [job_from_row(row) for row in self._database.rows(query, **values)]


def _of_model(model: str | None) -> str:
    return "" if model is None else "and model = :model"
