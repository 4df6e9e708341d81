"""What the simulator draws for an image request, and what it charges by the price lines of the endpoint.

Written apart from ``orbatch_provider.pricing``: there every line that may apply is weighed, here one picture of a known
size and quality is made, and the one line that fits it is the price.

The service documents no defaults. The simulator's own: the 1K tier (else the lowest), a square (else the first ratio),
medium quality. Where the public rules leave a band, it takes one amount within it: tiers without a label in the order
of the tiers, megapixels of 2^20, the square's tokens for every shape, and for the prompt, where no line names it, the
one rate that was ever seen on a bill.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from orbatch_provider.catalog import ImageEndpoint
from orbatch_provider.catalog.catalog import output_tokens
from orbatch_simulator.billing import nano

_SIDES = {"512": 512, "768": 768, "1k": 1024, "1.5k": 1536, "2k": 2048, "4k": 4096}  # of the square of each tier
_MEGAPIXEL = Decimal(2**20)
_UNLISTED_TEXT_USD = Decimal("0.00000025")  # per token
_REFERENCE_TOKENS = 258  # of one reference picture
_UNDOCUMENTED_TOKENS = 1024  # of one output picture of a model whose vendor says nothing
_BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Painting:
    """What is drawn: ``count`` pictures of ``width`` x ``height`` pixels as ``mime_type``."""

    model: str
    prompt: str
    count: int
    width: int
    height: int
    tier: str
    quality: str
    mime_type: str
    transparent: bool
    references: int

    @classmethod
    def read(cls, body: Mapping[str, Any], endpoint: ImageEndpoint) -> Painting:
        """From a request body that the rules have let pass."""
        width, height, tier = _shape(body, endpoint)
        name = body.get("output_format", "png")
        return cls(
            model=body["model"],
            prompt=body["prompt"],
            count=body.get("n", 1),
            width=width,
            height=height,
            tier=tier,
            quality=_said(body.get("quality")) or "medium",
            mime_type="image/svg+xml" if name == "svg" else f"image/{name}",
            transparent=body.get("background") == "transparent",
            references=len(body.get("input_references") or ()),
        )

    @property
    def prompt_tokens(self) -> int:
        return math.ceil(len(self.prompt.encode("utf-8", "replace")) / _BYTES_PER_TOKEN)

    @property
    def tokens(self) -> int:
        """Of one picture."""
        row = {name.lower(): count for name, count in output_tokens().get(self.model, {}).items()}
        return int(row.get(self.tier) or row.get(self.quality) or row.get("any") or _UNDOCUMENTED_TOKENS)


def charge_images(painting: Painting, endpoint: ImageEndpoint, unknown_price: Decimal) -> Decimal:
    """USD for the pictures; ``unknown_price`` for each where the endpoint names none."""
    lines = [line for line in endpoint.pricing if line["billable"] == "output_image"]
    if not lines:
        return nano(unknown_price * painting.count)
    line = _line(lines, painting, endpoint)
    amount = _usd(line) * _output_quantity(str(line["unit"]), painting)
    for other in endpoint.pricing:
        amount += _usd(other) * _input_quantity(other, painting)
    if line["unit"] == "token" and not any(other["billable"] == "input_text" for other in endpoint.pricing):
        amount += painting.prompt_tokens * _UNLISTED_TEXT_USD
    return nano(amount)


def _line(lines: list[Mapping[str, Any]], painting: Painting, endpoint: ImageEndpoint) -> Mapping[str, Any]:
    labelled = {str(line["variant"]).lower(): line for line in lines if line.get("variant") is not None}
    for label in (f"{painting.quality}_{painting.tier}", painting.tier, painting.quality):
        if label in labelled:
            return labelled[label]
    plain = [line for line in lines if line.get("variant") is None]
    tiers = _tiers(endpoint)
    place = tiers.index(painting.tier) if painting.tier in tiers else 0
    return plain[min(place, len(plain) - 1)] if plain else lines[0]


def _output_quantity(unit: str, painting: Painting) -> Decimal:
    each = {"image": Decimal(1), "megapixel": painting.width * painting.height / _MEGAPIXEL}
    if unit == "request":
        return Decimal(1)
    return each.get(unit, Decimal(painting.tokens)) * painting.count


def _input_quantity(line: Mapping[str, Any], painting: Painting) -> Decimal:
    if line["billable"] == "input_text":
        return Decimal(painting.prompt_tokens if line["unit"] == "token" else 1)
    if line["billable"] not in ("input_image", "input_reference"):
        return Decimal(0)
    if line["unit"] == "request":
        return Decimal(bool(painting.references))
    return Decimal(painting.references * (_REFERENCE_TOKENS if line["unit"] == "token" else 1))


def _shape(body: Mapping[str, Any], endpoint: ImageEndpoint) -> tuple[int, int, str]:
    size = str(body.get("size") or "").lower()
    if "x" in size:
        width, _, height = size.partition("x")
        pixels = int(width) * int(height)
        return int(width), int(height), min(_SIDES, key=lambda tier: abs(math.log(pixels / _SIDES[tier] ** 2)))
    tiers = _tiers(endpoint) or ["1k"]
    tier = size or str(body.get("resolution") or "").lower() or ("1k" if "1k" in tiers else tiers[0])
    ratio = _said(body.get("aspect_ratio"))
    if ratio is None:
        offered = [name for name in _values(endpoint, "aspect_ratio") if name != "auto"]
        ratio = offered[0] if offered and "1:1" not in offered else "1:1"
    wide, _, high = ratio.partition(":")
    stretch = math.sqrt(float(wide) / float(high))
    return round(_SIDES[tier] * stretch), round(_SIDES[tier] / stretch), tier


def _tiers(endpoint: ImageEndpoint) -> list[str]:
    return sorted((name.lower() for name in _values(endpoint, "resolution")), key=lambda name: _SIDES.get(name, 0))


def _values(endpoint: ImageEndpoint, name: str) -> tuple[str, ...]:
    capability = (endpoint.capabilities or {}).get(name)
    return capability.values if capability is not None else ()


def _said(value: object) -> str | None:
    return str(value).lower() if value not in (None, "", "auto") else None


def _usd(line: Mapping[str, Any]) -> Decimal:
    return Decimal(str(line["cost_usd"]))
