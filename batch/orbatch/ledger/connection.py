"""Opening a ledger: pragmas, migrations, and a clear sentence for every file that is not one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlite_utils import Database

from orbatch.ledger.schema import APPLICATION_ID, migrations

BUSY_TIMEOUT_S = 30.0  # how long one process waits for another's write transaction


class LedgerError(Exception):
    """The ledger cannot be used; the message names the file and says what to do. Nothing was sent."""


class LedgerConflict(LedgerError):
    """A row was not in the state that a step leaves: another process, or an earlier answer, has moved it."""


def utc_now() -> datetime:
    return datetime.now(UTC)


def timestamp(at: datetime) -> str:
    """The ledger's form of a time: UTC, ISO 8601, milliseconds; sorts as text."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def parse_timestamp(text: str) -> datetime:
    return datetime.fromisoformat(text)


def connect(path: Path, *, create: bool) -> sqlite3.Connection:
    """An open connection to the ledger at ``path``, migrated; made when missing and ``create``.

    WAL lets readers and the writer work side by side; ``synchronous=FULL`` makes every commit durable, because a
    lost commit would be a lost paid job. Raises LedgerError.
    """
    if not create and not path.exists():
        raise LedgerError(f"There is no ledger at {path}. `orbatch run` makes one; --db or ORBATCH_DB names another.")
    if path.is_dir():
        raise LedgerError(f"The ledger {path} is a folder. Name a file with --db or ORBATCH_DB.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    except (OSError, sqlite3.Error) as exc:
        raise LedgerError(f"The ledger {path} cannot be opened: {exc}.") from exc
    try:
        _prepare(connection, path)
    except sqlite3.Error as exc:
        connection.close()
        raise LedgerError(explain(exc, path)) from exc
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.row_factory = sqlite3.Row
    tables = connection.execute("select count(*) from sqlite_master").fetchone()[0]
    application = connection.execute("pragma application_id").fetchone()[0]
    if tables and application != APPLICATION_ID:
        raise LedgerError(f"{path} is a SQLite file of another program, not a ledger; it was left as it is.")
    if tables and not _migrations_to_apply(connection, path):
        _set_pragmas(connection)
        return
    _set_pragmas(connection)
    # Two processes may make the same ledger at once: the second finds the first one's tables.
    connection.execute("begin immediate")
    try:
        migrations.apply(Database(connection, strict=True, execute_plugins=False, recursive_triggers=False))
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise


def _set_pragmas(connection: sqlite3.Connection) -> None:
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")
    connection.execute("pragma foreign_keys = on")


def _migrations_to_apply(connection: sqlite3.Connection, path: Path) -> bool:
    known = {migration.name for migration in migrations._migrations}
    rows = connection.execute("select name from _sqlite_migrations where migration_set = ?", (migrations.name,))
    applied = {row["name"] for row in rows}
    if applied - known:
        raise LedgerError(
            f"The ledger {path} was written by a newer orbatch (it has {', '.join(sorted(applied - known))}). "
            "Upgrade orbatch; this version left it as it is."
        )
    return applied != known


def explain(error: sqlite3.Error, path: Path) -> str:
    """A sentence for an error of SQLite."""
    text = str(error)
    if "not a database" in text or "malformed" in text:
        return f"The ledger {path} is not a usable SQLite file ({text}). Restore a backup; it was left as it is."
    if "readonly" in text or "read-only" in text:
        return f"The ledger {path} cannot be written ({text}). Make the file and its folder writable."
    if "full" in text:
        return f"The disk of the ledger {path} is full ({text}). Free some space, then run the same command again."
    if "locked" in text or "busy" in text:
        return f"The ledger {path} stayed locked by another program for {BUSY_TIMEOUT_S:g} s ({text})."
    return f"The ledger {path} failed: {text}."


@contextmanager
def writing(connection: sqlite3.Connection, path: Path) -> Iterator[sqlite3.Connection]:
    """One write transaction, taken at once: a deferred one fails when it reads first and writes later.

    Raises LedgerError for a failure of SQLite; whatever is raised inside rolls back.
    """
    try:
        connection.execute("begin immediate")
        try:
            yield connection
            connection.execute("commit")
        except BaseException:
            # A full disk may have ended the transaction already.
            if connection.in_transaction:
                connection.execute("rollback")
            raise
    except sqlite3.IntegrityError as exc:
        raise LedgerConflict(f"The ledger {path} refused a step that contradicts it: {exc}.") from exc
    except sqlite3.Error as exc:
        raise LedgerError(explain(exc, path)) from exc


@contextmanager
def reading(connection: sqlite3.Connection, path: Path) -> Iterator[sqlite3.Connection]:
    """Reads, with SQLite's failures as LedgerError."""
    try:
        yield connection
    except sqlite3.Error as exc:
        raise LedgerError(explain(exc, path)) from exc
