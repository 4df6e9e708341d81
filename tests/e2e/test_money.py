"""The ledger's report equals the simulator's journal to the nano-dollar, whatever happened on the way."""

from __future__ import annotations

import dataclasses
import json
from decimal import Decimal
from typing import Any

from orbatch.ledger import Filter
from orbatch_provider.catalog import VideoModel, snapshot
from orbatch_simulator import Fault
from tests.conftest import Open
from tests.desk import HORSE, LITE, Desk

QUICK = {"in_flight": 16, "submits_per_minute": 10_000, "polls_per_second": 1000}


def _cheapest(model: VideoModel) -> dict[str, Any]:
    settings: dict[str, Any] = {"model": model.id}
    if model.durations:
        settings["duration"] = min(model.durations)
    if model.resolutions:
        settings["resolution"] = model.resolutions[0]
    if model.aspect_ratios:
        settings["aspect_ratio"] = model.aspect_ratios[0]
    if model.generate_audio:
        settings["generate_audio"] = True
    return settings


def test_over_every_price_family_of_the_catalog(open_desk: Open) -> None:
    """One job of each model, and one from a picture where a model takes one; some are unpriced until billed."""
    desk = open_desk(source_seconds=Decimal(1))
    models = list(snapshot().models.values())
    framed = [model.id for model in models if model.frame_types]
    prompts = [
        {"id": "text", "prompt": "a cat"},
        {"id": "picture", "prompt": "a cat", "models": framed, "first_frame": "https://example.com/cat.png"},
    ]
    path = desk.write(
        defaults={}, models=[_cheapest(model) for model in models], prompts=prompts, limits=QUICK,
        budget={"total_usd": 100, "unpriced": 2},
    )  # fmt: skip
    planned = desk.call("plan", path, "--json").json
    desk.run(path)
    assert desk.accepted() == len(models) + len(framed) == planned["jobs_to_submit"]
    desk.assert_report_equals_journal()
    for job in desk.jobs():
        if job["estimate_high_usd"] is not None:
            assert job["cost_usd"] <= job["estimate_high_usd"] + 1e-9, job["model"]


def test_after_failures_charged_and_not_retries_null_costs_and_byok(open_desk: Open) -> None:
    desk = open_desk(generation_lag_s=0.0, failures_report_usage=True)
    desk.simulator.set_faults(
        Fault("job", "failed", prompt_contains="billed failure", charged=True, times=1),
        Fault("job", "failed", prompt_contains="free failure", charged=False, times=1),
        Fault("job", "expired", prompt_contains="ends without a result", charged=True),
        Fault("job", "null_cost", prompt_contains="no cost"),
        Fault("job", "byok", prompt_contains="own key"),
    )
    prompts = ["billed failure", "free failure", "ends without a result", "no cost", "own key", "plain"]
    path = desk.write(prompts=prompts, limits=QUICK, retries={"attempts": 2})
    run = desk.run(path, code=3)
    assert "Jobs that end as expired or failed are retried once" in run.err
    rows = {row["prompt"]: row for row in desk.jobs()}
    assert {prompt: (row["status"], row["attempts"], row["cost_usd"]) for prompt, row in rows.items()} == {
        "billed failure": ("done", 2, 0.24),
        "free failure": ("done", 2, 0.12),
        "ends without a result": ("expired", 2, 0.24),
        "no cost": ("done", 1, 0.12),
        "own key": ("done", 1, 0.006),
        "plain": ("done", 1, 0.12),
    }
    shown = desk.call("show", rows["billed failure"]["job_id"]).out
    assert "attempt   1: failed, charged 0.12 USD" in shown
    assert "attempt   2: done, charged 0.12 USD" in shown
    desk.assert_report_equals_journal()
    report = desk.call("report")
    assert "1 attempt ran on your own provider keys" in report.out
    total = desk.call("report", "--json").json["total"]
    assert (total["failed_cost_usd"], total["byok_fee_usd"]) == (0.36, 0.006)


