"""One content download: streamed to a ``.part`` file, resumed where possible, checked and hashed on the way.

Memory is a few pieces of the body, whatever the size. Renaming the file is the caller's step.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from io import FileIO
from pathlib import Path
from typing import ParamSpec, TypeVar
from urllib.parse import urljoin, urlsplit

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
from orbatch_provider.http.credentials import origin_of
from orbatch_provider.http.decode import error_of, read_json
from orbatch_provider.http.transport import Content, Transport
from orbatch_provider.media import SNIFF_BYTES, is_cut_short, video_type

P = ParamSpec("P")
T = TypeVar("T")

# A few wait for the disk while the others hash and decode; more of them would only wait for each other.
_DISK_POOL = ThreadPoolExecutor((os.cpu_count() or 1) + 2, thread_name_prefix="orbatch-disk")


def run_in_disk_pool(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
    """Run blocking ``work`` in a thread. It starts immediately, whether the result is awaited or not."""
    return asyncio.get_running_loop().run_in_executor(_DISK_POOL, partial(work, *args, **kwargs))


PART_SUFFIX = ".part"
MAX_REDIRECTS = 3
MOST_BYTES = 20 * 10**9  # of one output: a clip is a thousandth of that
# A download that is slower, or takes longer, gives up its place to others; it is resumed later.
SLOWEST_BYTES_PER_S, SLOW_AFTER_S, MOST_S = 1000, 60.0, 3600.0
_WRITE_BYTES = 256 * 1024  # buffered before a write; a smaller file is created and synced in one step
_CATCH_UP_BYTES = 4 * 1024 * 1024  # written and not hashed, before a thread is worth starting
_HASH_BYTES = 1024 * 1024  # per read while hashing: each read is a change of threads
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONTAINER_TYPES = frozenset({"", "application/octet-stream", "binary/octet-stream", "application/mp4"})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_sync_data = getattr(os, "fdatasync", os.fsync)  # macOS and Windows have only the latter


@dataclass(frozen=True, slots=True)
class Download:
    """A complete, synced file at ``path``. ``size`` in bytes; ``sha256`` in hex; ``mime_type`` is what the bytes are,
    whatever the header said; ``resumed``: whether its beginning was there before."""

    path: Path
    size: int
    sha256: str
    mime_type: str
    resumed: bool


@dataclass(frozen=True, slots=True)
class Entity:
    """What a part is the beginning of; only the rest of the same may be joined to it.

    ``source``: hash of the URL without its query. ``validator``: a strong ETag, else a Last-Modified. ``total``: bytes,
    None where they were not announced.
    """

    source: str
    validator: str
    total: int | None

    @classmethod
    def of(cls, url: str, headers: Mapping[str, str], total: int | None) -> Entity | None:
        """From a response; None where nothing in it would tell other content apart."""
        tag = headers.get("etag", "")
        # RFC 9110: a weak tag may stay the same although bytes differ, and If-Range must not hold one.
        validator = tag if tag.startswith('"') else headers.get("last-modified", "")
        return cls(source_of(url), validator, total) if validator else None

    @classmethod
    def read(cls, path: Path) -> Entity | None:
        """From the file beside a part; None for one that is missing, or was cut by a crash."""
        try:
            data = json.loads(path.read_bytes())
            source, validator, total = data["source"], data["validator"], data["total"]
        except (OSError, ValueError, TypeError, KeyError):
            return None
        is_valid = isinstance(source, str) and isinstance(validator, str) and isinstance(total, int | None)
        return cls(source, validator, total) if is_valid else None

    def continues_in(self, headers: Mapping[str, str], total: int | None) -> bool:
        """Whether a 206 is of the same content: some servers ignore If-Range and send what they have now."""
        if total is not None and self.total is not None and total != self.total:
            return False
        if self.validator.startswith('"'):
            return headers.get("etag") == self.validator
        return headers.get("last-modified", self.validator) == self.validator  # which a 206 may leave out


def source_of(url: str) -> str:
    """The ``source`` of an Entity: hashed, because the path of a signed URL may be a secret too."""
    return hashlib.sha256(url.partition("?")[0].encode()).hexdigest()


def part_path(target: Path, remote_id: str) -> Path:
    """Where ``target`` is put together. The name holds a hash of the remote id, so that a part of other content of the
    same name (another job, attempt or batch) is never resumed."""
    tag = hashlib.sha256(remote_id.encode("utf-8", "replace")).hexdigest()[:8]
    return target.with_name(f"{target.name}.{tag}{PART_SUFFIX}")


def entity_path(part: Path) -> Path:
    """Where the Entity of a part is kept. Without this file a part is never resumed."""
    return part.with_name(f"{part.name}.entity")


class PartFile:
    """The file during a download: its size, its hash and what its first bytes are.

    It is created when there is enough to write, and only if that is video, so that an error page is never left on
    disk. End it with ``finish`` or ``keep``; these and ``catch_up`` block. ``expected``: the whole size in bytes as
    announced, None when it was not. ``entity``: what it is part of, kept beside it while it is not complete.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hide: Callable[[bytes], bytes] = bytes  # removes the key from what a message repeats of the content
        self._file: FileIO | None = None
        self.restart()

    def restart(self) -> None:
        """Forget what is there; the next piece is the first, and replaces it."""
        self._close()
        self.size = 0
        self.expected: int | None = None
        self.resumed = False
        self.entity: Entity | None = None
        self._digest = hashlib.sha256()
        self._mime_type: str | None = None
        self._head = b""  # first bytes, until there are enough to judge
        self._unwritten: list[bytes] = []
        self._unwritten_bytes = 0
        self._hashed = 0  # bytes, of those that are written

    @property
    def exists(self) -> bool:
        """Whether an earlier download left something. A link to a file of the user is not that."""
        try:
            status = self.path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return stat.S_ISREG(status.st_mode) and status.st_nlink == 1

    def recover(self, url: str) -> None:
        """Continue from what an earlier download of ``url`` left, unless that is not video, is longer than the content,
        or nothing tells what it is part of. Blocks."""
        entity = Entity.read(entity_path(self.path))
        if entity is None or entity.source != source_of(url):
            return
        with self.path.open("rb") as file:
            mime_type = video_type(file.read(SNIFF_BYTES))
            size = file.seek(0, os.SEEK_END)
        if mime_type is not None and (entity.total is None or size <= entity.total):
            self._mime_type, self.size, self.entity, self.resumed = mime_type, size, entity, True

    def write(self, chunk: bytes) -> None:
        """Take the next piece. Raises DownloadError when the beginning is not video, OSError from the disk."""
        if self._mime_type is None:
            self._head += chunk
            if len(self._head) < SNIFF_BYTES:
                return
            chunk = self._check_head()
        self.size += len(chunk)
        self._unwritten.append(chunk)
        self._unwritten_bytes += len(chunk)
        if self._unwritten_bytes >= _WRITE_BYTES:
            self._flush()

    @property
    def written(self) -> int:
        """Bytes that are in the file."""
        return self.size - self._unwritten_bytes

    @property
    def is_behind(self) -> bool:
        """Whether enough is written and not hashed for a ``catch_up``."""
        return self.written - self._hashed >= _CATCH_UP_BYTES

    def catch_up(self, written: int) -> None:
        """Hash and sync the first ``written`` bytes, so that little is left to do after the last piece. More may be
        written meanwhile. It reads the file again, so that a slow disk costs no memory."""
        self._hash(written)
        if self._file is not None:
            _sync_data(self._file.fileno())

    def finish(self) -> Download:
        """Sync the whole file, and check it. Raises DownloadError when it is not a complete video."""
        try:
            if self._head:
                self.write(self._check_head())
            if not self.size or self._mime_type is None:
                self._discard()
                raise DownloadError("The content is empty. Nothing was saved.", path=self.path)
            if not self.written and self.size == self.expected:
                self.entity = None  # complete, and written in one step now: there is nothing to resume
            self._hash(self.written)
            for piece in self._unwritten:
                self._digest.update(piece)
            self._flush()
            if self._file is not None:
                os.fsync(self._file.fileno())
        finally:
            self._close()
        self._check_length()
        entity_path(self.path).unlink(missing_ok=True)
        return Download(self.path, self.size, self._digest.hexdigest(), self._mime_type, self.resumed)

    def keep(self) -> None:
        """Leave what came so far, for a later download to resume."""
        try:
            self._flush()
        finally:
            self._close()

    def _hash(self, written: int) -> None:
        if written == self._hashed:
            return
        buffer = memoryview(bytearray(min(_HASH_BYTES, written - self._hashed)))
        with self.path.open("rb", buffering=0) as file:
            file.seek(self._hashed)
            while self._hashed < written:
                count = file.readinto(buffer[: written - self._hashed])
                if not count:
                    raise OSError(errno.EIO, "the file became shorter during the download", str(self.path))
                self._digest.update(buffer[:count])
                self._hashed += count

    def _flush(self) -> None:
        if not self._unwritten:
            return
        if self._file is None:
            self._file = self._open()
        # Taken first: after a disk that was full in the middle of it, none of it may be written a second time.
        pieces, self._unwritten, self._unwritten_bytes = self._unwritten, [], 0
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[self._file.write(rest) :]

    def _open(self) -> FileIO:
        """The file, positioned where the last download ended; a new one replaces a link and never writes through it."""
        if not self.written:
            # In this order: wherever a crash comes, an entity is never beside a part of something else.
            self._unlink()
            if self.entity is not None:
                with entity_path(self.path).open("x", encoding="utf-8") as beside:
                    json.dump(asdict(self.entity), beside)
            return self.path.open("xb", buffering=0)
        file = self.path.open("r+b", buffering=0)
        file.truncate(self.written)
        file.seek(self.written)
        return file

    def _check_length(self) -> None:
        if self.expected is None:
            if is_cut_short(self.path):
                raise _interrupted(f"{self.size} bytes", self.path)
        elif self.size > self.expected:
            self._discard()
            raise DownloadError(f"{self.size} bytes came, {self.expected} were announced.", path=self.path)
        elif self.size < self.expected:
            raise _interrupted(f"{self.size} of {self.expected} bytes", self.path)

    def _check_head(self) -> bytes:
        """The first bytes, if they are video."""
        head, self._head = self._head, b""
        self._mime_type = video_type(head[:SNIFF_BYTES])
        if self._mime_type is None:
            self._discard()
            text = redact(self.hide(head[:SNIFF_BYTES]).decode("utf-8", "replace"))
            raise DownloadError(f"The content is not a video; it begins with {text!r}. Nothing was saved.")
        return head

    def _discard(self) -> None:
        self._close()
        self._unlink()

    def _unlink(self) -> None:
        entity_path(self.path).unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


