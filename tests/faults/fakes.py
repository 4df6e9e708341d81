"""A provider in memory, for what no server can be scripted to do at the right moment; and one run's try to download."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import Callable, Collection
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import pytest

from orbatch.ledger import AttemptRecord, JobRecord, OutputRecord
from orbatch_provider import (
    Generation,
    GenerationRows,
    ImagesResult,
    KeyInfo,
    PartFile,
    TextResult,
    Usage,
    VideoJob,
    VideoRequest,
)
from orbatch_provider.download import part_path
from orbatch_provider.image_stream import ImageFile
from tests.faults.workshop import Switch, Workshop, clip
from tests.images import painted
from tests.provider.rawserver import Exchange, raw_answer

T = TypeVar("T")


class FakeProvider:
    """``asked``: a paid request is in the air. ``answer``: what comes of it, given before or after: a job, the colors
    of images, a text, or an error. ``polls`` and ``contents`` say what each read brings: a value, or an error."""

    def __init__(self) -> None:
        self.account, self.origin = "account", "http://127.0.0.1"
        self.asked = asyncio.Event()
        self.usage: KeyInfo | Exception = KeyInfo("", None, None, None, None)
        self.paid = Usage(Decimal("0.08"))  # for images and texts, whose charge is in the answer
        self.polls: Callable[[], VideoJob | Exception] = lambda: AssertionError("nobody polls")
        self.contents: Callable[[int], bytes | Exception] = lambda index: clip()
        self.generations: Callable[[str], Generation | Exception] = lambda _: AssertionError("nobody asks")
        self.lists_generations = False
        self.rows: Callable[[Collection[str]], GenerationRows | Exception] = lambda _: AssertionError("nobody asks")
        self.downloads: list[int] = []
        self._answer: asyncio.Future[Any] | None = None
        self._ready: Any = None

    def answer(self, answer: VideoJob | list[str] | str | Exception) -> None:
        if self._answer is None:
            self._ready = answer
        elif isinstance(answer, Exception):
            self._answer.set_exception(answer)
        else:
            self._answer.set_result(answer)

    async def submit(self, request: VideoRequest) -> Any:
        self.asked.set()
        if self._ready is None:
            self._answer = asyncio.get_running_loop().create_future()
            return await self._answer
        return given(self._ready)

    async def create_images(self, request: Any, directory: Path, stem: str) -> ImagesResult:
        files = []
        for index, color in enumerate(await self.submit(request)):
            part, content = directory / f"{stem}-{index}.part", painted(color)
            part.write_bytes(content)
            files.append(ImageFile(part, "image/png", len(content), hashlib.sha256(content).hexdigest(), 8, 6))
        return ImagesResult(tuple(files), request.image_count, self.paid, "gen-1", ("picture 3: it is empty",))

    async def complete_text(self, request: Any) -> TextResult:
        return TextResult(await self.submit(request), "stop", self.paid, "gen-1")

    async def poll(self, job_id: str) -> VideoJob:
        return given(self.polls())

    async def receive(self, job_id: str, index: int, part: Path) -> PartFile:
        self.downloads.append(index)
        return received(part, given(self.contents(index)))

    async def generation(self, generation_id: str) -> Generation:
        return given(self.generations(generation_id))

    async def generations_between(self, start: datetime, end: datetime, users: Collection[str] = ()) -> GenerationRows:
        return given(self.rows(users))

    async def key(self) -> KeyInfo:
        return given(self.usage)


def received(part: Path, content: bytes) -> PartFile:
    file = PartFile(part)
    file.expected = len(content)
    file.write(content)
    return file


CLIP_TAG = '"clip"'  # the ETag of what ``serve_ranges`` serves


def given(value: T | Exception) -> T:
    if isinstance(value, Exception):
        raise value
    return value


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
    return part_path(workshop.output_dir / job.stem, attempt.remote_id or "")


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
    headers = {"Content-Range": f"bytes {start}-{len(clip()) - 1}/{len(clip())}", "ETag": CLIP_TAG}
    exchange.writer.write(raw_answer(clip()[start:], 206, content_type="video/mp4", headers=headers))
