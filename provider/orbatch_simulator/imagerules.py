"""Which image requests the service refuses, and which endpoint takes the others.

Written from the API's description and the endpoints' records alone, not with ``catalog.check_image``, so that a mistake
in the one cannot hide in the other. Fields that the API does not know are accepted and ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from orbatch_provider.catalog import Capability, ImageEndpoint, ImageModel
from orbatch_simulator.answers import RefusedError
from orbatch_simulator.rules import MAX_SESSION_ID, check_item, invalid, is_of

RESOLUTIONS = ("512", "768", "1K", "1.5K", "2K", "4K")
ASPECT_RATIOS = (
    "1:1", "1:2", "1:4", "1:8", "2:1", "2:3", "2.35:1", "3:2", "3:4", "4:1", "4:3", "4:5", "5:2", "5:4", "5:7", "7:5",
    "8:1", "9:16", "16:9", "9:19.5", "19.5:9", "9:20", "20:9", "9:21", "21:9", "auto",
)  # fmt: skip
_ENUMS: Mapping[str, tuple[str, ...]] = {
    "resolution": RESOLUTIONS,
    "aspect_ratio": ASPECT_RATIOS,
    "quality": ("auto", "low", "medium", "high", "xhigh", "max"),
    "output_format": ("png", "jpeg", "webp", "svg"),
    "background": ("auto", "transparent", "opaque"),
}
_RANGES: Mapping[str, tuple[int, int]] = {"n": (1, 10), "output_compression": (0, 100)}
_SIZE = re.compile(r"[1-9][0-9]{1,4}x[1-9][0-9]{1,4}")

_TYPES: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    **dict.fromkeys(("model", "prompt", "size", "user", "session_id", *_ENUMS), ("a string", is_of(str))),
    **dict.fromkeys(("seed", *_RANGES), ("an integer", is_of(int))),
    "stream": ("a boolean", is_of(bool)),
    "input_references": ("an array", is_of(list)),
    "provider": ("an object", is_of(dict)),
    "trace": ("an object", is_of(dict)),
}


def check_form(body: object) -> Mapping[str, Any]:
    """The body, when it has the right shape; raises RefusedError 400. What a model supports is another question."""
    if not isinstance(body, dict):
        raise invalid("The request body must be a JSON object")
    for name, value in body.items():
        if name in _TYPES and not _TYPES[name][1](value):
            raise invalid(f"{name}: expected {_TYPES[name][0]}")
    for name in ("model", "prompt"):
        if not body.get(name):
            raise invalid(f"{name}: required", "invalid_prompt" if name == "prompt" else None)
    for name, allowed in _ENUMS.items():
        if name in body and body[name] not in allowed:
            raise invalid(f"{name}: must be one of {', '.join(allowed)}")
    for name, (low, high) in _RANGES.items():
        if name in body and not low <= body[name] <= high:
            raise invalid(f"{name}: must be from {low} to {high}")
    _check_together(body)
    return body


def choose_endpoint(body: Mapping[str, Any], model: ImageModel) -> ImageEndpoint:
    """The first endpoint that the preferences leave and that supports the request. Raises RefusedError: 404 when the
    preferences leave none, 400 with the first thing that the first one left does not support."""
    left = [endpoint for endpoint in model.endpoints if _is_allowed(endpoint, body.get("provider", {}))]
    if not left:
        raise RefusedError(404, f"No endpoints found for {model.id} that match the provider preferences")
    problems = [_first_problem(body, endpoint) for endpoint in left]
    for endpoint, problem in zip(left, problems, strict=True):
        if problem is None:
            return endpoint
    raise invalid(f"{problems[0]} (model {model.id})")


def _check_together(body: Mapping[str, Any]) -> None:
    size = body.get("size")
    if size is not None and not _SIZE.fullmatch(size) and size not in RESOLUTIONS:
        raise invalid("size: must be a tier or WIDTHxHEIGHT in pixels")
    if size is not None and ("resolution" in body or "aspect_ratio" in body):
        raise invalid("size: conflicts with resolution or aspect_ratio")
    if body.get("background") == "transparent" and body.get("output_format", "png") not in ("png", "webp"):
        raise invalid("background: transparent needs output_format png or webp")
    if body.get("stream"):
        raise invalid("stream: this endpoint does not support streaming")
    if len(body.get("session_id", "")) > MAX_SESSION_ID:
        raise invalid(f"session_id: at most {MAX_SESSION_ID} characters")
    for item in body.get("input_references", []):
        check_item("input_references", item, ("image_url",))
    provider = body.get("provider", {})
    for name in ("only", "order", "ignore"):
        slugs = provider.get(name)
        if slugs is not None and not (isinstance(slugs, list) and all(isinstance(slug, str) for slug in slugs)):
            raise invalid(f"provider.{name}: expected an array of strings")


def _is_allowed(endpoint: ImageEndpoint, provider: Mapping[str, Any]) -> bool:
    def is_in(names: object) -> bool:
        return isinstance(names, list) and any(
            endpoint.provider_slug == name or endpoint.provider_slug.startswith(f"{name}/") for name in names
        )

    if provider.get("only") and not is_in(provider["only"]):
        return False
    if provider.get("order") and provider.get("allow_fallbacks") is False and not is_in(provider["order"]):
        return False
    return not is_in(provider.get("ignore"))


def _first_problem(body: Mapping[str, Any], endpoint: ImageEndpoint) -> str | None:
    """None for an endpoint of which nothing is known."""
    offered = endpoint.capabilities
    if offered is None:
        return None
    asked: dict[str, Any] = {name: body[name] for name in (*_ENUMS, *_RANGES, "seed") if name in body}
    if asked.get("n") == 1:  # what every endpoint does, also one that has no such field
        del asked["n"]
    if body.get("input_references"):
        asked["input_references"] = len(body["input_references"])
    if body.get("size") in RESOLUTIONS:
        asked["resolution"] = body["size"]
    return next(
        (f"{name}: does not support {value!r}" for name, value in asked.items() if not _fits(value, offered.get(name))),
        None,
    )


def _fits(value: Any, capability: Capability | None) -> bool:
    if capability is None:
        return False
    if capability.kind == "enum":
        return value in capability.values
    if capability.kind == "range":
        return (capability.low is None or value >= capability.low) and (
            capability.high is None or value <= capability.high
        )
    return True
