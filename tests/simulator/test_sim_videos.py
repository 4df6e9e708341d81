"""The life of a job, as its owner sees it."""

from __future__ import annotations

import re

import pytest

from orbatch_simulator import Fault, SimulatorSettings
from tests.simulator.conftest import HOUR, REQUEST, Caller, Open

STEADY = SimulatorSettings(render_s={REQUEST["model"]: 60.0})


async def test_a_submit_answers_id_absolute_polling_url_and_status_and_nothing_else(caller: Caller) -> None:
    reply = await caller.submit()
    assert set(reply.json) == {"id", "polling_url", "status"}
    assert reply.json["status"] == "pending"
    assert re.fullmatch(r"gen-vid-\d+-[A-Za-z0-9]{20}", reply.json["id"])
    assert reply.json["polling_url"] == f"{caller.simulator.base_url}/videos/{reply.json['id']}"


async def test_a_job_is_pending_then_in_progress_then_completed(open_simulator: Open) -> None:
    caller = await open_simulator(STEADY)
    job_id = await caller.start()
    seen = []
    for _ in range(4):
        seen.append((await caller.poll(job_id))["status"])
        caller.clock.advance(20)
    assert seen == ["pending", "in_progress", "in_progress", "completed"]


async def test_a_job_can_jump_from_pending_to_completed(open_simulator: Open) -> None:
    caller = await open_simulator(SimulatorSettings(render_s={REQUEST["model"]: 60.0}, shows_in_progress=False))
    job_id = await caller.start()
    caller.clock.advance(59)
    assert (await caller.poll(job_id))["status"] == "pending"
    caller.clock.advance(1)
    assert (await caller.poll(job_id))["status"] == "completed"


async def test_a_completed_job_names_its_generation_its_content_and_its_cost(caller: Caller) -> None:
    job_id = await caller.finish()
    job = await caller.poll(job_id)
    assert set(job) == {"id", "polling_url", "status", "generation_id", "unsigned_urls", "usage"}
    assert job["generation_id"] != job_id
    assert job["unsigned_urls"] == [f"{caller.simulator.base_url}/videos/{job_id}/content?index=0"]


async def test_simulated_time_runs_faster_by_the_speed(open_simulator: Open) -> None:
    caller = await open_simulator(SimulatorSettings(render_s={REQUEST["model"]: 60.0}, speed=30))
    job_id = await caller.start()
    caller.clock.advance(1.9)
    assert (await caller.poll(job_id))["status"] == "in_progress"
    caller.clock.advance(0.2)
    assert (await caller.poll(job_id))["status"] == "completed"


async def test_render_times_lie_around_the_median_and_repeat_with_the_seed(open_simulator: Open) -> None:
    times = []
    for seed in (1, 1, 2):
        caller = await open_simulator(SimulatorSettings(seed=seed))
        for n in range(20):
            await caller.start(prompt=str(n))
        times.append([job.render_s for job in caller.simulator.journal.jobs.values()])
    first, again, other = times
    assert first == again
    assert first != other
    assert 40 < sorted(first)[10] < 80
    assert len(set(first)) == 20


async def test_a_model_with_one_slot_renders_one_job_after_the_other(open_simulator: Open) -> None:
    caller = await open_simulator(SimulatorSettings(render_s={REQUEST["model"]: 60.0}, slots_per_model=1))
    first, second = await caller.start(), await caller.start(prompt="another")
    caller.clock.advance(61)
    assert (await caller.poll(first))["status"] == "completed"
    assert (await caller.poll(second))["status"] == "pending"
    caller.clock.advance(60)
    assert (await caller.poll(second))["status"] == "completed"


@pytest.mark.parametrize("end", ["failed", "cancelled", "expired"])
async def test_a_job_that_ends_without_a_result_says_why_and_costs_nothing_by_default(caller: Caller, end: str) -> None:
    caller.simulator.set_faults(Fault("job", end))
    job = await caller.poll(await caller.finish())
    assert job["status"] == end
    assert isinstance(job["error"], str)
    assert "usage" not in job
    assert "unsigned_urls" not in job
    assert caller.simulator.journal.charged == 0


@pytest.mark.parametrize(
    ("settings", "fault", "charged", "usage"),
    [
        pytest.param(SimulatorSettings(charge_failures=True), Fault("job", "failed"), 0.12, None, id="by the settings"),
        pytest.param(SimulatorSettings(), Fault("job", "failed", charged=True), 0.12, None, id="by the fault"),
        pytest.param(SimulatorSettings(charge_failures=True), Fault("job", "failed", charged=False), 0, None, id="not"),
        pytest.param(
            SimulatorSettings(charge_failures=True, failures_report_usage=True),
            Fault("job", "failed"),
            0.12,
            {"cost": 0.12, "is_byok": False},
            id="and reported",
        ),
    ],
)
async def test_a_failed_job_can_be_charged(
    open_simulator: Open, settings: SimulatorSettings, fault: Fault, charged: float, usage: object
) -> None:
    caller = await open_simulator(settings)
    caller.simulator.set_faults(fault)
    job = await caller.poll(await caller.finish())
    assert job.get("usage") == usage
    assert float(caller.simulator.journal.charged) == charged
    reported = await caller.call("GET", f"/generation?id={job['generation_id']}")
    assert reported.json["data"]["total_cost"] == charged


async def test_a_job_can_run_for_ever(caller: Caller) -> None:
    caller.simulator.set_faults(Fault("job", "never_ends"))
    job_id = await caller.finish()
    caller.clock.advance(1000 * HOUR)
    assert (await caller.poll(job_id))["status"] == "in_progress"


async def test_a_cost_that_is_null_at_first_is_reported_by_the_generation_later(caller: Caller) -> None:
    caller.simulator.set_faults(Fault("job", "null_cost"))
    job_id = await caller.start()
    caller.clock.advance(caller.simulator.journal.jobs[job_id].render_s + 1)
    job = await caller.poll(job_id)
    assert job["usage"] == {"cost": None, "is_byok": False}
    path = f"/generation?id={job['generation_id']}"
    assert (await caller.call("GET", path)).status == 404
    caller.clock.advance(120)
    assert (await caller.call("GET", path)).json["data"]["total_cost"] == 0.12


async def test_a_job_on_the_callers_own_provider_key_costs_the_fee(caller: Caller) -> None:
    caller.simulator.set_faults(Fault("job", "byok"))
    job = await caller.poll(await caller.finish())
    assert job["usage"] == {"cost": 0.006, "is_byok": True}
    reported = (await caller.call("GET", f"/generation?id={job['generation_id']}")).json["data"]
    assert (reported["is_byok"], reported["total_cost"], reported["upstream_inference_cost"]) == (True, 0.006, 0.12)


async def test_urls_can_name_another_origin_and_polling_urls_can_be_paths(open_simulator: Open) -> None:
    away = await open_simulator(SimulatorSettings(public_origin="https://elsewhere.example"))
    job = await away.poll(await away.finish())
    assert job["polling_url"].startswith("https://elsewhere.example/api/v1/videos/")
    assert job["unsigned_urls"][0].startswith("https://elsewhere.example/api/v1/videos/")
    path = await open_simulator(SimulatorSettings(polling_paths=True))
    assert (await path.submit()).json["polling_url"].startswith("/api/v1/videos/")


async def test_the_models_have_every_field_of_the_documented_record(caller: Caller) -> None:
    records = (await caller.call("GET", "/videos/models", key=None)).json["data"]
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
