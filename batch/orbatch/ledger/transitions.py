"""How an attempt moves, and its job with it, inside a write transaction of the caller's.

A job has at most one open attempt, its newest, and stands where that one stands.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from orbatch.ledger.database import LedgerConflict, LedgerError
from orbatch.ledger.schema import RELEASED
from orbatch.ledger.status import TRANSITIONS, Status


def step(
    db: sqlite3.Connection,
    attempt_id: int,
    leaves: tuple[Status, ...],
    enters: Status,
    at: str,
    *,
    error: str | None = None,
    detail: str | None = None,
    wait_reason: str | None = None,
    **columns: object,
) -> str:
    """Move an attempt, and its job with it; returns the job's id. ``columns``: more of the attempt's columns.

    An attempt that never started is ``released`` where its job is pending again. Raises LedgerConflict when the
    attempt, or its job, is in none of the states in ``leaves``.
    """
    entered = RELEASED if enters is Status.PENDING else str(enters)
    if entered in (RELEASED, Status.REJECTED):
        columns |= {"settled": 1, "cost_nusd": 0, "settled_at": at}  # it certainly cost nothing
    # Constants of our own, so they may be part of the SQL.
    condition = " or ".join(f"status = '{status}'" for status in leaves)
    row = update_attempt(db, attempt_id, f"({condition})", {"status": entered, "error": error, **columns})
    if row is None:
        raise LedgerConflict(f"Attempt {attempt_id} is not {' or '.join(leaves)} any more.")
    job_id = str(row["job_id"])
    old = status_of(db, job_id)
    if old not in leaves:
        raise LedgerConflict(f"Job {job_id} is {old}; it cannot become {enters} now.")
    move(db, job_id, attempt_id, old, enters, at, error=error, detail=detail or error, wait_reason=wait_reason)
    return job_id


def insert_attempt(db: sqlite3.Connection, columns: dict[str, Any]) -> int:
    """A new attempt, with its reservation under the caps; returns its id."""
    names = ", ".join(columns)
    marks = ", ".join(f":{name}" for name in columns)
    row = db.execute(f"insert into attempts ({names}) values ({marks}) returning id", columns).fetchone()
    add_committed(db, columns["batch_id"], columns["model"], columns["day"], columns["reserved_nusd"] or 0)
    return int(row["id"])


def update_attempt(
    db: sqlite3.Connection, attempt_id: int, condition: str, columns: dict[str, Any]
) -> sqlite3.Row | None:
    """Write columns of an attempt and, with its cost, what it counts for under the caps. None: ``condition`` is false.

    A cost may be written only once.
    """
    row: sqlite3.Row | None = db.execute(
        f"update attempts set {', '.join(f'{name} = :{name}' for name in columns)} where id = :attempt_id "
        f"and {condition} returning job_id, batch_id, model, day, reserved_nusd, is_byok",
        {**columns, "attempt_id": attempt_id},
    ).fetchone()
    if row is not None and columns.get("cost_nusd") is not None:
        reserved, cost = row["reserved_nusd"] or 0, columns["cost_nusd"]
        # As schema.COUNTED has it: a BYOK charge is only a fee, so the worst case keeps counting.
        counted = max(cost, reserved) if row["is_byok"] else cost
        add_committed(db, row["batch_id"], row["model"], row["day"], counted - reserved)
    return row


def add_committed(db: sqlite3.Connection, batch_id: int, model: str, day: str, nusd: int) -> None:
    """Change what is reserved and charged under the caps. Only for the transaction that changes the attempt."""
    db.execute(
        "insert into committed (batch_id, model, day, committed_nusd) values (:batch_id, :model, :day, :nusd) "
        "on conflict (batch_id, model, day) do update "
        "set committed_nusd = committed.committed_nusd + excluded.committed_nusd",
        {"batch_id": batch_id, "model": model, "day": day, "nusd": nusd},
    )


def move(
    db: sqlite3.Connection,
    job_id: str,
    attempt_id: int | None,
    old: Status,
    enters: Status,
    at: str,
    *,
    error: str | None = None,
    detail: str | None = None,
    wait_reason: str | None = None,
) -> None:
    """One step of a job's life and its row of history.

    Raises LedgerConflict when the lifecycle does not allow it, or the job is not ``old`` any more.
    """
    if enters not in TRANSITIONS[old]:
        raise LedgerConflict(f"Job {job_id} is {old}; it cannot become {enters} now.")
    moved = db.execute(
        "update jobs set status = :enters, error = :error, wait_reason = :wait_reason, done_at = :done_at "
        "where id = :job_id and status = :old",
        {"job_id": job_id, "old": old, "enters": enters, "error": error, "wait_reason": wait_reason}
        | {"done_at": at if enters is Status.DONE else None},
    )
    if moved.rowcount == 0:
        raise LedgerConflict(f"Job {job_id} is not {old} any more; it cannot become {enters} now.")
    add_event(db, job_id, attempt_id, at, detail, old, enters)


def add_event(
    db: sqlite3.Connection,
    job_id: str,
    attempt_id: int | None,
    at: str,
    detail: str | None,
    old: Status | None = None,
    new: Status | None = None,
) -> None:
    """A row of history; without states, of a job that stays where it is."""
    old = old or status_of(db, job_id)
    db.execute(
        "insert into events (job_id, attempt_id, at, from_status, to_status, detail) "
        "values (:job_id, :attempt_id, :at, :old, :new, :detail)",
        {"job_id": job_id, "attempt_id": attempt_id, "at": at, "old": old, "new": new or old, "detail": detail},
    )


def status_of(db: sqlite3.Connection, job_id: str) -> Status:
    """Where a job stands. Raises LedgerError when there is none of this id."""
    row = db.execute("select status from jobs where id = :job_id", {"job_id": job_id}).fetchone()
    if row is None:
        raise LedgerError(f"There is no job {job_id} in this ledger.")
    return Status(row["status"])
