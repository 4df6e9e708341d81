"""USD amounts and the ledger's integer nano-dollars. Nothing here or elsewhere touches a float."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal
from functools import lru_cache

NUSD_PER_USD = 1_000_000_000

_NANO = Decimal("0.000000001")
_CENT = Decimal("0.01")


# A plan asks for the same few estimates 100,000 times.
@lru_cache(maxsize=1024)
def to_nano(amount: Decimal) -> int:
    """A charge in nano-dollars, rounded half-even beyond the ninth decimal."""
    return int(amount.quantize(_NANO, ROUND_HALF_EVEN) * NUSD_PER_USD)


@lru_cache(maxsize=1024)
def to_nano_up_to(amount: Decimal) -> int:
    """An upper bound in nano-dollars, rounded up, so that a reservation is never below its estimate."""
    return int(amount.quantize(_NANO, ROUND_CEILING) * NUSD_PER_USD)


def from_nano(amount_nusd: int) -> Decimal:
    """Nano-dollars as USD, exactly, without trailing zeros beyond the cents."""
    amount = Decimal(amount_nusd) / NUSD_PER_USD
    return amount.quantize(_CENT) if amount == amount.quantize(_CENT) else amount.normalize()


def format_usd(amount_nusd: int | None, unknown: str = "?") -> str:
    """``0.40``, ``0.0708932``: at least cents, every digit that is there, never an exponent."""
    return unknown if amount_nusd is None else f"{from_nano(amount_nusd):f}"
