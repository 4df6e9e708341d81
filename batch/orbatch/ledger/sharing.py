"""One commit for the steps of many jobs that come at the same time.

A commit waits for the disk, and the disk takes as long for one step as for a hundred. Steps that are ready together
share a transaction; each goes on when it is on disk, so that nothing is acted upon that a crash could undo.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from orbatch.ledger.connection import LedgerError, explain, writing_errors

if TYPE_CHECKING:  # imported where it runs: commands that only read start without it
    import asyncio

T = TypeVar("T")
OnDisk: TypeAlias = "asyncio.Future[None]"


class SharedCommits:
    """The shared transactions of one ledger. For use in one running event loop."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
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
        """Do ``step`` now; its result, and what to await before acting upon it. Others await the same: shield it."""
        self.is_taking = True
        try:
            result = step()
        finally:
            self.is_taking = False
        return result, self._committed or _already()

    @contextmanager
    def part(self) -> Iterator[sqlite3.Connection]:
        """The transaction of the step that is being taken: what is raised inside undoes this step, not the others."""
        with writing_errors(self._path):
            if self._committed is None:
                self._open()
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
            committed.set_result(None)

    def _open(self) -> None:
        import asyncio

        self._connection.execute("begin immediate")
        loop = asyncio.get_running_loop()
        self._committed = loop.create_future()
        # Behind everything that is ready now: that takes its steps first.
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
        committed.exception()  # whoever waited for it may have been cancelled; that is no fault of its own


def _already() -> OnDisk:
    """For a step that wrote nothing."""
    import asyncio

    nothing: OnDisk = asyncio.get_running_loop().create_future()
    nothing.set_result(None)
    return nothing
