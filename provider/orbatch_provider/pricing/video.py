"""The estimate of a video request: every case it leaves open, by every price line that may apply."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache

from orbatch_provider.catalog import VideoModel
from orbatch_provider.pricing.charge import Charge, add_up, merge
from orbatch_provider.pricing.choice import choose, most_likely
from orbatch_provider.pricing.quantity import charge, dearest_without_video
from orbatch_provider.pricing.shape import Case, Facts, Shape, cases, facts_of, shape_of, unset_fields
from orbatch_provider.pricing.skus import PriceList, Unit, price_list
from orbatch_provider.pricing.terms import Term
from orbatch_provider.pricing.values import NO_HINTS, Estimate, Hints
from orbatch_provider.requests import VideoRequest


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
