"""``verify``: whether the files that were paid for exist and are unchanged."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

import typer

from orbatch.cli.session import ExitCode, Failure, OneOrAll, Session, Yes, confirm, find_batch
from orbatch.cli.tables import pluralize
from orbatch.ledger import JobRecord, Ledger, OutputRecord


@dataclass(frozen=True, slots=True)
class Damage:
    """An output whose file is missing or has changed."""

    job: JobRecord
    output: OutputRecord
    problem: str


def verify(context: typer.Context, batch: OneOrAll = None, yes: Yes = False) -> None:
    """Check the files on disk against the ledger.

    Offers to download missing and changed files again, while the provider still has them; that costs nothing.
    """
    session: Session = context.obj
    with session.open_ledger() as ledger:
        batch_id = None if batch is None else find_batch(ledger, batch).id
        checked, damages = _check(ledger, batch_id)
        for damage in damages:
            session.warn(f"{damage.job.id}  {damage.output.path}: {damage.problem}")
        downloaded = 0
        if damages and _may_download(session, len(damages), yes=yes):
            downloaded = asyncio.run(_download(session, ledger, damages))
    if session.json:
        damaged = [{"job_id": d.job.id, "path": d.output.path, "problem": d.problem} for d in damages]
        session.data({"checked": checked, "damaged": damaged, "downloaded_again": downloaded})
    else:
        files = pluralize(checked, "file")
        session.result(f"{files} checked, {len(damages)} missing or changed, {downloaded} downloaded again.")
    if downloaded < len(damages):  # for scripts: something is still missing
        raise typer.Exit(ExitCode.FAILED)


def _check(ledger: Ledger, batch_id: int | None) -> tuple[int, list[Damage]]:
    from orbatch.outputs.files import sha256_of

    checked, damages = 0, []
    for job_id, output in ledger.queries.placed_files(batch_id):
        checked += 1
        path = Path(output.path)
        if not path.is_file():
            problem = "missing"
        # The size first: it is known without reading the file.
        elif path.stat().st_size != output.bytes or sha256_of(path) != output.sha256:
            problem = "changed since it was downloaded"
        else:
            continue
        damages.append(Damage(ledger.queries.job(job_id), output, problem))
    return checked, damages


def _may_download(session: Session, count: int, *, yes: bool) -> bool:
    if not yes and not sys.stdin.isatty():
        session.warn("Pass --yes to download them again while the provider still has them. It costs nothing.")
        return False
    return yes or confirm(f"Download {pluralize(count, 'file')} again? It costs nothing.")


async def _download(session: Session, ledger: Ledger, damages: list[Damage]) -> int:
    """Download again what is missing. A changed file is kept beside the new one, as NAME.changed."""
    from orbatch.cli.provider import connect  # not above: checking alone needs neither provider nor runner
    from orbatch.outputs.files import NotPlayable
    from orbatch.plan.kinds import KINDS
    from orbatch.runner.download import redownload
    from orbatch_provider.errors import OpenRouterError

    downloaded = 0
    async with connect(session) as connection:
        # Once per job: all its files come with one download.
        for job in {damage.job.id: damage.job for damage in damages}.values():
            if KINDS[job.kind].is_synchronous:
                session.warn(f"{job.id}: {job.kind} output is part of the API response and cannot be downloaded again.")
                continue
            try:
                downloaded += await redownload(ledger, connection.provider, job)
            except (OpenRouterError, NotPlayable, OSError, Failure) as exc:
                session.warn(f"{job.id} could not be downloaded again: {exc}")
    return downloaded
