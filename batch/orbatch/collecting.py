"""Fetching the files of a completed job: download, verify, place. Recording them is the caller's step."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Protocol

from orbatch import outputs
from orbatch.ledger import AttemptRecord, JobRecord, Ledger, OutputRecord
from orbatch_provider.download import Download
from orbatch_provider.errors import GoneError, NotFoundError
from orbatch_provider.media import extension
from orbatch_provider.responses import VideoJob

CHANGED_SUFFIX = ".changed"


class ContentSource(Protocol):
    """What collecting needs of the provider."""

    async def poll(self, job_id: str) -> VideoJob: ...
    async def download(self, job_id: str, index: int, part: Path) -> Download: ...


async def fetch_all(
    provider: ContentSource, output_dir: Path, job: JobRecord, attempt: AttemptRecord, seen: VideoJob | None
) -> list[tuple[OutputRecord, Path]]:
    """Every output of the attempt, in place, each with the part that is to be discarded once it is recorded.

    ``seen``: the provider's last word on the job, None when another run saw it. Raises OpenRouterError, NotPlayable
    and OSError.
    """
    if seen is None:
        # How many outputs there are is in the poll's answer. A job that is forgotten may still have its content.
        with contextlib.suppress(NotFoundError, GoneError):
            seen = await provider.poll(attempt.remote_id or "")
    count = seen.output_count if seen is not None else 1
    newest = job.attempt is None or job.attempt.number <= attempt.number
    overtaken = None if newest else attempt.number
    return [await _fetch(provider, output_dir, job, attempt, number, overtaken) for number in range(count)]


async def _fetch(
    provider: ContentSource,
    output_dir: Path,
    job: JobRecord,
    attempt: AttemptRecord,
    number: int,
    overtaken: int | None,
) -> tuple[OutputRecord, Path]:
    # The extension is known only with the answer, so the part carries none.
    part = outputs.part_path(outputs.target_path(output_dir, job.stem, number, "", overtaken))
    part.parent.mkdir(parents=True, exist_ok=True)
    placed = outputs.find_placed(part)
    if placed is not None:
        return await asyncio.to_thread(_describe_placed, job, placed), part
    download, media = await _download_verified(provider, attempt, number, part)
    path = outputs.target_path(output_dir, job.stem, number, extension(download.mime_type), overtaken)
    await asyncio.to_thread(outputs.place, part, path, download.sha256)
    return outputs.describe(path, download.size, download.sha256, download.mime_type, media, job.seconds), part


async def _download_verified(
    provider: ContentSource, attempt: AttemptRecord, number: int, part: Path
) -> tuple[Download, outputs.Media]:
    download = await provider.download(attempt.remote_id or "", number, part)
    try:
        media = await asyncio.to_thread(outputs.probe, part)
    except outputs.NotPlayable:
        outputs.discard(part)
        raise
    return download, media


def _describe_placed(job: JobRecord, path: Path) -> OutputRecord:
    media = outputs.probe(path)
    size, sha256 = path.stat().st_size, outputs.sha256_of(path)
    return outputs.describe(path, size, sha256, outputs.mime_type_of(path), media, job.seconds)


async def fetch_again(ledger: Ledger, provider: ContentSource, job: JobRecord) -> int:
    """Fetch the missing or changed files of a done job into the places the ledger names; returns how many.

    A changed file is kept beside the new one, as ``NAME.changed``.
    """
    attempt = job.attempt
    assert attempt is not None
    records = []
    fetched = 0
    for number, record in enumerate(ledger.queries.outputs(job.id)):
        path = Path(record.path)
        if await asyncio.to_thread(_is_intact_or_set_aside, path, record.sha256):
            records.append(record)
            continue
        part = outputs.part_path(path)
        download, media = await _download_verified(provider, attempt, number, part)
        outputs.place(part, path, download.sha256)
        records.append(outputs.describe(path, download.size, download.sha256, download.mime_type, media, job.seconds))
        outputs.discard(part)
        fetched += 1
    ledger.replace_outputs(attempt.id, records)
    return fetched


def _is_intact_or_set_aside(path: Path, sha256: str) -> bool:
    """Whether the file is what was paid for; if not, its place is made free."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        return False
    if outputs.sha256_of(path) == sha256:
        return True
    path.replace(path.with_name(path.name + CHANGED_SUFFIX))
    return False
