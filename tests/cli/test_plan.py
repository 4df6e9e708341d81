"""``plan`` and plan files: everything that is wrong at once, every cap, and a plan that is executed exactly."""

from __future__ import annotations

import json
import re
from decimal import Decimal

import pytest

from orbatch_provider.catalog import Catalog, VideoModel, snapshot
from orbatch_simulator import Fault
from tests.conftest import Open
from tests.desk import HORSE, LITE, Desk


def test_a_problem_tells_two_jobs_of_one_prompt_apart(desk: Desk) -> None:
    path = desk.write(prompts=[{"id": "dawn", "prompt": "a dawn"}], seeds=[1, 2], defaults={"resolution": "4K"})
    err = desk.call("plan", path, code=2).err
    assert re.search(r"in dawn \(seed 1; \S+films.yaml:\d+\), dawn \(seed 2; ", err), err


def test_every_problem_is_named_at_once_with_what_is_allowed_and_nearest(desk: Desk) -> None:
    path = desk.write(
        models=[LITE, "alibaba/wan-2.7", "google/veo-3.1-light"],
        defaults={"duration": 7, "resolution": "480p", "generate_audio": False},
        prompts=[f"prompt {number}" for number in range(5)],
    )
    err = desk.call("plan", path, code=2).err
    assert f"duration: {LITE} does not offer 7; allowed: 4, 6, 8; nearest: 6" in err
    assert f"resolution: {LITE} does not offer 480p; allowed: 720p, 1080p; nearest: 720p" in err
    assert "resolution: alibaba/wan-2.7 does not offer 480p" in err
    assert "model: google/veo-3.1-light is not" in err
    assert f"nearest: {LITE}" in err
    assert "films.yaml:" in err
    assert "and 2 more" in err
    assert "nothing was submitted" in err
    assert "has no batch yet" in desk.call("status", "films", code=2).err, "a refused plan leaves nothing behind"


def test_the_table_adds_up_by_model_and_in_all(desk: Desk) -> None:
    out = desk.call("plan", desk.write(models=[LITE, HORSE])).out
    cells = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.startswith((LITE, HORSE, "total"))}
    assert cells == {
        LITE: ["3", "3", "12", "0.3600"],
        HORSE: ["3", "3", "12", "1.1856"],
        "total": ["6", "6", "24", "1.5456"],
    }
    assert "films: 6 jobs to submit, 1.5456 USD." in out


def test_every_cap_stands_beside_what_is_spent_under_it(desk: Desk) -> None:
    budget = {"total_usd": 1, "per_job_usd": 0.2, "per_day_usd": 50, "per_model_usd": {LITE: 0.5}}
    path = desk.write(models=[LITE, HORSE], budget=budget)
    desk.run(path, "--only", LITE)
    out = desk.call("plan", path).out
    assert (
        "budget.total_usd 1.00 USD (0.36 spent or reserved) does not cover the worst case of 1.1856; jobs that" in out
    )
    assert "Budget: 50.00 USD per day (0.36 spent or reserved). OK." in out
    assert "budget.per_job_usd 0.20 USD: 3 jobs can cost more than this and will be skipped." in out
    assert "per_model_usd" not in out, "that model has nothing to submit any more"
    assert "3 jobs already done or submitted." in out
    caps = {cap["name"]: cap for cap in desk.call("plan", path, "--budget", "5", "--json").json["caps"]}
    assert caps["budget.total_usd"] == {
        "name": "budget.total_usd", "cap_usd": 5.0, "committed_usd": 0.36, "needed_usd": 1.1856, "covers": True,
        "never": 0, "unpriced": 0,
    }  # fmt: skip


def test_what_the_key_may_still_spend_is_said(open_desk: Open) -> None:
    desk = open_desk(key_limit_usd=Decimal("0.30"))
    assert "0.30 USD left on this key, less than the worst case." in desk.call("plan", desk.write()).out
    assert desk.call("plan", desk.write(), "--json").json["key_remaining_usd"] == 0.3


