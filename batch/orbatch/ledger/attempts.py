"""The life of an attempt, one verb for each step: one transaction, and one row of history.

Each verb names the states that it leaves and raises LedgerConflict when the attempt is elsewhere. Amounts are
nano-dollars.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from uuid import uuid4

from orbatch.ledger.budget import Caps, Committed, Refused, broken_cap, decide
from orbatch.ledger.database import Database, LedgerConflict, timestamp, utc_now
from orbatch.ledger.leases import TAKEN_OVER, LeaseLost
from orbatch.ledger.records import (
    AttemptRecord,
    Charge,
    OutputRecord,
    Reservation,
    ReusableJob,
    Settlement,
    columns_of,
)
from orbatch.ledger.schema import COUNTED, OPEN, only_condition
from orbatch.ledger.status import ENDED_REMOTELY, Status
from orbatch.ledger.transitions import add_event, insert_attempt, move, status_of, step, update_attempt

# An answer may come after its attempt was given up as uncertain, and then it is still the truth.
_UNANSWERED = (Status.SUBMITTING, Status.UNCERTAIN)
_UNCERTAIN = (Status.UNCERTAIN,)
_REOPENABLE = ENDED_REMOTELY | {Status.REJECTED, Status.LOST}
_FOUND = "resolved: found as "  # begins the history of an id that did not come in the answer
# The provider is done with it, so that its charge can be known.
_ENDED = {Status.COMPLETED, Status.DONE, Status.LOST} | ENDED_REMOTELY

# A job with what its next attempt is written from.
_TO_RESERVE = """
select jobs.id as job_id, batch_id, model, status, price_lines, estimate_low_nusd, estimate_exact_nusd,
  estimate_high_nusd, batches.lease_owner, (select count(*) + 1 from attempts where job_id = jobs.id) as number
from jobs join batches on batches.id = jobs.batch_id
where jobs.id = :job_id and jobs.retired = 0
"""
_FROM_JOB = (
    *("job_id", "batch_id", "model", "number", "price_lines"),
    *("estimate_low_nusd", "estimate_exact_nusd", "estimate_high_nusd"),
)
# What an attempt after another one of the same job has in common with it.
_AGAIN = """
select job_id, batch_id, model, origin, account, price_lines, estimate_low_nusd, estimate_exact_nusd,
  estimate_high_nusd, reserved_nusd,
  (select max(number) + 1 from attempts every where every.job_id = attempts.job_id) as number
from attempts where id = :id
"""
_REUSED = """
select jobs.id as job_id, jobs.batch_id, jobs.model, source.origin, source.account, source.price_lines,
  (select count(*) + 1 from attempts where job_id = jobs.id) as number
from jobs join attempts source on source.id = :source where jobs.id = :job_id
"""
_COMMITTED = f"""
select
  (select coalesce(sum(committed_nusd), 0) from committed where batch_id = :batch_id) as total,
  (select coalesce(sum(committed_nusd), 0) from committed where batch_id = :batch_id and model = :model) as model,
  (select coalesce(sum(committed_nusd), 0) from committed where day = :day) as day,
  (select coalesce(sum({COUNTED}), 0) from attempts where job_id = :job_id) as job
"""
_WITH_REMOTE_ID = """
select job_id from attempts where remote_id = :remote_id and origin = (select origin from attempts where id = :id)
"""
_PENDING = f"""
select id, model, estimate_high_nusd, wait_reason,
  coalesce((select sum({COUNTED}) from attempts where job_id = jobs.id), 0) as committed_nusd
