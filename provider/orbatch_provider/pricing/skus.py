"""The names of a video model's price lines (``pricing_skus``) and what each prices.

OpenRouter publishes no grammar for the names; the patterns cover every line of the catalog (docs/pricing.md, "How an
estimate is made"). A name that matches none has an unknown unit and makes the model unpriced: skipping it, or
guessing, could read an expensive model as a cheap one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache

from orbatch_provider.pricing.estimate import FLOOR_LINE, decimal_or_none

_CENT = Decimal("0.01")


class Unit(StrEnum):
    """What a rate is multiplied by."""

    SECOND = "second"
    TOKEN = "token"  # noqa: S105 - a video token, not a secret
    MEGAPIXEL_SECOND = "megapixel-second"


@dataclass(frozen=True, slots=True)
class Rate:
    """A price line: ``usd`` per ``unit``, for requests that match all its ``qualifiers``.

    ``qualifiers``: the parts of the name by group of the patterns below, such as ``{"resolution": "720p"}``.
    """

    line: str
    usd: Decimal
    unit: Unit
    qualifiers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Adder:
    """A price in USD per input image, on top of a rate. ``for_frames``: frames are known to be charged as well."""

    line: str
    usd: Decimal
    for_frames: bool


@dataclass(frozen=True, slots=True)
class PriceList:
    """The price lines of one model. ``unknown``: lines of no known pattern or without a readable price, as listed."""

    rates: tuple[Rate, ...]
    adders: tuple[Adder, ...]
    floor_usd: Decimal | None
    unknown: tuple[tuple[str, str], ...]

    @property
    def has_reference_lines(self) -> bool:
        """Whether requests with references have lines of their own."""
        return any(rate.qualifiers.get("mode") == "reference" for rate in self.rates)


_PROVIDER_PREFIX = re.compile(r"^[a-z0-9.-]+:")  # an older form: seedance:video_tokens
_RES = r"(?P<resolution>\d+[pk])"
_AUDIO = r"(?P<audio>with_audio|without_audio)"
_MODE = r"(?P<mode>text_to_video|image_to_video|reference)"
_PATTERNS = tuple(
    (unit, re.compile(pattern))
    for unit, pattern in (
        (Unit.SECOND, rf"({_MODE}_)?duration_seconds(_{_AUDIO})?(_{_RES})?"),
        (Unit.SECOND, rf"cents_per_second_output(_{_RES})?"),
        (Unit.SECOND, rf"cents_per_video_output_second(_{_RES})?"),
        (Unit.SECOND, rf"cents_per_second_video_(?P<continuation>continuation)(_{_RES})?"),
        (Unit.SECOND, rf"per-video-second(-{_RES})?"),  # only in OpenRouter's documentation
        (Unit.TOKEN, rf"video_tokens(_{_RES})?(_{_AUDIO})?(_(?P<video_input>with_video_input))?"),
        (Unit.MEGAPIXEL_SECOND, r"cents_per_megapixel_second_(?P<creativity>precise|creative)"),
    )
)
# Whether the adder is known to count frames: a charge with a frame was seen for the first, none for the second.
_ADDERS = {"cents_per_image_input": True, "reference_images": False}


@lru_cache(maxsize=1024)  # the models of a catalog, several times over
def price_list(prices: tuple[tuple[str, str], ...]) -> PriceList:
    """The parsed lines of a model, in the catalog's order. Names with ``cents`` in them are in US cents."""
    rates: list[Rate] = []
    adders: list[Adder] = []
    floor: Decimal | None = None
    unknown: list[tuple[str, str]] = []
    for line, text in prices:
        name = _PROVIDER_PREFIX.sub("", line.lower())  # the API writes 2K and 4K, line names 2k and 4k
        usd = _usd(line, text)
        rate = None if usd is None else _rate(line, name, usd)
        if rate is not None:
            rates.append(rate)
        elif usd is not None and name in _ADDERS:
            adders.append(Adder(line, usd, _ADDERS[name]))
        elif usd is not None and name == FLOOR_LINE:
            floor = usd
        else:
            unknown.append((line, text))
    return PriceList(tuple(rates), tuple(adders), floor, tuple(unknown))


def _usd(line: str, text: str) -> Decimal | None:
    amount = decimal_or_none(text)
    if amount is None or amount < 0:
        return None
    return amount * _CENT if "cents" in line.lower() else amount


def _rate(line: str, name: str, usd: Decimal) -> Rate | None:
    for unit, pattern in _PATTERNS:
        match = pattern.fullmatch(name)  # the whole name: a qualifier that is not understood must not be dropped
        if match is not None:
            return Rate(line, usd, unit, {part: text for part, text in match.groupdict().items() if text is not None})
    return None
