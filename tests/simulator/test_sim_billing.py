"""The charge against the published worked examples, and through the journal."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orbatch_provider.catalog import snapshot
from orbatch_simulator import SimulatorSettings
from orbatch_simulator.videos import EffectiveRequest, charge_video
from tests.simulator.conftest import Caller, Open

TOLERANCE = Decimal("1e-9")
UNKNOWN = Decimal("0.10")

VECTORS = [
    vector
    for vector in json.loads(
        (Path(__file__).parent.parent / "data" / "pricing-vectors.json").read_text("utf-8"), parse_float=Decimal
    )
    if vector["api"] == "videos" and vector["expected"]["low"] is not None
]


def charge_of(vector: Any) -> Decimal:
    hints = vector.get("hints", {})
    settings = SimulatorSettings(
        source_seconds=Decimal(hints.get("source_seconds", 5)),
        source_width=hints.get("source_width", 1280),
        source_height=hints.get("source_height", 720),
    )
    model = snapshot().models[vector["model"]]
    return charge_video(EffectiveRequest.from_body(vector["request"], model, settings), model.prices, UNKNOWN)


@pytest.mark.parametrize("vector", [pytest.param(v, id=f"{v['model']}: {v['note']}") for v in VECTORS])
def test_the_charge_lies_in_the_published_band_and_on_its_point(vector: Any) -> None:
    expected, charged = vector["expected"], charge_of(vector)
    assert charged >= expected["low"] - TOLERANCE
    if expected["high"] is not None:
        assert charged <= expected["high"] + TOLERANCE
    if expected["exact"] is not None:
        assert abs(charged - expected["exact"]) <= TOLERANCE


def test_every_price_family_is_among_the_examples() -> None:
    lines = {line for vector in VECTORS for line in vector["expected"]["sku_keys"]}
    assert {
        "video_tokens",
        "cents_per_image_input",
        "reference_images",
        "minimum_cents_per_generation",
        "cents_per_second_video_continuation_720p",
        "cents_per_megapixel_second_precise",
        "reference_duration_seconds_768p",
        "duration_seconds_with_audio_4k",
    } <= lines


@pytest.mark.parametrize("model", snapshot().models.values(), ids=lambda model: model.id)
def test_every_model_of_the_catalog_has_a_price_for_a_bare_request(model: Any) -> None:
    request = EffectiveRequest.from_body({"model": model.id, "prompt": "p"}, model, SimulatorSettings())
    assert charge_video(request, model.prices, Decimal(-1)) > 0


def test_a_model_with_unknown_price_lines_is_never_free() -> None:
    request = EffectiveRequest.from_body(
        {"prompt": "p", "duration": 4}, snapshot().models["google/veo-3.1"], SimulatorSettings()
    )
    assert charge_video(request, {"per_gigaflop": "1"}, UNKNOWN) == UNKNOWN


def test_charges_are_whole_nano_dollars() -> None:
    model = snapshot().models["bytedance/seedance-2.5"]
    request = EffectiveRequest.from_body({"size": "1112x834", "duration": 7}, model, SimulatorSettings())
    assert charge_video(request, model.prices, UNKNOWN) == Decimal("1.628035763")  # of 1.6280357625


@pytest.mark.parametrize(
    ("body", "size"),
    [
        ({"model": "google/veo-3.1", "resolution": "4K", "aspect_ratio": "9:16"}, (2160, 3840)),
        ({"model": "google/veo-3.1-lite"}, (1280, 720)),
        ({"model": "bytedance/seedance-2.0", "resolution": "480p", "aspect_ratio": "1:1"}, (480, 480)),
        ({"model": "minimax/hailuo-3", "aspect_ratio": "21:9"}, (3360, 1440)),
        ({"model": "minimax/hailuo-3-max", "resolution": "768p", "aspect_ratio": "16:9"}, (1366, 768)),
        ({"model": "x-ai/grok-imagine-video-1.5", "resolution": "480p", "aspect_ratio": "2:3"}, (480, 720)),
        ({"model": "bytedance/seedance-2.5", "size": "752x560"}, (752, 560)),
        ({"model": "runway/aleph-2", "aspect_ratio": "1:1"}, (720, 720)),
        ({"model": "black-forest-labs/flux-video-upscale"}, (1920, 1080)),
        ({"model": "black-forest-labs/flux-video-edit"}, (1280, 720)),
    ],
    ids=lambda value: str(value),
)
def test_the_frame_has_the_size_that_was_requested(body: dict[str, Any], size: tuple[int, int]) -> None:
    read = EffectiveRequest.from_body(body, snapshot().models[body["model"]], SimulatorSettings())
    assert (read.width, read.height) == size


async def test_a_job_is_charged_when_it_completes_and_the_poll_says_how_much(caller: Caller) -> None:
    job_id = await caller.start()
    assert (caller.simulator.journal.committed, caller.simulator.journal.charged) == (Decimal("0.12"), Decimal(0))
    caller.clock.advance(3600)
    assert (await caller.poll(job_id))["usage"] == {"cost": 0.12, "is_byok": False}
    assert caller.simulator.journal.charged == Decimal("0.12")
    assert (await caller.journal())["charged"] == "0.12"


async def test_audio_is_charged_unless_it_is_turned_off(open_simulator: Open) -> None:
    caller = await open_simulator()
    with_audio = await caller.finish(generate_audio=None)
    assert (await caller.poll(with_audio))["usage"]["cost"] == 0.2
