"""Charges against reservations, inside a write transaction of the caller's."""

from __future__ import annotations

import sqlite3

from orbatch import budget
from orbatch.budget import Caps, Committed
from orbatch.ledger.connection import LedgerConflict
from orbatch.ledger.records import Settlement
from orbatch.ledger.sums import COMMITTED, COMMITTED_BY_ATTEMPT
from orbatch.lifecycle import ENDED_REMOTELY, Status

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
