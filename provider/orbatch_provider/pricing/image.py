"""The estimate of an image request, by the price lines of the endpoints it can be routed to: docs/pricing.md, "Images".

A line is ``{billable, unit, cost_usd, variant?}`` in the endpoint's record. Quantities that OpenRouter does not publish
(tokens of a reference, pixels where only a ratio is set) give no upper bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from typing import Any

from orbatch_provider.catalog import ImageModel
from orbatch_provider.catalog.catalog import output_tokens
from orbatch_provider.pricing.estimate import (
    BINARY_MEGAPIXEL,
    DECIMAL_MEGAPIXEL,
    NO_HINTS,
    Estimate,
    Hints,
    PriceBounds,
    Term,
    add_up,
    decimal_or_none,
    fixed,
    union,
    union_of_estimates,
    unknown,
    up_to,
)
from orbatch_provider.pricing.video_cases import parse_pair, pixels
from orbatch_provider.requests import ImageRequest

# USD per prompt token where a token-priced endpoint lists no price for text. One charge of 0.00000025 was seen.
UNLISTED_TEXT_USD = Decimal("0.000005")
# Tokens of an image of unknown shape, as a share of the square's. An assumption with room on both sides: the one
# documented figure is about 0.61 (gpt-image-2, high, 16:9).
FEWEST_TOKENS, MOST_TOKENS = Decimal("0.5"), Decimal("1.5")

_OUTPUT, _TEXT, _FONTS = "output_image", "input_text", "input_font"
_BILLABLES = (_OUTPUT, "input_image", "input_reference", _FONTS, _TEXT)
_UNITS = ("request", "image", "megapixel", "token")
_NOT_SET = {None, "", "auto"}
_ROW_NOTES = {"models", "confidence", "at"}  # the keys of a row of output_tokens() that are not a tier or a quality


@dataclass(frozen=True, slots=True)
class _Line:
    """One price line of an endpoint; ``variant`` in lower case, None where the line has no label."""

    name: str
    billable: str
    unit: str
    usd: Decimal
    variant: str | None

    def times(self, quantity: Decimal | int, unit: str) -> Term:
        return Term(Decimal(quantity), unit, self.usd, self.name)


@dataclass(frozen=True, slots=True)
class _Billed:
    """The billed parts of a request. ``tier`` and ``quality`` in lower case; ``pixels`` of one image.

    ``counts``: how many of each billable; the prompt's tokens are None where they are unknown.
    """

    tier: str | None
    quality: str | None
    pixels: int | None
    prompt_bytes: int
    counts: Mapping[str, Decimal | None]


def estimate_image(request: ImageRequest, model: ImageModel, hints: Hints = NO_HINTS) -> Estimate:
    """What ``request`` costs at list price, over all endpoints it can be routed to (``provider.only`` pins one).

    Without ``hints.output_tokens_per_image`` the vendors' own token counts are used. Where they document only the
    square, an image that may have another shape is assumed to have between half and one and a half times its tokens.
    """
    endpoints = [endpoint.pricing for endpoint in model.routed(request.provider)]
    if model.endpoints and not endpoints:
        return Estimate.unpriced("provider leaves no endpoint of the model")
    known = hints.output_tokens_per_image is not None
    counts = set() if known else _documented_tokens(request, output_tokens().get(model.id, {}))
    # The fewest tokens first, so that ``why`` reads from low to high.
    possible = [replace(hints, output_tokens_per_image=count) for count in sorted(counts)] or [hints]
    found = union_of_estimates([estimate_image_body(request.body(), endpoints, each) for each in possible])
    return found.unless_free(model.id)


def estimate_image_body(
    body: Mapping[str, Any], endpoints: Sequence[Sequence[Mapping[str, Any]]], hints: Hints = NO_HINTS
) -> Estimate:
    """What a ``POST /images`` body costs at list price.

    ``endpoints``: the ``pricing`` of every endpoint the request can be routed to; low is the cheapest one's, high the
    most expensive one's, and exact is set only where all agree.
    """
    images = decimal_or_none(1 if body.get("n") is None else body["n"])
    if images is None or images < 1:
        return Estimate.unpriced(f"n {body.get('n')!r} is not a number of images")
    if not endpoints:
        return Estimate.unpriced("no endpoint of the model is known")
    billed = _billed(body, images, hints)
    return union_of_estimates([_endpoint(billed, pricing, hints) for pricing in endpoints])


def _documented_tokens(request: ImageRequest, row: Mapping[str, Any]) -> set[int]:
    """The fewest and the most tokens that one image can have; empty where nothing is documented."""
    size = (request.size or "").lower()
    wanted = {str(name).lower() for name in (request.resolution, request.quality, size) if name} - _NOT_SET
    counts = {name.lower(): int(count) for name, count in row.items() if name not in _ROW_NOTES}
    chosen = [count for name, count in counts.items() if name in wanted or name == "any"] or [*counts.values()]
    if not chosen:
        return set()
    if "at" not in row or size == row["at"] or request.aspect_ratio == "1:1":
        return {min(chosen), max(chosen)}
    return {int(min(chosen) * FEWEST_TOKENS), int(max(chosen) * MOST_TOKENS)}


def _billed(body: Mapping[str, Any], images: Decimal, hints: Hints) -> _Billed:
    size = str(body.get("size") or "").lower()
    width_height = parse_pair(size)
    tier = str(body.get("resolution") or "").lower() or (size if width_height is None else None)
    quality = str(body.get("quality") or "").lower()
    references = Decimal(len(body.get("input_references") or ()))
    options = (body.get("provider") or {}).get("options") or {}
    blocks = [body, *(block for block in options.values() if isinstance(block, Mapping))]
    return _Billed(
        tier=None if tier in _NOT_SET else tier,
        quality=None if quality in _NOT_SET else quality,
        pixels=None if width_height is None else pixels(width_height),
        prompt_bytes=len(str(body.get("prompt") or "").encode("utf-8", "surrogatepass")),
        counts={
            _OUTPUT: images,
            "input_image": references,
            "input_reference": references,
            _FONTS: Decimal(sum(len(block.get("font_inputs") or ()) for block in blocks)),
            _TEXT: None if hints.prompt_tokens is None else Decimal(hints.prompt_tokens),
        },
    )


def _endpoint(billed: _Billed, pricing: Sequence[Mapping[str, Any]], hints: Hints) -> Estimate:
    lines = []
    for record in pricing:
        line = _line(record)
        if line is None:
            return Estimate.unpriced(f"the meaning of the price line {dict(record)} is not known")
        lines.append(line)
    if not any(line.billable == _OUTPUT for line in lines):
        return Estimate.unpriced("the catalog has no price for the image")
    parts = []
    for billable, count in billed.counts.items():
        candidates = _matching([line for line in lines if line.billable == billable], billed)
        if candidates and count != 0:
            parts.append(union(_charge(line, count, billed, hints) for line in candidates).with_bounding_lines())
    listed = {(line.billable, line.unit) for line in lines}
    if (_OUTPUT, "token") in listed and not any(billable == _TEXT for billable, _ in listed):
        # Text was seen charged on such an endpoint: at most the prompt's bytes, and most likely next to nothing.
        text = up_to(
            Term(Decimal(billed.prompt_bytes), "tokens", UNLISTED_TEXT_USD, "prompt text without a price line")
        )
        parts.append(replace(text, exact=text.low, lines=frozenset()))
    return add_up(parts)


def _line(record: Mapping[str, Any]) -> _Line | None:
    billable, unit = str(record.get("billable")), str(record.get("unit"))
    usd = decimal_or_none(record.get("cost_usd"))
    if billable not in _BILLABLES or unit not in _UNITS or usd is None or usd < 0:
        return None
    variant = record.get("variant")
    if variant is None:
        return _Line(f"{billable}/{unit}", billable, unit, usd, None)
    return _Line(f"{billable}/{unit}[{variant}]", billable, unit, usd, str(variant).lower())


def _matching(lines: list[_Line], billed: _Billed) -> list[_Line]:
    """The lines that may be charged for the requested tier and quality; all of them where neither is set."""
    tier, quality = billed.tier, billed.quality
    both = [line for line in lines if tier and quality and line.variant == f"{quality}_{tier}"]
    either = [line for line in lines if line.variant is not None and line.variant in (tier, quality)]
    unlabelled = [line for line in lines if tier and line.variant is None]
    return both or either or unlabelled or lines


def _charge(line: _Line, count: Decimal | None, billed: _Billed, hints: Hints) -> PriceBounds:
    if line.unit == "request":
        return fixed(line.times(1, "requests"))
    if line.billable == _TEXT:
        if line.unit != "token":
            return unknown(line.name, f"the meaning of the price line {line.name} is not known")
        # A token has at least one byte.
        return up_to(line.times(billed.prompt_bytes, "tokens")) if count is None else fixed(line.times(count, "tokens"))
    assert count is not None  # only the prompt's tokens can be unknown
    if line.unit == "image":
        return fixed(line.times(count, "fonts" if line.billable == _FONTS else "images"))
    return _tokens(line, count, hints) if line.unit == "token" else _megapixels(line, count, billed.pixels)


def _tokens(line: _Line, count: Decimal, hints: Hints) -> PriceBounds:
    is_output = line.billable == _OUTPUT
    each = hints.output_tokens_per_image if is_output else hints.input_tokens_per_reference
    if each is not None:
        return fixed(line.times(count * each, "tokens"))
    what = "an image" if is_output else "a reference"
    low = None if is_output else line.times(0, "tokens")
    return unknown(line.name, f"the number of tokens of {what} is not known", low=low)


def _megapixels(line: _Line, count: Decimal, each: int | None) -> PriceBounds:
    if line.billable != _OUTPUT:
        return unknown(line.name, "the size of a reference is not known", low=line.times(0, "megapixels"))
    if each is None:
        return unknown(line.name, "the price is per megapixel, and the request sets no size in pixels")
    # Whether a part of a megapixel is billed as a whole one is not published; high assumes it.
    whole = (each / DECIMAL_MEGAPIXEL).to_integral_value(ROUND_CEILING)
    low, high = (line.times(count * megapixels, "megapixels") for megapixels in (each / BINARY_MEGAPIXEL, whole))
    return PriceBounds(low, None, high, frozenset({line.name}))
