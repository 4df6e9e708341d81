"""The estimate of an image request, by the price lines of the endpoints it may be routed to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from typing import Any

from orbatch_provider.catalog import ImageModel
from orbatch_provider.catalog.catalog import output_tokens
from orbatch_provider.pricing.estimate import (
    NO_HINTS,
    Charge,
    Estimate,
    Hints,
    Term,
    add_up,
    decimal_or_none,
    fixed,
    merge,
    unknown,
)
from orbatch_provider.pricing.video import BINARY_MEGAPIXEL, DECIMAL_MEGAPIXEL
from orbatch_provider.pricing.video_cases import parse_pair, pixels
from orbatch_provider.requests import ImageRequest

# USD per token of prompt where a token-priced endpoint names no price for it: such a bill was seen, at far less.
UNLISTED_TEXT_USD = Decimal("0.000005")

_OUTPUT, _TEXT = "output_image", "input_text"
_REFERENCES = ("input_image", "input_reference")
_FONTS = "input_font"
_BILLABLES = (_OUTPUT, *_REFERENCES, _FONTS, _TEXT)
_UNSAID = {None, "", "auto"}


@dataclass(frozen=True, slots=True)
class _Line:
    """One price line of an endpoint; ``variant`` in lower case, None where the line has no label."""

    name: str
    billable: str
    unit: str
    usd: Decimal
    variant: str | None


@dataclass(frozen=True, slots=True)
class _Order:
    """The billed parts of a request. ``tier`` and ``quality`` in lower case; ``pixels`` of one picture."""

    images: Decimal
    tier: str | None
    quality: str | None
    pixels: int | None
    references: Decimal
    fonts: Decimal
    prompt_bytes: Decimal


def estimate_image(
    request: Mapping[str, Any], endpoints: Sequence[Sequence[Mapping[str, Any]]], hints: Hints = NO_HINTS
) -> Estimate:
    """What a ``POST /images`` body costs at list price.

    ``endpoints``: the ``pricing`` of every endpoint that the request may be routed to; with several, low is the
    cheapest's, high the dearest's, and exact is given only when all agree.
    """
    order = _order(request)
    if order is None:
        return Estimate(None, None, None, (), f"unpriced: n {request.get('n')!r} is not a number of images")
    estimates = [_endpoint(order, pricing, hints) for pricing in endpoints]
    if not estimates:
        return Estimate(None, None, None, (), "unpriced: no endpoint is known for the model")
    lows = [one.low for one in estimates if one.low is not None]
    highs = [one.high for one in estimates if one.high is not None]
    every = len(estimates)
    agreed = len({one.exact for one in estimates}) == 1
    return Estimate(
        min(lows) if len(lows) == every else None,
        estimates[0].exact if agreed else None,
        max(highs) if len(highs) == every else None,
        tuple(sorted({line for one in estimates for line in one.lines})),
        "; or ".join(dict.fromkeys(one.why for one in estimates)),
    )


def _order(request: Mapping[str, Any]) -> _Order | None:
    images = decimal_or_none(request.get("n", 1) if request.get("n") is not None else 1)
    if images is None or images < 1:
        return None
    size = str(request.get("size") or "").lower()
    width_height = parse_pair(size)
    tier = str(request.get("resolution") or "").lower() or (size if width_height is None else None)
    quality = str(request.get("quality") or "").lower()
    return _Order(
        images=images,
        tier=None if tier in _UNSAID else tier,
        quality=None if quality in _UNSAID else quality,
        pixels=None if width_height is None else pixels(width_height),
        references=Decimal(len(request.get("input_references") or ())),
        fonts=Decimal(_fonts(request)),
        prompt_bytes=Decimal(len(str(request.get("prompt") or "").encode("utf-8", "surrogatepass"))),
    )


def _fonts(request: Mapping[str, Any]) -> int:
    options = (request.get("provider") or {}).get("options") or {}
    blocks = [request, *(block for block in options.values() if isinstance(block, Mapping))]
    return sum(len(block.get("font_inputs") or ()) for block in blocks)


def _endpoint(order: _Order, pricing: Sequence[Mapping[str, Any]], hints: Hints) -> Estimate:
    lines = [_line(record) for record in pricing]
    known = [line for line in lines if line is not None]
    if len(known) < len(lines):
        unreadable = pricing[lines.index(None)]
        return Estimate(None, None, None, (), f"unpriced: a price line of no known kind, {dict(unreadable)}")
    if not any(line.billable == _OUTPUT for line in known):
        return Estimate(None, None, None, (), "unpriced: the catalog names no price for the picture")
    parts = [_part(billable, known, order, hints) for billable in _BILLABLES]
    return add_up([part for part in parts if part is not None] + _unlisted_text(known, order))


def _part(billable: str, lines: list[_Line], order: _Order, hints: Hints) -> Charge | None:
    """What one billable adds, None where the endpoint has no line for it or the request nothing of it."""
    candidates = _pick([line for line in lines if line.billable == billable], order)
    if not candidates or _count(billable, order, hints) == 0:
        return None
    bounds = merge(_charge(line, order, hints) for line in candidates)
    return replace(bounds, lines=bounds.bounding_lines)


def _unlisted_text(lines: list[_Line], order: _Order) -> list[Charge]:
    """At most the prompt's bytes, on a token-priced endpoint that names no price for text."""
    if any(line.billable == _TEXT for line in lines):
        return []
    if not any(line.billable == _OUTPUT and line.unit == "token" for line in lines):
        return []
    none, most = (
        Term(count, "tokens", UNLISTED_TEXT_USD, "prompt text without a price line")
        for count in (Decimal(0), order.prompt_bytes)
    )
    return [Charge(none, none, most)]


