"""The response to an image request, taken apart as it comes: images to disk, the rest kept as JSON.

Images come as base64 inside one JSON object of any size. Each value of ``b64_json`` is decoded piece by piece into a
file and replaced by its number, so that memory holds no image, and what is kept is still the JSON that was sent.
(ijson would hold each value whole.)
"""

from __future__ import annotations

import binascii
import hashlib
import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from orbatch_provider.media import NotAnImageError, inspect_image

KEPT_LIMIT = 4 * 1024 * 1024  # bytes of a response without its images; more is dropped, and the rest cannot be read

# Inside a JSON text a quote has a backslash before it, so this can only be the field itself.
_FIELD = re.compile(rb'(?<!\\)"b64_json"\s*:\s*"')
_LONGEST_FIELD = 256  # bytes, with any white space in it
_LONGEST_ESCAPE = 6  # bytes: \u002B
_DATA_URL = re.compile(rb"data:[^,]{0,200},")


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image, synced to disk at ``path`` (a ``.part`` file until somebody renames it) and opened once.

    ``mime_type`` is what the bytes are, whatever the response called them; ``size`` in bytes; ``sha256`` in hex;
    ``width`` and ``height`` in pixels, None for an SVG that names none.
    """

    path: Path
    mime_type: str
    size: int
    sha256: str
    width: int | None
    height: int | None


class ImageStream:
    """A sink for the response to one image request; the images go to ``directory`` as ``stem.part``, ``stem-2.part``
    and so on. Entering it creates the first of these files, so that a disk that cannot be written is noticed before
    anything is paid for; leaving it removes the files that are not complete.
    """

    def __init__(self, directory: Path, stem: str) -> None:
        self._directory = directory
        self._stem = stem
        self._kept = bytearray()
        self._searched = 0  # bytes of ``_kept`` in which no field can begin any more
        self._values: list[_Value] = []
        self._current: _Value | None = None  # the one whose end has not come

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._path(0).open("wb").close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for value in self._values:
            value.close()
        complete = [value.path for value in self._values if value.problem is None]
        for path in {self._path(0), *(value.path for value in self._values)} - set(complete):
            with suppress(OSError):
                path.unlink()
        if error is not None and complete:
            error.add_note(f"Complete images of the response were kept: {', '.join(map(str, complete))}.")

    def getvalue(self) -> bytes:
        """The response with a number in place of each image."""
        return bytes(self._kept)

    def write(self, piece: bytes, /) -> None:
        """Take the next piece of the response. Never raises."""
        while piece:
            if self._current is None:
                piece = self._keep(piece)
                continue
            end = piece.find(b'"')
            if end < 0:
                self._current.write(piece)
                return
            self._current.write(piece[:end], last=True)
            self._current, piece = None, piece[end:]

    def open(self, number: int) -> ImageFile | str:
        """An image, by the number in its place: synced and opened, or why it cannot be used. Blocks."""
        value = self._values[number]
        value.sync()
        if value.problem is None:
            try:
                info = inspect_image(value.path)
            except NotAnImageError as exc:
                return f"image {number + 1}: {exc}"
            digest = value.digest.hexdigest()
            return ImageFile(value.path, info.mime_type, value.size, digest, info.width, info.height)
        return f"image {number + 1}: {value.problem}"

    def __len__(self) -> int:
        return len(self._values)

    def _keep(self, piece: bytes) -> bytes:
        """Keep ``piece`` up to the next image; returns the rest."""
        if len(self._kept) > KEPT_LIMIT:
            return b""
        start = len(self._kept)
        self._kept += piece
        found = _FIELD.search(self._kept, self._searched)
        if found is None:
            self._searched = max(self._searched, len(self._kept) - _LONGEST_FIELD)
            return b""
        rest = piece[found.end() - start :]
        self._kept[found.end() :] = str(len(self._values)).encode()
        self._searched = len(self._kept)
        self._current = _Value(self._path(len(self._values)))
        self._values.append(self._current)
        return rest

    def _path(self, index: int) -> Path:
        return self._directory / f"{self._stem}{'' if index == 0 else f'-{index + 1}'}.part"


class _Value:
    """One base64 value on its way to a file. Never raises: ``problem`` says why it cannot be used, None when all of
    it is there, and after a problem all further pieces are skipped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem: str | None = "it is cut short"  # until the last piece
        self.digest = hashlib.sha256()
        self.size = 0
        self._failed = False
        self._file: BinaryIO | None = None
        self._raw = b""  # an escape that may continue in the next piece, or the beginning of the value
        self._quad = b""  # fewer than four characters, which are decoded together with those that follow
        self._started = False

    def write(self, piece: bytes, *, last: bool = False) -> None:
        if self._failed:
            return
        try:
            self._decode(self._unescape(self._raw + piece, last=last), last=last)
        except (ValueError, OSError) as exc:
            self._fail(exc)
        else:
            self.problem = None if last and self.size else "it is empty" if last else self.problem

    def sync(self) -> None:
        try:
            if self._file is not None:
                self._file.flush()
                os.fsync(self._file.fileno())
        except OSError as exc:
            self._fail(exc)
        self.close()

    def close(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None

    def _fail(self, error: ValueError | OSError) -> None:
        self._failed = True
        if isinstance(error, OSError):
            self.problem = f"it could not be written ({error.strerror or error})"
        else:
            self.problem = f"it is not valid base64 ({error})"

    def _unescape(self, text: bytes, *, last: bool) -> bytes:
        """The characters of the value so far, without what is not base64: white space, and the head of a data URL."""
        self._raw = b""
        if not self._started and not last and len(text) < _LONGEST_FIELD:
            self._raw = text  # too little to hold the whole head of a data URL
            return b""
        escape = text.rfind(b"\\", -_LONGEST_ESCAPE)
        if escape >= 0 and not last:
            text, self._raw = text[:escape], text[escape:]
        if b"\\" in text:
            text = json.loads(b'"' + text + b'"').encode()
        if not self._started:
            self._started = True
            text = _DATA_URL.sub(b"", text, count=1) if text.startswith(b"data:") else text
        return text.translate(None, b" \t\r\n")

    def _decode(self, text: bytes, *, last: bool) -> None:
        text = self._quad + text
        whole = len(text) // 4 * 4
        text, self._quad = text[:whole], text[whole:]
        if last and self._quad:
            text += self._quad + b"=" * (4 - len(self._quad))
        if text:
            content = binascii.a2b_base64(text, strict_mode=True)
            if self._file is None:
                self._file = self.path.open("wb")
            self._file.write(content)
            self.digest.update(content)
            self.size += len(content)
