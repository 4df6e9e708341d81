"""``status``, ``jobs`` and ``show``: what the ledger knows. They change nothing and never block a run."""

from __future__ import annotations

import difflib
from dataclasses import asdict
from typing import Any

from orbatch.cli.resolve import uncertain_data, uncertain_lines
from orbatch.cli.session import Failure, Session, find_batch, find_job
from orbatch.cli.tables import amount, json_usd, pluralize, table
from orbatch.export import text_of
from orbatch.ledger import BatchRecord, Filter, JobRecord, Ledger, OutputRecord
from orbatch.ledger.status import ENDED_REMOTELY, Status
from orbatch.money import format_usd

_LISTED = ("job_id", "batch", "prompt_id", "model", "status", "retired", "cost_nusd", "output_path", "error")
_VIEW_EXTRAS = ("estimate_low_nusd", "estimate_high_nusd", "cost_nusd", "reserved_nusd", "batch_id", "position")


def show_status(session: Session, name: str | None, *, simulate: bool) -> None:
    with session.open_ledger(simulate=simulate) as ledger:
        names = ledger.plans.names() if name is None else [find_batch(ledger, name).name]
        batches = [batch for batch in map(ledger.plans.find, names) if batch is not None]
        batch_id = batches[0].id if name is not None else None
        if session.json:
            found = [_batch_data(ledger, batch) for batch in batches]
            session.data({"batches": found, "uncertain": uncertain_data(ledger, batch_id)})
            return
        titles = ["batch", "done", "running", "to download", "waiting", "failed", "uncertain", "spent USD", "reserved"]
        session.print(table(titles, [_batch_cells(ledger, batch) for batch in batches], numbers=range(1, 9)))
        for batch in batches:
            for reason, jobs in ledger.queries.holds(batch.id):
                session.result(f"{batch.name}: {pluralize(jobs, 'job')} waiting: {reason}")
        for line in uncertain_lines(ledger, batch_id, session.flags(simulate=simulate)):
            session.result(line)


def _batch_cells(ledger: Ledger, batch: BatchRecord) -> list[str]:
    counts = ledger.queries.counts(batch.id)
    charged, reserved = ledger.reports.spend(batch.id)
    return [
        batch.name,
        f"{counts[Status.DONE]}/{counts.total}",
        str(counts[Status.SUBMITTING] + counts[Status.SUBMITTED]),
        str(counts[Status.COMPLETED]),
        str(counts[Status.PENDING]),
        str(sum(counts[status] for status in (*ENDED_REMOTELY, Status.REJECTED, Status.LOST))),
        str(counts[Status.UNCERTAIN]),
        amount(charged),
        amount(reserved),
    ]


def _batch_data(ledger: Ledger, batch: BatchRecord) -> dict[str, Any]:
    counts = ledger.queries.counts(batch.id)
    total = ledger.reports.total(Filter(batch.id))
    return {
        "batch": batch.name,
        "config": batch.config_path,
        "output_dir": batch.output_dir,
        "jobs": dict(counts.by_status),
        "retired": counts.retired,
        "cost_usd": json_usd(total.charged_nusd),
        "reserved_usd": json_usd(total.reserved_nusd),
        "holds": [{"reason": reason, "jobs": jobs} for reason, jobs in ledger.queries.holds(batch.id)],
    }


def list_jobs(session: Session, name: str | None, *, status: str | None, limit: int | None, simulate: bool) -> None:
    wanted = None if status is None else _status(status)
    with session.open_ledger(simulate=simulate) as ledger:
        batch_id = None if name is None else find_batch(ledger, name).id
        columns = ("*",) if session.json else _LISTED
        rows = list(ledger.reports.job_rows(batch_id, wanted, limit, columns=columns))
        if session.json:
            session.data([{key: value for key, value in row.items() if key not in _VIEW_EXTRAS} for row in rows])
            return
        cells = [
            [
                row["job_id"],
                row["batch"],
                row["prompt_id"],
                row["model"],
                row["status"] + (" (retired)" if row["retired"] else ""),
                amount(row["cost_nusd"], "-"),
                row["output_path"] or row["error"] or "",
            ]
            for row in rows
        ]
        session.print(table(["job", "batch", "prompt", "model", "status", "USD", "file or reason"], cells, numbers=[5]))