from jobs where batch_id = :batch_id and status = 'pending' and retired = 0
"""
_OUTPUT_COLUMNS = columns_of(OutputRecord)
_OUTPUT = f"""
insert into outputs (job_id, attempt_id, number, {", ".join(_OUTPUT_COLUMNS)}, created_at)
values (:job_id, :attempt_id, :number, {", ".join(f":{name}" for name in _OUTPUT_COLUMNS)}, :at)
"""


class Attempts:
    """The verbs of a ledger that move jobs and money."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def _write(self) -> Iterator[tuple[sqlite3.Connection, str]]:
        with self._database.write() as db:
            yield db, timestamp(utc_now())

    # -- pending -> submitting -> submitted ----------------------------------------------------------------------------

    def reserve(
        self, job_id: str, caps: Caps, *, owner: str, origin: str, account: str, now: datetime | None = None
    ) -> Reservation | Refused:
        """pending -> submitting: write the intent and reserve the worst case, if every cap allows it.

        ``account`` tells one API key's jobs from another's (never the key). Durable when this returns. Raises LeaseLost
        when ``owner`` no longer holds the batch, LedgerMoved when the ledger is not in its place any more, and
        LedgerConflict when the job is in another state.
        """
        self._database.check_in_place()
        at = timestamp(now or utc_now())
        day = at[:10]
        # The decision and the reservation are one transaction, so that the caps hold over all processes.
        with self._database.write() as db:
            job = db.execute(_TO_RESERVE, {"job_id": job_id}).fetchone()
            if job is None or job["status"] != Status.PENDING:
                raise LedgerConflict(f"Job {job_id} is not pending any more.")
            if job["lease_owner"] != owner:
                raise LeaseLost(TAKEN_OVER)
            used = _committed(db, job["batch_id"], job["model"], day, job_id)
            decision = decide(job["model"], job["estimate_high_nusd"], caps, used)
            if isinstance(decision, Refused):
                reason = {"reason": decision.reason, "job_id": job_id}
                db.execute("update jobs set wait_reason = :reason where id = :job_id", reason)
                return decision
            key = uuid4().hex
            columns = {name: job[name] for name in _FROM_JOB} | {"status": Status.SUBMITTING, "key": key}
            columns |= {"origin": origin, "account": account, "day": day, "created_at": at}
            attempt_id = insert_attempt(db, columns | {"reserved_nusd": decision.amount})
            move(db, job_id, attempt_id, Status.PENDING, Status.SUBMITTING, at)
            return Reservation(attempt_id, job["number"], decision.amount, key)

    def committed(self, batch_id: int, model: str, now: datetime | None = None) -> Committed:
        """Charged plus reserved in the scopes of a model of this batch, for choosing what may still fit."""
        with self._database.read() as db:
            return _committed(db, batch_id, model, timestamp(now or utc_now())[:10])

    def accept(self, attempt_id: int, remote_id: str, generation_id: str | None = None) -> None:
        """submitting, uncertain -> submitted: the remote id is durable."""
        with self._write() as (db, at):
            ids = {"remote_id": remote_id, "generation_id": generation_id, "submitted_at": at}
            step(db, attempt_id, _UNANSWERED, Status.SUBMITTED, at, detail=f"remote id {remote_id}", **ids)

    def accept_late(self, attempt_id: int, remote_id: str) -> Reservation | None:
        """The id came after the user had resolved the attempt as not charged: it is a second attempt of its job.

        Submitted where the job is still pending. Where it was submitted again meanwhile, lost, with its worst case
        reserved, and None is returned: a job has one open attempt, and its charge is settled by ``orbatch resolve``.
        Raises LedgerConflict for an id that another job has.
        """
        with self._write() as (db, at):
            columns = dict(db.execute(_AGAIN, {"id": attempt_id}).fetchone())
            columns |= {"day": at[:10], "created_at": at, "key": uuid4().hex}
            job_id, status = columns["job_id"], status_of(db, columns["job_id"])
            ids = {"remote_id": remote_id, "submitted_at": at}
            if status is not Status.PENDING:
                text = f"accepted as {remote_id} after it was resolved and submitted again; it may be charged"
                late_id = insert_attempt(db, columns | ids | {"status": Status.LOST, "error": text})
                add_event(db, job_id, late_id, at, text)
                return None
            late_id = insert_attempt(db, columns | {"status": Status.SUBMITTING})
            move(db, job_id, late_id, status, Status.SUBMITTING, at, detail="answered after it was resolved")
            step(db, late_id, (Status.SUBMITTING,), Status.SUBMITTED, at, detail=f"remote id {remote_id}", **ids)
            return Reservation(late_id, columns["number"], columns["reserved_nusd"], columns["key"])

    def reuse(self, job_id: str, source: ReusableJob, outputs: Sequence[OutputRecord]) -> bool:
        """pending -> done: another batch has paid for the same request. False when the job is not pending any more."""
        with self._write() as (db, at):
            if status_of(db, job_id) is not Status.PENDING:
                return False
            columns = dict(db.execute(_REUSED, {"job_id": job_id, "source": source.attempt_id}).fetchone())
            columns |= {"status": Status.DONE, "reserved_nusd": 0, "settled": 1, "cost_nusd": 0}
            columns |= {"day": at[:10], "key": uuid4().hex}
            columns |= dict.fromkeys(("created_at", "submitted_at", "completed_at", "settled_at"), at)
            attempt_id = insert_attempt(db, columns | {"output_seconds": _seconds_of(outputs)})
            done = "update jobs set status = 'done', done_at = :at, wait_reason = null where id = :job_id"
            db.execute(done, {"job_id": job_id, "at": at})
            detail = f"reused from job {source.job_id} of batch {source.batch}"
            add_event(db, job_id, attempt_id, at, detail, Status.PENDING, Status.DONE)
            _write_outputs(db, job_id, attempt_id, outputs, at)
        return True

    def reject(self, attempt_id: int, error: str) -> None:
        """submitting, uncertain -> rejected: refused before it started, so nothing is charged."""
        with self._write() as (db, at):
            step(db, attempt_id, _UNANSWERED, Status.REJECTED, at, error=error)

    def release(self, attempt_id: int, reason: str) -> None:
        """submitting, uncertain -> pending: it certainly never started, and may be submitted again."""
        with self._write() as (db, at):
            step(db, attempt_id, _UNANSWERED, Status.PENDING, at, detail=reason, wait_reason=reason)

    def mark_uncertain(self, attempt_id: int, error: str) -> None:
        """submitting -> uncertain: it may have been accepted; the reservation stands."""
        with self._write() as (db, at):
            step(db, attempt_id, (Status.SUBMITTING,), Status.UNCERTAIN, at, error=error)

    def recover_interrupted(self, batch_id: int) -> list[str]:
        """Make uncertain what a dead runner left in ``submitting``: no answer to it is on record.

        Only the holder of the batch's lease may call this. Returns the job ids.
        """
        error = "orbatch was stopped during the request, before an answer was recorded"
        with self._write() as (db, at):
            query = f"select id from attempts where batch_id = :id and status = 'submitting' and {OPEN} order by id"
            found = db.execute(query, {"id": batch_id}).fetchall()
            return [step(db, row["id"], (Status.SUBMITTING,), Status.UNCERTAIN, at, error=error) for row in found]

    # -- submitted -> completed -> done --------------------------------------------------------------------------------

    def end(
        self, attempt_id: int, status: Status, charge: Charge, caps: Caps, *, error: str | None = None
    ) -> Settlement:
        """submitted -> completed, failed, cancelled or expired, with the charge, before any download."""
        with self._write() as (db, at):
            columns = charge.columns(at) | {"completed_at": at}
            step(db, attempt_id, (Status.SUBMITTED,), status, at, error=error, **columns)
            return _settlement(db, attempt_id, charge.cost_nusd, caps)

    def end_answered(
        self,
        attempt_id: int,
        status: Status,
        charge: Charge,
        caps: Caps,
        *,
        error: str | None = None,
        outputs: Sequence[OutputRecord] = (),
    ) -> Settlement:
        """submitting, uncertain -> done, failed or lost: the paid result was in the answer itself.

        The states between are passed in the same transaction, so that no other process sees a job halfway.
        """
        with self._write() as (db, at):
            row = db.execute("select status from attempts where id = :id", {"id": attempt_id}).fetchone()
            between = [Status.SUBMITTED, Status.COMPLETED]
            if status is Status.FAILED:
                between.remove(Status.COMPLETED)
            elif status is Status.DONE and (row is None or row["status"] != Status.UNCERTAIN):
                between = []
            # The first step writes the charge, since a cost may be written only once.
            columns = charge.columns(at) | {"submitted_at": at, "completed_at": at}
            leaves: tuple[Status, ...] = _UNANSWERED
            for enters in between:
                step(db, attempt_id, leaves, enters, at, **columns)
                leaves, columns = (enters,), {}
            job_id = step(db, attempt_id, leaves, status, at, error=error, **columns)
            _write_outputs(db, job_id, attempt_id, outputs, at)
            return _settlement(db, attempt_id, charge.cost_nusd, caps)

    def mark_done(self, attempt_id: int, outputs: Sequence[OutputRecord]) -> None:
        """completed -> done: the files are in place, verified and hashed."""
        with self._write() as (db, at):
            seconds = _seconds_of(outputs)
            job_id = step(db, attempt_id, (Status.COMPLETED,), Status.DONE, at, output_seconds=seconds)
            _write_outputs(db, job_id, attempt_id, outputs, at)

    def mark_lost(self, attempt_id: int, error: str) -> None:
        """completed -> lost: paid, but the provider no longer has the content."""
        with self._write() as (db, at):
            step(db, attempt_id, (Status.COMPLETED,), Status.LOST, at, error=error)

    def replace_outputs(
        self, attempt_id: int, outputs: Sequence[OutputRecord], detail: str = "downloaded again"
    ) -> None:
        """Record other files of a done attempt in place of the earlier ones; ``detail`` says why."""
        with self._write() as (db, at):
            row = update_attempt(db, attempt_id, "status = 'done'", {"output_seconds": _seconds_of(outputs)})
            if row is None:
                raise LedgerConflict(f"Attempt {attempt_id} is not done, so it has no files to replace.")
            db.execute("delete from outputs where attempt_id = :id", {"id": attempt_id})
            _write_outputs(db, row["job_id"], attempt_id, outputs, at)
            add_event(db, row["job_id"], attempt_id, at, detail)

    def settle(self, attempt_id: int, charge: Charge, caps: Caps) -> Settlement:
        """Record a charge that was not known when the job ended. A settled attempt is left alone."""
        with self._write() as (db, at):
            return _settle(db, attempt_id, charge, caps, at)

    # -- what the user knows of it -------------------------------------------------------------------------------------

    def attach_remote_id(self, attempt: AttemptRecord, remote_id: str) -> None:
        """uncertain -> submitted: the provider has this job under this id."""
        with self._write() as (db, at):
            _check_not_taken(db, attempt, remote_id)
            ids = {"remote_id": remote_id, "submitted_at": at}
            step(db, attempt.id, _UNCERTAIN, Status.SUBMITTED, at, detail=f"{_FOUND}{remote_id}", **ids)

    def correct_remote_id(self, attempt: AttemptRecord, remote_id: str) -> None:
        """Another id for a submitted attempt whose id did not come in its answer; the history keeps the old one.

        Raises LedgerConflict for an id that came from the provider itself: nobody knows better.
        """
        with self._write() as (db, at):
            _check_not_taken(db, attempt, remote_id)
            query = "select 1 from events where attempt_id = :id and detail like :found limit 1"
            if db.execute(query, {"id": attempt.id, "found": f"{_FOUND}%"}).fetchone() is None:
                raise LedgerConflict(
                    f"The id {attempt.remote_id} of job {attempt.job_id} came from the provider and is not replaced. "
                    "If its output cannot be retrieved, pass --lost."
                )
            if update_attempt(db, attempt.id, "status = 'submitted'", {"remote_id": remote_id}) is None:
                raise LedgerConflict(f"Attempt {attempt.number} of job {attempt.job_id} is not submitted any more.")
            add_event(db, attempt.job_id, attempt.id, at, f"{_FOUND}{remote_id}, not {attempt.remote_id}")

    def give_up(self, attempt: AttemptRecord) -> None:
        """submitted, completed -> lost: the user says that it cannot be retrieved. A charge that is not known stays
        reserved."""
        with self._write() as (db, at):
            leaves = (Status.SUBMITTED, Status.COMPLETED)
            step(db, attempt.id, leaves, Status.LOST, at, error="given up: its output could not be retrieved")

    def resolve_not_charged(self, attempt: AttemptRecord) -> None:
        """uncertain -> pending: nothing was charged; it may be submitted again."""
        with self._write() as (db, at):
            step(db, attempt.id, _UNCERTAIN, Status.PENDING, at, detail="resolved: not charged")

    def resolve_charged(self, attempt: AttemptRecord, cost_nusd: int) -> None:
        """uncertain -> lost: it was charged and cannot be found."""
        with self._write() as (db, at):
            step(db, attempt.id, _UNCERTAIN, Status.LOST, at, error="charged, and its result was not found")
            _settle(db, attempt.id, Charge(cost_nusd), Caps(), at)

    def settle_manually(self, attempt: AttemptRecord, cost_nusd: int) -> None:
        """Settle an ended attempt whose charge the provider never reported."""
        with self._write() as (db, at):
            row = db.execute("select settled from attempts where id = :id", {"id": attempt.id}).fetchone()
            if row["settled"]:
                raise LedgerConflict(f"Attempt {attempt.number} of job {attempt.job_id} is settled already.")
            _settle(db, attempt.id, Charge(cost_nusd, attempt.is_byok), Caps(), at)
            add_event(db, attempt.job_id, attempt.id, at, "resolved: charge settled by hand")

    # -- around pending ------------------------------------------------------------------------------------------------

    def add_event(self, job_id: str, attempt_id: int | None, text: str) -> None:
        """Add a line to the history of a job that stays where it is, and show it beside the job."""
        with self._write() as (db, at):
            add_event(db, job_id, attempt_id, at, text)
            db.execute("update jobs set error = :text where id = :job_id", {"text": text, "job_id": job_id})

    def set_wait_reason(self, batch_id: int, model: str | None, reason: str) -> None:
        """Note why the pending jobs of a batch, or of one model, are not submitted, where no reason is noted."""
        with self._database.write() as db:
            db.execute(
                "update jobs set wait_reason = :reason where batch_id = :batch_id and status = 'pending' "
                f"and retired = 0 and wait_reason is null {'' if model is None else 'and model = :model'}",
                {"reason": reason, "batch_id": batch_id, "model": model},
            )

    def set_wait_reasons(self, reasons: Mapping[str, str]) -> None:
        """Note why these pending jobs are not submitted: job id -> reason."""
        with self._database.write() as db:
            db.executemany(
                "update jobs set wait_reason = ? where id = ? and status = 'pending'",
                [(reason, job_id) for job_id, reason in reasons.items()],
            )

    def mark_over_budget(self, batch_id: int, caps: Caps, only: str | None = None) -> int:
        """Note beside every pending job that no cap has room for how much is missing. Returns how many there are."""
        with self._write() as (db, at):
            charged = db.execute("select distinct model from committed where batch_id = :id", {"id": batch_id})
            models = [row["model"] for row in charged] + [""]  # "": one without attempts
            scopes = {model: _committed(db, batch_id, model, at[:10]) for model in models}
            # Few kinds of jobs differ in what is decided of them; 100,000 alike are decided once.
            reasons: dict[tuple[str, int | None, int], str | None] = {}
            count = 0
            changed = []
            for job in db.execute(_PENDING + only_condition(only), {"batch_id": batch_id, "only": only}):
                kind = (job["model"], job["estimate_high_nusd"], job["committed_nusd"])
                if kind not in reasons:
                    used = replace(scopes.get(job["model"], scopes[""]), job=job["committed_nusd"])
                    decision = decide(job["model"], job["estimate_high_nusd"], caps, used)
                    reasons[kind] = decision.reason if isinstance(decision, Refused) else None
                reason = reasons[kind]
                count += reason is not None
                if reason not in (None, job["wait_reason"]):
                    changed.append({"reason": reason, "id": job["id"]})
            db.executemany("update jobs set wait_reason = :reason where id = :id", changed)
        return count

    def reopen(self, job_ids: Iterable[str], *, reset_attempts: bool) -> int:
        """rejected, failed, cancelled, expired or lost -> pending: a new attempt, by policy or by ``retry``.

        ``reset_attempts``: attempts so far no longer count against ``retries.attempts``. A job in another state is left
        alone. Returns how many were reopened.
        """
        reopened = 0
        with self._write() as (db, at):
            for job_id in job_ids:
                old = status_of(db, job_id)
                if old not in _REOPENABLE:
                    continue
                move(db, job_id, None, old, Status.PENDING, at, detail="to be submitted again")
                if reset_attempts:
                    made = "select count(*) from attempts where job_id = jobs.id"
                    db.execute(f"update jobs set attempts_forgiven = ({made}) where id = :id", {"id": job_id})
                reopened += 1
        return reopened


