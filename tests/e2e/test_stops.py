"""Why a run ends before everything is done, the exit code that says so, and the line that says what is missing."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orbatch.ledger.budget import Allowed
from orbatch.runner import scheduler
from orbatch_simulator import Fault
from tests.desk import HORSE, LITE, Desk


def test_what_does_not_fit_under_the_cap_stays_and_cheaper_jobs_go_on(desk: Desk) -> None:
    dear_first = [{"id": "dear", "prompt": "a horse", "models": [HORSE]}, {"id": "cheap", "prompt": "a cat"}]
    path = desk.write(models=[HORSE, {"model": LITE}], prompts=dear_first, budget={"total_usd": 0.6})
    run = desk.orbatch("run", path, "--yes", "--speed", desk.speed, code=4)
    by_id = {(row["prompt_id"], row["model"]): row["status"] for row in desk.jobs()}
    assert by_id == {("dear", HORSE): "done", ("cheap", HORSE): "pending", ("cheap", LITE): "done"}
    assert "1 job not submitted: needs up to 0.3952 USD, budget.total_usd 0.60 has 0.0848 USD left" in run.err
    assert "(0.3104 USD missing)" in run.err
    assert "1 job pending: needs up to 0.3952 USD" in desk.call("status").out
    assert "3 of 3 done" in desk.run(path, "--budget", "0.92").out, "a raised cap goes on"


CAPS = [
    pytest.param({"total_usd": 0.3}, 2, id="total"),
    pytest.param({"per_job_usd": 0.1}, 0, id="per job"),
    pytest.param({"per_day_usd": 0.24}, 2, id="per day"),
    pytest.param({"per_model_usd": {LITE: 0.13}}, 1, id="per model"),
]


@pytest.mark.parametrize(("budget", "bought"), CAPS)
def test_no_cap_is_ever_exceeded(desk: Desk, budget: dict[str, object], bought: int) -> None:
    path = desk.write(budget=budget)
    assert next(iter(budget)) in desk.run(path, code=4).err
    assert desk.accepted() == bought


def test_without_the_reservation_a_cap_would_be_broken(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests of caps prove nothing unless they fail when the caps are not looked at."""
    monkeypatch.setattr("orbatch.ledger.attempts.decide", lambda model, high, caps, committed: Allowed(high))
    monkeypatch.setattr(scheduler, "room", lambda model, caps, committed: None)
    desk.run(desk.write(budget={"total_usd": 0.3}), code=None)
    assert desk.simulator.journal.charged > Decimal("0.3")


def test_a_job_without_an_upper_price_is_refused_under_a_cap_unless_an_amount_is_named(desk: Desk) -> None:
    editor = {"model": "runway/aleph-2", "duration": None, "resolution": None, "generate_audio": None}
    path = desk.write(models=[editor], prompts=["a cat"], budget={"total_usd": 5})
    assert "refuses 1 job without an upper price" in desk.call("plan", path).out
    assert "name an amount to reserve with budget.unpriced" in desk.run(path, code=4).err
    assert desk.accepted() == 0
    path = desk.write(models=[editor], prompts=["a cat"], budget={"total_usd": 5, "unpriced": 2})
    assert "2.00 USD is reserved for each" in desk.call("plan", path).out
    desk.run(path)
    assert desk.accepted() == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"output_dir": "films.yaml"}, "File exists", id="a file in its place"),
        pytest.param({"output_dir": "films.yaml/below"}, "Not a directory", id="below a file"),
        pytest.param({"output_dir": "x" * 300}, "File name too long", id="a name that is too long"),
        pytest.param({"filename": "/".join(["d" * 170] * 25) + "/{{ key8 }}"}, "File name too long", id="a long path"),
    ],
)
def test_an_output_directory_that_cannot_be_used_is_refused_before_anything_is_bought(
    desk: Desk, changes: dict[str, Any], words: str
) -> None:
    refused = desk.run(desk.write(**changes), code=2)
    assert "Outputs cannot be saved in" in refused.err
    assert words in refused.err
    assert desk.accepted() == 0


REFUSALS = [
    pytest.param(401, 1, "key", id="401 stops the run"),
    pytest.param(402, 4, "credit", id="402 stops submits"),
    pytest.param(403, 4, "budget", id="403 for a spent budget stops submits"),
]


@pytest.mark.parametrize(("status", "code", "word"), REFUSALS)
def test_a_refusal_that_concerns_every_job_stops_the_run_and_buys_nothing(
    desk: Desk, status: int, code: int, word: str
) -> None:
    fault = Fault("submit", status=status, message=f"no more {word}", error_type="permission_denied", after=1)
    desk.simulator.set_faults(fault)
    run = desk.run(desk.write(limits={"in_flight": 1, "submits_per_minute": 6000}), code=code)
    assert word in run.err.lower()
    assert "2 pending" in run.out
    assert desk.accepted() == 1
    desk.simulator.set_faults()
    assert "3 of 3 done" in desk.run(desk.folder / "films.yaml").out
    assert desk.accepted() == 3