def test_a_key_that_is_refused_is_said_and_none_is_needed(desk: Desk) -> None:
    path = desk.write()
    assert "to submit" in desk.call("plan", path, OPENROUTER_API_KEY="").out
    desk.simulator.set_faults(Fault("key", status=401))
    assert "The key was not accepted" in desk.call("plan", path).out


def test_settings_left_to_chance_are_warned_of_with_their_price_range_until_they_are_paid_for(desk: Desk) -> None:
    path = desk.write(defaults={}, prompts=["a cat", "a dog"])
    out = desk.call("plan", path).out
    assert f"duration is not set for 2 jobs ({LITE}): 0.32 to 0.64 USD each, the provider decides." in out
    assert "resolution is not set" in out
    assert "generate_audio is not set" in out
    left = desk.call("plan", path, "--only", "p1", "--json").json["not_set"]
    assert {group["jobs"] for group in left} == {1}
    desk.run(path)
    assert "is not set" not in desk.call("plan", path).out


def test_a_pattern_that_matches_nothing_is_bad_usage(desk: Desk) -> None:
    path = desk.write()
    assert "--only x* matches no prompt id" in desk.call("plan", path, "--only", "x*", code=2).err
    assert "--only x* matches no prompt id" in desk.run(path, "--only", "x*", code=2).err


def test_only_buys_what_it_names(desk: Desk) -> None:
    path = desk.write(models=[LITE, HORSE])
    assert desk.call("plan", path, "--only", "p1", "--json").json["jobs_to_submit"] == 2
    desk.run(path, "--only", "*/veo*")
    assert desk.accepted() == 3


def _more_expensive(times: int) -> Catalog[VideoModel]:
    records = json.loads(snapshot().to_json())["data"]
    for record in records:
        if record["id"] == LITE:
            prices = record["pricing_skus"]
            record["pricing_skus"] = {line: str(Decimal(price) * times) for line, price in prices.items()}
    return Catalog.from_json(VideoModel, {"data": records}, captured_at=snapshot().captured_at, source="test")


def test_prices_that_changed_since_the_last_plan_are_shown_first(open_desk: Open) -> None:
    desk, dear = open_desk(), open_desk(catalog=_more_expensive(2))
    path = desk.write()
    desk.call("plan", path)
    changed = desk.call("plan", path, OPENROUTER_BASE_URL=dear.simulator.base_url).out
    line = f"Price change since the last plan: {LITE} duration_seconds_without_audio_720p: 0.03 -> 0.06."
    assert line in changed
    assert changed.index(line) < changed.index("to submit, 0.72 USD")
    assert "Price change" not in desk.call("plan", path, OPENROUTER_BASE_URL=dear.simulator.base_url).out


# -- plan files -------------------------------------------------------------------------------------------------------


def test_a_plan_is_executed_exactly(desk: Desk) -> None:
    path = desk.write(models=[LITE, HORSE])
    desk.call("plan", path, "-o", "plan.json", "--only", LITE, "--budget", "0.24")
    run = desk.run("plan.json", code=4)
    assert desk.accepted() == 2, "its pattern and its cap hold as well"
    assert "budget.total_usd 0.24" in run.err
    assert "Omit --only" in desk.run("plan.json", "--only", HORSE, code=2).err
    desk.run("plan.json", "--budget", "1")
    assert [job.model for job in desk.simulator.journal.jobs.values()] == [LITE] * 3


