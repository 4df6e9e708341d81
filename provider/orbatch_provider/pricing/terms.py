"""The products a charge is a sum of, and how they read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

_DIGITS = 4  # decimals of a quantity in a sentence; the calculation itself is not rounded
_PER = {"s": "USD/s", "tokens": "USD/token", "megapixels": "USD/megapixel", "megapixel-seconds": "USD/megapixel-second"}


@dataclass(frozen=True, slots=True)
class Term:
    """``quantity`` of ``unit`` at ``usd`` each, by a price line. ``origin``: how the quantity came about."""

    quantity: Decimal
    unit: str
    usd: Decimal
    line: str
    origin: str = ""

    @property
    def amount(self) -> Decimal:
        return self.quantity * self.usd

    def __str__(self) -> str:
        return f"{_counted(self)} x {plain(self.usd)} {_per(self)} ({self.line})"


def total(terms: Sequence[Term]) -> Decimal:
    return sum((term.amount for term in terms), Decimal(0))


def plain(number: Decimal, *, grouped: bool = False) -> str:
    """A number without exponent and trailing zeros; ``grouped`` in thousands."""
    return f"{number.normalize():,f}" if grouped else f"{number.normalize():f}"


def in_words(terms: Sequence[Term]) -> str:
    """The sum; terms with nothing in them are left out."""
    return " + ".join(str(term) for term in terms if term.quantity) or str(terms[0])


def range_in_words(low: Sequence[Term], high: Sequence[Term]) -> str:
    """Two sums of the same terms, written as one where only a rate or only a quantity differs."""
    differing = [index for index, pair in enumerate(zip(low, high, strict=True)) if pair[0] != pair[1]]
    if not differing:
        return in_words(low)
    if len(differing) == 1:
        at = differing[0]
        merged = _merged(low[at], high[at])
        if merged:
            return " + ".join([*map(str, low[:at]), merged, *(str(term) for term in low[at + 1 :] if term.quantity)])
    return f"from {in_words(low)} to {in_words(high)}"


def _merged(low: Term, high: Term) -> str:
    if low.quantity == high.quantity and low.unit == high.unit:
        lines = low.line if low.line == high.line else f"{low.line}, {high.line}"
        return f"{_counted(low)} x {plain(low.usd)} to {plain(high.usd)} {_per(low)} ({lines})"
    if (low.unit, low.line, low.usd) == (high.unit, high.line, high.usd) and not (low.origin or high.origin):
        return f"{_number(low.quantity)} to {high}"
    return ""


def _counted(term: Term) -> str:
    is_one = term.quantity == 1 and term.unit != "s"
    origin = f" ({term.origin})" if term.origin else ""
    return f"{_number(term.quantity)} {term.unit.removesuffix('s') if is_one else term.unit}{origin}"


def _per(term: Term) -> str:
    return _PER.get(term.unit, "USD")


def _number(quantity: Decimal) -> str:
    return f"{quantity:,.{_DIGITS}f}".rstrip("0").rstrip(".")
