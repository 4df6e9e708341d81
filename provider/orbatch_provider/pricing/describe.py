"""The price list of a model in words, one phrase per line, amounts in USD."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from orbatch_provider.catalog import ImageModel, TextModel, VideoModel
from orbatch_provider.pricing.estimate import decimal_or_none, plain
from orbatch_provider.pricing.skus import Rate, Unit, price_list

_TOKENS_PER_SECOND_720P = 21_600  # 1280 x 720 x 24 / 1024
_MILLION = 1_000_000
_MODES = {"text_to_video": "text-to-video", "image_to_video": "image-to-video", "reference": "reference-to-video"}
_BILLED = {
    "output_image": "image",
    "input_image": "input image",
    "input_reference": "reference",
    "input_font": "font",
    "input_text": "prompt",
}
# Price lines of a text model besides prompt and completion, and what one unit of them is.
_TEXT_EXTRAS = {"request": "request", "image": "input image", "web_search": "web search"}
_NO_PRICE = "the catalog has no price"
_UNKNOWN = "(meaning not known: the model is unpriced)"


def describe_video_prices(model: VideoModel) -> list[str]:
    """The price lines of ``model`` in the catalog's order; prices per input image and the minimum follow the rates."""
    prices = price_list(tuple(model.prices.items()))
    lines = [_rate(rate) for rate in prices.rates]
    lines += [
        f"{plain(adder.usd)} USD per {'input' if adder.for_frames else 'reference'} image" for adder in prices.adders
    ]
    if prices.floor_usd is not None:
        lines.append(f"at least {plain(prices.floor_usd)} USD per generation")
    lines += [f"{line}: {text} {_UNKNOWN}" for line, text in prices.unknown]
    return lines or [_NO_PRICE]


def describe_image_prices(model: ImageModel) -> list[str]:
    """The price lines of all endpoints of ``model``; a line that not all of them share names its endpoints."""
    owners: dict[str, list[str]] = {}
    for endpoint in model.endpoints:
        for line in endpoint.pricing:
            owners.setdefault(_image_line(line), []).append(endpoint.provider_tag or endpoint.provider_slug)
    everyone = len(model.endpoints)
    # Endpoints without names cannot be told apart, so their lines stand alone.
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
    """What a text model charges besides its plain prompt and completion tokens."""
    prices = {name: decimal_or_none(model.prices.get(line)) for line, name in _TEXT_EXTRAS.items()}
    lines = [f"{plain(usd)} USD per {name}" for name, usd in prices.items() if usd is not None and usd > 0]
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
        return f"{dict(line)} {_UNKNOWN}"
    amount = plain(usd * _MILLION if unit == "token" else usd)  # a price per single token has too many zeros to compare
    label = "" if variant is None else f" ({str(variant).replace('_', ' ').replace('k', 'K')})"
    return f"{amount} USD {phrases[unit]}{label}"


def _rate(rate: Rate) -> str:
    parts, price = rate.qualifiers, f"{plain(rate.usd)} USD per"
    if rate.unit is Unit.MEGAPIXEL_SECOND:
        return f"{price} megapixel-second of {parts['creativity']} upscaling"
    resolution = parts.get("resolution", "").replace("k", "K")
    kind = parts.get("continuation") or _MODES.get(parts.get("mode", ""), "")
    subject = " ".join(word for word in (resolution, kind) if word)
    qualified = f" of {subject}" if subject else ""
    qualified += f" {parts['audio'].replace('_', ' ')}" if "audio" in parts else ""
    if rate.unit is Unit.SECOND:
        return f"{price} second{qualified}"
    qualified += " with a video reference" if "video_input" in parts else ""
    if not resolution:
        qualified += f" ({plain(rate.usd * _TOKENS_PER_SECOND_720P)} USD per second at 1280x720)"
    return f"{price} video token{qualified}"
