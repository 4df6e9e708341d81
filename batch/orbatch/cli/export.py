"""``export``: the outputs of a batch as JSON lines, CSV, Parquet or a dataset folder, one job at a time."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from orbatch.cli.errors import Failure
from orbatch.cli.files import check_new, new_file, open_private
from orbatch.cli.options import Batch, Force, Model, Only, Prompt, StatusOption
from orbatch.cli.session import Session, find_batch
from orbatch.cli.streams import json_text
from orbatch.cli.tables import csv_line, pluralize, select_jobs
from orbatch.export import COLUMNS, record_of
from orbatch.ledger import Ledger, Selection, Status

Format = Literal["jsonl", "csv", "parquet", "huggingface"]
_SUFFIXES: Mapping[str, Format] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}
_ROWS_PER_GROUP = 10_000  # of a Parquet file: bounds memory
Record = dict[str, Any]


def export(
    context: typer.Context,
    batch: Batch = None,
    format: Annotated[  # noqa: A002 - the option's name
        Format | None, typer.Option(help="Default: by the name of the file, else jsonl.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File or dataset folder to write. Default: stdout.")
    ] = None,
    prompt: Prompt = None,
    model: Model = None,
    status: StatusOption = None,
    only: Only = None,
    every: Annotated[bool, typer.Option("--all", help="Also jobs that are not done.")] = False,
    absolute: Annotated[
        bool, typer.Option("--absolute", help="Absolute paths. Default: relative to the file that is written.")
    ] = False,
    excel: Annotated[bool, typer.Option("--excel", help="CSV that spreadsheets read as UTF-8.")] = False,
    force: Force = False,
) -> None:
    """Write the outputs of a batch, one line per job.

    Prompt, variables, seed, model, file with size and hash, text, cost and settings, in the order of the batch file.
    `--format huggingface` makes a folder with the files and a metadata.jsonl, as the `datasets` library loads it.
    """
    session: Session = context.obj
    kind = format or _SUFFIXES.get(output.suffix.lower() if output else "", "jsonl")
    if output is None and kind in ("parquet", "huggingface"):
        raise Failure(f"{kind} cannot go to stdout. Name what to write with -o.")
    if excel and kind != "csv":
        raise Failure("--excel is for CSV. Name a .csv file with -o.")
    which = select_jobs(only, prompt, model, status)
    if not every and status is None:
        which = Selection(only, prompt, model, (Status.DONE,))
    if output is not None:
        _check_target(output, kind, force=force)
    with session.open_ledger() as ledger:
        base = None if absolute else Path.cwd() if output is None else output.absolute().parent
        records = _records(ledger, find_batch(ledger, batch).id, which, base)
        if output is None:
            sys.stdout.writelines(_lines(records, kind, excel=excel))  # not typer.echo, which needs one string
            return
        output.parent.mkdir(parents=True, exist_ok=True)
        if kind == "huggingface":
            written = _write_folder(output, _records(ledger, find_batch(ledger, batch).id, which, None))
            session.say(f"Created {output} with {pluralize(written, 'file')}.")
            return
        if kind == "parquet":
            _write_parquet(output, records)
        else:
            with new_file(output) as file:
                file.writelines(_lines(records, kind, excel=excel))
    session.say(f"Created {output}.")


def _check_target(output: Path, kind: Format, *, force: bool) -> None:
    if kind != "huggingface":
        check_new(output, f"batch.{kind}", force=force)
    elif output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise Failure(f"{output} already exists. Choose another name for the folder.")


def _records(ledger: Ledger, batch_id: int, which: Selection, base: Path | None) -> Iterator[Record]:
    return (record_of(job, base) for job in ledger.reports.exported_jobs(batch_id, which))


def _lines(records: Iterable[Record], kind: Format, *, excel: bool) -> Iterator[str]:
    if kind == "jsonl":
        yield from (json_text(record) + "\n" for record in records)
        return
    # With a header. Variables and settings are JSON in their cells; a cell has one path per line.
    yield ("\ufeff" if excel else "") + csv_line(COLUMNS)
    for record in records:
        cells = record | {"paths": "\n".join(record["paths"])}
        if record["cost_usd"] is not None:  # an exact decimal, never in exponents
            cells["cost_usd"] = f"{record['cost_usd']:.9f}".rstrip("0").rstrip(".")
        for name in ("variables", "settings"):
            cells[name] = json.dumps(record[name], ensure_ascii=False) if record[name] else ""
        yield csv_line("" if cells[column] is None else cells[column] for column in COLUMNS)


def _write_parquet(output: Path, records: Iterator[Record]) -> None:
    """With a type for each column, whatever the values; variables and settings are JSON."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as exc:
        raise Failure("Parquet needs pyarrow. To install it: pip install 'orbatch[parquet]'") from exc

    types = {str: pa.string(), dict: pa.string(), int: pa.int64(), float: pa.float64(), list: pa.list_(pa.string())}
    schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        open_private(part, "x").close()
        with pq.ParquetWriter(part, schema) as writer:
            while rows := list(islice(records, _ROWS_PER_GROUP)):
                for row in rows:
                    row |= {name: json.dumps(row[name], ensure_ascii=False) for name in ("variables", "settings")}
                writer.write_table(pa.Table.from_pylist(rows, schema))
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)


def _write_folder(output: Path, records: Iterable[Record]) -> int:
    """The files, linked or copied, and metadata.jsonl with a line for each. Returns how many there are."""
    written = 0
    output.mkdir(exist_ok=True)
    with new_file(output / "metadata.jsonl") as metadata:
        for record in records:
            for path in map(Path, record["paths"]):
                # Names may be in directories of their own, so two of them may be equal.
                name = f"{record['kind']}/{record['job_id'][:8]}-{path.name}"
                target = output / name
                target.parent.mkdir(exist_ok=True)
                link_or_copy(path, target)
                row = {key: value for key, value in record.items() if key not in ("output_path", "paths")}
                metadata.write(json_text({"file_name": name, **row}) + "\n")
                written += 1
    return written


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file another name, or a copy where it cannot have one."""
    try:
        os.link(source, target)
    except OSError as exc:
        if exc.errno == errno.ENOENT:
            raise
        shutil.copyfile(source, target)
