"""One content download: streamed to a ``.part`` file, resumed where possible, checked and hashed on the way.

Memory is a few pieces of the body, whatever the size. Renaming the file into place is the caller's step.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

from orbatch_provider.answers import error_of, read_json
from orbatch_provider.credentials import origin_of
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
from orbatch_provider.media import SNIFF_BYTES, is_cut_short, video_type
from orbatch_provider.transport import Content, Transport

MAX_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HASH_CHUNK = 1024 * 1024  # bytes read at once from a file to resume
_WRITE_BYTES = 256 * 1024  # that many are written at once; a smaller file is made and synced in one go
_CONTAINER_TYPES = frozenset({"", "application/octet-stream", "binary/octet-stream", "application/mp4"})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class Download:
    """A complete, synced file at ``path``. ``size`` in bytes; ``sha256`` in hex; ``mime_type`` is what the bytes are,
    not what a header said; ``resumed``: whether its beginning was there before."""

    path: Path
    size: int
    sha256: str
    mime_type: str
    resumed: bool


class PartFile:
    """The file under way: its hash, its size and what its first bytes say, kept as the pieces come.

    It is made when there is enough to write, and only once that is known to be video, so that an error page is never
    left on disk. End it with ``finish`` or ``keep``; both block. ``expected``: the whole size in bytes as announced,
    None when nobody said.
    """

    size: int
    expected: int | None
    resumed: bool
    _mime_type: str | None
    _held: bytes  # first bytes, until there are enough to judge
    _unwritten: list[bytes]
    _unwritten_bytes: int

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None
        self._forget()

    @property
    def was_begun(self) -> bool:
        """Whether an earlier download left something."""
        return self.path.is_file()

    def recover(self) -> None:
        """Take over what an earlier download left, unless it is no video."""
        with self.path.open("rb") as file:
            self._mime_type = video_type(file.read(SNIFF_BYTES))
            if self._mime_type is None:
                return
            file.seek(0)
            while chunk := file.read(_HASH_CHUNK):
                self._digest.update(chunk)
                self.size += len(chunk)
        self.resumed = True

    def restart(self) -> None:
        """Forget what is there; the next piece is the first, and replaces it."""
        self._close()
        self._forget()

    def write(self, chunk: bytes) -> None:
        if self._mime_type is None:
            self._held += chunk
            if len(self._held) < SNIFF_BYTES:
                return
            chunk = self._admit()
        self._digest.update(chunk)
        self.size += len(chunk)
        self._unwritten.append(chunk)
        self._unwritten_bytes += len(chunk)
        if self._unwritten_bytes >= _WRITE_BYTES:
            self._write_out()

    def finish(self) -> Download:
        """Put the whole safely on disk, and check it against what was announced."""
        try:
            if self._held:
                self.write(self._admit())
            if not self.size or self._mime_type is None:
                self._discard()
                raise DownloadError("The content is empty. Nothing was saved.", path=self.path)
            self._write_out()
            if self._file is not None:
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._close()
        self._check_length()
        return Download(self.path, self.size, self._digest.hexdigest(), self._mime_type, self.resumed)

    def keep(self) -> None:
        """Leave what came so far, to be gone on with."""
        try:
            self._write_out()
        finally:
            self._close()

    def _write_out(self) -> None:
        if not self._unwritten:
            return
        if self._file is None:
            self._file = self._open(self.size - self._unwritten_bytes)
        self._file.writelines(self._unwritten)
        self._unwritten, self._unwritten_bytes = [], 0

    def _open(self, begun: int) -> BinaryIO:
        """The file, to be written on from byte ``begun``."""
        if not begun:
            return self.path.open("wb")
        file = self.path.open("r+b")
        file.truncate(begun)
        file.seek(begun)
        return file

    def _check_length(self) -> None:
        if self.expected is not None and self.size > self.expected:
            self._discard()
            raise DownloadError(f"{self.size} bytes came where {self.expected} were announced.", path=self.path)
        if self.expected is not None and self.size < self.expected:
            raise DownloadError(
                f"Only {self.size} of {self.expected} bytes came; the download can be continued.", path=self.path
            )
        if self.expected is None and is_cut_short(self.path):
            raise DownloadError(
                f"The video breaks off after {self.size} bytes; the download can be continued.", path=self.path
            )

    def _admit(self) -> bytes:
        """The first bytes, once they are known to be video."""
        head, self._held = self._held, b""
        self._mime_type = video_type(head[:SNIFF_BYTES])
        if self._mime_type is None:
            self._discard()
            began = redact(head[:SNIFF_BYTES].decode("utf-8", "replace"))
            raise DownloadError(f"The content is not a video; it begins with {began!r}. Nothing was saved.")
        return head

    def _forget(self) -> None:
        self.size = 0
        self.expected = None
        self.resumed = False
        self._digest = hashlib.sha256()
        self._mime_type = None
        self._held = b""
        self._unwritten, self._unwritten_bytes = [], 0

    def _discard(self) -> None:
        self._close()
        self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


async def receive(transport: Transport, url: str, part: Path, *, keyed: bool) -> PartFile:
    """Fetch ``url`` into ``part``, going on from what is already there if the server can. ``finish`` of what is
    returned puts the last of it on disk and checks the whole; it blocks, so call it in a thread.

    Raises the APIError of an error status; DownloadError when the content is no video or breaks off, in which case
    ``part`` holds what came and the next call goes on from there; OSError when the file cannot be written.
    """
    file = PartFile(part)
    try:
        if file.was_begun:
            await asyncio.to_thread(file.recover)
        if not await _fetch(transport, url, file, keyed=keyed):
            file.restart()  # the server has no use for our offset
            if not await _fetch(transport, url, file, keyed=keyed):
                raise DownloadError(f"The server sent a piece of {_name(url)} instead of the whole.", path=part)
    except BaseException:
        with suppress(OSError):  # what ended the download says more
            file.keep()
        raise
    return file


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


async def _fetch(transport: Transport, url: str, file: PartFile, *, keyed: bool) -> bool:
    """Write the body of one answer; False when it cannot be joined to what the file holds."""
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
