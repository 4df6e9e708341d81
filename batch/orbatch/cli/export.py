"""``export``: the outputs of a batch as JSON lines or CSV, one job at a time, to a file or to stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer

from orbatch.cli.files import check_new, new_file
from orbatch.cli.options import Batch, Force, Model, Only, Prompt, StatusOption
from orbatch.cli.session import Session, find_batch
from orbatch.cli.streams import json_text
from orbatch.cli.tables import csv_line, select_jobs
from orbatch.export import COLUMNS, record_of
from orbatch.ledger import ExportedJob


def export(
    context: typer.Context,
    batch: Batch = None,
    format: Annotated[Literal["jsonl", "csv"], typer.Option(help="JSON lines or CSV.")] = "jsonl",  # noqa: A002 - the option's name
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write. Default: stdout.")] = None,
    prompt: Prompt = None,
    model: Model = None,
    status: StatusOption = None,
    only: Only = None,
    force: Force = False,
) -> None:
    """Write the outputs of a batch, one line per job.

    Prompt, variables, model, text or files, cost and settings, in the order of the batch file.
    """
    session: Session = context.obj
    which = select_jobs(only, prompt, model, status)
    if output is not None:
        check_new(output, f"batch.{format}", force=force)
    with session.open_ledger() as ledger:
        found = ledger.reports.exported_jobs(find_batch(ledger, batch).id, which)
        lines = _csv_lines(found) if format == "csv" else (json_text(record_of(job)) + "\n" for job in found)
        if output is None:
            sys.stdout.writelines(lines)  # not typer.echo, which would need a string of everything
            return
        output.parent.mkdir(parents=True, exist_ok=True)
        with new_file(output) as file:
            file.writelines(lines)
    session.say(f"Created {output}.")


def _csv_lines(jobs: Iterable[ExportedJob]) -> Iterator[str]:
    """With a header. Variables and settings are JSON in their cells; a cell has one path per line."""
    yield csv_line(COLUMNS)
    for job in jobs:
        record = record_of(job) | {"paths": "\n".join(job.paths)}
        for name in ("variables", "settings"):
            record[name] = json.dumps(record[name], ensure_ascii=False) if record[name] else ""
        yield csv_line(record[column] for column in COLUMNS)
