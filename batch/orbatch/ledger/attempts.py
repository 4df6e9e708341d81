"""The life of an attempt, one verb for each step: one transaction, and one row of history.

Each verb names the states that it leaves and raises LedgerConflict when the attempt is elsewhere. Amounts are
nano-dollars.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from orbatch.ledger.budget import Caps, Committed, Refused, broken_cap, decide
from orbatch.ledger.database import Database, LedgerConflict, timestamp, utc_now
from orbatch.ledger.leases import LeaseLost
from orbatch.ledger.queries import ONLY
from orbatch.ledger.records import AttemptRecord, Charge, OutputRecord, Reservation, Settlement
from orbatch.ledger.schema import OPEN
from orbatch.ledger.status import ENDED_REMOTELY, Status
from orbatch.ledger.totals import COMMITTED, COMMITTED_BY_ATTEMPT
from orbatch.ledger.transitions import add_event, move, status_of, step

# An answer may come after its attempt was given up as uncertain, and then it is still the truth.
_UNANSWERED = (Status.SUBMITTING, Status.UNCERTAIN)
_UNCERTAIN = (Status.UNCERTAIN,)
_REOPENABLE = ENDED_REMOTELY | {Status.REJECTED}
# The provider is done with it, so that its charge can be known.
_ENDED = {Status.COMPLETED, Status.DONE, Status.LOST} | ENDED_REMOTELY

# A job with what its next attempt is written from.
_TO_RESERVE = """
select jobs.id, batch_id, model, status, price_lines, estimate_low_nusd, estimate_exact_nusd, estimate_high_nusd,
  batches.lease_owner, (select count(*) + 1 from attempts where job_id = jobs.id) as number
from jobs join batches on batches.id = jobs.batch_id
where jobs.id = ? and jobs.retired = 0
"""
_INTENT = """
insert into attempts (job_id, batch_id, model, number, status, origin, account, day, price_lines, estimate_low_nusd,
  estimate_exact_nusd, estimate_high_nusd, reserved_nusd, created_at)
values (:id, :batch_id, :model, :number, 'submitting', :origin, :account, :day, :price_lines, :estimate_low_nusd,
  :estimate_exact_nusd, :estimate_high_nusd, :reserved_nusd, :at)
"""
_COMMITTED = f"""
select
  (select coalesce(sum({COMMITTED}), 0) from spend where batch_id = :batch) as total,
  (select coalesce(sum({COMMITTED}), 0) from spend where batch_id = :batch and model = :model) as model,
  (select coalesce(sum({COMMITTED}), 0) from spend where day = :day) as day,
  (select coalesce(sum({COMMITTED_BY_ATTEMPT.format("attempts")}), 0) from attempts where job_id = :job) as job
"""
_PENDING = f"""
select id, model, estimate_high_nusd as high, hold, coalesce(
  (select sum({COMMITTED_BY_ATTEMPT.format("attempts")}) from attempts where job_id = jobs.id), 0) as used
from jobs where batch_id = ? and status = 'pending' and retired = 0 and {ONLY}
"""
_OUTPUT = """
insert into outputs (job_id, attempt_id, number, path, bytes, sha256, mime_type, seconds, width, height, fps,
  video_codec, audio_codec, warning, created_at)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


