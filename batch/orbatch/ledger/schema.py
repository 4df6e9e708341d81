"""The schema: its SQL is in ``sql/``, applied by migrations; here are the conditions that several queries share."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from orbatch.ledger.status import Status

APPLICATION_ID = 0x6F726274  # "orbt": tells a ledger from any other SQLite file
MIGRATION_SET = "orbatch"

# The SQL files of each migration, by name in the order in which they are applied; what was released is never edited.
# 0.1.0 made its tables in the first two, and m003 replaces all that they made, so a new ledger does not make it first.
MIGRATIONS: Mapping[str, tuple[str, ...]] = {
    "m001_ledger": (),
    "m002_plans": (),
    "m003_committed": ("tables", "indexes"),
    "m004_controls": ("controls",),
    "m005_reviews": ("reviews",),
}
_FROM_0_1_0 = ("from_0_1_0_set_aside", "tables", "from_0_1_0_move", "indexes")

RELEASED = "released"  # status of an attempt that certainly started nothing, so that its job is pending again

# The condition of a partial index (sql/indexes.sql); SQLite uses the index only for a query that repeats it.
OPEN = "status in ('submitting', 'submitted', 'completed', 'uncertain')"

# The jobs that a batch consists of: those of its file, and those that have left it and are not over.
COUNTED_JOBS = f"(retired = 0 or {OPEN})"

# What an attempt counts for under a cap. A charge to the user's own provider account (BYOK) is only OpenRouter's fee:
# the provider bills the rest elsewhere, so such an attempt keeps counting at its worst case.
COUNTED = """case when settled = 0 then coalesce(reserved_nusd, 0)
    when is_byok = 0 or cost_nusd > coalesce(reserved_nusd, 0) then cost_nusd else coalesce(reserved_nusd, 0) end"""

# The attempt that a job's state comes from: the newest one that was started, or else the newest.
LATEST_ATTEMPT = """(select a.id from attempts a where a.job_id = jobs.id
    order by case when a.status in ('released', 'rejected') then 1 else 0 end, a.number desc limit 1)"""


def only_condition(only: str | None) -> str:
    """The condition of ``--only``, behind others on ``jobs``: ``:only`` is a pattern for prompt id, model or job id."""
    # The function, not the operator `glob`, because another database can be given a function.
    return Selection(only).condition()


@dataclass(frozen=True, slots=True)
class Selection:
    """Which jobs; None: all. ``only`` and ``model`` are patterns, ``prompt`` one for the id, or a part of the text."""

    only: str | None = None
    prompt: str | None = None
    model: str | None = None
    statuses: tuple[Status, ...] = ()
    current: bool = False  # only jobs of the batch file, none that has left it

    def condition(self, job_id: str = "jobs.id") -> str:
        """Behind others on ``jobs``, or on a view in which the id of a job is ``job_id``; with ``values``."""
        table = "" if job_id == "job_id" else "jobs."
        given = {
            f"(glob(:only, {table}prompt_id) or glob(:only, {table}model) or glob(:only, {job_id}))": self.only,
            f"(glob(:prompt, {table}prompt_id) or instr(lower({table}prompt), lower(:prompt)) > 0)": self.prompt,
            f"(glob(:model, {table}model) or instr({table}model, :model) > 0)": self.model,
            " or ".join(f"{table}status = '{Status(status)}'" for status in self.statuses): self.statuses or None,
        }
        chosen = "".join(f" and ({text})" for text, value in given.items() if value is not None)
        return f"{chosen} and {table}retired = 0" if self.current else chosen

    @property
    def values(self) -> dict[str, str | None]:
        """Of the parameters in the condition."""
        return {"only": self.only, "prompt": self.prompt, "model": self.model}


EVERY_JOB = Selection()


def apply_migration(db: sqlite3.Connection, name: str) -> None:
    """Run the SQL of a migration, in the caller's transaction; a ledger of 0.1.0 keeps its rows."""
    # Slow to import, and most commands find a ledger that is up to date.
    from importlib.resources import files

    sources = MIGRATIONS[name]
    if name == "m003_committed":
        if db.execute("select 1 from sqlite_master where name = 'jobs'").fetchone() is not None:
            sources = _FROM_0_1_0
        db.execute(f"pragma application_id = {APPLICATION_ID}")
    for source in sources:
        script = files("orbatch.ledger").joinpath("sql", f"{source}.sql").read_text("utf-8")
        # Not `executescript`, which would commit the migration's transaction first.
        for statement in script.split("\n\n"):
            db.execute(statement)
