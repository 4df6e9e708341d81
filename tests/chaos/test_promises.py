"""The promises of docs/reliability.md, one by one, with real processes."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

from orbatch.cli.errors import ExitCode
from orbatch.ledger import Ledger
from tests.chaos.arena import Scene, wait_until
from tests.chaos.audit import ids, statuses, unaccounted, unknown_jobs
from tests.chaos.conftest import Open, finish_and_compare

ONE_AT_A_TIME = Scene(prompts=1, in_flight=1)
VEO = Decimal("0.12")  # the two prices of every scene
WAN = Decimal("0.40")


def test_a_submit_whose_answer_was_lost_is_never_sent_again_by_itself(open_arena: Open) -> None:
    arena = open_arena(ONE_AT_A_TIME)
    arena.run("while the answer is awaited")
    assert len(arena.journal()["jobs"]) == 1
    for _ in range(2):
        assert arena.run() == ExitCode.UNCERTAIN
    assert arena.journal()["duplicates"] == 0
    assert statuses(arena.ledger) == {"uncertain": 1, "done": 1}
    [(job_id, remote_id)] = unknown_jobs(arena.ledger, arena.journal())
    assert "uncertain" in arena.command("status")
    assert job_id in arena.command("status")
    assert remote_id is not None
    arena.command("resolve", job_id, "--remote-id", remote_id)
    assert arena.run() == ExitCode.DONE
    assert arena.audit().findings == []


def test_an_intent_is_on_disk_before_its_request_leaves(open_arena: Open) -> None:
    arena = open_arena(ONE_AT_A_TIME)
    arena.run("between intent and send")
    assert arena.journal()["jobs"] == []
    assert statuses(arena.ledger) == {"submitting": 1, "pending": 1}
    with closing(sqlite3.connect(arena.ledger)) as db:
        assert db.execute("select sum(committed_nusd) from committed").fetchone()[0] > 0


def test_every_commit_of_the_ledger_is_on_disk_when_it_returns(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.db") as ledger, ledger.database.read() as db:
        assert db.execute("pragma journal_mode").fetchone()[0] == "wal"
        assert db.execute("pragma synchronous").fetchone()[0] == 2  # full


def test_a_remote_id_is_durable_before_anything_else_is_done(open_arena: Open) -> None:
    arena = open_arena(ONE_AT_A_TIME)
    arena.run("right after the id is committed")
    assert ids(arena.ledger) == {job["id"] for job in arena.journal()["jobs"]} != set()
    assert arena.run() == ExitCode.DONE  # nothing was uncertain
    assert arena.audit().findings == []


def test_a_charge_is_durable_before_its_download_begins(open_arena: Open) -> None:
    arena = open_arena(Scene(prompts=1, in_flight=1))
    arena.run("in the middle of a download")
    with closing(sqlite3.connect(arena.ledger)) as db:
        costs = {row[0] for row in db.execute("select cost_nusd from attempts where status = 'completed'")}
    assert costs <= {int(VEO * 10**9), int(WAN * 10**9)} != set()
    assert costs


def test_a_cap_holds_across_kills(open_arena: Open) -> None:
    """Worst cases of unknown fates count: what may have been bought leaves no room to buy more."""
    cap = 2 * WAN + 2 * VEO
    arena = open_arena(Scene(prompts=4, in_flight=8, budget_usd=str(cap)))
    for _ in range(4):
        arena.run("between answer and commit")
        assert Decimal(arena.journal()["committed"]) <= cap
    assert arena.run() == ExitCode.UNCERTAIN
    assert Decimal(arena.journal()["committed"]) <= cap
    assert unaccounted(arena.ledger, arena.journal()) == []


def test_a_batch_that_is_being_run_is_not_run_by_a_second_process(open_arena: Open) -> None:
    arena = open_arena(Scene(prompts=1))
    frozen = arena.start("before the intent", with_signal="SIGSTOP")
    wait_until(frozen.is_frozen)
    assert arena.run() == ExitCode.FAILED
    assert f"is being run by process {frozen.pid}" in arena.said()
    assert arena.journal()["jobs"] == []
    frozen.signal(signal.SIGCONT)
    assert arena.wait(frozen) == ExitCode.DONE
    assert arena.audit().findings == []


def test_the_batch_of_a_killed_runner_is_free_at_once(open_arena: Open) -> None:
    arena = open_arena(Scene(prompts=1))
    arena.run("before the intent")
    assert arena.run() == ExitCode.DONE


def test_a_frozen_runner_that_wakes_after_its_lease_submits_nothing(open_arena: Open) -> None:
    arena = open_arena(Scene(prompts=2, in_flight=2))
    frozen = arena.start("before the intent", with_signal="SIGSTOP", lease_s=0.4)
    wait_until(frozen.is_frozen)
    wait_until(lambda: arena.run(only="p1") == ExitCode.DONE)  # refused until the lease has expired
    assert statuses(arena.ledger) == {"done": 2, "pending": 2}
    frozen.signal(signal.SIGCONT)
    assert arena.wait(frozen) == ExitCode.FAILED
    assert "taken this batch over" in arena.said()
    assert len(arena.journal()["jobs"]) == 2
    finish_and_compare(arena)


def test_an_intent_that_was_given_up_while_its_runner_was_frozen_is_not_sent(open_arena: Open) -> None:
    arena = open_arena(ONE_AT_A_TIME)
    frozen = arena.start("right after the intent", with_signal="SIGSTOP", lease_s=0.4)
    wait_until(frozen.is_frozen)
    wait_until(lambda: arena.run() != ExitCode.FAILED)
    assert statuses(arena.ledger) == {"uncertain": 1, "done": 1}
    frozen.signal(signal.SIGCONT)
    assert arena.wait(frozen) == ExitCode.FAILED
    assert len(arena.journal()["jobs"]) == 1
    finish_and_compare(arena)


def test_a_first_sigterm_lets_what_is_in_the_air_be_recorded(open_arena: Open) -> None:
    arena = open_arena(Scene(prompts=4, in_flight=2))
    running = arena.start("while the answer is awaited", with_signal="SIGTERM")
    assert arena.wait(running) == ExitCode.INTERRUPTED
    assert ids(arena.ledger) == {job["id"] for job in arena.journal()["jobs"]} != set()
    assert arena.run() == ExitCode.DONE
    assert arena.audit().findings == []