class Attempts:
    """The verbs of a ledger that move jobs and money."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def _at(self) -> Iterator[tuple[sqlite3.Connection, str]]:
        with self._database.write() as db:
            yield db, timestamp(utc_now())

    # -- pending -> submitting -> submitted ----------------------------------------------------------------------------

    def reserve(
        self,
        job_id: str,
        caps: Caps,
        *,
        owner: str,
        origin: str,
        account: str,
        resubmit: bool = False,
        now: datetime | None = None,
    ) -> Reservation | Refused:
        """pending -> submitting: write the intent and reserve the worst case, if every cap allows it.

        ``account`` tells one API key's jobs from another's (never the key). ``resubmit`` also takes an uncertain job:
        its earlier attempt stays reserved and open, so that both count. Durable when this returns. Raises LeaseLost
        when ``owner`` no longer holds the batch, LedgerConflict when the job is in another state.
        """
        at = timestamp(now or utc_now())
        day = at[:10]
        with self._database.write() as db:
            job = db.execute(_TO_RESERVE, (job_id,)).fetchone()
            if job is None or job["status"] not in (Status.PENDING, *(_UNCERTAIN if resubmit else ())):
                raise LedgerConflict(f"Job {job_id} is not pending any more.")
            if job["lease_owner"] != owner:
                raise LeaseLost("Another runner has taken this batch over, because this one was silent for too long.")
            used = _committed(db, job["batch_id"], job["model"], day, job_id)
            decision = decide(job["model"], job["estimate_high_nusd"], caps, used)
            if isinstance(decision, Refused):
                db.execute("update jobs set hold = ? where id = ?", (decision.reason, job_id))
                return decision
            values = {"origin": origin, "account": account, "day": day, "at": at, "reserved_nusd": decision.amount}
            attempt_id = db.execute(_INTENT, {**dict(job), **values}).lastrowid
            assert attempt_id is not None
            if job["status"] == Status.UNCERTAIN:
                detail = "sent again by uncertain: resubmit; the earlier attempt stays reserved"
                move(db, job_id, attempt_id, Status.UNCERTAIN, Status.PENDING, at, detail=detail)
            move(db, job_id, attempt_id, Status.PENDING, Status.SUBMITTING, at)
            return Reservation(attempt_id, job["number"], decision.amount)

    def committed(self, batch_id: int, model: str, now: datetime | None = None) -> Committed:
        """Charged plus reserved in the scopes of a model of this batch, for choosing what may still fit."""
        with self._database.read() as db:
            return _committed(db, batch_id, model, timestamp(now or utc_now())[:10])

    def accept(self, attempt_id: int, remote_id: str, generation_id: str | None = None) -> None:
        """-> submitted: the remote id is durable."""
        with self._at() as (db, at):
            ids = {"remote_id": remote_id, "generation_id": generation_id, "submitted_at": at}
            step(db, attempt_id, _UNANSWERED, Status.SUBMITTED, at, detail=f"remote id {remote_id}", **ids)

    def reject(self, attempt_id: int, error: str) -> None:
        """-> rejected: refused before it started, so nothing is charged."""
        with self._at() as (db, at):
            step(db, attempt_id, _UNANSWERED, Status.REJECTED, at, error=error)

    def release(self, attempt_id: int, reason: str) -> None:
        """-> pending: it certainly never started, and may be sent again."""
        with self._at() as (db, at):
            step(db, attempt_id, _UNANSWERED, Status.PENDING, at, detail=reason, hold=reason)

    def mark_uncertain(self, attempt_id: int, error: str) -> None:
        """-> uncertain: it may have been accepted; the reservation stands."""
        with self._at() as (db, at):
            step(db, attempt_id, (Status.SUBMITTING,), Status.UNCERTAIN, at, error=error)

    def recover_interrupted(self, batch_id: int) -> list[str]:
        """What a dead runner left in ``submitting`` has no answer on record: all of it becomes uncertain.

        Only the holder of the batch's lease may call this. Returns the job ids.
        """
        error = "orbatch was stopped while the request was on its way, before an answer was recorded"
        with self._at() as (db, at):
            found = db.execute(
                f"select id from attempts where batch_id = ? and status = 'submitting' and {OPEN} order by id",
                (batch_id,),
            ).fetchall()
            return [step(db, row["id"], (Status.SUBMITTING,), Status.UNCERTAIN, at, error=error) for row in found]

    # -- submitted -> completed -> done --------------------------------------------------------------------------------

    def end(
        self, attempt_id: int, status: Status, charge: Charge, caps: Caps, *, error: str | None = None
    ) -> Settlement:
        """submitted -> completed, failed, cancelled or expired, with the charge, before any download."""
        with self._at() as (db, at):
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
        """submitting -> done, failed or lost: the paid result was in the answer itself. The states between are passed
        in one transaction, so that no other process sees a job that is half through."""
        with self._at() as (db, at):
            row = db.execute("select status from attempts where id = ?", (attempt_id,)).fetchone()
            between: tuple[Status, ...] = (Status.SUBMITTED, Status.COMPLETED)
            if status is Status.FAILED:
                between = (Status.SUBMITTED,)
            elif status is Status.DONE and (row is None or row["status"] != Status.UNCERTAIN):
                between = ()
            columns = charge.columns(at) | {"submitted_at": at, "completed_at": at}
            leaves: tuple[Status, ...] = _UNANSWERED
            for enters in (*between, status):
                reason = error if enters is status else None
                job_id = step(db, attempt_id, leaves, enters, at, error=reason, **columns)
                leaves = (enters,)
            _write_outputs(db, job_id, attempt_id, outputs, at)
            return _settlement(db, attempt_id, charge.cost_nusd, caps)

    def mark_done(self, attempt_id: int, outputs: Sequence[OutputRecord]) -> None:
        """completed -> done: the files are in place, verified and hashed."""
        with self._at() as (db, at):
            seconds = _seconds_of(outputs)
            job_id = step(db, attempt_id, (Status.COMPLETED,), Status.DONE, at, output_seconds=seconds)
            _write_outputs(db, job_id, attempt_id, outputs, at)

    def mark_lost(self, attempt_id: int, error: str) -> None:
        """completed -> lost: paid, but the provider no longer has the content."""
        with self._at() as (db, at):
            step(db, attempt_id, (Status.COMPLETED,), Status.LOST, at, error=error)

    def replace_outputs(self, attempt_id: int, outputs: Sequence[OutputRecord]) -> None:
        """The files of a done attempt were downloaded again: what is on disk now is what the ledger says."""
        with self._at() as (db, at):
            row = db.execute(
                "update attempts set output_seconds = ? where id = ? and status = 'done' returning job_id",
                (_seconds_of(outputs), attempt_id),
            ).fetchone()
            if row is None:
                raise LedgerConflict(f"Attempt {attempt_id} is not done, so it has no files to replace.")
            db.execute("delete from outputs where attempt_id = ?", (attempt_id,))
            _write_outputs(db, row["job_id"], attempt_id, outputs, at)
            add_event(db, row["job_id"], attempt_id, at, "fetched again")

    def settle(self, attempt_id: int, charge: Charge, caps: Caps) -> Settlement:
        """Record a charge that was not known when the job ended. A settled attempt is left alone."""
        with self._at() as (db, at):
            return _settle(db, attempt_id, charge, caps, at)

    # -- by the user's word --------------------------------------------------------------------------------------------

    def attach_remote_id(self, attempt: AttemptRecord, remote_id: str) -> None:
        """uncertain -> submitted: the provider has this job under this id."""
        with self._at() as (db, at):
            taken = db.execute(
                "select job_id from attempts where remote_id = ? "
                "and origin = (select origin from attempts where id = ?)",
                (remote_id, attempt.id),
            ).fetchone()
            if taken is not None:
                raise LedgerConflict(f"{remote_id} already belongs to job {taken['job_id']} of this ledger.")
            detail = f"resolved: found as {remote_id}"
            ids = {"remote_id": remote_id, "submitted_at": at}
            step(db, attempt.id, _UNCERTAIN, Status.SUBMITTED, at, detail=detail, **ids)

    def resolve_not_charged(self, attempt: AttemptRecord) -> None:
        """uncertain -> pending: nothing was charged; free to run again."""
        with self._at() as (db, at):
            step(db, attempt.id, _UNCERTAIN, Status.PENDING, at, detail="resolved: not charged")

    def resolve_charged(self, attempt: AttemptRecord, cost_nusd: int) -> None:
        """uncertain -> lost: it was charged and cannot be found."""
        with self._at() as (db, at):
            step(db, attempt.id, _UNCERTAIN, Status.LOST, at, error="charged, and its result was not found")
            _settle(db, attempt.id, Charge(cost_nusd), Caps(), at)

    def settle_manually(self, attempt: AttemptRecord, cost_nusd: int) -> None:
        """Settle an ended attempt whose charge the provider never reported."""
        with self._at() as (db, at):
            if not db.execute("select 1 from attempts where id = ? and settled = 0", (attempt.id,)).fetchone():
                raise LedgerConflict(f"Attempt {attempt.number} of job {attempt.job_id} is settled already.")
            _settle(db, attempt.id, Charge(cost_nusd, attempt.is_byok), Caps(), at)
            add_event(db, attempt.job_id, attempt.id, at, "resolved: charge settled by hand")

    # -- around pending ------------------------------------------------------------------------------------------------

    def add_event(self, job_id: str, attempt_id: int | None, text: str) -> None:
        """Add a line to the history of a job that stays where it is, and show it beside the job."""
        with self._at() as (db, at):
            add_event(db, job_id, attempt_id, at, text)
            db.execute("update jobs set error = ? where id = ?", (text, job_id))

    def set_wait_reason(self, batch_id: int, model: str | None, reason: str) -> None:
        """Say beside all pending jobs of a batch, or of one model, why they are not sent, where no reason is said."""
        with self._database.write() as db:
            db.execute(
                "update jobs set hold = ? where batch_id = ? and status = 'pending' and retired = 0 "
                "and hold is null and (? is null or model = ?)",
                (reason, batch_id, model, model),
            )

    def mark_over_budget(self, batch_id: int, caps: Caps, only: str | None = None) -> int:
        """Say beside every pending job that no cap has room for what is missing. Returns how many there are."""
        with self._at() as (db, at):
            models = db.execute("select distinct model from spend where batch_id = ?", (batch_id,)).fetchall()
            scopes = {name: _committed(db, batch_id, name, at[:10]) for (name,) in [*models, ("",)]}
            # Few kinds of jobs differ in what is decided of them; 100,000 alike are decided once.
            reasons: dict[tuple[str, int | None, int], str | None] = {}
            held = 0
            news = []
            for job_id, model, high, hold, used in db.execute(_PENDING, (batch_id, *[only] * 4)):
                kind = (model, high, used)
                if kind not in reasons:
                    decision = decide(model, high, caps, replace(scopes.get(model, scopes[""]), job=used))
                    reasons[kind] = decision.reason if isinstance(decision, Refused) else None
                held += reasons[kind] is not None
                if reasons[kind] not in (None, hold):
                    news.append((reasons[kind], job_id))
            db.executemany("update jobs set hold = ? where id = ?", news)
        return held

    def reopen(self, job_ids: Iterable[str], *, reset_attempts: bool) -> int:
        """rejected, failed, cancelled or expired -> pending: a new attempt, by policy or by ``retry``.

        ``reset_attempts``: attempts so far no longer count against ``retries.attempts``. A job in another state is left
        alone, and so is one of which an attempt is still open. Returns how many were reopened.
        """
        reopened = 0
        with self._at() as (db, at):
            for job_id in job_ids:
                old = status_of(db, job_id)
                open_one = db.execute(f"select 1 from attempts where job_id = ? and {OPEN}", (job_id,)).fetchone()
                if old not in _REOPENABLE or open_one is not None:
                    continue
                move(db, job_id, None, old, Status.PENDING, at, detail="to be sent again")
                if reset_attempts:
                    made = "select count(*) from attempts where job_id = jobs.id"
                    db.execute(f"update jobs set attempts_forgiven = ({made}) where id = ?", (job_id,))
                reopened += 1
        return reopened


def _committed(db: sqlite3.Connection, batch_id: int, model: str, day: str, job_id: str = "") -> Committed:
    """Charged plus reserved so far in every scope of a cap; ``job_id`` "" for a job that was never sent."""
    values = {"batch": batch_id, "model": model, "day": day, "job": job_id}
    return Committed(**dict(db.execute(_COMMITTED, values).fetchone()))


def _settle(db: sqlite3.Connection, attempt_id: int, charge: Charge, caps: Caps, at: str) -> Settlement:
    """Put the charge in the reservation's place; a settled attempt is left alone. Raises LedgerConflict for one that
    has not ended."""
    row = db.execute("select status, settled, cost_nusd from attempts where id = ?", (attempt_id,)).fetchone()
    if row is None or row["status"] not in _ENDED:
        raise LedgerConflict(f"Attempt {attempt_id} has not ended, so its charge cannot be recorded.")
    if row["settled"]:
        return Settlement(row["cost_nusd"])
    columns = charge.columns(at)
    changes = ", ".join(f"{name} = ?" for name in columns)
    db.execute(f"update attempts set {changes} where id = ?", (*columns.values(), attempt_id))
    return _settlement(db, attempt_id, charge.cost_nusd, caps)


def _settlement(db: sqlite3.Connection, attempt_id: int, cost_nusd: int | None, caps: Caps) -> Settlement:
    """What a charge that was just written means for the caps. None: not known, the reservation stands."""
    if cost_nusd is None:
        return Settlement(None)
    batch_id, model, day, job_id, reserved = db.execute(
        "select batch_id, model, day, job_id, reserved_nusd from attempts where id = ?", (attempt_id,)
    ).fetchone()
    if reserved is None or cost_nusd <= reserved:
        return Settlement(cost_nusd)
    now = _committed(db, batch_id, model, day, job_id)
    return Settlement(cost_nusd, cost_nusd - reserved, broken_cap(model, caps, now))


def _seconds_of(outputs: Sequence[OutputRecord]) -> float | None:
    """Length of all outputs together; None where none has one."""
    seconds = [output.seconds for output in outputs if output.seconds is not None]
    return sum(seconds) if seconds else None


def _write_outputs(
    db: sqlite3.Connection, job_id: str, attempt_id: int, outputs: Sequence[OutputRecord], at: str
) -> None:
    for number, out in enumerate(outputs):
        found = (out.seconds, out.width, out.height, out.fps, out.video_codec, out.audio_codec, out.warning)
        values = (job_id, attempt_id, number, out.path, out.bytes, out.sha256, out.mime_type, *found, at)
        db.execute(_OUTPUT, values)
