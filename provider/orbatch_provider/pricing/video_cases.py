"""The parts of a model and of a request that are billed, reduced to hashable values.

A plan prices a hundred thousand requests of which few differ in these parts, so everything behind here is cached.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from orbatch_provider.catalog import VideoModel
from orbatch_provider.pricing.estimate import decimal_or_none
from orbatch_provider.requests import Mode, VideoRequest

Size = tuple[int, int]  # width, height in pixels

# The 16:9 size of each resolution.
CLASS_SIZE: dict[str, Size] = {
    "360p": (640, 360),
    "480p": (854, 480),
    "720p": (1280, 720),
    "768p": (1366, 768),
    "1080p": (1920, 1080),
    "2k": (2560, 1440),
    "4k": (3840, 2160),
}
_BY_SHORT_SIDE = {min(size): name for name, size in CLASS_SIZE.items()}

# Renders are up to this much larger than the catalog's size: 864x496 and 560x752 were seen for 480p.
RENDER_MARGIN = Decimal("1.05")
# e ** 0.04: sizes are rounded, so a size has a ratio when they differ by at most 4 % on a logarithmic scale.
_RATIO_TOLERANCE = Decimal("1.0408107741923882")

_PAIR = re.compile(r"\s*(\d{1,6})\s*[x:]\s*(\d{1,6})\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Area:
    """The pixels of one frame: the sizes it may have at list price, and the most that a render may have.

    ``is_known`` is False where the catalog names no fitting size and the 16:9 size of the resolution stands in.
    """

    sizes: tuple[Size, ...]
    most_pixels: Decimal
    is_known: bool

    @property
    def smallest(self) -> Size:
        return min(self.sizes, key=pixels)

    @property
    def only(self) -> Size | None:
        """The size to be billed where there is no doubt about its pixels."""
        return self.sizes[0] if self.is_known and len({pixels(size) for size in self.sizes}) == 1 else None


def parse_pair(text: str | None) -> Size | None:
    """``1280x720`` or ``16:9``; None for anything else, such as ``auto``."""
    match = _PAIR.fullmatch(text) if text else None
    if match is None:
        return None
    first, second = int(match[1]), int(match[2])
    return (first, second) if first and second else None


def pixels(size: Size) -> int:
    return size[0] * size[1]


def resolution_of(size: Size, supported: Sequence[str]) -> str | None:
    """The resolution a size belongs to: that of its short side where the model has it, else the nearest in pixels."""
    by_side = _BY_SHORT_SIDE.get(min(size))
    if by_side in supported:
        return by_side
    known = [name for name in supported if name in CLASS_SIZE]
    return min(known, key=lambda name: _quotient(pixels(size), pixels(CLASS_SIZE[name])), default=None)


def area(
    resolution: str | None, size: Size | None, ratio: Size | None, sizes: Sequence[Size], supported: Sequence[str]
) -> Area | None:
    """The pixels of a frame with this resolution, size or aspect ratio on a model with these ``sizes`` and
    ``supported`` resolutions; None where nothing is known about them."""
    if size is not None:
        fitting = [size]
        resolution = resolution or resolution_of(size, tuple(CLASS_SIZE))
    else:
        fitting = [
            listed
            for listed in sizes
            if resolution_of(listed, supported) == resolution and (ratio is None or _has_ratio(listed, ratio))
        ]
    standard = CLASS_SIZE.get(resolution or "")
    if standard is None:
        return None
    candidates = tuple(fitting) or (standard,)
    most = max(Decimal(max(map(pixels, candidates))), RENDER_MARGIN * pixels(standard))
    return Area(candidates, most, is_known=bool(fitting))


def _has_ratio(size: Size, ratio: Size) -> bool:
    return _quotient(size[0] * ratio[1], size[1] * ratio[0]) <= _RATIO_TOLERANCE


def _quotient(first: int, second: int) -> Decimal:
    return Decimal(max(first, second)) / Decimal(min(first, second))


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
