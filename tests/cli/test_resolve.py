"""``resolve`` in all its forms, ``verify`` and ``generate``."""

from __future__ import annotations

import signal

import pytest

from orbatch_simulator import Fault
from tests.conftest import Open
from tests.desk import LITE, Desk


@pytest.fixture
def uncertain(desk: Desk) -> Desk:
    """A desk with three jobs whose submit was answered with 500: one of them was accepted all the same."""
    desk.simulator.set_faults(
        Fault("submit", status=500, accept=True, prompt_contains="a cat"),
        Fault("submit", status=500, prompt_contains="a dog"),
        Fault("submit", status=500, prompt_contains="a cow"),
    )
    desk.run(desk.write(), code=5)
    desk.simulator.set_faults()
    return desk


def test_uncertain_jobs_are_named_everywhere_until_they_are_resolved(uncertain: Desk) -> None:
    for command in (["status"], ["report"]):
        out = uncertain.call(*command).out
        assert "3 jobs are uncertain" in out
        assert "a cat" in out
        assert "up to 0.12 USD reserved" in out
        assert "openrouter.ai/activity" in out
    assert len(uncertain.call("status", "--json").json["uncertain"]) == 3
    uncertain.run(uncertain.folder / "films.yaml", code=5)
    assert uncertain.accepted() == 1, "nothing is sent again by itself"


def test_each_verdict_leaves_the_job_and_the_money_where_it_says(uncertain: Desk) -> None:
    cat, dog, cow = [row["job_id"] for row in uncertain.jobs()]
    [remote_id] = uncertain.simulator.journal.jobs
    uncertain.call("resolve", cat[:10], "--remote-id", remote_id)
    assert "submits it again" in uncertain.call("resolve", dog, "--not-charged").out
    assert "lost, 0.05 USD charged" in uncertain.call("resolve", cow, "--charged", "0.05").out
    assert uncertain.statuses() == ["submitted", "pending", "lost"]
    uncertain.run(uncertain.folder / "films.yaml", code=3)
    assert uncertain.statuses() == ["done", "done", "lost"]
    total = uncertain.call("report", "--json").json["total"]
    assert (total["cost_usd"], total["reserved_usd"]) == (0.29, 0)
    uncertain.assert_nothing_bought_twice()


@pytest.mark.parametrize(
    ("verdict", "status", "cost"),
    [("--not-charged", "pending", 0.0), ("--charged-at-most", "lost", 0.36)],
    ids=["not charged", "at most"],
)
def test_all_of_a_batch_are_listed_and_asked_for_once(uncertain: Desk, verdict: str, status: str, cost: float) -> None:
    asked = uncertain.call("resolve", "films", "--all", verdict, code=2)
    assert "pass --yes" in asked.err
    assert asked.err.count("    submitted 20") == 3
    assert uncertain.statuses() == ["uncertain"] * 3
    assert "3 jobs resolved" in uncertain.call("resolve", "films", "--all", verdict, "--yes").out
    assert uncertain.statuses() == [status] * 3
    assert uncertain.call("report", "--json").json["total"]["cost_usd"] == cost
    assert "no job is uncertain" in uncertain.call("resolve", "films", "--all", verdict, "--yes").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param([], "Pass one of", id="no verdict"),
        pytest.param(["--not-charged", "--charged", "1"], "Pass one of", id="two verdicts"),
        pytest.param(["--all", "--charged", "1"], "Pass ids and amounts job by job", id="one amount for all"),
    ],
)
def test_a_verdict_that_is_none_changes_nothing(uncertain: Desk, arguments: list[str], words: str) -> None:
    assert words in uncertain.call("resolve", uncertain.jobs()[0]["job_id"], *arguments, code=2).err
    assert uncertain.statuses() == ["uncertain"] * 3


def test_a_job_that_is_certain_has_nothing_to_resolve(desk: Desk) -> None:
    desk.run(desk.write(prompts=["one"]))
    assert "nothing to resolve" in desk.call("resolve", desk.jobs()[0]["job_id"], "--not-charged", code=2).err


# -- verify -----------------------------------------------------------------------------------------------------------


