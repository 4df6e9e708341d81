"""Image requests: one endpoint or several, and every unit a line can have."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from orbatch_provider.pricing import Estimate, Hints, estimate_image_body

REFERENCE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


def line(billable: str, unit: str, cost: str, variant: str | None = None) -> dict[str, Any]:
    record = {"billable": billable, "unit": unit, "cost_usd": Decimal(cost)}
    return record if variant is None else {**record, "variant": variant}


def priced(fields: dict[str, Any], *endpoints: list[dict[str, Any]], **hints: Any) -> Estimate:
    return estimate_image_body({"model": "m", "prompt": "p", **fields}, endpoints, Hints(**hints))


def usd(*amounts: str | None) -> tuple[Decimal | None, ...]:
    return tuple(None if amount is None else Decimal(amount) for amount in amounts)


CHEAP, EXPENSIVE = [line("output_image", "image", "0.02")], [line("output_image", "image", "0.05")]


@pytest.mark.parametrize(
    ("endpoints", "expected"),
    [
        pytest.param([EXPENSIVE, CHEAP], ("0.02", None, "0.05"), id="the cheapest low and the most expensive high"),
        pytest.param([CHEAP, CHEAP], ("0.02", "0.02", "0.02"), id="one amount where all agree"),
        pytest.param([CHEAP, []], (None, None, None), id="unpriced where one of them is"),
        pytest.param([], (None, None, None), id="no endpoint, no price"),
    ],
)
def test_an_estimate_covers_every_endpoint(
    endpoints: list[list[dict[str, Any]]], expected: tuple[str | None, ...]
) -> None:
    found = priced({}, *endpoints)
    assert (found.low, found.exact, found.high) == usd(*expected)


def test_the_calculation_is_shown_once_for_endpoints_that_agree() -> None:
    assert priced({"n": 2}, CHEAP, CHEAP).why == "2 images x 0.02 USD (output_image/image)"


QUALITY_LINES = [
    line("output_image", "image", "0.01", "low"),
    line("output_image", "image", "0.03", "high"),
    line("output_image", "image", "0.09", "high_4K"),
    line("output_image", "image", "0.05"),
]


@pytest.mark.parametrize(
    ("fields", "low", "high"),
    [
        pytest.param({"quality": "low"}, "0.01", "0.01", id="by quality"),
        pytest.param({"quality": "high", "resolution": "4k"}, "0.09", "0.09", id="by quality and tier"),
        pytest.param({"quality": "high", "resolution": "1K"}, "0.03", "0.03", id="by quality, the tier has no line"),
        pytest.param({"resolution": "1K"}, "0.05", "0.05", id="the unlabelled line for another tier"),
        pytest.param({"quality": "auto"}, "0.01", "0.09", id="auto is not set"),
        pytest.param({}, "0.01", "0.09", id="nothing set"),
    ],
)
def test_a_line_is_chosen_by_tier_and_quality(fields: dict[str, Any], low: str, high: str) -> None:
    found = priced(fields, QUALITY_LINES)
    assert (found.low, found.high) == usd(low, high)


@pytest.mark.parametrize(
    ("extra", "hints", "low", "high"),
    [
        pytest.param(line("input_image", "request", "0.01"), {}, "0.03", "0.03", id="once for any reference"),
        pytest.param(line("input_reference", "image", "0.01"), {}, "0.04", "0.04", id="each reference"),
        pytest.param(line("input_image", "token", "0.01"), {}, "0.02", None, id="tokens unknown"),
        pytest.param(line("input_image", "megapixel", "0.01"), {}, "0.02", None, id="pixels unknown"),
        pytest.param(
            line("input_image", "token", "0.0001"), {"input_tokens_per_reference": 50}, "0.03", "0.03", id="tokens"
        ),
        pytest.param(line("input_font", "image", "0.01"), {}, "0.02", "0.02", id="no fonts"),
        pytest.param(line("input_text", "request", "0.01"), {}, "0.03", "0.03", id="text per request"),
        pytest.param(line("input_text", "image", "0.01"), {}, None, None, id="text per image makes no sense"),
        pytest.param(line("output_video", "image", "0.01"), {}, None, None, id="unknown billable"),
        pytest.param(line("input_image", "furlong", "0.01"), {}, None, None, id="unknown unit"),
        pytest.param(line("input_image", "image", "-1"), {}, None, None, id="no price"),
    ],
)
def test_inputs_are_added_to_the_price_of_the_image(
    extra: dict[str, Any], hints: dict[str, int], low: str | None, high: str | None
) -> None:
    found = priced({"input_references": [REFERENCE, REFERENCE]}, [*CHEAP, extra], **hints)
    assert (found.low, found.high) == usd(low, high)


def test_fonts_are_counted_wherever_they_are_sent() -> None:
    fields = {"font_inputs": [{}], "provider": {"options": {"acme": {"font_inputs": [{}, {}]}}}}
    assert priced(fields, [*CHEAP, line("input_font", "image", "0.03")]).exact == Decimal("0.11")


def test_text_is_bounded_by_its_bytes_where_its_tokens_are_unknown() -> None:
    pricing = [line("output_image", "token", "0.0001"), line("input_text", "token", "0.001")]
    found = priced({"prompt": "é"}, pricing, output_tokens_per_image=100)
    assert (found.low, found.exact, found.high) == usd("0.01", None, "0.012")


@pytest.mark.parametrize("count", [0, -1, "many"])
def test_an_invalid_number_of_images_is_unpriced(count: object) -> None:
    assert priced({"n": count}, CHEAP).is_unpriced


def test_a_request_price_is_charged_once() -> None:
    assert priced({"n": 4}, [line("output_image", "request", "0.2")]).exact == Decimal("0.2")
