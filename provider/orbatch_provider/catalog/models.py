"""One record of a catalog, of each kind: what a model supports and charges.

Records are read leniently: a field of an unexpected form counts as missing, so that no change of the API stops a plan.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, TypeVar

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
        """Read an item of the list."""
        upscale = _mapping(data.get("upscale_factor"))
        return cls(
            id=str(data["id"]),
            canonical_slug=_text(data, "canonical_slug"),
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
            passthrough=_tuple(data.get("allowed_passthrough_parameters"), str) or (),  # null allows none
            prices=prices_of(data.get("pricing_skus")),
            name=_text(data, "name"),
            input_modalities=_tuple(data.get("input_modalities"), str),
        )


@dataclass(frozen=True, slots=True)
class Capability:
    """What one field of a request may hold: one of ``values``, a number from ``low`` to ``high``, or true and false
    (which for a ``seed`` means that one can be sent)."""

    kind: Literal["enum", "range", "boolean"]
    values: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None

    @classmethod
    def from_json(cls, data: object) -> Capability | None:
        """Read the description of a field; None for one of an unknown kind."""
        description = _mapping(data)
        match description.get("type"):
            case "enum":
                return cls("enum", tuple(map(str, items(description.get("values")))))
            case "range":
                return cls("range", low=number_of(description.get("min")), high=number_of(description.get("max")))
            case "boolean":
                return cls("boolean")
        return None


Capabilities = Mapping[str, Capability]


@dataclass(frozen=True, slots=True)
class ImageEndpoint:
    """One endpoint of an image model. ``capabilities``: by field of the request, None where nothing is known; a field
    that is not among them is not supported. ``pricing``: the lines as sent. ``passthrough``: names allowed in
    ``provider.options``."""

    provider_slug: str = ""
    provider_tag: str = ""
    capabilities: Capabilities | None = None
    passthrough: tuple[str, ...] = ()
    pricing: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ImageEndpoint:
        """Read an item of ``GET /images/models/{id}/endpoints``."""
        return cls(
            provider_slug=_text(data, "provider_slug"),
            provider_tag=_text(data, "provider_tag"),
            capabilities=_capabilities(data.get("supported_parameters")),
            passthrough=tuple(map(str, items(data.get("allowed_passthrough_parameters")))),
            pricing=_mappings(data.get("pricing")),
        )

    def is_named(self, name: object) -> bool | None:
        """Whether ``provider.only`` and the like mean this endpoint by ``name``; ``google-vertex`` means all its
        regions. None where the record does not say whose endpoint it is."""
        own = [text.lower() for text in (self.provider_slug, self.provider_tag) if text]
        wanted = str(name).lower()
        # A tag is slug/region.
        return any(text == wanted or text.startswith(f"{wanted}/") for text in own) if own else None

    def is_among(self, names: Sequence[object]) -> bool | None:
        """Whether any of ``names`` means this endpoint; None where one of them may."""
        answers = [self.is_named(name) for name in names]
        return True if True in answers else None if None in answers else False


@dataclass(frozen=True, slots=True)
class ImageModel:
    """One record of ``GET /images/models`` with its endpoints. ``capabilities`` is the union over the endpoints, whose
    own records are definitive; None where nothing is known."""

    id: str
    capabilities: Capabilities | None = None
    endpoints: tuple[ImageEndpoint, ...] = ()
    canonical_slug: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ImageModel:
        """Read an item of the list whose ``endpoints`` (a path there) are replaced by the records behind it."""
        return cls(
            id=str(data["id"]),
            capabilities=_capabilities(data.get("supported_parameters")),
            endpoints=tuple(map(ImageEndpoint.from_json, _mappings(data.get("endpoints")))),
            canonical_slug=_text(data, "canonical_slug"),
        )

    @property
    def prices(self) -> Mapping[str, str]:
        """The price lines of all endpoints, by billable, unit, variant and provider."""
        lines: dict[str, str] = {}
        for endpoint in self.endpoints:
            provider = endpoint.provider_tag or endpoint.provider_slug
            for line in endpoint.pricing:
                variant = f"[{line['variant']}]" if line.get("variant") else ""
                name = f"{line.get('billable')}/{line.get('unit')}{variant}{f' of {provider}' if provider else ''}"
                # Lines may have lost what tells them apart; then their order does.
                lines[name if name not in lines else f"{name} ({len(lines) + 1})"] = str(line.get("cost_usd"))
        return lines

    def routed(self, provider: Mapping[str, Any] | None) -> tuple[ImageEndpoint, ...]:
        """The endpoints that a request with these ``provider`` preferences may end up at: ``only`` and ``ignore`` say
        so, ``order`` does when ``allow_fallbacks`` is false. One whose name is not known cannot be ruled out."""
        wanted = _mapping(provider)
        left: Sequence[ImageEndpoint] = self.endpoints
        only, order = items(wanted.get("only")), items(wanted.get("order"))
        if only:  # an empty list expresses no preference
            left = [each for each in left if each.is_among(only) is not False]
        if order and wanted.get("allow_fallbacks") is False:
            left = [each for each in left if each.is_among(order) is not False]
        return tuple(each for each in left if each.is_among(items(wanted.get("ignore"))) is not True)


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
    canonical_slug: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TextModel:
        """Read an item of the list."""
        pricing = _mapping(data.get("pricing"))
        plain = {name: price for name, price in pricing.items() if isinstance(price, (str, int, float, Decimal))}
        return cls(
            id=str(data["id"]),
            prices=prices_of(plain),  # overrides is a list among the prices
            overrides=_mappings(pricing.get("overrides")),
            context_length=_length(data.get("context_length")),
            max_completion_tokens=_length(_mapping(data.get("top_provider")).get("max_completion_tokens")),
            capabilities=tuple(map(str, items(data.get("supported_parameters")))) or None,
            canonical_slug=_text(data, "canonical_slug"),
        )


AnyModel = VideoModel | ImageModel | TextModel
_MOST_DECIMALS = 300  # 1e-99999999 would be written out as 100 MB of zeros


def prices_of(sent: object) -> dict[str, str]:
    """``pricing_skus`` as line name -> decimal string."""
    return {str(line): _price_text(price) for line, price in _mapping(sent).items()}


def _price_text(price: object) -> str:
    """A price as the decimal string it should be. Anything else is kept as text, so that the price engine can call
    the line unknown."""
    if isinstance(price, bool) or not isinstance(price, (int, float, Decimal)) or not math.isfinite(price):
        return str(price)
    number = Decimal(str(price))  # str() first: Decimal(0.1) has 55 digits
    if number.adjusted() < -_MOST_DECIMALS:
        return str(price)
    return format(number, "f")  # never an exponent


def number_of(value: object) -> float | None:
    """A finite number of JSON, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)) or not math.isfinite(value):
        return None
    return float(value)


def items(value: object) -> Sequence[Any]:
    """The items of a JSON array; none for anything else."""
    return value if isinstance(value, (list, tuple)) else ()


def _tuple(value: object, kind: type[T]) -> tuple[T, ...] | None:
    """The items of the expected kind; None when there are none, because then nothing is known."""
    # True is an int in Python, and no duration.
    return tuple(item for item in items(value) if isinstance(item, kind) and not isinstance(item, bool)) or None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: object) -> tuple[Mapping[str, Any], ...]:
    return tuple(item for item in items(value) if isinstance(item, Mapping))


def _text(data: Mapping[str, Any], name: str) -> str:
    return str(data.get(name) or "")


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _length(value: object) -> int | None:
    number = number_of(value)
    return int(number) if number is not None and number > 0 else None  # 0 stands for unknown


def _capabilities(data: object) -> Capabilities | None:
    """None for an empty description: every model supports more than a prompt, so it was not filled in."""
    if not isinstance(data, Mapping) or not data:
        return None
    read = {str(name): Capability.from_json(item) for name, item in data.items()}
    return {name: capability for name, capability in read.items() if capability is not None}
