"""Video models and what they can do. Unknown fields and new models never break it."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

from orbatch_provider.requests import VideoRequest, strip_prefix

T = TypeVar("T")

# The largest number of characters of a list of allowed values that a problem repeats.
_ALLOWED_LIMIT = 160


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

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> VideoModel:
        upscale = data.get("upscale_factor")
        upscale = upscale if isinstance(upscale, Mapping) else {}
        prices = data.get("pricing_skus")
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
            upscale_min=_number(upscale.get("min")),
            upscale_max=_number(upscale.get("max")),
            creativity=_tuple(data.get("creativity"), int),
            passthrough=_tuple(data.get("allowed_passthrough_parameters"), str) or (),
            # A price that is no string is kept as text, so that the price engine can call the line unknown.
            prices={str(key): str(value) for key, value in prices.items()} if isinstance(prices, Mapping) else {},
            name=str(data.get("name") or ""),
        )


@dataclass(frozen=True, slots=True)
class Catalog:
    """The models of one reading. ``captured_at`` is UTC; ``source`` says where it was read; ``digest`` names the
    content (``sha256:...`` over ids, capabilities and prices), so that two readings can be compared."""

    models: Mapping[str, VideoModel]
    captured_at: datetime
    source: str
    digest: str

    @classmethod
    def from_json(cls, body: Mapping[str, Any], *, captured_at: datetime, source: str) -> Catalog:
        """From the body of ``GET /videos/models``; entries without an id are passed over."""
        records = [item for item in body.get("data") or () if isinstance(item, Mapping) and item.get("id")]
        models = {model.id: model for model in map(VideoModel.from_json, records)}
        canonical = json.dumps(sorted(records, key=lambda item: str(item["id"])), sort_keys=True, default=str)
        return cls(models, captured_at, source, "sha256:" + hashlib.sha256(canonical.encode()).hexdigest())

    def find(self, model: str) -> VideoModel | None:
        """The record for an id, a dated canonical slug, or either with the ``openrouter/`` prefix."""
        name = strip_prefix(model)
        found = self.models.get(name)
        if found is not None:
            return found
        return next((entry for entry in self.models.values() if entry.canonical_slug == name), None)

    def nearest(self, model: str) -> str | None:
        """The id that a misspelt one most likely means."""
        close = difflib.get_close_matches(strip_prefix(model), self.models, n=1, cutoff=0.6)
        return close[0] if close else None


@cache
def snapshot() -> Catalog:
    """The catalog packaged with this release: the last resort for prices, and the simulator's catalog."""
    body = json.loads(files("orbatch_provider").joinpath("data/videos-models.json").read_text("utf-8"))
    captured_at = datetime.fromisoformat(body["captured_at"]).astimezone(UTC)
    return Catalog.from_json(body, captured_at=captured_at, source="packaged snapshot")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing a model does not support. ``allowed`` is empty where no value would do; ``nearest`` is a suggestion,
    never applied by itself."""

    field: str
    value: object
    message: str
    allowed: tuple[str, ...] = ()
    nearest: str | None = None

    def __str__(self) -> str:
        text = f"{self.field}: {self.message}"
        if self.allowed:
            allowed = ", ".join(self.allowed)
            text += f"; allowed: {allowed if len(allowed) <= _ALLOWED_LIMIT else allowed[:_ALLOWED_LIMIT] + ' …'}"
        return f"{text}; nearest: {self.nearest}" if self.nearest else text


def check(request: VideoRequest, model: VideoModel) -> list[Problem]:
    """All that ``model`` does not support in ``request``, by the rules the API answers 400 for; [] when it fits.

    A list that the catalog gives as null refuses nothing: the record does not say what is supported.
    """
    problems = [
        *_in_list("duration", request.duration, model.durations, model),
        *_in_list("resolution", request.resolution, model.resolutions, model),
        *_in_list("aspect_ratio", request.aspect_ratio, model.aspect_ratios, model),
        *_in_list("size", request.size, model.sizes, model),
        *_in_list("creativity", request.creativity, model.creativity, model),
    ]
    if request.size and (request.resolution or request.aspect_ratio):
        problems.append(Problem("size", request.size, "send either size, or resolution and aspect_ratio, not both"))
    if not request.prompt and request.mode == "text":
        problems.append(Problem("prompt", request.prompt, "is required when there is no image or video to start from"))
    if request.generate_audio and model.generate_audio is not True:
        problems.append(Problem("generate_audio", True, f"{model.id} makes no sound", ("false",), "false"))
    if request.seed is not None and model.seed is not True:
        problems.append(Problem("seed", request.seed, f"{model.id} takes no seed; leave it out"))
    problems += _frames(request, model)
    if request.upscale_factor is not None:
        problems += _upscale(request.upscale_factor, model)
    return problems + _passthrough(request, model)


def _in_list(name: str, value: object, allowed: Sequence[object] | None, model: VideoModel) -> list[Problem]:
    if value is None or allowed is None or value in allowed:
        return []
    words = tuple(str(item) for item in sorted(allowed, key=_natural))
    return [Problem(name, value, f"{model.id} does not offer {value}", words, _nearest(value, allowed))]


def _frames(request: VideoRequest, model: VideoModel) -> list[Problem]:
    problems = []
    types = [str(item.get("frame_type")) for item in request.frame_images or ()]
    allowed = model.frame_types or ()
    for frame_type in dict.fromkeys(types):
        if frame_type not in allowed:
            problems.append(Problem("frame_images", frame_type, f"{model.id} takes no {frame_type}", tuple(allowed)))
        if types.count(frame_type) > 1:
            problems.append(Problem("frame_images", frame_type, f"only one {frame_type} can be sent"))
    return problems


def _upscale(factor: float, model: VideoModel) -> list[Problem]:
    low, high = model.upscale_min, model.upscale_max
    if (low is None or factor >= low) and (high is None or factor <= high):
        return []
    nearest = low if low is not None and factor < low else high
    return [
        Problem("upscale_factor", factor, f"{model.id} does not offer {factor}", (f"{low} to {high}",), str(nearest))
    ]


def _passthrough(request: VideoRequest, model: VideoModel) -> list[Problem]:
    options = (request.provider or {}).get("options")
    if not isinstance(options, Mapping):
        return []
    problems = []
    for slug, block in options.items():
        for name in block if isinstance(block, Mapping) else ():
            if name not in model.passthrough:
                close = difflib.get_close_matches(str(name), model.passthrough, n=1)
                where = f"provider.options.{slug}.{name}"
                message = f"{model.id} would drop it silently"
                problems.append(Problem(where, block[name], message, model.passthrough, close[0] if close else None))
    return problems


def _nearest(value: object, allowed: Sequence[object]) -> str | None:
    if not allowed:
        return None
    if isinstance(value, int):
        numbers = [item for item in allowed if isinstance(item, int)]
        return str(min(numbers, key=lambda item: (abs(item - value), item))) if numbers else None
    wanted = _natural(value)
    by_case = [str(item) for item in allowed if str(item).lower() == str(value).lower()]
    if by_case:
        return by_case[0]
    if wanted[0]:
        numbered = [item for item in allowed if _natural(item)[0]]
        if numbered:
            return str(min(numbered, key=lambda item: abs(_natural(item)[0] - wanted[0])))
    return None


def _natural(value: object) -> tuple[float, str]:
    """Sort key and distance of a capability value: lines for 720p, 2K and 1280x720, width / height for 16:9."""
    text = str(value).lower()
    head, separator, tail = text.partition(":")
    try:
        if separator:
            return float(head) / float(tail), text
        if text.endswith("k"):
            return float(text[:-1]) * 720, text
        width, separator, height = text.partition("x")
        if separator:
            return float(width) * float(height), text
        return float(text.removesuffix("p")), text
    except (ValueError, ZeroDivisionError):
        return 0.0, text


def _tuple(value: object, kind: type[T]) -> tuple[T, ...] | None:
    if not isinstance(value, list):
        return None
    return tuple(item for item in value if isinstance(item, kind) and not isinstance(item, bool))


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
