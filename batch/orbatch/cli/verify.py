"""``verify``: whether the files that were paid for exist and are unchanged."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import typer

from orbatch.cli.session import ExitCode, OneOrAll, Session, Yes, confirm, find_batch, outlive_readers
from orbatch.cli.tables import pluralize
from orbatch.ledger import Ledger, OutputRecord


def verify(context: typer.Context, batch: OneOrAll = None, yes: Yes = False) -> None:
    """Check the files on disk against the ledger.

    Offers to download missing and changed files again, while the provider still has them; that costs nothing.
    """
    session: Session = context.obj
    outlive_readers()
    with session.open_ledger() as ledger:
        files = list(ledger.queries.placed_files(None if batch is None else find_batch(ledger, batch).id))
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
