"""The paid step and its outcomes: intent and reservation before the request leaves, and what became of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from orbatch.ledger import budget, transitions
from orbatch.ledger.budget import Allowed, Caps, Committed, Refused
from orbatch.ledger.database import LedgerConflict, Transactions, timestamp, utc_now
from orbatch.ledger.leases import LeaseLost
from orbatch.ledger.queries import ONLY
from orbatch.ledger.records import AttemptRecord, OutputRecord, Reservation, Settlement
from orbatch.ledger.schema import OPEN, RELEASED
from orbatch.ledger.status import ENDED_REMOTELY, Status
from orbatch.ledger.totals import COMMITTED, COMMITTED_BY_ATTEMPT

if TYPE_CHECKING:
    from orbatch.ledger.store import Ledger


# An attempt that the provider is done with, so that its charge can be known.
_ENDED = frozenset({Status.COMPLETED, Status.DONE, Status.LOST}) | ENDED_REMOTELY

_COMMITTED = f"""
select
  (select coalesce(sum({COMMITTED}), 0) from spend where batch_id = :batch) as total,
  (select coalesce(sum({COMMITTED}), 0) from spend where batch_id = :batch and model = :model) as model,
  (select coalesce(sum({COMMITTED}), 0) from spend where day = :day) as day,
  (select coalesce(sum({COMMITTED_BY_ATTEMPT.format("attempts")}), 0) from attempts where job_id = :job) as job
