"""``verify``: whether the files that were paid for exist and are unchanged. ``clean``: moves those of retired jobs."""

from __future__ import annotations

import asyncio
import os
import sys
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import typer

from orbatch.cli.errors import ExitCode
from orbatch.cli.files import relative_path
from orbatch.cli.options import Batch, Model, OneOrAll, Only, Prompt, StatusOption, Yes
from orbatch.cli.session import Session, confirm, find_batch
from orbatch.cli.streams import outlive_readers
from orbatch.cli.tables import pluralize, select_jobs
from orbatch.ledger import Ledger, OutputRecord, utc_now


def verify(
    context: typer.Context,
    batch: OneOrAll = None,
    prompt: Prompt = None,
    model: Model = None,
    status: StatusOption = None,
    only: Only = None,
    yes: Yes = False,
) -> None:
    """Check the files on disk against the ledger.

    Offers to download missing and changed files again, while the provider still has them; that costs nothing.
    """
    session: Session = context.obj
    outlive_readers()
    which = select_jobs(only, prompt, model, status)
    with session.open_ledger() as ledger:
        files = ledger.queries.placed_files(None if batch is None else find_batch(ledger, batch).id, which)
        found = [(job_id, output.path, problem) for job_id, output in files if (problem := _problem(output))]
        for job_id, path, problem in found:
            session.warn(f"{job_id}  {path}: {problem}")
        downloaded = 0
        if found and (yes or sys.stdin.isatty()):
            damaged = f"{pluralize(len(found), 'file')} missing or changed"
            if not yes:
                confirm(f"{damaged}. Download again? It costs nothing.", "Nothing was downloaded.")
            downloaded = asyncio.run(_download(session, ledger, [job_id for job_id, *_ in found]))
        elif found:
            session.warn("Pass --yes to download them again while the provider still has them. It costs nothing.")
    if session.json:
        keys = ("job_id", "path", "problem")
        damaged_data = [dict(zip(keys, each, strict=True)) for each in found]
        session.data({"checked": len(files), "damaged": damaged_data, "downloaded_again": downloaded})
    else:
        checked = pluralize(len(files), "file")
        session.result(f"{checked} checked, {len(found)} missing or changed, {downloaded} downloaded again.")
    if downloaded < len(found):  # for scripts: something is still missing
        raise typer.Exit(ExitCode.FAILED)


def clean(context: typer.Context, batch: Batch = None, yes: Yes = False) -> None:
    """Move the files of jobs that left the batch file to `retired/`.

    They stay paid for and in the ledger: a prompt that comes back finds its file there.
    """
    from orbatch.outputs.files import RETIRED, is_outside

    session: Session = context.obj
    outlive_readers()
    with session.open_ledger() as ledger:
        found = find_batch(ledger, batch)
        output_dir = Path(found.output_dir)
        retired_dir = output_dir / RETIRED
        attempts = [
            (attempt_id, [output for _, output in of_attempt])
            for attempt_id, of_attempt in groupby(ledger.queries.retired_outputs(found.id), key=itemgetter(0))
        ]
        present = [each for each in attempts if all(is_outside(output, retired_dir) for output in each[1])]
        number = sum(len(outputs) for _, outputs in present)
        if present and not yes:
            where = relative_path(retired_dir)
            confirm(f"Move {pluralize(number, 'file')} of earlier prompts to {where}?", "Nothing was moved.")
        ledger.leases.check_free(found.id, utc_now())
        moved = sum(_set_aside(session, ledger, attempt_id, outputs, output_dir) for attempt_id, outputs in present)
    if session.json:
        session.data({"batch": found.name, "moved": moved, "directory": str(retired_dir)})
    else:
        where = f" to {relative_path(retired_dir)}" if moved else ""
        session.result(f"{found.name}: {pluralize(moved, 'file')} of earlier prompts moved{where}.")


def _set_aside(session: Session, ledger: Ledger, attempt_id: int, outputs: list[OutputRecord], output_dir: Path) -> int:
    """Move the files of one attempt; returns how many. Each has its new name before the ledger says so, and loses the
    old one only afterwards, so that a crash leaves it with two names and never without one."""
    from orbatch.outputs.files import RETIRED, copy_of, sync_directory

    try:
        stems = [Path(os.path.relpath(each.path, output_dir)).with_suffix("").as_posix() for each in outputs]
        moved = [copy_of(each, output_dir / RETIRED, stem, 0) for each, stem in zip(outputs, stems, strict=True)]
        ledger.attempts.replace_outputs(attempt_id, moved, f"moved to {RETIRED}/")
        for each in outputs:
            Path(each.path).unlink()
            sync_directory(Path(each.path).parent)
    except OSError as exc:
        session.warn(f"{exc.filename}: {exc.strerror}. It stays where it is.")
        return 0
    return len(outputs)


def _problem(output: OutputRecord) -> str | None:
    from orbatch.outputs.files import sha256_of

    path = Path(output.path)
    if not path.is_file():
        return "missing"
    # The size first: it is known without reading the file.
    if path.stat().st_size != output.bytes or sha256_of(path) != output.sha256:
        return "changed since it was downloaded"
    return None


async def _download(session: Session, ledger: Ledger, job_ids: list[str]) -> int:
    """Download again what is missing. A changed file is kept beside the new one, as NAME.changed."""
    from orbatch.cli.provider import connect  # not above: checking alone needs neither provider nor runner
    from orbatch.outputs.files import NotPlayable
    from orbatch.plan import KINDS
    from orbatch.runner.download import redownload
    from orbatch_provider import OpenRouterError

    downloaded = 0
    async with connect(session) as connection:
        for job in map(ledger.queries.job, dict.fromkeys(job_ids)):  # once per job: its files come with one download
            if KINDS[job.kind].is_synchronous:
                session.warn(f"{job.id}: {job.kind} output is part of the API response and cannot be downloaded again.")
                continue
            try:
                downloaded += await redownload(ledger, connection.provider, job)
            except (OpenRouterError, NotPlayable, OSError) as exc:
                session.warn(f"{job.id} could not be downloaded again: {exc}")
    return downloaded
