"""The parts of a video model and request that are billed, and the combinations of values a request can be billed for.

They are hashable, so that ``video`` can cache by them: a plan prices 100,000 requests, few of which differ in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import product
from typing import Any, NamedTuple

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
# Renders were seen up to this much larger than the catalog's size: 864x496 and 560x752 for 480p.
RENDER_MARGIN = Decimal("1.05")
# e ** 0.04: sizes are rounded, so 4 % on a logarithmic scale is still the same aspect ratio.
_RATIO_TOLERANCE = Decimal("1.0408107741923882")
_PAIR = re.compile(r"\s*(\d{1,6})\s*[x:]\s*(\d{1,6})\s*", re.IGNORECASE)


class BilledModel(NamedTuple):
    """What prices depend on in a model. Resolutions in lower case, durations in seconds, sizes as in the catalog."""

    id: str
    prices: tuple[tuple[str, str], ...]
    durations: tuple[int, ...]
    resolutions: tuple[str, ...]
    ratios: tuple[str, ...]
    sizes: tuple[str, ...]
    generate_audio: bool | None
    upscale_factors: tuple[Decimal, ...]
    creativity: tuple[int, ...]

    @classmethod
    def of(cls, model: VideoModel) -> BilledModel:
        """Those parts of ``model``, empty where the catalog lists nothing."""
        factors = (model.upscale_min, model.upscale_max)
        return cls(
            model.id,
            tuple(model.prices.items()),
            model.durations or (),
            tuple(name.lower() for name in model.resolutions or ()),
            model.aspect_ratios or (),
            model.sizes or (),
            model.generate_audio,
            () if None in factors else tuple(Decimal(str(factor)) for factor in factors),
            model.creativity or (),
        )


class BilledRequest(NamedTuple):
    """What prices depend on in a request; None: not set. ``mistake``: why a value of it has no price."""

    mode: Mode
    frames: int
    image_references: int
    has_video: bool
    continues: bool
    duration: Decimal | None
    resolution: str | None
    aspect_ratio: Size | None
    size: Size | None
    generate_audio: bool | None
    upscale_factor: Decimal | None
    creativity: int | None
    mistake: str

    @classmethod
    def of(cls, request: VideoRequest) -> BilledRequest:
        """Those parts of ``request``. Its values are not validated yet, hence the checks of their types here."""
        mistake = ""
        numbers = {"duration": request.duration, "upscale_factor": request.upscale_factor}
        parsed = {name: decimal_or_none(value) for name, value in numbers.items() if value is not None}
        for name, number in parsed.items():
            if number is None or number <= 0:
                mistake = f"{name} {numbers[name]!r} is not a number above 0"
        audio: object = request.generate_audio
        creativity: object = request.creativity
        if not (audio is None or isinstance(audio, bool)):
            mistake = f"generate_audio {audio!r} is neither true nor false"
        return cls(
            mode=request.mode,
            frames=len(request.frame_images or ()),
            image_references=request.count_references("image_url"),
            has_video=request.count_references("video_url") > 0,
            continues=bool(request.previous_job_id),
            duration=parsed.get("duration"),
            resolution=str(request.resolution).lower() if request.resolution else None,
            aspect_ratio=parse_pair(str(request.aspect_ratio)) if request.aspect_ratio else None,
            size=parse_pair(str(request.size)) if request.size else None,
            generate_audio=audio if isinstance(audio, bool) else None,
            upscale_factor=parsed.get("upscale_factor"),
            creativity=creativity if isinstance(creativity, int) else None,
            mistake=mistake,
        )


def price_cases(model: BilledModel, request: BilledRequest, source_seconds: Decimal | None) -> Iterator[BilledRequest]:
    """The request with each combination of values for the fields that are not set; a duration or resolution that stays
    None is not known. docs/pricing.md, "How an estimate is made", steps 1 and 5."""
    # The API's documented default of generate_audio is the model's own flag.
    audio = model.generate_audio if request.generate_audio is None else request.generate_audio
    resolutions: tuple[str | None, ...] = model.resolutions or (None,)
    if request.resolution is not None:
        resolutions = (request.resolution,)
    elif request.size is not None:
        resolutions = (resolution_of(request.size, model.resolutions),)
    seconds: tuple[Decimal | None, ...] = _ends(model.durations) or (source_seconds,)
    if request.duration is not None:
        seconds = (request.duration,)
    for flag, resolution, length in product((True, False) if audio is None else (audio,), resolutions, seconds):
        yield request._replace(generate_audio=flag, resolution=resolution, duration=length)


def alternatives(model: BilledModel, request: BilledRequest) -> Mapping[str, Sequence[BilledRequest]]:
    """For each field that is not set and can have several values: the request with each of them."""
    ratios = [parse_pair(ratio) for ratio in model.ratios]
    values: dict[str, Sequence[Any]] = {
        "duration": _ends(model.durations),
        "resolution": () if request.size else model.resolutions,
        "aspect_ratio": () if request.size else ratios,
        "generate_audio": () if model.generate_audio is False else (False, True),  # without audio there is no choice
        "upscale_factor": model.upscale_factors,
        "creativity": model.creativity,
    }
    return {
        field: [request._replace(**{field: value}) for value in choices]
        for field, choices in values.items()
        if getattr(request, field) is None and len(choices) > 1
    }


class FrameArea(NamedTuple):
    """The smallest size a frame can have by the catalog, and the most pixels that a render of it may have.

    ``is_exact``: all fitting sizes of the catalog have the same number of pixels.
    """

    smallest: Size
    most_pixels: Decimal
    is_exact: bool


def frame_area(model: BilledModel, case: BilledRequest) -> FrameArea | None:
    """The pixels of a frame of this case, None where nothing is known: docs/pricing.md, "Video tokens"."""
    resolution, size, ratio = case.resolution, case.size, case.aspect_ratio
    if size is not None:
        fitting = [size]
        resolution = resolution or resolution_of(size, CLASS_SIZE)
    else:
        listed = [parsed for parsed in map(parse_pair, model.sizes) if parsed is not None]
        of_class = [each for each in listed if resolution_of(each, model.resolutions) == resolution]
        fitting = [each for each in of_class if ratio is None or _has_ratio(each, ratio)]
    standard = CLASS_SIZE.get(resolution or "")
    if standard is None:
        return None
    sizes = fitting or [standard]  # the 16:9 size of the resolution where the catalog lists none that fits
    most = max(Decimal(max(map(pixels, sizes))), RENDER_MARGIN * pixels(standard))
    return FrameArea(min(sizes, key=pixels), most, is_exact=len(set(map(pixels, fitting))) == 1)


def parse_pair(text: str | None) -> Size | None:
    """``1280x720`` or ``16:9`` as two numbers above 0; None for anything else, such as ``auto``."""
    match = _PAIR.fullmatch(text) if text else None
    if match is None:
        return None
    first, second = int(match[1]), int(match[2])
    return (first, second) if first and second else None


def pixels(size: Size) -> int:
    """Width times height."""
    return size[0] * size[1]


def resolution_of(size: Size, supported: Iterable[str]) -> str | None:
    """The supported resolution that a size is billed as: the one of its short side, else the nearest in pixels."""
    known = [name for name in supported if name in CLASS_SIZE]
    by_side = _BY_SHORT_SIDE.get(min(size))
    if by_side in known:
        return by_side
    return min(known, key=lambda name: _quotient(pixels(size), pixels(CLASS_SIZE[name])), default=None)


def _has_ratio(size: Size, ratio: Size) -> bool:
    return _quotient(size[0] * ratio[1], size[1] * ratio[0]) <= _RATIO_TOLERANCE


def _quotient(first: int, second: int) -> Decimal:
    return Decimal(max(first, second)) / Decimal(min(first, second))


def _ends(durations: Sequence[int]) -> tuple[Decimal, ...]:
    # Every price grows with the seconds, so the shortest and the longest duration bound all others.
    return tuple(Decimal(seconds) for seconds in sorted({min(durations), max(durations)})) if durations else ()
