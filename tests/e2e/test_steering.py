"""A run that is steered from another terminal: stopped, given other caps and limits, watched, planned beside."""

from __future__ import annotations

import signal

import pytest

from tests.conftest import Open
from tests.desk import LITE, Desk
from tests.e2e.test_terminal import LONG, at_a_terminal

FEW = {"in_flight": 1, "submits_per_minute": 6000, "polls_per_second": 200}


@pytest.fixture
def desk(open_desk: Open) -> Desk:
    """Whose jobs take for ever."""
    return open_desk(render_s={LITE: LONG})


def test_stop_ends_a_run_the_gentle_way(desk: Desk) -> None:
    path = desk.write(limits=FEW)
    with desk.running(path) as run:
        desk.until(lambda: "submitted" in desk.statuses())
        stopped = desk.call("stop", "--reason", "lunch")
        ended = run.finish(130)
    assert stopped.out == "films has stopped. 1 job still running at the provider; the next run downloads the output.\n"
    assert "Stopping, as `orbatch stop` asks (lunch)." in ended.err
    assert "1 job is still running at the provider" in ended.err
    assert desk.call("stop", "films", code=2).err == "error: films is not running.\n"
    assert "No batch is running." in desk.call("stop", code=2).err


def test_a_run_follows_other_caps_and_limits_within_a_second(desk: Desk) -> None:
    path = desk.write(limits=FEW, prompts=["a", "b", "c", "d"], budget={"total_usd": 5})
    with desk.running(path) as run:
        desk.until(lambda: desk.statuses().count("submitted") == 1)
        said = desk.call("set", "films", "limits.in_flight=3", "budget.total_usd=0.30", "--reason", "half is enough")
        desk.until(lambda: desk.statuses().count("submitted") == 2, "the second submit")
        shown = desk.call("status").out
        desk.call("stop")
        ended = run.finish(130)
    assert "films: budget.total_usd is 0.30, set at " in said.out
    assert "(half is enough)." in said.out
    assert "The run in progress (process " in said.err
    assert "films is running: process " in shown
    assert "limits.in_flight is 3 from now on (half is enough)." in ended.err
    assert desk.accepted() == 2, "the third and fourth do not fit under the cap"


def test_what_was_set_holds_until_the_file_is_edited_or_reset(desk: Desk) -> None:
    path = desk.write(budget={"total_usd": 5})
    desk.call("plan", path)
    desk.call("set", "films", "budget.total_usd=0.10")
    plan = desk.call("plan", path)
    assert "films: budget.total_usd is 0.10, set at " in plan.err
    assert "budget.total_usd 0.10 USD does not cover" in plan.out or "0.10 USD: 3 jobs can cost more" in plan.out
    assert desk.call("plan", path, "--json").json["cap_total_usd"] == 0.1
    assert desk.call("plan", path, "--budget", "4", "--json").json["cap_total_usd"] == 4
    assert desk.call("set", "films", "--reset").out == "films: the settings of the batch file hold.\n"
    assert desk.call("plan", path, "--json").json["cap_total_usd"] == 5
    desk.call("set", "films", "budget.total_usd=0.10")
    desk.write(budget={"total_usd": 6})
    assert desk.call("plan", path, "--json").json["cap_total_usd"] == 6


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("budget.total=1", "error: budget.total cannot be set.\nhint:  Did you mean budget.total_usd?"),
        ("limits.in_flight=0", "limits.in_flight: 0 is not allowed."),
        ("limits.in_flight=many", "limits.in_flight: many is not allowed."),
        ("budget.total_usd=1e300", "budget.total_usd: 1e300 is not an amount in USD"),
        ("budget.total_usd", "budget.total_usd has no value."),
    ],
)
def test_a_setting_that_is_not_allowed_is_refused_before_it_is_recorded(desk: Desk, setting: str, says: str) -> None:
    desk.call("plan", desk.write())
    assert says in desk.call("set", "films", "budget.per_job_usd=1", setting, code=2).err
    assert desk.call("status", "--json").json["batches"][0]["set"] == []


def test_a_batch_is_planned_while_it_runs_and_nothing_is_recorded(desk: Desk) -> None:
    path = desk.write(limits=FEW)
    with desk.running(path) as run:
        desk.until(lambda: "submitted" in desk.statuses())
        desk.write(limits=FEW, prompts=["a cat", "a dog", "a cow", "a fox"])
        plan = desk.call("plan", path)
        assert "films is running (process " in plan.err
        assert "so this plan is only shown, and not recorded." in plan.err
        assert "films: 3 jobs to submit, 0.36 USD." in plan.out
        assert len(desk.jobs()) == 3
        desk.call("stop")
        run.finish(130)


def test_status_can_be_watched(desk: Desk) -> None:
    desk.call("plan", desk.write())
    with at_a_terminal(desk, "status", "--watch") as terminal:
        terminal.until("films   0/3        3       0.00")
        terminal.process.send_signal(signal.SIGINT)
        terminal.finish(0)
    assert "--watch needs a terminal." in desk.call("status", "--watch", code=2).err