"""

_CHARGED = "select batch_id, model, day, job_id, status, settled, cost_nusd, reserved_nusd from attempts where id = ?"


def committed(db: sqlite3.Connection, batch_id: int, model: str, day: str, job_id: str) -> Committed:
    """Charged plus reserved so far in every scope of a cap; ``job_id`` "" for a job that was never sent."""
    values = {"batch": batch_id, "model": model, "day": day, "job": job_id}
    return Committed(**dict(db.execute(_COMMITTED, values).fetchone()))


def settle(
    db: sqlite3.Connection, attempt_id: int, cost_nusd: int | None, is_byok: bool, caps: Caps, at: str
) -> Settlement:
    """Put the charge in the reservation's place. A charge that is not known (None) leaves the reservation standing; a
    settled attempt is left alone. Raises LedgerConflict for one that has not ended."""
    if cost_nusd is None:
        return Settlement(None)
    row = db.execute(_CHARGED, (attempt_id,)).fetchone()
    if row is None or row["status"] not in _ENDED:
        raise LedgerConflict(f"Attempt {attempt_id} has not ended, so its charge cannot be recorded.")
    if row["settled"]:
        return Settlement(row["cost_nusd"])
    columns = charge(cost_nusd, is_byok, at)
    db.execute(
        f"update attempts set {', '.join(f'{name} = ?' for name in columns)} where id = ? and settled = 0",
        (*columns.values(), attempt_id),
    )
    return _against_reservation(db, row, cost_nusd, caps)


def charge(cost_nusd: int, is_byok: bool, at: str) -> dict[str, object]:
    """The columns of an attempt whose charge is known."""
    return {"cost_nusd": cost_nusd, "is_byok": int(is_byok), "settled": 1, "settled_at": at}


def of_charged(db: sqlite3.Connection, attempt_id: int, cost_nusd: int, caps: Caps) -> Settlement:
    """What becomes of the charge of an attempt that was written together with its end."""
    return _against_reservation(db, db.execute(_CHARGED, (attempt_id,)).fetchone(), cost_nusd, caps)


def _against_reservation(db: sqlite3.Connection, row: sqlite3.Row, cost_nusd: int, caps: Caps) -> Settlement:
    if row["reserved_nusd"] is None or cost_nusd <= row["reserved_nusd"]:
        return Settlement(cost_nusd)
    now = committed(db, row["batch_id"], row["model"], row["day"], row["job_id"])
    return Settlement(cost_nusd, cost_nusd - row["reserved_nusd"], budget.broken_cap(row["model"], caps, now))


class Finishing(Transactions):
    """The verbs from ``submitted`` on."""

    def complete(
        self, attempt_id: int, cost_nusd: int | None, *, is_byok: bool, generation_id: str | None, caps: Caps
    ) -> Settlement:
        """submitted -> completed: the charge is recorded before the download. None: not known yet, the reservation
        stands."""
        return self._ended(attempt_id, Status.COMPLETED, None, cost_nusd, is_byok, generation_id, caps)

    def end(
        self,
        attempt_id: int,
        status: Status,
        error: str,
        *,
        cost_nusd: int | None,
        is_byok: bool = False,
        generation_id: str | None = None,
        caps: Caps,
    ) -> Settlement:
        """submitted -> failed, cancelled or expired. Without a reported cost the reservation stands."""
        return self._ended(attempt_id, status, error, cost_nusd, is_byok, generation_id, caps)

    def finish(self, attempt_id: int, outputs: Sequence[OutputRecord]) -> None:
        """completed -> done: the files are in place, verified and hashed."""
        at = timestamp(utc_now())
        with self.writing() as db:
            columns = {"output_seconds": seconds_of(outputs)}
            job_id = transitions.step(db, attempt_id, (Status.COMPLETED,), Status.DONE, at, columns=columns)
            write_outputs(db, job_id, attempt_id, outputs, at)

    def lose(self, attempt_id: int, error: str) -> None:
        """completed -> lost: paid, but the provider no longer has the content."""
        with self.writing() as db:
            transitions.step(db, attempt_id, (Status.COMPLETED,), Status.LOST, timestamp(utc_now()), error=error)

    def replace_outputs(self, attempt_id: int, outputs: Sequence[OutputRecord]) -> None:
        """The files of a finished attempt were fetched again: what is on disk now is what the ledger says."""
        at = timestamp(utc_now())
        with self.writing() as db:
            row = db.execute(
                "update attempts set output_seconds = ? where id = ? and status = 'done' returning job_id",
                (seconds_of(outputs), attempt_id),
            ).fetchone()
            if row is None:
                raise LedgerConflict(f"Attempt {attempt_id} is not done, so it has no files to replace.")
            db.execute("delete from outputs where attempt_id = ?", (attempt_id,))
            write_outputs(db, row["job_id"], attempt_id, outputs, at)
            transitions.remark(db, row["job_id"], attempt_id, at, "fetched again")

    def settle(self, attempt_id: int, cost_nusd: int, *, is_byok: bool, caps: Caps) -> Settlement:
        """Record a charge that was not known when the job ended. A settled attempt is left alone."""
        with self.writing() as db:
            return settle(db, attempt_id, cost_nusd, is_byok, caps, timestamp(utc_now()))

    def _ended(
        self,
        attempt_id: int,
        status: Status,
        error: str | None,
        cost_nusd: int | None,
        is_byok: bool,
        generation_id: str | None,
        caps: Caps,
    ) -> Settlement:
        at = timestamp(utc_now())
        columns: dict[str, object] = {"completed_at": at, "is_byok": int(is_byok)}
        if generation_id is not None:
            columns["generation_id"] = generation_id
        if cost_nusd is not None:
            columns |= charge(cost_nusd, is_byok, at)
        with self.writing() as db:
            transitions.step(db, attempt_id, (Status.SUBMITTED,), status, at, columns=columns, error=error)
            return Settlement(None) if cost_nusd is None else of_charged(db, attempt_id, cost_nusd, caps)


def seconds_of(outputs: Sequence[OutputRecord]) -> float | None:
    """Length of all outputs together; None where none has one."""
    seconds = [output.seconds for output in outputs if output.seconds is not None]
    return sum(seconds) if seconds else None


def write_outputs(
    db: sqlite3.Connection, job_id: str, attempt_id: int, outputs: Sequence[OutputRecord], at: str
) -> None:
    """Inside the transaction that makes the attempt done."""
    db.executemany(
        "insert into outputs (job_id, attempt_id, number, path, bytes, sha256, mime_type, seconds, width, height, "
        "fps, video_codec, audio_codec, warning, created_at) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                *(job_id, attempt_id, number, out.path, out.bytes, out.sha256, out.mime_type, out.seconds),
                *(out.width, out.height, out.fps, out.video_codec, out.audio_codec, out.warning, at),
            )
            for number, out in enumerate(outputs)
        ],
    )


_UNCERTAIN = (Status.UNCERTAIN,)


class Resolving(Transactions):
    """The verbs of ``resolve``. Each raises LedgerConflict when there is nothing to resolve any more."""

    def attach_remote_id(self, attempt: AttemptRecord, remote_id: str) -> None:
        """uncertain -> submitted: the provider has this job under this id."""
        at = timestamp(utc_now())
        with self.writing() as db:
            taken = db.execute(
                "select job_id from attempts where remote_id = ? "
                "and origin = (select origin from attempts where id = ?)",
                (remote_id, attempt.id),
            ).fetchone()
            if taken is not None:
                raise LedgerConflict(f"{remote_id} already belongs to job {taken['job_id']} of this ledger.")
            columns = {"remote_id": remote_id, "submitted_at": at}
            detail = f"resolved: found as {remote_id}"
            transitions.step(db, attempt.id, _UNCERTAIN, Status.SUBMITTED, at, columns=columns, detail=detail)

    def resolve_not_charged(self, attempt: AttemptRecord) -> None:
        """uncertain -> pending: nothing was charged; free to run again."""
        at = timestamp(utc_now())
        with self.writing() as db:
            transitions.step(
                db,
                attempt.id,
                _UNCERTAIN,
                Status.PENDING,
                at,
                columns=transitions.free_of_charge(at),
                attempt_status=RELEASED,
                detail="resolved: not charged",
            )

    def resolve_charged(self, attempt: AttemptRecord, cost_nusd: int) -> None:
        """uncertain -> lost: it was charged and cannot be found."""
        at = timestamp(utc_now())
        with self.writing() as db:
            error = "charged, and its result was not found"
            transitions.step(db, attempt.id, _UNCERTAIN, Status.LOST, at, error=error)
            settle(db, attempt.id, cost_nusd, False, Caps(), at)

    def settle_manually(self, attempt: AttemptRecord, cost_nusd: int) -> None:
        """Settle an ended attempt whose charge the provider never reported."""
        at = timestamp(utc_now())
        with self.writing() as db:
            open_one = db.execute("select 1 from attempts where id = ? and settled = 0", (attempt.id,)).fetchone()
            if open_one is None:
                raise LedgerConflict(f"Attempt {attempt.number} of job {attempt.job_id} is settled already.")
            settle(db, attempt.id, cost_nusd, attempt.is_byok, Caps(), at)
            transitions.remark(db, attempt.job_id, attempt.id, at, "resolved: charge settled by hand")


@dataclass(frozen=True, slots=True)
class Charge:
    """What an answer says of its cost. ``cost_nusd`` None: not known yet, the reservation stands until
    ``generation_id`` tells."""

    cost_nusd: int | None = None
    is_byok: bool = False
    generation_id: str | None = None


class Answers:
    """The verbs of a ledger for kinds that answer at once. An answer may come late as well, to an attempt that has
    become uncertain meanwhile."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def finish(self, attempt_id: int, outputs: Sequence[OutputRecord], charge: Charge, caps: Caps) -> Settlement:
        """submitting -> done: the files are in place, verified and hashed, and the charge is recorded."""
        return self._end(attempt_id, Status.DONE, None, outputs, charge, caps)

    def fail(self, attempt_id: int, error: str, charge: Charge, caps: Caps) -> Settlement:
        """submitting -> failed: answered and charged, with nothing in it that can be used."""
        return self._end(attempt_id, Status.FAILED, error, (), charge, caps)

    def lose(self, attempt_id: int, error: str, charge: Charge, caps: Caps) -> Settlement:
        """submitting -> lost: what was paid for could not be kept."""
        return self._end(attempt_id, Status.LOST, error, (), charge, caps)

    def _end(
        self,
        attempt_id: int,
        end: Status,
        error: str | None,
        outputs: Sequence[OutputRecord],
        charge: Charge,
        caps: Caps,
    ) -> Settlement:
        at = timestamp(utc_now())
        columns: dict[str, object] = {
            "submitted_at": at,
            "completed_at": at,
            "is_byok": int(charge.is_byok),
            "generation_id": charge.generation_id,
        }
        with self._ledger.writing() as db:
            row = db.execute("select status from attempts where id = ?", (attempt_id,)).fetchone()
            leaves: tuple[Status, ...] = (Status.SUBMITTING, Status.UNCERTAIN)
            for status in _path(end, is_late=row is not None and row["status"] == Status.UNCERTAIN):
                reason = error if status is end else None
                job_id = transitions.step(db, attempt_id, leaves, status, at, columns=columns, error=reason)
                leaves = (status,)
            write_outputs(db, job_id, attempt_id, outputs, at)
            return settle(db, attempt_id, charge.cost_nusd, charge.is_byok, caps, at)


