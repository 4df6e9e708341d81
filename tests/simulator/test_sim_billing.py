"""The charge of a video against the published worked examples, and through the journal."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orbatch_provider.catalog import snapshot
from orbatch_simulator import SimulatorSettings
from orbatch_simulator.videos import EffectiveRequest, charge_video
from tests.simulator.conftest import HOUR, Caller

TOLERANCE = Decimal("1e-9")
EXAMPLES = (Path(__file__).parent.parent / "data" / "pricing-vectors.json").read_text("utf-8")
VECTORS = [
    vector
    for vector in json.loads(EXAMPLES, parse_float=Decimal)
    if vector["api"] == "videos" and vector["expected"]["low"] is not None
]


def effective(model: str, body: dict[str, Any], hints: dict[str, Any] | None = None) -> EffectiveRequest:
    known = {name: value for name, value in (hints or {}).items() if name.startswith("source_")}
    if "source_seconds" in known:
        known["source_seconds"] = Decimal(known["source_seconds"])
    return EffectiveRequest.from_body(body, snapshot().models[model], SimulatorSettings(**known))


def charge(model: str, body: dict[str, Any], hints: dict[str, Any] | None = None) -> Decimal:
    return charge_video(effective(model, body, hints), snapshot().models[model].prices)


@pytest.mark.parametrize("vector", [pytest.param(v, id=f"{v['model']}: {v['note']}") for v in VECTORS])
def test_the_charge_lies_in_the_published_band_and_on_its_point(vector: Any) -> None:
    expected, charged = vector["expected"], charge(vector["model"], vector["request"], vector.get("hints"))
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


@pytest.mark.parametrize("model", snapshot().models)
def test_every_model_has_a_known_price_line_for_a_bare_request(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orbatch_simulator.videos.UNKNOWN_PRICE_USD", Decimal(-1))
    assert charge(model, {"prompt": "p"}) > 0


def test_a_model_with_unknown_price_lines_is_never_free() -> None:
    assert charge_video(effective("google/veo-3.1", {"duration": 4}), {"per_gigaflop": "1"}) == Decimal("0.10")


def test_charges_are_whole_nano_dollars() -> None:
    charged = charge("bytedance/seedance-2.5", {"size": "1112x834", "duration": 7})
    assert charged == Decimal("1.628035763")  # of 1.6280357625


@pytest.mark.parametrize(
    ("model", "body", "size"),
    [
        ("google/veo-3.1", {"resolution": "4K", "aspect_ratio": "9:16"}, (2160, 3840)),
        ("google/veo-3.1-lite", {}, (1280, 720)),
        ("bytedance/seedance-2.0", {"resolution": "480p", "aspect_ratio": "1:1"}, (480, 480)),
        ("minimax/hailuo-3", {"aspect_ratio": "21:9"}, (3360, 1440)),
        ("minimax/hailuo-3-max", {"resolution": "768p", "aspect_ratio": "16:9"}, (1366, 768)),
        ("x-ai/grok-imagine-video-1.5", {"resolution": "480p", "aspect_ratio": "2:3"}, (480, 720)),
        ("bytedance/seedance-2.5", {"size": "752x560"}, (752, 560)),
        ("runway/aleph-2", {"aspect_ratio": "1:1"}, (720, 720)),
        ("black-forest-labs/flux-video-upscale", {}, (1920, 1080)),
        ("black-forest-labs/flux-video-edit", {}, (1280, 720)),
    ],
)
def test_the_frame_has_the_size_that_was_requested(model: str, body: dict[str, Any], size: tuple[int, int]) -> None:
    read = effective(model, body)
    assert (read.width, read.height) == size


async def test_a_job_is_charged_when_it_completes_and_the_poll_says_how_much(caller: Caller) -> None:
    job_id = await caller.start()
    assert (caller.simulator.journal.committed, caller.simulator.journal.charged) == (Decimal("0.12"), Decimal(0))
    caller.clock.advance(HOUR)
    assert (await caller.poll(job_id))["usage"] == {"cost": 0.12, "is_byok": False}
    assert caller.simulator.journal.charged == Decimal((await caller.journal())["charged"]) == Decimal("0.12")
    with_audio = await caller.finish(generate_audio=None)  # charged unless it is turned off
    assert (await caller.poll(with_audio))["usage"]["cost"] == 0.2