async def receive(transport: Transport, url: str, part: Path, *, keyed: bool) -> PartFile:
    """Download ``url`` into ``part``, resuming what is there if it is of the same content. ``finish`` of the returned
    file syncs and checks the whole; it blocks, so call it in a thread.

    Raises the APIError of an error status; DownloadError when the content is not video or is interrupted, in which
    case ``part`` holds what came and the next call resumes; OSError when the file cannot be written.
    """
    file = PartFile(part)
    hashing = _Hashing(file)
    try:
        if file.exists:
            await run_in_disk_pool(file.recover, url)
        if not await _fetch(transport, url, hashing, keyed=keyed):
            file.restart()  # the server cannot serve our offset
            if not await _fetch(transport, url, hashing, keyed=keyed):
                raise DownloadError(f"The server sent only a part of {_name(url)}.", path=part)
        await hashing.wait()
    except BaseException:
        with suppress(OSError):  # the error that ended the download says more
            try:
                await hashing.wait()
            finally:
                if not hashing.is_busy:  # else its thread still uses the file
                    file.keep()
        raise
    return file


class _Hashing:
    """Hashes and syncs a large file in a thread, a few megabytes behind the download."""

    def __init__(self, file: PartFile) -> None:
        self.file = file
        self._running: asyncio.Future[None] | None = None

    @property
    def is_busy(self) -> bool:
        return self._running is not None and not self._running.done()

    def start(self) -> None:
        """Catch up, unless it is busy. Raises OSError when the last time failed."""
        if not self.is_busy:
            self._take_result()
            if self.file.is_behind:
                self._running = run_in_disk_pool(self.file.catch_up, self.file.written)

    async def wait(self) -> None:
        """Until the thread has ended. Raises OSError."""
        if self._running is not None:
            await asyncio.wait([self._running])
            self._take_result()

    def _take_result(self) -> None:
        done, self._running = self._running, None
        if done is not None:
            done.result()