def _committed(db: sqlite3.Connection, batch_id: int, model: str, day: str, job_id: str = "") -> Committed:
    """Charged plus reserved so far in every scope of a cap; ``job_id`` "" for a job that was never submitted."""
    values = {"batch_id": batch_id, "model": model, "day": day, "job_id": job_id}
    return Committed(**dict(db.execute(_COMMITTED, values).fetchone()))


def _check_not_taken(db: sqlite3.Connection, attempt: AttemptRecord, remote_id: str) -> None:
    taken = db.execute(_WITH_REMOTE_ID, {"remote_id": remote_id, "id": attempt.id}).fetchone()
    if taken is not None:
        raise LedgerConflict(f"{remote_id} already belongs to job {taken['job_id']} of this ledger.")


def _settle(db: sqlite3.Connection, attempt_id: int, charge: Charge, caps: Caps, at: str) -> Settlement:
    """Put the charge in the reservation's place; a settled attempt is left alone.

    Raises LedgerConflict for an attempt that has not ended.
    """
    row = db.execute("select status, settled, cost_nusd from attempts where id = :id", {"id": attempt_id}).fetchone()
    if row is None or row["status"] not in _ENDED:
        raise LedgerConflict(f"Attempt {attempt_id} has not ended, so its charge cannot be recorded.")
    if row["settled"]:
        return Settlement(row["cost_nusd"])
    update_attempt(db, attempt_id, "settled = 0", charge.columns(at))
    return _settlement(db, attempt_id, charge.cost_nusd, caps)


