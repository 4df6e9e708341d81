"""What is paid for is downloaded, whatever has become of the batch file, the price list or the input files."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from orbatch_simulator import Fault
from tests.conftest import Open
from tests.desk import LITE, Desk


def leave_open(desk: Desk, path: Path) -> None:
    """Buy all jobs of a batch and stop before any is finished; then the provider finishes them."""
    bought = desk.accepted()
    desk.simulator.set_faults(Fault("poll", status=503))
    with desk.running(path) as run:
        desk.until(lambda: desk.accepted() == bought + 3, "the submits")
        desk.until(lambda: desk.statuses().count("submitted") >= 3, "the ids")
        run.signal(signal.SIGINT)
        run.finish(130)
    desk.simulator.set_faults()


@pytest.fixture
def left(desk: Desk) -> Desk:
    """A desk with three paid jobs of films that no run has downloaded yet."""
    leave_open(desk, desk.write())
    return desk


def collect(desk: Desk, *arguments: str, code: int = 0) -> str:
    return desk.call("collect", *arguments, "--speed", desk.speed, code=code).text


# -- collect ----------------------------------------------------------------------------------------------------------


def test_paid_jobs_are_collected_without_the_batch_file_and_without_a_price_list(left: Desk) -> None:
    (left.folder / "films.yaml").unlink()
    left.simulator.set_faults(Fault("models", status=503))
    assert "films: 3 of 3 done" in collect(left, "films")
    assert left.statuses() == ["done"] * 3
    assert len(list((left.folder / "outputs" / "films").glob("*.mp4"))) == 3
    left.assert_report_equals_journal()


def test_collect_submits_nothing(desk: Desk) -> None:
    desk.run(desk.write(budget={"total_usd": 0.13}), code=4)
    before = desk.jobs()
    assert "2 pending" in collect(desk, "films")
    assert (desk.accepted(), desk.jobs()) == (1, before)


def test_a_failed_job_is_not_bought_again_by_collect(desk: Desk) -> None:
    path = desk.write(retries={"attempts": 3})
    leave_open(desk, path)
    desk.simulator.set_faults(Fault("poll", "edit", fields={"status": "failed", "error": "so"}))
    collect(desk, "films", code=3)
    assert (desk.accepted(), desk.statuses()) == (3, ["failed"] * 3)


def test_without_a_name_the_open_jobs_of_every_batch_are_collected(left: Desk) -> None:
    leave_open(left, left.write("shorts", prompts=["a fox", "an owl", "a bee"]))
    data = json.loads(left.call("collect", "--json", "--speed", left.speed).out)
    assert {batch["batch"]: batch["jobs"] for batch in data} == {"films": {"done": 3}, "shorts": {"done": 3}}
    assert "No paid job is open" in collect(left)
    assert json.loads(left.call("collect", "--json").out) == []
    assert left.call("collect", "films", "--json", "--speed", left.speed).json["jobs"] == {"done": 3}


def test_a_batch_that_is_being_run_is_left_to_its_run(open_desk: Open) -> None:
    desk = open_desk(render_s={LITE: 100_000.0})
    with desk.running(desk.write()) as run:
        desk.until(lambda: desk.statuses() == ["submitted"] * 3, "the submits")
        assert "is being run by process" in collect(desk, "films", code=1)
        run.signal(signal.SIGINT)
        run.finish(130)


def test_jobs_of_the_simulator_are_not_looked_for_at_the_real_api(left: Desk) -> None:
    found = left.call("collect", "films", code=2, OPENROUTER_BASE_URL="https://openrouter.invalid/api/v1")
    assert "not at https://openrouter.invalid" in found.err
    assert left.statuses() == ["submitted"] * 3


# -- a plan that fails ------------------------------------------------------------------------------------------------

BROKEN = {
    "a typo": lambda desk: desk.write(promts=["a cat"]),
    "no YAML": lambda desk: (desk.folder / "films.yaml").write_text("name: [films", "utf-8"),
    "no file": lambda desk: (desk.folder / "films.yaml").unlink(),
    "a model that is gone": lambda desk: desk.write(models=["google/veo-0"]),
    "a duration that is not offered": lambda desk: desk.write(prompts=["a cat", {"prompt": "an ox", "duration": 99}]),
    "an input that is missing": lambda desk: desk.write(prompts=[{"prompt": "a cat", "first_frame": "gone.png"}]),
}


@pytest.mark.parametrize("change", BROKEN)
def test_a_plan_that_fails_ends_only_after_the_paid_jobs_are_collected(left: Desk, change: str) -> None:
    BROKEN[change](left)
    ended = left.run(left.folder / "films.yaml", code=2)
    assert "films: 3 paid jobs open" in ended.err
    assert "films: every paid job is collected." in ended.err
    assert "The plan failed" in ended.err
    assert left.statuses() == ["done"] * 3
    assert left.accepted() == 3


def test_the_batch_of_a_moved_file_is_found_by_its_name(left: Desk) -> None:
    moved = left.folder / "moved.yaml"
    left.write(models=["google/veo-0"]).rename(moved)
    assert "every paid job is collected" in left.run(moved, code=2).err
    assert left.statuses() == ["done"] * 3


def test_a_dry_run_only_says_how_many_paid_jobs_are_open(left: Desk) -> None:
    left.write(promts=["a cat"])
    ended = left.run(left.folder / "films.yaml", "--dry-run", code=2)
    assert "films: 3 paid jobs open. `orbatch collect films` downloads them." in ended.err
    assert left.statuses() == ["submitted"] * 3


def test_a_plan_that_fails_without_paid_jobs_says_nothing_of_them(desk: Desk) -> None:
    ended = desk.run(desk.write(promts=["a cat"]), code=2)
    assert "paid job" not in ended.err
