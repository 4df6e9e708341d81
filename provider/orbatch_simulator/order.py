"""What the simulator makes of an accepted request: every dimension that the picture and the bill depend on.

The service documents no defaults for what a request leaves out. The simulator's own: the shortest duration the model
offers, 720p (else the lowest resolution), 16:9 (else the first ratio), sound as the model's flag says, upscaling by the
smallest factor in precise mode. Models without durations work on a source, whose facts are settings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from orbatch_provider.catalog import VideoModel
from orbatch_simulator.settings import SimulatorSettings

# Lines of the short side of each resolution class, and the 16:9 picture that defines its area.
SHORT_SIDE = {"360p": 360, "480p": 480, "720p": 720, "768p": 768, "1080p": 1080, "1k": 1024, "2k": 1440, "4k": 2160}
_WIDE_LONG_SIDE = {"480p": 854, "720p": 1280, "768p": 1366, "1080p": 1920, "2k": 2560, "4k": 3840}

_RATIO_TOLERANCE = 0.04  # between a listed size and an aspect ratio, as |ln(a / b)|


@dataclass(frozen=True, slots=True)
class Order:
    """``resolution`` in lower case, None for models without; ``width`` and ``height`` of the output in pixels;
    ``images``: image references, apart from ``frames``; ``factor`` and ``creativity`` None unless it upscales."""

    model: str
    prompt: str
    seconds: Decimal
    resolution: str | None
    width: int
    height: int
    audio: bool
    mode: Literal["text", "image", "reference"]
    frames: int
    images: int
    has_video: bool
    continues: bool
    source_width: int
    source_height: int
    factor: Decimal | None
    creativity: int | None

    @classmethod
    def read(cls, body: Mapping[str, Any], model: VideoModel, settings: SimulatorSettings) -> Order:
        """From a request body that the rules have let pass."""
        frames = body.get("frame_images") or []
        references = [item["type"] for item in body.get("input_references") or []]
        resolution = _resolution(body, model)
        factor = _factor(body, model)
        width, height = _picture(body, model, resolution, factor, settings)
        audio = body.get("generate_audio")
        return cls(
            model=model.id,
            prompt=body.get("prompt") or "",
            seconds=_seconds(body, model, settings),
            resolution=resolution,
            width=width,
            height=height,
            audio=audio if audio is not None else model.generate_audio is True,
            mode="image" if frames else "reference" if references else "text",
            frames=len(frames),
            images=references.count("image_url"),
            has_video="video_url" in references,
            continues=body.get("previous_job_id") is not None,
            source_width=settings.source_width,
            source_height=settings.source_height,
            factor=factor,
            creativity=body.get("creativity") or 0 if model.creativity is not None else None,
        )


def _seconds(body: Mapping[str, Any], model: VideoModel, settings: SimulatorSettings) -> Decimal:
    asked = body.get("duration")
    if asked is not None:
        return Decimal(asked)
    return Decimal(min(model.durations)) if model.durations else settings.source_seconds


def _resolution(body: Mapping[str, Any], model: VideoModel) -> str | None:
    if body.get("resolution"):
        return str(body["resolution"]).lower()
    offered = [name.lower() for name in model.resolutions or ()]
    if not offered:
        return None
    if body.get("size"):
        return _class_of(*_sides(body["size"]), offered)
    return "720p" if "720p" in offered else min(offered, key=lambda name: SHORT_SIDE[name])


def _class_of(width: int, height: int, offered: Sequence[str]) -> str:
    short = min(width, height)
    for name in offered:
        if SHORT_SIDE[name] == short:
            return name
    return min(offered, key=lambda name: abs(math.log(width * height / _wide_area(name))))


def _wide_area(resolution: str) -> int:
    short = SHORT_SIDE[resolution]
    return short * _WIDE_LONG_SIDE.get(resolution, _even(short * 16 / 9))


def _factor(body: Mapping[str, Any], model: VideoModel) -> Decimal | None:
    if model.upscale_min is None:
        return None
    return Decimal(str(body.get("upscale_factor") or model.upscale_min))


def _picture(
    body: Mapping[str, Any],
    model: VideoModel,
    resolution: str | None,
    factor: Decimal | None,
    settings: SimulatorSettings,
) -> tuple[int, int]:
    if body.get("size"):
        return _sides(body["size"])
    if factor is not None:
        return _even(settings.source_width * float(factor)), _even(settings.source_height * float(factor))
    ratio = body.get("aspect_ratio")
    if resolution is None:
        if ratio is None:
            return settings.source_width, settings.source_height
        return _scaled(min(settings.source_width, settings.source_height), _ratio(ratio))
    if ratio is None:
        offered = model.aspect_ratios or ("16:9",)
        ratio = "16:9" if "16:9" in offered else offered[0]
    wanted = _ratio(ratio)
    for size in model.sizes or ():
        width, height = _sides(size)
        fits = abs(math.log(width / height / wanted)) <= _RATIO_TOLERANCE
        if fits and _class_of(width, height, [name.lower() for name in model.resolutions or ()]) == resolution:
            return width, height
    return _scaled(SHORT_SIDE[resolution], wanted)


def _scaled(short: int, ratio: float) -> tuple[int, int]:
    long = _even(short * max(ratio, 1 / ratio))
    return (long, short) if ratio >= 1 else (short, long)


def _sides(size: str) -> tuple[int, int]:
    width, _, height = size.partition("x")
    return int(width), int(height)


def _ratio(text: str) -> float:
    width, _, height = text.partition(":")
    return float(width) / float(height)


def _even(length: float) -> int:
    # H.264 with 4:2:0 colour has even sides only.
    return 2 * math.ceil(length / 2 - 1e-9)
