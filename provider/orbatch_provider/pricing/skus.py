"""The names of the price lines of a video model (``pricing_skus``) and what each prices.

OpenRouter publishes no grammar for them. A name that none of the patterns below matches has an unknown unit, so it
makes the model unpriced: to skip it, or to guess, could read an expensive model as a cheap one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache

from orbatch_provider.pricing.estimate import FLOOR_LINE, decimal_or_none
from orbatch_provider.requests import Mode

CENTS = Decimal("0.01")


class Unit(StrEnum):
    """What a rate is multiplied by."""

    SECOND = "second"
    TOKEN = "token"  # noqa: S105 - a video token, not a secret
    MEGAPIXEL_SECOND = "megapixel-second"


@dataclass(frozen=True, slots=True)
class Rate:
    """A price line with its qualifiers: the line prices only requests that match all those it has.

    ``usd`` per ``unit``. ``resolution`` is in lower case, ``audio`` None: with or without, ``creativity`` 0 or 1.
    """

    line: str
    usd: Decimal
    unit: Unit
    mode: Mode | None = None
    audio: bool | None = None
    resolution: str | None = None
    video_input: bool = False
    continuation: bool = False
    creativity: int | None = None

    def qualifiers(self, *, continuing: bool) -> frozenset[tuple[str, object]]:
        """What makes this line more specific than another. Continuation counts only while a job is continued."""
        named: dict[str, object] = {
            "mode": self.mode,
            "audio": self.audio,
            "resolution": self.resolution,
            "video_input": self.video_input or None,
            "continuation": (self.continuation and continuing) or None,
            "creativity": self.creativity,
        }
        return frozenset((name, value) for name, value in named.items() if value is not None)


@dataclass(frozen=True, slots=True)
class Adder:
    """A price per image that comes on top of a rate. ``for_frames``: frames are known to be charged like references."""

    line: str
    usd: Decimal
    for_frames: bool


@dataclass(frozen=True, slots=True)
class PriceList:
    """The price lines of one model. ``unknown``: lines of no known pattern or without a readable price, as sent."""

    rates: tuple[Rate, ...]
    adders: tuple[Adder, ...]
    floor_usd: Decimal | None
    unknown: tuple[tuple[str, str], ...]

    @property
    def has_reference_lines(self) -> bool:
        return any(rate.mode == "reference" for rate in self.rates)


_PROVIDER_PREFIX = re.compile(r"^[a-z0-9.-]+:")  # an older form: seedance:video_tokens
_RES = r"(?P<resolution>\d+[pk])"
_AUDIO = r"(?P<audio>with_audio|without_audio)"

_PATTERNS: tuple[tuple[Unit, re.Pattern[str]], ...] = (
    (
        Unit.SECOND,
        re.compile(rf"((?P<mode>text_to_video|image_to_video|reference)_)?duration_seconds(_{_AUDIO})?(_{_RES})?"),
    ),
    (Unit.SECOND, re.compile(rf"cents_per_second_output(_{_RES})?")),
    (Unit.SECOND, re.compile(rf"cents_per_video_output_second(_{_RES})?")),
    (Unit.SECOND, re.compile(rf"cents_per_second_video_(?P<continuation>continuation)(_{_RES})?")),
    (Unit.SECOND, re.compile(rf"per-video-second(-{_RES})?")),  # only in OpenRouter's documentation
    (Unit.TOKEN, re.compile(rf"video_tokens(_{_RES})?(_{_AUDIO})?(?P<video_input>_with_video_input)?")),
    (Unit.MEGAPIXEL_SECOND, re.compile(r"cents_per_megapixel_second_(?P<creativity>precise|creative)")),
)
_MODES: dict[str, Mode] = {"text_to_video": "text", "image_to_video": "image", "reference": "reference"}
_CREATIVITY = {"precise": 0, "creative": 1}
_FRAMES_ARE_CHARGED = {"cents_per_image_input": True, "reference_images": False}


@lru_cache(maxsize=1024)
def price_list(prices: tuple[tuple[str, str], ...]) -> PriceList:
    """The parsed lines of a model, in the catalog's order."""
    rates: list[Rate] = []
    adders: list[Adder] = []
    floor: Decimal | None = None
    unknown: list[tuple[str, str]] = []
    for line, text in prices:
        usd = _usd(line, text)
        name = _PROVIDER_PREFIX.sub("", line.lower())
        rate = None if usd is None else _rate(line, name, usd)
        if usd is None:
            unknown.append((line, text))
        elif rate is not None:
            rates.append(rate)
        elif name in _FRAMES_ARE_CHARGED:
            adders.append(Adder(line, usd, _FRAMES_ARE_CHARGED[name]))
        elif name == FLOOR_LINE:
            floor = usd
        else:
            unknown.append((line, text))
    return PriceList(tuple(rates), tuple(adders), floor, tuple(unknown))


def _usd(line: str, text: str) -> Decimal | None:
    amount = decimal_or_none(text)
    if amount is None or amount < 0:
        return None
    return amount * CENTS if "cents" in line.lower() else amount


def _rate(line: str, name: str, usd: Decimal) -> Rate | None:
    for unit, pattern in _PATTERNS:
        match = pattern.fullmatch(name)
        if match is not None:
            part = match.groupdict()
            audio = part.get("audio")
            return Rate(
                line,
                usd,
                unit,
                mode=_MODES.get(part.get("mode") or ""),
                audio=None if audio is None else audio == "with_audio",
                resolution=part.get("resolution"),
                video_input=bool(part.get("video_input")),
                continuation=bool(part.get("continuation")),
                creativity=_CREATIVITY.get(part.get("creativity") or ""),
            )
    return None