def _settlement(db: sqlite3.Connection, attempt_id: int, cost_nusd: int | None, caps: Caps) -> Settlement:
    """What a charge that was just written means for the caps. None: not known, the reservation stands."""
    if cost_nusd is None:
        return Settlement(None)
    row = db.execute(
        "select batch_id, model, day, job_id, reserved_nusd from attempts where id = :id", {"id": attempt_id}
    ).fetchone()
    reserved = row["reserved_nusd"]
    if reserved is None or cost_nusd <= reserved:
        return Settlement(cost_nusd)
    used = _committed(db, row["batch_id"], row["model"], row["day"], row["job_id"])
    return Settlement(cost_nusd, cost_nusd - reserved, broken_cap(row["model"], caps, used))


def _seconds_of(outputs: Sequence[OutputRecord]) -> float | None:
    """Length of all outputs together; None where none has one."""
    seconds = [output.seconds for output in outputs if output.seconds is not None]
    return sum(seconds) if seconds else None


def _write_outputs(
    db: sqlite3.Connection, job_id: str, attempt_id: int, outputs: Sequence[OutputRecord], at: str
) -> None:
    for number, output in enumerate(outputs):
        # Not `asdict`, which takes longer than the statement.
        values = {name: getattr(output, name) for name in _OUTPUT_COLUMNS}
        db.execute(_OUTPUT, {**values, "job_id": job_id, "attempt_id": attempt_id, "number": number, "at": at})
