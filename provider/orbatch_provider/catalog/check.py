"""What a model does not support in a request, found before the API refuses it."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
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

_ALLOWED_LIMIT = 160  # characters of a list of allowed values that a problem repeats
REFERENCE_TYPES = ("image_url", "video_url", "audio_url")
MAX_IMAGES = 10  # of one request, by the API
MAX_COMPRESSION = 100  # percent
MAX_TEMPERATURE = 2
_TRANSPARENT_FORMATS = ("png", "webp")
_ANSWER_FORMATS = {"text": None, "json_object": "response_format", "json_schema": "structured_outputs"}
_PIXELS = re.compile(r"[1-9][0-9]*x[1-9][0-9]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing a model does not support. ``allowed`` is empty where no value would do; ``nearest`` is a suggestion
    and is never applied."""

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


# -- video -------------------------------------------------------------------------------------------------------------


def check_video(request: VideoRequest, model: VideoModel) -> list[Problem]:
    """Everything that ``model`` does not support in ``request``, by the rules the API answers 400 for; [] when it fits.

    A list of values that the catalog gives as null refuses nothing: the record does not say what is supported. A
    capability it gives as null (audio, seed, frames, upscaling, creativity) is one the model does not have.
    """
    problems = [
        *_duration(request.duration, model),
        *_in_list("resolution", request.resolution, model.resolutions, model.id),
        *_in_list("aspect_ratio", request.aspect_ratio, model.aspect_ratios, model.id),
        *_in_list("size", request.size, model.sizes, model.id),
        *_one_size(request),
    ]
    if not request.prompt and request.mode == "text":
        problems.append(Problem("prompt", request.prompt, "is required when there is no image or video to start from"))
    if request.generate_audio and model.generate_audio is not True:
        problems.append(Problem("generate_audio", True, f"{model.id} cannot generate audio", ("false",), "false"))
    if request.seed is not None and model.seed is not True:
        problems.append(Problem("seed", request.seed, f"{model.id} does not support a seed; remove it"))
    options = _passthrough(request.provider, model.id, model.passthrough, lambda _slug: True)
    return [*problems, *_frames(request, model), *_references(request, model), *_upscaling(request, model), *options]


def _duration(value: object, model: VideoModel) -> list[Problem]:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        words = tuple(str(item) for item in sorted(model.durations or ()))
        return [Problem("duration", value, f"{value} is not a whole number of seconds", words)]
    return _in_list("duration", value, model.durations, model.id)


def _frames(request: VideoRequest, model: VideoModel) -> list[Problem]:
    problems = []
    types = [str(item.get("frame_type")) for item in request.frame_images or ()]
    allowed = model.frame_types or ()
    for frame_type in dict.fromkeys(types):
        if frame_type not in allowed:
            message = f"{model.id} does not support a {frame_type}"
            problems.append(Problem("frame_images", frame_type, message, tuple(allowed)))
        if types.count(frame_type) > 1:
            problems.append(Problem("frame_images", frame_type, f"only one {frame_type} can be sent"))
    return problems


def _references(request: VideoRequest, model: VideoModel) -> list[Problem]:
    problems = []
    for kind in dict.fromkeys(str(item.get("type")) for item in request.input_references or ()):
        modality = kind.removesuffix("_url")
        if kind not in REFERENCE_TYPES:
            problems.append(Problem("input_references", kind, f"{kind} is not a type of reference", REFERENCE_TYPES))
        elif model.input_modalities is not None and modality not in model.input_modalities:
            message = f"{model.id} does not support {modality} references"
            problems.append(Problem("input_references", kind, message, model.input_modalities))
    return problems


def _upscaling(request: VideoRequest, model: VideoModel) -> list[Problem]:
    problems = []
    factor, low, high = request.upscale_factor, model.upscale_min, model.upscale_max
    if factor is not None and low is None and high is None:
        problems.append(Problem("upscale_factor", factor, f"{model.id} does not upscale; remove it"))
    elif factor is not None:
        # Without a lower bound any factor above 0 is one.
        problems += _in_range("upscale_factor", factor, low or 0.0, high, model.id)
    if request.creativity is not None and model.creativity is None:
        problems.append(Problem("creativity", request.creativity, f"{model.id} has no such option; remove it"))
    return problems + _in_list("creativity", request.creativity, model.creativity, model.id)


# -- image -------------------------------------------------------------------------------------------------------------

# Fields that a model has or has not, by its record.
_IMAGE_FIELDS = (
    *("resolution", "aspect_ratio", "quality", "output_format", "background", "n", "output_compression", "seed"),
)


