"""A provider in memory, for what no server can be scripted to do at the right moment."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from orbatch_provider import Generation, ImagesResult, KeyInfo, PartFile, TextResult, Usage, VideoJob, VideoRequest
from orbatch_provider.image_stream import ImageFile
from tests.faults.workshop import clip
from tests.images import painted

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
