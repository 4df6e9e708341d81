"""What a model does not support in a request, before the API refuses it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orbatch_provider.catalog.models import VideoModel, number_of
from orbatch_provider.catalog.nearest import natural, nearest
from orbatch_provider.requests import VideoRequest

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
