"""A file under way: written as the pieces come, hashed behind them, checked and safely on disk at the end."""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from orbatch_provider.errors import DownloadError, redact
from orbatch_provider.media import SNIFF_BYTES, is_cut_short, video_type

_WRITE_BYTES = 256 * 1024  # that many are written at once; a smaller file is made and synced in one go
_CATCH_UP_BYTES = 4 * 1024 * 1024
_HASH_BYTES = 1024 * 1024  # read at once to be hashed: each piece is a change of threads
_sync_data = getattr(os, "fdatasync", os.fsync)  # macOS and Windows have only the latter


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
    """The file under way: its size, its hash and what its first bytes say.

    It is made when there is enough to write, and only once that is known to be video, so that an error page is never
    left on disk. End it with ``finish`` or ``keep``; these and ``catch_up`` block. ``expected``: the whole size in
    bytes as announced, None when nobody said.
    """

    size: int
    expected: int | None
    resumed: bool
    _mime_type: str | None
    _held: bytes  # first bytes, until there are enough to judge
    _unwritten: list[bytes]
    _unwritten_bytes: int
    _hashed: int  # bytes, of those that are written

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: FileIO | None = None
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
            self.size = file.seek(0, os.SEEK_END)
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
        self.size += len(chunk)
        self._unwritten.append(chunk)
        self._unwritten_bytes += len(chunk)
        if self._unwritten_bytes >= _WRITE_BYTES:
            self._write_out()

    @property
    def is_behind(self) -> bool:
        """Whether enough is written and not hashed for a ``catch_up``."""
        return self.written - self._hashed >= _CATCH_UP_BYTES

    @property
    def written(self) -> int:
        """Bytes that are in the file."""
        return self.size - self._unwritten_bytes

    def catch_up(self, written: int) -> None:
        """Hash the first ``written`` bytes, and see them to the disk, so that little is left to do when the last piece
        has come. More may be written meanwhile."""
        self._hash(written)
        if self._file is not None:
            _sync_data(self._file.fileno())

    def _hash(self, written: int) -> None:
        if written == self._hashed:
            return
        buffer = memoryview(bytearray(min(_HASH_BYTES, written - self._hashed)))
        with self.path.open("rb", buffering=0) as file:
            file.seek(self._hashed)
            while self._hashed < written:
                count = file.readinto(buffer[: written - self._hashed])
                if not count:
                    raise OSError(errno.EIO, "what was written is not there any more", str(self.path))
                self._digest.update(buffer[:count])
                self._hashed += count

    def finish(self) -> Download:
        """Put the whole safely on disk, and check it against what was announced."""
        try:
            if self._held:
                self.write(self._admit())
            if not self.size or self._mime_type is None:
                self._discard()
                raise DownloadError("The content is empty. Nothing was saved.", path=self.path)
            self._hash(self.written)
            for piece in self._unwritten:
                self._digest.update(piece)
            self._write_out()
            if self._file is not None:
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
            self._file = self._open()
        # Taken first: after a disk that was full in the middle of it, none of it may be written a second time.
        pieces, self._unwritten, self._unwritten_bytes = self._unwritten, [], 0
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[self._file.write(rest) :]

    def _open(self) -> FileIO:
        """The file, to be written on from where it was left."""
        begun = self.written
        if not begun:
            return self.path.open("wb", buffering=0)
        file = self.path.open("r+b", buffering=0)
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
        self._hashed = 0

    def _discard(self) -> None:
        self._close()
        self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()
