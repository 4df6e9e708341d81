"""What the price engine takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import StrEnum

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
