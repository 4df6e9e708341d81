"""What an image model does not support in a request, before the API refuses it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from orbatch_provider.catalog.checks import Problem
from orbatch_provider.catalog.imagemodels import Capabilities, Capability, ImageEndpoint, ImageModel
from orbatch_provider.catalog.nearest import natural, nearest
from orbatch_provider.requests import ImageRequest

MAX_IMAGES = 10  # of one request, by the API
MAX_COMPRESSION = 100  # percent

# Fields that a model has or has not, by its record.
_BY_MODEL = ("resolution", "aspect_ratio", "quality", "output_format", "background", "n", "output_compression", "seed")
_PIXELS = re.compile(r"[1-9][0-9]*x[1-9][0-9]*", re.IGNORECASE)
_TRANSPARENT_FORMATS = ("png", "webp")


def check_image(request: ImageRequest, model: ImageModel) -> list[Problem]:
    """All that ``model`` does not support in ``request``; [] when it fits.

    The request has to fit one endpoint that it may be routed to. Where none fits, the problems are those of the
    endpoint that comes nearest. A model of which nothing is known refuses nothing of its own.
    """
    problems = _form(request)
    found = {problem.field for problem in problems}
    return problems + [problem for problem in _capabilities(request, model) if problem.field not in found]


def _form(request: ImageRequest) -> list[Problem]:
    """What no model takes."""
    problems = []
    if not request.prompt:
        problems.append(Problem("prompt", request.prompt, "is required"))
    if request.n is not None and not _is_whole(request.n, 1, MAX_IMAGES):
        problems.append(Problem("n", request.n, "is not a number of pictures", (f"1 to {MAX_IMAGES}",)))
    compression = request.output_compression
    if compression is not None and not _is_whole(compression, 0, MAX_COMPRESSION):
        problems.append(Problem("output_compression", compression, "is no percentage", (f"0 to {MAX_COMPRESSION}",)))
    if request.size and (request.resolution or request.aspect_ratio):
        problems.append(Problem("size", request.size, "send either size, or resolution and aspect_ratio, not both"))
    is_solid = request.output_format is not None and request.output_format not in _TRANSPARENT_FORMATS
    if request.background == "transparent" and is_solid:
        message = f"{request.output_format} has no transparent background"
        problems.append(Problem("output_format", request.output_format, message, _TRANSPARENT_FORMATS, "png"))
    if request.extra.get("stream"):
        problems.append(Problem("stream", True, "pictures are not read from a stream; leave it out"))
    kinds = dict.fromkeys(str(item.get("type")) for item in request.input_references or ())
    return problems + [
        Problem("input_references", kind, f"{kind} is no picture", ("image_url",), "image_url")
        for kind in kinds
        if kind != "image_url"
    ]


def _capabilities(request: ImageRequest, model: ImageModel) -> list[Problem]:
    if not model.endpoints:
        return _fields(request, model.id, model.capabilities)
    routed = model.routed(request.provider)
    if not routed:
        names = tuple(dict.fromkeys(each.provider_slug for each in model.endpoints if each.provider_slug))
        return [Problem("provider", request.provider, f"no endpoint of {model.id} is left", names)]
    return min((_endpoint(request, model, each) for each in routed), key=len)


def _endpoint(request: ImageRequest, model: ImageModel, endpoint: ImageEndpoint) -> list[Problem]:
    return [*_fields(request, model.id, endpoint.capabilities), *_passthrough(request, model.id, endpoint)]


def _fields(request: ImageRequest, model: str, capabilities: Capabilities | None) -> list[Problem]:
    if capabilities is None:
        return []
    problems = []
    for name in _BY_MODEL:
        value = getattr(request, name)
        # One picture is what every model makes, whether it has the field or not.
        if value is not None and (name, value) != ("n", 1):
            problems += _value(name, value, capabilities.get(name), model)
    references = len(request.input_references or ())
    if references:
        problems += _value("input_references", references, capabilities.get("input_references"), model)
    return [*problems, *_size(request, capabilities, model)]


def _value(name: str, value: object, capability: Capability | None, model: str) -> list[Problem]:
    if capability is None:
        return [Problem(name, value, f"{model} has no such choice; leave it out")]
    if capability.kind == "enum" and str(value) not in capability.values:
        words = tuple(sorted(capability.values, key=natural))
        return [Problem(name, value, f"{model} does not offer {value}", words, _nearest(value, capability.values))]
    if capability.kind == "range" and not _is_between(capability.low, value, capability.high):
        low, high = ("any" if bound is None else f"{bound:g}" for bound in (capability.low, capability.high))
        near = capability.high if isinstance(value, (int, float)) and value > 0 else capability.low
        suggestion = None if near is None else f"{near:g}"
        return [Problem(name, value, f"{model} does not offer {value}", (f"{low} to {high}",), suggestion)]
    return []


def _size(request: ImageRequest, capabilities: Capabilities, model: str) -> list[Problem]:
    """A tier is a resolution under another name; pixels are refused only by a model that lists its sizes."""
    if not request.size:
        return []
    listed = capabilities.get("size")
    if listed is not None:
        return _value("size", request.size, listed, model)
    if _PIXELS.fullmatch(request.size):
        return []
    return _value("size", request.size, capabilities.get("resolution"), model)


def _passthrough(request: ImageRequest, model: str, endpoint: ImageEndpoint) -> list[Problem]:
    options = (request.provider or {}).get("options")
    problems = []
    for slug, block in options.items() if isinstance(options, Mapping) else ():
        if endpoint.is_named(slug) is False:
            continue
        for name in block if isinstance(block, Mapping) else ():
            if name not in endpoint.passthrough:
                close = difflib.get_close_matches(str(name), endpoint.passthrough, n=1)
                message = f"{model} would drop it silently"
                where = f"provider.options.{slug}.{name}"
                problems.append(Problem(where, block[name], message, endpoint.passthrough, close[0] if close else None))
    return problems


def _nearest(value: object, allowed: Sequence[str]) -> str | None:
    close = difflib.get_close_matches(str(value).lower(), allowed, n=1)
    return nearest(value, allowed) or (close[0] if close else None)


def _is_whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_between(low: float | None, value: object, high: float | None) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return (low is None or value >= low) and (high is None or value <= high)
