"""What a run leaves behind: results, money, and what needs the user."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from orbatch.cli.reporting import report_table, row_data
from orbatch.cli.session import Session
from orbatch.cli.tables import amount
from orbatch.cli.uncertainty import uncertain_data, uncertain_lines
from orbatch.ledger import BatchRecord, Counts, Filter, Ledger
from orbatch.lifecycle import Status
from orbatch.runner import RunResult, Stop

SHOWN = 10  # ended jobs that are named one by one


def show_outcome(
    session: Session,
    ledger: Ledger,
    batch: BatchRecord,
    result: RunResult,
    counts: Counts,
    path: Path,
    *,
    simulate: bool,
) -> None:
    """Print how the run ended; with --json as one object."""
    which = Filter(batch.id)
    rows = ledger.reports.rows("model", which)
    total = ledger.reports.total(which)
    if session.json:
        session.data(_data(ledger, batch, result, counts, simulate=simulate))
        return
    session.say("")
    session.print(report_table("model", rows, total))
    open_jobs = counts[Status.SUBMITTED] + counts[Status.COMPLETED] + counts[Status.SUBMITTING]
    session.say(
        f"{counts[Status.DONE]} done, {open_jobs} paid for and not finished, {counts[Status.PENDING]} not sent. "
        f"Spent {amount(total.charged_nusd)} USD, reserved {amount(total.reserved_nusd)} USD. Files: {batch.output_dir}"
    )
    flag = " --simulate" if simulate else ""
    for line in _what_needs_the_user(ledger, batch, result, counts, flag):
        session.warn(line)
    if result.stop is not None or open_jobs:
        command = f"orbatch run {shlex.quote(str(path))}{flag}"
        session.warn(f"Run the same command to go on: {command}")


def _what_needs_the_user(ledger: Ledger, batch: BatchRecord, result: RunResult, counts: Counts, flag: str) -> list[str]:
    lines = []
    if result.stop is Stop.INTERRUPTED:
        lines.append("Interrupted. Jobs in flight go on at the provider; they are paid for and will be collected.")
    elif result.stop is not None:
        lines.append(f"Stopped: {result.message}")
    lines += [f"Not submitted further: {reason}" for reason in result.blocked.values()]
    lines += _ended_lines(ledger, batch, counts)
    if result.over_budget or result.stop is Stop.NO_CREDIT:
        lines += [f"{jobs} not sent: {reason}" for reason, jobs in ledger.queries.holds(batch.id)[:SHOWN]]
    return lines + uncertain_lines(ledger, batch.id, flag)


def _ended_lines(ledger: Ledger, batch: BatchRecord, counts: Counts) -> list[str]:
    lines = []
    without_result = (Status.REJECTED, Status.FAILED, Status.CANCELLED, Status.EXPIRED, Status.LOST)
    for status in (*without_result, Status.SUBMITTED, Status.COMPLETED):
        rows = [row for row in ledger.reports.job_rows(batch.id, status, SHOWN) if row["error"]]
        lines += [f"{row['prompt_id']} {row['model']} ({row['job_id']}) {status}: {row['error']}" for row in rows]
        if counts[status] > SHOWN and rows:
            lines.append(f"... and {counts[status] - SHOWN} more {status}: orbatch jobs {batch.name} --status {status}")
    ended = sum(counts[status] for status in (Status.FAILED, Status.CANCELLED, Status.EXPIRED))
    if ended:
        lines.append(f"To buy the {ended} that ended without a result again: orbatch retry {batch.name}, then run.")
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
