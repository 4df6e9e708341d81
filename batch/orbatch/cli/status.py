"""``status``, ``jobs`` and ``show``: what the ledger knows. They change nothing and never block a run."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from operator import itemgetter
from typing import Annotated, Any

import typer

from orbatch.cli import completion
from orbatch.cli.errors import ExitCode, Failure
from orbatch.cli.files import relative_path
from orbatch.cli.options import Model, OneOrAll, Only, Prompt, StatusOption
from orbatch.cli.resolve import holds_data, uncertain_data, uncertain_lines
from orbatch.cli.session import Session, find_batch, find_job
from orbatch.cli.steer import control_lines
from orbatch.cli.streams import printable
from orbatch.cli.tables import (
    SCREEN,
    Table,
    amount,
    as_data,
    clock_text,
    json_usd,
    pluralize,
    screen_counts,
    select_jobs,
    table,
)
from orbatch.export import text_of
from orbatch.ledger import (
    BatchRecord,
    Filter,
    JobRecord,
    Ledger,
    OutputRecord,
    Selection,
    parse_timestamp,
    utc_now,
    variant_text,
)
from orbatch.ledger.schema import EVERY_JOB
from orbatch.money import format_usd

_JOB_COLUMNS: Mapping[str, Callable[[Any], str]] = {
    "batch": itemgetter("batch"),
    "prompt": itemgetter("prompt_id"),
    "variant": lambda row: variant_text(json.loads(row["variables"]), row["seed"]),
    "model": itemgetter("model"),
    "status": lambda row: row["status"] + (" (retired)" if row["retired"] else ""),
    "USD": lambda row: amount(row["cost_nusd"], "-"),
    "since": lambda row: _since(row["submitted_at"]),
    "took": lambda row: _took(row["submitted_at"], row["completed_at"], row["status"]),
    "result": lambda row: relative_path(row["output_path"]) if row["output_path"] else row["error"] or "",
}
WATCH_EVERY_S = 1.0
KEY_SHOWN = 8  # digits of a job's key in default file names, too
# What those need: prompts and requests are long and not in the table.
_SELECTED = (
    *("job_id", "batch", "prompt_id", "variables", "seed", "model", "status", "retired", "cost_nusd"),
    *("submitted_at", "completed_at", "output_path", "error"),
)
# In the view, but not in its public columns: nano-dollars beside the USD, and internal numbers.
_VIEW_EXTRAS = ("estimate_low_nusd", "estimate_high_nusd", "cost_nusd", "reserved_nusd", "batch_id", "position")


def status(
    context: typer.Context,
    batch: OneOrAll = None,
    watch: Annotated[bool, typer.Option("--watch", help="Update every second, until Ctrl-C.")] = False,
) -> None:
    """Show the progress of each batch and what needs attention."""
    session: Session = context.obj
    if watch:
        _watch(session, batch)
        return
    with session.open_ledger() as ledger:
        batches = ledger.plans.batches() if batch is None else [find_batch(ledger, batch)]
        batch_id = batches[0].id if batch is not None else None  # None: uncertain jobs of all batches
        if session.json:
            data = [_batch_data(ledger, found) for found in batches]
            session.data({"batches": data, "uncertain": uncertain_data(ledger, batch_id)})
            return
        session.print(_batches_table(ledger, batches).lines)
        for line in _remarks(ledger, batches, batch_id, session.flags):
            session.result(line)


def _remarks(ledger: Ledger, batches: list[BatchRecord], batch_id: int | None, flags: str) -> Iterator[str]:
    """Who runs them, what was set, why jobs wait, and what is uncertain."""
    for found in batches:
        if holder := ledger.leases.holder(found.id, utc_now()):
            yield f"{found.name} is running: {holder}."
        yield from control_lines(ledger, found)
        for reason, jobs in ledger.queries.wait_reasons(found.id):
            yield f"{found.name}: {pluralize(jobs, 'job')} pending: {reason}"
    yield from uncertain_lines(ledger, batch_id, flags)


def _watch(session: Session, batch: str | None) -> None:
    """The same, updated in place. Raises Failure without a terminal."""
    if session.json or not sys.stdout.isatty():
        raise Failure("--watch needs a terminal.")
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False)
    with (
        contextlib.suppress(KeyboardInterrupt),  # which is how one leaves
        session.open_ledger() as ledger,
        Live(console=console, auto_refresh=False) as live,
    ):
        while True:
            batches = ledger.plans.batches() if batch is None else [find_batch(ledger, batch)]
            lines = [*_batches_table(ledger, batches).lines(console.width)]
            lines += map(printable, _remarks(ledger, batches, batches[0].id if batch else None, session.flags))
            live.update(Text("\n".join(lines)), refresh=True)
            time.sleep(WATCH_EVERY_S)


def _batches_table(ledger: Ledger, batches: list[BatchRecord]) -> Table:
    rows = []
    for batch in batches:
        counts = ledger.queries.counts(batch.id)
        words = screen_counts(counts)
        charged, reserved = ledger.reports.spend(batch.id)
        row = {"batch": batch.name, **words, "spent USD": amount(charged), "reserved": amount(reserved)}
        rows.append(row | {"done": f"{words['done']}/{counts.total}", "retired": sum(counts.retired.values())})
    titles = ("batch", *SCREEN, "retired", "spent USD", "reserved")
    columns = {title: itemgetter(title) for title in titles}
    return table(rows, columns, numbers=titles[1:], flexible=["batch"], always=["done", "spent USD"])


def _batch_data(ledger: Ledger, batch: BatchRecord) -> dict[str, Any]:
    counts = ledger.queries.counts(batch.id)
    total = ledger.reports.total(Filter(batch.id))
    return {
        "batch": batch.name,
        "config": batch.config_path,
        "output_dir": batch.output_dir,
        "jobs": dict(counts.by_status),
        "retired": dict(counts.retired),
        "cost_usd": json_usd(total.charged_nusd),
        "reserved_usd": json_usd(total.reserved_nusd),
        "holds": holds_data(ledger, batch),
        "running": ledger.leases.holder(batch.id, utc_now()),
        "set": [asdict(control) for control in ledger.controls.holding(batch.id)],
    }


def jobs(
    context: typer.Context,
    batch: OneOrAll = None,
    prompt: Prompt = None,
    model: Model = None,
    status: StatusOption = None,
    only: Only = None,
    limit: Annotated[int | None, typer.Option(min=1, max=1_000_000_000, help="Maximum number of jobs.")] = None,
) -> None:
    """List jobs with status, cost and file."""
    session: Session = context.obj
    which = select_jobs(only, prompt, model, status)
    with session.open_ledger() as ledger:
        batch_id = None if batch is None else find_batch(ledger, batch).id
        columns = ("*",) if session.json else _SELECTED
        # A list: the ledger is closed before slow output.
        rows = list(ledger.reports.job_rows(batch_id, None, limit, which=which, columns=columns))
    if session.json:
        shown = [{key: value for key, value in row.items() if key not in _VIEW_EXTRAS} for row in rows]
        session.data([row | {"variables": json.loads(row["variables"])} for row in shown])
    elif rows:
        session.print(_jobs_table(rows, with_batch=batch is None).lines)
    else:
        session.result("There is no such job.")


def _jobs_table(rows: list[Mapping[str, Any]], *, with_batch: bool) -> Table:
    """Job ids as short as `show` and the file names have them, where that tells the jobs apart."""
    alike = Counter(row["job_id"][:KEY_SHOWN] for row in rows)
    ids: dict[str, Callable[[Any], str]] = {
        "job": lambda row: row["job_id"][:KEY_SHOWN] if alike[row["job_id"][:KEY_SHOWN]] == 1 else row["job_id"]
    }
    columns = {title: cell for title, cell in _JOB_COLUMNS.items() if with_batch or title != "batch"}
    return table(
        rows,
        ids | columns,
        numbers=["USD", "since", "took"],
        optional=["since", "took"],
        flexible=("result", "variant", "prompt", "model", "batch"),
    )


def _since(submitted_at: str | None) -> str:
    """When it was submitted, in local time: the time alone of what is younger than a day."""
    if submitted_at is None:
        return ""
    at = parse_timestamp(submitted_at)
    return f"{at.astimezone():%H:%M}" if (utc_now() - at).days < 1 else f"{at.astimezone():%Y-%m-%d}"


def _took(submitted_at: str | None, completed_at: str | None, status: str) -> str:
    """From the submit to the end, or until now for a job that runs."""
    if submitted_at is None or (completed_at is None and status not in SCREEN["running"]):
        return ""
    end = utc_now() if completed_at is None else parse_timestamp(completed_at)
    return clock_text((end - parse_timestamp(submitted_at)).total_seconds())


def show(
    context: typer.Context,
    job: Annotated[
        str | None,
        typer.Argument(help="First characters of the job id or of the remote id.", autocompletion=completion.jobs),
    ] = None,
    prompt: Prompt = None,
    model: Model = None,
    status: StatusOption = None,
    only: Only = None,
) -> None:
    """Show a job: request, attempts, costs, files, history.

    With options in place of a job id: every job that they choose.
    """
    session: Session = context.obj
    which = select_jobs(only, prompt, model, status)
    if (job is None) == (which == EVERY_JOB):
        raise Failure("Give the first characters of a job id, or --prompt, --model, --status or --only.")
    with session.open_ledger() as ledger:
        if job is not None:
            found = [find_job(ledger, job)]
        else:
            rows = ledger.reports.job_rows(which=which, columns=["job_id"])
            found = [ledger.queries.job(row["job_id"]) for row in list(rows)]
        if session.json:
            data = [_job_data(ledger, each) for each in found]
            session.data(data if job is None else data[0])
            return
        for number, each in enumerate(found):
            for line in [""] * (number > 0) + _job_lines(ledger, each):
                session.result(line)


def path(
    context: typer.Context,
    prompt: Annotated[
        str,
        typer.Argument(
            help="A pattern for the prompt id, part of the prompt's text, or a job id.",
            autocompletion=completion.prompts,
        ),
    ],
    model: Model = None,
    batch: Annotated[
        str | None,
        typer.Option("--batch", help="Batch name. Default: the whole ledger.", autocompletion=completion.batches),
    ] = None,
) -> None:
    """Print the paths of the files of a prompt, one per line.

    For other programs: `mpv $(orbatch path beach --model veo)`.
    """
    session: Session = context.obj
    with session.open_ledger() as ledger:
        batch_id = None if batch is None else find_batch(ledger, batch).id
        files = ledger.queries.placed_files(batch_id, Selection(prompt=prompt, model=model, current=True))
        if not files:
            files = ledger.queries.placed_files(batch_id, Selection(only=f"{prompt}*", model=model))
    if not files:
        raise Failure(f"No finished job matches {prompt}. `orbatch jobs{session.flags}` lists all.", ExitCode.NO_OUTPUT)
    paths = sorted(relative_path(output.path) for _, output in files)
    session.data(paths) if session.json else session.result("\n".join(paths))


def _job_data(ledger: Ledger, job: JobRecord) -> dict[str, Any]:
    data = as_data(job)
    outputs = ledger.queries.outputs(job.id)
    attempts = ledger.queries.attempts(job.id)
    costs = [attempt.cost_nusd for attempt in attempts if attempt.cost_nusd is not None]
    return {
        "job_id": job.id,
        **{key: data[key] for key in ("key", "prompt_id", "prompt", "model", "kind", "status", "retired", "request")},
        **{key: data[key] for key in ("estimate_low_usd", "estimate_exact_usd", "estimate_high_usd")},
        "price": job.price_why,
        "variables": job.variables,
        "seed": job.request.get("seed"),
        "cost_usd": json_usd(sum(costs) if costs else None),
        "output_path": outputs[0].path if outputs else None,
        "bytes": outputs[0].bytes if outputs else None,
        "sha256": outputs[0].sha256 if outputs else None,
        "error": job.error or job.wait_reason,
        "attempts": [as_data(attempt) for attempt in attempts],
        "outputs": [asdict(output) for output in outputs],
        "text": text_of(output.path for output in outputs),
        "events": [asdict(event) for event in ledger.queries.events(job.id)],
    }


def _job_lines(ledger: Ledger, job: JobRecord) -> list[str]:
    # All digits: here is where one looks when cents do not add up.
    low, high = format_usd(job.estimate_low_nusd), format_usd(job.estimate_high_nusd, "no upper bound")
    reason = job.error or job.wait_reason
    lines = [
        f"job       {job.id}" + ("  (retired: its prompt is no longer in the batch file)" if job.retired else ""),
        f"status    {job.status}" + (f": {reason}" if reason else ""),
        f"model     {job.model}",
        f"prompt    {job.prompt_id}: {job.prompt}",
        *([f"variant   {job.variant}"] if job.variant else []),
        *[f"request   {name}: {value}" for name, value in job.request.items() if name not in ("model", "prompt")],
        f"estimate  {low if low == high else f'{low} - {high}'} USD: {job.price_why}",
    ]
    for attempt in ledger.queries.attempts(job.id):
        cost = "charge unknown" if attempt.cost_nusd is None else f"charged {format_usd(attempt.cost_nusd)} USD"
        own = " (your own provider key: only OpenRouter's fee)" if attempt.is_byok else ""
        reserved = "" if attempt.settled else f", {format_usd(attempt.reserved_nusd, 'nothing')} USD reserved"
        lines.append(f"attempt   {attempt.number}: {attempt.status}, {cost}{own}{reserved}")
        if attempt.remote_id:  # what the provider's support asks for
            lines.append(f"          remote id {attempt.remote_id}, submitted {attempt.created_at}")
    outputs = ledger.queries.outputs(job.id)
    for output in outputs:
        lines.append(f"file      {output.path}")
        lines.append(f"          {', '.join(_properties(output))}")
        lines.append(f"          sha256 {output.sha256}" + (f"; {output.warning}" if output.warning else ""))
    lines += [f"text      {line}" for line in (text_of(output.path for output in outputs) or "").splitlines()]
    for event in ledger.queries.events(job.id):
        step = event.to_status if event.from_status == event.to_status else f"{event.from_status} -> {event.to_status}"
        lines.append(f"{event.at}  {step}" + (f": {event.detail}" if event.detail else ""))
    return lines


def _properties(output: OutputRecord) -> list[str]:
    """Size, length and codecs as measured in the file, as far as its kind has them."""
    found = [f"{output.bytes} bytes"]
    if output.seconds is not None:
        found.append(f"{output.seconds:.2f} s")
    if output.width is not None:
        found.append(f"{output.width}x{output.height}")
    if output.video_codec is None:  # an image or a text
        return [*found, output.mime_type]
    return [*found, output.video_codec, output.audio_codec or "no audio"]
