"""The paid step and its outcomes: intent and reservation before the request leaves, and what became of it."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from orbatch import budget
from orbatch.budget import Allowed, Caps, Committed, Refused
from orbatch.ledger import moves
from orbatch.ledger.connection import LedgerConflict, timestamp, utc_now
from orbatch.ledger.leases import LeaseLost
from orbatch.ledger.records import Reservation
from orbatch.ledger.schema import OPEN, RELEASED
from orbatch.ledger.settlement import committed
from orbatch.ledger.transactions import Transactions
from orbatch.lifecycle import Status

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
            moves.step(db, attempt_id, _UNANSWERED, Status.SUBMITTED, at, columns=columns, detail=detail)

    def reject(self, attempt_id: int, error: str) -> None:
        """submitting (or uncertain, for an answer that came late) -> rejected: refused before it started, so nothing
        is charged."""
        at = timestamp(utc_now())
        with self.writing() as db:
            free = moves.free_of_charge(at)
            moves.step(db, attempt_id, _UNANSWERED, Status.REJECTED, at, columns=free, error=error)

    def release(self, attempt_id: int, reason: str) -> None:
        """submitting (or uncertain, for an answer that came late) -> pending: it certainly never started, and may be
        sent again."""
        at = timestamp(utc_now())
        with self.writing() as db:
            moves.step(
                db,
                attempt_id,
                _UNANSWERED,
                Status.PENDING,
                at,
                columns=moves.free_of_charge(at),
                attempt_status=RELEASED,
                detail=reason,
                hold=reason,
            )

    def doubt(self, attempt_id: int, error: str) -> None:
        """submitting -> uncertain: it may have been accepted; the reservation stands."""
        with self.writing() as db:
            moves.step(db, attempt_id, (Status.SUBMITTING,), Status.UNCERTAIN, timestamp(utc_now()), error=error)

    def doubt_interrupted(self, batch_id: int) -> list[str]:
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
                moves.step(db, attempt_id, (Status.SUBMITTING,), Status.UNCERTAIN, at, error=_STOPPED)
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
        moves.move(db, job["id"], attempt_id, Status.UNCERTAIN, Status.PENDING, at, detail=detail)
    moves.move(db, job["id"], attempt_id, Status.PENDING, Status.SUBMITTING, at)
    return Reservation(attempt_id, number, decision.amount)
