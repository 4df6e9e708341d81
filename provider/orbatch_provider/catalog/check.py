"""What an image model does not support in a request, before the API refuses it."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orbatch_provider.catalog.models import (
    Capabilities,
    Capability,
    ImageEndpoint,
    ImageModel,
    TextModel,
    VideoModel,
    number_of,
)
from orbatch_provider.requests import ImageRequest, TextRequest, VideoRequest


def nearest(value: object, allowed: Sequence[object]) -> str | None:
    if not allowed:
        return None
    if isinstance(value, int):
        numbers = [item for item in allowed if isinstance(item, int)]
        return str(min(numbers, key=lambda item: (abs(item - value), item))) if numbers else None
    if isinstance(value, str) and "x" in value.lower():
        return _nearest_size(value, allowed)
    wanted = natural(value)
    by_case = [str(item) for item in allowed if str(item).lower() == str(value).lower()]
    if by_case:
        return by_case[0]
    if wanted[0]:
        numbered = [item for item in allowed if natural(item)[0]]
        if numbered:
            return str(min(numbered, key=lambda item: abs(natural(item)[0] - wanted[0])))
    return None


def _nearest_size(value: str, allowed: Sequence[object]) -> str | None:
    """The size with the most similar sides, so that a wide one is never offered for a tall one of as many pixels."""
    wanted = _sides(value)
    sizes = {str(item): _sides(str(item)) for item in allowed}
    distance = {
        name: abs(math.log(sides[0] / wanted[0])) + abs(math.log(sides[1] / wanted[1]))
        for name, sides in sizes.items()
        if sides and wanted
    }
    return min(distance, key=distance.__getitem__, default=None)


def _sides(size: str) -> tuple[int, int] | None:
    width, _, height = size.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()) or not (int(width) and int(height)):
        return None
    return int(width), int(height)


def natural(value: object) -> tuple[float, str]:
    """Sort key and distance of a capability value: lines for 720p, 2K and 1280x720, width / height for 16:9."""
    text = str(value).lower()
    head, separator, tail = text.partition(":")
    try:
        if separator:
            return float(head) / float(tail), text
        if text.endswith("k"):
            return 720 + 360 * float(text[:-1]), text  # 2K is 1440 lines, 4K is 2160
        width, separator, height = text.partition("x")
        if separator:
            return float(width) * float(height), text
        return float(text.removesuffix("p")), text
    except (ValueError, ZeroDivisionError):
        return 0.0, text


# The largest number of characters of a list of allowed values that a problem repeats.
_ALLOWED_LIMIT = 160
REFERENCE_TYPES = ("image_url", "video_url", "audio_url")


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

    A list of values that the catalog gives as null refuses nothing: the record does not say what is supported. A
    capability it gives as null (sound, seed, frames, upscaling, creativity) is one the model does not have.
    """
    problems = [
        *_duration(request.duration, model),
        *_in_list("resolution", request.resolution, model.resolutions, model),
        *_in_list("aspect_ratio", request.aspect_ratio, model.aspect_ratios, model),
        *_in_list("size", request.size, model.sizes, model),
    ]
    if request.size and (request.resolution or request.aspect_ratio):
        problems.append(Problem("size", request.size, "send either size, or resolution and aspect_ratio, not both"))
    if not request.prompt and request.mode == "text":
        problems.append(Problem("prompt", request.prompt, "is required when there is no image or video to start from"))
    if request.generate_audio and model.generate_audio is not True:
        problems.append(Problem("generate_audio", True, f"{model.id} makes no sound on request", ("false",), "false"))
    if request.seed is not None and model.seed is not True:
        problems.append(Problem("seed", request.seed, f"{model.id} takes no seed; leave it out"))
    return [
        *problems,
        *_frames(request, model),
        *_references(request, model),
        *_upscaling(request, model),
        *_passthrough(request, model),
    ]


def _duration(value: object, model: VideoModel) -> list[Problem]:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        words = tuple(str(item) for item in sorted(model.durations or ()))
        return [Problem("duration", value, f"{value} is not a whole number of seconds", words)]
    return _in_list("duration", value, model.durations, model)


def _in_list(name: str, value: object, allowed: Sequence[object] | None, model: VideoModel) -> list[Problem]:
    if value is None or allowed is None or value in allowed:
        return []
    words = tuple(str(item) for item in sorted(allowed, key=natural))
    return [Problem(name, value, f"{model.id} does not offer {value}", words, nearest(value, allowed))]


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


