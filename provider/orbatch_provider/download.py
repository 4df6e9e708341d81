"""One content download: streamed to a ``.part`` file, resumed where possible, checked and hashed on the way.

Memory is a few pieces of the body, whatever the size. Renaming the file into place is the caller's step.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from orbatch_provider.answers import error_of, read_json
from orbatch_provider.credentials import origin_of
from orbatch_provider.disk import in_thread
from orbatch_provider.errors import (
    APIError,
    DownloadError,
    GoneError,
    InvalidResponseError,
    NotFoundError,
    OpenRouterError,
    OutcomeUnknownError,
    redact,
)
from orbatch_provider.partfile import PartFile
from orbatch_provider.transport import Content, Transport

MAX_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONTAINER_TYPES = frozenset({"", "application/octet-stream", "binary/octet-stream", "application/mp4"})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


async def receive(transport: Transport, url: str, part: Path, *, keyed: bool) -> PartFile:
    """Fetch ``url`` into ``part``, going on from what is already there if the server can. ``finish`` of what is
    returned puts the last of it on disk and checks the whole; it blocks, so call it in a thread.

    Raises the APIError of an error status; DownloadError when the content is no video or breaks off, in which case
    ``part`` holds what came and the next call goes on from there; OSError when the file cannot be written.
    """
    file = PartFile(part)
    behind = _Behind(file)
    try:
        if file.was_begun:
            await in_thread(file.recover)
        if not await _fetch(transport, url, behind, keyed=keyed):
            file.restart()  # the server has no use for our offset
            if not await _fetch(transport, url, behind, keyed=keyed):
                raise DownloadError(f"The server sent a piece of {_name(url)} instead of the whole.", path=part)
        await behind.wait()
    except BaseException:
        with suppress(OSError):  # what ended the download says more
            try:
                await behind.wait()
            finally:
                if not behind.is_busy:
                    file.keep()
        raise
    return file


class _Behind:
    """Hashes and syncs a large file in a thread, a few megabytes behind what comes. It reads them back from the file,
    so that a thread or a disk that is slow costs no memory."""

    def __init__(self, file: PartFile) -> None:
        self.file = file
        self._catching_up: asyncio.Future[None] | None = None

    @property
    def is_busy(self) -> bool:
        return self._catching_up is not None and not self._catching_up.done()

    def catch_up(self) -> None:
        """Start, unless it is at it. Raises OSError when the last time failed."""
        if self.is_busy:
            return
        self._take_result()
        if self.file.is_behind:
            self._catching_up = in_thread(self.file.catch_up, self.file.written)

    async def wait(self) -> None:
        """Until nothing of it runs any more. Raises OSError."""
        if self._catching_up is not None:
            await asyncio.wait([self._catching_up])
            self._take_result()

    def _take_result(self) -> None:
        catching_up, self._catching_up = self._catching_up, None
        if catching_up is not None:
            catching_up.result()


async def receive_with_fallback(
    transport: Transport,
    url: str,
    part: Path,
    stored_copy: Callable[[], Awaitable[str | None]],
) -> PartFile:
    """``receive`` from the API, or, when it no longer has the content, from ``stored_copy()``: a signed URL, which is
    asked for only then and never receives the key."""
    try:
        return await receive(transport, url, part, keyed=True)
    except (NotFoundError, GoneError) as exc:
        missing = exc
    try:
        copy = await stored_copy()
    except OpenRouterError as exc:
        if exc.temporary:
            raise
        copy = None  # a job that is forgotten too has no other copy
    if copy is None or not _is_allowed(copy, transport):
        raise missing
    try:
        return await receive(transport, copy, part, keyed=False)
    except APIError as exc:
        if exc.temporary:
            raise
    raise missing


async def _fetch(transport: Transport, url: str, behind: _Behind, *, keyed: bool) -> bool:
    """Write the body of one answer; False when it cannot be joined to what the file holds."""
    file = behind.file
    headers = {"Accept": "video/mp4, */*"}
    if file.size:
        headers["Range"] = f"bytes={file.size}-"
    async with _follow(transport, url, headers, keyed=keyed) as content:
        if content.status == 416 and file.size:
            return False
        await _require_video(content, url)
        if content.status == 206:
            start, total = _range(content.headers.get("content-range", ""))
            if start != file.size or _is_encoded(content):
                return False
            file.expected = total
        else:
            file.restart()
            file.expected = None if _is_encoded(content) else _number(content.headers.get("content-length"))
        try:
            async with aclosing(content.chunks()) as chunks:
                async for chunk in chunks:
                    file.write(chunk)
                    behind.catch_up()
        except OutcomeUnknownError as exc:
            cut = str(exc)
        else:
            return True
    raise DownloadError(f"The download broke off after {file.size} bytes and can be continued. {cut}", path=file.path)


@asynccontextmanager
async def _follow(
    transport: Transport, url: str, headers: Mapping[str, str], *, keyed: bool, hops: int = MAX_REDIRECTS
) -> AsyncIterator[Content]:
    """The answer behind any redirects: the key stays with its own origin, and nothing goes over plain http."""
    async with transport.stream(url, headers, keyed=keyed) as content:
        if content.status not in _REDIRECTS:
            yield content
            return
        target = urljoin(url, content.headers.get("location", ""))
    if hops == 0 or not _is_allowed(target, transport):
        why = "once too often" if hops == 0 else "to an address that is not https"
        raise DownloadError(f"The content of {_name(url)} is redirected {why}: {_name(target)}. It was not followed.")
    keyed = keyed and origin_of(target) == transport.origin
    async with _follow(transport, target, headers, keyed=keyed, hops=hops - 1) as content:
        yield content


def _is_allowed(url: str, transport: Transport) -> bool:
    """Content may come over https, or from the API's own origin (which is on this machine if it is not https)."""
    origin = origin_of(url)
    return origin is not None and (origin.startswith("https://") or origin == transport.origin)


async def _require_video(content: Content, url: str) -> None:
    """Raise unless the answer is the content: the error of its status, or of the object that a 200 holds."""
    kind = content.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_content = content.status in {200, 206}
    if is_content and (kind.startswith("video/") or kind in _CONTAINER_TYPES):
        return
    answer = await content.answer(f"GET {urlsplit(url).path}")
    if not answer.is_success:
        raise error_of(answer)
    with suppress(InvalidResponseError):
        read_json(answer)
    said = redact(answer.body.decode("utf-8", "replace")) or "nothing"
    what = (kind or "no media type") if is_content else str(content.status)
    raise DownloadError(f"{_name(url)} answered {what} instead of a video: {said}. Nothing was saved.")


def _is_encoded(content: Content) -> bool:
    """Whether it came compressed, although we asked it not to: then offsets and lengths mean something else."""
    return content.headers.get("content-encoding", "identity").lower() not in {"", "identity"}


def _range(header: str) -> tuple[int | None, int | None]:
    """First byte and total size of a ``Content-Range``; None for what it does not say."""
    match = _CONTENT_RANGE.fullmatch(header.strip())
    if match is None:
        return None, None
    return int(match[1]), _number(match[2])


def _number(value: str | None) -> int | None:
    return int(value) if value is not None and value.isascii() and value.isdigit() else None


def _name(url: str) -> str:
    """A URL for a message: without its query, which may be a signature."""
    parts = urlsplit(url)
    return redact(f"{parts.scheme}://{parts.hostname}{parts.path}")
