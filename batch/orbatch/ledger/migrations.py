"""Applies what a ledger lacks. Imported only then: an up-to-date ledger opens without sqlite-utils, which takes longer
to import than most commands take to run."""

from __future__ import annotations

import sqlite3

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from orbatch.ledger.schema import MIGRATION_SET, MIGRATIONS


def apply_migrations(connection: sqlite3.Connection) -> None:
    """Apply every migration that the ledger lacks, inside the caller's transaction."""
    migrations = Migrations(MIGRATION_SET)
    for name, statements in MIGRATIONS.items():
        migrations(name=name)(_Step(statements))
    migrations.apply(Database(connection, strict=True, execute_plugins=False, recursive_triggers=False))


class _Step:
    """A migration as sqlite-utils wants it: something to call with the database."""

    __name__ = "step"

    def __init__(self, statements: tuple[str, ...]) -> None:
        self._statements = statements

    def __call__(self, db: Database, /) -> None:
        for statement in self._statements:
            db.execute(statement)