async def download_with_fallback(
    transport: Transport, url: str, part: Path, stored_copy: Callable[[], Awaitable[str | None]]
) -> PartFile:
    """``receive`` from the API, or, when it no longer has the content, from ``stored_copy()``: a signed URL, which is
    requested only then and never receives the key."""
    try:
        return await receive(transport, url, part, keyed=True)
    except (NotFoundError, GoneError) as exc:
        missing = exc
    try:
        copy = await stored_copy()
    except OpenRouterError as exc:
        if exc.temporary:
            raise
        copy = None  # a job that is deleted too has no other copy
    if copy is None or not _is_allowed(copy, transport):
        raise missing
    try:
        return await receive(transport, copy, part, keyed=False)
    except APIError as exc:
        if exc.temporary:
            raise
    raise missing


async def _fetch(transport: Transport, url: str, hashing: _Hashing, *, keyed: bool) -> bool:
    """Write the body of one response; False when it does not continue what the file holds."""
    file = hashing.file
    headers = {"Accept": "video/mp4, */*"}
    if file.size and file.entity is not None:
        headers["Range"] = f"bytes={file.size}-"  # a server that ignores it sends 200 and the whole
        headers["If-Range"] = file.entity.validator  # and so does one whose content has changed
    async with _follow(transport, url, headers, keyed=keyed) as content:
        if content.status == 416 and file.size:
            return False
        await _require_video(content, url)
        file.hide = content.hide
        if content.status == 206:
            start, total = _range(content.headers.get("content-range", ""))
            if start != file.size or _is_encoded(content):
                return False
            if file.entity is not None and not file.entity.continues_in(content.headers, total):
                return False
            file.expected = total  # of the whole file, not of this part
        else:
            file.restart()
            file.expected = None if _is_encoded(content) else _number(content.headers.get("content-length"))
        if file.entity is None and not _is_encoded(content):
            file.entity = Entity.of(url, content.headers, file.expected)
        try:
            pace = _Pace(file.size, asyncio.get_running_loop().time())
            async with aclosing(content.chunks()) as chunks:
                async for chunk in chunks:
                    file.write(chunk)
                    hashing.start()
                    pace.check(file)
        except OutcomeUnknownError as exc:
            reason = str(exc)
        else:
            return True
    raise _interrupted(f"{file.size} bytes", file.path, reason)


