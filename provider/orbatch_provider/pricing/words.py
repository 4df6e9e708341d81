"""The price list of a model in words."""

from __future__ import annotations

from orbatch_provider.catalog import VideoModel
from orbatch_provider.pricing.skus import Rate, Unit, price_list
from orbatch_provider.pricing.terms import plain

_TOKENS_PER_SECOND_720P = 21_600  # 1280 x 720 x 24 / 1024
_MODES = {None: "", "text": "text-to-video", "image": "image-to-video", "reference": "reference-to-video"}
_AUDIO = {None: "", True: " with audio", False: " without audio"}
_CREATIVITY = {None: "", 0: " of precise upscaling", 1: " of creative upscaling"}
_IMAGE = {True: "input image", False: "reference image"}


def describe_prices(model: VideoModel) -> list[str]:
    """The price lines of ``model``, one phrase each, in the catalog's order; what comes on top of a rate last."""
    prices = price_list(tuple(model.prices.items()))
    lines = [_rate(rate) for rate in prices.rates]
    lines += [f"{plain(adder.usd)} USD per {_IMAGE[adder.for_frames]}" for adder in prices.adders]
    if prices.floor_usd is not None:
        lines.append(f"at least {plain(prices.floor_usd)} USD per generation")
    lines += [f"{line}: {text} (a price of no known kind: the model is unpriced)" for line, text in prices.unknown]
    return lines or ["the catalog names no price"]


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
