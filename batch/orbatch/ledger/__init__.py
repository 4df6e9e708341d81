"""The ledger: one SQLite file with every job, every paid request and every cent. The only place with SQL.

Every step of a job's life is one verb, one transaction, and one row of history. Each verb names the state that it
leaves and raises LedgerConflict when the row is elsewhere.
"""

from __future__ import annotations

from pathlib import Path

from orbatch.ledger.attempts import Attempts
from orbatch.ledger.budget import Allowed, Caps, Committed, Refused, room
from orbatch.ledger.controls import STOP, Control, Controls
from orbatch.ledger.database import (
    Database,
    LedgerConflict,
    LedgerError,
    LedgerMoved,
    OnDisk,
    connect,
    parse_timestamp,
    timestamp,
    utc_now,
)
from orbatch.ledger.leases import LEASE_S, BatchHeld, Holder, LeaseLost, Leases
from orbatch.ledger.plans import ModelTotals, Plans, PriceGroup, PromptTotals, StoredRequest
from orbatch.ledger.queries import Counts, ModelProgress, NoSuchJob, Queries
from orbatch.ledger.receipts import Receipts
from orbatch.ledger.records import (
    AttemptRecord,
    BatchFile,
    BatchRecord,
    Charge,
    JobRecord,
    OutputRecord,
    PlannedJob,
    Reservation,
    ReusableJob,
    Settlement,
    job_label,
    variant_text,
)
from orbatch.ledger.reports import GROUPINGS, Bills, ExportedJob, Filter, Grouping, ReportRow, Reports, UsageReadings
from orbatch.ledger.reviews import ModelOpinion, Review, Reviews, WinRate
from orbatch.ledger.schema import Selection
from orbatch.ledger.status import ENDED_REMOTELY, PAID_AND_OPEN, TRANSITIONS, Status

__all__ = [
    "ENDED_REMOTELY",
    "GROUPINGS",
    "LEASE_S",
    "PAID_AND_OPEN",
    "STOP",
    "TRANSITIONS",
    "Allowed",
    "AttemptRecord",
    "BatchFile",
    "BatchHeld",
    "BatchRecord",
    "Bills",
    "Caps",
    "Charge",
    "Committed",
    "Control",
    "Counts",
    "ExportedJob",
    "Filter",
    "Grouping",
    "Holder",
    "JobRecord",
    "LeaseLost",
    "Ledger",
    "LedgerConflict",
    "LedgerError",
    "LedgerMoved",
    "ModelOpinion",
    "ModelProgress",
    "ModelTotals",
    "NoSuchJob",
    "OnDisk",
    "OutputRecord",
    "PlannedJob",
    "PriceGroup",
    "PromptTotals",
    "Refused",
    "ReportRow",
    "Reservation",
    "ReusableJob",
    "Review",
    "Selection",
    "Settlement",
    "Status",
    "StoredRequest",
    "WinRate",
    "job_label",
    "parse_timestamp",
    "room",
    "timestamp",
    "utc_now",
    "variant_text",
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
        self.controls = Controls(database)
        self.queries = Queries(database)
        self.reports = Reports(database)
        self.reviews = Reviews(database)
        self.usage = UsageReadings(database)
        self.receipts = Receipts(database, self.attempts)

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