def _path(end: Status, *, is_late: bool) -> tuple[Status, ...]:
    """The steps of the lifecycle from the request to its end."""
    if end is Status.FAILED:
        return (Status.SUBMITTED, end)
    if end is Status.DONE and not is_late:
        return (end,)
    return (Status.SUBMITTED, Status.COMPLETED, end)


_REOPENABLE = ENDED_REMOTELY | {Status.REJECTED}


_PENDING = f"""
select id, model, estimate_high_nusd as high, hold, coalesce(
  (select sum({COMMITTED_BY_ATTEMPT.format("attempts")}) from attempts where job_id = jobs.id), 0) as used
from jobs where batch_id = ? and status = 'pending' and retired = 0 and {ONLY}
"""


class Waiting(Transactions):
    """The verbs around ``pending``."""

    def note(self, job_id: str, attempt_id: int | None, text: str) -> None:
        """Add a line to the history of a job that stays where it is, and show it beside the job."""
        with self.writing() as db:
            transitions.remark(db, job_id, attempt_id, timestamp(utc_now()), text)
            db.execute("update jobs set error = ? where id = ?", (text, job_id))

    def hold_pending(self, batch_id: int, model: str | None, reason: str) -> None:
        """Say beside all pending jobs of a batch, or of one model, why they are not sent, where no reason is said."""
        with self.writing() as db:
            db.execute(
                "update jobs set hold = ? where batch_id = ? and status = 'pending' and retired = 0 "
                "and hold is null and (? is null or model = ?)",
                (reason, batch_id, model, model),
            )

    def hold_over_budget(self, batch_id: int, caps: Caps, only: str | None = None) -> int:
        """Say beside every pending job that no cap has room for what is missing. Returns how many there are."""
        day = timestamp(utc_now())[:10]
        with self.writing() as db:
            scopes = {
                row["model"]: committed(db, batch_id, row["model"], day, "")
                for row in db.execute("select distinct model from spend where batch_id = ?", (batch_id,)).fetchall()
            }
            nothing_sent = committed(db, batch_id, "", day, "")
            # Few kinds of jobs differ in what is decided of them; 100,000 alike are decided once.
            reasons: dict[tuple[str, int | None, int], str | None] = {}
            held = 0
            news = []
            for job_id, model, high, hold, used in db.execute(_PENDING, (batch_id, *[only] * 4)):
                kind = (model, high, used)
                if kind not in reasons:
                    scope = replace(scopes.get(model, nothing_sent), job=used)
                    decision = budget.decide(model, high, caps, scope)
                    reasons[kind] = decision.reason if isinstance(decision, Refused) else None
                reason = reasons[kind]
                held += reason is not None
                if reason is not None and reason != hold:
                    news.append((reason, job_id))
            db.executemany("update jobs set hold = ? where id = ?", news)
        return held

    def reopen(self, job_ids: Iterable[str], *, forgive: bool) -> int:
        """rejected, failed, cancelled or expired -> pending: a new attempt, by policy or by ``retry``.

        ``forgive``: attempts so far no longer count against ``retries.attempts``. A job in another state is left
        alone, and so is one of which an attempt is still open. Returns how many were reopened.
        """
        at = timestamp(utc_now())
        reopened = 0
        with self.writing() as db:
            for job_id in job_ids:
                old = transitions.status_of(db, job_id)
                open_one = db.execute(f"select 1 from attempts where job_id = ? and {OPEN}", (job_id,)).fetchone()
                if old not in _REOPENABLE or open_one is not None:
                    continue
                transitions.move(db, job_id, None, old, Status.PENDING, at, detail="to be sent again")
                if forgive:
                    db.execute(
                        "update jobs set attempts_forgiven = (select count(*) from attempts where job_id = jobs.id) "
                        "where id = ?",
                        (job_id,),
                    )
                reopened += 1
        return reopened


