"""What a user reads: the calculation, the price list, and the fields that are not set."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from orbatch_provider.catalog import ImageModel, TextModel, VideoModel
from orbatch_provider.pricing import (
    Hints,
    UnsetField,
    describe_image_prices,
    describe_text_extras,
    describe_video_prices,
    estimate_video,
    unset_fields,
    usd_per_million,
)
from orbatch_provider.requests import VideoRequest
from tests.provider.conftest import model_named

IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
VIDEO = {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}}
UPSCALER = "black-forest-labs/flux-video-upscale"


def video(model: str, **fields: Any) -> VideoRequest:
    return VideoRequest(model=model, prompt="p", **fields)


@pytest.mark.parametrize(
    ("model", "fields", "why"),
    [
        (
            "alibaba/wan-2.6",
            {"duration": 5, "resolution": "720p"},
            "5 s x 0.08 USD/s (text_to_video_duration_seconds_720p)",
        ),
        (
            "x-ai/grok-imagine-video-1.5",
            {"duration": 6, "resolution": "1080p", "frame_images": [IMAGE]},
            "6 s x 0.25 USD/s (cents_per_video_output_second_1080p) + 1 image x 0.01 USD (cents_per_image_input)",
        ),
        (
            "minimax/hailuo-3",
            {"duration": 6, "frame_images": [IMAGE, IMAGE]},
            (
                "6 s x 0.13 USD/s (duration_seconds); "
                "at most 6 s x 0.13 USD/s (duration_seconds) + 2 images x 0.04 USD (reference_images)"
            ),
        ),
        (
            "alibaba/happyhorse-1.0",
            {"resolution": "720p"},
            "duration not set: 3 to 15 s x 0.0988 USD/s (duration_seconds_720p)",
        ),
        (
            "google/veo-3.1",
            {},
            (
                "duration, resolution not set: from 4 s x 0.4 USD/s (duration_seconds_with_audio) "
                "to 8 s x 0.6 USD/s (duration_seconds_with_audio_4k)"
            ),
        ),
        (
            "alibaba/wan-2.6",
            {"duration": 5, "resolution": "4K"},
            "unpriced: no price line of alibaba/wan-2.6 covers 4k text requests",
        ),
        ("heygen/avatar-iv", {"resolution": "720p"}, "unpriced: the length of the source is not known"),
        (
            "heygen/heygen-video-1",
            {"duration": 5, "resolution": "768p", "input_references": [VIDEO]},
            (
                "at least 5 s x 0.06 USD/s (reference_duration_seconds_768p); "
                "no upper bound: the length of the video reference is not known, and it may be billed too"
            ),
        ),
        ("alibaba/wan-2.7", {"duration": -5}, "unpriced: duration -5 is not a number above 0"),
        (
            "alibaba/wan-2.7",
            {"duration": 5, "generate_audio": "no"},
            "unpriced: generate_audio 'no' is neither true nor false",
        ),
    ],
    ids=str,
)
def test_why_can_be_checked_by_hand(model: str, fields: dict[str, Any], why: str) -> None:
    assert estimate_video(video(model, **fields), model_named(model)).why == why


def test_a_minimum_charge_is_named() -> None:
    request = video("runway/aleph-2", input_references=[VIDEO])
    found = estimate_video(request, model_named("runway/aleph-2"), Hints(source_seconds=Decimal(1)))
    assert found.why == (
        "1 s x 0.28 USD/s (cents_per_second_output), raised to the minimum of 0.56 USD (minimum_cents_per_generation)"
    )


@pytest.mark.parametrize(
    ("prices", "usd"),
    [
        pytest.param({"acme:cents_per_second_output": "10"}, Decimal("0.5"), id="a provider's prefix"),
        pytest.param({"per-video-second": "0.1"}, Decimal("0.5"), id="the documented form"),
        pytest.param({"per-video-second": "0"}, None, id="a price of 0 of a model that is not declared free"),
        pytest.param({}, None, id="no price lines"),
        pytest.param({"duration_seconds_720p": "0.1"}, None, id="none for a resolution that is not set"),
    ],
)
def test_a_model_costs_what_its_lines_say_and_nothing_known_without_them(
    prices: dict[str, str], usd: Decimal | None
) -> None:
    model = VideoModel(id="m", durations=(5,), resolutions=("720p", "8k"), prices=prices)
    found = estimate_video(video("m", duration=5), model)
    assert (found.low, found.exact, found.high) == (usd, usd, usd)
    assert prices or found.why == "unpriced: the catalog has no price for m"


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal(-1), "long"], ids=str)
def test_a_hint_that_is_no_length_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="source_seconds must be a number of at least 0"):
        Hints(source_seconds=value)


VEO_LITE = """\
0.08 USD per second with audio
0.05 USD per second without audio
0.05 USD per second of 720p with audio
0.03 USD per second of 720p without audio"""
MEGAPIXELS = """\
0.075 USD per megapixel-second of precise upscaling
0.105 USD per megapixel-second of creative upscaling"""
SEEDANCE = """\
0.0000107 USD per video token (0.23112 USD per second at 1280x720)
0.0000107 USD per video token without audio (0.23112 USD per second at 1280x720)
0.0000064 USD per video token with a video reference (0.13824 USD per second at 1280x720)"""


@pytest.mark.parametrize(
    ("model", "lines"),
    [
        ("google/veo-3.1-lite", VEO_LITE),
        ("runway/aleph-2", "0.28 USD per second\nat least 0.56 USD per generation"),
        (UPSCALER, MEGAPIXELS),
        ("minimax/hailuo-3", "0.13 USD per second\n0.04 USD per reference image"),
        ("bytedance/seedance-2.5", SEEDANCE),
    ],
    ids=str,
)
def test_price_lines_read_as_phrases(model: str, lines: str) -> None:
    assert "\n".join(describe_video_prices(model_named(model))) == lines


def test_a_mode_is_named_in_a_price_line_and_an_unknown_line_is_shown_as_it_is() -> None:
    assert "0.08 USD per second of 720p text-to-video" in describe_video_prices(model_named("alibaba/wan-2.6"))
    model = VideoModel(id="m", prices={"per_clip": "0.5"})
    assert describe_video_prices(model) == ["per_clip: 0.5 (meaning not known: the model is unpriced)"]
    assert describe_video_prices(VideoModel(id="m")) == ["the catalog has no price"]


@pytest.mark.parametrize(
    ("model", "fields", "expected"),
    [
        ("alibaba/wan-2.6", {"duration": 5, "resolution": "720p"}, []),
        ("google/veo-3.1", {"duration": 8, "resolution": "1080p"}, [("generate_audio", "1.6", "3.2")]),
        ("alibaba/wan-3.0", {}, [("duration", "0.4", "6"), ("resolution", "1.5", "6")]),
        (
            "bytedance/seedance-2.0-mini",
            {"duration": 5, "resolution": "720p"},
            [("aspect_ratio", "0.4002075", "0.500262")],
        ),
    ],
    ids=str,
)
def test_an_unset_field_is_named_with_its_price_range(
    model: str, fields: dict[str, Any], expected: list[tuple[str, str, str]]
) -> None:
    found = unset_fields(video(model, **fields), model_named(model))
    assert list(found) == [UnsetField(field, Decimal(low), Decimal(high)) for field, low, high in expected]


def test_an_upscaler_depends_on_factor_and_creativity() -> None:
    request, model = VideoRequest(model=UPSCALER, input_references=[VIDEO]), model_named(UPSCALER)
    known = Hints(source_seconds=Decimal(10), source_width=1280, source_height=720)
    assert [item.field for item in unset_fields(request, model, known)] == ["upscale_factor", "creativity"]
    assert unset_fields(replace(request, upscale_factor=2, creativity=0), model, known) == ()


def test_a_provider_option_that_may_be_billed_has_no_upper_bound() -> None:
    options = {"options": {"alibaba": {"size": "1920*1080", "negative_prompt": "blur"}}}
    request = video("alibaba/wan-2.6", duration=5, resolution="720p", provider=options)
    found = unset_fields(request, model_named("alibaba/wan-2.6"))
    assert found == (UnsetField("provider.options.alibaba.size", Decimal("0.40"), None),)


def image_model(**endpoints: dict[str, Any]) -> ImageModel:
    listed = [{"provider_tag": tag, "pricing": [line]} for tag, line in endpoints.items()]
    return ImageModel.from_json({"id": "m", "endpoints": listed})


def line_of(unit: str, usd: str, billable: str = "output_image", **more: str) -> dict[str, Any]:
    return {"billable": billable, "unit": unit, "cost_usd": usd} | more


@pytest.mark.parametrize(
    ("line", "phrase"),
    [
        pytest.param(line_of("image", "0.04"), "0.04 USD per image", id="per image"),
        pytest.param(line_of("image", "0.08", variant="high_4k"), "0.08 USD per image (high 4K)", id="a variant"),
        pytest.param(line_of("megapixel", "0.03"), "0.03 USD per megapixel of image", id="per megapixel"),
        pytest.param(line_of("token", "0.00003"), "30 USD per million image tokens", id="per token"),
        pytest.param(line_of("token", "0.000005", "input_text"), "5 USD per million prompt tokens", id="the prompt"),
        pytest.param(line_of("request", "0.1"), "0.1 USD per request for the image", id="per request"),
        pytest.param({"unit": "hour"}, "{'unit': 'hour'} (meaning not known: the model is unpriced)", id="unknown"),
    ],
)
def test_each_price_of_an_image_model_is_described(line: dict[str, Any], phrase: str) -> None:
    assert describe_image_prices(image_model(a=line)) == [phrase]


def test_a_price_that_not_all_endpoints_share_names_its_endpoint() -> None:
    cheap, expensive = line_of("image", "0.04"), line_of("image", "0.05")
    assert describe_image_prices(image_model(a=cheap, b=cheap)) == ["0.04 USD per image"]
    assert describe_image_prices(image_model(a=cheap, b=expensive)) == [
        "0.04 USD per image at a",
        "0.05 USD per image at b",
    ]
    assert describe_image_prices(ImageModel(id="m")) == ["the catalog has no price"]


def test_a_text_model_without_a_fixed_price_has_none_for_a_million_tokens() -> None:
    model = TextModel("m", {"prompt": "-1", "completion": "0.0000006", "web_search": "0.01", "request": "0"}, ({},))
    assert usd_per_million(model, "prompt") is None
    assert usd_per_million(model, "completion") == Decimal("0.6")
    assert usd_per_million(TextModel("m"), "prompt") is None
    assert describe_text_extras(model) == ["0.01 USD per web search", "other prices under conditions"]
