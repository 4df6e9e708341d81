"""``report``: sums of the ledger as table, JSON or CSV."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Callable, Sequence
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from orbatch.cli.resolve import uncertain_lines
from orbatch.cli.session import Failure, OneOrAll, Session, find_batch
from orbatch.cli.tables import amount, harmless, json_usd, pluralize, table
from orbatch.ledger import Filter, Grouping, Ledger, ReportRow
from orbatch.money import from_nano

if TYPE_CHECKING:
    from rich.table import Table

_COLUMNS = (
    *("jobs", "done", "attempts", "spent USD", "reserved", "failed USD", "uncertain", "seconds", "USD/s"),
    "charged/estimate",
)
# The keys of a row for machines, and the field of ReportRow behind each amount.
_NUMBERS = ("key", "jobs", "done", "attempts", "uncertain", "unpriced_open", "byok_attempts")
_USD = {
    "cost_usd": "charged_nusd",
    "reserved_usd": "reserved_nusd",
    "failed_cost_usd": "failed_charged_nusd",
    "uncertain_usd": "uncertain_nusd",
    "byok_fee_usd": "byok_fee_nusd",
    "cost_per_second_usd": "nusd_per_second",
    "estimated_usd": "estimated_nusd",
    "billed_usd": "billed_nusd",
}


def report(
    context: typer.Context,
    batch: OneOrAll = None,
    by: Annotated[Grouping, typer.Option(help="Group by.")] = "model",
    since: Annotated[str | None, typer.Option(metavar="YYYY-MM-DD", help="First day (UTC) of submission.")] = None,
    until: Annotated[str | None, typer.Option(metavar="YYYY-MM-DD", help="Last day (UTC) of submission.")] = None,
    format: Annotated[  # noqa: A002 - the option's name
        Literal["table", "json", "csv"], typer.Option(help="Output format.")
    ] = "table",
    settle: Annotated[bool, typer.Option("--settle", help="First query the charges that are unknown.")] = False,
) -> None:
    """Show what was spent, reserved and lost, to the cent."""
    session: Session = context.obj
    with session.open_ledger() as ledger:
        batch_id = None if batch is None else find_batch(ledger, batch).id
        which = Filter(batch_id, _day(since, "--since"), _day(until, "--until"))
        if which.since and which.until and which.since > which.until:
            raise Failure(f"--since {since} is after --until {until}.")
        if settle:
            asyncio.run(_settle(session, ledger, batch_id))  # first, so that the sums below have it
        rows, total = ledger.reports.report(by, which)
        if session.json or format == "json":
            session.data({"by": by, "rows": [row_data(row) for row in rows], "total": row_data(total)})
        elif format == "csv":
            typer.echo(_csv(by, rows), nl=False)  # without a total: a spreadsheet would add it up again
        else:
            session.print(report_table(by, rows, total))
            for line in [*_notes(total), *uncertain_lines(ledger, batch_id, session.flags)]:
                session.result(line)


def _day(text: str | None, option: str) -> str | None:
    try:
        return None if text is None else date.fromisoformat(text).isoformat()
    except ValueError:
        raise Failure(f"{option} {text} is not a day such as 2026-11-22.") from None


async def _settle(session: Session, ledger: Ledger, batch_id: int | None) -> None:
    """Query the charges that were not known when their jobs ended."""
    from orbatch.cli.provider import connect  # not above: a report alone needs neither provider nor runner
    from orbatch.ledger import Caps
    from orbatch.runner.reconcile import reconcile

    unsettled = ledger.queries.unsettled(batch_id)
    if not unsettled:
        session.say("Every charge is known.")
        return
    async with connect(session) as connection:
        result = await reconcile(
            ledger, connection.provider, unsettled, Caps()
        )  # no caps: known charges are only recorded
    unknown = f"; {result.open} still unknown, counted at their worst case" if result.open else ""
    session.say(f"{pluralize(result.settled, 'charge')} settled{unknown}.")


def report_table(by: str, rows: Sequence[ReportRow], total: ReportRow) -> Table | str:
    """The report for a person: amounts in cents, the total last."""
    cells = [_cells(row) for row in rows]
    if len(rows) != 1:  # a total of one row would repeat it
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


def row_data(row: ReportRow, amount_of: Callable[[int | None], object] = json_usd) -> dict[str, Any]:
    """One row for machines. ``amount_of`` makes USD of nano-dollars; seconds are as measured in the files."""
    numbers = {name: getattr(row, name) for name in _NUMBERS} | {"seconds": round(row.seconds, 3)}
    return numbers | {name: amount_of(getattr(row, field)) for name, field in _USD.items()}


def _csv(by: str, rows: Sequence[ReportRow]) -> str:
    """Amounts as exact decimals, which JSON numbers are not."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if rows:
        writer.writerow([by, *list(row_data(rows[0]))[1:]])
    for row in rows:
        data = row_data(row, lambda nusd: None if nusd is None else f"{from_nano(nusd):f}")
        writer.writerow([harmless(value) for value in data.values()])
    return out.getvalue()


def _notes(total: ReportRow) -> list[str]:
    notes = []
    if total.byok_attempts:
        notes.append(
            f"{pluralize(total.byok_attempts, 'attempt')} ran on your own provider keys. OpenRouter's fee for them, "
            f"{amount(total.byok_fee_nusd)} USD, is not in the sums above; the provider charges you for the rest."
        )
    if total.unpriced_open:
        number = pluralize(total.unpriced_open, "open attempt")
        notes.append(f"{number} without an upper price: the reserved amount is a lower bound.")
    return notes
