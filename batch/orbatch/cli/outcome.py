"""What a run leaves behind: results, money, and what needs the user."""

from __future__ import annotations

from typing import Any

from orbatch.cli.reporting import report_table, row_data
from orbatch.cli.session import Session
from orbatch.cli.tables import amount, counted
from orbatch.cli.uncertainty import uncertain_data, uncertain_lines
from orbatch.ledger import BatchRecord, Counts, Filter, Ledger
from orbatch.lifecycle import Status
from orbatch.runner import RunResult, Stop

SHOWN = 10  # ended jobs that are named one by one
_WITHOUT_RESULT = (Status.REJECTED, Status.FAILED, Status.CANCELLED, Status.EXPIRED, Status.LOST)


def show_outcome(session: Session, ledger: Ledger, batch: BatchRecord, result: RunResult, *, simulate: bool) -> None:
    """Print how the run ended; with --json as one object."""
    counts = ledger.queries.counts(batch.id)
    total = ledger.reports.total(Filter(batch.id))
    if session.json:
        session.data(_data(ledger, batch, result, counts, simulate=simulate))
        return
    if counts.total > 1:
        session.print(report_table("model", ledger.reports.rows("model", Filter(batch.id)), total))
    open_jobs = counts[Status.SUBMITTED] + counts[Status.COMPLETED] + counts[Status.SUBMITTING]
    session.result(
        f"{batch.name}: {', '.join(_standing(counts, open_jobs))}. Spent {amount(total.charged_nusd)} USD, "
        f"reserved {amount(total.reserved_nusd)} USD. Files: {batch.output_dir}"
    )
    for line in _what_needs_the_user(ledger, batch, result, counts, session.flags(simulate=simulate)):
        session.warn(line)
    if result.stop is not None or open_jobs:
        session.warn(f"Run the same command to go on: {session.command}")


def _standing(counts: Counts, open_jobs: int) -> list[str]:
    """Where the jobs stand; what there is none of is left out, but for the first."""
    ended = sum(counts[status] for status in _WITHOUT_RESULT)
    parts = [
        (open_jobs, "paid for and not finished"),
        (counts[Status.PENDING], "not sent"),
        (ended, "without a result"),
        (counts[Status.UNCERTAIN], "uncertain"),
    ]
    return [f"{counts[Status.DONE]} of {counts.total} done", *(f"{number} {what}" for number, what in parts if number)]


def _what_needs_the_user(
    ledger: Ledger, batch: BatchRecord, result: RunResult, counts: Counts, flags: str
) -> list[str]:
    lines = []
    if result.stop is Stop.INTERRUPTED:
        lines.append("Interrupted. Jobs in flight go on at the provider; they are paid for and will be collected.")
    elif result.stop is not None:
        lines.append(result.message if result.message.startswith("Stopped") else f"Stopped: {result.message}")
    lines += [f"Not submitted further: {reason}" for reason in result.blocked.values()]
    lines += _ended_lines(ledger, batch, counts, flags)
    if result.over_budget:
        lines += [f"{counted(jobs, 'job')} not sent: {reason}" for reason, jobs in ledger.queries.holds(batch.id)]
    return lines + uncertain_lines(ledger, batch.id, flags)


def _ended_lines(ledger: Ledger, batch: BatchRecord, counts: Counts, flags: str) -> list[str]:
    lines = []
    for status in (*_WITHOUT_RESULT, Status.SUBMITTED, Status.COMPLETED):
        rows = [row for row in ledger.reports.job_rows(batch.id, status, SHOWN) if row["error"]]
        lines += [f"{row['prompt_id']} {row['model']} ({row['job_id']}) {status}: {row['error']}" for row in rows]
        if counts[status] > SHOWN and rows:
            more = f"orbatch jobs {batch.name} --status {status}{flags}"
            lines.append(f"... and {counts[status] - SHOWN} more {status}: {more}")
    retryable = [status for status in _WITHOUT_RESULT if counts[status] and status is not Status.LOST]
    if retryable:
        chosen = "" if retryable == [Status.FAILED] else f" --status {','.join(retryable)}"
        lines.append(f"To buy these again: orbatch retry {batch.name}{chosen}{flags}, then run.")
    return lines


def _data(ledger: Ledger, batch: BatchRecord, result: RunResult, counts: Counts, *, simulate: bool) -> dict[str, Any]:
    return {
        "batch": batch.name,
        "simulated": simulate,
        "stopped": None if result.stop is None else result.stop.value,
        "message": result.message,
        "over_budget": result.over_budget,
        "blocked": dict(result.blocked),
        "output_dir": batch.output_dir,
        "jobs": dict(counts.by_status),
        "total": row_data(ledger.reports.total(Filter(batch.id))),
        "holds": [{"reason": reason, "jobs": jobs} for reason, jobs in ledger.queries.holds(batch.id)],
        "uncertain": uncertain_data(ledger, batch.id),
    }