def test_a_charge_that_is_known_only_later_is_settled_by_report(open_desk: Open) -> None:
    desk = open_desk(generation_lag_s=1e9)
    desk.simulator.set_faults(Fault("job", "null_cost"))
    path = desk.write()
    desk.run(path)
    with desk.ledger() as ledger:
        total = ledger.reports.total(Filter())
        assert (total.charged_nusd, total.reserved_nusd) == (0, 360_000_000), "the worst case until it is known"
    assert "0 charges settled; 3 still unknown" in desk.call("report", "--settle").err
    desk.simulator.state.settings = dataclasses.replace(desk.simulator.state.settings, generation_lag_s=0.0)
    settled = desk.call("report", "--settle", "--format", "json")
    assert "3 charges settled." in settled.err
    assert json.loads(settled.out)["total"]["cost_usd"] == 0.36, "stdout holds the data and nothing else"
    desk.assert_report_equals_journal()
    assert "Every charge is known." in desk.call("report", "--settle").err


def test_two_processes_on_one_ledger_share_the_day_s_cap_and_the_limits(open_desk: Open) -> None:
    desk = open_desk(render_s={LITE: 100.0, HORSE: 100.0})
    terms = {"limits": QUICK | {"in_flight": 3}, "budget": {"per_day_usd": 1.0}}
    one = desk.write("one", prompts=[f"one {number}" for number in range(8)], **terms)
    two = desk.write("two", prompts=[f"two {number}" for number in range(8)], models=[LITE, HORSE], **terms)
    with desk.running(one) as first, desk.running(two) as second:
        codes = {first.finish(None).code, second.finish(None).code}
    assert codes <= {0, 4}
    assert 4 in codes, "16 x 0.12 + 8 x 0.3952 USD do not fit in 1 USD"
    assert Decimal("0.88") < desk.simulator.journal.charged <= 1
    # One more at times: each looks at what the other has in flight, and sends a moment later.
    assert most_at_a_time(desk) <= 4
    desk.assert_nothing_bought_twice()
    desk.assert_report_equals_journal()


def test_each_model_keeps_to_its_own_limit(open_desk: Open) -> None:
    desk = open_desk(render_s={LITE: 60.0, HORSE: 60.0})
    limits = QUICK | {"in_flight": 6, "models": {HORSE: {"in_flight": 1}, LITE: {"in_flight": 4}}}
    path = desk.write(models=[LITE, HORSE], prompts=[f"prompt {number}" for number in range(5)], limits=limits)
    desk.run(path)
    assert most_at_a_time(desk, HORSE) == 1
    assert 2 <= most_at_a_time(desk, LITE) <= 4


def test_the_command_line_sets_the_limit_of_this_run(open_desk: Open) -> None:
    desk = open_desk(render_s={LITE: 40.0})
    desk.run(desk.write(limits=QUICK), "--in-flight", "1", "--refresh")
    assert (desk.accepted(), most_at_a_time(desk)) == (3, 1)


def test_the_expected_figure_comes_from_three_bills_of_the_same_shape(desk: Desk) -> None:
    model = {"model": "bytedance/seedance-2.0-mini", "resolution": "480p", "aspect_ratio": "16:9"}
    desk.run(desk.write(models=[model]))
    bills = [job.cost_usd for job in desk.simulator.journal.jobs.values()]
    path = desk.write(models=[model], prompts=["four", "five"])
    planned = desk.call("plan", path, "--json").json
    assert planned["expected_usd"] == float(2 * bills[0])
    assert planned["low_usd"] <= planned["expected_usd"] < planned["high_usd"], "the worst case is still reserved"
    assert "Expected: " in desk.call("plan", path).out


def most_at_a_time(desk: Desk, model: str | None = None) -> int:
    """The largest number of jobs that the simulator had in the making at once."""
    jobs = [job for job in desk.simulator.journal.jobs.values() if model in (None, job.model)]
    spans = [(job.accepted_at, job.accepted_at + job.render_s / desk.speed) for job in jobs]
    return max(sum(start <= moment < end for start, end in spans) for moment, _ in spans)
