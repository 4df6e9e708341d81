"""The answer to an image request, taken apart as it comes: pictures to disk, the rest kept as JSON.

Pictures come as base64 inside one JSON object of any size. Each value of ``b64_json`` is decoded piece by piece into a
file and replaced by its number, so that memory holds no picture, and what is kept is still the JSON that was sent.
"""

from __future__ import annotations

import binascii
import contextlib
import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

KEPT_LIMIT = 4 * 1024 * 1024  # bytes of an answer without its pictures; more than that is no answer

# In JSON a quote within a text has a backslash before it, so this can only be the field itself.
_FIELD = re.compile(rb'(?<!\\)"b64_json"\s*:\s*"')
_LONGEST_FIELD = 256  # bytes, with any white space in it
_LONGEST_ESCAPE = 6  # bytes: \u002B
_WHITE_SPACE = b" \t\r\n"
_DATA_URL = re.compile(rb"data:[^,]{0,200},")


@dataclass(frozen=True, slots=True)
class Spooled:
    """One picture on disk, not looked at yet. ``size`` in bytes, ``sha256`` in hex; ``problem`` says why it cannot be
    used, None when all of it is there."""

    path: Path
    size: int
    sha256: str
    problem: str | None = None


class PictureSpool:
    """A sink for the answer to one image request; the pictures go to ``directory`` as ``stem.part``, ``stem-2.part``
    and so on. Entered, it has made the first of these files, so that a disk that cannot be written to is found out
    before anything is paid for; left by an error, it removes the files that are not whole.
    """

    def __init__(self, directory: Path, stem: str) -> None:
        self._directory = directory
        self._stem = stem
        self._kept = bytearray()
        self._searched = 0
        self._pictures: list[_Picture] = []
        self._open: _Picture | None = None

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._path(0).open("wb").close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for picture in self._pictures:
            picture.close()
        whole = [picture.path for picture in self._pictures if picture.is_whole]
        for path in {self._path(0), *(picture.path for picture in self._pictures)} - set(whole):
            with contextlib.suppress(OSError):
                path.unlink()
        if error is not None and whole:
            error.add_note(f"What came whole of the answer is kept: {', '.join(map(str, whole))}.")

    @property
    def kept(self) -> bytes:
        return bytes(self._kept)

    def write(self, piece: bytes) -> None:
        while piece:
            piece = self._text(piece) if self._open is None else self._value(self._open, piece)

    def finish(self) -> list[Spooled]:
        """The pictures, safely on disk, in the order of their numbers."""
        return [picture.finish() for picture in self._pictures]

    def _text(self, piece: bytes) -> bytes:
        if len(self._kept) > KEPT_LIMIT:
            return b""
        start = len(self._kept)
        self._kept += piece
        found = _FIELD.search(self._kept, self._searched)
        if found is None:
            self._searched = max(self._searched, len(self._kept) - _LONGEST_FIELD)
            return b""
        rest = piece[found.end() - start :]
        del self._kept[found.end() :]
        self._kept += str(len(self._pictures)).encode()
        self._searched = len(self._kept)
        self._open = _Picture(self._path(len(self._pictures)))
        self._pictures.append(self._open)
        return rest

    def _value(self, picture: _Picture, piece: bytes) -> bytes:
        end = piece.find(b'"')
        if end < 0:
            picture.write(piece)
            return b""
        picture.write(piece[:end])
        picture.end()
        self._open = None
        return piece[end:]

    def _path(self, index: int) -> Path:
        return self._directory / f"{self._stem}{'' if index == 0 else f'-{index + 1}'}.part"


class _Picture:
    """One base64 value on its way to a file. Never raises: a problem is remembered, and the rest is passed over."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_whole = False
        self._problem: str | None = None
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self._size = 0
        self._raw = b""  # an escape that may go on in the next piece, or the beginning of the value
        self._quad = b""  # fewer than four characters, which decode together with those that follow
        self._begun = False

    def write(self, piece: bytes, *, last: bool = False) -> None:
        if self._problem is not None:
            return
        try:
            self._decode(self._unescaped(self._raw + piece, last=last), last=last)
        except ValueError as exc:
            self._problem = f"it is not valid base64 ({exc})"
        except OSError as exc:
            self._problem = f"it could not be written ({exc.strerror or exc})"

    def end(self) -> None:
        self.write(b"", last=True)
        self.is_whole = self._problem is None and self._size > 0

    def finish(self) -> Spooled:
        if self._problem is None and not self.is_whole:
            self._problem = "it is empty" if self._size == 0 else "it breaks off"
        try:
            if self._file is not None:
                self._file.flush()
                os.fsync(self._file.fileno())
        except OSError as exc:
            self._problem = self._problem or f"it could not be written ({exc.strerror or exc})"
        self.close()
        self.is_whole = self._problem is None
        return Spooled(self.path, self._size, self._digest.hexdigest(), self._problem)

    def close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _unescaped(self, text: bytes, *, last: bool) -> bytes:
        """The characters of the value so far, without what is not base64: white space, and the head of a data URL."""
        self._raw = b""
        if not self._begun and not last and len(text) < _LONGEST_FIELD:
            self._raw = text
            return b""
        escape = text.rfind(b"\\", -_LONGEST_ESCAPE)
        if escape >= 0 and not last:
            text, self._raw = text[:escape], text[escape:]
        if b"\\" in text:
            text = json.loads(b'"' + text + b'"').encode()
        if not self._begun:
            self._begun = True
            text = _DATA_URL.sub(b"", text, count=1) if text.startswith(b"data:") else text
        return text.translate(None, _WHITE_SPACE)

    def _decode(self, text: bytes, *, last: bool) -> None:
        text = self._quad + text
        whole = len(text) // 4 * 4
        text, self._quad = text[:whole], text[whole:]
        if last and self._quad:
            text += self._quad + b"=" * (4 - len(self._quad))
        if not text:
            return
        content = binascii.a2b_base64(text, strict_mode=True)
        if self._file is None:
            self._file = self.path.open("wb")
        self._file.write(content)
        self._digest.update(content)
        self._size += len(content)
