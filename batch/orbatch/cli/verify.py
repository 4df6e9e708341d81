"""``verify``: are the files that were paid for still there, and still what they were?"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from orbatch.cli.exit_codes import Exit
from orbatch.cli.session import Failure, Session, confirmed, find_batch
from orbatch.cli.tables import pluralize
from orbatch.ledger import JobRecord, Ledger, OutputRecord
from orbatch.plan.kinds import KINDS


@dataclass(frozen=True, slots=True)
class Damage:
    """An output whose file is missing or has changed."""

    job: JobRecord
    output: OutputRecord
    fault: str


def verify_files(session: Session, name: str | None, *, yes: bool, simulate: bool) -> None:
    with session.open_ledger(simulate=simulate) as ledger:
        batch_id = None if name is None else find_batch(ledger, name).id
        checked, damages = _examine(ledger, batch_id)
        for damage in damages:
            session.warn(f"{damage.job.id}  {damage.output.path}: {damage.fault}")
        fetched = 0
        if damages and _wants_to_fetch(session, len(damages), yes=yes):
            fetched = asyncio.run(_fetch_again(session, ledger, damages, simulate=simulate))
        if session.json:
            session.data(_data(checked, damages, fetched))
        else:
            files = pluralize(checked, "file")
            session.result(f"{files} checked, {len(damages)} missing or changed, {fetched} fetched again.")
    if fetched < len(damages):
        raise typer.Exit(Exit.FAILED)


def _examine(ledger: Ledger, batch_id: int | None) -> tuple[int, list[Damage]]:
    from orbatch.outputs.files import sha256_of

    checked, damages = 0, []
    for job_id, output in ledger.queries.placed_files(batch_id):
        checked += 1
        path = Path(output.path)
        fault = None
        if not path.is_file():
            fault = "missing"
        elif path.stat().st_size != output.bytes or sha256_of(path) != output.sha256:
            fault = "changed since it was downloaded"
        if fault is not None:
            damages.append(Damage(ledger.queries.job(job_id), output, fault))
    return checked, damages


def _wants_to_fetch(session: Session, count: int, *, yes: bool) -> bool:
    if yes:
        return True
    if not sys.stdin.isatty():
        session.warn("Pass --yes to fetch them again while the provider still has them; it costs nothing.")
        return False
    return confirmed(f"Fetch {count} again? It costs nothing.")


async def _fetch_again(session: Session, ledger: Ledger, damages: list[Damage], *, simulate: bool) -> int:
    """Download what is missing. A changed file is kept beside the new one, as NAME.changed."""
    from orbatch.cli.provider import connected
    from orbatch.outputs.files import NotPlayable
    from orbatch.runner.download import redownload
    from orbatch_provider.errors import OpenRouterError

    fetched = 0
    async with connected(session, simulate=simulate) as connection:
        for job in {damage.job.id: damage.job for damage in damages}.values():
            if KINDS[job.kind].is_synchronous:
                session.warn(f"{job.id} came in the answer itself ({job.kind}), which cannot be fetched again.")
                continue
            try:
                fetched += await redownload(ledger, connection.provider, job)
            except (OpenRouterError, NotPlayable, OSError, Failure) as exc:
                session.warn(f"{job.id} could not be fetched again: {exc}")
    return fetched


def _data(checked: int, damages: list[Damage], fetched: int) -> dict[str, Any]:
    return {
        "checked": checked,
        "damaged": [{"job_id": damage.job.id, "path": damage.output.path, "fault": damage.fault} for damage in damages],
        "fetched_again": fetched,
    }