class _Pace:
    """How fast a download is, checked every minute."""

    def __init__(self, size: int, now: float) -> None:
        self._size, self._since, self._began = size, now, now

    def check(self, file: PartFile) -> None:
        """Raises DownloadError for one that is too slow, takes too long, or has no end."""
        if file.size > MOST_BYTES:
            raise DownloadError(f"The download is larger than {MOST_BYTES // 10**9} GB.", path=file.path)
        now = asyncio.get_running_loop().time()
        passed_s = now - self._since
        if passed_s < SLOW_AFTER_S:
            return
        if file.size - self._size < passed_s * SLOWEST_BYTES_PER_S:
            raise _interrupted(f"{file.size} bytes", file.path, f"It came at less than {SLOWEST_BYTES_PER_S} bytes/s.")
        if now - self._began > MOST_S:
            raise _interrupted(f"{file.size} bytes", file.path, f"It took more than {MOST_S / 60:.0f} minutes.")
        self._size, self._since = file.size, now


def rename_new(part: Path, target: Path) -> None:
    """Give a download its name, never over another file; one with the same content is its own. Raises DownloadError."""
    try:
        os.link(part, target)  # atomic: a crash leaves no empty file that would be in the way
    except FileExistsError:
        with part.open("rb") as ours, target.open("rb") as theirs:
            is_same = hashlib.file_digest(ours, "sha256").digest() == hashlib.file_digest(theirs, "sha256").digest()
        if not is_same:
            text = f"{target} exists and was not overwritten. The download is kept as {part}."
            raise DownloadError(text, path=part) from None
    except OSError:  # a file system without hard links
        target.open("xb").close()
        part.replace(target)
        return
    part.unlink()


