"""``models``: what can do a shot, what it costs on each, and what the models can do at all."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from orbatch_provider.catalog import snapshot
from tests.e2e.desk import LITE, Desk

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
    assert [cells[:3] for cells in table if cells[0] == "alibaba/wan-2.6"] == [["alibaba/wan-2.6", "0.50", "0.50"]]


def test_unpriced_models_come_last_and_are_never_free(desk: Desk) -> None:
    rows = desk.call("models", "--aspect-ratio", "16:9", "--json").json
    unpriced = [row for row in rows if row["high_usd"] is None]
    assert unpriced
    assert rows[-len(unpriced) :] == unpriced
    assert all(Decimal(str(row["low_usd"])) > 0 for row in rows if row["low_usd"] is not None)


def test_without_a_shot_capabilities_and_prices_are_told_in_words(desk: Desk) -> None:
    out = " ".join(desk.call("models", "veo-3.1-lite").out.split())
    for expected in (LITE, "4 6 8", "720p 1080p", "first frame, last frame, sound", "0.03 USD per second"):
        assert expected in out
    assert len(desk.call("models", "--json").json) == len(snapshot().models)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        pytest.param(["--duration", "999"], 0, "No model says that it can do this.", id="no model can"),
        pytest.param(["veo-3.1-light"], 2, "No model's id contains veo-3.1-light", id="no such model"),
        pytest.param(["google/veo-3.1-light"], 2, f"Did you mean {LITE}?", id="a misspelt model"),
    ],
)
def test_nothing_found_is_said(desk: Desk, arguments: list[str], code: int, words: str) -> None:
    assert words in desk.call("models", *arguments, code=code).text
