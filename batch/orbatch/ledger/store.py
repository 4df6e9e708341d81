"""The ledger: every step of a job's life is one verb, one transaction, and one row of history.

Each verb names the state that it leaves and raises LedgerConflict when the row is elsewhere.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from orbatch.ledger.attempts import Answers, Finishing, Resolving, Submitting, Waiting
from orbatch.ledger.database import LedgerError, connect, explain
from orbatch.ledger.leases import Leases
from orbatch.ledger.plans import Planning
from orbatch.ledger.queries import Queries
from orbatch.ledger.reports import Reports
from orbatch.ledger.usage import UsageReadings


class Ledger(Submitting, Finishing, Waiting, Resolving):
    """An open ledger. Belongs to the thread that opened it; close it, or use it as a context manager.

    ``plans``, ``leases``, ``queries``, ``reports``, ``evidence`` and ``answers`` are its other verbs, by subject.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        super().__init__(path, connection)
        self.plans = Planning(self)
        self.leases = Leases(self)
        self.queries = Queries(self)
        self.reports = Reports(self)
        self.evidence = UsageReadings(self)
        self.answers = Answers(self)

    @classmethod
    def open(cls, path: Path, *, create: bool = True) -> Ledger:
        """Raises LedgerError with a sentence for a missing, foreign, corrupt, newer or unwritable file."""
        return cls(path, connect(path, create=create))

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def backup(self, target: Path) -> None:
        """Copy the ledger, also one in use, to ``target``: the state of one moment, in one file.

        Raises LedgerError when there is such a file already, or it cannot be written; no half copy is left.
        """
        try:
            target.open("xb").close()
        except FileExistsError:
            raise LedgerError(f"{target} exists and was left as it is. Name another file for the backup.") from None
        except OSError as exc:
            raise LedgerError(f"The backup {target} cannot be written: {exc.strerror or exc}.") from exc
        copy = sqlite3.connect(target.absolute(), isolation_level=None)
        try:
            with self.reading() as db:
                self._copy(db, copy, target)
        except BaseException:
            copy.close()
            target.unlink(missing_ok=True)
            raise
        copy.close()

    @staticmethod
    def _copy(db: sqlite3.Connection, copy: sqlite3.Connection, target: Path) -> None:
        try:
            db.backup(copy)
            # A copy that nobody writes to needs no files beside it.
            copy.execute("pragma journal_mode = delete")
        except sqlite3.Error as exc:
            raise LedgerError(explain(exc, target).replace("The ledger", "The backup", 1)) from exc
