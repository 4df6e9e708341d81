"""One record of the catalog, as far as it is understood."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class VideoModel:
    """One record of ``GET /videos/models``. None means that the catalog says nothing about it.

    ``prices``: the ``pricing_skus``, line name -> decimal string, as sent. ``durations`` in seconds.
    """

    id: str
    canonical_slug: str = ""
    durations: tuple[int, ...] | None = None
    resolutions: tuple[str, ...] | None = None
    aspect_ratios: tuple[str, ...] | None = None
    sizes: tuple[str, ...] | None = None
    frame_types: tuple[str, ...] | None = None
    generate_audio: bool | None = None
    seed: bool | None = None
    upscale_min: float | None = None
    upscale_max: float | None = None
    creativity: tuple[int, ...] | None = None
    passthrough: tuple[str, ...] = ()
    prices: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    input_modalities: tuple[str, ...] | None = None  # only in copies of the catalog that joined GET /models

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> VideoModel:
        upscale = data.get("upscale_factor")
        upscale = upscale if isinstance(upscale, Mapping) else {}
        return cls(
            id=str(data["id"]),
            canonical_slug=str(data.get("canonical_slug") or ""),
            durations=_tuple(data.get("supported_durations"), int),
            resolutions=_tuple(data.get("supported_resolutions"), str),
            aspect_ratios=_tuple(data.get("supported_aspect_ratios"), str),
            sizes=_tuple(data.get("supported_sizes"), str),
            frame_types=_tuple(data.get("supported_frame_images"), str),
            generate_audio=_flag(data.get("generate_audio")),
            seed=_flag(data.get("seed")),
            upscale_min=number_of(upscale.get("min")),
            upscale_max=number_of(upscale.get("max")),
            creativity=_tuple(data.get("creativity"), int),
            passthrough=_tuple(data.get("allowed_passthrough_parameters"), str) or (),
            prices=prices_of(data.get("pricing_skus")),
            name=str(data.get("name") or ""),
            input_modalities=_tuple(data.get("input_modalities"), str),
        )


def prices_of(sent: object) -> dict[str, str]:
    """``pricing_skus`` as line name -> decimal string."""
    return {str(line): _price_text(price) for line, price in sent.items()} if isinstance(sent, Mapping) else {}


def _price_text(price: object) -> str:
    """A price as the decimal string it should be. Anything else is kept as text, so that the price engine can call
    the line unknown."""
    if isinstance(price, bool) or not isinstance(price, (int, float, Decimal)) or not math.isfinite(price):
        return str(price)
    return format(Decimal(str(price)), "f")


def _tuple(value: object, kind: type[T]) -> tuple[T, ...] | None:
    """The items of the expected kind; None when there are none, for then nothing is known."""
    if not isinstance(value, (list, tuple)):
        return None
    return tuple(item for item in value if isinstance(item, kind) and not isinstance(item, bool)) or None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def number_of(value: object) -> float | None:
    """A finite number of JSON, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)) or not math.isfinite(value):
        return None
    return float(value)
