"""docs/ledger.md: every table and column is explained, and every query runs and finds something."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orbatch.ledger import Ledger, Status
from tests.ledger.books import Books, in_order, video

PAGE = (Path(__file__).parent.parent / "docs" / "ledger.md").read_text("utf-8")
QUERIES = re.findall(r"\n([^\n]+):\n\n```sql\n(.*?)```", PAGE, re.DOTALL)


def documented() -> dict[str, list[str]]:
    """The columns of the page's tables, by the name in their heading."""
    sections = re.split(r"^##+ (?:The view )?`(\w+)`$", PAGE, flags=re.MULTILINE)
    return {
        name: re.findall(r"^\| `(\w+)` \| .+ \|$", text, re.MULTILINE)
        for name, text in zip(sections[1::2], sections[2::2], strict=True)
    }


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """A ledger with something of everything."""
    path = tmp_path_factory.mktemp("docs") / "orbatch.db"
    with Ledger.open(path) as opened:
        books = Books(opened)
        states = [status for status in Status if status is not Status.PENDING]
        for job_id, status in zip(books.plan_and_claim(in_order(states)), states, strict=True):
            attempt_id = books.bring_to(job_id, status, cost_nusd=300_000_000)
            if status is Status.COMPLETED and attempt_id is not None:
                opened.attempts.mark_done(attempt_id, [replace(video("/outputs/odd.mp4"), warning="too long")])
    connection = sqlite3.connect(path)
    yield connection
    connection.close()


@pytest.mark.parametrize(("title", "query"), QUERIES, ids=[title for title, _ in QUERIES])
def test_a_query_of_the_page_finds_something(ledger: sqlite3.Connection, title: str, query: str) -> None:
    rows = ledger.execute(query).fetchall()
    assert rows, title
    assert any(value is not None for value in rows[0])


def test_every_query_of_the_page_is_run() -> None:
    assert len(QUERIES) == PAGE.count("```sql") >= 5


@pytest.mark.parametrize("name", documented())
def test_every_column_is_explained_in_its_order(ledger: sqlite3.Connection, name: str) -> None:
    assert documented()[name] == [row[1] for row in ledger.execute(f"pragma table_info({name})")]


def test_every_table_and_view_is_explained(ledger: sqlite3.Connection) -> None:
    found = {row[0] for row in ledger.execute("select name from sqlite_master where type in ('table', 'view')")}
    assert found - {"_sqlite_migrations"} == set(documented())
