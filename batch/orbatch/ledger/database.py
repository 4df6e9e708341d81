"""One SQLite file as a database of transactions: opening and migrating it, and commits that several steps share."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from orbatch.ledger.schema import APPLICATION_ID, MIGRATION_SET, MIGRATIONS, apply_migration

# asyncio and sqlite_utils are imported where they are used: together they take longer to import than most commands run.
if TYPE_CHECKING:
    import asyncio

MOST_CHECKED_BYTES = 256_000_000  # about half a second
BUSY_TIMEOUT_S = 30.0  # how long one process waits for another's write transaction
_NEEDED_SQLITE = (3, 39)  # `is not distinct from`; `->>` came with 3.38

T = TypeVar("T")
OnDisk: TypeAlias = "asyncio.Future[None]"


class LedgerError(Exception):
    """The ledger cannot be used; the message names the file and says what to do. Nothing was submitted."""


class LedgerMoved(LedgerError):
    """The file was removed, renamed or replaced while it was open: what is written now, no other command will find."""


class LedgerConflict(LedgerError):
    """A row was not in the state that a step leaves: another process, or an earlier answer, has moved it."""


def utc_now() -> datetime:
    """The time that verbs record."""
    return datetime.now(UTC)


def timestamp(at: datetime) -> str:
    """The ledger's form of a time: UTC, ISO 8601, milliseconds; sorts as text."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def parse_timestamp(text: str) -> datetime:
    """A time from the ledger."""
    return datetime.fromisoformat(text)


_DAMAGED = (
    "is damaged ({}). Restore a backup, or move it away: the next `orbatch run` takes over what the receipts beside "
    "the outputs know."
)
# By SQLite's primary code; {}: its own words.
_ADVICE = {
    sqlite3.SQLITE_NOTADB: "is not a SQLite file ({}) and was not changed. Name another with --db or ORBATCH_DB.",
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_READONLY: "cannot be written ({}). Make the file and its directory writable.",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened ({}). Make the file and its directory readable and writable.",
    sqlite3.SQLITE_PERM: "cannot be opened ({}). Make the file and its directory readable and writable.",
    sqlite3.SQLITE_FULL: "has no more room ({}). Free some disk space, then run the same command again.",
    sqlite3.SQLITE_IOERR: "could not be read or written ({}). Check the disk and its free space, then run again.",
    sqlite3.SQLITE_BUSY: f"stayed locked by another program for {BUSY_TIMEOUT_S:g} s ({{}}). Close it and run again.",
}
_PRIMARY_CODE = 0xFF  # the rest of an extended error code tells only the variant


_NOT_WRITABLE = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}


def _code(error: BaseException) -> int:
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE


def explain(error: sqlite3.Error, path: Path) -> str:
    """A sentence for an error of SQLite."""
    advice = _ADVICE.get(_code(error), "failed: {}.")
    return f"The ledger {path} {advice.format(error)}"


# -- opening ----------------------------------------------------------------------------------------------------------


