"""Image requests: one endpoint or several, and every unit a line can have."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from orbatch_provider.pricing import EstimateStatus, Hints, estimate_image

REFERENCE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


def line(billable: str, unit: str, cost: str, variant: str | None = None) -> dict[str, Any]:
    record = {"billable": billable, "unit": unit, "cost_usd": Decimal(cost)}
    return record if variant is None else {**record, "variant": variant}


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "prompt": "p", **fields}


CHEAP, DEAR = [line("output_image", "image", "0.02")], [line("output_image", "image", "0.05")]


def test_several_endpoints_give_the_cheapest_low_and_the_dearest_high() -> None:
    found = estimate_image(body(), [DEAR, CHEAP])
    assert (found.low, found.exact, found.high) == (Decimal("0.02"), None, Decimal("0.05"))


def test_endpoints_that_agree_give_one_amount() -> None:
    found = estimate_image(body(n=2), [CHEAP, CHEAP])
    assert (found.exact, found.status) == (Decimal("0.04"), EstimateStatus.EXACT)
    assert found.why == "2 images x 0.02 USD (output_image/image)"


def test_one_unpriced_endpoint_leaves_the_request_unpriced() -> None:
    found = estimate_image(body(), [CHEAP, []])
    assert (found.low, found.exact, found.high) == (None, None, None)


def test_no_endpoint_is_no_price() -> None:
    assert estimate_image(body(), []).is_unpriced


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
        pytest.param(
            {"quality": "high", "resolution": "1K"}, "0.03", "0.03", id="by quality where the tier has no line"
        ),
        pytest.param({"resolution": "1K"}, "0.05", "0.05", id="the unlabelled line for another tier"),
        pytest.param({"quality": "auto"}, "0.01", "0.09", id="auto asks for nothing"),
        pytest.param({}, "0.01", "0.09", id="nothing asked for"),
    ],
)
def test_a_line_is_picked_by_tier_and_quality(fields: dict[str, Any], low: str, high: str) -> None:
    found = estimate_image(body(**fields), [QUALITY_LINES])
    assert (found.low, found.high) == (Decimal(low), Decimal(high))


@pytest.mark.parametrize(
    ("extra", "hints", "low", "high"),
    [
        pytest.param(line("input_image", "request", "0.01"), Hints(), "0.03", "0.03", id="once for any reference"),
        pytest.param(line("input_reference", "image", "0.01"), Hints(), "0.04", "0.04", id="each reference"),
        pytest.param(line("input_image", "token", "0.01"), Hints(), "0.02", None, id="tokens unknown"),
        pytest.param(line("input_image", "megapixel", "0.01"), Hints(), "0.02", None, id="pixels unknown"),
        pytest.param(
            line("input_image", "token", "0.0001"), Hints(input_tokens_per_reference=50), "0.03", "0.03", id="tokens"
        ),
        pytest.param(line("input_font", "image", "0.01"), Hints(), "0.02", "0.02", id="no fonts"),
        pytest.param(line("input_text", "request", "0.01"), Hints(), "0.03", "0.03", id="text per request"),
        pytest.param(line("input_text", "image", "0.01"), Hints(), None, None, id="text per image makes no sense"),
        pytest.param(line("output_video", "image", "0.01"), Hints(), None, None, id="unknown billable"),
        pytest.param(line("input_image", "furlong", "0.01"), Hints(), None, None, id="unknown unit"),
        pytest.param(line("input_image", "image", "-1"), Hints(), None, None, id="no price"),
    ],
)
def test_what_comes_on_top_of_the_picture(
    extra: dict[str, Any], hints: Hints, low: str | None, high: str | None
) -> None:
    found = estimate_image(body(input_references=[REFERENCE, REFERENCE]), [[*CHEAP, extra]], hints)
    assert found.low == (None if low is None else Decimal(low))
    assert found.high == (None if high is None else Decimal(high))


def test_fonts_are_counted_wherever_they_are_sent() -> None:
    request = body(font_inputs=[{}], provider={"options": {"acme": {"font_inputs": [{}, {}]}}})
    assert estimate_image(request, [[*CHEAP, line("input_font", "image", "0.03")]]).exact == Decimal("0.11")


def test_text_is_bounded_by_its_bytes_where_its_tokens_are_unknown() -> None:
    pricing = [line("output_image", "token", "0.0001"), line("input_text", "token", "0.001")]
    found = estimate_image({"prompt": "é"}, [pricing], Hints(output_tokens_per_image=100))
    assert (found.low, found.exact, found.high) == (Decimal("0.01"), None, Decimal("0.012"))


@pytest.mark.parametrize("count", [0, -1, "many"])
def test_a_number_of_images_that_is_none_is_unpriced(count: object) -> None:
    assert estimate_image(body(n=count), [CHEAP]).is_unpriced


def test_a_request_price_is_charged_once() -> None:
    assert estimate_image(body(n=4), [[line("output_image", "request", "0.2")]]).exact == Decimal("0.2")