def _line(record: Mapping[str, Any]) -> _Line | None:
    billable, unit = str(record.get("billable")), str(record.get("unit"))
    usd = decimal_or_none(record.get("cost_usd"))
    if billable not in _BILLABLES or unit not in ("request", "image", "megapixel", "token") or usd is None or usd < 0:
        return None
    variant = record.get("variant")
    label = "" if variant is None else f"[{variant}]"
    return _Line(f"{billable}/{unit}{label}", billable, unit, usd, None if variant is None else str(variant).lower())


def _pick(lines: list[_Line], order: _Order) -> list[_Line]:
    """The lines that may be charged for the requested tier and quality."""
    tier, quality = order.tier, order.quality
    both = [line for line in lines if tier and quality and line.variant == f"{quality}_{tier}"]
    either = [line for line in lines if line.variant is not None and line.variant in (tier, quality)]
    if both or either:
        return both or either
    return ([line for line in lines if line.variant is None] or lines) if tier else lines


def _count(billable: str, order: _Order, hints: Hints) -> Decimal | None:
    """How many of a billable the request has; for the prompt its tokens, None where they are unknown."""
    if billable == _OUTPUT:
        return order.images
    if billable in _REFERENCES:
        return order.references
    if billable == _FONTS:
        return order.fonts
    return None if hints.prompt_tokens is None else Decimal(hints.prompt_tokens)


def _charge(line: _Line, order: _Order, hints: Hints) -> Charge:
    count = _count(line.billable, order, hints)
    if line.unit == "request":
        return _times(line, Decimal(1), "requests")
    if line.billable == _TEXT:
        return _text(line, count, order)
    assert count is not None  # only the prompt's tokens can be unknown
    if line.unit == "token":
        return _tokens(line, count, hints)
    if line.unit == "megapixel":
        return _megapixels(line, count, order)
    return _times(line, count, "fonts" if line.billable == _FONTS else "images")


def _times(line: _Line, quantity: Decimal, unit: str) -> Charge:
    return fixed(Term(quantity, unit, line.usd, line.name))


def _text(line: _Line, tokens: Decimal | None, order: _Order) -> Charge:
    if line.unit != "token":
        return unknown(line.name, f"{line.name} is a price of no known kind")
    if tokens is not None:
        return _times(line, tokens, "tokens")
    # A token has at least one byte.
    none, most = (Term(count, "tokens", line.usd, line.name) for count in (Decimal(0), order.prompt_bytes))
    return Charge(none, None, most, frozenset({line.name}))


