"""Steps of jobs whose paid result is in the answer to the request itself. Each passes over the states between in one
transaction, so that no other process ever sees a job that is half through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orbatch.budget import Caps
from orbatch.ledger import moves, settlement
from orbatch.ledger.connection import timestamp, utc_now
from orbatch.ledger.finishing import write_outputs
from orbatch.ledger.records import OutputRecord, Settlement
from orbatch.lifecycle import Status

if TYPE_CHECKING:
    from orbatch.ledger.store import Ledger


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
                job_id = moves.step(db, attempt_id, leaves, status, at, columns=columns, error=reason)
                leaves = (status,)
            write_outputs(db, job_id, attempt_id, outputs, at)
            return settlement.settle(db, attempt_id, charge.cost_nusd, charge.is_byok, caps, at)


def _path(end: Status, *, is_late: bool) -> tuple[Status, ...]:
    """The steps of the lifecycle from the request to its end."""
    if end is Status.FAILED:
        return (Status.SUBMITTED, end)
    if end is Status.DONE and not is_late:
        return (end,)
    return (Status.SUBMITTED, Status.COMPLETED, end)
