"""What the account's own usage says about attempts of unknown fate: readings of ``GET /key`` around each submit.

A hint, never a proof: usage lags, and other programs may use the same key.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from orbatch.ledger.database import Database, timestamp
from orbatch.ledger.records import AttemptRecord

_BEFORE = """
select read_at, usage_nusd from usage_readings where account = :account and read_at <= :at
order by read_at desc, id desc limit 1
"""
_AFTER = """
select read_at, usage_nusd from usage_readings where account = :account and read_at > :at
order by read_at desc, id desc limit 1
"""
_EXPLAINED = """
select coalesce(sum(cost_nusd), 0) as nusd from attempts
where account = :account and settled = 1 and settled_at > :before and settled_at <= :after
"""


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
        """The part of the rise that no attempt of this ledger accounts for."""
        return max(0, self.rise_nusd - self.explained_nusd)


class UsageReadings:
    """The usage readings of a ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, account: str, usage_nusd: int, at: datetime) -> None:
        """Keep what the provider said an account has used in all, in nano-dollars."""
        with self._database.write() as db:
            db.execute(
                "insert into usage_readings (account, read_at, usage_nusd) values (:account, :read_at, :usage_nusd)",
                {"account": account, "read_at": timestamp(at), "usage_nusd": usage_nusd},
            )

    def around(self, attempt: AttemptRecord) -> UsageDelta | None:
        """The rise from the last reading before the attempt to the newest one; None without both."""
        values = {"account": attempt.account, "at": attempt.created_at}
        with self._database.read() as db:
            before, after = (db.execute(query, values).fetchone() for query in (_BEFORE, _AFTER))
            if before is None or after is None:
                return None
            times = {"before": before["read_at"], "after": after["read_at"]}
            explained = db.execute(_EXPLAINED, values | times).fetchone()
        rise = after["usage_nusd"] - before["usage_nusd"]
        return UsageDelta(rise, explained["nusd"], before["read_at"], after["read_at"])