def check_image(request: ImageRequest, model: ImageModel) -> list[Problem]:
    """Everything that ``model`` does not support in ``request``; [] when it fits.

    The request has to fit one endpoint that it may be routed to. Where none fits, the problems are those of the
    endpoint that comes nearest. A model of which nothing is known refuses nothing of its own.
    """
    problems = _image_form(request)
    found = {problem.field for problem in problems}
    return problems + [problem for problem in _routed(request, model) if problem.field not in found]


def _image_form(request: ImageRequest) -> list[Problem]:
    """What no image model supports."""
    problems = [] if request.prompt else [Problem("prompt", request.prompt, "is required")]
    if request.n is not None and not _is_whole(request.n, 1, MAX_IMAGES):
        problems.append(Problem("n", request.n, "is not a number of images", (f"1 to {MAX_IMAGES}",)))
    compression = request.output_compression
    if compression is not None and not _is_whole(compression, 0, MAX_COMPRESSION):
        problems.append(Problem("output_compression", compression, "is not a percentage", (f"0 to {MAX_COMPRESSION}",)))
    problems += _one_size(request)
    is_solid = request.output_format is not None and request.output_format not in _TRANSPARENT_FORMATS
    if request.background == "transparent" and is_solid:
        message = f"{request.output_format} has no transparent background"
        problems.append(Problem("output_format", request.output_format, message, _TRANSPARENT_FORMATS, "png"))
    kinds = dict.fromkeys(str(item.get("type")) for item in request.input_references or ())
    return [
        *problems,
        *_no_stream(request),
        *(
            Problem("input_references", kind, f"{kind} is not an image", ("image_url",), "image_url")
            for kind in kinds
            if kind != "image_url"
        ),
    ]


def _routed(request: ImageRequest, model: ImageModel) -> list[Problem]:
    if not model.endpoints:
        return _fields(request, model.id, model.capabilities)
    routed = model.routed(request.provider)
    if not routed:
        names = tuple(dict.fromkeys(each.provider_slug for each in model.endpoints if each.provider_slug))
        return [Problem("provider", request.provider, f"no endpoint of {model.id} is left", names)]
    return min((_endpoint(request, model.id, each) for each in routed), key=len)


def _endpoint(request: ImageRequest, model: str, endpoint: ImageEndpoint) -> list[Problem]:
    # Options of another endpoint are not for this one; where the record names no provider, they may be.
    options = _passthrough(
        request.provider, model, endpoint.passthrough, lambda slug: endpoint.is_named(slug) is not False
    )
    return [*_fields(request, model, endpoint.capabilities), *options]


def _fields(request: ImageRequest, model: str, capabilities: Capabilities | None) -> list[Problem]:
    if capabilities is None:
        return []
    values = {name: getattr(request, name) for name in _IMAGE_FIELDS}
    values["input_references"] = len(request.input_references or ()) or None
    problems = []
    for name, value in values.items():
        # Every model makes one image, whether it has the field or not.
        if value is not None and (name, value) != ("n", 1):
            problems += _value(name, value, capabilities.get(name), model)
    return [*problems, *_size(request.size, capabilities, model)]


def _value(name: str, value: object, capability: Capability | None, model: str) -> list[Problem]:
    if capability is None:
        return [Problem(name, value, f"{model} has no such option; remove it")]
    if capability.kind == "enum":
        return _in_list(name, value, capability.values, model)
    return _in_range(name, value, capability.low, capability.high, model) if capability.kind == "range" else []


def _size(size: str | None, capabilities: Capabilities, model: str) -> list[Problem]:
    """A tier is a resolution under another name; pixels are refused only by a model that lists its sizes."""
    listed = capabilities.get("size")
    if not size or (listed is None and _PIXELS.fullmatch(size)):
        return []
    return _value("size", size, listed or capabilities.get("resolution"), model)


# -- text --------------------------------------------------------------------------------------------------------------


