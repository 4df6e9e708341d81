"""``models``: what can do a shot, what it costs on each, and what the models can do at all."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from orbatch_provider.catalog import snapshot
from orbatch_simulator.images import image_examples
from orbatch_simulator.text import text_examples
from tests.desk import LITE, Desk

SHOT = ["--duration", "5", "--resolution", "720p", "--aspect-ratio", "9:16", "--audio", "--first-frame"]


def test_only_models_that_can_do_the_shot_are_listed_the_cheapest_first(desk: Desk) -> None:
    rows: list[dict[str, Any]] = desk.call("models", *SHOT, "--json").json
    for row in rows:
        model = snapshot().models[row["model"]]
        assert 5 in (model.durations or ())
        assert "720p" in (model.resolutions or ())
        assert "9:16" in (model.aspect_ratios or ())
        assert model.generate_audio
        assert "first_frame" in (model.frame_types or ())
    prices = [row["high_usd"] for row in rows]
    assert prices == sorted(prices)
    by_model = {row["model"]: (row["low_usd"], row["high_usd"]) for row in rows}
    assert by_model["alibaba/wan-2.6"] == (0.5, 0.5), "the price from a picture, not from text"
    assert LITE not in by_model, "it offers 4, 6 and 8 seconds"
    table = [line.split() for line in desk.call("models", *SHOT).out.splitlines()]
    assert [cells[:3] for cells in table if cells[0] == "alibaba/wan-2.6"] == [["alibaba/wan-2.6", "0.5000", "0.5000"]]


def test_unpriced_models_come_last_and_are_never_free(desk: Desk) -> None:
    rows = desk.call("models", "--aspect-ratio", "16:9", "--json").json
    unpriced = [row for row in rows if row["high_usd"] is None]
    assert unpriced
    assert rows[-len(unpriced) :] == unpriced
    assert all(Decimal(str(row["low_usd"])) > 0 for row in rows if row["low_usd"] is not None)


def test_without_a_shot_capabilities_and_prices_are_told_in_words(desk: Desk) -> None:
    out = " ".join(desk.call("models", "veo-3.1-lite", "--wide").out.split())
    for expected in (LITE, "4 6 8", "720p 1080p", "first frame, last frame, audio", "0.03 USD per second"):
        assert expected in out
    assert len(desk.call("models", "--json").json) == len(snapshot().models)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        pytest.param(["--duration", "999"], 0, "No model supports this combination.", id="no model can"),
        pytest.param(["veo-3.1-light"], 2, "No model id contains veo-3.1-light", id="no such model"),
        pytest.param(["google/veo-3.1-light"], 2, f"Did you mean {LITE}?", id="a misspelt model"),
        pytest.param(
            ["--kind", "image", "--resolution", "9K"], 0, "No model supports this combination.", id="no image"
        ),
        pytest.param(["--kind", "image", "veo"], 2, "No model id contains veo", id="no such image model"),
        pytest.param(["--kind", "text", "veo"], 2, "No model id contains veo", id="no such text model"),
    ],
)
def test_nothing_found_is_said(desk: Desk, arguments: list[str], code: int, words: str) -> None:
    assert words in desk.call("models", *arguments, code=code).text


# -- images and texts


def test_image_models_that_can_do_a_shot_are_listed_by_the_price_of_one_picture(desk: Desk) -> None:
    shot = ["--kind", "image", "--resolution", "2K", "--aspect-ratio", "16:9"]
    rows: list[dict[str, Any]] = desk.call("models", *shot, "--json").json
    for row in rows:
        offered = image_examples().models[row["model"]].capabilities or {}
        assert "2K" in offered["resolution"].values
        assert "16:9" in offered["aspect_ratio"].values
    prices = [row["high_usd"] for row in rows]
    assert prices == sorted(prices)
    by_model = {row["model"]: (row["low_usd"], row["high_usd"]) for row in rows}
    assert by_model["bytedance-seed/seedream-4.5"] == (0.04, 0.04)
    assert by_model["x-ai/grok-imagine-image-quality"] == (0.05, 0.07), "which line is charged is not said"
    assert "google/gemini-3.1-flash-lite-image" not in by_model, "it offers 1K alone"
    assert "meta/muse-image" not in by_model, "its record says nothing"
    assert "bytedance-seed/seedream-4.5 0.0400 0.0400 1 image x 0.04 USD" in " ".join(
        desk.call("models", *shot).out.split()
    )


def test_image_models_tell_what_they_can_do_and_charge_in_words(desk: Desk) -> None:
    out = " ".join(desk.call("models", "seedream", "--kind", "image", "--wide").out.split())
    for expected in ("1K 2K 4K", "10 images, 14 references", "seed", "0.04 USD per image"):
        assert expected in out
    rows = {row["model"]: row for row in desk.call("models", "--kind", "image", "--json").json}
    assert rows.keys() == image_examples().models.keys()
    assert "0.075 USD per image (2K)" in rows["qwen/qwen-image-3-pro"]["prices"]
    assert rows["openai/gpt-image-2"]["options"]["quality"] == ["auto", "low", "medium", "high"]
    assert rows["meta/muse-image"]["limits"] == {}


def test_text_models_are_listed_by_the_price_of_a_million_tokens(desk: Desk) -> None:
    rows = desk.call("models", "--kind", "text", "--json").json
    assert {row["model"] for row in rows} == text_examples().models.keys()
    prices = [row["usd_per_million"]["completion"] for row in rows]
    assert prices == sorted(prices)
    by_model = {row["model"]: row for row in rows}
    mini = by_model["openai/gpt-4o-mini"]
    assert mini["usd_per_million"] == {"prompt": 0.15, "completion": 0.6}
    assert mini["limits"] == {"context tokens": 128_000, "output tokens": 16_384}
    assert by_model["perplexity/sonar"]["prices"][-1] == "0.005 USD per request"
    out = desk.call("models", "--kind", "text", "--wide").out
    assert "128,000 context tokens, 16,384 output tokens" in out
    assert "0.15 USD per million prompt tokens; 0.6 USD per million completion tokens" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--kind", "image", "--duration", "4"], "--duration does not apply to --kind image", id="image"),
        pytest.param(["--kind", "text", "--resolution", "2K"], "--resolution does not apply to --kind text", id="text"),
        pytest.param(["--kind", "image", "--no-audio"], "--audio does not apply to --kind image", id="silent image"),
        pytest.param(["--kind", "speech"], "speech", id="no such kind"),
    ],
)
def test_what_a_kind_does_not_have_is_refused(desk: Desk, arguments: list[str], words: str) -> None:
    assert words in desk.call("models", *arguments, code=2).text


def test_without_a_connection_images_have_the_packaged_prices_and_texts_have_none(desk: Desk) -> None:
    desk.env["OPENROUTER_BASE_URL"] = "http://127.0.0.1:9/api/v1"
    images = desk.call("models", "seedream", "--kind", "image", "--resolution", "2K")
    assert "Prices from the packaged snapshot of" in images.text
    assert "0.04" in images.out
    assert "Could not connect" in desk.call("models", "--kind", "text", code=1).text
