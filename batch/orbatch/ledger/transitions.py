"""How a job and its attempts move, inside a write transaction of the caller's.

A job stands where its newest attempt stands. It has several open ones only where an uncertain job was sent again; then
the earlier ones end without moving the job, and when the newest turns out to have never started, the job stands where
the one before it stands.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from orbatch.ledger.database import LedgerConflict, LedgerError
from orbatch.ledger.schema import RELEASED
from orbatch.ledger.status import TRANSITIONS, Status

_NEVER_STARTED = f"attempts.status in ('{RELEASED}', '{Status.REJECTED}')"
# Whether an attempt after number ? of a job was started, so that the job stands for that one.
IS_OVERTAKEN = f"exists (select 1 from attempts where job_id = jobs.id and number > ? and not {_NEVER_STARTED})"
_ACCEPTED = (Status.SUBMITTED, Status.COMPLETED, Status.DONE)  # in the order in which a job passes through them


def step(
    db: sqlite3.Connection,
    attempt_id: int,
    leaves: tuple[Status, ...],
    enters: Status,
    at: str,
    *,
    columns: Mapping[str, object] | None = None,
    attempt_status: str | None = None,
    error: str | None = None,
    detail: str | None = None,
    hold: str | None = None,
) -> str:
    """Move an attempt, and its job with it; returns the job's id.

    ``columns``: more of the attempt's columns; ``attempt_status``: where it differs from the job's. Raises
    LedgerConflict when the attempt, or its job, is in none of the states in ``leaves``.
    """
    entered = attempt_status or str(enters)
    values = {"status": entered, "error": error, **(columns or {})}
    row = db.execute(
        f"update attempts set {', '.join(f'{name} = ?' for name in values)} "
        f"where id = ? and status in ({', '.join('?' * len(leaves))}) returning job_id, number",
        (*values.values(), attempt_id, *leaves),
    ).fetchone()
    if row is None:
        raise LedgerConflict(f"Attempt {attempt_id} is not {' or '.join(leaves)} any more.")
    job_id, number = str(row["job_id"]), int(row["number"])
    detail = detail or error
    beside = f"attempt {number}: {entered}" + (f", {detail}" if detail else "")
    job = db.execute(
        f"select status, {IS_OVERTAKEN} as is_overtaken from jobs where id = ?", (number, job_id)
    ).fetchone()
    old = Status(job["status"])
    if job["is_overtaken"]:
        _record(db, job_id, attempt_id, at, old, old, beside)
    elif entered in (RELEASED, Status.REJECTED) and (earlier := _earlier_open(db, job_id, number)) is not None:
        _record(db, job_id, attempt_id, at, old, old, beside)
        _return_to(db, job_id, earlier, at)
    elif old not in leaves:
        raise LedgerConflict(f"Job {job_id} is {old}; it cannot become {enters} now.")
    else:
        move(db, job_id, attempt_id, old, enters, at, error=error, detail=detail, hold=hold)
    return job_id


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
    hold: str | None = None,
) -> None:
    """One step of a job's life and its row of history. Raises LedgerConflict when the lifecycle does not allow it, or
    the job is not ``old`` any more."""
    if enters not in TRANSITIONS[old]:
        raise LedgerConflict(f"Job {job_id} is {old}; it cannot become {enters} now.")
    moved = db.execute(
        "update jobs set status = ?, error = ?, hold = ?, done_at = ? where id = ? and status = ?",
        (enters, error, hold, at if enters is Status.DONE else None, job_id, old),
    )
    if moved.rowcount == 0:
        raise LedgerConflict(f"Job {job_id} is not {old} any more; it cannot become {enters} now.")
    _record(db, job_id, attempt_id, at, old, enters, detail)


def remark(db: sqlite3.Connection, job_id: str, attempt_id: int | None, at: str, text: str) -> None:
    """A line in the history of a job that stays where it is."""
    status = status_of(db, job_id)
    _record(db, job_id, attempt_id, at, status, status, text)


def status_of(db: sqlite3.Connection, job_id: str) -> Status:
    row = db.execute("select status from jobs where id = ?", (job_id,)).fetchone()
    if row is None:
        raise LedgerError(f"There is no job {job_id} in this ledger.")
    return Status(row["status"])


def free_of_charge(at: str) -> dict[str, object]:
    """The columns of an attempt that certainly cost nothing."""
    return {"settled": 1, "cost_nusd": 0, "settled_at": at}


def _record(
    db: sqlite3.Connection, job_id: str, attempt_id: int | None, at: str, old: Status, new: Status, detail: str | None
) -> None:
    db.execute(
        "insert into events (job_id, attempt_id, at, from_status, to_status, detail) values (?, ?, ?, ?, ?, ?)",
        (job_id, attempt_id, at, old, new, detail),
    )


def _earlier_open(db: sqlite3.Connection, job_id: str, number: int) -> sqlite3.Row | None:
    """The attempt before this one, if it may have been accepted and has not ended without a result."""
    row: sqlite3.Row | None = db.execute(
        f"select id, number, status, error from attempts where job_id = ? and number < ? and not {_NEVER_STARTED} "
        "order by number desc limit 1",
        (job_id, number),
    ).fetchone()
    return row if row is not None and row["status"] in (Status.UNCERTAIN, *_ACCEPTED) else None


def _return_to(db: sqlite3.Connection, job_id: str, earlier: sqlite3.Row, at: str) -> None:
    """Lead the job, by steps that the lifecycle allows, to where its earlier attempt stands."""
    goal = Status(earlier["status"])
    path = (goal,) if goal is Status.UNCERTAIN else _ACCEPTED[: _ACCEPTED.index(goal) + 1]
    for enters in path:
        old = status_of(db, job_id)
        if old is not enters:
            detail = f"attempt {earlier['number']} counts again"
            move(db, job_id, earlier["id"], old, enters, at, error=earlier["error"], detail=detail)
