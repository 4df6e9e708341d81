"""The schema, pinned: a change of a released table is a new migration, and its readers are told."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from orbatch.ledger import Ledger
from orbatch.ledger.schema import APPLICATION_ID, MIGRATIONS
from tests.ledger.books import Books, planned

# design's order: other programs read these columns by name, people by place.
JOB_REPORT = (
    "job_id batch prompt_id prompt model kind status remote_id attempts estimate_low_usd estimate_high_usd cost_usd "
    "output_path bytes sha256 error created_at submitted_at completed_at done_at"
).split()

TABLES = {
    "catalogs": "id digest source read_at models",
    "batches": "id name config_path config_sha256 output_dir origin catalog_id created_at planned_at lease_owner "
    "lease_host lease_pid lease_until",
    "jobs": "id batch_id key position kind model prompt_id prompt variables request repeat stem status hold retired "
    "estimate_low_nusd estimate_exact_nusd estimate_high_nusd price_lines price_why attempts_forgiven error created_at "
    "done_at",
    "attempts": "id job_id batch_id model number status origin account day price_lines estimate_low_nusd "
    "estimate_exact_nusd estimate_high_nusd reserved_nusd settled cost_nusd is_byok remote_id generation_id "
    "output_seconds error created_at submitted_at completed_at settled_at",
    "outputs": "id job_id attempt_id number path bytes sha256 mime_type seconds width height fps video_codec "
    "audio_codec warning created_at",
    "events": "id job_id attempt_id at from_status to_status detail",
    "plans": "batch_id sources prices models left_open jobs_digest",
    "plan_pictures": "batch_id path sha256",
    "usage_readings": "id account read_at usage_nusd",
    "spend": "batch_id model day price_lines first_attempts attempts done reserved_nusd charged_nusd byok_attempts "
    "byok_fee_nusd byok_held_nusd unpriced_open failed_charged_nusd uncertain uncertain_nusd output_ms billed_ms "
    "billed_ms_nusd bills estimated_nusd billed_nusd",
}


def columns(path: Path, table: str) -> list[str]:
    connection = sqlite3.connect(path)
    try:
        return [row[1] for row in connection.execute(f"pragma table_info({table})")]
    finally:
        connection.close()


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_these_columns(path: Path, table: str) -> None:
    assert columns(path, table) == TABLES[table].split()


def test_there_are_no_other_tables(path: Path) -> None:
    connection = sqlite3.connect(path)
    found = {row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")}
    connection.close()
    assert found == {*TABLES, "_sqlite_migrations"}


def test_the_report_of_jobs_begins_with_the_promised_columns(path: Path) -> None:
    assert columns(path, "job_report")[: len(JOB_REPORT)] == JOB_REPORT


def test_every_amount_of_money_is_a_whole_number_in_a_strict_table(path: Path) -> None:
    connection = sqlite3.connect(path)
    for table in TABLES:
        [(strict,)] = connection.execute("select strict from pragma_table_list where name = ?", [table])
        assert strict, table
        types = {row[1]: row[2] for row in connection.execute(f"pragma table_info({table})")}
        assert {types[name] for name in types if name.endswith("_nusd")} <= {"INTEGER"}
    connection.close()


def test_the_migrations_are_those_that_are_recorded_in_a_new_ledger(path: Path) -> None:
    connection = sqlite3.connect(path)
    recorded = [row[0] for row in connection.execute("select name from _sqlite_migrations order by id")]
    assert recorded == list(MIGRATIONS) == ["m001_ledger", "m002_plans"]
    assert connection.execute("pragma application_id").fetchone()[0] == APPLICATION_ID
    connection.close()


def test_a_ledger_that_lacks_a_migration_gets_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ledger.open(path) as ledger:
        Books(ledger).plan([planned("a")])
    more = {**MIGRATIONS, "m999_more": ("alter table jobs add column colour text", "create table more (id integer)")}
    for module in ("database", "migrations"):
        monkeypatch.setattr(f"orbatch.ledger.{module}.MIGRATIONS", more)
    with Ledger.open(path) as ledger:
        assert [row["prompt"] for row in ledger.reports.job_rows()] == ["a"]
    assert columns(path, "jobs")[-1] == "colour"


def test_a_migration_that_fails_leaves_the_ledger_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from orbatch.ledger import LedgerError

    more = {**MIGRATIONS, "m999_broken": ("create table more (id integer)", "create table more (id integer)")}
    for module in ("database", "migrations"):
        monkeypatch.setattr(f"orbatch.ledger.{module}.MIGRATIONS", more)
    with pytest.raises(LedgerError, match="table more already exists"):
        Ledger.open(path)
    monkeypatch.undo()
    Ledger.open(path).close()
    assert columns(path, "more") == []


def test_an_up_to_date_ledger_opens_without_the_modules_that_are_slow_to_import(path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from orbatch.ledger import Ledger; "
        "Ledger.open(Path(sys.argv[1]), create=False).close(); "
        "print([name for name in ('sqlite_utils', 'asyncio', 'pydantic', 'httpx', 'av') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "[]", result.stderr
