"""Estimates, and the bounds they are added up from: docs/pricing.md, "An estimate has three numbers".

A bound that cannot be computed is None, never 0, and a sum or a range that lacks one of its bounds has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import TypeVar

T = TypeVar("T")

FLOOR_LINE = "minimum_cents_per_generation"
# OpenRouter does not say which of the two a megapixel is: low takes the larger one, high the smaller one.
BINARY_MEGAPIXEL, DECIMAL_MEGAPIXEL = Decimal(2**20), Decimal(10**6)
# Powers of ten that hold every real price, length and size. A number outside them is a mistake in the data.
_SMALLEST, _LARGEST = -30, 12
_PER = {"s": "USD/s", "tokens": "USD/token", "megapixels": "USD/megapixel", "megapixel-seconds": "USD/megapixel-second"}


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bounds on the charge at list price, in USD.

    ``high`` is what a budget reserves; None means that there is no upper bound. ``exact`` is one amount, only set when
    the request fixes everything that is billed. ``low`` None as well means unpriced.
    ``lines``: the price lines behind the numbers, sorted. ``why``: the calculation, to be checked by hand.
    """

    low: Decimal | None
    exact: Decimal | None
    high: Decimal | None
    lines: tuple[str, ...] = ()
    why: str = ""

    @classmethod
    def unpriced(cls, reason: str) -> Estimate:
        """An estimate that knows nothing, and why."""
        return cls(None, None, None, (), f"unpriced: {reason}")

    def unless_free(self, model: str) -> Estimate:
        """The same, but unpriced where it is 0 and the model is not declared free by a ``:free`` in its id: models that
        are listed at 0 were charged for."""
        if self.high != 0 or model.endswith(":free"):
            return self
        return Estimate.unpriced(f"the price list says 0, and {model} is not declared free")

    @property
    def is_unpriced(self) -> bool:
        """Whether there is no upper bound, so that a budget cannot reserve one."""
        return self.high is None


@dataclass(frozen=True, slots=True)
class Hints:
    """Facts about input media and prompt that a request does not contain; None means unknown.

    Lengths in seconds, sizes in pixels. Raises ValueError for a value that is not a finite number of at least 0.
    """

    source_seconds: Decimal | None = None
    source_width: int | None = None
    source_height: int | None = None
    video_input_seconds: Decimal | None = None
    output_tokens_per_image: int | None = None
    input_tokens_per_reference: int | None = None
    prompt_tokens: int | None = None

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None:
                number = decimal_or_none(value)
                if number is None or number < 0:
                    raise ValueError(f"{name} must be a number of at least 0, not {value!r}")
                if name.endswith("seconds"):
                    object.__setattr__(self, name, number)  # frozen, but this is still construction


NO_HINTS = Hints()


@dataclass(frozen=True, slots=True)
class UnsetField:
    """A field that a request does not set although its price depends on it.

    ``low`` and ``high``: the worst case in USD with the cheapest and with the most expensive value of this field, all
    other fields as in the request; ``high`` None: there is no upper bound.
    """

    field: str
    low: Decimal | None
    high: Decimal | None


@dataclass(frozen=True, slots=True)
class Term:
    """``quantity`` of ``unit`` at ``usd`` each, by a price line. ``origin``: how the quantity was computed."""

    quantity: Decimal
    unit: str
    usd: Decimal
    line: str
    origin: str = ""

    @property
    def amount(self) -> Decimal:
        """The product, in USD."""
        return self.quantity * self.usd

    @property
    def per(self) -> str:
        """The unit of ``usd``."""
        return _PER.get(self.unit, "USD")

    def __str__(self) -> str:
        return f"{_measure(self)} x {plain(self.usd)} {self.per} ({self.line})"


@dataclass(frozen=True, slots=True)
class PriceBounds:
    """What is charged at least, most likely and at most; ``gap`` says why one of the three is None.

    ``lines``: the price lines behind them.
    """

    low: Term | None
    exact: Term | None
    high: Term | None
    lines: frozenset[str] = frozenset()
    gap: str = ""

    @property
    def ends(self) -> tuple[Decimal | None, ...]:
        """The least and the most, in USD."""
        return tuple(None if term is None else term.amount for term in (self.low, self.high))

    def with_bounding_lines(self) -> PriceBounds:
        """The same with only the lines that produced a number, unless nothing could be computed."""
        terms = (self.low, self.exact, self.high)
        lines = self.lines if self.low is None else frozenset(term.line for term in terms if term is not None)
        return replace(self, lines=lines)


_Terms = Sequence[Term] | None  # of a sum; None where one of them is not known


def fixed(term: Term) -> PriceBounds:
    """A charge that is certain."""
    return PriceBounds(term, term, term, frozenset({term.line}))


def up_to(most: Term) -> PriceBounds:
    """A charge between nothing and ``most``."""
    return PriceBounds(replace(most, quantity=Decimal(0)), None, most, frozenset({most.line}))


def unknown(line: str, gap: str, low: Term | None = None) -> PriceBounds:
    """A charge without an upper bound; without ``low`` nothing is known about it."""
    return PriceBounds(low, None, None, frozenset({line}), gap)


