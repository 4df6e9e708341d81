"""What every verb of a ledger stands on: one connection, and transactions whose failures are sentences."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager
from pathlib import Path

from orbatch.ledger.connection import reading, snapshot, writing
from orbatch.ledger.sharing import SharedCommits


class Transactions:
    """A connection to the ledger at ``path``. Belongs to the thread that opened it.

    ``commits``: for verbs of many jobs that may share a commit.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self.commits = SharedCommits(connection, path)

    def close(self) -> None:
        self.commits.flush()
        self._connection.close()

    def writing(self) -> AbstractContextManager[sqlite3.Connection]:
        """One transaction, durable at its end; or, for a verb that ``commits`` takes, a part of a shared one. Raises
        LedgerError."""
        if self.commits.is_taking:
            return self.commits.part()
        self.commits.flush()
        return writing(self._connection, self.path)

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """Reads, each of the state at its moment. Raises LedgerError."""
        return reading(self._connection, self.path)

    def snapshot(self) -> AbstractContextManager[sqlite3.Connection]:
        """Several reads of one state. Raises LedgerError. Nothing may be written inside."""
        self.commits.flush()
        return snapshot(self._connection, self.path)
