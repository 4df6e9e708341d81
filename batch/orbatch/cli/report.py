"""``report``: sums of the ledger as table, JSON, CSV or Markdown; one renderer each."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import typer

from orbatch.cli.resolve import uncertain_lines
from orbatch.cli.session import Failure, Session, find_batch, printable
from orbatch.cli.tables import amount, json_usd, table
from orbatch.ledger import Filter, Grouping, Ledger, ReportRow
from orbatch.money import from_nano

if TYPE_CHECKING:
    from rich.table import Table

# A cell that begins so is a formula to a spreadsheet.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def show_report(
    session: Session,
    batch: str | None,
    *,
    by: Grouping,
    since: str | None,
    until: str | None,
    style: str,
    settle: bool,
    simulate: bool,
) -> None:
    with session.open_ledger(simulate=simulate) as ledger:
        batch_id = None if batch is None else find_batch(ledger, batch).id
        which = Filter(batch_id, _day(since, "--since"), _day(until, "--until"))
        if which.since and which.until and which.since > which.until:
            raise Failure(f"--since {since} is after --until {until}.")
        if settle:
            asyncio.run(_settle(session, ledger, batch_id, simulate=simulate))
        rows, total = ledger.reports.report(by, which)
        if style == "json":
            session.data({"by": by, "rows": [row_data(row) for row in rows], "total": row_data(total)})
        elif style == "csv":
            typer.echo(_csv(by, rows), nl=False)
        elif style == "markdown":
            typer.echo(_markdown(by, rows, total))
        else:
            session.print(report_table(by, rows, total))
            for line in [*_notes(total), *uncertain_lines(ledger, batch_id, session.flags(simulate=simulate))]:
                session.result(line)


async def _settle(session: Session, ledger: Ledger, batch_id: int | None, *, simulate: bool) -> None:
    """Ask for charges that were not known when their jobs ended."""
    from orbatch.cli.provider import connected
    from orbatch.ledger.budget import Caps
    from orbatch.runner.reconcile import reconcile

    unsettled = ledger.queries.unsettled(batch_id)
    if not unsettled:
        session.say("Every charge is known.")
        return
    async with connected(session, simulate=simulate) as connection:
        result = await reconcile(ledger, connection.provider, unsettled, Caps())
    session.say(f"{result.settled} charges settled, {result.open} still unknown and pluralize at their worst case.")


_COLUMNS = (
    "jobs",
    "done",
    "attempts",
    "spent USD",
    "reserved",
    "failed, charged",
    "uncertain",
    "seconds",
    "USD/s",
    "bill/estimate",
)


def report_table(by: str, rows: Sequence[ReportRow], total: ReportRow) -> Table | str:
    """The report for a person: amounts in cents, the total last."""
    cells = [_cells(row) for row in rows]
    if len(rows) != 1:
        cells.append(_cells(total))
    return table([by, *_COLUMNS], cells, numbers=range(1, len(_COLUMNS) + 1))


def _cells(row: ReportRow) -> list[str]:
    return [
        row.key,
        str(row.jobs),
        str(row.done),
        str(row.attempts),
        amount(row.charged_nusd),
        amount(row.reserved_nusd) + (f" + {row.unpriced_open} unpriced" if row.unpriced_open else ""),
        amount(row.failed_charged_nusd),
        f"{row.uncertain} ({amount(row.uncertain_nusd)})" if row.uncertain else "-",
        f"{row.seconds:.1f}",
        amount(row.nusd_per_second, "-"),
        f"{row.billed_nusd / row.estimated_nusd:.1%}" if row.estimated_nusd else "-",
    ]


def row_data(row: ReportRow) -> dict[str, Any]:
    """One row for machines: amounts in USD, exact to the nano-dollar; seconds as measured in the files."""
    return {
        "key": row.key,
        "jobs": row.jobs,
        "done": row.done,
        "attempts": row.attempts,
        "cost_usd": json_usd(row.charged_nusd),
        "reserved_usd": json_usd(row.reserved_nusd),
        "failed_cost_usd": json_usd(row.failed_charged_nusd),
        "uncertain": row.uncertain,
        "uncertain_usd": json_usd(row.uncertain_nusd),
        "unpriced_open": row.unpriced_open,
        "byok_attempts": row.byok_attempts,
        "byok_fee_usd": json_usd(row.byok_fee_nusd),
        "seconds": round(row.seconds, 3),
        "cost_per_second_usd": json_usd(row.nusd_per_second),
        "estimated_usd": json_usd(row.estimated_nusd),
        "billed_usd": json_usd(row.billed_nusd),
    }


def _csv(by: str, rows: Sequence[ReportRow]) -> str:
    """Exact amounts; text that a spreadsheet would take for a formula is quoted with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    data = [_exact(row) for row in rows]
    if data:
        writer.writerow([by, *list(data[0])[1:]])
    writer.writerows([harmless(value) for value in row.values()] for row in data)
    return out.getvalue()


def harmless(value: object) -> object:
    """A CSV cell that no spreadsheet executes."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _exact(row: ReportRow) -> dict[str, Any]:
    exact = {
        "cost_usd": row.charged_nusd,
        "reserved_usd": row.reserved_nusd,
        "failed_cost_usd": row.failed_charged_nusd,
        "uncertain_usd": row.uncertain_nusd,
        "byok_fee_usd": row.byok_fee_nusd,
        "estimated_usd": row.estimated_nusd,
        "billed_usd": row.billed_nusd,
    }
    return row_data(row) | {name: f"{from_nano(nusd):f}" for name, nusd in exact.items()}


def _markdown(by: str, rows: Sequence[ReportRow], total: ReportRow) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(_markdown_cell(cell) for cell in cells) + " |"

    head = [line([by, *_COLUMNS]), "|" + " --- |" + " ---: |" * len(_COLUMNS)]
    body = [line(_cells(row)) for row in (rows if len(rows) == 1 else [*rows, total])]
    return "\n".join([*head, *body])


def _markdown_cell(text: str) -> str:
    for char in "\\|`*_<>[]":
        text = text.replace(char, f"\\{char}")
    return printable(text).replace("\n", " ")


def _notes(total: ReportRow) -> list[str]:
    notes = []
    if total.byok_attempts:
        notes.append(
            f"{total.byok_attempts} attempts ran on your own provider keys: OpenRouter's fee for them was "
            f"{amount(total.byok_fee_nusd)} USD, not in the sums above; the provider bills the rest."
        )
    if total.unpriced_open:
        notes.append(f"{total.unpriced_open} open attempts have no known upper price: reserved is a lower bound.")
    return notes


def _day(text: str | None, option: str) -> str | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise Failure(f"{option} {text} is not a day such as 2026-11-22.") from None
