"""Image models: what each of their endpoints can do, what it charges, and which of them a request may be routed to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from orbatch_provider.catalog.models import number_of


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
        """None for a description of no known kind."""
        if not isinstance(data, Mapping):
            return None
        match data.get("type"):
            case "enum":
                values = data.get("values")
                return cls("enum", tuple(map(str, values)) if isinstance(values, (list, tuple)) else ())
            case "range":
                return cls("range", low=number_of(data.get("min")), high=number_of(data.get("max")))
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
    provider_name: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ImageEndpoint:
        return cls(
            provider_slug=str(data.get("provider_slug") or ""),
            provider_tag=str(data.get("provider_tag") or ""),
            capabilities=_capabilities(data.get("supported_parameters")),
            passthrough=tuple(map(str, items(data.get("allowed_passthrough_parameters")))),
            pricing=tuple(line for line in items(data.get("pricing")) if isinstance(line, Mapping)),
            provider_name=str(data.get("provider_name") or ""),
        )

    def is_named(self, name: object) -> bool | None:
        """Whether ``provider.only`` and the like mean this endpoint by ``name``; ``google-vertex`` means all its
        regions. None where the record does not say whose endpoint it is."""
        own = [text.lower() for text in (self.provider_slug, self.provider_tag) if text]
        wanted = str(name).lower()
        return any(text == wanted or text.startswith(f"{wanted}/") for text in own) if own else None


@dataclass(frozen=True, slots=True)
class ImageModel:
    """One record of ``GET /images/models`` with its endpoints. ``capabilities`` is the union over the endpoints, whose
    own records are definitive; None where nothing is known."""

    id: str
    capabilities: Capabilities | None = None
    endpoints: tuple[ImageEndpoint, ...] = ()
    name: str = ""
    input_modalities: tuple[str, ...] | None = None
    canonical_slug: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ImageModel:
        """From an item of the list whose ``endpoints`` (a path there) are replaced by the records behind it."""
        architecture = data.get("architecture")
        inputs = architecture.get("input_modalities") if isinstance(architecture, Mapping) else None
        return cls(
            id=str(data["id"]),
            capabilities=_capabilities(data.get("supported_parameters")),
            endpoints=tuple(
                ImageEndpoint.from_json(item) for item in items(data.get("endpoints")) if isinstance(item, Mapping)
            ),
            name=str(data.get("name") or ""),
            input_modalities=tuple(map(str, inputs)) if isinstance(inputs, (list, tuple)) else None,
            canonical_slug=str(data.get("canonical_slug") or ""),
        )

    def routed(self, provider: Mapping[str, Any] | None) -> tuple[ImageEndpoint, ...]:
        """The endpoints that a request with these ``provider`` preferences may end up at: ``only`` and ``ignore`` say
        so, ``order`` does when ``allow_fallbacks`` is false. One whose name is not known cannot be ruled out."""
        wanted = provider if isinstance(provider, Mapping) else {}
        left: Sequence[ImageEndpoint] = self.endpoints
        only, order = items(wanted.get("only")), items(wanted.get("order"))
        if only:
            left = [each for each in left if _is_among(each, only) is not False]
        if order and wanted.get("allow_fallbacks") is False:
            left = [each for each in left if _is_among(each, order) is not False]
        return tuple(each for each in left if _is_among(each, items(wanted.get("ignore"))) is not True)


def _is_among(endpoint: ImageEndpoint, names: Sequence[object]) -> bool | None:
    answers = [endpoint.is_named(name) for name in names]
    return True if True in answers else None if None in answers else False


def _capabilities(data: object) -> Capabilities | None:
    """None for an empty description: no model takes nothing but a prompt, so it was not filled in."""
    if not isinstance(data, Mapping) or not data:
        return None
    read = {str(name): Capability.from_json(item) for name, item in data.items()}
    return {name: capability for name, capability in read.items() if capability is not None}


def items(value: object) -> Sequence[Any]:
    """The items of a JSON array; none for anything else."""
    return value if isinstance(value, (list, tuple)) else ()
