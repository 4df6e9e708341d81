"""``report``, and the summary at the end of a run: sums of the ledger as table, JSON or CSV."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from decimal import ROUND_CEILING, Decimal
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from orbatch.cli.errors import Failure
from orbatch.cli.files import relative_path
from orbatch.cli.options import Model, OneOrAll, Only, Prompt, StatusOption
from orbatch.cli.resolve import holds_data, retry_hint, uncertain_data, uncertain_lines
from orbatch.cli.session import Session, find_batch
from orbatch.cli.tables import (
    SCREEN,
    Table,
    amount,
    clock_text,
    csv_line,
    jobs_are,
    json_usd,
    pluralize,
    screen_counts,
    select_jobs,
    table,
)
from orbatch.ledger import (
    BatchRecord,
    Caps,
    Counts,
    Filter,
    Grouping,
    Ledger,
    ModelOpinion,
    ReportRow,
    Status,
    job_label,
)
from orbatch.money import from_nano

if TYPE_CHECKING:
    from orbatch.runner import RunResult

PROBLEMS_SHOWN = 10  # groups of failed jobs that the summary names

# The columns for a person, amounts in cents; the first ones are enough for most.
_COLUMNS: Mapping[str, Callable[[ReportRow], object]] = {
    "done": lambda row: f"{row.done}/{row.jobs}",
    "spent USD": lambda row: amount(row.charged_nusd),
    "per second": lambda row: amount(row.nusd_per_second, "-"),
}
_WIDE_COLUMNS: Mapping[str, Callable[[ReportRow], object]] = {
    **_COLUMNS,
    "seconds": lambda row: f"{row.seconds:.1f}",
    "attempts": lambda row: row.attempts,
    "reserved": lambda row: (
        amount(row.reserved_nusd) + (f" + {row.unpriced_open} unpriced" if row.unpriced_open else "")
    ),
    "failed USD": lambda row: amount(row.failed_charged_nusd),
    "uncertain": lambda row: f"{row.uncertain} ({amount(row.uncertain_nusd)})" if row.uncertain else "-",
    "charged/estimate": lambda row: f"{row.billed_nusd / row.estimated_nusd:.1%}" if row.estimated_nusd else "-",
}
# The keys for machines, and the field of ReportRow behind each.
_KEYS = {name: name for name in "key jobs done attempts uncertain unpriced_open byok_attempts seconds".split()} | {
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
    prompt: Prompt = None,
    model: Model = None,
    status: StatusOption = None,
    only: Only = None,
    wide: Annotated[bool, typer.Option("--wide", help="Every column.")] = False,
    settle: Annotated[bool, typer.Option("--settle", help="First query the charges that are unknown.")] = False,
) -> None:
    """Show what was spent, reserved and lost, to the cent."""
    session: Session = context.obj
    with session.open_ledger() as ledger:
        batch_id = None if batch is None else find_batch(ledger, batch).id
        chosen = select_jobs(only, prompt, model, status)
        which = Filter(batch_id, _day(since, "--since"), _day(until, "--until"), chosen)
        if which.since and which.until and which.since > which.until:
            raise Failure(f"--since {since} is after --until {until}.")
        if settle:
            asyncio.run(_settle(session, ledger, batch_id))  # first, so that the sums below have it
        rows, total = ledger.reports.report(by, which)
        if session.json or format == "json":
            session.data({"by": by, "rows": [row_data(row) for row in rows], "total": row_data(total)})
        elif format == "csv":
            # Without a total: a spreadsheet would add it up again. Amounts are exact decimals, unlike JSON numbers.
            cells = [row_data(row, lambda nusd: None if nusd is None else f"{from_nano(nusd):f}") for row in rows]
            titles = [[by, *list(_KEYS)[1:]]] if rows else []
            typer.echo("".join(map(csv_line, [*titles, *(row.values() for row in cells)])), nl=False)
        else:
            session.print(report_table(by, rows, total, wide=wide, opinions=_opinions(ledger, by, batch_id)).lines)
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
    from orbatch.runner.reconcile import reconcile

    unsettled = ledger.queries.unsettled(batch_id)
    if not unsettled:
        session.say("Every charge is known.")
        return
    async with connect(session) as connection:
        # No caps: known charges are only recorded.
        result = await reconcile(ledger, connection.provider, unsettled, Caps())
    unknown = f"; {result.open} still unknown, counted at their worst case" if result.open else ""
    session.say(f"{pluralize(result.settled, 'charge')} settled{unknown}.")


def report_table(
    by: str,
    rows: Sequence[ReportRow],
    total: ReportRow,
    *,
    wide: bool = False,
    opinions: Mapping[str, ModelOpinion] | None = None,
) -> Table:
    """The report for a person, the total last; ``opinions`` of those who looked at the outputs, by model."""
    shown = rows if len(rows) == 1 else [*rows, total]  # a total of one row would repeat it
    columns = dict(_WIDE_COLUMNS if wide else _COLUMNS)
    if opinions:
        columns |= {title: partial(_opinion_cell, opinions, title) for title in ("picks", "per pick", "rating", "won")}
    by_key: Mapping[str, Callable[[ReportRow], object]] = {by: lambda row: row.key, **columns}
    return table(shown, by_key, numbers=columns, flexible=[by], always=["spent USD"])


def _opinions(ledger: Ledger, by: str, batch_id: int | None) -> Mapping[str, ModelOpinion]:
    """By model, and of all as ``total``; {} where nobody has reviewed anything."""
    return ledger.reviews.by_model(batch_id) if by == "model" and batch_id is not None else {}


def _opinion_cell(opinions: Mapping[str, ModelOpinion], title: str, row: ReportRow) -> str:
    found = opinions.get(row.key)
    if found is None:
        return "-"
    if title == "picks":
        return str(found.picks)
    if title == "per pick":
        return amount(row.charged_nusd // found.picks) if found.picks else "-"
    if title == "rating":
        return "-" if found.rating is None else f"{found.rating:.1f}"
    return f"{100 * found.wins // found.votes} %" if found.votes else "-"


def row_data(row: ReportRow, usd: Callable[[int | None], object] = json_usd) -> dict[str, Any]:
    """One row for machines. ``usd`` makes USD of nano-dollars."""
    return {key: usd(getattr(row, name)) if key.endswith("_usd") else getattr(row, name) for key, name in _KEYS.items()}


def _notes(total: ReportRow) -> list[str]:
    notes = []
    if total.reserved_nusd:
        notes.append(f"{amount(total.reserved_nusd)} USD reserved for jobs that are running or uncertain.")
    if total.byok_attempts:
        notes.append(
            f"{pluralize(total.byok_attempts, 'attempt')} ran on your own provider keys. OpenRouter's fee for "
            f"{'it' if total.byok_attempts == 1 else 'them'}, {amount(total.byok_fee_nusd)} USD, is not in the sums "
            "above; the provider charges you for the rest."
        )
    if total.unpriced_open:
        number = pluralize(total.unpriced_open, "open attempt")
        notes.append(f"{number} without an upper price: the reserved amount is a lower bound.")
    return notes


def show_summary(session: Session, ledger: Ledger, batch: BatchRecord, result: RunResult) -> None:
    """Print how the run ended; with --json as one object."""
    if session.json:
        session.data(summary_data(session, ledger, batch, result))
        return
    counts = ledger.queries.counts(batch.id)
    rows, total = ledger.reports.report("model", Filter(batch.id))  # of one moment
    if counts.total > 1:  # `generate` has one job
        session.print(report_table("model", rows, total).lines)
    words = screen_counts(counts)
    parts = [f"{words.pop('done')} of {counts.total} done", *(f"{jobs} {word}" for word, jobs in words.items() if jobs)]
    if earlier := sum(counts.retired.values()):
        parts.append(f"{earlier} from earlier prompts")
    files = f" Files: {relative_path(batch.output_dir)}" if counts[Status.DONE] else ""
    cap = "" if result.caps.total is None else f" of {amount(result.caps.total)}"
    reserved = f", reserved {amount(total.reserved_nusd)} USD" if total.reserved_nusd else ""
    session.result(
        f"{session.title or batch.name}: {', '.join(parts)}. Spent {amount(total.charged_nusd)}{cap} USD{reserved} "
        f"in {clock_text(result.seconds)}.{files}"
    )
    for line in _attention_lines(ledger, batch, result, counts, session.flags):
        session.warn(line)
    if result.stop is not None or words["running"]:
        session.warn(f"To resume: {session.command}")
    elif counts[Status.DONE] and not session.title:
        session.say(f"To look at it: orbatch view {batch.name}{session.flags}")


def summary_data(session: Session, ledger: Ledger, batch: BatchRecord, result: RunResult) -> dict[str, Any]:
    """How the run ended, for machines."""
    return {
        "batch": batch.name,
        "simulated": session.simulate,
        "stopped": None if result.stop is None else result.stop.value,
        "message": result.message,
        "over_budget": result.over_budget,
        "blocked": dict(result.blocked),
        "output_dir": batch.output_dir,
        "jobs": dict(ledger.queries.counts(batch.id).by_status),
        "total": row_data(ledger.reports.total(Filter(batch.id))),
        "holds": holds_data(ledger, batch),
        "uncertain": uncertain_data(ledger, batch.id),
    }


def _attention_lines(
    ledger: Ledger, batch: BatchRecord, result: RunResult, counts: Counts, flags: str
) -> Iterator[str]:
    """What the user should know or do, each line only where it is the case."""
    from orbatch.runner import Stop  # not above: `report` needs no runner

    if result.stop is Stop.INTERRUPTED:
        paid = [
            f"{jobs_are(counts[status])} {state}"
            for status, state in (
                (Status.SUBMITTED, "still running at the provider"),
                (Status.COMPLETED, "not downloaded"),
            )
            if counts[status]
        ]
        yield f"Interrupted. {' and '.join(paid)}; the next run downloads them." if paid else "Interrupted."
    elif result.stop is not None:
        yield result.message if result.message.startswith("Stopped") else f"Stopped: {result.message}"
    for model, reason in result.blocked.items():
        yield f"Submitting stopped for {model}: {reason}"
    # Jobs that stay open have a reason, too, such as a poll timeout.
    problems = ledger.queries.problems(batch.id, PROBLEMS_SHOWN + 1)
    for problem in problems[:PROBLEMS_SHOWN]:
        job = ledger.queries.job(problem.job_id)
        label = f"{job_label(job.prompt_id, job.variant, job.model)}, job {job.id}"
        if problem.jobs == 1:
            yield f"{label}, {problem.status}: {problem.error}"
        else:
            yield f"{problem.jobs} jobs {problem.status}: {problem.error} (such as {label})"
    if len(problems) > PROBLEMS_SHOWN:
        yield f"... and other problems: orbatch jobs {batch.name} --status {','.join(SCREEN['failed'])}{flags}"
    yield from retry_hint(batch.name, counts, flags)
    if result.over_budget or result.held:
        for reason, jobs in ledger.queries.wait_reasons(batch.id):
            yield f"{pluralize(jobs, 'job')} not submitted: {reason}"
    if result.over_budget:
        yield from _raise_hint(ledger, batch, result.caps)
    yield from uncertain_lines(ledger, batch.id, flags)


def _raise_hint(ledger: Ledger, batch: BatchRecord, caps: Caps) -> Iterator[str]:
    """The cap that would do for the jobs that are left, where the total is what they do not fit under."""
    totals = ledger.plans.totals_by_model(batch.id)
    left, worst = sum(part.to_submit for part in totals), sum(part.high_nusd for part in totals)
    needed = sum(ledger.reports.spend(batch.id)) + worst
    if caps.total is not None and needed > caps.total and not any(part.unpriced for part in totals):
        to = from_nano(needed).quantize(Decimal("0.01"), ROUND_CEILING)
        jobs = "the other job" if left == 1 else f"the other {left} jobs"
        yield f"Raise budget.total_usd to {to} to run {jobs} (up to {amount(worst)} USD)."
