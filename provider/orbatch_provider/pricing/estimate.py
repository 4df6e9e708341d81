"""What the price engine takes and gives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import StrEnum

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


FLOOR_LINE = "minimum_cents_per_generation"


class EstimateStatus(StrEnum):
    """How much an estimate knows."""

    EXACT = "exact"  # low, exact and high are one amount
    ESTIMATE = "estimate"  # one amount inside a band
    ESTIMATE_NO_UPPER_BOUND = "estimate_no_upper_bound"  # one amount, but nothing bounds the charge
    RANGE = "range"  # a band, and no single amount
    LOWER_BOUND_ONLY = "lower_bound_only"  # the charge is at least low
    UNPRICEABLE = "unpriceable"  # no price line applies, or its quantity is unknown


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bounds on the charge at list price, in USD.

    ``high`` is what a budget reserves; None means that no upper bound can be given. ``exact`` is one amount, only when
    every billed dimension is fixed by the request; ``low`` None as well means unpriced. Never 0 for unknown.
    ``lines``: the price lines that produced the numbers, sorted. ``why``: the calculation, to check by hand.
    """

    low: Decimal | None
    exact: Decimal | None
    high: Decimal | None
    lines: tuple[str, ...] = ()
    why: str = ""

    @property
    def is_unpriced(self) -> bool:
        """Whether no upper bound exists, so that nothing can be reserved for it."""
        return self.high is None

    @property
    def status(self) -> EstimateStatus:
        if self.high is None:
            if self.exact is not None:
                return EstimateStatus.ESTIMATE_NO_UPPER_BOUND
            # A low that is only the model's minimum charge says nothing about this job.
            only_floor = self.low is None or FLOOR_LINE in self.lines
            return EstimateStatus.UNPRICEABLE if only_floor else EstimateStatus.LOWER_BOUND_ONLY
        if self.exact is None:
            return EstimateStatus.RANGE
        return EstimateStatus.EXACT if self.low == self.high else EstimateStatus.ESTIMATE


@dataclass(frozen=True, slots=True)
class Hints:
    """Facts about the input media that are not part of a request, for requests billed by them; None: unknown.

    Lengths in seconds, sizes in pixels. Raises ValueError for a length, size or count that is not a finite number
    of at least 0.
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
                    object.__setattr__(self, name, number)


NO_HINTS = Hints()


@dataclass(frozen=True, slots=True)
class OpenDimension:
    """A field that a request leaves out although it changes the price.

    ``low`` and ``high`` (USD): the worst-case price with the cheapest and with the dearest choice for this field,
    everything else as in the request; ``high`` None: no upper bound exists.
    """

    field: str
    low: Decimal | None
    high: Decimal | None


# Powers of ten between which every price, length and size lies by far; beyond them a number is an accident.
_SMALLEST, _LARGEST = -30, 18


def decimal_or_none(value: object) -> Decimal | None:
    """A number of sane magnitude from a JSON value or a decimal string, None for anything else. A float is taken as
    the shortest decimal that reads back as it, which is the literal that was written."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    is_sane = number.is_finite() and (number == 0 or _SMALLEST <= number.adjusted() <= _LARGEST)
    return number if is_sane else None


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