def _status(text: str) -> Status:
    try:
        return Status(text)
    except ValueError:
        near = difflib.get_close_matches(text, list(Status), n=1)
        guess = f" Did you mean {near[0]}?" if near else ""
        raise Failure(f"{text} is no status.{guess} There are: {', '.join(Status)}.") from None


def show_job(session: Session, prefix: str, *, simulate: bool) -> None:
    with session.open_ledger(simulate=simulate) as ledger:
        job = find_job(ledger, prefix)
        if session.json:
            session.data(_job_data(ledger, job))
            return
        for line in _job_lines(ledger, job):
            session.result(line)


def _job_data(ledger: Ledger, job: JobRecord) -> dict[str, Any]:
    attempts = []
    for attempt in ledger.queries.attempts(job.id):
        data = {name: value for name, value in asdict(attempt).items() if not name.endswith("_nusd")}
        attempts.append(
            data | {"reserved_usd": json_usd(attempt.reserved_nusd), "cost_usd": json_usd(attempt.cost_nusd)}
        )
    return {
        "job_id": job.id,
        "key": job.key,
        "prompt_id": job.prompt_id,
        "prompt": job.prompt,
        "variables": ledger.queries.variables(job.id),
        "model": job.model,
        "kind": job.kind,
        "status": job.status,
        "retired": job.retired,
        "error": job.error or job.hold,
        "request": job.request,
        "estimate_low_usd": json_usd(job.estimate_low_nusd),
        "estimate_exact_usd": json_usd(job.estimate_exact_nusd),
        "estimate_high_usd": json_usd(job.estimate_high_nusd),
        "price": job.price_why,
        "attempts": attempts,
        "outputs": [asdict(output) for output in ledger.queries.outputs(job.id)],
        "text": text_of(output.path for output in ledger.queries.outputs(job.id)),
        "events": [asdict(event) for event in ledger.queries.events(job.id)],
    }


def _measures(output: OutputRecord) -> list[str]:
    """What a file really is, as far as its kind has it."""
    measures = [f"{output.bytes} bytes"]
    if output.seconds is not None:
        measures.append(f"{output.seconds:.2f} s")
    if output.width is not None:
        measures.append(f"{output.width}x{output.height}")
    if output.video_codec is None:
        return [*measures, output.mime_type]
    return [*measures, output.video_codec, output.audio_codec or "no sound"]


def _job_lines(ledger: Ledger, job: JobRecord) -> list[str]:
    low, high = format_usd(job.estimate_low_nusd), format_usd(job.estimate_high_nusd, "no upper bound")
    lines = [
        f"job       {job.id}" + ("  (retired: its prompt has left the batch file)" if job.retired else ""),
        f"status    {job.status}" + (f": {job.error or job.hold}" if job.error or job.hold else ""),
        f"model     {job.model}",
        f"prompt    {job.prompt_id}: {job.prompt}",
        *[f"request   {name}: {value}" for name, value in job.request.items() if name not in ("model", "prompt")],
        f"estimate  {low if low == high else f'{low} - {high}'} USD: {job.price_why}",
    ]
    for attempt in ledger.queries.attempts(job.id):
        cost = "charge unknown" if attempt.cost_nusd is None else f"charged {format_usd(attempt.cost_nusd)} USD"
        own = " (your own provider key: only OpenRouter's fee)" if attempt.is_byok else ""
        reserved = "" if attempt.settled else f", {format_usd(attempt.reserved_nusd, 'nothing')} USD reserved"
        lines.append(f"attempt   {attempt.number}: {attempt.status}, {cost}{own}{reserved}")
        if attempt.remote_id:
            lines.append(f"          remote id {attempt.remote_id}, sent {attempt.created_at}")
    for output in ledger.queries.outputs(job.id):
        lines.append(f"file      {output.path}")
        lines.append(f"          {', '.join(_measures(output))}")
        lines.append(f"          sha256 {output.sha256}" + (f"; {output.warning}" if output.warning else ""))
    text = text_of(output.path for output in ledger.queries.outputs(job.id))
    if text is not None:
        lines += [f"text      {line}" for line in text.splitlines()]
    for event in ledger.queries.events(job.id):
        step = event.to_status if event.from_status == event.to_status else f"{event.from_status} -> {event.to_status}"
        lines.append(f"{event.at}  {step}" + (f": {event.detail}" if event.detail else ""))
    return lines
