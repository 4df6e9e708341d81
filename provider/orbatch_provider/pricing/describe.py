"""The price list of a model in words."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from orbatch_provider.catalog import ImageModel, TextModel, VideoModel
from orbatch_provider.pricing.estimate import decimal_or_none, plain
from orbatch_provider.pricing.skus import Rate, Unit, price_list

_TOKENS_PER_SECOND_720P = 21_600  # 1280 x 720 x 24 / 1024
_MODES = {None: "", "text": "text-to-video", "image": "image-to-video", "reference": "reference-to-video"}
_AUDIO = {None: "", True: " with audio", False: " without audio"}
_CREATIVITY = {None: "", 0: " of precise upscaling", 1: " of creative upscaling"}
_IMAGE = {True: "input image", False: "reference image"}

_MILLION = 1_000_000
_BILLED = {
    "output_image": "picture",
    "input_image": "input picture",
    "input_reference": "reference",
    "input_font": "font",
    "input_text": "prompt",
}
# Price lines of a text model that come on top of prompt and completion, and what one unit of them is.
_TEXT_EXTRAS = {
    "request": "request",
    "image": "picture read",
    "web_search": "web search",
}
_NO_PRICE = "the catalog names no price"


def describe_prices(model: VideoModel) -> list[str]:
    """The price lines of ``model``, one phrase each, in the catalog's order; what comes on top of a rate last."""
    prices = price_list(tuple(model.prices.items()))
    lines = [_rate(rate) for rate in prices.rates]
    lines += [f"{plain(adder.usd)} USD per {_IMAGE[adder.for_frames]}" for adder in prices.adders]
    if prices.floor_usd is not None:
        lines.append(f"at least {plain(prices.floor_usd)} USD per generation")
    lines += [f"{line}: {text} (a price of no known kind: the model is unpriced)" for line, text in prices.unknown]
    return lines or [_NO_PRICE]


def describe_image_prices(model: ImageModel) -> list[str]:
    """The price lines of all endpoints of ``model``, one phrase each; one that several endpoints have in common is told
    once, any other with whose it is."""
    owners: dict[str, list[str]] = {}
    for endpoint in model.endpoints:
        for line in endpoint.pricing:
            owners.setdefault(_image_line(line), []).append(endpoint.provider_tag or endpoint.provider_slug)
    everyone = len(model.endpoints)
    lines = [
        phrase if len(names) >= everyone or not all(names) else f"{phrase} at {', '.join(dict.fromkeys(names))}"
        for phrase, names in owners.items()
    ]
    return lines or [_NO_PRICE]


def usd_per_million(model: TextModel, line: str) -> Decimal | None:
    """USD for a million tokens of ``prompt`` or ``completion``; None where the price is unknown or varies."""
    usd = decimal_or_none(model.prices.get(line))
    return None if usd is None or usd < 0 else usd * _MILLION


def describe_text_extras(model: TextModel) -> list[str]:
    """What a text model charges besides its plain prompt and completion tokens, one phrase each."""
    prices = {line: decimal_or_none(model.prices.get(line)) for line in _TEXT_EXTRAS}
    lines = [
        f"{plain(usd)} USD per {_TEXT_EXTRAS[line]}" for line, usd in prices.items() if usd is not None and usd > 0
    ]
    return [*lines, "other prices under conditions"] if model.overrides else lines


def _image_line(line: Mapping[str, Any]) -> str:
    usd, subject = decimal_or_none(line.get("cost_usd")), _BILLED.get(str(line.get("billable")))
    unit, variant = line.get("unit"), line.get("variant")
    phrases = {
        "request": f"per request for the {subject}",
        "image": f"per {subject}",
        "megapixel": f"per megapixel of {subject}",
        "token": f"per million {subject} tokens",
    }
    if usd is None or subject is None or unit not in phrases:
        return f"{dict(line)} (a price of no known kind: the model is unpriced)"
    amount = plain(usd * _MILLION if unit == "token" else usd)
    label = "" if variant is None else f" ({str(variant).replace('_', ' ').replace('k', 'K')})"
    return f"{amount} USD {phrases[unit]}{label}"


def _rate(rate: Rate) -> str:
    price = f"{plain(rate.usd)} USD per"
    if rate.unit is Unit.MEGAPIXEL_SECOND:
        return f"{price} megapixel-second{_CREATIVITY[rate.creativity]}"
    resolution = (rate.resolution or "").replace("k", "K")
    kind = "continuation" if rate.continuation else _MODES[rate.mode]
    subject = " ".join(word for word in (resolution, kind) if word)
    qualified = (f" of {subject}" if subject else "") + _AUDIO[rate.audio]
    if rate.unit is Unit.SECOND:
        return f"{price} second{qualified}"
    qualified += " with a video reference" if rate.video_input else ""
    if rate.resolution is None:
        qualified += f" ({plain(rate.usd * _TOKENS_PER_SECOND_720P)} USD per second at 1280x720)"
    return f"{price} video token{qualified}"
