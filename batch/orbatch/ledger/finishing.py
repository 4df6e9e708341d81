"""From acceptance to the end: the charge when the provider is done, the files when they are here, or neither."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from orbatch.budget import Caps
from orbatch.ledger import moves, settlement
from orbatch.ledger.connection import LedgerConflict, timestamp, utc_now
from orbatch.ledger.records import OutputRecord, Settlement
from orbatch.ledger.transactions import Transactions
from orbatch.lifecycle import Status


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
            job_id = moves.step(db, attempt_id, (Status.COMPLETED,), Status.DONE, at, columns=columns)
            write_outputs(db, job_id, attempt_id, outputs, at)

    def lose(self, attempt_id: int, error: str) -> None:
        """completed -> lost: paid, but the provider no longer has the content."""
        with self.writing() as db:
            moves.step(db, attempt_id, (Status.COMPLETED,), Status.LOST, timestamp(utc_now()), error=error)

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
            moves.remark(db, row["job_id"], attempt_id, at, "fetched again")

    def settle(self, attempt_id: int, cost_nusd: int, *, is_byok: bool, caps: Caps) -> Settlement:
        """Record a charge that was not known when the job ended. A settled attempt is left alone."""
        with self.writing() as db:
            return settlement.settle(db, attempt_id, cost_nusd, is_byok, caps, timestamp(utc_now()))

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
            columns |= settlement.charge(cost_nusd, is_byok, at)
        with self.writing() as db:
            moves.step(db, attempt_id, (Status.SUBMITTED,), status, at, columns=columns, error=error)
            return Settlement(None) if cost_nusd is None else settlement.of_charged(db, attempt_id, cost_nusd, caps)


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
