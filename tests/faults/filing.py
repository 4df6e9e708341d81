"""One run's try to download a job's files, and what is on disk and in the ledger after it."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from orbatch.ledger import AttemptRecord, JobRecord, OutputRecord
from orbatch.outputs import files as outputs
from orbatch_provider.responses import VideoJob
from tests.faults.fakes import FakeProvider
from tests.faults.workshop import Switch, Workshop, clip
from tests.provider.rawserver import Exchange, raw_answer


async def download(
    workshop: Workshop, provider: FakeProvider | Switch, job: JobRecord, attempt: AttemptRecord, files: int = 1
) -> None:
    """One run's try."""
    urls = tuple(f"https://example.com/{number}" for number in range(files))
    seen = VideoJob(attempt.remote_id or "", "completed", unsigned_urls=urls)
    await workshop.steps(provider).download(job, attempt, seen)


def files_of(workshop: Workshop, job: JobRecord) -> list[OutputRecord]:
    records = workshop.ledger.queries.outputs(job.id)
    for record in records:
        assert hashlib.sha256(Path(record.path).read_bytes()).hexdigest() == record.sha256
    return records


def names(workshop: Workshop, job: JobRecord) -> list[str]:
    return sorted(path.name.removeprefix(job.stem) for path in workshop.output_dir.glob(f"{job.stem}*"))


def place_of(workshop: Workshop, job: JobRecord) -> Path:
    return workshop.output_dir / f"{job.stem}.mp4"


def part_of(workshop: Workshop, job: JobRecord, attempt: AttemptRecord) -> Path:
    workshop.output_dir.mkdir(exist_ok=True)
    return outputs.part_path(workshop.output_dir / job.stem, attempt.remote_id or "")


def forbid_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: object, target: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted", str(source), None, str(target))

    monkeypatch.setattr(os, "link", link)


async def serve_whole(exchange: Exchange) -> None:
    exchange.writer.write(raw_answer(clip(), content_type="video/mp4", chunked=True))


async def serve_ranges(exchange: Exchange) -> None:
    assert exchange.request is not None
    wanted = exchange.request.headers.get("range")
    if wanted is None:
        exchange.writer.write(raw_answer(clip(), content_type="video/mp4"))
        return
    start = int(wanted.removeprefix("bytes=").removesuffix("-"))
    headers = {"Content-Range": f"bytes {start}-{len(clip()) - 1}/{len(clip())}"}
    exchange.writer.write(raw_answer(clip()[start:], 206, content_type="video/mp4", headers=headers))
