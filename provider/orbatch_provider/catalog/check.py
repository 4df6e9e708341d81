"""What a model does not support in a request, found before the API refuses it."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from orbatch_provider.requests import ImageRequest, TextRequest, VideoRequest, named_fields

_ALLOWED_LIMIT = 160  # characters of a list of allowed values that a problem repeats
REFERENCE_TYPES = ("image_url", "video_url", "audio_url")
MAX_IMAGES = 10  # of one request, by the API
MAX_COMPRESSION = 100  # percent
MAX_TEMPERATURE = 2
_TRANSPARENT_FORMATS = ("png", "webp")
# What a model must list for each type of answer.
_ANSWER_FORMATS = {"text": None, "json_object": "response_format", "json_schema": "structured_outputs"}
_IMAGE_FIELDS = (
    *("resolution", "aspect_ratio", "quality", "output_format", "background", "n", "output_compression", "seed"),
)
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


def check_video(request: VideoRequest, model: VideoModel) -> list[Problem]:
    """Everything that ``model`` does not support in ``request``, by the rules the API answers 400 for; [] when it fits.

    A list of values that the catalog gives as null refuses nothing: the record does not say what is supported. A
    capability it gives as null (audio, seed, frames, upscaling, creativity) is one the model does not have.
    """
    options = _passthrough(request.provider, model.id, model.passthrough, lambda _slug: True)
    inputs = [*_frames(request, model), *_references(request, model)]
    return [*_misspelt(request), *_video_fields(request, model), *inputs, *_upscaling(request, model), *options]


def _misspelt(request: VideoRequest) -> Iterator[Problem]:
    """Fields that the API does not have and would ignore, where another one was meant."""
    for name, value in request.extra.items():
        for near in difflib.get_close_matches(name, named_fields(VideoRequest), n=1, cutoff=0.75):
            yield Problem(name, value, "is not a field of the API", nearest=near)


def _video_fields(request: VideoRequest, model: VideoModel) -> Iterator[Problem]:
    if request.duration is not None and not _is_whole(request.duration, 1):
        words = tuple(map(str, sorted(model.durations or ())))
        yield Problem("duration", request.duration, f"{request.duration} is not a whole number of seconds", words)
    else:
        yield from _in_list("duration", request.duration, model.durations, model.id)
    yield from _in_list("resolution", request.resolution, model.resolutions, model.id)
    yield from _in_list("aspect_ratio", request.aspect_ratio, model.aspect_ratios, model.id)
    yield from _in_list("size", request.size, model.sizes, model.id)
    yield from _one_size(request)
    if not request.prompt and request.mode == "text":
        yield Problem("prompt", request.prompt, "is required when there is no image or video to start from")
    if request.generate_audio and model.generate_audio is not True:
        yield Problem("generate_audio", True, f"{model.id} cannot generate audio", ("false",), "false")
    if request.seed is not None and model.seed is not True:
        yield Problem("seed", request.seed, f"{model.id} does not support a seed; remove it")


def _frames(request: VideoRequest, model: VideoModel) -> Iterator[Problem]:
    types = [str(item.get("frame_type")) for item in request.frame_images or ()]
    allowed = model.frame_types or ()
    for name in dict.fromkeys(types):
        if name not in allowed:
            yield Problem("frame_images", name, f"{model.id} does not support a {name}", tuple(allowed))
        if types.count(name) > 1:
            yield Problem("frame_images", name, f"only one {name} can be sent")


def _references(request: VideoRequest, model: VideoModel) -> Iterator[Problem]:
    for kind in _reference_types(request):
        modality, known = kind.removesuffix("_url"), model.input_modalities
        if kind not in REFERENCE_TYPES:
            yield Problem("input_references", kind, f"{kind} is not a type of reference", REFERENCE_TYPES)
        elif known is not None and modality not in known:
            yield Problem("input_references", kind, f"{model.id} does not support {modality} references", known)


def _upscaling(request: VideoRequest, model: VideoModel) -> Iterator[Problem]:
    factor, low, high = request.upscale_factor, model.upscale_min, model.upscale_max
    if factor is not None and low is None and high is None:
        yield Problem("upscale_factor", factor, f"{model.id} does not upscale; remove it")
    elif factor is not None:
        yield from _in_range("upscale_factor", factor, low or 0.0, high, model.id)
    if request.creativity is not None and model.creativity is None:
        yield Problem("creativity", request.creativity, f"{model.id} has no such option; remove it")
    yield from _in_list("creativity", request.creativity, model.creativity, model.id)


def check_image(request: ImageRequest, model: ImageModel) -> list[Problem]:
    """Everything that ``model`` does not support in ``request``; [] when it fits.

    The request has to fit one endpoint that it may be routed to. Where none fits, the problems are those of the
    endpoint that comes nearest. A model of which nothing is known refuses nothing of its own.
    """
    problems = list(_image_form(request))
    found = {problem.field for problem in problems}  # a value that no model supports is not reported twice
    return problems + [problem for problem in _routed(request, model) if problem.field not in found]


def _image_form(request: ImageRequest) -> Iterator[Problem]:
    """What no image model supports."""
    n, compression, output_format = request.n, request.output_compression, request.output_format
    if not request.prompt:
        yield Problem("prompt", request.prompt, "is required")
    if n is not None and not _is_whole(n, 1, MAX_IMAGES):
        yield Problem("n", n, "is not a number of images", (f"1 to {MAX_IMAGES}",))
    if compression is not None and not _is_whole(compression, 0, MAX_COMPRESSION):
        yield Problem("output_compression", compression, "is not a percentage", (f"0 to {MAX_COMPRESSION}",))
    yield from _one_size(request)
    if request.background == "transparent" and output_format not in (None, *_TRANSPARENT_FORMATS):
        message = f"{output_format} has no transparent background"
        yield Problem("output_format", output_format, message, _TRANSPARENT_FORMATS, "png")
    yield from _no_stream(request)
    for kind in _reference_types(request):
        if kind != "image_url":
            yield Problem("input_references", kind, f"{kind} is not an image", ("image_url",), "image_url")


def _routed(request: ImageRequest, model: ImageModel) -> list[Problem]:
    if not model.endpoints:
        return list(_image_fields(request, model.id, model.capabilities))
    routed = model.routed(request.provider)
    if not routed:
        names = tuple(dict.fromkeys(each.provider_slug for each in model.endpoints if each.provider_slug))
        return [Problem("provider", request.provider, f"no endpoint of {model.id} is left", names)]
    return min((_endpoint(request, model.id, each) for each in routed), key=len)


def _endpoint(request: ImageRequest, model: str, endpoint: ImageEndpoint) -> list[Problem]:
    # Where the record names no provider, any slug may be its own.
    options = _passthrough(
        request.provider, model, endpoint.passthrough, lambda slug: endpoint.is_named(slug) is not False
    )
    return [*_image_fields(request, model, endpoint.capabilities), *options]


def _image_fields(request: ImageRequest, model: str, capabilities: Capabilities | None) -> Iterator[Problem]:
    if capabilities is None:
        return
    values = {name: getattr(request, name) for name in _IMAGE_FIELDS}
    values["input_references"] = len(request.input_references or ()) or None
    for name, value in values.items():
        # Every model makes one image, whether it has the field or not.
        if value is not None and (name, value) != ("n", 1):
            yield from _value(name, value, capabilities.get(name), model)
    size, listed = request.size, capabilities.get("size")
    # A tier is a resolution under another name; pixels are refused only by a model that lists its sizes.
    if size and (listed or not _PIXELS.fullmatch(size)):
        yield from _value("size", size, listed or capabilities.get("resolution"), model)


def _value(name: str, value: object, capability: Capability | None, model: str) -> Iterator[Problem]:
    if capability is None:
        yield Problem(name, value, f"{model} has no such option; remove it")
    elif capability.kind == "enum":
        yield from _in_list(name, value, capability.values, model)
    elif capability.kind == "range":
        yield from _in_range(name, value, capability.low, capability.high, model)


def check_text(request: TextRequest, model: TextModel) -> list[Problem]:
    """Everything that ``model`` does not support in ``request``; [] when it fits.

    Where the record lists no parameters it refuses nothing. Whether the prompt fits the model's context is not
    checked: its tokens are not known here.
    """
    return list(_text(request, model))


def _text(request: TextRequest, model: TextModel) -> Iterator[Problem]:
    tokens, most, temperature = request.max_tokens, model.max_completion_tokens, request.temperature
    messages = [item for item in request.all_messages() if isinstance(item, Mapping) and item.get("role") != "system"]
    if not any(item.get("content") for item in messages):
        yield Problem("prompt", request.prompt, "is required")
    if tokens is not None and not _is_whole(tokens, 1):
        yield Problem("max_tokens", tokens, f"{tokens} is not a whole number of tokens above 0")
    elif tokens is not None and most is not None and tokens > most:
        yield Problem("max_tokens", tokens, f"{model.id} writes at most {most}", (f"1 to {most}",), str(most))
    if temperature is not None and not _is_between(0, temperature, MAX_TEMPERATURE):
        yield Problem("temperature", temperature, "is out of range", (f"0 to {MAX_TEMPERATURE}",))
    wanted = request.response_format
    kind = "text" if wanted is None else str(wanted.get("type") if isinstance(wanted, Mapping) else wanted)
    if kind not in _ANSWER_FORMATS:
        yield Problem("response_format", kind, f"{kind} is not a type of answer", tuple(_ANSWER_FORMATS))
    yield from _no_stream(request)
    if model.capabilities is None:
        return
    if (_ANSWER_FORMATS.get(kind) or "") not in ("", *model.capabilities):
        yield Problem("response_format", kind, f"{model.id} does not promise {kind} answers")
    for name in ("max_tokens", "temperature", "seed"):
        if getattr(request, name) is not None and name not in model.capabilities:
            yield Problem(name, getattr(request, name), f"{model.id} would ignore it; remove it")


def _reference_types(request: VideoRequest | ImageRequest) -> list[str]:
    return list(dict.fromkeys(str(item.get("type")) for item in request.input_references or ()))


def _one_size(request: VideoRequest | ImageRequest) -> Iterator[Problem]:
    if request.size and (request.resolution or request.aspect_ratio):
        yield Problem("size", request.size, "send either size, or resolution and aspect_ratio, not both")


def _no_stream(request: ImageRequest | TextRequest) -> Iterator[Problem]:
    if request.extra.get("stream"):
        yield Problem("stream", True, "streamed answers are not supported; remove it")


def _in_list(name: str, value: object, allowed: Sequence[object] | None, model: str) -> Iterator[Problem]:
    # Capabilities of images are text even where the field is a number.
    if value is not None and allowed is not None and value not in allowed and str(value) not in allowed:
        words = tuple(map(str, sorted(allowed, key=lambda item: (math.prod(_numbers(item) or (0,)), str(item)))))
        yield Problem(name, value, f"{model} does not offer {value}", words, _nearest(value, words))


def _in_range(name: str, value: object, low: float | None, high: float | None, model: str) -> Iterator[Problem]:
    if not _is_between(low, value, high):
        number = number_of(value)
        bound = None if number is None else low if low is not None and number < low else high
        allowed = " to ".join("any" if each is None else f"{each:g}" for each in (low, high))
        nearest = None if bound is None else f"{bound:g}"
        yield Problem(name, value, f"{model} does not offer {value}", (allowed,), nearest)


def _passthrough(
    provider: Mapping[str, object] | None, model: str, allowed: Sequence[str], concerns: Callable[[object], bool]
) -> Iterator[Problem]:
    """The ``provider.options`` that the model would drop; ``concerns`` says whether those of a slug are for it."""
    options = (provider or {}).get("options")
    for slug, block in options.items() if isinstance(options, Mapping) else ():
        for name, value in block.items() if isinstance(block, Mapping) and concerns(slug) else ():
            if name not in allowed:
                close = next(iter(difflib.get_close_matches(str(name), allowed, n=1)), None)
                where = f"provider.options.{slug}.{name}"
                yield Problem(where, value, f"{model} would ignore it", tuple(allowed), close)


def _is_whole(value: object, low: int, high: float = math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_between(low: float | None, value: object, high: float | None) -> bool:
    number = number_of(value)
    return number is not None and (low is None or number >= low) and (high is None or number <= high)


def _nearest(value: object, allowed: Sequence[str]) -> str | None:
    """The allowed value that ``value`` most likely means: the same word in other letters, the next number or size."""
    for word in allowed:
        if word.lower() == str(value).lower():
            return word
    wanted = _numbers(value)
    # Both sides of a size count, so that a wide one is never offered for a tall one of as many pixels.
    distances = {
        word: sum(abs(one - other) for one, other in zip(wanted, numbers, strict=True))
        for word in allowed
        if (numbers := _numbers(word)) and len(numbers) == len(wanted)
    }
    close = difflib.get_close_matches(str(value).lower(), allowed, n=1)
    return min(distances, key=distances.__getitem__, default=next(iter(close), None))


def _numbers(value: object) -> tuple[float, ...]:
    """What a value measures: the sides of 1280x720, the lines of 720p and 2K, width / height of 16:9; () for a word."""
    text = str(value).lower()
    try:
        if ":" in text:
            width, height = text.split(":")
            return (float(width) / float(height),)
        if text.endswith("k"):
            return (720 + 360 * float(text[:-1]),)  # 2K is 1440 lines, 4K is 2160
        return tuple(map(float, text.removesuffix("p").split("x")))
    except (ValueError, ZeroDivisionError):
        return ()
