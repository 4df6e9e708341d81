"""Tables, amounts and counts as a person reads them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import asdict
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from orbatch.cli.session import printable
from orbatch.ledger import Counts, Status
from orbatch.money import from_nano

if TYPE_CHECKING:
    from rich.table import Table

T = TypeVar("T")
_CENT = Decimal("0.01")
_FINE = Decimal("0.0001")
_LONG = 200  # rows, beyond which laying out a table takes seconds
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # first characters of a formula, to a spreadsheet

# The five words for a job on the screen, and the statuses of the ledger behind each; `jobs` shows the exact status.
SCREEN: Mapping[str, tuple[Status, ...]] = {
    "done": (Status.DONE,),
    "running": (Status.SUBMITTING, Status.SUBMITTED, Status.COMPLETED),
    "pending": (Status.PENDING,),
    "failed": (Status.REJECTED, Status.FAILED, Status.CANCELLED, Status.EXPIRED, Status.LOST),
    "uncertain": (Status.UNCERTAIN,),
}


def screen_counts(counts: Counts) -> dict[str, int]:
    """Jobs by the words of SCREEN."""
    return {word: sum(counts[status] for status in statuses) for word, statuses in SCREEN.items()}


def amount(nusd: int | None, unknown: str = "?") -> str:
    """USD in cents; in hundredths of a cent where cents would hide digits."""
    if nusd is None:
        return unknown
    exact = from_nano(nusd)
    return f"{exact.quantize(_CENT if exact == exact.quantize(_CENT) else _FINE, ROUND_HALF_EVEN):f}"


def span(low_nusd: int, high_nusd: int, unpriced: int = 0) -> str:
    """``0.40``, ``0.40 - 1.20``, and a plus for jobs without an upper price."""
    text = amount(low_nusd) if low_nusd == high_nusd else f"{amount(low_nusd)} - {amount(high_nusd)}"
    return f"{text} + {unpriced} unpriced" if unpriced else text


def pluralize(number: int, noun: str) -> str:
    """``1 job``, ``2 jobs``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def jobs_are(number: int) -> str:
    """``1 job is``, ``2 jobs are``."""
    return f"{pluralize(number, 'job')} {'is' if number == 1 else 'are'}"


def json_usd(nusd: int | None) -> float | None:
    """USD as a JSON number. The nearest float prints as the exact decimal up to 15 digits, which is 999,999 USD in
    nano-dollars; nothing is ever calculated with it."""
    return None if nusd is None else float(from_nano(nusd))


def as_data(record: Any) -> dict[str, Any]:
    """A dataclass for machines: its fields, with amounts in USD as numbers."""
    return {
        name.replace("_nusd", "_usd"): json_usd(value) if name.endswith("_nusd") else json_number(value)
        for name, value in asdict(record).items()
    }


def json_number(value: Any) -> Any:
    """A Decimal as a JSON number, anything else as it is."""
    return float(value) if isinstance(value, Decimal) else value


def csv_line(cells: Iterable[object]) -> str:
    """A line of CSV that no spreadsheet executes: text that starts a formula gets an apostrophe in front."""

    def harmless(cell: object) -> object:
        text = printable(cell) if isinstance(cell, str) else ""
        return f"'{text}" if text.startswith(_FORMULA) else text or cell

    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(map(harmless, cells))
    return line.getvalue()


def table(
    records: Iterable[T], columns: Mapping[str, Callable[[T], object]], *, numbers: Iterable[int] = ()
) -> Table | str:
    """One row per record; ``columns``: title -> its cell. ``numbers``: columns to align on the right."""
    rows = [[printable(str(cell(record))).replace("\n", " ") for cell in columns.values()] for record in records]
    right = set(numbers)
    if len(rows) > _LONG:  # rich needs seconds for thousands of rows
        return _as_text([[*columns], *rows], right)
    from rich import box
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for number, title in enumerate(columns):
        grid.add_column(title, justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        grid.add_row(*row)
    return grid


def _as_text(lines: Sequence[Sequence[str]], right: Container[int]) -> str:
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            # Not str.ljust: a wide character fills two columns.
            " " * (width - cell_len(cell)) + cell if column in right else cell + " " * (width - cell_len(cell))
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
