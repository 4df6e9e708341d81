"""Uncertain jobs that the account's records identify, from a lost answer to the file on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orbatch_simulator import Fault
from orbatch_simulator.journal import Job
from tests.desk import Desk

MANAGER = "sk-or-v1-manager-0123456789abcdef"
LOST_ANSWER = Fault(call="submit", action="cut", accept=True, prompt_contains="dog")
# Half an hour of the provider passes in half a second, and a day does not pass within a test.
HURRIED: dict[str, Any] = {"speed": 4_000.0, "faults": (LOST_ANSWER,), "management_keys": frozenset({MANAGER})}


@pytest.fixture
def hurried(open_desk: Callable[..., Desk]) -> Callable[..., Desk]:
    """Opens desks with a management key, where the answer about the dog is lost."""

    def open_one(**settings: Any) -> Desk:
        desk = open_desk(**HURRIED | settings)
        desk.env["OPENROUTER_MANAGEMENT_KEY"] = MANAGER
        return desk

    return open_one


def lost(desk: Desk, code: int, **env: str) -> str:
    """What a run says that has lost an answer, and what the next one says, half an hour of the provider later."""
    path = desk.write()
    first = desk.run(path, code=None, **env)
    desk.until(lambda: desk.simulator.state.ended_for_s(the_dog(desk)) > 1800)
    return first.text + desk.run(path, code=code, **env).text


def the_dog(desk: Desk) -> Job:
    (dog,) = [job for job in desk.simulator.journal.jobs.values() if job.prompt == "a dog"]
    return dog


def test_a_run_finds_the_job_of_a_lost_answer_and_downloads_it(hurried: Callable[..., Desk]) -> None:
    desk = hurried()
    said = lost(desk, 0)
    dog = the_dog(desk)
    assert f"found: the account lists {dog.id} with its key, charged 0.12 USD" in said
    assert desk.statuses() == ["done"] * 3
    desk.assert_nothing_bought_twice()
    desk.assert_report_equals_journal()
    assert MANAGER not in said + desk.db.read_bytes().decode("latin-1")


def test_a_job_that_the_records_do_not_list_yet_stays_uncertain_and_is_noted_once(hurried: Callable[..., Desk]) -> None:
    desk = hurried(analytics_lag_s=1e12)
    said = lost(desk, 5)
    assert said.count("still uncertain: the account lists no generation for it") == 1
    job = next(job["job_id"] for job in desk.jobs() if job["status"] == "uncertain")
    assert f"To look for it in the account's records: orbatch resolve {job} --found" in said
    assert f"{job}: 0 of 1 job found. 1 job is still uncertain." in desk.call("resolve", job, "--found").out
    assert desk.call("show", job).out.count("Z  uncertain: the account lists no generation for it yet") == 1


def test_a_job_without_a_recorded_key_is_taken_only_when_the_user_says_so(hurried: Callable[..., Desk]) -> None:
    desk = hurried(records_user=False)
    assert "still uncertain: it may be gen-vid-" in lost(desk, 5)
    dog = the_dog(desk)
    assert f"it may be {dog.id}, the one video of {dog.model} from those minutes" in desk.call("status").out
    assert "No terminal to confirm on" in desk.call("resolve", "films", "--all", "--found", code=2).err
    assert sorted(desk.statuses()) == ["done", "done", "uncertain"]
    taken = desk.call("resolve", "films", "--all", "--found", "--yes").out
    assert "films: 1 of 1 job found. The next `orbatch run` polls and downloads what was found." in taken
    desk.run("films.yaml")
    desk.assert_nothing_bought_twice()
    desk.assert_report_equals_journal()
    assert "no job is uncertain" in desk.call("resolve", "films", "--all", "--found").out
    done = desk.jobs()[0]["job_id"]
    assert f"Job {done} is done. There is nothing to look for." in desk.call("resolve", done, "--found", code=2).err


def test_a_key_that_manages_nothing_is_named_once(hurried: Callable[..., Desk]) -> None:
    desk = hurried(management_keys=frozenset())
    said = lost(desk, 5)
    problem = "OPENROUTER_MANAGEMENT_KEY was not accepted as a management key: Only management keys can query analytics"
    assert said.count(f"Uncertain jobs cannot be looked up: {problem}") in (1, 2), "once in a run that looks"
    assert problem in desk.call("resolve", "films", "--all", "--found", code=2).err


def test_without_a_management_key_the_user_learns_of_it(hurried: Callable[..., Desk]) -> None:
    desk = hurried()
    del desk.env["OPENROUTER_MANAGEMENT_KEY"]
    assert "With OPENROUTER_MANAGEMENT_KEY set, `orbatch run` looks for it in the account's records." in lost(desk, 5)
    refused = desk.call("resolve", "films", "--all", "--found", code=2).err
    assert "Management API key required: OPENROUTER_MANAGEMENT_KEY is not set." in refused