# An answer may come after its attempt was given up as uncertain, and then it is still the truth.
_UNANSWERED = (Status.SUBMITTING, Status.UNCERTAIN)
# A job with what its next attempt is written from.
_TO_RESERVE = """
select jobs.id, batch_id, model, status, price_lines, estimate_low_nusd, estimate_exact_nusd, estimate_high_nusd,
  batches.lease_owner, (select count(*) + 1 from attempts where job_id = jobs.id) as next_number
from jobs join batches on batches.id = jobs.batch_id
where jobs.id = ? and jobs.retired = 0
"""
_STOPPED = "orbatch was stopped while the request was on its way, before an answer was recorded"


class Submitting(Transactions):
    """The verbs from ``pending`` to ``submitted``, or to where a refusal or silence leads."""

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
        at = now or utc_now()
        day = timestamp(at)[:10]
        sendable = (Status.PENDING, Status.UNCERTAIN) if resubmit else (Status.PENDING,)
        with self.writing() as db:
            job = db.execute(_TO_RESERVE, (job_id,)).fetchone()
            if job is None or job["status"] not in sendable:
                raise LedgerConflict(f"Job {job_id} is not pending any more.")
            if job["lease_owner"] != owner:
                raise LeaseLost("Another runner has taken this batch over, because this one was silent for too long.")
            decision = budget.decide(
                job["model"],
                job["estimate_high_nusd"],
                caps,
                committed(db, job["batch_id"], job["model"], day, job_id),
            )
            if isinstance(decision, Refused):
                db.execute("update jobs set hold = ? where id = ?", (decision.reason, job_id))
                return decision
            return _write_intent(db, job, decision, day, origin, account, timestamp(at))

    def committed(self, batch_id: int, model: str, now: datetime | None = None) -> Committed:
        """Charged plus reserved in the scopes of a model of this batch, for choosing what may still fit."""
        with self.reading() as db:
            return committed(db, batch_id, model, timestamp(now or utc_now())[:10], "")

    def accept(self, attempt_id: int, remote_id: str, generation_id: str | None = None) -> None:
        """submitting (or uncertain, for an answer that came late) -> submitted: the remote id is durable."""
        at = timestamp(utc_now())
        columns = {"remote_id": remote_id, "generation_id": generation_id, "submitted_at": at}
        with self.writing() as db:
            detail = f"remote id {remote_id}"
            transitions.step(db, attempt_id, _UNANSWERED, Status.SUBMITTED, at, columns=columns, detail=detail)

    def reject(self, attempt_id: int, error: str) -> None:
        """submitting (or uncertain, for an answer that came late) -> rejected: refused before it started, so nothing
        is charged."""
        at = timestamp(utc_now())
        with self.writing() as db:
            free = transitions.free_of_charge(at)
            transitions.step(db, attempt_id, _UNANSWERED, Status.REJECTED, at, columns=free, error=error)

    def release(self, attempt_id: int, reason: str) -> None:
        """submitting (or uncertain, for an answer that came late) -> pending: it certainly never started, and may be
        sent again."""
        at = timestamp(utc_now())
        with self.writing() as db:
            transitions.step(
                db,
                attempt_id,
                _UNANSWERED,
                Status.PENDING,
                at,
                columns=transitions.free_of_charge(at),
                attempt_status=RELEASED,
                detail=reason,
                hold=reason,
            )

    def mark_uncertain(self, attempt_id: int, error: str) -> None:
        """submitting -> uncertain: it may have been accepted; the reservation stands."""
        with self.writing() as db:
            transitions.step(db, attempt_id, (Status.SUBMITTING,), Status.UNCERTAIN, timestamp(utc_now()), error=error)

    def recover_interrupted(self, batch_id: int) -> list[str]:
        """What a dead runner left in ``submitting`` has no answer on record: all of it becomes uncertain.

        Only the holder of the batch's lease may call this. Returns the job ids.
        """
        at = timestamp(utc_now())
        with self.writing() as db:
            interrupted = db.execute(
                f"select id from attempts where batch_id = ? and status = 'submitting' and {OPEN} order by id",
                (batch_id,),
            ).fetchall()
            return [
                transitions.step(db, attempt_id, (Status.SUBMITTING,), Status.UNCERTAIN, at, error=_STOPPED)
                for (attempt_id,) in interrupted
            ]


def _write_intent(
    db: sqlite3.Connection, job: sqlite3.Row, decision: Allowed, day: str, origin: str, account: str, at: str
) -> Reservation:
    number = int(job["next_number"])
    attempt_id = db.execute(
        "insert into attempts (job_id, batch_id, model, number, status, origin, account, day, price_lines, "
        "estimate_low_nusd, estimate_exact_nusd, estimate_high_nusd, reserved_nusd, created_at) "
        "values (?, ?, ?, ?, 'submitting', ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(job["id"], job["batch_id"], job["model"], number, origin, account, day, job["price_lines"]),
            *(job["estimate_low_nusd"], job["estimate_exact_nusd"], job["estimate_high_nusd"]),
            *(decision.amount, at),
        ),
    ).lastrowid
    assert attempt_id is not None
    if job["status"] == Status.UNCERTAIN:
        detail = "sent again by uncertain: resubmit; the earlier attempt stays reserved"
        transitions.move(db, job["id"], attempt_id, Status.UNCERTAIN, Status.PENDING, at, detail=detail)
    transitions.move(db, job["id"], attempt_id, Status.PENDING, Status.SUBMITTING, at)
    return Reservation(attempt_id, number, decision.amount)