@pytest.mark.parametrize(
    ("prompts", "rows", "cause"),
    [
        pytest.param(["a cat", "a horse"], "a pig", "the batch file was edited", id="the batch file"),
        pytest.param(["a cat"], "a goat", "a prompt file or an input file has changed", id="a prompt file"),
    ],
)
def test_a_plan_whose_inputs_changed_is_refused(desk: Desk, prompts: list[str], rows: str, cause: str) -> None:
    (desk.folder / "more.csv").write_text("prompt\na pig\n")
    desk.call("plan", desk.write(prompts=["a cat"], prompts_from="more.csv"), "-o", "plan.json")
    desk.write(prompts=prompts, prompts_from="more.csv")
    (desk.folder / "more.csv").write_text(f"prompt\n{rows}\n")
    err = desk.run("plan.json", code=2).err
    assert cause in err
    assert "Nothing was submitted" in err
    assert desk.accepted() == 0


def test_a_plan_whose_prices_changed_is_refused(open_desk: Open) -> None:
    desk, dear = open_desk(), open_desk(catalog=_more_expensive(3))
    desk.call("plan", desk.write(), "-o", "plan.json")
    err = desk.run("plan.json", code=2, OPENROUTER_BASE_URL=dear.simulator.base_url).err
    assert "the catalog has other prices or models" in err
    assert dear.accepted() == 0


def test_a_plan_for_play_money_is_not_run_for_real_money(desk: Desk) -> None:
    desk.call("plan", desk.write(), "-o", "plan.json", "--simulate")
    err = desk.run("plan.json", code=2).err
    assert "The plan was made for simulator" in err
    assert desk.accepted() == 0


def test_a_plan_does_not_buy_jobs_that_were_opened_again_since(desk: Desk) -> None:
    desk.simulator.set_faults(Fault("job", "failed", times=1))
    path = desk.write()
    desk.run(path, code=3)
    desk.call("plan", path, "-o", "plan.json")
    desk.call("retry")
    assert "set back to pending" in desk.run("plan.json", code=2).err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param("{", "is not readable JSON", id="not JSON"),
        pytest.param('{"some": "thing"}', "is not a plan of this orbatch", id="something else"),
        pytest.param('{"format": "orbatch plan 1", "batch": 3}', "was edited or is incomplete", id="edited"),
        pytest.param(None, "cannot be read: No such file", id="missing"),
    ],
)
def test_a_file_that_is_not_a_plan_is_refused(desk: Desk, content: str | None, words: str) -> None:
    if content is not None:
        (desk.folder / "plan.json").write_text(content)
    assert words in desk.run("plan.json", code=2).err


@pytest.mark.parametrize("budget", ["1e300", '"1e300"', "9e99999", "NaN", "-1", '"0.0000000001"', "9" * 5000])
def test_a_plan_with_a_budget_that_is_no_amount_is_refused(desk: Desk, budget: str) -> None:
    path = desk.write()
    desk.call("plan", path, "--budget", "1", "-o", "plan.json")
    file = desk.folder / "plan.json"
    text = file.read_text()
    assert '"budget_usd": "1"' in text
    file.write_text(text.replace('"budget_usd": "1"', f'"budget_usd": {budget}'))
    err = desk.run("plan.json", code=2).err
    assert "was edited or is incomplete" in err or "is not readable JSON" in err
    assert len(err.splitlines()) <= 2
    assert desk.accepted() == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param("plan.txt", "must end with .json", id="another suffix"),
        pytest.param("data.json", "exists and is not a plan", id="another file"),
        pytest.param("nowhere/plan.json", "cannot be written: No such file", id="a missing folder"),
    ],
)
def test_a_plan_is_written_over_nothing_but_a_plan(desk: Desk, name: str, words: str) -> None:
    (desk.folder / "data.json").write_text("[]")
    assert words in desk.call("plan", desk.write(), "-o", name, code=2).err
    assert (desk.folder / "data.json").read_text() == "[]"


def test_a_dry_run_shows_the_plan_and_buys_nothing(desk: Desk) -> None:
    path = desk.write()
    assert "films: 3 jobs to submit, 0.36 USD." in desk.run(path, "--dry-run").out
    assert desk.run(path, "--dry-run", "--json").json["jobs_to_submit"] == 3
    assert desk.accepted() == 0
