"""Tables, amounts and counts as a person reads them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import ROUND_HALF_EVEN, Decimal
from textwrap import wrap
from typing import Any, TypeVar

from orbatch.cli.errors import Failure
from orbatch.cli.session import did_you_mean
from orbatch.cli.streams import printable
from orbatch.ledger import Counts, Selection, Status
from orbatch.money import from_nano

T = TypeVar("T")
_CENT = Decimal("0.01")
_FINE = Decimal("0.0001")
_GAP = "  "  # between the columns of a table
_SHORTEST, _SHORTEST_PROSE = 10, 30  # characters, below which a shortened name or a broken line is hard to read
_NOTHING = {"", "-", "0", "0.00", "0.0"}  # what a cell holds where there is nothing to tell
_DECIMALS = re.compile(r"(?<=\d)\.(\d+)(?!\d*[.%])")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # first characters of a formula, to a spreadsheet

# The five words for a job on the screen, and the statuses of the ledger behind each; `jobs` shows the exact status.
SCREEN: Mapping[str, tuple[Status, ...]] = {
    "done": (Status.DONE,),
    "running": (Status.SUBMITTING, Status.SUBMITTED, Status.COMPLETED),
    "pending": (Status.PENDING,),
    "failed": (Status.REJECTED, Status.FAILED, Status.CANCELLED, Status.EXPIRED, Status.LOST),
    "uncertain": (Status.UNCERTAIN,),
}


def select_jobs(
    only: str | None = None, prompt: str | None = None, model: str | None = None, status: str | None = None
) -> Selection:
    """The jobs that the options of a command choose. ``status``: several with commas; ``running`` is one, too. Raises
    Failure for an unknown status."""
    statuses: list[Status] = []
    for word in (text.strip() for text in status.split(",")) if status is not None else ():
        if word not in (*Status, "running"):
            known = [*Status, "running"]
            raise Failure(f"{word} is not a status.{did_you_mean(word, known)} Choose from: {', '.join(known)}.")
        statuses += SCREEN["running"] if word == "running" else [Status(word)]
    return Selection(only, prompt, model, tuple(statuses))


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


def clock_text(seconds: float) -> str:
    """``2:14``, ``1:02:05``: a duration as a clock shows it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


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


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text below their titles. ``right``: columns aligned on the right. Where a terminal is too narrow, the
    ``flexible`` ones are shortened, the first one first; if that is not enough, the ``optional`` ones are left out.
    ``prose``: the last column may go on below."""

    titles: tuple[str, ...]
    rows: list[list[str]]
    right: frozenset[str]
    flexible: tuple[str, ...]
    prose: bool
    optional: tuple[str, ...] = ()

    def lines(self, width: int | None = None) -> Iterator[str]:
        """Titles, a rule and the rows, in at most ``width`` columns of the terminal if shortening can do it; None: as
        wide as they are. A number, an id or a title is never shortened, and no line is padded."""
        lengths = [max(map(_length, column)) for column in zip(self.titles, *self.rows, strict=True)]
        shown = self._fit(lengths, width) if width else lengths
        left_out = next((title for title in self.optional if title in self.titles), None)
        if width and left_out is not None and sum(shown) + len(_GAP) * (len(shown) - 1) > width:
            yield from self._without(left_out).lines(width)
            return
        yield self._line(self.titles, shown)
        yield "─" * (sum(shown) + len(_GAP) * (len(shown) - 1))
        for row in self.rows:
            first, *rest = wrap(row[-1], shown[-1]) if self.prose and row[-1] else row[-1:]
            yield self._line([*row[:-1], first], shown)
            yield from (" " * (sum(shown[:-1]) + len(_GAP) * (len(shown) - 1)) + line for line in rest)

    def _without(self, title: str) -> Table:
        column = self.titles.index(title)
        titles = (*self.titles[:column], *self.titles[column + 1 :])
        return replace(self, titles=titles, rows=[[*row[:column], *row[column + 1 :]] for row in self.rows])

    def _fit(self, lengths: list[int], width: int) -> list[int]:
        excess = sum(lengths) + len(_GAP) * (len(lengths) - 1) - width
        shown = list(lengths)
        least = dict.fromkeys(self.flexible, _SHORTEST)
        for title, length in ({self.titles[-1]: _SHORTEST_PROSE} | least if self.prose else least).items():
            if excess > 0 and title in self.titles:
                column = self.titles.index(title)
                shown[column] = max(lengths[column] - excess, min(lengths[column], max(len(title), length)))
                excess -= lengths[column] - shown[column]
        return shown

    def _line(self, cells: Sequence[str], lengths: Sequence[int]) -> str:
        padded = []
        for title, cell, length in zip(self.titles, cells, lengths, strict=True):
            text = shortened(cell, length)
            blanks = " " * (length - _length(text))  # not str.ljust: a wide character fills two columns
            padded.append(blanks + text if title in self.right else text + blanks)
        return _GAP.join(padded).rstrip()


def table(
    records: Iterable[T],
    columns: Mapping[str, Callable[[T], object]],
    *,
    numbers: Iterable[str] = (),
    flexible: Iterable[str] = (),
    always: Iterable[str] = (),
    optional: Iterable[str] = (),
    prose: bool = False,
) -> Table:
    """One row per record; ``columns``: title -> its cell. ``numbers``: columns to align on the right, with the same
    number of decimals. A column in which no record has anything is dropped, unless ``always`` names it. ``flexible``,
    ``optional`` and ``prose`` as in Table."""
    every = list(records)
    kept: dict[str, list[str]] = {}
    for title, cell in columns.items():
        cells = [printable(str(cell(record))).replace("\n", " ") for record in every]
        if not kept or title in always or not _NOTHING.issuperset(cells):
            kept[title] = _same_decimals(cells) if title in numbers else cells
    rows = [list(row) for row in zip(*kept.values(), strict=True)]
    return Table(tuple(kept), rows, frozenset(numbers), tuple(flexible), prose, tuple(optional))


def _same_decimals(cells: list[str]) -> list[str]:
    """Amounts of one column can be compared by eye only if their points are below each other."""
    digits = max((len(found[1]) for cell in cells for found in _DECIMALS.finditer(cell)), default=0)
    return [_DECIMALS.sub(lambda found: f".{found[1]:0<{digits}}", cell) for cell in cells]


def shortened(text: str, length: int) -> str:
    """At most ``length`` columns of a terminal, without the middle: model and file names differ at both ends."""
    if _length(text) <= length:
        return text
    from rich.cells import set_cell_size

    head = (length - 1) // 2
    tail = text[::-1]
    return f"{set_cell_size(text, head).rstrip()}…{set_cell_size(tail, length - 1 - head)[::-1].lstrip()}"


def _length(text: str) -> int:
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
