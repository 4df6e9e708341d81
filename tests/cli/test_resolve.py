"""``resolve`` in all its forms, ``verify`` and ``generate``."""

from __future__ import annotations

import signal

import pytest

from orbatch.ledger import Caps, Charge, Status
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


# -- ids that are wrong, and paid jobs that never arrive --------------------------------------------------------------


@pytest.mark.parametrize("remote_id", ["", "  ", "x" * 129], ids=["empty", "blank", "too long"])
def test_what_cannot_be_an_id_is_refused(uncertain: Desk, remote_id: str) -> None:
    job = uncertain.jobs()[0]["job_id"]
    assert "1 to 128 characters" in uncertain.call("resolve", job, "--remote-id", remote_id, code=2).err
    assert uncertain.statuses() == ["uncertain"] * 3


def test_an_id_is_recorded_only_when_the_provider_knows_it(uncertain: Desk) -> None:
    job = uncertain.jobs()[0]["job_id"]
    [remote_id] = uncertain.simulator.journal.jobs
    refused = uncertain.call("resolve", job, "--remote-id", remote_id[:-1] + "?", code=2)
    assert "nothing was changed" in refused.err
    uncertain.simulator.set_faults(Fault("poll", status=503))
    assert "nothing was changed" in uncertain.call("resolve", job, "--remote-id", remote_id, code=1).err
    assert uncertain.statuses() == ["uncertain"] * 3
    uncertain.simulator.set_faults()
    uncertain.call("resolve", job, "--remote-id", f" {remote_id} ")
    uncertain.call("collect", "films", "--speed", uncertain.speed, code=5)
    assert uncertain.statuses() == ["done", "uncertain", "uncertain"]


def test_a_mistyped_id_is_replaced_by_the_right_one(uncertain: Desk) -> None:
    job = uncertain.jobs()[0]["job_id"]
    [right] = uncertain.simulator.journal.jobs
    with uncertain.ledger() as ledger:  # as an id that was recorded before ids were polled
        ledger.attempts.attach_remote_id(ledger.queries.attempts(job)[0], "wr0ng")
    assert "nothing was changed" in uncertain.call("resolve", job, "--remote-id", "other", code=2).err
    assert f"submitted as {right}" in uncertain.call("resolve", job, "--remote-id", right).out
    assert "wr0ng" in uncertain.call("show", job).out, "no id is forgotten"
    uncertain.call("collect", "films", "--speed", uncertain.speed, code=5)
    assert uncertain.jobs()[0]["status"] == "done"


@pytest.fixture
def submitted(desk: Desk) -> Desk:
    """A desk with one submitted job, whose polls the provider then refuses for ever."""
    desk.simulator.set_faults(Fault("submit", status=500, accept=True))
    desk.run(desk.write(prompts=["one"]), code=5)
    [remote_id] = desk.simulator.journal.jobs
    desk.simulator.set_faults()
    with desk.ledger() as ledger:
        [job] = ledger.queries.uncertain()
        assert job.attempt is not None
        ledger.attempts.accept(job.attempt.id, remote_id)
    desk.simulator.set_faults(Fault("poll", status=404))
    return desk


def test_an_id_that_came_from_the_provider_is_not_replaced(submitted: Desk) -> None:
    submitted.simulator.set_faults(Fault("poll", "edit", fields={"id": "other"}))
    [job] = submitted.jobs()
    refused = submitted.call("resolve", job["job_id"], "--remote-id", "other", code=None)
    assert refused.code != 0
    assert submitted.jobs() == [job]


def test_a_submitted_job_that_is_never_found_is_given_up_and_bought_again_only_on_purpose(submitted: Desk) -> None:
    [job] = [row["job_id"] for row in submitted.jobs()]
    assert "pass --lost" in submitted.call("resolve", job, "--not-charged", code=2).err
    assert "lost, at most 0.12 USD charged" in submitted.call("resolve", job, "--lost").out
    total = submitted.call("report", "--json").json["total"]
    assert (total["cost_usd"], total["reserved_usd"]) == (0, 0.12)
    submitted.simulator.set_faults()
    path = submitted.folder / "films.yaml"
    assert "To buy them again: orbatch retry films --status lost" in submitted.run(path, code=3).err
    submitted.call("retry")
    submitted.run(path, code=3)
    assert submitted.accepted() == 1, "nothing but --status lost buys it again"
    submitted.call("resolve", job, "--charged", "0.11")
    submitted.call("retry", "--status", "lost")
    submitted.run(path)
    assert (submitted.accepted(), submitted.statuses()) == (2, ["done"])
    assert submitted.call("report", "--json").json["total"]["cost_usd"] == 0.23


def test_a_completed_job_without_content_is_given_up_at_its_charge(submitted: Desk) -> None:
    submitted.simulator.set_faults()
    [row] = submitted.jobs()
    with submitted.ledger() as ledger:
        [attempt] = ledger.queries.attempts(row["job_id"])
        ledger.attempts.end(attempt.id, Status.COMPLETED, Charge(120_000_000), Caps())
    assert "its id is right" in submitted.call("resolve", row["job_id"], "--remote-id", "x", code=2).err
    assert "lost, 0.12 USD charged" in submitted.call("resolve", row["job_id"], "--lost").out
    total = submitted.call("report", "--json").json["total"]
    assert (total["cost_usd"], total["reserved_usd"]) == (0.12, 0)


@pytest.mark.parametrize("verdict", [["--lost"], ["--remote-id", "x"]], ids=["lost", "remote id"])
def test_a_job_that_a_run_is_polling_is_left_to_it(submitted: Desk, verdict: list[str]) -> None:
    with submitted.running(submitted.folder / "films.yaml") as run:
        with submitted.ledger() as ledger:
            submitted.until(lambda: ledger.database.count("from batches where lease_owner is not null"), "the run")
        [job] = submitted.jobs()
        assert "is being run by process" in submitted.call("resolve", job["job_id"], *verdict, code=1).err
        run.signal(signal.SIGINT)
        run.finish(130)
    assert submitted.statuses() == ["submitted"]


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
