"""What a price line charges for one case: how much of its unit the case consumes at least, most likely and at most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache

from orbatch_provider.catalog import VideoModel
from orbatch_provider.pricing.estimate import (
    NO_HINTS,
    Charge,
    Estimate,
    Hints,
    OpenDimension,
    Term,
    add_up,
    fixed,
    merge,
    plain,
    unknown,
)
from orbatch_provider.pricing.skus import PriceList, Rate, Unit, price_list
from orbatch_provider.pricing.video_cases import (
    Case,
    Facts,
    Shape,
    Size,
    area,
    cases,
    facts_of,
    parse_pair,
    pixels,
    shape_of,
    supported,
    unset_fields,
)
from orbatch_provider.requests import VideoRequest


def choose(prices: PriceList, case: Case) -> list[Rate]:
    """The lines that may be charged, in the catalog's order; several of them mean that the rule is not published.

    Two ties are settled by evidence: a line for sound outranks one for mode and resolution (the model page of
    Kling v3 shows it), and a continued job is charged by the continuation line.
    """
    continuing = case.shape.continues
    matching = [rate for rate in prices.rates if _matches(rate, case, prices)]
    qualifiers = {rate.line: rate.qualifiers(continuing=continuing) for rate in matching}
    chosen = [
        rate
        for rate in matching
        if not any(qualifiers[rate.line] < qualifiers[other.line] for other in matching)  # < is "proper subset"
    ]
    if same_price(chosen):
        return chosen[:1]
    if all(rate.unit is Unit.SECOND for rate in chosen):
        by_evidence = [rate for rate in chosen if rate.audio is not None] or [
            rate for rate in chosen if rate.continuation and continuing
        ]
        return by_evidence or chosen
    return chosen


def most_likely(rates: list[Rate], case: Case) -> Rate | None:
    """The line for the point estimate among those ``choose`` gave, None where nothing speaks for one of them.

    For token prices the line with the resolution is taken; no bill has shown it, so high still covers the other.
    """
    if len(rates) == 1:
        return rates[0]
    if all(rate.unit is Unit.TOKEN for rate in rates) and not case.shape.has_video:
        qualified = [rate for rate in rates if rate.resolution is not None]
        return qualified[0] if qualified and same_price(qualified) else None
    return None


def same_price(rates: list[Rate]) -> bool:
    return len({(rate.usd, rate.unit) for rate in rates}) <= 1


def _matches(rate: Rate, case: Case, prices: PriceList) -> bool:
    shape = case.shape
    # Reference requests on a model without lines for them: whether the text or the image line applies is not published.
    any_mode = shape.mode == "reference" and not prices.has_reference_lines
    return (
        (rate.mode is None or rate.mode == shape.mode or any_mode)
        and (rate.audio is None or rate.audio == case.audio)
        and (rate.resolution is None or rate.resolution == case.resolution)
        and (not rate.video_input or shape.has_video)
        and (not rate.continuation or shape.continues or shape.has_video)
        and (rate.creativity is None or shape.creativity is None or rate.creativity == shape.creativity)
    )


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
    # There is a cheaper line for requests with a video, but the reference's seconds may be pluralize as well, and a job
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


def estimate(request: VideoRequest, model: VideoModel, hints: Hints = NO_HINTS) -> Estimate:
    """What ``request`` costs on ``model`` at list price.

    Pricing is apart from checking: a request that the model does not support may have a price. Nothing is raised; a
    request that cannot be priced gives an Estimate without an upper bound, whose ``why`` says what is missing.
    """
    return estimate_shape(facts_of(model), shape_of(request), hints)


@lru_cache(maxsize=4096)
def estimate_shape(facts: Facts, shape: Shape, hints: Hints) -> Estimate:
    """``estimate`` for the parts of a request and a model that are billed."""
    prices = price_list(facts.prices)
    refusal = shape.mistake or _unreadable(facts, prices)
    if refusal:
        return Estimate(None, None, None, (), f"unpriced: {refusal}")
    by_case = {case: _charge(case, facts, prices, hints) for case in cases(facts, shape, hints.source_seconds)}
    rates = merge(by_case.values())
    adders = _adders(prices, shape) if rates.lines else ()
    left_open = [field for field in unset_fields(facts, shape) if _matters(field, by_case, prices)]
    return add_up([rates, *adders], left_open=left_open, floor_usd=prices.floor_usd)


def _unreadable(facts: Facts, prices: PriceList) -> str:
    if not facts.prices:
        return f"the catalog names no price for {facts.model}"
    if prices.unknown:
        line, text = prices.unknown[0]
        return f"{facts.model} has a price line of no known kind, {line} ({text})"
    return ""


def _charge(case: Case, facts: Facts, prices: PriceList, hints: Hints) -> Charge:
    """The charge for one case: by the cheapest line that may apply, by the most likely one, and by the dearest."""
    rates = choose(prices, case)
    if not rates:
        kind = f"{case.resolution or ''} {case.shape.mode} requests".strip()
        return Charge(None, None, None, gap=f"no price line of {facts.model} covers {kind}")
    charges = [charge(rate, case, facts, prices, hints) for rate in rates]
    likely = most_likely(rates, case)
    exact = None if likely is None else charges[rates.index(likely)].exact
    bounds = replace(merge(charges), exact=exact)
    lines = bounds.bounding_lines
    if case.shape.has_video and rates[0].unit is Unit.TOKEN:
        without_video = dearest_without_video(prices, case)
        lines |= set() if without_video is None else {without_video.line}
    return replace(bounds, lines=lines)


# The unit of the prices that the other fields act upon.
_PRICED_BY = {
    "aspect_ratio": Unit.TOKEN,
    "upscale_factor": Unit.MEGAPIXEL_SECOND,
    "creativity": Unit.MEGAPIXEL_SECOND,
}


def _matters(field: str, by_case: Mapping[Case, Charge], prices: PriceList) -> bool:
    """Whether leaving out ``field`` widens the estimate."""
    if field in _PRICED_BY:
        return any(rate.unit is _PRICED_BY[field] for rate in prices.rates)
    alike: dict[tuple[object, ...], set[tuple[Term | None, Term | None]]] = {}
    for case, charged in by_case.items():
        chosen = {"generate_audio": case.audio, "resolution": case.resolution, "duration": case.seconds}
        rest = tuple(value for name, value in chosen.items() if name != field)
        alike.setdefault(rest, set()).add((charged.low, charged.high))
    return any(len(bounds) > 1 for bounds in alike.values())


def _adders(prices: PriceList, shape: Shape) -> Iterator[Charge]:
    """The prices per image that the request touches.

    Input images were seen billed one by one, frames included. For reference images neither is published: at least one
    is charged when there are any, most likely each of them, at most the frames as well.
    """
    references, touched = shape.image_references, shape.frames + shape.image_references
    for adder in prices.adders if touched else ():
        counts = (touched, touched, touched) if adder.for_frames else (min(1, references), references, touched)
        low, likely, most = (Term(Decimal(count), "images", adder.usd, adder.line) for count in counts)
        yield Charge(low, likely, most, frozenset({adder.line}))


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
