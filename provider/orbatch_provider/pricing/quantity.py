"""What a price line charges for one case: how much of its unit the case consumes at least, most likely and at most."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

from orbatch_provider.pricing.charge import Charge, fixed, unknown
from orbatch_provider.pricing.geometry import Size, area, parse_pair, pixels
from orbatch_provider.pricing.shape import Case, Facts, supported
from orbatch_provider.pricing.skus import PriceList, Rate, Unit
from orbatch_provider.pricing.terms import Term, plain
from orbatch_provider.pricing.values import Hints

FRAMES_PER_SECOND = 24
PIXELS_PER_TOKEN = 1024
# Which of the two a megapixel is, is not published: the larger one bounds a charge from below.
BINARY_MEGAPIXEL, DECIMAL_MEGAPIXEL = Decimal(2**20), Decimal(10**6)

_SOURCE_LENGTH = "the length of the source is not known"
_SOURCE_SIZE = "the size or the length of the source video is not known"
_REFERENCE_LENGTH = "the length of the video reference is not known, and it may be billed too"


def charge(rate: Rate, case: Case, facts: Facts, prices: PriceList, hints: Hints) -> Charge:
    """The charge for ``case`` by ``rate``."""
    if rate.unit is Unit.MEGAPIXEL_SECOND:
        return _megapixels(rate, case, facts, hints)
    if case.seconds is None:
        return unknown(rate.line, _SOURCE_LENGTH)
    if rate.unit is Unit.TOKEN:
        return _tokens(rate, case, case.seconds, facts, prices, hints)
    return _seconds(rate, case, case.seconds, prices, hints)


def dearest_without_video(prices: PriceList, case: Case) -> Rate | None:
    """The dearest token line that takes no notice of a video reference."""
    lines = [
        rate
        for rate in prices.rates
        if rate.unit is Unit.TOKEN and not rate.video_input and rate.resolution in (None, case.resolution)
    ]
    return max(lines, key=lambda rate: rate.usd, default=None)


def _seconds(rate: Rate, case: Case, seconds: Decimal, prices: PriceList, hints: Hints) -> Charge:
    term = Term(seconds, "s", rate.usd, rate.line)
    if not (case.shape.mode == "reference" and case.shape.has_video and prices.has_reference_lines):
        return fixed(term)
    # Whether the seconds of the reference itself are billed is not published.
    if hints.video_input_seconds is None:
        return unknown(rate.line, _REFERENCE_LENGTH, low=term)
    origin = f"{plain(seconds)} + {plain(hints.video_input_seconds)} of the reference"
    both = Term(seconds + hints.video_input_seconds, "s", rate.usd, rate.line, origin)
    return Charge(term, None, both, frozenset({rate.line}))


def _tokens(rate: Rate, case: Case, seconds: Decimal, facts: Facts, prices: PriceList, hints: Hints) -> Charge:
    shape = case.shape
    listed = [size for size in map(parse_pair, facts.sizes) if size is not None]
    frame = area(case.resolution, shape.size, shape.ratio, listed, supported(facts))
    if frame is None:
        return unknown(rate.line, f"the pixels of {case.resolution or 'the video'} are not known")
    low = _nominal(rate, frame.smallest, seconds)
    lines = frozenset({rate.line})
    if not shape.has_video:
        exact = None if frame.only is None else _nominal(rate, frame.only, seconds)
        return Charge(low, exact, _most(rate, frame.most_pixels, seconds), lines)
    # There is a cheaper line for requests with a video, but the reference's seconds may be counted as well, and a job
    # was billed the same with and without one: only the dearer of both readings is an upper bound.
    if hints.video_input_seconds is None:
        return unknown(rate.line, _REFERENCE_LENGTH, low=low)
    readings = [_most(rate, frame.most_pixels, seconds + hints.video_input_seconds)]
    without_video = dearest_without_video(prices, case)
    if without_video is not None:
        readings.append(_most(without_video, frame.most_pixels, seconds))
    return Charge(low, None, max(readings, key=lambda term: term.amount), lines)


def _nominal(rate: Rate, size: Size, seconds: Decimal) -> Term:
    tokens = pixels(size) * seconds * FRAMES_PER_SECOND / PIXELS_PER_TOKEN
    origin = f"{size[0]} x {size[1]} x {plain(seconds)} s x {FRAMES_PER_SECOND} / {PIXELS_PER_TOKEN}"
    return Term(tokens, "tokens", rate.usd, rate.line, origin)


def _most(rate: Rate, most_pixels: Decimal, seconds: Decimal) -> Term:
    frames = FRAMES_PER_SECOND * seconds + 1
    tokens = (most_pixels * frames / PIXELS_PER_TOKEN).to_integral_value(ROUND_CEILING)
    origin = f"{plain(most_pixels, grouped=True)} pixels x {plain(frames)} frames / {PIXELS_PER_TOKEN}"
    return Term(tokens, "tokens", rate.usd, rate.line, origin)


def _megapixels(rate: Rate, case: Case, facts: Facts, hints: Hints) -> Charge:
    factors = _factors(case, facts)
    if hints.source_seconds is None or hints.source_width is None or hints.source_height is None or not factors:
        return unknown(rate.line, _SOURCE_SIZE)
    source = Decimal(hints.source_width) * hints.source_height * hints.source_seconds
    low, high = (
        Term(source * factor**2 / megapixel, "megapixel-seconds", rate.usd, rate.line)
        for factor, megapixel in ((min(factors), BINARY_MEGAPIXEL), (max(factors), DECIMAL_MEGAPIXEL))
    )
    return Charge(low, None, high, frozenset({rate.line}))


def _factors(case: Case, facts: Facts) -> list[Decimal]:
    if case.shape.upscale_factor is not None:
        return [case.shape.upscale_factor]
    if facts.upscale_min is None or facts.upscale_max is None:
        return []
    return [Decimal(str(facts.upscale_min)), Decimal(str(facts.upscale_max))]
