"""The parts of a model and of a request that are billed, reduced to hashable values.

A plan prices a hundred thousand requests of which few differ in these parts, so everything behind here is cached.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from orbatch_provider.catalog import VideoModel
from orbatch_provider.pricing.geometry import Size, parse_pair, resolution_of
from orbatch_provider.pricing.values import decimal_or_none
from orbatch_provider.requests import Mode, VideoRequest


class Facts(NamedTuple):
    """What prices need of a model. Resolutions in lower case, sizes in pixels, durations in seconds."""

    model: str
    prices: tuple[tuple[str, str], ...]
    durations: tuple[int, ...]
    resolutions: tuple[str, ...] | None
    ratios: tuple[str, ...]
    sizes: tuple[str, ...]
    generate_audio: bool | None
    upscale_min: float | None
    upscale_max: float | None
    creativity: tuple[int, ...]


class Shape(NamedTuple):
    """What prices need of a request; None: not sent. ``mistake``: a value that no price can be computed from."""

    mode: Mode
    frames: int
    image_references: int
    has_video: bool
    continues: bool
    duration: Decimal | None
    resolution: str | None
    ratio: Size | None
    size: Size | None
    audio: bool | None
    upscale_factor: Decimal | None
    creativity: int | None
    mistake: str


class Case(NamedTuple):
    """A shape with one choice for each of the dimensions that it may leave open. ``seconds`` None: unknown."""

    shape: Shape
    audio: bool
    resolution: str | None
    seconds: Decimal | None


def facts_of(model: VideoModel) -> Facts:
    return Facts(
        model.id,
        tuple(model.prices.items()),
        model.durations or (),
        model.resolutions,
        model.aspect_ratios or (),
        model.sizes or (),
        model.generate_audio,
        model.upscale_min,
        model.upscale_max,
        model.creativity or (),
    )


def shape_of(request: VideoRequest) -> Shape:
    mistake = ""
    numbers = {"duration": request.duration, "upscale_factor": request.upscale_factor}
    read = {name: decimal_or_none(value) for name, value in numbers.items() if value is not None}
    for name, number in read.items():
        if number is None or number <= 0:
            mistake = f"{name} {numbers[name]!r} is not a number above 0"
    audio: object = request.generate_audio
    creativity: object = request.creativity
    if not (audio is None or isinstance(audio, bool)):
        mistake = f"generate_audio {audio!r} is neither true nor false"
    return Shape(
        mode=request.mode,
        frames=len(request.frame_images or ()),
        image_references=request.count_references("image_url"),
        has_video=request.count_references("video_url") > 0,
        continues=bool(request.previous_job_id),
        duration=read.get("duration"),
        resolution=str(request.resolution).lower() if request.resolution else None,
        ratio=parse_pair(str(request.aspect_ratio)) if request.aspect_ratio else None,
        size=parse_pair(str(request.size)) if request.size else None,
        audio=audio if isinstance(audio, bool) else None,
        upscale_factor=read.get("upscale_factor"),
        creativity=creativity if isinstance(creativity, int) else None,
        mistake=mistake,
    )


def cases(facts: Facts, shape: Shape, source_seconds: Decimal | None) -> Iterator[Case]:
    """Every combination of what the shape leaves open. Only the ends of the durations matter: prices grow with them."""
    seconds = _seconds(facts, shape, source_seconds)
    for audio in _audio(facts, shape):
        for resolution in _resolutions(facts, shape):
            for length in seconds:
                yield Case(shape, audio, resolution, length)


def supported(facts: Facts) -> tuple[str, ...]:
    return tuple(name.lower() for name in facts.resolutions or ())


def unset_fields(facts: Facts, shape: Shape) -> list[str]:
    """The fields with more than one possible value that the shape leaves out, by their name in the request."""
    open_factor = facts.upscale_min is not None and facts.upscale_max is not None and shape.upscale_factor is None
    several = {
        "duration": shape.duration is None and len(facts.durations) > 1,
        "resolution": len(_resolutions(facts, shape)) > 1,
        "aspect_ratio": shape.ratio is None and shape.size is None and len(facts.ratios) > 1,
        "generate_audio": shape.audio is None,
        "upscale_factor": open_factor,
        "creativity": shape.creativity is None and len(facts.creativity) > 1,
    }
    return [name for name, is_open in several.items() if is_open]


def _audio(facts: Facts, shape: Shape) -> tuple[bool, ...]:
    chosen = facts.generate_audio if shape.audio is None else shape.audio
    return (True, False) if chosen is None else (chosen,)


def _resolutions(facts: Facts, shape: Shape) -> tuple[str | None, ...]:
    if shape.resolution is not None:
        return (shape.resolution,)
    known = supported(facts)
    if shape.size is not None:
        return (resolution_of(shape.size, known),)
    return known or (None,)


def _seconds(facts: Facts, shape: Shape, source_seconds: Decimal | None) -> tuple[Decimal | None, ...]:
    if shape.duration is not None:
        return (shape.duration,)
    if not facts.durations:
        return (source_seconds,)
    return tuple(Decimal(seconds) for seconds in sorted({min(facts.durations), max(facts.durations)}))
