"""What the account's endpoints tell."""

from __future__ import annotations

from decimal import Decimal

from orbatch_simulator import SimulatorSettings
from tests.simulator.conftest import HOUR, Caller, Open

OTHER = "sk-or-v1-another"


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
    manager = "sk-or-v1-manager"
    caller = await open_simulator(SimulatorSettings(credit_usd=Decimal(10), management_keys=frozenset({manager})))
    await caller.finish()
    assert (await caller.call("GET", "/credits")).status == 403
    assert await caller.get("/credits", key=manager) == {"data": {"total_credits": 10, "total_usage": 0.12}}


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
