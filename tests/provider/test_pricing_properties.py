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
from orbatch_provider.pricing import Estimate, Hints, estimate_video, unset_fields
from orbatch_provider.requests import VideoRequest

RESOLUTIONS = ("360p", "480p", "720p", "768p", "1080p", "1K", "2K", "4K", "4k")
SIZES = ("1280x720", "720x1280", "752x560", "640x640", "3840x2160", "100x100", "huge")
RATIOS = ("16:9", "9:16", "1:1", "21:9", "auto")
# A line of no known kind, or a price of a known line ("") that is not a number.
NOT_UNDERSTOOD = [(line, "0.01") for line in ("per_clip", "video_seconds_hd", "generate", "gigawatts")]
NOT_UNDERSTOOD += [("", price) for price in ("", "free", "NaN", "Infinity", "-1", "None", "1e999999", "0.1.2")]

models = st.sampled_from(sorted(snapshot().models.values(), key=lambda model: model.id))
durations = st.integers(1, 60)
seconds = st.none() | st.decimals(0, 600, places=2)
pixels = st.none() | st.integers(1, 4000)
hints = st.builds(Hints, source_seconds=seconds, source_width=pixels, source_height=pixels, video_input_seconds=seconds)


def items(kind: str) -> dict[str, Any]:
    return {"type": kind, kind: {"url": "https://example.com/x"}}


def any_of(*values: object) -> st.SearchStrategy[Any]:
    return st.none() | st.sampled_from(values)


requests = st.builds(
    VideoRequest,
    model=st.just("m"),
    prompt=st.just("p"),
    duration=st.none() | durations,
    resolution=any_of(*RESOLUTIONS),
    aspect_ratio=any_of(*RATIOS),
    size=any_of(*SIZES),
    frame_images=st.lists(st.just(items("image_url")), max_size=2),
    input_references=st.lists(
        st.sampled_from([items(f"{kind}_url") for kind in ("image", "video", "audio")]), max_size=3
    ),
    generate_audio=any_of(True, False),
    previous_job_id=any_of("gen-vid-1"),
    upscale_factor=any_of(1.5, 2, 3),
    creativity=any_of(0, 1),
)
at_any_speed = settings(deadline=None, database=None)


def amounts(estimated: Estimate) -> list[Decimal | None]:
    return [estimated.low, estimated.exact, estimated.high]


@at_any_speed
@given(requests, models, hints)
def test_bounds_are_in_order_and_an_upper_one_comes_with_a_lower_one_and_with_lines(
    request: VideoRequest, model: VideoModel, known: Hints
) -> None:
    found = estimate_video(request, model, known)
    in_order = [amount for amount in amounts(found) if amount is not None]
    assert in_order == sorted(in_order)
    assert all(amount >= 0 and type(amount) is Decimal for amount in in_order)
    assert found.why
    assert found.is_unpriced == (found.high is None)
    if found.high is not None:
        assert found.low is not None
        assert found.lines


@at_any_speed
@given(requests, models, hints, durations, durations)
def test_more_seconds_are_never_cheaper(
    request: VideoRequest, model: VideoModel, known: Hints, first: int, second: int
) -> None:
    short, long = (
        amounts(estimate_video(replace(request, duration=length), model, known)) for length in sorted((first, second))
    )
    for less, more in zip(short, long, strict=True):
        assert (less is None) == (more is None)
        assert less is None or more is None or less <= more


@at_any_speed
@given(requests, models, hints, st.sampled_from(NOT_UNDERSTOOD))
def test_a_line_that_is_not_understood_makes_the_model_unpriced(
    request: VideoRequest, model: VideoModel, known: Hints, changed: tuple[str, str]
) -> None:
    line, price = changed
    line = line or next(iter(model.prices))
    found = estimate_video(request, replace(model, prices={**model.prices, line: price}), known)
    assert amounts(found) == [None, None, None]
    assert line in found.why


@at_any_speed
@given(requests, models, hints)
def test_the_range_of_an_unset_field_holds_the_price_of_each_value(
    request: VideoRequest, model: VideoModel, known: Hints
) -> None:
    unset = replace(request, duration=None, resolution=None, size=None)
    whole = estimate_video(unset, model, known)
    for duration in model.durations or ():
        for resolution in model.resolutions or ():
            found = estimate_video(replace(unset, duration=duration, resolution=resolution), model, known)
            assert whole.low is None or (found.low is not None and whole.low <= found.low)
            assert whole.high is None or (found.high is not None and whole.high >= found.high)


@at_any_speed
@given(requests, models, hints)
def test_the_worst_cases_of_an_unset_field_are_in_order(request: VideoRequest, model: VideoModel, known: Hints) -> None:
    for field in unset_fields(request, model, known):
        assert field.high is None or (field.low is not None and field.low <= field.high)


def test_pricing_contains_no_float() -> None:
    """No float literal and no conversion to float in any of its modules: cents would drift."""
    for path in Path(orbatch_provider.pricing.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), f"{path.name}: {node.lineno}"
            is_conversion = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "float"
            assert not is_conversion, path.name
