"""The user's word about what no answer has told."""

from __future__ import annotations

from orbatch.budget import Caps
from orbatch.ledger import moves, settlement
from orbatch.ledger.connection import LedgerConflict, timestamp, utc_now
from orbatch.ledger.records import AttemptRecord
from orbatch.ledger.schema import RELEASED
from orbatch.ledger.transactions import Transactions
from orbatch.lifecycle import Status

_UNCERTAIN = (Status.UNCERTAIN,)


class Resolving(Transactions):
    """The verbs of ``resolve``. Each raises LedgerConflict when there is nothing to resolve any more."""

    def resolve_found(self, attempt: AttemptRecord, remote_id: str) -> None:
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
            moves.step(db, attempt.id, _UNCERTAIN, Status.SUBMITTED, at, columns=columns, detail=detail)

    def resolve_not_charged(self, attempt: AttemptRecord) -> None:
        """uncertain -> pending: nothing was charged; free to run again."""
        at = timestamp(utc_now())
        with self.writing() as db:
            moves.step(
                db,
                attempt.id,
                _UNCERTAIN,
                Status.PENDING,
                at,
                columns=moves.free_of_charge(at),
                attempt_status=RELEASED,
                detail="resolved: not charged",
            )

    def resolve_charged(self, attempt: AttemptRecord, cost_nusd: int) -> None:
        """uncertain -> lost: it was charged and cannot be found."""
        at = timestamp(utc_now())
        with self.writing() as db:
            error = "charged, and its result was not found"
            moves.step(db, attempt.id, _UNCERTAIN, Status.LOST, at, error=error)
            settlement.settle(db, attempt.id, cost_nusd, False, Caps(), at)

    def settle_by_word(self, attempt: AttemptRecord, cost_nusd: int) -> None:
        """Settle an ended attempt whose charge the provider never reported."""
        at = timestamp(utc_now())
        with self.writing() as db:
            open_one = db.execute("select 1 from attempts where id = ? and settled = 0", (attempt.id,)).fetchone()
            if open_one is None:
                raise LedgerConflict(f"Attempt {attempt.number} of job {attempt.job_id} is settled already.")
            settlement.settle(db, attempt.id, cost_nusd, attempt.is_byok, Caps(), at)
            moves.remark(db, attempt.job_id, attempt.id, at, "resolved: charge settled by hand")