def _references(request: VideoRequest, model: VideoModel) -> list[Problem]:
    problems = []
    for kind in dict.fromkeys(str(item.get("type")) for item in request.input_references or ()):
        modality = kind.removesuffix("_url")
        if kind not in REFERENCE_TYPES:
            problems.append(Problem("input_references", kind, f"{kind} is no type of reference", REFERENCE_TYPES))
        elif model.input_modalities is not None and modality not in model.input_modalities:
            message = f"{model.id} takes no {modality}"
            problems.append(Problem("input_references", kind, message, model.input_modalities))
    return problems


def _upscaling(request: VideoRequest, model: VideoModel) -> list[Problem]:
    problems = []
    factor, low, high = request.upscale_factor, model.upscale_min, model.upscale_max
    if factor is not None and low is None and high is None:
        problems.append(Problem("upscale_factor", factor, f"{model.id} does not upscale; leave it out"))
    elif factor is not None and not _is_between(low, factor, high):
        allowed = f"{0 if low is None else low:g} to {'any' if high is None else format(high, 'g')}"
        nearest = None if number_of(factor) is None else low if low is not None and factor < low else high
        suggestion = None if nearest is None else f"{nearest:g}"
        message = f"{model.id} does not offer {factor}"
        problems.append(Problem("upscale_factor", factor, message, (allowed,), suggestion))
    if request.creativity is not None and model.creativity is None:
        problems.append(Problem("creativity", request.creativity, f"{model.id} has no such choice; leave it out"))
    return problems + _in_list("creativity", request.creativity, model.creativity, model)


def _is_between(low: float | None, value: object, high: float | None) -> bool:
    number = number_of(value)
    return number is not None and (number > 0 if low is None else number >= low) and (high is None or number <= high)


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
    return [*_fields(request, model.id, endpoint.capabilities), *_passthrough_imagechecks(request, model.id, endpoint)]


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
    if capability.kind == "range" and not _is_between_imagechecks(capability.low, value, capability.high):
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


def _passthrough_imagechecks(request: ImageRequest, model: str, endpoint: ImageEndpoint) -> list[Problem]:
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


def _is_between_imagechecks(low: float | None, value: object, high: float | None) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return (low is None or value >= low) and (high is None or value <= high)


MAX_TEMPERATURE = 2

# Fields that a model lists among its parameters, or drops without a word.
_BY_MODEL_textchecks = ("max_tokens", "temperature", "seed")
_FORMATS = {"text": None, "json_object": "response_format", "json_schema": "structured_outputs"}


def check_text(request: TextRequest, model: TextModel) -> list[Problem]:
    """All that ``model`` does not support in ``request``; [] when it fits.

    Where the record lists no parameters it refuses nothing. Whether the prompt fits the model's context is not
    checked: its tokens are not known here.
    """
    problems = [*_messages(request), *_numbers(request, model), *_format(request)]
    if request.extra.get("stream"):
        problems.append(Problem("stream", True, "text is not read from a stream; leave it out"))
    if model.capabilities is None:
        return problems
    kind = _format_of(request)
    needs = _FORMATS.get(kind or "")
    if needs is not None and needs not in model.capabilities:
        problems.append(Problem("response_format", kind, f"{model.id} does not promise {kind} answers"))
    return problems + [
        Problem(name, getattr(request, name), f"{model.id} would drop it silently; leave it out")
        for name in _BY_MODEL_textchecks
        if getattr(request, name) is not None and name not in model.capabilities
    ]


def _messages(request: TextRequest) -> list[Problem]:
    messages = request.all_messages()
    if not any(isinstance(item, Mapping) and item.get("content") and item.get("role") != "system" for item in messages):
        return [Problem("prompt", request.prompt, "is required")]
    return []


def _numbers(request: TextRequest, model: TextModel) -> list[Problem]:
    problems = []
    tokens, most = request.max_tokens, model.max_completion_tokens
    if tokens is not None and (isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1):
        problems.append(Problem("max_tokens", tokens, f"{tokens} is not a whole number of tokens above 0"))
    elif tokens is not None and most is not None and tokens > most:
        message = f"{model.id} writes at most {most}"
        problems.append(Problem("max_tokens", tokens, message, (f"1 to {most}",), str(most)))
    temperature = request.temperature
    if temperature is not None and not 0 <= (_number(temperature)) <= MAX_TEMPERATURE:
        problems.append(Problem("temperature", temperature, "is out of range", (f"0 to {MAX_TEMPERATURE}",)))
    return problems


def _format(request: TextRequest) -> list[Problem]:
    kind = _format_of(request)
    if request.response_format is None or kind in _FORMATS:
        return []
    return [Problem("response_format", kind, f"{kind} is no type of answer", tuple(_FORMATS))]


def _format_of(request: TextRequest) -> str | None:
    wanted = request.response_format
    if wanted is None:
        return None
    return str(wanted.get("type")) if isinstance(wanted, Mapping) else str(wanted)


def _number(value: object) -> float:
    number = number_of(value)
    return math.inf if number is None else number