def test_missing_and_changed_files_are_found_and_fetched_again(desk: Desk) -> None:
    desk.run(desk.write())
    assert desk.call("verify").out == "3 files checked, 0 missing or changed, 0 downloaded again.\n"
    gone, changed, _ = sorted((desk.folder / "outputs" / "films").glob("*.mp4"))
    gone.unlink()
    changed.write_bytes(b"not what was paid for")
    found = desk.call("verify", code=1)
    assert f"{gone}: missing" in found.err
    assert f"{changed}: changed since it was downloaded" in found.err
    assert "Pass --yes" in found.err
    assert "2 missing or changed, 2 downloaded again" in desk.call("verify", "films", "--yes").out
    assert changed.with_name(changed.name + ".changed").read_bytes() == b"not what was paid for"
    assert desk.call("verify", "--json").json == {"checked": 3, "damaged": [], "downloaded_again": 0}
    assert desk.accepted() == 3, "fetching again buys nothing"


def test_what_the_provider_no_longer_has_is_said(desk: Desk) -> None:
    desk.run(desk.write(prompts=["one"]))
    [file] = (desk.folder / "outputs" / "films").glob("*.mp4")
    file.unlink()
    desk.simulator.set_faults(Fault("content", status=410))
    assert "could not be downloaded again" in desk.call("verify", "--yes", code=1).err


# -- generate ---------------------------------------------------------------------------------------------------------

SHOT = ["--model", LITE, "--duration", "4", "--resolution", "720p", "--no-audio", "--speed", "400"]


def test_the_same_video_is_bought_once(desk: Desk) -> None:
    wish = ["generate", "A {{ brace }} and a cat", *SHOT]
    assert "pass --yes" in desk.call(*wish, "-o", "new/cat.mp4", code=2).err
    first = desk.orbatch(*wish, "-o", "new/cat.mp4", "--yes")
    assert "Created new/cat.mp4." in first.err
    desk.call(*wish, "-o", "new/cat.mp4")
    desk.call(*wish, "-o", "copy.mp4")
    assert (desk.folder / "copy.mp4").read_bytes() == (desk.folder / "new" / "cat.mp4").read_bytes()
    assert desk.prompts_bought() == ["A {{ brace }} and a cat"]
    desk.call("generate", "A dog", *SHOT, "-o", "dog.mp4", "--yes")
    assert desk.accepted() == 2


def test_nothing_is_overwritten_and_nothing_bought_in_vain(desk: Desk) -> None:
    (desk.folder / "cat.mp4").write_bytes(b"something else")
    wish = ["generate", "A cat", *SHOT, "--yes"]
    assert "already exists" in desk.call(*wish, "-o", "cat.mp4", code=2).err
    assert "is a directory" in desk.call(*wish, "-o", ".", code=2).err
    assert "prompt is empty" in desk.call("generate", " ", *SHOT, "-o", "x.mp4", code=2).err
    assert "does not offer 5" in desk.call(*wish, "--duration", "5", "-o", "x.mp4", code=2).err
    assert "0.01" in desk.call(*wish, "--budget", "0.01", "-o", "x.mp4", code=4).err
    assert desk.accepted() == 0


def test_a_failed_video_ends_with_3_and_leaves_no_file(desk: Desk) -> None:
    desk.simulator.set_faults(Fault("job", "failed", message="content policy", times=1))
    wish = ["generate", "A cat", *SHOT, "--yes", "-o", "cat.mp4"]
    assert "content policy" in desk.call(*wish, code=3).err
    assert not (desk.folder / "cat.mp4").exists()
    desk.call("retry")
    desk.call(*wish)
    assert (desk.folder / "cat.mp4").exists()


def test_an_interrupted_video_goes_on_with_the_same_command(open_desk: Open) -> None:
    desk = open_desk(render_s={LITE: 200.0})
    wish = ["generate", "A cat", *SHOT, "--yes", "-o", "cat.mp4"]
    with desk.started(*wish) as run:
        desk.until(lambda: desk.accepted() == 1, "the submit")
        run.signal(signal.SIGINT)
        assert "To resume: orbatch generate 'A cat' --model" in run.finish(130).err
    desk.call(*wish)
    assert (desk.folder / "cat.mp4").exists()
    assert desk.accepted() == 1
