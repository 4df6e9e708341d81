"""Steps of several jobs share a commit; each goes on only when it is on disk, and none suffers for another's fault."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from orbatch.ledger import Ledger, LedgerConflict, LedgerError


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger.open(path) as opened:
        yield opened


def write(ledger: Ledger, name: str, *, refused: bool = False) -> str:
    """A verb as all of them are: one transaction."""
    with ledger.database.write() as db:
        db.execute("insert into usage_readings (account, read_at, usage_nusd) values (?, '2026-01-01', 1)", (name,))
        if refused:
            raise LedgerConflict("not in that state")
    return name


def break_at_commit(ledger: Ledger) -> None:
    """The commit is where a deferred constraint is checked, and so fails like one that finds the disk full."""
    with ledger.database.write() as db:
        db.execute("pragma defer_foreign_keys = on")
        db.execute("insert into events (job_id, attempt_id, at, to_status) values ('none', null, '', '-')")


def on_disk(ledger: Ledger) -> str:
    """What another process sees."""
    other = sqlite3.connect(ledger.path)
    try:
        return "".join(row[0] for row in other.execute("select account from usage_readings order by id"))
    finally:
        other.close()


async def test_steps_that_come_together_share_one_commit_and_return_when_others_can_see_it(ledger: Ledger) -> None:
    commits = []
    with ledger.database.read() as db:
        db.set_trace_callback(lambda text: commits.append(text) if text.lower().startswith("commit") else None)
    results = await asyncio.gather(*[ledger.commits.durably(partial(write, ledger, name)) for name in "abcdef"])
    assert ("".join(results), on_disk(ledger), len(commits)) == ("abcdef", "abcdef", 1)


async def test_nothing_is_on_disk_before_it_is_said_to_be(ledger: Ledger) -> None:
    result, disk = ledger.commits.take(lambda: write(ledger, "a"))
    assert (result, disk.done(), on_disk(ledger)) == ("a", False, "")
    await disk
    assert on_disk(ledger) == "a"


async def test_a_step_that_is_refused_undoes_itself_alone(ledger: Ledger) -> None:
    steps = [partial(write, ledger, name, refused=name == "b") for name in "abc"]
    outcomes = await asyncio.gather(*[ledger.commits.durably(step) for step in steps], return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [str, LedgerConflict, str]
    assert on_disk(ledger) == "ac"


async def test_an_ordinary_step_finds_the_shared_ones_committed(ledger: Ledger) -> None:
    _, disk = ledger.commits.take(lambda: write(ledger, "a"))
    write(ledger, "b")
    assert on_disk(ledger) == "ab"
    await disk


async def test_a_commit_that_fails_fails_all_who_wait_for_it_and_leaves_nothing(ledger: Ledger) -> None:
    steps = [asyncio.create_task(ledger.commits.durably(partial(write, ledger, name))) for name in "ab"]
    ledger.commits.take(lambda: break_at_commit(ledger))
    outcomes = await asyncio.gather(*steps, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [LedgerError, LedgerError]
    with ledger.database.read() as db:
        assert not db.in_transaction
    assert on_disk(ledger) == ""
    assert await ledger.commits.durably(lambda: write(ledger, "c")) == "c"


async def test_who_stops_waiting_does_not_stop_the_others(ledger: Ledger) -> None:
    first, second = (asyncio.create_task(ledger.commits.durably(partial(write, ledger, name))) for name in "ab")
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "b"
    assert on_disk(ledger) == "ab"


async def test_closing_the_ledger_commits_what_was_taken(path: Path) -> None:
    with Ledger.open(path) as other:
        _, disk = other.commits.take(lambda: write(other, "a"))
    await disk
    assert on_disk(other) == "a"