def connect(path: Path, *, create: bool) -> sqlite3.Connection:
    """An open connection to the ledger at ``path``, migrated; made when missing and ``create``.

    Raises LedgerError; a file that is not a ledger of ours is not changed.
    """
    # Absolute, because SQLite would keep a ledger of the name ":memory:" nowhere.
    file = path.absolute()
    if sqlite3.sqlite_version_info < _NEEDED_SQLITE:
        raise LedgerError(f"This Python has SQLite {sqlite3.sqlite_version}; orbatch needs 3.39. Use a newer Python.")
    if file.is_dir():
        raise LedgerError(f"The ledger {path} is a directory. Name a file with --db or ORBATCH_DB.")
    if not create and not file.exists():
        raise LedgerError(f"There is no ledger at {path}. `orbatch run` creates one; --db or ORBATCH_DB names another.")
    try:
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            _create(file)
        connection = sqlite3.connect(file, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            prepare(connection, path)
        except BaseException as exc:
            connection.close()
            if create or _code(exc) not in _NOT_WRITABLE:
                raise
            connection = _connect_read_only(file, path)
    except OSError as exc:
        raise LedgerError(f"The ledger {path} cannot be created: {exc.strerror or exc}. Name another place.") from exc
    except sqlite3.Error as exc:
        raise LedgerError(explain(exc, path)) from exc
    return connection


def _connect_read_only(file: Path, path: Path) -> sqlite3.Connection:
    """For commands that only read, a ledger that cannot be written. Raises LedgerError, sqlite3.Error."""
    for how in ("mode=ro", "mode=ro&immutable=1"):
        wal = file.with_name(f"{file.name}-wal")
        if "immutable" in how and wal.exists() and wal.stat().st_size:
            break  # its latest commits are in a file that cannot be read this way
        connection = sqlite3.connect(f"{file.as_uri()}?{how}", timeout=BUSY_TIMEOUT_S, isolation_level=None, uri=True)
        connection.row_factory = sqlite3.Row
        try:
            is_old = _lacks_migrations(connection, path)
        except sqlite3.Error:
            connection.close()
            continue
        if is_old:
            connection.close()
            raise LedgerError(f"The ledger {path} is of an older orbatch and cannot be written. Make it writable once.")
        return connection
    raise LedgerError(f"The ledger {path} cannot be read here. Make the file and its directory writable, or copy both.")


def _create(file: Path) -> None:
    """An empty file that only the user can read, as SQLite then makes the files beside it. Raises OSError."""
    os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Set up a connection that was just opened, and migrate what it is connected to."""
    connection.row_factory = sqlite3.Row
    lacks_migrations = _is_new(connection, path) or _lacks_migrations(connection, path)
    # WAL lets readers and the writer work side by side; `full` makes every commit durable, because a lost commit would
    # be a lost paid job.
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")
    if lacks_migrations:
        # A migration re-creates tables, which foreign keys would take for deleted rows.
        connection.execute("pragma foreign_keys = off")
        _migrate(connection, path)
    connection.execute("pragma foreign_keys = on")


def _is_new(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the file is empty. Raises LedgerError for one that another program has made."""
    # Read together, because another process may be making the same ledger.
    tables, application = connection.execute(
        "select (select count(*) from sqlite_master), application_id from pragma_application_id"
    ).fetchone()
    if application == APPLICATION_ID:
        return not tables
    if tables or application:
        raise LedgerError(f"{path} belongs to another program and was not changed. Name another file with --db.")
    return True


def _lacks_migrations(connection: sqlite3.Connection, path: Path) -> bool:
    rows = connection.execute("select name from _sqlite_migrations where migration_set = ?", (MIGRATION_SET,))
    applied = {row["name"] for row in rows}
    unknown = applied - MIGRATIONS.keys()
    if unknown:
        raise LedgerError(
            f"The ledger {path} was written by a newer orbatch (it has {', '.join(sorted(unknown))}) "
            "and was not changed. Upgrade orbatch."
        )
    return applied != MIGRATIONS.keys()


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    from sqlite_utils import Database as Migrated
    from sqlite_utils.migrations import Migrations

    migrations = Migrations(MIGRATION_SET)
    for name in MIGRATIONS:
        migrations(name=name)(lambda db, name=name: apply_migration(db.conn, name))
    # One transaction for all: of two processes that make the same ledger, the second finds the first one's tables.
    with _transaction(connection, path):
        migrations.apply(Migrated(connection, strict=True, execute_plugins=False, recursive_triggers=False))


# -- transactions -----------------------------------------------------------------------------------------------------


# Not a deferred transaction, which fails when it reads first and writes later.
_IMMEDIATE = "begin immediate"


@contextmanager
def _transaction(connection: sqlite3.Connection, path: Path, begin: str = _IMMEDIATE) -> Iterator[sqlite3.Connection]:
    """One transaction; whatever is raised inside rolls back."""
    with _write_errors(path):
        connection.execute(begin)
        try:
            yield connection
            connection.execute("commit")
        except BaseException:
            # A full disk may have ended the transaction already.
            if connection.in_transaction:
                connection.execute("rollback")
            raise


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError as exc:
        raise LedgerConflict(f"The ledger {path} refused a step that contradicts it: {exc}.") from exc
    except sqlite3.Error as exc:
        raise LedgerError(explain(exc, path)) from exc


class SharedCommits:
    """The shared transactions of one ledger. For use in one running event loop."""

    def __init__(self, connection: sqlite3.Connection, path: Path, after_commit: Callable[[], None]) -> None:
        self._connection = connection
        self._path = path
        self._after_commit = after_commit
        self._committed: OnDisk | None = None  # of the open transaction: done when it is on disk
        self.is_taking = False

    async def durably(self, step: Callable[[], T]) -> T:
        """Do ``step``, a verb of the ledger, and return its result once it is on disk.

        Raises what the step raises, which undoes it alone, and LedgerError when the disk refuses.
        """
        import asyncio

        result, on_disk = self.take(step)
        await asyncio.shield(on_disk)
        return result

    def take(self, step: Callable[[], T]) -> tuple[T, OnDisk]:
        """Do ``step`` now; its result, and what to await before acting on it. Others await the same: shield it."""
        self.is_taking = True
        try:
            result = step()
        finally:
            self.is_taking = False
        return result, self._committed or _nothing_to_commit()

    @contextmanager
    def part(self) -> Iterator[sqlite3.Connection]:
        """The transaction of the step that is being taken: what is raised inside undoes this step, not the others."""
        with _write_errors(self._path):
            if self._committed is None:
                self._begin()
            self._connection.execute("savepoint step")
            try:
                yield self._connection
            except BaseException as exc:
                self._undo(exc)
                raise
            self._connection.execute("release step")

    def flush(self) -> None:
        """Commit what is open. A failure is raised where the steps are awaited."""
        committed, self._committed = self._committed, None
        if committed is None:
            return
        try:
            self._connection.execute("commit")
        except sqlite3.Error as exc:
            if self._connection.in_transaction:
                self._connection.execute("rollback")
            self._fail(committed, exc)
        else:
            self._after_commit()
            committed.set_result(None)

    def _begin(self) -> None:
        import asyncio

        self._connection.execute("begin immediate")
        loop = asyncio.get_running_loop()
        self._committed = loop.create_future()
        # Behind everything that is ready now, which takes its steps first.
        loop.call_soon(self.flush)

    def _undo(self, cause: BaseException) -> None:
        if self._connection.in_transaction:
            self._connection.execute("rollback to step")
            self._connection.execute("release step")
            return
        # A full disk ends the whole transaction, and with it the steps that were taken before.
        committed, self._committed = self._committed, None
        if committed is not None:
            self._fail(committed, cause)

    def _fail(self, committed: OnDisk, cause: BaseException) -> None:
        text = explain(cause, self._path) if isinstance(cause, sqlite3.Error) else str(cause)
        committed.set_exception(LedgerError(text))
        committed.exception()  # whoever awaited it may be cancelled; then nobody else reads it, which is no fault


def _nothing_to_commit() -> OnDisk:
    import asyncio

    done: OnDisk = asyncio.get_running_loop().create_future()
    done.set_result(None)
    return done


def _identity(file: Path) -> tuple[int, int] | None:
    """Device and inode; None where there is no such file."""
    try:
        found = os.stat(file)  # noqa: PTH116 - checked before every submit, and half as fast through Path
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Database:
    """A connection to the ledger at ``path``. Belongs to the thread that opened it.

    ``commits``: for verbs of many jobs that may share a commit. ``after_commit`` is called after every commit, before
    anybody acts on it.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._file = path.absolute()
        self._identity = _identity(self._file)
        self._connection = connection
        self.commits = SharedCommits(connection, path, self._committed)
        self.after_commit: Callable[[], None] | None = None

    def close(self) -> None:
        """Commit what is open and close the connection."""
        self.commits.flush()
        self._connection.close()

    def check_in_place(self) -> None:
        """Raises LedgerMoved when the file at the ledger's path is not the one that was opened."""
        if _identity(self._file) != self._identity:
            raise LedgerMoved(
                f"The ledger {self.path} was moved, removed or replaced while it was in use, so nothing more is "
                "submitted. Run the same command again: it takes over what the receipts beside the outputs know."
            )

    def check_whole(self) -> None:
        """Raises LedgerError for a damaged file, before anything is bought that is on a damaged page. A ledger of more
        than MOST_CHECKED_BYTES is not read whole: that would take seconds."""
        if self._file.stat().st_size <= MOST_CHECKED_BYTES:
            with self.read() as db:
                [found] = db.execute("pragma quick_check(1)").fetchone()
            if found != "ok":
                raise LedgerError(f"The ledger {self.path} {_DAMAGED.format(found)}")

    def check_single_name(self) -> None:
        """Raises LedgerError for a hard link: SQLite's journal goes by name, so two names would be two ledgers."""
        links = self._file.stat().st_nlink
        if links > 1:
            raise LedgerError(
                f"The ledger {self.path} has {links} names (hard links), which SQLite cannot use safely. "
                "Remove all but one of them, then run the command again."
            )

    def write(self) -> AbstractContextManager[sqlite3.Connection]:
        """One transaction, durable at its end; or, for a verb that ``commits`` takes, a part of a shared one. Raises
        LedgerError."""
        if self.commits.is_taking:
            return self.commits.part()
        self.commits.flush()
        return self._alone()

    @contextmanager
    def _alone(self) -> Iterator[sqlite3.Connection]:
        with _transaction(self._connection, self.path) as db:
            yield db
        self._committed()

    def aside(self) -> AbstractContextManager[sqlite3.Connection]:
        """A transaction on temporary tables alone, which keeps no other process from writing. Raises LedgerError."""
        self.commits.flush()
        return _transaction(self._connection, self.path, "begin")

    def _committed(self) -> None:
        if self.after_commit is not None:
            self.after_commit()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Reads, each of the state at its moment. Raises LedgerError."""
        try:
            yield self._connection
        except sqlite3.Error as exc:
            raise LedgerError(explain(exc, self.path)) from exc

    def rows(self, query: str, /, **values: object) -> list[sqlite3.Row]:
        """All rows of a query. Raises LedgerError."""
        with self.read() as db:
            return db.execute(query, values).fetchall()

    def row(self, query: str, /, **values: object) -> sqlite3.Row | None:
        """The first row of a query, None without one. Raises LedgerError."""
        with self.read() as db:
            found: sqlite3.Row | None = db.execute(query, values).fetchone()
        return found

    def count(self, query: str, /, **values: object) -> int:
        """How many rows a query that begins with ``from`` finds. Raises LedgerError."""
        with self.read() as db:
            return int(db.execute(f"select count(*) {query}", values).fetchone()[0])

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Several reads of one state, whatever a run writes meanwhile. Raises LedgerError. Write nothing inside."""
        self.commits.flush()
        with self.read() as db:
            db.execute("begin")
            try:
                yield db
            finally:
                if db.in_transaction:
                    db.execute("rollback")

    def backup(self, target: Path) -> None:
        """Copy the ledger, also one in use, to ``target``: the state of one moment, in one file that only the user can
        read. A file of this name is replaced. Raises LedgerError when it cannot be written; no half copy is left."""
        part = target.absolute().with_name(f".{target.name}.{os.getpid()}.part")
        try:
            _create(part)
            with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as copy:
                self._connection.backup(copy)
                # A copy that nobody writes to needs no files beside it.
                copy.execute("pragma journal_mode = delete")
            part.replace(target)
        except sqlite3.Error as exc:
            raise LedgerError(explain(exc, target).replace("The ledger", "The backup", 1)) from exc
        except OSError as exc:
            raise LedgerError(f"The backup {target} cannot be written: {exc.strerror or exc}.") from exc
        finally:
            part.unlink(missing_ok=True)
