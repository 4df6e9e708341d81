"""The ledger: one SQLite file with every job, every paid request and every cent. The only place with SQL.

Every step of a job's life is one verb, one transaction, and one row of history. Each verb names the state that it
leaves and raises LedgerConflict when the row is elsewhere.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from orbatch.ledger.attempts import Attempts
from orbatch.ledger.database import (
    Database,
    LedgerConflict,
    LedgerError,
    OnDisk,
    connect,
    explain,
    parse_timestamp,
    timestamp,
    utc_now,
)
from orbatch.ledger.leases import BatchHeld, Holder, LeaseLost, Leases
from orbatch.ledger.plans import BatchFile, ModelTotals, Plans, PriceGroup
from orbatch.ledger.queries import Counts, NoSuchJob, Queries
from orbatch.ledger.records import (
    AttemptRecord,
    BatchRecord,
    Charge,
    JobRecord,
    OpenField,
    OutputRecord,
    PlanRecord,
    Reservation,
    Settlement,
)
from orbatch.ledger.reports import GROUPINGS, Bills, Filter, Grouping, ReportRow, Reports
from orbatch.ledger.usage import UsageReadings

__all__ = [
    "GROUPINGS",
    "AttemptRecord",
    "BatchFile",
    "BatchHeld",
    "BatchRecord",
    "Bills",
    "Charge",
    "Counts",
    "Filter",
    "Grouping",
    "Holder",
    "JobRecord",
    "LeaseLost",
    "Ledger",
    "LedgerConflict",
    "LedgerError",
    "ModelTotals",
    "NoSuchJob",
    "OnDisk",
    "OpenField",
    "OutputRecord",
    "PlanRecord",
    "PriceGroup",
    "ReportRow",
    "Reservation",
    "Settlement",
    "parse_timestamp",
    "timestamp",
    "utc_now",
]


class Ledger:
    """An open ledger and its verbs, by subject. Belongs to the thread that opened it; close it, or use it as a context
    manager."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.path = database.path
        self.commits = database.commits
        self.attempts = Attempts(database)
        self.plans = Plans(database)
        self.leases = Leases(database)
        self.queries = Queries(database)
        self.reports = Reports(database)
        self.usage = UsageReadings(database)

    @classmethod
    def open(cls, path: Path, *, create: bool = True) -> Ledger:
        """Raises LedgerError with a sentence for a missing, foreign, corrupt, newer or unwritable file."""
        return cls(Database(path, connect(path, create=create)))

    def close(self) -> None:
        """Commit what is open and close the file."""
        self.database.close()

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
            with self.database.read() as db:
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