def test_some_jobs_without_a_result_end_with_3_and_retry_opens_them_again(desk: Desk) -> None:
    desk.simulator.set_faults(
        Fault("job", "failed", prompt_contains="cat", message="content policy", times=1),
        Fault("job", "expired", prompt_contains="dog", times=1),
    )
    path = desk.write()
    run = desk.run(path, code=3)
    assert "1 of 3 done, 2 failed" in run.out
    assert "failed: content policy" in run.err
    assert "2 jobs failed (1 failed, 1 expired). To retry: orbatch retry films --status failed,expired" in run.err
    assert desk.statuses() == ["failed", "expired", "done"]
    assert desk.run(path, code=3).code == 3, "nothing is bought again without a word"
    assert "Its jobs: " in desk.call("retry", "--status", "cancelled").out
    assert "1 job of films set to pending" in desk.call("retry").out
    assert "1 job of films set to pending" in desk.call("retry", "films", "--status", "expired,failed").out
    desk.run(path)
    assert desk.statuses() == ["done"] * 3
    desk.assert_report_equals_journal()


def test_fail_fast_submits_nothing_after_the_first_failure(desk: Desk) -> None:
    desk.simulator.set_faults(Fault("job", "failed", times=1))
    path = desk.write(limits={"in_flight": 1, "submits_per_minute": 6000})
    assert "--fail-fast" in desk.run(path, "--fail-fast", code=3).err
    assert desk.accepted() == 1


@pytest.mark.parametrize(
    ("command", "name", "words"),
    [
        ("run", "missing.yaml", "there is no such file"),
        ("plan", "empty.yaml", "is empty"),
        ("run", ".", "is a directory"),
    ],
)
def test_a_batch_file_that_cannot_be_read_is_bad_usage(desk: Desk, command: str, name: str, words: str) -> None:
    (desk.folder / "empty.yaml").touch()
    ended = desk.call(command, name, code=2)
    assert words in ended.err
    assert ended.err.endswith("Nothing was submitted.\n")
    assert ended.out == ""


def test_a_real_run_without_a_key_is_refused_before_anything_is_sent(desk: Desk) -> None:
    ended = desk.run(desk.write(), code=2, OPENROUTER_API_KEY="")
    assert "OPENROUTER_API_KEY" in ended.err
    assert "--simulate" in ended.err


def test_without_a_terminal_and_without_yes_nothing_is_bought(desk: Desk) -> None:
    ended = desk.orbatch("run", desk.write(), code=2)
    assert "3 jobs to submit, 0.36 USD" in ended.err
    assert "pass --yes" in ended.err
    assert desk.accepted() == 0


def test_the_real_service_has_one_speed(desk: Desk) -> None:
    refused = desk.run(desk.write(), code=2, OPENROUTER_BASE_URL="https://openrouter.invalid/api/v1")
    assert "--speed is for a simulator on this machine" in refused.err


def test_a_ledger_in_a_missing_folder_is_made(desk: Desk) -> None:
    db = desk.folder / "not" / "yet" / "here.db"
    desk.run(desk.write(prompts=["one"]), ORBATCH_DB=str(db))
    assert db.exists()


@pytest.mark.parametrize(("name", "words"), [("folder.db", "is a directory"), ("text.db", "is not a SQLite file")])
def test_a_ledger_that_is_none_stops_everything_with_1(desk: Desk, name: str, words: str) -> None:
    (desk.folder / "folder.db").mkdir()
    (desk.folder / "text.db").write_text("hello " * 500)
    assert words in desk.run(desk.write(), code=1, ORBATCH_DB=name).err
    assert words in desk.call("status", "--db", name, code=1).err
    assert desk.accepted() == 0


def test_real_and_play_money_do_not_mix_in_one_ledger(desk: Desk, tmp_path: Path) -> None:
    path = desk.write()
    desk.run(path)
    ended = desk.call("plan", path, code=2, OPENROUTER_BASE_URL="https://openrouter.invalid/api/v1")
    assert "must not mix" in ended.err


def test_certificates_that_cannot_be_read_are_named_before_anything_is_sent(desk: Desk) -> None:
    path, missing = desk.write(), str(desk.folder / "cacert.pem")
    https = {"OPENROUTER_BASE_URL": "https://openrouter.invalid/api/v1"}
    refused = desk.orbatch("run", path, "--yes", code=2, SSL_CERT_FILE=missing, **https)
    assert f"The certificates of SSL_CERT_FILE ({missing}) cannot be read" in refused.err
    desk.orbatch("run", path, "--yes", "--speed", desk.speed, SSL_CERT_FILE=missing)
    assert desk.accepted() == 3, "plain http to this machine needs none"


def test_a_run_without_network_and_without_paid_jobs_gives_up_after_five_minutes(desk: Desk) -> None:
    path = desk.write(limits={"in_flight": 8, "submits_per_minute": 6000})
    nowhere = {"OPENROUTER_BASE_URL": "http://127.0.0.1:9/api/v1"}
    ended = desk.call("run", path, "--yes", "--speed", 2000, code=1, **nowhere)
    assert "Stopped: no connection for 5 minutes, and no paid job to wait for" in ended.err
    assert ended.err.count("Retrying in 0.1 s.") == 1, "one outage, one line, and a time that is true"
    assert [job["status"] for job in desk.jobs()] == ["pending"] * 3
