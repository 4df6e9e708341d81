"""One runner per batch: a lease with owner, host, process and expiry, renewed by a heartbeat.

A lease is taken over when it has expired, or when its holder is provably dead: a process id that no longer exists on
the very host and in the very process namespace that wrote it. Anything less than proof waits for the expiry.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from orbatch.ledger.database import Database, LedgerError, parse_timestamp, timestamp

LEASE_S = 60.0  # a runner that is silent for longer may be taken over
HEARTBEAT_S = 15.0  # so that three heartbeats may be late before a lease expires
TAKEN_OVER = "Another runner has taken this batch over, because this one was silent for too long."


class BatchHeld(LedgerError):
    """Another runner has the batch; the message says who and what to do."""


class LeaseLost(LedgerError):
    """This runner was silent beyond its lease and another one has taken the batch over: stop submitting."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A runner's identity: ``owner`` is unique per process, ``host`` names machine, boot and process namespace."""

    owner: str
    host: str
    pid: int

    @classmethod
    def this_process(cls) -> Holder:
        """A holder with an owner name that no other call returns."""
        return cls(uuid.uuid4().hex, host_identity(), os.getpid())


def host_identity() -> str:
    """Two equal identities see the same process ids; after a reboot or in another container they differ."""
    parts = [socket.gethostname()]
    for path in (Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")):
        try:
            parts.append(str(path.readlink()) if path.is_symlink() else path.read_text("ascii").strip())
        except OSError:
            parts.append("-")
    return " ".join(parts)


def is_provably_dead(host: str, pid: int) -> bool:
    """Whether the process that wrote this lease cannot be alive."""
    # Without /proc the identity has no boot and namespace, and signal 0 would kill on Windows.
    if host != host_identity() or "-" in host.split()[1:] or os.name != "posix":
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False  # it lives, as another user's
    return False


def check_free(db: sqlite3.Connection, batch_id: int, now: datetime, owner: str | None = None) -> None:
    """Raises BatchHeld while a runner other than ``owner`` has the batch."""
    row = db.execute(
        "select name, lease_owner, lease_host, lease_pid, lease_until from batches where id = :id", {"id": batch_id}
    ).fetchone()
    if row["lease_owner"] in (None, owner):
        return
    until = parse_timestamp(row["lease_until"])
    if until > now and not is_provably_dead(row["lease_host"], row["lease_pid"]):
        raise BatchHeld(
            f"Batch {row['name']} is being run by process {row['lease_pid']} on {row['lease_host'].split()[0]}. "
            f"Wait for it or stop it; if that machine is gone, the batch is free again at {timestamp(until)} "
            f"(in {(until - now).total_seconds():.0f} s)."
        )


class Leases:
    """The lease verbs of a ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def check_free(self, batch_id: int, now: datetime) -> None:
        """Raises BatchHeld while a runner has the batch: it would not notice that a job was changed."""
        with self._database.read() as db:
            check_free(db, batch_id, now)

    def holder(self, batch_id: int, now: datetime) -> str | None:
        """Who runs the batch: ``process 123 on host``; None: nobody."""
        try:
            self.check_free(batch_id, now)
        except BatchHeld:
            with self._database.read() as db:
                row = db.execute(
                    "select lease_host, lease_pid from batches where id = :id", {"id": batch_id}
                ).fetchone()
            return None if row["lease_pid"] is None else f"process {row['lease_pid']} on {row['lease_host'].split()[0]}"
        return None

    def claim(self, batch_id: int, holder: Holder, now: datetime, length_s: float = LEASE_S) -> None:
        """Take the batch for ``holder``. Raises BatchHeld while another runner has it."""
        self._cap(batch_id, now, length_s)
        with self._database.write() as db:
            check_free(db, batch_id, now, holder.owner)
            db.execute(
                "update batches set lease_owner = :owner, lease_host = :host, lease_pid = :pid, lease_until = :until "
                "where id = :batch_id",
                {"batch_id": batch_id, "owner": holder.owner, "host": holder.host, "pid": holder.pid}
                | {"until": timestamp(now + timedelta(seconds=length_s))},
            )

    def _cap(self, batch_id: int, now: datetime, length_s: float) -> None:
        """A lease that ends later than any honest one was written by a clock that was wrong: it ends like one that was
        written now. A runner that is alive renews it."""
        latest = timestamp(now + timedelta(seconds=2 * max(length_s, LEASE_S)))
        with self._database.write() as db:
            db.execute(
                "update batches set lease_until = :until where id = :batch_id and lease_until > :latest",
                {"batch_id": batch_id, "latest": latest, "until": timestamp(now + timedelta(seconds=length_s))},
            )

    def renew(self, batch_id: int, holder: Holder, now: datetime, length_s: float = LEASE_S) -> None:
        """The heartbeat. Raises LeaseLost when the batch has another holder."""
        until = timestamp(now + timedelta(seconds=length_s))
        with self._database.write() as db:
            renewed = db.execute(
                "update batches set lease_until = :until where id = :batch_id and lease_owner = :owner",
                {"batch_id": batch_id, "owner": holder.owner, "until": until},
            )
            if renewed.rowcount == 0:
                raise LeaseLost(TAKEN_OVER)

    def forget(self, batch_id: int) -> None:
        """In a copy of a ledger: nobody runs the batch."""
        with self._database.write() as db:
            db.execute("update batches set lease_owner = null where id = :batch_id", {"batch_id": batch_id})

    def release(self, batch_id: int, holder: Holder) -> None:
        """Give the batch back; one that has another holder is left alone."""
        with self._database.write() as db:
            db.execute(
                "update batches set lease_owner = null, lease_host = null, lease_pid = null, lease_until = null "
                "where id = :batch_id and lease_owner = :owner",
                {"batch_id": batch_id, "owner": holder.owner},
            )

    def other_runners(self, batch_id: int, now: datetime) -> int:
        """How many other batches of this ledger are being run now."""
        query = "from batches where lease_until > :now and id <> :batch_id"
        return self._database.count(query, now=timestamp(now), batch_id=batch_id)
