"""Tables and amounts as a person reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING

from orbatch.cli.session import printable
from orbatch.money import usd

if TYPE_CHECKING:
    from rich.table import Table

_CENT = Decimal("0.01")
_FINE = Decimal("0.0001")


def amount(nusd: int | None, unknown: str = "?") -> str:
    """USD in cents; in hundredths of a cent where cents would hide digits."""
    if nusd is None:
        return unknown
    exact = usd(nusd)
    return f"{exact.quantize(_CENT if exact == exact.quantize(_CENT) else _FINE, ROUND_HALF_EVEN):f}"


def span(low_nusd: int, high_nusd: int, unpriced: int = 0) -> str:
    """``0.40``, ``0.40 - 1.20``, and a plus where jobs without an upper price come on top."""
    text = amount(low_nusd) if low_nusd == high_nusd else f"{amount(low_nusd)} - {amount(high_nusd)}"
    return f"{text} + {unpriced} unpriced" if unpriced else text


def json_usd(nusd: int | None) -> float | None:
    """USD as a JSON number. The nearest float prints as the exact decimal up to 15 digits, which is 999,999 USD in
    nano-dollars; nothing is ever calculated with it."""
    return None if nusd is None else float(usd(nusd))


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Iterable[int] = ()) -> Table:
    """``numbers``: columns to align on the right."""
    from rich import box
    from rich.table import Table

    right = set(numbers)
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for column, title in enumerate(titles):
        grid.add_column(title, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        grid.add_row(*[printable(cell).replace("\n", " ") for cell in row])
    return grid
