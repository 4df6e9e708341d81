"""The schema, pinned: a change of a released table is a new migration, and its readers are told."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from orbatch.ledger import Charge, Filter, Ledger, LedgerError, Status
from orbatch.ledger.schema import APPLICATION_ID, MIGRATIONS
from tests.ledger.books import NO_CAPS


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def schema(path: Path) -> list[tuple[Any, ...]]:
    return rows(path, "select name, sql from sqlite_master where name not like 'sqlite_%' order by name")


def test_every_amount_of_money_is_a_whole_number_in_a_strict_table(path: Path) -> None:
    """docs/ledger.md pins which tables and columns there are."""
    tables = rows(path, "select name, strict from pragma_table_list where type = 'table' and name not like '%sqlite_%'")
    assert [name for name, strict in tables if not strict] == []
    columns = {column[1:3] for name, _ in tables for column in rows(path, f"pragma table_info({name})")}
    assert {kind for name, kind in columns if name.endswith("_nusd")} == {"INTEGER"}


def test_the_report_of_jobs_begins_with_the_promised_columns(path: Path) -> None:
    promised = (
        "job_id batch prompt_id prompt variables seed model kind status remote_id attempts estimate_low_usd "
        "estimate_high_usd cost_usd output_path bytes sha256 error created_at submitted_at completed_at done_at"
    )  # other programs read these columns by name, people by place
    assert " ".join(row[1] for row in rows(path, "pragma table_info(job_report)")).startswith(promised)


def test_the_migrations_are_those_that_are_recorded_in_a_new_ledger(path: Path) -> None:
    recorded = [name for (name,) in rows(path, "select name from _sqlite_migrations order by id")]
    assert (
        recorded == list(MIGRATIONS) == ["m001_ledger", "m002_plans", "m003_committed", "m004_controls", "m005_reviews"]
    )
    assert rows(path, "pragma application_id") == [(APPLICATION_ID,)]


def test_a_migration_that_fails_leaves_the_ledger_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = schema(path)
    monkeypatch.setitem(MIGRATIONS, "m999_broken", ("from_0_1_0_set_aside", "indexes"))
    with pytest.raises(LedgerError, match="no such table"):
        Ledger.open(path)
    assert schema(path) == before


# -- a ledger of 0.1.0 ------------------------------------------------------------------------------------------------


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A ledger that orbatch 0.1.0 wrote: batch cats with a job in every state, and dogs with what only it could do."""
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((Path(__file__).parent / "data" / "ledger-0.1.0.sql").read_text("utf-8"))
        connection.execute(f"pragma application_id = {APPLICATION_ID}")
    return path


def test_an_old_ledger_becomes_as_a_new_one_and_keeps_every_row(old: Path, path: Path) -> None:
    def content(table: str) -> list[tuple[Any, ...]]:
        # The columns that 0.1.0 had.
        names = ", ".join(
            row[1] for row in rows(old, f"pragma table_info({table})") if not row[1].startswith("receipts_")
        )
        return rows(old, f"select {names} from {table} order by id")  # noqa: S608 - constants

    same = ("catalogs", "batches", "jobs", "outputs", "usage_readings")
    before, events = [content(table) for table in same], content("events")
    Ledger.open(old).close()
    assert schema(old) == schema(path)
    assert [content(table) for table in same] == before
    assert content("events")[: len(events)] == events
    assert (rows(old, "pragma foreign_key_check"), rows(old, "pragma integrity_check")) == ([], [("ok",)])


def test_an_old_ledger_keeps_what_was_charged_and_reserved(old: Path) -> None:
    kept = "select sum(charged_nusd), sum(reserved_nusd), sum(charged_nusd + reserved_nusd + byok_held_nusd) from spend"
    [(charged, reserved, committed)] = rows(old, kept)
    with Ledger.open(old) as ledger:
        total = ledger.reports.total(Filter())
        assert (total.charged_nusd, total.reserved_nusd) == (charged, reserved)
        assert tuple(map(sum, zip(*[ledger.reports.spend(n) for n in (1, 2)], strict=True))) == (charged, reserved)
    assert rows(old, "select sum(committed_nusd) from committed") == [(committed,)]


def test_of_several_open_attempts_in_an_old_ledger_the_newest_goes_on(old: Path) -> None:
    """0.1.0 could buy an uncertain job again. What the first attempt may have cost stays reserved until it is known."""
    with Ledger.open(old) as ledger:
        jobs = {row["prompt"]: row["job_id"] for row in ledger.reports.job_rows(2)}

        def attempts(prompt: str) -> list[str]:
            return [attempt.status for attempt in ledger.queries.attempts(jobs[prompt])]

        assert attempts("twice") == ["lost", "submitted"]
        assert attempts("accepted twice") == ["lost", "submitted"]
        assert attempts("returned") == ["uncertain", "released"]
        assert ledger.queries.job(jobs["twice"]).status is Status.SUBMITTED
        first = ledger.queries.attempts(jobs["twice"])[0]
        assert (first.settled, first.reserved_nusd) == (False, 400_000_000)
        assert "its cost is not known" in (ledger.queries.events(jobs["twice"])[-1].detail or "")
        ledger.attempts.settle_manually(first, 5)
        assert attempts("twice") == ["lost", "submitted"]
        for job in ledger.queries.open_attempts(2):
            assert job.attempt is not None
            ledger.attempts.end(job.attempt.id, Status.COMPLETED, Charge(7), NO_CAPS)
        assert ledger.queries.job(jobs["accepted twice"]).status is Status.COMPLETED


def test_an_up_to_date_ledger_opens_without_the_modules_that_are_slow_to_import(path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from orbatch.ledger import Ledger; "
        "Ledger.open(Path(sys.argv[1]), create=False).close(); "
        "print([name for name in ('sqlite_utils', 'asyncio', 'pydantic', 'httpx', 'av') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "[]", result.stderr
