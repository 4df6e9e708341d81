"""What holds for every model of the catalog and every request, drawn at random."""

from __future__ import annotations

import ast
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import orbatch_provider.pricing
from orbatch_provider.catalog import VideoModel, snapshot
from orbatch_provider.pricing import Estimate, EstimateStatus, Hints, estimate, open_dimensions
from orbatch_provider.requests import VideoRequest

RESOLUTIONS = ("360p", "480p", "720p", "768p", "1080p", "1K", "2K", "4K", "4k")
SIZES = ("1280x720", "720x1280", "752x560", "640x640", "3840x2160", "100x100", "huge")
RATIOS = ("16:9", "9:16", "1:1", "21:9", "auto")

at_any_speed = settings(deadline=None, database=None)

models = st.sampled_from(sorted(snapshot().models.values(), key=lambda model: model.id))
durations = st.integers(1, 60)


def items(kind: str) -> dict[str, Any]:
    return {"type": kind, kind: {"url": "https://example.com/x"}}


@st.composite
def requests(draw: st.DrawFn) -> VideoRequest:
    def perhaps(strategy: st.SearchStrategy[Any]) -> Any:
        return draw(st.none() | strategy)

    kinds = st.sampled_from(("image_url", "video_url", "audio_url"))
    return VideoRequest(
        model="m",
        prompt="p",
        duration=perhaps(durations),
        resolution=perhaps(st.sampled_from(RESOLUTIONS)),
        aspect_ratio=perhaps(st.sampled_from(RATIOS)),
        size=perhaps(st.sampled_from(SIZES)),
        frame_images=[items("image_url")] * draw(st.integers(0, 2)),
        input_references=[items(kind) for kind in draw(st.lists(kinds, max_size=3))],
        generate_audio=perhaps(st.booleans()),
        previous_job_id=perhaps(st.just("gen-vid-1")),
        upscale_factor=perhaps(st.sampled_from((1.5, 2, 3))),
        creativity=perhaps(st.sampled_from((0, 1))),
    )


seconds = st.none() | st.decimals(0, 600, places=2)
hints = st.builds(
    Hints,
    source_seconds=seconds,
    source_width=st.none() | st.integers(1, 4000),
    source_height=st.none() | st.integers(1, 4000),
    video_input_seconds=seconds,
)


def amounts(estimated: Estimate) -> list[Decimal | None]:
    return [estimated.low, estimated.exact, estimated.high]


@at_any_speed
@given(requests(), models, hints)
def test_low_is_at_most_exact_is_at_most_high(request: VideoRequest, model: VideoModel, known: Hints) -> None:
    found = estimate(request, model, known)
    in_order = [amount for amount in amounts(found) if amount is not None]
    assert in_order == sorted(in_order)
    assert all(amount >= 0 for amount in in_order)


@at_any_speed
@given(requests(), models, hints)
def test_an_upper_bound_comes_with_a_lower_one_and_with_lines(
    request: VideoRequest, model: VideoModel, known: Hints
) -> None:
    found = estimate(request, model, known)
    assert found.why
    if found.high is not None:
        assert found.low is not None
        assert found.lines
        assert found.status in (EstimateStatus.EXACT, EstimateStatus.ESTIMATE, EstimateStatus.RANGE)
    else:
        assert found.is_unpriced


@at_any_speed
@given(requests(), models, hints)
def test_every_amount_is_a_decimal(request: VideoRequest, model: VideoModel, known: Hints) -> None:
    assert all(amount is None or type(amount) is Decimal for amount in amounts(estimate(request, model, known)))


@at_any_speed
@given(requests(), models, hints, durations, durations)
def test_more_seconds_are_never_cheaper(
    request: VideoRequest, model: VideoModel, known: Hints, first: int, second: int
) -> None:
    short, long = (
        amounts(estimate(replace(request, duration=length), model, known)) for length in sorted((first, second))
    )
    for less, more in zip(short, long, strict=True):
        assert (less is None) == (more is None)
        assert less is None or more is None or less <= more


@at_any_speed
@given(requests(), models, hints, st.sampled_from(("per_clip", "video_seconds_hd", "generate", "gigawatts")))
def test_a_line_of_an_unknown_kind_makes_the_model_unpriced(
    request: VideoRequest, model: VideoModel, known: Hints, line: str
) -> None:
    strange = replace(model, prices={**model.prices, line: "0.01"})
    found = estimate(request, strange, known)
    assert amounts(found) == [None, None, None]
    assert line in found.why
    assert found.status is EstimateStatus.UNPRICEABLE


@at_any_speed
@given(requests(), models, hints, st.sampled_from(("", "free", "NaN", "Infinity", "-1", "None", "1e999999", "0.1.2")))
def test_a_line_without_a_readable_price_makes_the_model_unpriced(
    request: VideoRequest, model: VideoModel, known: Hints, price: str
) -> None:
    line = next(iter(model.prices))
    found = estimate(request, replace(model, prices={**model.prices, line: price}), known)
    assert amounts(found) == [None, None, None]


@at_any_speed
@given(requests(), models, hints)
def test_what_is_left_out_costs_no_less_and_no_more_than_some_choice(
    request: VideoRequest, model: VideoModel, known: Hints
) -> None:
    """The range of a request without a duration or resolution holds the price of every duration and resolution."""
    left_out = replace(request, duration=None, resolution=None, size=None)
    whole = estimate(left_out, model, known)
    for duration in model.durations or ():
        for resolution in model.resolutions or ():
            found = estimate(replace(left_out, duration=duration, resolution=resolution), model, known)
            assert whole.low is None or (found.low is not None and whole.low <= found.low)
            assert whole.high is None or (found.high is not None and whole.high >= found.high)


@at_any_speed
@given(requests(), models, hints)
def test_an_open_dimension_has_a_worst_case_of_its_range(
    request: VideoRequest, model: VideoModel, known: Hints
) -> None:
    for dimension in open_dimensions(request, model, known):
        assert dimension.high is None or (dimension.low is not None and dimension.low <= dimension.high)


def test_the_price_engine_contains_no_float() -> None:
    """No float literal and no conversion to float in any of its modules: cents would drift."""
    for path in Path(orbatch_provider.pricing.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), f"{path.name}: {node.lineno}"
            is_conversion = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "float"
            assert not is_conversion, path.name
