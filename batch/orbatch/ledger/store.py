"""The ledger: every step of a job's life is one verb, one transaction, and one row of history.

Each verb names the state that it leaves and raises LedgerConflict when the row is elsewhere.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path

from orbatch import budget
from orbatch.budget import Allowed, Caps, Committed, Refused
from orbatch.ledger.connection import LedgerConflict, connect, reading, timestamp, utc_now, writing
from orbatch.ledger.evidence import Evidence
from orbatch.ledger.leases import LeaseLost, Leases
from orbatch.ledger.planning import Planning
from orbatch.ledger.queries import Queries
from orbatch.ledger.records import AttemptRecord, OutputRecord, Reservation, Settlement
from orbatch.ledger.reports import Reports
from orbatch.lifecycle import TRANSITIONS, Status

RELEASED = "released"  # an attempt that certainly started nothing


class Ledger:
    """An open ledger. Belongs to the thread that opened it; close it, or use it as a context manager.

    ``plans``, ``leases``, ``queries``, ``reports`` and ``evidence`` are its other verbs, by subject.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self.plans = Planning(self)
        self.leases = Leases(self)
        self.queries = Queries(self)
        self.reports = Reports(self)
        self.evidence = Evidence(self)

    @classmethod
    def open(cls, path: Path, *, create: bool = True) -> Ledger:
        """Raises LedgerError with a sentence for a missing, foreign, corrupt, newer or unwritable file."""
        return cls(path, connect(path, create=create))

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def writing(self) -> AbstractContextManager[sqlite3.Connection]:
        return writing(self._connection, self.path)

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        return reading(self._connection, self.path)

    def backup(self, target: Path) -> None:
        """Copy the ledger, also one in use, to ``target`` (a consistent snapshot)."""
        with self.reading() as db, sqlite3.connect(target) as copy:
            db.backup(copy)
        copy.close()

    # -- submit ---------------------------------------------------------------------------------------------------

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
        with self.writing() as db:
            job = db.execute(
                "select jobs.*, batches.lease_owner from jobs join batches on batches.id = jobs.batch_id "
                "where jobs.id = ? and jobs.retired = 0",
                (job_id,),
            ).fetchone()
            if job is None or job["status"] not in (
                (Status.PENDING, Status.UNCERTAIN) if resubmit else (Status.PENDING,)
            ):
                raise LedgerConflict(f"Job {job_id} is not pending any more.")
            if job["lease_owner"] != owner:
                raise LeaseLost("Another runner has taken this batch over, because this one was silent for too long.")
            committed = self._committed(db, job["batch_id"], job["model"], day, job_id)
            decision = budget.decide(job["model"], job["estimate_high_nusd"], caps, committed)
            if isinstance(decision, Refused):
                db.execute("update jobs set hold = ? where id = ?", (decision.reason, job_id))
                return decision
            return self._write_intent(db, job, decision, day, origin, account, timestamp(at))

    def _write_intent(
        self, db: sqlite3.Connection, job: sqlite3.Row, decision: Allowed, day: str, origin: str, account: str, at: str
    ) -> Reservation:
        number = db.execute("select count(*) + 1 from attempts where job_id = ?", (job["id"],)).fetchone()[0]
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
            self._move(db, job["id"], attempt_id, (Status.UNCERTAIN,), Status.PENDING, at, detail=detail)
        self._move(db, job["id"], attempt_id, (Status.PENDING,), Status.SUBMITTING, at)
        db.execute("update jobs set hold = null, error = null where id = ?", (job["id"],))
        return Reservation(attempt_id, number, decision.amount)

    def accept(self, attempt_id: int, remote_id: str, generation_id: str | None = None) -> None:
        """submitting (or uncertain, for an answer that came late) -> submitted: the remote id is durable."""
        self._step(
            attempt_id,
            (Status.SUBMITTING, Status.UNCERTAIN),
            Status.SUBMITTED,
            {"remote_id": remote_id, "generation_id": generation_id, "submitted_at": timestamp(utc_now())},
            detail=f"remote id {remote_id}",
        )

    def reject(self, attempt_id: int, error: str) -> None:
        """submitting -> rejected: refused before it started, so nothing is charged."""
        self._step(attempt_id, (Status.SUBMITTING, Status.UNCERTAIN), Status.REJECTED, _free(), error=error)

    def release(self, attempt_id: int, reason: str) -> None:
        """submitting -> pending: it certainly never started, and may be sent again."""
        self._step(
            attempt_id,
            (Status.SUBMITTING,),
            Status.PENDING,
            _free(),
            attempt_status=RELEASED,
            detail=reason,
            hold=reason,
        )

    def doubt(self, attempt_id: int, error: str) -> None:
        """submitting -> uncertain: it may have been accepted; the reservation stands."""
        self._step(attempt_id, (Status.SUBMITTING,), Status.UNCERTAIN, {}, error=error)

    def doubt_interrupted(self, batch_id: int) -> list[str]:
        """What a dead runner left in ``submitting`` has no answer on record: all of it becomes uncertain.

        Only the holder of the batch's lease may call this. Returns the job ids.
        """
        with self.reading() as db:
            rows = db.execute(
                "select id, job_id from attempts where batch_id = ? and status = 'submitting'", (batch_id,)
            ).fetchall()
        for row in rows:
            self.doubt(row["id"], "orbatch was stopped while the request was on its way, before an answer was recorded")
        return [row["job_id"] for row in rows]

    # -- follow ---------------------------------------------------------------------------------------------------

    def complete(
        self, attempt_id: int, cost_nusd: int | None, *, is_byok: bool, generation_id: str | None, caps: Caps
    ) -> Settlement:
        """submitted -> completed: the charge is recorded before the download. None: not known yet, the reservation
        stands."""
        at = timestamp(utc_now())
        values: dict[str, object] = {"completed_at": at, "is_byok": int(is_byok)}
        if generation_id is not None:
            values["generation_id"] = generation_id
        with self.writing() as db:
            self._step_in(db, attempt_id, (Status.SUBMITTED,), Status.COMPLETED, values, at=at)
            return self._settle_in(db, attempt_id, cost_nusd, is_byok, caps, at)

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
        at = timestamp(utc_now())
        values: dict[str, object] = {"completed_at": at, "is_byok": int(is_byok)}
        if generation_id is not None:
            values["generation_id"] = generation_id
        with self.writing() as db:
            self._step_in(db, attempt_id, (Status.SUBMITTED,), status, values, error=error, at=at)
            return self._settle_in(db, attempt_id, cost_nusd, is_byok, caps, at)

    def finish(self, attempt_id: int, outputs: Sequence[OutputRecord]) -> None:
        """completed -> done: the files are in place, verified and hashed."""
        at = timestamp(utc_now())
        with self.writing() as db:
            seconds = [output.seconds for output in outputs if output.seconds is not None]
            values: dict[str, object] = {"output_seconds": sum(seconds) if seconds else None}
            self._step_in(db, attempt_id, (Status.COMPLETED,), Status.DONE, values, at=at)
            job_id = db.execute("select job_id from attempts where id = ?", (attempt_id,)).fetchone()[0]
            db.execute("update jobs set done_at = ?, error = null where id = ?", (at, job_id))
            self._write_outputs(db, job_id, attempt_id, outputs, at)

    def replace_outputs(self, attempt_id: int, outputs: Sequence[OutputRecord]) -> None:
        """The files of a done job were fetched again: what is on disk now is what the ledger says."""
        at = timestamp(utc_now())
        with self.writing() as db:
            job_id = db.execute("select job_id from attempts where id = ?", (attempt_id,)).fetchone()[0]
            db.execute("delete from outputs where attempt_id = ?", (attempt_id,))
            self._write_outputs(db, job_id, attempt_id, outputs, at)
            self._event(db, job_id, attempt_id, at, Status.DONE, Status.DONE, "fetched again")

    def lose(self, attempt_id: int, error: str) -> None:
        """completed -> lost: paid, but the provider no longer has the content."""
        self._step(attempt_id, (Status.COMPLETED,), Status.LOST, {}, error=error)

    def settle(self, attempt_id: int, cost_nusd: int, *, is_byok: bool, caps: Caps) -> Settlement:
        """Record a charge that was not known when the job ended. A settled attempt is left alone."""
        with self.writing() as db:
            return self._settle_in(db, attempt_id, cost_nusd, is_byok, caps, timestamp(utc_now()))

    def note(self, job_id: str, attempt_id: int | None, text: str) -> None:
        """Add a line to the history of a job that stays where it is, and show it beside the job."""
        with self.writing() as db:
            status = self._status(db, job_id)
            db.execute("update jobs set error = ? where id = ?", (text, job_id))
            self._event(db, job_id, attempt_id, timestamp(utc_now()), status, status, text)

    def hold(self, job_id: str, reason: str) -> None:
        """Say why a pending job is not submitted."""
        with self.writing() as db:
            db.execute("update jobs set hold = ? where id = ? and status = 'pending'", (reason, job_id))

    def hold_pending(self, batch_id: int, model: str | None, reason: str) -> None:
        """The same for all pending jobs of a batch, or of one model, that have no reason yet."""
        with self.writing() as db:
            db.execute(
                "update jobs set hold = ? where batch_id = ? and status = 'pending' and retired = 0 "
                "and hold is null and (? is null or model = ?)",
                (reason, batch_id, model, model),
            )

    def hold_over_budget(self, batch_id: int, caps: Caps, only: str | None = None) -> int:
        """Say beside every pending job that no cap has room for what is missing. Returns how many there are."""
        held = 0
        with self.writing() as db:
            shapes = db.execute(
                "select distinct model, estimate_high_nusd as high from jobs where batch_id = ? and status = 'pending' "
                "and retired = 0",
                (batch_id,),
            ).fetchall()
            day = timestamp(utc_now())[:10]
            for shape in shapes:
                committed = self._committed(db, batch_id, shape["model"], day, "")
                decision = budget.decide(shape["model"], shape["high"], caps, committed)
                if isinstance(decision, Refused):
                    held += db.execute(
                        "update jobs set hold = ? where batch_id = ? and status = 'pending' and retired = 0 "
                        "and model = ? and estimate_high_nusd is ? and (? is null or prompt_id glob ? or model glob ? "
                        "or id glob ?)",
                        (decision.reason, batch_id, shape["model"], shape["high"], *[only] * 4),
                    ).rowcount
        return held

    def reopen(self, job_ids: Iterable[str], *, forgive: bool) -> int:
        """rejected, failed, cancelled or expired -> pending: a new attempt, by policy or by ``retry``.

        ``forgive``: attempts so far no longer count against ``retries.attempts``. Returns how many were reopened.
        """
        at = timestamp(utc_now())
        reopened = 0
        with self.writing() as db:
            for job_id in job_ids:
                old = self._status(db, job_id)
                if Status.PENDING not in TRANSITIONS[old] or old in (Status.SUBMITTING, Status.UNCERTAIN):
                    continue
                self._move(db, job_id, None, (old,), Status.PENDING, at, detail="to be sent again")
                db.execute("update jobs set error = null, done_at = null where id = ?", (job_id,))
                if forgive:
                    db.execute(
                        "update jobs set attempts_forgiven = (select count(*) from attempts where job_id = jobs.id) "
                        "where id = ?",
                        (job_id,),
                    )
                reopened += 1
        return reopened

    # -- resolve --------------------------------------------------------------------------------------------------

    def resolve_found(self, attempt: AttemptRecord, remote_id: str) -> None:
        """uncertain -> submitted, by the user's word that the provider has this job."""
        with self.reading() as db:
            taken = db.execute("select job_id from attempts where remote_id = ?", (remote_id,)).fetchone()
        if taken is not None:
            raise LedgerConflict(f"{remote_id} already belongs to job {taken['job_id']} of this ledger.")
        self.accept(attempt.id, remote_id)

    def resolve_not_charged(self, attempt: AttemptRecord) -> None:
        """uncertain -> pending, by the user's word that nothing was charged; free to run again."""
        self._step(
            attempt.id,
            (Status.UNCERTAIN,),
            Status.PENDING,
            _free(),
            attempt_status=RELEASED,
            detail="resolved: not charged",
            hold=None,
        )

    def resolve_charged(self, attempt: AttemptRecord, cost_nusd: int) -> None:
        """uncertain -> lost, by the user's word that it was charged and cannot be found."""
        at = timestamp(utc_now())
        with self.writing() as db:
            self._step_in(
                db,
                attempt.id,
                (Status.UNCERTAIN,),
                Status.LOST,
                {},
                error="charged, and its result was not found",
                at=at,
            )
            self._settle_in(db, attempt.id, cost_nusd, False, Caps(), at)

    def settle_by_word(self, attempt: AttemptRecord, cost_nusd: int) -> None:
        """Settle an ended attempt whose charge the provider never reported, by the user's word."""
        at = timestamp(utc_now())
        with self.writing() as db:
            self._settle_in(db, attempt.id, cost_nusd, attempt.is_byok, Caps(), at)
            status = self._status(db, attempt.job_id)
            self._event(db, attempt.job_id, attempt.id, at, status, status, "resolved: charge settled by hand")

    # -- inside a transaction -------------------------------------------------------------------------------------

    def _step(
        self,
        attempt_id: int,
        leaves: tuple[Status, ...],
        enters: Status,
        values: dict[str, object],
        **more: str | None,
    ) -> None:
        with self.writing() as db:
            self._step_in(db, attempt_id, leaves, enters, values, **more)

    def _step_in(
        self,
        db: sqlite3.Connection,
        attempt_id: int,
        leaves: tuple[Status, ...],
        enters: Status,
        values: dict[str, object],
        *,
        attempt_status: str | None = None,
        error: str | None = None,
        detail: str | None = None,
        hold: str | None = None,
        at: str | None = None,
    ) -> None:
        """Move an attempt and its job together, with ``values`` for the attempt's columns."""
        at = at or timestamp(utc_now())
        columns = {"status": attempt_status or str(enters), "error": error} | values
        marks = ", ".join("?" * len(leaves))
        updated = db.execute(
            f"update attempts set {', '.join(f'{name} = ?' for name in columns)} "
            f"where id = ? and status in ({marks}) returning job_id, number",
            (*columns.values(), attempt_id, *leaves),
        ).fetchone()
        if updated is None:
            raise LedgerConflict(f"Attempt {attempt_id} is not {' or '.join(leaves)} any more.")
        job_id = updated["job_id"]
        newest = db.execute("select max(number) from attempts where job_id = ?", (job_id,)).fetchone()[0]
        if newest != updated["number"]:
            # An older attempt of a job that was sent again: its own story ends without moving the job.
            status = self._status(db, job_id)
            self._event(db, job_id, attempt_id, at, status, status, f"attempt {updated['number']}: {enters}")
            return
        self._move(db, job_id, attempt_id, leaves, enters, at, detail=detail or error)
        db.execute("update jobs set error = ?, hold = ? where id = ?", (error, hold, job_id))

    def _move(
        self,
        db: sqlite3.Connection,
        job_id: str,
        attempt_id: int | None,
        leaves: tuple[Status, ...],
        enters: Status,
        at: str,
        *,
        detail: str | None = None,
    ) -> None:
        old = self._status(db, job_id)
        if old not in leaves or enters not in TRANSITIONS[old]:
            raise LedgerConflict(f"Job {job_id} is {old}; it cannot become {enters} now.")
        db.execute("update jobs set status = ? where id = ? and status = ?", (enters, job_id, old))
        self._event(db, job_id, attempt_id, at, old, enters, detail)

    @staticmethod
    def _status(db: sqlite3.Connection, job_id: str) -> Status:
        return Status(db.execute("select status from jobs where id = ?", (job_id,)).fetchone()[0])

    @staticmethod
    def _event(
        db: sqlite3.Connection,
        job_id: str,
        attempt_id: int | None,
        at: str,
        old: Status,
        new: Status,
        detail: str | None,
    ) -> None:
        db.execute(
            "insert into events (job_id, attempt_id, at, from_status, to_status, detail) values (?, ?, ?, ?, ?, ?)",
            (job_id, attempt_id, at, old, new, detail),
        )

    @staticmethod
    def _write_outputs(
        db: sqlite3.Connection, job_id: str, attempt_id: int, outputs: Sequence[OutputRecord], at: str
    ) -> None:
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

    def _settle_in(
        self, db: sqlite3.Connection, attempt_id: int, cost_nusd: int | None, is_byok: bool, caps: Caps, at: str
    ) -> Settlement:
        if cost_nusd is None:
            return Settlement(None)
        row = db.execute(
            "update attempts set cost_nusd = ?, is_byok = ?, settled = 1, settled_at = ? where id = ? and settled = 0 "
            "returning batch_id, model, day, job_id, reserved_nusd",
            (cost_nusd, int(is_byok), at, attempt_id),
        ).fetchone()
        if row is None:
            return Settlement(cost_nusd)
        overrun = max(0, cost_nusd - (row["reserved_nusd"] or 0)) if row["reserved_nusd"] is not None else 0
        if not overrun:
            return Settlement(cost_nusd)
        committed = self._committed(db, row["batch_id"], row["model"], row["day"], row["job_id"])
        return Settlement(cost_nusd, overrun, budget.broken_cap(row["model"], caps, committed))

    @staticmethod
    def _committed(db: sqlite3.Connection, batch_id: int, model: str, day: str, job_id: str) -> Committed:
        total, of_model = db.execute(
            "select coalesce(sum(reserved_nusd + charged_nusd), 0), "
            "coalesce(sum(case when model = ? then reserved_nusd + charged_nusd end), 0) "
            "from spend where batch_id = ?",
            (model, batch_id),
        ).fetchone()
        (today,) = db.execute(
            "select coalesce(sum(reserved_nusd + charged_nusd), 0) from spend where day = ?", (day,)
        ).fetchone()
        (of_job,) = db.execute(
            "select coalesce(sum(case when settled = 0 then reserved_nusd when is_byok = 1 "
            "then max(cost_nusd, coalesce(reserved_nusd, 0)) else cost_nusd end), 0) from attempts where job_id = ?",
            (job_id,),
        ).fetchone()
        return Committed(total=total, job=of_job, day=today, model=of_model)

    def committed(self, batch_id: int, model: str, now: datetime | None = None) -> Committed:
        """Charged plus reserved in the scopes of a model of this batch, for choosing what may still fit."""
        with self.reading() as db:
            return self._committed(db, batch_id, model, timestamp(now or utc_now())[:10], "")


def _free() -> dict[str, object]:
    return {"settled": 1, "cost_nusd": 0, "settled_at": timestamp(utc_now())}
