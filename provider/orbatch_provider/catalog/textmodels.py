"""Text models and their prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from orbatch_provider.catalog.imagemodels import items
from orbatch_provider.catalog.models import number_of, prices_of


@dataclass(frozen=True, slots=True)
class TextModel:
    """One record of ``GET /models``. ``prices``: USD as decimal strings, per token unless the name says otherwise
    (``request`` is per request). ``overrides``: prices that hold under conditions, as sent. ``capabilities``: names of
    the request's fields, None where nothing is known. Lengths in tokens."""

    id: str
    prices: Mapping[str, str] = field(default_factory=dict)
    overrides: tuple[Mapping[str, Any], ...] = ()
    context_length: int | None = None
    max_completion_tokens: int | None = None
    capabilities: tuple[str, ...] | None = None
    name: str = ""
    canonical_slug: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TextModel:
        pricing, provider = (
            part if isinstance(part, Mapping) else {} for part in (data.get("pricing"), data.get("top_provider"))
        )
        plain = {name: price for name, price in pricing.items() if isinstance(price, (str, int, float, Decimal))}
        capabilities = tuple(map(str, items(data.get("supported_parameters"))))
        return cls(
            id=str(data["id"]),
            prices=prices_of(plain),
            overrides=tuple(item for item in items(pricing.get("overrides")) if isinstance(item, Mapping)),
            context_length=_length(data.get("context_length")),
            max_completion_tokens=_length(provider.get("max_completion_tokens")),
            capabilities=capabilities or None,
            name=str(data.get("name") or ""),
            canonical_slug=str(data.get("canonical_slug") or ""),
        )


def _length(value: object) -> int | None:
    number = number_of(value)
    return int(number) if number is not None and number > 0 else None
