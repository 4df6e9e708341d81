"""Which price lines apply to one case: all qualifiers match, and no more specific line does."""

from __future__ import annotations

from orbatch_provider.pricing.shape import Case
from orbatch_provider.pricing.skus import PriceList, Rate, Unit


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
