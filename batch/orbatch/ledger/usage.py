"""What the account's own usage says about attempts of unknown fate: readings of ``GET /key`` around each submit.

A hint, never a proof: usage lags, and other programs may use the same key.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from orbatch.ledger.database import Database, timestamp
from orbatch.ledger.records import AttemptRecord


@dataclass(frozen=True, slots=True)
class UsageDelta:
    """How the account's usage moved around an attempt. ``explained_nusd``: what settled attempts of this ledger and
    account were charged in between. ``read_at``: the time of the later reading, UTC."""

    rise_nusd: int
    explained_nusd: int
    before_at: str
    read_at: str

    @property
    def unexplained_nusd(self) -> int:
        return max(0, self.rise_nusd - self.explained_nusd)


class UsageReadings:
    """The readings of a ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, account: str, usage_nusd: int, at: datetime) -> None:
        with self._database.write() as db:
            db.execute(
                "insert into usage_readings (account, read_at, usage_nusd) values (?, ?, ?)",
                (account, timestamp(at), usage_nusd),
            )

    def around(self, attempt: AttemptRecord) -> UsageDelta | None:
        """The rise from the last reading before the attempt to the newest one; None without both."""
        with self._database.read() as db:
            before = db.execute(
                "select read_at, usage_nusd from usage_readings where account = ? and read_at <= ? "
                "order by read_at desc, id desc limit 1",
                (attempt.account, attempt.created_at),
            ).fetchone()
            after = db.execute(
                "select read_at, usage_nusd from usage_readings where account = ? and read_at > ? "
                "order by read_at desc, id desc limit 1",
                (attempt.account, attempt.created_at),
            ).fetchone()
            if before is None or after is None:
                return None
            (explained,) = db.execute(
                "select coalesce(sum(cost_nusd), 0) from attempts where account = ? and settled = 1 and settled_at > ? "
                "and settled_at <= ?",
                (attempt.account, before["read_at"], after["read_at"]),
            ).fetchone()
        return UsageDelta(after["usage_nusd"] - before["usage_nusd"], explained, before["read_at"], after["read_at"])
