"""Requests to a running batch: stop, or continue with other caps and limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orbatch.ledger.database import Database, timestamp, utc_now

STOP = "stop"  # a setting without a value

_ADD = """
insert into controls (batch_id, setting, value, reason, config_sha256, at)
select id, :setting, :value, :reason, config_sha256, :at from batches where id = :batch_id
"""
_HOLDING = """
select controls.id, setting, value, reason, at from controls join batches on batches.id = controls.batch_id
where controls.batch_id = :batch_id and controls.config_sha256 = batches.config_sha256 and setting <> 'stop'
  and controls.id in (select max(id) from controls where batch_id = :batch_id group by setting) and value is not null
order by controls.id
"""


@dataclass(frozen=True, slots=True)
class Control:
    """One request. ``setting``: STOP, or a key of the batch file, such as ``budget.total_usd``; ``value`` as it was
    typed, None: that of the batch file again. ``at``: UTC."""

    id: int
    setting: str
    value: str | None
    reason: str | None
    at: str


class Controls:
    """The steering verbs of a ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, batch_id: int, settings: Mapping[str, str | None], reason: str | None = None) -> None:
        """Ask a run of the batch for these settings; those that begin later find them, too."""
        at = timestamp(utc_now())
        with self._database.write() as db:
            for setting, value in settings.items():
                db.execute(_ADD, {"batch_id": batch_id, "setting": setting, "value": value, "reason": reason, "at": at})

    def newest(self, batch_id: int) -> int:
        """The id of the latest request, 0 without any."""
        row = self._database.row("select max(id) as id from controls where batch_id = :batch_id", batch_id=batch_id)
        return (row["id"] if row is not None else None) or 0

    def since(self, batch_id: int, after: int) -> list[Control]:
        """What was asked after a request, the oldest first."""
        query = (
            "select id, setting, value, reason, at from controls where batch_id = :batch_id and id > :after order by id"
        )
        return [Control(*row) for row in self._database.rows(query, batch_id=batch_id, after=after)]

    def holding(self, batch_id: int) -> list[Control]:
        """The settings that hold in place of those in the batch file, until it is edited."""
        return [Control(*row) for row in self._database.rows(_HOLDING, batch_id=batch_id)]
