"""The model catalog: read from anything, compared, and asked what a model does not support."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from orbatch_provider.catalog import Catalog, VideoModel, check_video, price_changes, snapshot
from orbatch_provider.requests import VideoRequest
from tests.provider.conftest import model_named

AT = datetime(2026, 10, 9, 12, tzinfo=UTC)
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
VEO, WAN, UPSCALER = "google/veo-3.1", "alibaba/wan-2.6", "black-forest-labs/flux-video-upscale"
GROK, ALEPH, KLING = "x-ai/grok-imagine-video", "runway/aleph-2", "kwaivgi/kling-v3.0-pro"
FIRST = {**IMAGE, "frame_type": "first_frame"}
LAST = {**IMAGE, "frame_type": "last_frame"}
VIDEO = {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}}


def catalog(*records: dict[str, Any]) -> Catalog[VideoModel]:
    return Catalog.from_json(VideoModel, {"data": list(records)}, captured_at=AT, source="test")


def record(**fields: Any) -> dict[str, Any]:
    return {"id": "a/one", "supported_durations": [5, 10], "pricing_skus": {"duration_seconds": "0.10"}, **fields}


# Reading


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({}, id="no data"),
        pytest.param({"data": None}, id="null"),
        pytest.param({"data": 7}, id="a number"),
        pytest.param({"data": "models"}, id="a text"),
        pytest.param({"data": [None, 3, "x", {}, {"id": ""}, {"name": "no id"}]}, id="nothing with an id"),
    ],
)
def test_a_body_without_models_is_an_empty_catalog(body: dict[str, Any]) -> None:
    assert Catalog.from_json(VideoModel, body, captured_at=AT, source="test").models == {}


def test_unknown_fields_and_odd_values_never_break_a_record() -> None:
    odd = record(
        hologram={"depth": [1, 2]},
        supported_resolutions="720p",
        supported_sizes=[720, None],
        supported_aspect_ratios=[],
        supported_frame_images={"first_frame": True},
        supported_durations=[5, "10", 7.5, True],
        generate_audio="yes",
        seed=1,
        upscale_factor=[2],
        creativity=[True, 1],
        pricing_skus={"duration_seconds": 0.1, "video_tokens": None, "x": ["0.1"], "y": True},
    )
    model = catalog(odd).models["a/one"]
    assert model.durations == (5,)
    assert (model.resolutions, model.sizes, model.aspect_ratios, model.frame_types) == (None, None, None, None)
    assert (model.generate_audio, model.seed, model.upscale_min, model.creativity) == (None, None, None, (1,))
    assert model.prices == {"duration_seconds": "0.1", "video_tokens": "None", "x": "['0.1']", "y": "True"}


def test_numbers_read_as_decimals_or_as_floats_are_one_catalog() -> None:
    text = (
        '{"data": [{"id": "u/p", "upscale_factor": {"min": 1.5, "max": 3}, "pricing_skus": {"video_tokens": 1.07e-5}}]}'
    )
    exact = Catalog.from_json(VideoModel, json.loads(text, parse_float=Decimal), captured_at=AT, source="test")
    rough = Catalog.from_json(VideoModel, json.loads(text), captured_at=AT, source="test")
    assert exact.digest == rough.digest
    assert exact.models["u/p"].upscale_min == 1.5
    assert exact.models["u/p"].prices == {"video_tokens": "0.0000107"}


def test_a_model_is_found_by_id_slug_and_prefix() -> None:
    for name in ("minimax/hailuo-3", "openrouter/minimax/hailuo-3", "minimax/hailuo-03-20260730"):
        assert model_named(name).id == "minimax/hailuo-3"
    assert snapshot().find("minimax/hailuo-9") is None
    assert snapshot().nearest("minimax/hailuo-9") in ("minimax/hailuo-3", "minimax/hailuo-2.3")


def test_the_packaged_snapshot_has_its_date() -> None:
    assert snapshot().captured_at.date().isoformat() == "2026-10-09"
    assert len(snapshot().models) == 30


# Storing


def test_a_stored_catalog_comes_back_whole() -> None:
    stored = Catalog.from_text(VideoModel, snapshot().to_json())
    assert stored == snapshot()
    assert stored.records == snapshot().records


def test_numbers_that_json_does_not_have_are_stored_as_nothing() -> None:
    sent = record(created=Decimal("1.5"), weight=float("nan"), pricing_skus={"duration_seconds": Decimal("0.10")})
    stored = json.loads(catalog(sent).to_json())["data"][0]
    assert (stored["created"], stored["weight"], stored["pricing_skus"]) == (1.5, None, {"duration_seconds": "0.10"})


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"captured_at": 3}', '{"captured_at": "2026-10-09", "source": "x", "data": []}'],
)
def test_what_is_no_stored_catalog_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Catalog.from_text(VideoModel, text)


def test_a_stored_time_is_read_as_utc() -> None:
    local = Catalog.from_json(VideoModel, {}, captured_at=AT.astimezone(timezone(timedelta(hours=2))), source="test")
    assert Catalog.from_text(VideoModel, local.to_json()).captured_at.isoformat() == "2026-10-09T12:00:00+00:00"


# Comparing


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        ([record(description="better", name="One", created=7), record(id="b/two")], True),
        ([record(id="b/two"), record()], True),
        ([record(seed=True), record(id="b/two")], False),
        ([record(supported_durations=[5]), record(id="b/two")], False),
        ([record(canonical_slug="a/one-2"), record(id="b/two")], False),
        ([record(pricing_skus={"duration_seconds": "0.11"}), record(id="b/two")], False),
    ],
    ids=["title", "order", "capability", "durations", "slug", "price"],
)
def test_the_digest_names_capabilities_and_prices_alone(other: list[dict[str, Any]], is_same: bool) -> None:
    assert (catalog(record(), record(id="b/two")).digest == catalog(*other).digest) is is_same


LINES = {"duration_seconds": "0.10", "reference_images": "0.04", "video_tokens": "x"}


@pytest.mark.parametrize(
    ("new", "changes"),
    [
        pytest.param(
            [record(pricing_skus={"duration_seconds": "0.12", "video_tokens": "x", "duration_seconds_2k": "0.2"})],
            [
                "a/one duration_seconds: 0.10 -> 0.12",
                "a/one reference_images: 0.04 -> no such line",
                "a/one duration_seconds_2k: no such line -> 0.2",
            ],
            id="every line that differs, once",
        ),
        pytest.param([record(pricing_skus=LINES | {"duration_seconds": "0.1"})], [], id="written otherwise"),
        pytest.param([], [f"a/one {line}: {price} -> no such line" for line, price in LINES.items()], id="gone"),
    ],
)
def test_price_changes_are_named_by_line(new: list[dict[str, Any]], changes: list[str]) -> None:
    old = catalog(record(pricing_skus=LINES))
    assert list(map(str, price_changes(old, catalog(*new), ["openrouter/a/one", "a/one", "c/unknown"]))) == changes
    assert price_changes(catalog(), catalog(*new), ["a/one"]) == []  # no price to compare with


# Checking


@pytest.mark.parametrize(
    ("model", "fields", "problem"),
    [
        (VEO, {"duration": 5}, "does not offer 5; allowed: 4, 6, 8; nearest: 4"),
        (VEO, {"duration": 30}, "does not offer 30; allowed: 4, 6, 8; nearest: 8"),
        (VEO, {"duration": 8.0}, "8.0 is not a whole number of seconds; allowed"),
        (GROK, {"duration": True}, "True is not a whole number of seconds"),
        (ALEPH, {"duration": 0}, "0 is not a whole number of seconds"),
        (VEO, {"resolution": "4k"}, "allowed: 720p, 1080p, 4K; nearest: 4K"),
        ("minimax/hailuo-3-max", {"resolution": "720p"}, "nearest: 768p"),
        (VEO, {"aspect_ratio": "4:3"}, "nearest: 16:9"),
        (VEO, {"size": "1088x1920"}, "nearest: 1080x1920"),
        (VEO, {"size": "big"}, "does not offer big; allowed: 1280x720"),
        (VEO, {"size": "1280x720", "resolution": "720p"}, "not both"),
        ("heygen/heygen-video-1", {"generate_audio": True}, "cannot generate audio; allowed: false"),
        (GROK, {"generate_audio": True}, "cannot generate audio"),
        (KLING, {"seed": 7}, "does not support a seed; remove it"),
        ("minimax/hailuo-2.3", {"seed": 0}, "does not support a seed"),
        (WAN, {"frame_images": [FIRST, LAST]}, "does not support a last_frame; allowed: first_frame"),
        (VEO, {"frame_images": [FIRST, FIRST]}, "only one first_frame"),
        (ALEPH, {"frame_images": [FIRST]}, "does not support a first_frame"),
        (VEO, {"input_references": [VIDEO]}, "does not support video references; allowed: text, image"),
        (VEO, {"input_references": [{"type": "file"}]}, "file is not a type of reference"),
        (VEO, {"prompt": None}, "is required when there is no image or video"),
        (VEO, {"upscale_factor": 2}, "does not upscale; remove it"),
        (VEO, {"creativity": 1}, "has no such option; remove it"),
        (UPSCALER, {"upscale_factor": 4}, "does not offer 4; allowed: 1.5 to 3; nearest: 3"),
        (UPSCALER, {"upscale_factor": 1}, "does not offer 1; allowed: 1.5 to 3; nearest: 1.5"),
        (UPSCALER, {"upscale_factor": float("nan")}, "allowed: 1.5 to 3"),
        (UPSCALER, {"creativity": 2}, "allowed: 0, 1; nearest: 1"),
        (
            WAN,
            {"provider": {"options": {"alibaba": {"negative_promt": "blur"}}}},
            "would ignore it; allowed: negative_prompt",
        ),
    ],
    ids=str,
)
def test_what_a_model_does_not_support_is_said_with_what_it_does(
    model: str, fields: dict[str, Any], problem: str
) -> None:
    request = VideoRequest(**{"model": model, "prompt": "p", **fields})
    found = check_video(request, model_named(model))
    assert len(found) == 1
    assert problem in str(found[0])


@pytest.mark.parametrize(
    ("model", "fields", "problems"),
    [
        (KLING, {"duration": 7, "resolution": "8K", "aspect_ratio": "2:1"}, ["resolution", "aspect_ratio"]),
        (VEO, {"duration": 7, "resolution": "8K", "aspect_ratio": "2:1"}, ["duration", "resolution", "aspect_ratio"]),
        (
            VEO,
            {"duration": 8, "resolution": "4K", "aspect_ratio": "9:16", "generate_audio": True, "seed": 1}
            | {"frame_images": [FIRST, LAST]},
            [],
        ),
    ],
    ids=["two", "three", "none"],
)
def test_all_problems_come_at_once(model: str, fields: dict[str, Any], problems: list[str]) -> None:
    request = VideoRequest(model="m", prompt="p", **fields)
    assert [problem.field for problem in check_video(request, model_named(model))] == problems


def test_silence_is_never_a_problem() -> None:
    request = VideoRequest(model="m", prompt="p", generate_audio=False)
    assert [check_video(request, model) for model in snapshot().models.values()] == [[]] * 30


def test_a_record_that_says_nothing_refuses_no_value() -> None:
    request = VideoRequest(model="m", prompt="p", duration=99, resolution="9K", input_references=[VIDEO])
    assert check_video(request, VideoModel(id="new/model")) == []