def check_text(request: TextRequest, model: TextModel) -> list[Problem]:
    """Everything that ``model`` does not support in ``request``; [] when it fits.

    Where the record lists no parameters it refuses nothing. Whether the prompt fits the model's context is not
    checked: its tokens are not known here.
    """
    kind = _answer_format(request)
    problems = [*_messages(request), *_numbers(request, model)]
    if kind is not None and kind not in _ANSWER_FORMATS:
        problems.append(Problem("response_format", kind, f"{kind} is not a type of answer", tuple(_ANSWER_FORMATS)))
    problems += _no_stream(request)
    if model.capabilities is None:
        return problems
    needs = _ANSWER_FORMATS.get(kind or "")
    if needs is not None and needs not in model.capabilities:
        problems.append(Problem("response_format", kind, f"{model.id} does not promise {kind} answers"))
    return problems + [
        Problem(name, getattr(request, name), f"{model.id} would ignore it; remove it")
        for name in ("max_tokens", "temperature", "seed")
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
    if tokens is not None and not _is_whole(tokens, 1, math.inf):
        problems.append(Problem("max_tokens", tokens, f"{tokens} is not a whole number of tokens above 0"))
    elif tokens is not None and most is not None and tokens > most:
        message = f"{model.id} writes at most {most}"
        problems.append(Problem("max_tokens", tokens, message, (f"1 to {most}",), str(most)))
    temperature = request.temperature
    if temperature is not None and not _is_between(0, temperature, MAX_TEMPERATURE):
        problems.append(Problem("temperature", temperature, "is out of range", (f"0 to {MAX_TEMPERATURE}",)))
    return problems


def _answer_format(request: TextRequest) -> str | None:
    wanted = request.response_format
    if wanted is None:
        return None
    return str(wanted.get("type")) if isinstance(wanted, Mapping) else str(wanted)


# -- rules of several kinds --------------------------------------------------------------------------------------------


def _one_size(request: VideoRequest | ImageRequest) -> list[Problem]:
    if request.size and (request.resolution or request.aspect_ratio):
        return [Problem("size", request.size, "send either size, or resolution and aspect_ratio, not both")]
    return []


def _no_stream(request: ImageRequest | TextRequest) -> list[Problem]:
    return (
        [Problem("stream", True, "streamed answers are not supported; remove it")]
        if request.extra.get("stream")
        else []
    )


def _in_list(name: str, value: object, allowed: Sequence[object] | None, model: str) -> list[Problem]:
    if value is None or allowed is None or value in allowed or str(value) in allowed:
        return []
    words = tuple(str(item) for item in sorted(allowed, key=natural))
    return [Problem(name, value, f"{model} does not offer {value}", words, nearest(value, allowed))]


def _in_range(name: str, value: object, low: float | None, high: float | None, model: str) -> list[Problem]:
    if _is_between(low, value, high):
        return []
    number = number_of(value)
    bound = None if number is None else low if low is not None and number < low else high
    allowed = " to ".join("any" if each is None else f"{each:g}" for each in (low, high))
    return [
        Problem(name, value, f"{model} does not offer {value}", (allowed,), None if bound is None else f"{bound:g}")
    ]


def _passthrough(
    provider: Mapping[str, object] | None, model: str, allowed: Sequence[str], concerns: Callable[[object], bool]
) -> list[Problem]:
    """The ``provider.options`` that the model would drop; ``concerns`` says whether those of a slug are for it."""
    options = (provider or {}).get("options")
    blocks = options.items() if isinstance(options, Mapping) else ()
    return [
        Problem(
            f"provider.options.{slug}.{name}",
            value,
            f"{model} would ignore it",
            tuple(allowed),
            next(iter(difflib.get_close_matches(str(name), allowed, n=1)), None),
        )
        for slug, block in blocks
        if isinstance(block, Mapping) and concerns(slug)
        for name, value in block.items()
        if name not in allowed
    ]


def _is_whole(value: object, low: int, high: float) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_between(low: float | None, value: object, high: float | None) -> bool:
    number = number_of(value)
    return number is not None and (low is None or number >= low) and (high is None or number <= high)


# -- the value that a refused one most likely means --------------------------------------------------------------------


def nearest(value: object, allowed: Sequence[object]) -> str | None:
    """The allowed value that ``value`` most likely means: the next number or size, or the same word written
    differently."""
    if isinstance(value, int):
        numbers = [item for item in allowed if isinstance(item, int)]
        return str(min(numbers, key=lambda item: (abs(item - value), item))) if numbers else None
    if isinstance(value, str) and "x" in value.lower():
        return _nearest_size(value, allowed)
    words = [str(item) for item in allowed]
    by_case = [word for word in words if word.lower() == str(value).lower()]
    wanted, numbered = natural(value)[0], [word for word in words if natural(word)[0]]
    if not by_case and wanted and numbered:
        return min(numbered, key=lambda word: abs(natural(word)[0] - wanted))
    return next(iter(by_case or difflib.get_close_matches(str(value).lower(), words, n=1)), None)


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
