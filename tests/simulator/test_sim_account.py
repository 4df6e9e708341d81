"""What the account's endpoints tell."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from orbatch_simulator import SimulatorSettings
from tests.simulator.conftest import HOUR, Caller, Open

OTHER = "sk-or-v1-another"
MANAGER = "sk-or-v1-manager"


async def test_a_key_without_limits_says_so(caller: Caller) -> None:
    data = (await caller.get("/key"))["data"]
    assert (data["limit"], data["limit_remaining"], data["effective_budget"], data["budgets"]) == (None, None, None, [])
    assert (data["usage"], data["is_management_key"], data["rate_limit"]["requests"]) == (0, False, -1)


async def test_the_effective_budget_is_the_layer_that_blocks_first(open_simulator: Open) -> None:
    caller = await open_simulator(SimulatorSettings(key_limit_usd=Decimal(5), budget_usd=Decimal(1)))
    await caller.finish()
    data = (await caller.get("/key"))["data"]
    assert (data["limit"], data["limit_remaining"]) == (5, 4.88)
    budget = data["effective_budget"]
    assert (budget["scope"], budget["spend_usd"], budget["remaining_usd"]) == ("workspace", 0.12, 0.88)


async def test_usage_counts_ended_jobs_of_this_key_by_day_and_may_lag(open_simulator: Open) -> None:
    caller = await open_simulator(SimulatorSettings(usage_lag_s=2 * HOUR))
    await caller.finish()
    assert (await caller.get("/key"))["data"]["usage"] == 0
    caller.clock.advance(2 * HOUR)
    data = (await caller.get("/key"))["data"]
    assert (data["usage"], data["usage_monthly"]) == (0.12, 0.12)
    assert (await caller.get("/key", key=OTHER))["data"]["usage"] == 0
    caller.clock.advance(24 * HOUR)
    data = (await caller.get("/key"))["data"]
    assert (data["usage_daily"], data["usage"]) == (0, 0.12)


async def test_credits_are_for_management_keys(open_simulator: Open) -> None:
    caller = await open_simulator(SimulatorSettings(credit_usd=Decimal(10), management_keys=frozenset({MANAGER})))
    await caller.finish()
    assert (await caller.call("GET", "/credits")).status == 403
    assert await caller.get("/credits", key=MANAGER) == {"data": {"total_credits": 10, "total_usage": 0.12}}


async def test_a_generation_is_known_some_minutes_after_its_job_and_only_to_its_key(caller: Caller) -> None:
    await caller.start()
    job = caller.only_job()
    path = f"/generation?id={job.generation_id}"
    caller.clock.advance(job.render_s + 60)
    assert (await caller.call("GET", path)).status == 404
    caller.clock.advance(61)
    data = (await caller.get(path))["data"]
    assert (data["id"], data["total_cost"], data["usage"], data["api_type"]) == (job.generation_id, 0.12, 0.12, "video")
    assert (await caller.call("GET", path, key=OTHER)).status == 404
    assert (await caller.call("GET", "/generation?id=gen-none")).status == 404


QUESTION = {
    "metrics": ["request_count", "total_usage"],
    "dimensions": ["generation_id", "external_user"],
    "filters": [{"field": "external_user", "operator": "in", "value": ["us"]}],
}


def asked_from(start: float, **changes: object) -> dict[str, object]:
    ends = (datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for at in (start, start + HOUR))
    return {**QUESTION, "time_range": dict(zip(("start", "end"), ends, strict=True)), **changes}


@pytest.mark.parametrize("records_user", [True, False])
async def test_analytics_list_a_generation_minutes_after_its_end_to_management_keys(
    open_simulator: Open, records_user: bool
) -> None:
    settings = SimulatorSettings(management_keys=frozenset({MANAGER}), records_user=records_user)
    caller = await open_simulator(settings)
    asked = asked_from(caller.clock.now())
    await caller.start(user="us")
    job = caller.only_job()
    assert (await caller.call("POST", "/analytics/query", json=asked)).status == 403

    async def rows(question: dict[str, object]) -> object:
        return (await caller.call("POST", "/analytics/query", json=question, key=MANAGER)).json["data"]["data"]

    caller.clock.advance(job.render_s + 299)
    assert await rows(asked) == []
    caller.clock.advance(2)
    user = "us" if records_user else None
    row = {"generation_id": job.generation_id, "external_user": user, "request_count": 1, "total_usage": 0.12}
    assert await rows(asked) == ([row] if records_user else [])
    assert await rows(asked | {"filters": []}) == [row]
    assert await rows(asked_from(caller.clock.now())) == []
    assert caller.simulator.journal.refused == {}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"dimensions": ["generation_id", "external_user", "model"]}, "dimensions: List should have at most 2"),
        ({"dimensions": ["prompt"]}, "dimensions.0: "),
        ({"metrics": []}, "metrics: "),
        ({"limit": 0}, "limit: "),
        ({"filters": [{"field": "model", "operator": "in", "value": "a"}]}, "filters.0.value: "),
        ({"time_range": {"start": "2026-11-25T10:00Z", "end": "2026-11-25T12:00:00Z"}}, "time_range.start: "),
        (
            {"time_range": {"start": "2026-10-01T10:00:00Z", "end": "2026-11-25T12:00:00Z"}},
            "time_range: at most 31 days",
        ),
    ],
)
async def test_analytics_refuse_what_the_service_would_not_answer(
    open_simulator: Open, changes: dict[str, object], problem: str
) -> None:
    caller = await open_simulator(SimulatorSettings(management_keys=frozenset({MANAGER})))
    answer = await caller.call("POST", "/analytics/query", json=asked_from(0, **changes), key=MANAGER)
    assert answer.status == 400
    assert answer.json["error"]["message"].startswith(problem)
