"""What the simulator charges for an order, by the price lines of its model.

Written apart from ``orbatch_provider.pricing``, and in another way: there every line that applies is weighed, here the
names of the lines are tried from the most special to the most general and the first that the model has is the rate.

Where the public rules leave a band, the simulator takes one amount within it: tokens without the extra frame; a video
reference at the line for video input (output seconds only); a reference on a model with text and image lines only at
the image line; continuation for ``previous_job_id`` alone; megapixels of 2^20; ``reference_images`` for each image
reference and not for frames. Charges are whole nano-dollars, rounded half up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import ROUND_HALF_UP, Decimal

from orbatch_simulator.order import Order

_NANO = Decimal("0.000000001")
_CENTS = Decimal(100)
_TOKEN_PIXELS = Decimal(1024)
_TOKEN_FPS = 24
_MEGAPIXEL = Decimal(2**20)

BYOK_FEE = Decimal("0.05")  # of the list price: all that OpenRouter charges when the caller's own provider key pays


def charge(order: Order, prices: Mapping[str, str], unknown_price: Decimal) -> Decimal:
    """USD for one completed job; ``unknown_price`` where none of the model's lines is known here."""
    line = next((name for name in _lines(order) if name in prices), None)
    if line is None:
        return unknown_price
    amount = Decimal(prices[line]) * _quantity(line, order)
    if "cents_per_image_input" in prices:
        amount += Decimal(prices["cents_per_image_input"]) / _CENTS * (order.frames + order.images)
    if "reference_images" in prices:
        amount += Decimal(prices["reference_images"]) * order.images
    if "minimum_cents_per_generation" in prices:
        amount = max(amount, Decimal(prices["minimum_cents_per_generation"]) / _CENTS)
    return nano(amount)


def nano(amount: Decimal) -> Decimal:
    """The amount in whole nano-dollars: what a ledger of nano-dollars can agree with exactly."""
    return amount.quantize(_NANO, ROUND_HALF_UP).normalize()


def _lines(order: Order) -> Iterator[str]:
    """Names of price lines that may set the rate, the decisive one first."""
    at = f"_{order.resolution}"
    if order.continues:
        yield f"cents_per_second_video_continuation{at}"
    yield from _token_lines(order, at)
    if order.mode == "reference":
        yield f"reference_duration_seconds{at}"
    sound = "with_audio" if order.audio else "without_audio"
    yield f"duration_seconds_{sound}{at}"
    yield f"duration_seconds_{sound}"
    if order.mode != "text":
        yield f"image_to_video_duration_seconds{at}"
    if order.mode != "image":
        yield f"text_to_video_duration_seconds{at}"
    yield f"duration_seconds{at}"
    yield "duration_seconds"
    yield f"cents_per_video_output_second{at}"
    yield f"cents_per_second_output{at}"
    yield "cents_per_second_output"
    yield f"cents_per_megapixel_second_{'creative' if order.creativity else 'precise'}"


def _token_lines(order: Order, at: str) -> Iterator[str]:
    if order.has_video:
        yield f"video_tokens{at}_with_video_input"
        yield "video_tokens_with_video_input"
    yield f"video_tokens{at}"
    if not order.audio:
        yield "video_tokens_without_audio"
    yield "video_tokens"


def _quantity(line: str, order: Order) -> Decimal:
    """What the line's value is multiplied by to give USD."""
    if line.startswith("video_tokens"):
        return order.width * order.height * order.seconds * _TOKEN_FPS / _TOKEN_PIXELS
    if line.startswith("cents_per_megapixel_second"):
        factor = order.factor or Decimal(1)
        return order.source_width * order.source_height * factor**2 / _MEGAPIXEL * order.seconds / _CENTS
    return order.seconds / _CENTS if line.startswith("cents") else order.seconds
