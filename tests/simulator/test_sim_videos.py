"""The life of a job, as its owner sees it."""

from __future__ import annotations

import re

import pytest

from orbatch_simulator import Fault, SimulatorSettings
from tests.simulator.conftest import HOUR, REQUEST, Caller, Open


def steady(speed: float = 1.0) -> SimulatorSettings:
    return SimulatorSettings(render_s={REQUEST["model"]: 60.0}, speed=speed)


async def test_a_submit_answers_id_absolute_polling_url_and_status_and_nothing_else(caller: Caller) -> None:
    reply = (await caller.submit()).json
    assert set(reply) == {"id", "polling_url", "status"}
    assert reply["status"] == "pending"
    assert re.fullmatch(r"gen-vid-\d+-[A-Za-z0-9]{20}", reply["id"])
    assert reply["polling_url"] == f"{caller.simulator.base_url}/videos/{reply['id']}"


@pytest.mark.parametrize("speed", [1.0, 30.0])
async def test_a_job_is_pending_then_in_progress_then_completed(open_simulator: Open, speed: float) -> None:
    caller = await open_simulator(steady(speed))
    job_id = await caller.start()
    seen = []
    for _ in range(4):
        seen.append((await caller.poll(job_id))["status"])
        caller.clock.advance(20 / speed)
    assert seen == ["pending", "in_progress", "in_progress", "completed"]


async def test_a_completed_job_names_its_generation_its_content_and_its_cost(caller: Caller) -> None:
    job_id = await caller.finish()
    job = await caller.poll(job_id)
    assert set(job) == {"id", "polling_url", "status", "generation_id", "unsigned_urls", "usage"}
    assert job["generation_id"] == job_id
    assert job["unsigned_urls"] == [f"{caller.simulator.base_url}/videos/{job_id}/content?index=0"]


async def test_render_times_lie_around_the_median_and_repeat_with_the_seed(open_simulator: Open) -> None:
    times = []
    for seed in (1, 1, 2):
        caller = await open_simulator(SimulatorSettings(seed=seed))
        for n in range(20):
            await caller.start(prompt=str(n))
        times.append([job.render_s for job in caller.simulator.journal.jobs.values()])
    assert times[0] == times[1] != times[2]
    assert 40 < sorted(times[0])[10] < 80
    assert len(set(times[0])) == 20


@pytest.mark.parametrize("end", ["failed", "cancelled", "expired"])
async def test_a_job_that_ends_without_a_result_says_why_and_costs_nothing_by_default(caller: Caller, end: str) -> None:
    caller.simulator.set_faults(Fault("job", end))
    job = await caller.poll(await caller.finish())
    assert job["status"] == end
    assert isinstance(job["error"], str)
    assert not {"usage", "unsigned_urls"} & set(job)
    assert caller.simulator.journal.charged == 0


@pytest.mark.parametrize(("reports", "usage"), [(False, None), (True, {"cost": 0.12, "is_byok": False})])
async def test_a_failed_job_can_be_charged(open_simulator: Open, reports: bool, usage: object) -> None:
    caller = await open_simulator(SimulatorSettings(failures_report_usage=reports))
    caller.simulator.set_faults(Fault("job", "failed", charged=True))
    job = await caller.poll(await caller.finish())
    assert job.get("usage") == usage
    assert float(caller.simulator.journal.charged) == 0.12
    assert (await caller.get(f"/generation?id={job['generation_id']}"))["data"]["total_cost"] == 0.12


async def test_a_job_can_run_for_ever(caller: Caller) -> None:
    caller.simulator.set_faults(Fault("job", "never_ends"))
    job_id = await caller.finish()
    caller.clock.advance(1000 * HOUR)
    assert (await caller.poll(job_id))["status"] == "in_progress"


async def test_a_cost_that_is_null_at_first_is_reported_by_the_generation_later(caller: Caller) -> None:
    caller.simulator.set_faults(Fault("job", "null_cost"))
    job_id = await caller.start()
    caller.clock.advance(caller.only_job().render_s + 1)
    job = await caller.poll(job_id)
    assert job["usage"] == {"cost": None, "is_byok": False}
    path = f"/generation?id={job['generation_id']}"
    assert (await caller.call("GET", path)).status == 404
    caller.clock.advance(120)
    assert (await caller.get(path))["data"]["total_cost"] == 0.12


async def test_a_job_on_the_callers_own_provider_key_costs_the_fee(caller: Caller) -> None:
    caller.simulator.set_faults(Fault("job", "byok"))
    job = await caller.poll(await caller.finish())
    assert job["usage"] == {"cost": 0.006, "is_byok": True}
    reported = (await caller.get(f"/generation?id={job['generation_id']}"))["data"]
    assert (reported["is_byok"], reported["total_cost"], reported["upstream_inference_cost"]) == (True, 0.006, 0.12)
    key = (await caller.get("/key"))["data"]
    assert (key["usage_daily"], key["byok_usage"], key["byok_usage_daily"]) == (0.006, 0.12, 0.12)


async def test_the_models_have_every_field_of_the_documented_record(caller: Caller) -> None:
    records = (await caller.get("/videos/models", key=None))["data"]
    assert len(records) == 30
    required = {
        "allowed_passthrough_parameters", "canonical_slug", "created", "creativity", "generate_audio", "id", "name",
        "seed", "supported_aspect_ratios", "supported_durations", "supported_frame_images", "supported_resolutions",
        "supported_sizes", "upscale_factor", "pricing_skus",
    }  # fmt: skip
    assert all(required <= set(record) and "input_modalities" not in record for record in records)
    veo = next(record for record in records if record["id"] == "google/veo-3.1-lite")
    assert veo["supported_durations"] == [8, 4, 6]
    assert veo["pricing_skus"]["duration_seconds_without_audio_720p"] == "0.03"
