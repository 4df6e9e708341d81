"""A provider in memory, for what no server can be scripted to do at the right moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from orbatch_provider import ImagesResult, TextResult
from orbatch_provider.download import PartFile
from orbatch_provider.requests import ImageRequest, TextRequest, VideoRequest
from orbatch_provider.responses import Generation, KeyInfo, VideoJob
from tests.faults.workshop import clip

T = TypeVar("T")


class FakeProvider:
    """``asked``: a submit is in the air. ``answer``: what comes of it, given before or after. ``polls`` and
    ``contents`` say what each read brings: a value, or an error to raise."""

    def __init__(self) -> None:
        self.account, self.origin = "account", "http://127.0.0.1"
        self.asked = asyncio.Event()
        self.usage: KeyInfo | Exception = KeyInfo("", None, None, None, None)
        self.polls: Callable[[], VideoJob | Exception] = lambda: AssertionError("nobody polls")
        self.contents: Callable[[int], bytes | Exception] = lambda index: clip()
        self.generations: Callable[[str], Generation | Exception] = lambda _: AssertionError("nobody asks")
        self.downloads: list[int] = []
        self._answer: asyncio.Future[VideoJob] | None = None
        self._ready: VideoJob | Exception | None = None

    def answer(self, answer: VideoJob | Exception) -> None:
        if self._answer is None:
            self._ready = answer
        elif isinstance(answer, Exception):
            self._answer.set_exception(answer)
        else:
            self._answer.set_result(answer)

    async def submit(self, request: VideoRequest) -> VideoJob:
        self.asked.set()
        if self._ready is None:
            self._answer = asyncio.get_running_loop().create_future()
            return await self._answer
        return given(self._ready)

    async def create_images(self, request: ImageRequest, directory: Path, stem: str) -> ImagesResult:
        raise AssertionError("nobody asks for pictures")

    async def complete_text(self, request: TextRequest) -> TextResult:
        raise AssertionError("nobody asks for texts")

    async def poll(self, job_id: str) -> VideoJob:
        return given(self.polls())

    async def receive(self, job_id: str, index: int, part: Path) -> PartFile:
        self.downloads.append(index)
        return received(part, given(self.contents(index)))

    async def generation(self, generation_id: str) -> Generation:
        return given(self.generations(generation_id))

    async def key(self) -> KeyInfo:
        return given(self.usage)


def received(part: Path, content: bytes) -> PartFile:
    file = PartFile(part)
    file.expected = len(content)
    file.write(content)
    return file


def given(value: T | Exception) -> T:
    if isinstance(value, Exception):
        raise value
    return value
