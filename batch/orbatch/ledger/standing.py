"""What the jobs of a batch were planned from, kept while every job stands as the plan has it: then an unchanged batch
need not be planned job by job.

A job that was accepted, or may have been, keeps its name when the plan has another, and an accepted one its request and
price; it takes them with a later plan if it comes to be sent again. While there is such a job nothing is kept, so that
there is a later plan.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import astuple
from typing import NamedTuple

from orbatch.ledger.records import OpenField, PlanRecord
from orbatch.ledger.sums import one_of
from orbatch.lifecycle import TRANSITIONS, Status

# A plan writes all of a job that was certainly never accepted, and what has ended for good is never sent again.
_MAY_LAG = one_of("status", [s for s in Status if TRANSITIONS[s] and s not in (Status.PENDING, Status.REJECTED)])

# In the order of what is compared with it.
_AS_PLANNED = """
delete from temp.lagging where key = ? and exists (select 1 from jobs where batch_id = ? and jobs.key = lagging.key
  and stem = ? and request = ? and estimate_low_nusd is ? and estimate_exact_nusd is ? and estimate_high_nusd is ?
  and price_lines = ? and price_why = ?)
"""


class AsPlanned(NamedTuple):
    """What a plan has of a job."""

    key: str
    stem: str
    request: str
    low_nusd: int | None
    exact_nusd: int | None
    high_nusd: int | None
    price_lines: str
    price_why: str


class Lagging:
    """The jobs of a batch that may not stand as the plan has them, while the plan is written. Kept on disk: they may be
    all of a long batch."""

    def __init__(self, db: sqlite3.Connection, batch_id: int) -> None:
        self._db = db
        self._batch_id = batch_id
        db.execute("create temp table if not exists lagging (key text primary key) without rowid")
        db.execute("delete from temp.lagging")
        found = db.execute(
            f"insert into temp.lagging select key from jobs where batch_id = ? and {_MAY_LAG}", (batch_id,)
        )
        self._are_any = found.rowcount > 0

    def compare(self, planned: Iterable[AsPlanned]) -> None:
        """Jobs that were just written."""
        if self._are_any:
            self._db.executemany(_AS_PLANNED, ((job.key, self._batch_id, *job[1:]) for job in planned))

    def end(self) -> bool:
        """Whether there are any. Jobs that have left the file are not sent, and a plan that brings them back compares
        them."""
        row = self._db.execute(
            "select 1 from temp.lagging join jobs on batch_id = ? and jobs.key = lagging.key where retired = 0",
            (self._batch_id,),
        ).fetchone()
        self._db.execute("delete from temp.lagging")
        return row is not None


def keep(db: sqlite3.Connection, batch_id: int, record: PlanRecord) -> None:
    db.execute(
        "insert into plans (batch_id, sources, prices, models, left_open, jobs_digest) values (?, ?, ?, ?, ?, ?)",
        (
            *(batch_id, record.sources, record.prices, json.dumps(record.models)),
            *(json.dumps([astuple(each) for each in record.left_open]), record.digest),
        ),
    )


def forget(db: sqlite3.Connection, batch_id: int) -> None:
    db.execute("delete from plans where batch_id = ?", (batch_id,))
    db.execute("delete from plan_pictures where batch_id = ?", (batch_id,))


def add_pictures(db: sqlite3.Connection, batch_id: int, pictures: Iterable[tuple[str, str]]) -> None:
    """A file that changed while the jobs were made has two contents; what is kept of it then equals no content."""
    db.executemany(
        "insert into plan_pictures (batch_id, path, sha256) values (?, ?, ?) "
        "on conflict do update set sha256 = 'changed' where sha256 <> excluded.sha256",
        ((batch_id, path, content) for path, content in pictures),
    )


def find(db: sqlite3.Connection, name: str) -> PlanRecord | None:
    row = db.execute(
        "select sources, prices, models, left_open, jobs_digest from plans "
        "join batches on batches.id = plans.batch_id where name = ?",
        (name,),
    ).fetchone()
    if row is None:
        return None
    left_open = tuple(OpenField(*each) for each in json.loads(row["left_open"]))
    return PlanRecord(row["sources"], row["prices"], json.loads(row["models"]), left_open, row["jobs_digest"])