def _tokens(line: _Line, count: Decimal, hints: Hints) -> Charge:
    is_output = line.billable == _OUTPUT
    each = hints.output_tokens_per_image if is_output else hints.input_tokens_per_reference
    if each is not None:
        return _times(line, count * each, "tokens")
    if is_output:
        return unknown(line.name, "the number of tokens of a picture is not known")
    none = Term(Decimal(0), "tokens", line.usd, line.name)
    return unknown(line.name, "the number of tokens of a reference is not known", low=none)


def _megapixels(line: _Line, count: Decimal, order: _Order) -> Charge:
    if line.billable != _OUTPUT:
        none = Term(Decimal(0), "megapixels", line.usd, line.name)
        return unknown(line.name, "the size of a reference is not known", low=none)
    if order.pixels is None:
        return unknown(line.name, "the price is per megapixel, and no size in pixels is given")
    whole = (order.pixels / DECIMAL_MEGAPIXEL).to_integral_value(ROUND_CEILING)
    low, high = (
        Term(count * megapixels, "megapixels", line.usd, line.name)
        for megapixels in (order.pixels / BINARY_MEGAPIXEL, whole)
    )
    return Charge(low, None, high, frozenset({line.name}))


# Of the tokens of the square picture, for one of another shape. An assumption with room on both sides: the one figure
# that is documented is about 0.61 (gpt-image-2, high, 16:9).
_FEWEST, _MOST = Decimal("0.5"), Decimal("1.5")

_UNSAID_routing = {"", "auto"}
_NOT_CHOICES = {"models", "confidence", "at"}


def estimate_image_model(request: ImageRequest, model: ImageModel, hints: Hints = NO_HINTS) -> Estimate:
    """What ``request`` costs at list price, wherever it may be routed: low at the cheapest endpoint, high at the
    dearest, exact where all agree (``provider.only`` pins one).

    Without ``hints.output_tokens_per_image`` the vendors' own figures are used; a picture that may not be square, where
    they name the square's alone, is assumed to have between half and one and a half times its tokens.
    """
    endpoints = [endpoint.pricing for endpoint in model.routed(request.provider)]
    if model.endpoints and not endpoints:
        return Estimate(None, None, None, (), "unpriced: provider leaves no endpoint of the model")
    body = request.body()
    if hints.output_tokens_per_image is not None or not _is_by_token(endpoints):
        return estimate_image(body, endpoints, hints)
    counts = _tokens_routing(request, output_tokens().get(model.id, {}))
    if not counts:
        return estimate_image(body, endpoints, hints)
    fewest, most = (
        estimate_image(body, endpoints, replace(hints, output_tokens_per_image=count))
        for count in (min(counts), max(counts))
    )
    return _between(fewest, most, f"{min(counts)} to {max(counts)} tokens per picture")


def _is_by_token(endpoints: Iterable[Iterable[Mapping[str, Any]]]) -> bool:
    return any(
        line.get("billable") == "output_image" and line.get("unit") == "token" for lines in endpoints for line in lines
    )


def _tokens_routing(request: ImageRequest, row: Mapping[str, Any]) -> set[int]:
    """The numbers of tokens that one picture may have; none where nothing is documented."""
    counts = {name.lower(): int(count) for name, count in row.items() if name not in _NOT_CHOICES}
    size = (request.size or "").lower()
    wanted = {str(name).lower() for name in (request.resolution, request.quality, size) if name} - _UNSAID_routing
    chosen = {count for name, count in counts.items() if name in wanted or name == "any"}
    if not chosen:
        chosen = set(counts.values())
    if "at" not in row or size == row["at"] or request.aspect_ratio == "1:1":
        return chosen
    return {int(min(chosen) * _FEWEST), int(max(chosen) * _MOST)}


def _between(low: Estimate, high: Estimate, tokens: str) -> Estimate:
    if low == high:
        return low
    why = f"{tokens}: from {low.why} to {high.why}"
    return Estimate(low.low, None, high.high, tuple(sorted({*low.lines, *high.lines})), why)