def union(bounds: Iterable[PriceBounds]) -> PriceBounds:
    """The bounds over charges of which one will be made; ``exact`` only where all agree on it."""
    bounds = list(bounds)
    lows, exacts, highs = (_complete(getattr(each, name) for each in bounds) for name in ("low", "exact", "high"))
    return PriceBounds(
        min(lows, key=lambda term: term.amount) if lows else None,
        exacts[0] if exacts and len({term.amount for term in exacts}) == 1 else None,
        max(highs, key=lambda term: term.amount) if highs else None,
        frozenset[str]().union(*(each.lines for each in bounds)),
        next((each.gap for each in bounds if each.gap), ""),
    )


def union_of_estimates(estimates: Sequence[Estimate]) -> Estimate:
    """The estimate over several of which one will apply; ``exact`` only where all agree on it."""
    lows, highs = _complete(each.low for each in estimates), _complete(each.high for each in estimates)
    return Estimate(
        min(lows) if lows else None,
        estimates[0].exact if len({each.exact for each in estimates}) == 1 else None,
        max(highs) if highs else None,
        tuple(sorted({line for each in estimates for line in each.lines})),
        "; or ".join(dict.fromkeys(each.why for each in estimates)),
    )


def add_up(parts: Sequence[PriceBounds], *, unset: Sequence[str] = (), floor_usd: Decimal | None = None) -> Estimate:
    """The sum of ``parts``, raised to the minimum charge. ``unset``: the fields that cause a range, for ``why``."""
    low, exact, high = (_complete(getattr(part, name) for part in parts) for name in ("low", "exact", "high"))
    high = None if low is None else high  # a budget must not reserve a bound of which nothing else is known
    gap = next((part.gap for part in parts if part.gap), "")
    lines = frozenset[str]().union(*(part.lines for part in parts))
    why = _why(low, exact, high, gap, unset)
    least, likely, most = (None if terms is None else _total(terms) for terms in (low, exact, high))
    if floor_usd is not None and (least is None or least < floor_usd):
        lines |= {FLOOR_LINE}
        minimum = f"the minimum of {plain(floor_usd)} USD ({FLOOR_LINE})"
        why += f"; at least {minimum}" if least is None else f", raised to {minimum}"
        least = floor_usd
        likely, most = (None if amount is None else max(floor_usd, amount) for amount in (likely, most))
    return Estimate(least, likely, most, tuple(sorted(lines)), why)


def decimal_or_none(value: object) -> Decimal | None:
    """A JSON number or decimal string of a sane magnitude; None for anything else.

    A float is read as its shortest decimal form, which is the literal that was written.
    """
    # A bool is an int in Python, and no number here.
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    is_sane = number.is_finite() and (number == 0 or _SMALLEST <= number.adjusted() <= _LARGEST)
    return number if is_sane else None


def plain(number: Decimal, *, grouped: bool = False) -> str:
    """A number without exponent and trailing zeros; ``grouped``: with a comma between thousands."""
    return f"{number.normalize():,f}" if grouped else f"{number.normalize():f}"


def _rounded(quantity: Decimal) -> str:
    return f"{quantity:,.4f}".rstrip("0").rstrip(".")  # for reading only: the calculation is not rounded


def _measure(term: Term) -> str:
    unit = term.unit.removesuffix("s") if term.quantity == 1 and term.unit != "s" else term.unit
    return f"{_rounded(term.quantity)} {unit}" + (f" ({term.origin})" if term.origin else "")


def _total(terms: Sequence[Term]) -> Decimal:
    return sum((term.amount for term in terms), Decimal(0))


def _complete(values: Iterable[T | None]) -> list[T] | None:
    """All ``values``; None where one is missing, because then their sum or their extreme is unknown."""
    values = list(values)
    present = [value for value in values if value is not None]
    return present if len(present) == len(values) else None


def _why(low: _Terms, exact: _Terms, high: _Terms, gap: str, unset: Sequence[str]) -> str:
    if low is None:
        return f"unpriced: {gap}"
    prefix = f"{', '.join(unset)} not set: " if unset else ""
    if high is None:
        return f"{prefix}at least {_sum(low)}; no upper bound: {gap}"
    if exact is None:
        return prefix + _range(low, high)
    at_least = "" if _total(low) == _total(exact) else f"; at least {_sum(low)}"
    at_most = "" if _total(high) == _total(exact) else f"; at most {_sum(high)}"
    return _sum(exact) + at_least + at_most


def _sum(terms: Sequence[Term]) -> str:
    return " + ".join(str(term) for term in terms if term.quantity) or str(terms[0])


def _range(low: Sequence[Term], high: Sequence[Term]) -> str:
    """Two sums of the same terms, written as one where a single rate or quantity differs."""
    pairs = [(least, most) for least, most in zip(low, high, strict=True) if most.quantity]
    texts = [str(least) if least == most else _merged(least, most) for least, most in pairs]
    if sum(least != most for least, most in pairs) <= 1 and all(texts):
        return " + ".join(texts) or _sum(low)
    return f"from {_sum(low)} to {_sum(high)}"


def _merged(low: Term, high: Term) -> str:
    if low.quantity == high.quantity and low.unit == high.unit:
        lines = low.line if low.line == high.line else f"{low.line}, {high.line}"
        return f"{_measure(low)} x {plain(low.usd)} to {plain(high.usd)} {low.per} ({lines})"
    if (low.unit, low.line, low.usd) == (high.unit, high.line, high.usd) and not (low.origin or high.origin):
        return f"{_rounded(low.quantity)} to {high}"
    return ""
