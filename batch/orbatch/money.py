"""USD amounts and the ledger's integer nano-dollars. Nothing here or elsewhere touches a float."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from functools import lru_cache

NUSD_PER_USD = 1_000_000_000
MOST_USD = 1_000_000  # of an amount that a user sets: far below the 64 bits of a ledger's sums
USD_DECIMALS = 9  # the ledger counts nano-dollars
AN_AMOUNT = f"an amount in USD from 0 to {MOST_USD:,}, without a sign, such as 2.50"

_NANO = Decimal("0.000000001")
_CENT = Decimal("0.01")
_WIDE = Context(prec=100)  # digits: with the usual 28, a sum from an absurd price list ends in an exception
_SHOWN = 40  # characters of what is not an amount


def parse_usd(text: str) -> Decimal:
    """An amount in USD that a user has typed. Raises ValueError for what a batch file would refuse as well."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or not 0 <= amount <= MOST_USD or amount != round(amount, USD_DECIMALS):
        raise ValueError(f"{text if len(text) <= _SHOWN else text[:_SHOWN] + '...'} is not {AN_AMOUNT}")
    return amount


# A plan asks for the same few estimates 100,000 times.
@lru_cache(maxsize=1024)
def to_nano(amount: Decimal) -> int:
    """A charge in nano-dollars, rounded half-even beyond the ninth decimal."""
    return int(amount.quantize(_NANO, ROUND_HALF_EVEN, _WIDE).scaleb(USD_DECIMALS, _WIDE))


@lru_cache(maxsize=1024)
def to_nano_up_to(amount: Decimal) -> int:
    """An upper bound in nano-dollars, rounded up, so that a reservation is never below its estimate."""
    return int(amount.quantize(_NANO, ROUND_CEILING, _WIDE).scaleb(USD_DECIMALS, _WIDE))


def from_nano(amount_nusd: int) -> Decimal:
    """Nano-dollars as USD, exactly, without trailing zeros beyond the cents."""
    amount = Decimal(amount_nusd).scaleb(-USD_DECIMALS, _WIDE)
    cents = amount.quantize(_CENT, context=_WIDE)
    return cents if amount == cents else amount.normalize(_WIDE)


def format_usd(amount_nusd: int | None, unknown: str = "?") -> str:
    """``0.40``, ``0.0708932``: at least cents, every digit that is there, never an exponent."""
    return unknown if amount_nusd is None else f"{from_nano(amount_nusd):f}"
