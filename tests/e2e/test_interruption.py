"""Stopped and resumed: the same command, and nothing bought twice. Kills at every step are in tests/chaos."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from orbatch_simulator import Fault
from tests.conftest import Open
from tests.desk import LITE, Desk

FIVE = ["one", "two", "three", "four", "five"]
IN_A_CONTAINER = ["unshare", "--fork", "--pid", "--kill-child"]
LONG = 1e6  # simulated seconds: far beyond a test


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_stops_in_order_and_the_same_command_goes_on(open_desk: Open, number: signal.Signals) -> None:
    desk = open_desk(render_s={LITE: 200.0})
    path = desk.write(prompts=FIVE, limits={"in_flight": 2, "submits_per_minute": 6000})
    with desk.running(path) as run:
        desk.until(lambda: desk.accepted() >= 2, "two jobs in flight")
        run.signal(number)
        ended = run.finish(130)
    assert "2 running, 3 pending" in ended.out
    assert "2 jobs are still running at the provider; the next run downloads them" in ended.err
    assert f"To resume: orbatch run {path} --yes --speed 400" in ended.err
    assert desk.accepted() == 2
    assert "5 of 5 done" in desk.run(path).out
    assert desk.accepted() == 5
    desk.assert_nothing_bought_twice()
    desk.assert_report_equals_journal()


@pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run([*IN_A_CONTAINER, "true"], capture_output=True).returncode != 0,
    reason="no process may have a namespace of its own here",
)
def test_as_the_first_process_of_a_container_sigterm_stops_it_in_order(open_desk: Open) -> None:
    desk = open_desk(render_s={LITE: 200.0})
    path = desk.write(prompts=FIVE, limits={"in_flight": 2, "submits_per_minute": 6000})
    desk.under = IN_A_CONTAINER
    with desk.running(path) as run:
        desk.until(lambda: desk.accepted() >= 2, "two jobs in flight")
        (first,) = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children").read_text().split()
        os.kill(int(first), signal.SIGTERM)  # the kernel drops it where the first process has no handler
        assert "2 running, 3 pending" in run.finish(130).out
    assert desk.accepted() == 2


def test_under_nohup_a_closed_terminal_stops_nothing(open_desk: Open) -> None:
    desk = open_desk(render_s={LITE: 100.0})
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with desk.running(desk.write()) as run:  # a process inherits what is ignored
            desk.until(lambda: desk.accepted() >= 1, "the submit")
            run.signal(signal.SIGHUP)
            assert "3 of 3 done" in run.finish(0).out
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_while_the_plan_is_made_ends_it_and_buys_nothing(desk: Desk, name: str) -> None:
    desk.simulator.set_faults(Fault("models", "delay", delay_s=LONG))
    with desk.running(desk.write()) as run:
        desk.until(desk.db.exists, "the beginning of the plan")
        run.signal(signal.Signals[name])
        assert "Interrupted." in run.finish(130).err
    assert desk.accepted() == 0


def test_the_first_ctrl_c_says_what_a_second_one_would_cost(desk: Desk) -> None:
    desk.simulator.set_faults(Fault("submit", "delay", accept=True, delay_s=LONG, times=2))
    with desk.running(desk.write(prompts=["one", "two"])) as run:
        desk.until(lambda: desk.accepted() == 2, "the submits")
        run.signal(signal.SIGINT)
        assert run.process.stderr is not None
        said: list[str] = []
        desk.until(lambda: said.append(run.process.stderr.readline()) or "Stopping" in said[-1], "the answer")  # type: ignore
        assert (
            "Stopping after 2 requests in progress. Press Ctrl-C again to exit now: those 2 jobs (0.24 USD)" in said[-1]
        )
        run.signal(signal.SIGINT)
        run.finish(130)


def test_the_first_ctrl_c_lets_go_of_a_download_and_the_next_run_resumes_it(desk: Desk) -> None:
    desk.simulator.set_faults(Fault("content", "stall", at_byte=1000, delay_s=LONG, times=1))
    path = desk.write(prompts=["one"])
    with desk.running(path) as run:
        desk.until(lambda: desk.statuses() == ["completed"], "the end of the job")
        run.signal(signal.SIGINT)
        assert "the next run downloads" in run.finish(130).err
    assert "1 of 1 done" in desk.run(path).out
    assert desk.accepted() == 1


def test_a_second_ctrl_c_stops_at_once_and_what_was_in_the_air_is_uncertain(desk: Desk) -> None:
    path = desk.write(prompts=["one"])
    desk.simulator.set_faults(Fault("submit", "delay", accept=True, delay_s=LONG, times=1))
    with desk.running(path) as run:
        desk.until(lambda: desk.accepted() == 1, "the submit")
        run.signal(signal.SIGINT)
        assert run.process.stderr is not None
        desk.until(lambda: "Press Ctrl-C again" in run.process.stderr.readline(), "the answer to Ctrl-C")  # type: ignore[union-attr]
        run.signal(signal.SIGINT)
        assert "To resume" in run.finish(130).err
    settled = desk.run(path, code=5)
    assert "1 job is uncertain" in settled.err
    assert "up to 0.12 USD reserved" in settled.err
    assert "--remote-id ID" in settled.err
    assert desk.accepted() == 1
    [row] = desk.jobs()
    [remote_id] = desk.simulator.journal.jobs
    assert "polls and downloads it" in desk.call("resolve", row["job_id"], "--remote-id", remote_id).out
    assert "1 of 1 done" in desk.run(path).out
    desk.assert_nothing_bought_twice()
    desk.assert_report_equals_journal()


def test_a_run_that_is_going_on_says_who_holds_the_batch_and_keeps_its_plan(open_desk: Open) -> None:
    desk = open_desk(render_s={LITE: LONG})
    path = desk.write(prompts=["one"])
    with desk.running(path) as run:
        desk.until(lambda: desk.accepted() == 1, "the submit")
        held = f"Batch films is being run by process {run.process.pid}"
        assert held in desk.run(path, code=1).err
        # An edited file must not slip jobs into a run that was confirmed without them.
        desk.write(prompts=["one", "two"])
        assert "so this plan is only shown, and not recorded." in desk.call("plan", path).err
        assert "films" in desk.call("status").out, "reading never waits for a run"
        assert "Copied" in desk.call("backup", "copy.db").out
        run.signal(signal.SIGINT)
        run.finish(130)
    with desk.ledger(desk.folder / "copy.db") as copy:
        assert copy.queries.counts(1).total == 1
    assert desk.accepted() == 1
