"""The estimate of a video request: docs/pricing.md, "How an estimate is made".

For every case that the request may be billed for: which price lines apply, and what each of them charges. A rule that
OpenRouter does not publish gives a range, from the cheapest to the most expensive reading of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache

from orbatch_provider.catalog import VideoModel
from orbatch_provider.pricing.estimate import (
    BINARY_MEGAPIXEL,
    DECIMAL_MEGAPIXEL,
    NO_HINTS,
    Estimate,
    Hints,
    PriceBounds,
    Term,
    UnsetField,
    add_up,
    fixed,
    plain,
    union,
    unknown,
)
from orbatch_provider.pricing.skus import PriceList, Rate, Unit, price_list
from orbatch_provider.pricing.video_cases import (
    BilledModel,
    BilledRequest,
    Size,
    alternatives,
    frame_area,
    pixels,
    price_cases,
)
from orbatch_provider.requests import VideoRequest

FRAMES_PER_SECOND = 24
PIXELS_PER_TOKEN = 1024  # with 24 frames, fits the charges that public projects recorded

# Names of provider options that can change what is billed without the fields that are priced.
BILLED_OPTIONS = frozenset(
    "aspectRatio audio image images keyframes last_image ratio return_last_frame size version video videos".split()
)
_LINE_MODES = {"text": "text_to_video", "image": "image_to_video", "reference": "reference"}
_LINE_CREATIVITY = {0: "precise", 1: "creative"}
_REFERENCE_LENGTH = "the length of the video reference is not known, and it may be billed too"


def estimate_video(request: VideoRequest, model: VideoModel, hints: Hints = NO_HINTS) -> Estimate:
    """What ``request`` costs on ``model`` at list price.

    Whether the model supports the request is not checked. Raises nothing: a request without a price has an estimate
    without an upper bound, and its ``why`` says what is missing.
    """
    return _estimate(BilledModel.of(model), BilledRequest.of(request), hints).unless_free(model.id)


def unset_fields(request: VideoRequest, model: VideoModel, hints: Hints = NO_HINTS) -> tuple[UnsetField, ...]:
    """The fields that ``request`` does not set although its price depends on them, each with the range it causes.

    Provider options that may change the charge are among them, without an upper bound.
    """
    fields = _unset_fields(BilledModel.of(model), BilledRequest.of(request), hints)
    options = (request.provider or {}).get("options")
    billed = [
        f"provider.options.{slug}.{name}"
        for slug, block in (options.items() if isinstance(options, Mapping) else ())
        for name in (block if isinstance(block, Mapping) else ())
        if name in BILLED_OPTIONS
    ]
    low = estimate_video(request, model, hints).low if billed else None
    return fields + tuple(UnsetField(name, low, None) for name in billed)


@lru_cache(maxsize=4096)  # a plan of 100,000 jobs has few distinct ones
def _estimate(model: BilledModel, request: BilledRequest, hints: Hints) -> Estimate:
    prices = price_list(model.prices)
    if request.mistake or prices.unknown or not model.prices:
        return Estimate.unpriced(request.mistake or _unpriced_model(model, prices))
    rates = _rates(model, request, hints)
    adders = _adders(prices, request) if rates.lines else ()  # alone they would look like a price
    unset = [
        field
        for field, choices in alternatives(model, request).items()
        # An unset generate_audio is the model's own flag where it has one.
        if (field != "generate_audio" or model.generate_audio is None)
        and len({_rates(model, choice, hints).ends for choice in choices}) > 1
    ]
    return add_up([rates, *adders], unset=unset, floor_usd=prices.floor_usd)


def _rates(model: BilledModel, request: BilledRequest, hints: Hints) -> PriceBounds:
    """The charge without the prices per input image, over all cases."""
    prices = price_list(model.prices)
    cases = price_cases(model, request, hints.source_seconds)
    return union(_bounds(case, model, prices, hints) for case in cases)


def _unpriced_model(model: BilledModel, prices: PriceList) -> str:
    if not model.prices:
        return f"the catalog has no price for {model.id}"
    line, text = prices.unknown[0]
    return f"the meaning of the price line {line} ({text}) of {model.id} is not known"


def _bounds(case: BilledRequest, model: BilledModel, prices: PriceList, hints: Hints) -> PriceBounds:
    """The charge for one case, from the cheapest to the most expensive line that may apply."""
    rates = match_lines(prices, case)
    if not rates:
        kind = f"{case.resolution or ''} {case.mode} requests".strip()
        return PriceBounds(None, None, None, gap=f"no price line of {model.id} covers {kind}")
    charges = [_charge(rate, case, model, prices, hints) for rate in rates]
    likely = most_likely(rates, case)
    exact = None if likely is None else charges[rates.index(likely)].exact
    bounds = replace(union(charges), exact=exact).with_bounding_lines()
    without_video = _highest_without_video(prices, case)
    if case.has_video and rates[0].unit is Unit.TOKEN and without_video is not None:
        return replace(bounds, lines=bounds.lines | {without_video.line})
    return bounds


def match_lines(prices: PriceList, case: BilledRequest) -> list[Rate]:
    """The lines that may be charged, in the catalog's order: docs/pricing.md, "How an estimate is made", step 2.

    A line is dropped where another has all its qualifiers and more. Two ties are settled by evidence: a line for audio
    wins over one for mode and resolution (Kling v3's page shows it), and a continued job is charged by its own line.
    """
    accepted = _accepted(prices, case)
    matching = [rate for rate in prices.rates if all(text in accepted[part] for part, text in rate.qualifiers.items())]
    # The continuation qualifier makes a line more specific only while a job is continued.
    ignored = () if case.continues else ("continuation",)
    named = [frozenset(pair for pair in rate.qualifiers.items() if pair[0] not in ignored) for rate in matching]
    # Between sets, < means "proper subset".
    chosen = [rate for rate, parts in zip(matching, named, strict=True) if not any(parts < other for other in named)]
    if _is_one_price(chosen):
        return chosen[:1]
    if any(rate.unit is not Unit.SECOND for rate in chosen):
        return chosen
    with_audio = [rate for rate in chosen if "audio" in rate.qualifiers]
    continuing = [rate for rate in chosen if "continuation" in rate.qualifiers and case.continues]
    return with_audio or continuing or chosen


def most_likely(rates: Sequence[Rate], case: BilledRequest) -> Rate | None:
    """The line for the exact amount among those that may be charged, None where nothing favours one.

    Of token lines it is the one with the resolution; no charge has confirmed it, so ``high`` covers the others too.
    """
    if len(rates) == 1:
        return rates[0]
    if all(rate.unit is Unit.TOKEN for rate in rates) and not case.has_video:
        qualified = [rate for rate in rates if "resolution" in rate.qualifiers]
        return qualified[0] if qualified and _is_one_price(qualified) else None
    return None


def _accepted(prices: PriceList, case: BilledRequest) -> Mapping[str, Sequence[str | None]]:
    """For each part of a line's name: the texts with which the line can price this case."""
    # Whether references are priced as text or as image, where they have no lines of their own, is not published.
    any_mode = case.mode == "reference" and not prices.has_reference_lines
    return {
        "mode": [*_LINE_MODES.values()] if any_mode else [_LINE_MODES[case.mode]],
        "audio": ["with_audio" if case.generate_audio else "without_audio"],
        "resolution": [case.resolution],
        "video_input": ["with_video_input"] if case.has_video else [],
        "continuation": ["continuation"] if case.continues or case.has_video else [],
        "creativity": [*_LINE_CREATIVITY.values()]
        if case.creativity is None
        else [_LINE_CREATIVITY.get(case.creativity)],
    }


def _is_one_price(rates: Sequence[Rate]) -> bool:
    return len({(rate.usd, rate.unit) for rate in rates}) <= 1


def _charge(rate: Rate, case: BilledRequest, model: BilledModel, prices: PriceList, hints: Hints) -> PriceBounds:
    if rate.unit is Unit.MEGAPIXEL_SECOND:
        return _megapixels(rate, case, model, hints)
    if case.duration is None:
        return unknown(rate.line, "the length of the source is not known")
    if rate.unit is Unit.TOKEN:
        return _tokens(rate, case, case.duration, model, prices, hints)
    return _seconds(rate, case, case.duration, prices, hints)


def _seconds(rate: Rate, case: BilledRequest, seconds: Decimal, prices: PriceList, hints: Hints) -> PriceBounds:
    term = Term(seconds, "s", rate.usd, rate.line)
    if not (case.mode == "reference" and case.has_video and prices.has_reference_lines):
        return fixed(term)
    # Whether the seconds of the reference itself are billed is not published.
    if hints.video_input_seconds is None:
        return unknown(rate.line, _REFERENCE_LENGTH, low=term)
    origin = f"{plain(seconds)} + {plain(hints.video_input_seconds)} of the reference"
    both = replace(term, quantity=seconds + hints.video_input_seconds, origin=origin)
    return PriceBounds(term, None, both, frozenset({rate.line}))


def _tokens(
    rate: Rate, case: BilledRequest, seconds: Decimal, model: BilledModel, prices: PriceList, hints: Hints
) -> PriceBounds:
    """docs/pricing.md, "Video tokens"."""
    area = frame_area(model, case)
    if area is None:
        return unknown(rate.line, f"the pixels of {case.resolution or 'the video'} are not known")
    low, lines = _nominal_tokens(rate, area.smallest, seconds), frozenset({rate.line})
    if not case.has_video:
        most = _most_tokens(rate, area.most_pixels, seconds)
        return PriceBounds(low, low if area.is_exact else None, most, lines)
    # The line for requests with a video is cheaper, but the reference's seconds may count as well, and a job was billed
    # the same with and without one: only the more expensive of both readings is an upper bound.
    if hints.video_input_seconds is None:
        return unknown(rate.line, _REFERENCE_LENGTH, low=low)
    readings = [_most_tokens(rate, area.most_pixels, seconds + hints.video_input_seconds)]
    without_video = _highest_without_video(prices, case)
    if without_video is not None:
        readings.append(_most_tokens(without_video, area.most_pixels, seconds))
    return PriceBounds(low, None, max(readings, key=lambda term: term.amount), lines)


def _highest_without_video(prices: PriceList, case: BilledRequest) -> Rate | None:
    """The most expensive token line that takes no notice of a video reference."""
    lines = [
        rate
        for rate in prices.rates
        if rate.unit is Unit.TOKEN
        and "video_input" not in rate.qualifiers
        and rate.qualifiers.get("resolution") in (None, case.resolution)
    ]
    return max(lines, key=lambda rate: rate.usd, default=None)


def _nominal_tokens(rate: Rate, size: Size, seconds: Decimal) -> Term:
    tokens = pixels(size) * seconds * FRAMES_PER_SECOND / PIXELS_PER_TOKEN
    origin = f"{size[0]} x {size[1]} x {plain(seconds)} s x {FRAMES_PER_SECOND} / {PIXELS_PER_TOKEN}"
    return Term(tokens, "tokens", rate.usd, rate.line, origin)


def _most_tokens(rate: Rate, most_pixels: Decimal, seconds: Decimal) -> Term:
    frames = FRAMES_PER_SECOND * seconds + 1  # two recorded charges fit this one more frame to the last digit
    tokens = (most_pixels * frames / PIXELS_PER_TOKEN).to_integral_value(ROUND_CEILING)
    origin = f"{plain(most_pixels, grouped=True)} pixels x {plain(frames)} frames / {PIXELS_PER_TOKEN}"
    return Term(tokens, "tokens", rate.usd, rate.line, origin)


def _megapixels(rate: Rate, case: BilledRequest, model: BilledModel, hints: Hints) -> PriceBounds:
    factor = case.upscale_factor
    factors = model.upscale_factors if factor is None else (factor,)
    if hints.source_seconds is None or hints.source_width is None or hints.source_height is None or not factors:
        return unknown(rate.line, "the size or the length of the source video is not known")
    source = Decimal(hints.source_width) * hints.source_height * hints.source_seconds
    low, high = (
        Term(source * factor**2 / megapixel, "megapixel-seconds", rate.usd, rate.line)
        for factor, megapixel in ((min(factors), BINARY_MEGAPIXEL), (max(factors), DECIMAL_MEGAPIXEL))
    )
    return PriceBounds(low, None, high, frozenset({rate.line}))


def _adders(prices: PriceList, request: BilledRequest) -> Iterator[PriceBounds]:
    """The prices per input image: docs/pricing.md, "How an estimate is made", step 4.

    Lines for input images were seen charged for each one, frames included. Of lines for reference images neither is
    published: one is charged if there are any, most likely each of them, at most the frames as well.
    """
    references, images = request.image_references, request.frames + request.image_references
    for adder in prices.adders if images else ():
        counts = (images, images, images) if adder.for_frames else (min(1, references), references, images)
        low, likely, most = (Term(Decimal(count), "images", adder.usd, adder.line) for count in counts)
        yield PriceBounds(low, likely, most, frozenset({adder.line}))


@lru_cache(maxsize=4096)
def _unset_fields(model: BilledModel, request: BilledRequest, hints: Hints) -> tuple[UnsetField, ...]:
    found = []
    for field, choices in alternatives(model, request).items():
        estimates = [_estimate(model, choice, hints) for choice in choices]
        if len({(each.low, each.exact, each.high) for each in estimates}) > 1:
            highs = [each.high for each in estimates if each.high is not None]
            # Where no choice has an upper bound, the lower ones are all there is to compare.
            lows = highs or [each.low for each in estimates if each.low is not None]
            found.append(UnsetField(field, min(lows, default=None), max(highs) if len(highs) == len(choices) else None))
    return tuple(found)
