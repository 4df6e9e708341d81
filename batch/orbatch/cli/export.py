"""``export``: the results of a batch as JSON lines or CSV, one job at a time, to a file or to stdout."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from orbatch.cli.report import harmless
from orbatch.cli.session import Session, find_batch
from orbatch.export import COLUMNS, record_of
from orbatch.ledger.reports import ExportedJob


def export_results(session: Session, name: str | None, *, style: str, output: Path | None, simulate: bool) -> None:
    """A file is replaced whole, so that a reader never finds half of it."""
    with session.open_ledger(simulate=simulate) as ledger:
        lines = _FORMATS[style](ledger.reports.exported_jobs(find_batch(ledger, name).id))
        if output is None:
            sys.stdout.writelines(lines)
            return
        output.parent.mkdir(parents=True, exist_ok=True)
        part = output.with_name(output.name + ".part")
        with part.open("w", encoding="utf-8", newline="") as file:
            file.writelines(lines)
        part.replace(output)
    session.say(f"Written to {output}")


def _jsonl_lines(jobs: Iterable[ExportedJob]) -> Iterator[str]:
    for job in jobs:
        text = json.dumps(record_of(job), ensure_ascii=False)
        if not text.isprintable():
            text = "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)
        yield text + "\n"


def _csv_lines(jobs: Iterable[ExportedJob]) -> Iterator[str]:
    """With a header. Variables and settings are JSON in their cells; several paths stand on lines of their own."""
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")

    def written(cells: Iterable[object]) -> str:
        writer.writerow(cells)
        text = line.getvalue()
        line.seek(0)
        line.truncate()
        return text

    yield written(COLUMNS)
    for job in jobs:
        record = record_of(job)
        record["paths"] = "\n".join(job.paths)
        for name in ("variables", "settings"):
            record[name] = json.dumps(record[name], ensure_ascii=False) if record[name] else ""
        yield written(harmless(record[column]) for column in COLUMNS)


_FORMATS: Mapping[str, Callable[[Iterable[ExportedJob]], Iterator[str]]] = {"jsonl": _jsonl_lines, "csv": _csv_lines}