def _interrupted(size: str, path: Path, reason: str = "") -> DownloadError:
    return DownloadError(f"Download interrupted after {size}; it can be resumed. {reason}".rstrip(), path=path)


@asynccontextmanager
async def _follow(
    transport: Transport, url: str, headers: Mapping[str, str], *, keyed: bool, hops: int = MAX_REDIRECTS
) -> AsyncIterator[Content]:
    """The response behind any redirects: the key stays with its own origin, and nothing goes over plain http."""
    async with transport.stream(url, headers, keyed=keyed) as content:
        if content.status not in _REDIRECTS:
            yield content
            return
        target = urljoin(url, content.headers.get("location", ""))
    if hops == 0 or not _is_allowed(target, transport):
        why = "too many times" if hops == 0 else "to a URL that is not https"
        raise DownloadError(f"The content of {_name(url)} is redirected {why}: {_name(target)}. It was not followed.")
    keyed = keyed and origin_of(target) == transport.origin
    async with _follow(transport, target, headers, keyed=keyed, hops=hops - 1) as content:
        yield content


def _is_allowed(url: str, transport: Transport) -> bool:
    """Content may come over https, or from the API's own origin (which is on this machine if it is not https)."""
    origin = origin_of(url)
    return origin is not None and (origin.startswith("https://") or origin == transport.origin)


async def _require_video(content: Content, url: str) -> None:
    """Raise unless the response is the content: the error of its status, or of the object that a 200 holds."""
    kind = content.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_content = content.status in {200, 206}
    if is_content and (kind.startswith("video/") or kind in _CONTAINER_TYPES):
        return
    response = await content.beginning(f"GET {urlsplit(url).path}")
    if not response.is_success:
        raise error_of(response)
    with suppress(InvalidResponseError):
        read_json(response)
    text = redact(response.body.decode("utf-8", "replace")) or "nothing"
    what = (kind or "no media type") if is_content else str(content.status)
    raise DownloadError(f"{_name(url)} returned {what} instead of a video: {text}. Nothing was saved.")


def _is_encoded(content: Content) -> bool:
    """Whether it is compressed in spite of the request: then offsets and lengths mean something else."""
    return content.headers.get("content-encoding", "identity").lower() not in {"", "identity"}


def _range(header: str) -> tuple[int | None, int | None]:
    """First byte and total size of a ``Content-Range``; None for what it does not name."""
    match = _CONTENT_RANGE.fullmatch(header.strip())
    return (None, None) if match is None else (int(match[1]), _number(match[2]))


def _number(value: str | None) -> int | None:
    return int(value) if value is not None and value.isascii() and value.isdigit() else None


def _name(url: str) -> str:
    """A URL for a message: without its query, which may be a signature."""
    parts = urlsplit(url)
    return redact(f"{parts.scheme}://{parts.hostname}{parts.path}")
