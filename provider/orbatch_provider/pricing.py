"""What a request will cost, by the price lines of its model. Pure, and Decimal throughout."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


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


@dataclass(frozen=True, slots=True)
class Hints:
    """Facts about the input media that are not part of a request, for requests billed by them; None: unknown."""

    source_seconds: Decimal | None = None
    source_width: int | None = None
    source_height: int | None = None
    video_input_seconds: Decimal | None = None
    output_tokens_per_image: int | None = None
    input_tokens_per_reference: int | None = None
    prompt_tokens: int | None = None
