"""How an attempt moves, and its job with it, inside a write transaction of the caller's.

A job stands where its newest started attempt stands. It has several open ones only where an uncertain job was sent
again: then earlier ones end without moving the job, and the job returns to the earlier one when the newest never
started.
"""

from __future__ import annotations

import sqlite3

from orbatch.ledger.database import LedgerConflict, LedgerError
from orbatch.ledger.schema import RELEASED
from orbatch.ledger.status import TRANSITIONS, Status

_STARTED = f"attempts.status not in ('{RELEASED}', '{Status.REJECTED}')"
# Whether an attempt after number ? of a job was started, so that the job stands for that one.
IS_SUPERSEDED = f"exists (select 1 from attempts where job_id = jobs.id and number > ? and {_STARTED})"
_ACCEPTED = (Status.SUBMITTED, Status.COMPLETED, Status.DONE)  # in the order in which a job passes through them


def step(
    db: sqlite3.Connection,
    attempt_id: int,
    leaves: tuple[Status, ...],
    enters: Status,
    at: str,
    *,
    error: str | None = None,
    detail: str | None = None,
    hold: str | None = None,
    **columns: object,
) -> str:
    """Move an attempt, and its job with it; returns the job's id. ``columns``: more of the attempt's columns.

    An attempt that never started is ``released`` where its job is pending again. Raises LedgerConflict when the
    attempt, or its job, is in none of the states in ``leaves``.
    """
    entered = RELEASED if enters is Status.PENDING else enters
    if entered in (RELEASED, Status.REJECTED):
        columns |= {"settled": 1, "cost_nusd": 0, "settled_at": at}
    columns |= {"status": entered, "error": error}
    row = db.execute(
        f"update attempts set {', '.join(f'{name} = ?' for name in columns)} "
        f"where id = ? and status in ({', '.join('?' * len(leaves))}) returning job_id, number",
        (*columns.values(), attempt_id, *leaves),
    ).fetchone()
    if row is None:
        raise LedgerConflict(f"Attempt {attempt_id} is not {' or '.join(leaves)} any more.")
    job_id, number = row
    old, is_superseded = db.execute(
        f"select status, {IS_SUPERSEDED} from jobs where id = ?", (number, job_id)
    ).fetchone()
    earlier = _earlier_open(db, job_id, number) if entered in (RELEASED, Status.REJECTED) else None
    detail = detail or error
    if is_superseded or earlier:
        add_event(db, job_id, attempt_id, at, f"attempt {number}: {entered}" + (f", {detail}" if detail else ""))
        if earlier and not is_superseded:
            _return_to(db, job_id, earlier, at)
    elif old not in leaves:
        raise LedgerConflict(f"Job {job_id} is {old}; it cannot become {enters} now.")
    else:
        move(db, job_id, attempt_id, Status(old), enters, at, error=error, detail=detail, hold=hold)
    return str(job_id)


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
    done_at = at if enters is Status.DONE else None
    if enters not in TRANSITIONS[old]:
        raise LedgerConflict(f"Job {job_id} is {old}; it cannot become {enters} now.")
    moved = db.execute(
        "update jobs set status = ?, error = ?, hold = ?, done_at = ? where id = ? and status = ?",
        (enters, error, hold, done_at, job_id, old),
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
        "insert into events (job_id, attempt_id, at, from_status, to_status, detail) values (?, ?, ?, ?, ?, ?)",
        (job_id, attempt_id, at, old, new or old, detail),
    )


def status_of(db: sqlite3.Connection, job_id: str) -> Status:
    row = db.execute("select status from jobs where id = ?", (job_id,)).fetchone()
    if row is None:
        raise LedgerError(f"There is no job {job_id} in this ledger.")
    return Status(row["status"])


def _earlier_open(db: sqlite3.Connection, job_id: str, number: int) -> sqlite3.Row | None:
    """The attempt before this one, if it may have been accepted and has not ended without a result."""
    row: sqlite3.Row | None = db.execute(
        f"select id, number, status, error from attempts where job_id = ? and number < ? and {_STARTED} "
        "order by number desc limit 1",
        (job_id, number),
    ).fetchone()
    return row if row is not None and row["status"] in (Status.UNCERTAIN, *_ACCEPTED) else None


def _return_to(db: sqlite3.Connection, job_id: str, earlier: sqlite3.Row, at: str) -> None:
    """Lead the job, by steps that the lifecycle allows, to where its earlier attempt stands."""
    goal = Status(earlier["status"])
    for enters in (goal,) if goal is Status.UNCERTAIN else _ACCEPTED[: _ACCEPTED.index(goal) + 1]:
        if (old := status_of(db, job_id)) is not enters:
            detail = f"attempt {earlier['number']} counts again"
            move(db, job_id, earlier["id"], old, enters, at, error=earlier["error"], detail=detail)
