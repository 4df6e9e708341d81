"""The estimate of an image request for a model: by the endpoints it may be routed to, and, where they charge by the
token, by the tokens that the model's pictures are known to have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from orbatch_provider.catalog import ImageModel
from orbatch_provider.catalog.listings import output_tokens
from orbatch_provider.pricing.image import estimate_image
from orbatch_provider.pricing.values import NO_HINTS, Estimate, Hints
from orbatch_provider.requests import ImageRequest

# Of the tokens of the square picture, for one of another shape. An assumption with room on both sides: the one figure
# that is documented is about 0.61 (gpt-image-2, high, 16:9).
_FEWEST, _MOST = Decimal("0.5"), Decimal("1.5")

_UNSAID = {"", "auto"}
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
    counts = _tokens(request, output_tokens().get(model.id, {}))
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


def _tokens(request: ImageRequest, row: Mapping[str, Any]) -> set[int]:
    """The numbers of tokens that one picture may have; none where nothing is documented."""
    counts = {name.lower(): int(count) for name, count in row.items() if name not in _NOT_CHOICES}
    size = (request.size or "").lower()
    wanted = {str(name).lower() for name in (request.resolution, request.quality, size) if name} - _UNSAID
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
