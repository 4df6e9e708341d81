"""What a request leaves to chance although it changes the price."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import lru_cache

from orbatch_provider.catalog import VideoModel
from orbatch_provider.pricing.geometry import parse_pair
from orbatch_provider.pricing.shape import Facts, Shape, facts_of, shape_of, supported, unset_fields
from orbatch_provider.pricing.values import NO_HINTS, Hints, OpenDimension
from orbatch_provider.pricing.video import estimate, estimate_shape
from orbatch_provider.requests import VideoRequest

# Passthrough names that can change what is billed behind the back of the fields that are priced.
BILLED_PASSTHROUGH = frozenset(
    {
        "aspectRatio",
        "audio",
        "image",
        "images",
        "keyframes",
        "last_image",
        "ratio",
        "return_last_frame",
        "size",
        "version",
        "video",
        "videos",
    }
)


def open_dimensions(request: VideoRequest, model: VideoModel, hints: Hints = NO_HINTS) -> tuple[OpenDimension, ...]:
    """The fields that ``request`` leaves out although its price depends on them, each with the price range it causes;
    and the provider options that may change the charge, which have no upper bound."""
    fields = _open_fields(facts_of(model), shape_of(request), hints)
    options = tuple(_billed_options(request))
    if not options:
        return fields
    low = estimate(request, model, hints).low
    return fields + tuple(OpenDimension(name, low, None) for name in options)


@lru_cache(maxsize=4096)
def _open_fields(facts: Facts, shape: Shape, hints: Hints) -> tuple[OpenDimension, ...]:
    found = []
    for field in unset_fields(facts, shape):
        choices = [estimate_shape(facts, choice, hints) for choice in _choices(field, facts, shape)]
        if len({(choice.low, choice.exact, choice.high) for choice in choices}) > 1:
            worst = [choice.high for choice in choices if choice.high is not None]
            least = worst or [choice.low for choice in choices if choice.low is not None]
            high = max(worst) if len(worst) == len(choices) else None
            found.append(OpenDimension(field, min(least, default=None), high))
    return tuple(found)


def _choices(field: str, facts: Facts, shape: Shape) -> Iterator[Shape]:
    """The shape with each value that the field can have; of ordered values only both ends."""
    match field:
        case "duration":
            for seconds in {min(facts.durations), max(facts.durations)}:
                yield shape._replace(duration=Decimal(seconds))
        case "resolution":
            for resolution in supported(facts):
                yield shape._replace(resolution=resolution)
        case "aspect_ratio":
            for ratio in facts.ratios:
                yield shape._replace(ratio=parse_pair(ratio))
        case "generate_audio":
            # A model that cannot make sound leaves no choice.
            for audio in (False, True) if facts.generate_audio is not False else (False,):
                yield shape._replace(audio=audio)
        case "upscale_factor":
            for factor in (facts.upscale_min, facts.upscale_max):
                yield shape._replace(upscale_factor=Decimal(str(factor)))
        case "creativity":
            for creativity in facts.creativity:
                yield shape._replace(creativity=creativity)


def _billed_options(request: VideoRequest) -> Iterator[str]:
    options = (request.provider or {}).get("options")
    for slug, block in options.items() if isinstance(options, Mapping) else ():
        for name in block if isinstance(block, Mapping) else ():
            if name in BILLED_PASSTHROUGH:
                yield f"provider.options.{slug}.{name}"
