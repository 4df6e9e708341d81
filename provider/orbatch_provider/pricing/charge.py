"""The bounds of what a price line charges, and how they are put together into an estimate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from orbatch_provider.pricing.terms import Term, in_words, plain, range_in_words, total
from orbatch_provider.pricing.values import FLOOR_LINE, Estimate

NO_LINES: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Charge:
    """What is charged at least, most likely and at most; ``gap`` says why one of them is None.

    ``lines``: the price lines behind it.
    """

    low: Term | None
    exact: Term | None
    high: Term | None
    lines: frozenset[str] = NO_LINES
    gap: str = ""

    @property
    def bounding_lines(self) -> frozenset[str]:
        """The lines that produced a number; where nothing can be computed, the lines that would."""
        terms = (self.low, self.exact, self.high)
        return self.lines if self.low is None else frozenset(term.line for term in terms if term is not None)


def fixed(term: Term) -> Charge:
    return Charge(term, term, term, frozenset({term.line}))


def unknown(line: str, gap: str, low: Term | None = None) -> Charge:
    """A charge without an upper bound; without ``low`` nothing at all is known about it."""
    return Charge(low, None, None, frozenset({line}), gap)


def merge(charges: Iterable[Charge]) -> Charge:
    """The bounds over several possible charges. A bound that one of them lacks does not exist, and a single amount
    exists only when all of them agree on it."""
    charges = list(charges)
    lows = [charge.low for charge in charges if charge.low is not None]
    exacts = [charge.exact for charge in charges if charge.exact is not None]
    highs = [charge.high for charge in charges if charge.high is not None]
    every = len(charges)
    agree = len(exacts) == every and len({term.amount for term in exacts}) == 1
    return Charge(
        min(lows, key=_amount) if len(lows) == every else None,
        exacts[0] if agree else None,
        max(highs, key=_amount) if len(highs) == every else None,
        NO_LINES.union(*(charge.lines for charge in charges)),
        next((charge.gap for charge in charges if charge.gap), ""),
    )


def _amount(term: Term) -> Decimal:
    return term.amount


def add_up(parts: Sequence[Charge], *, left_open: Sequence[str] = (), floor_usd: Decimal | None = None) -> Estimate:
    """The sum of ``parts``, raised to the minimum charge. ``left_open``: the fields behind a range, to be named."""
    low = _complete([part.low for part in parts])
    exact = _complete([part.exact for part in parts])
    high = _complete([part.high for part in parts]) if low is not None else None
    gap = next((part.gap for part in parts if part.gap), "")
    lines = NO_LINES.union(*(part.lines for part in parts))
    why = _why(low, exact, high, gap, left_open)
    bottom, likely, top = (None if terms is None else total(terms) for terms in (low, exact, high))
    if floor_usd is not None and (bottom is None or bottom < floor_usd):
        lines |= {FLOOR_LINE}
        minimum = f"the minimum of {plain(floor_usd)} USD ({FLOOR_LINE})"
        why += f"; at least {minimum}" if bottom is None else f", raised to {minimum}"
        bottom = floor_usd
        likely, top = (None if amount is None else max(floor_usd, amount) for amount in (likely, top))
    return Estimate(bottom, likely, top, tuple(sorted(lines)), why)


def _complete(terms: Sequence[Term | None]) -> list[Term] | None:
    known = [term for term in terms if term is not None]
    return known if len(known) == len(terms) else None


def _why(
    low: Sequence[Term] | None,
    exact: Sequence[Term] | None,
    high: Sequence[Term] | None,
    gap: str,
    left_open: Sequence[str],
) -> str:
    if low is None:
        return f"unpriced: {gap}"
    opening = f"{', '.join(left_open)} not given: " if left_open else ""
    if high is None:
        return f"{opening}at least {in_words(low)}; no upper bound: {gap}"
    if exact is None:
        return opening + range_in_words(low, high)
    sentence = in_words(exact)
    if total(low) != total(exact):
        sentence += f"; at least {in_words(low)}"
    if total(high) != total(exact):
        sentence += f"; at most {in_words(high)}"
    return sentence
