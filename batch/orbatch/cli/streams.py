"""What may be printed, and standard streams whose reader may be gone."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import select
import sys
from typing import IO, Any

# Control characters, lone surrogates, line separators, and characters that change the direction of text.
_STEERING = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufff9-\ufffb]"
)


def printable(text: str) -> str:
    """Text from users and providers without the characters that could steer a terminal."""
    return _STEERING.sub("\N{REPLACEMENT CHARACTER}", text)


def json_text(value: object, indent: int | None = None) -> str:
    """JSON with escapes for the characters that it allows and a terminal would obey, such as U+009B."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, default=str)
    return _STEERING.sub(lambda found: json.dumps(found[0])[1:-1], text)


class _Outlived(io.FileIO):
    """A standard stream that swallows what nobody can read any more: a broken pipe, a full disk, a lost terminal."""

    def write(self, data: Any) -> int:
        """Write, or from the first failure on write nothing; never raises OSError."""
        try:
            while (written := super().write(data)) is None:  # a full pipe that does not block, such as of Node.js
                select.select([], [self], [])
        except OSError:
            silence(self)
            return memoryview(data).nbytes
        return written


def outlive_readers() -> None:
    """From now on no failure to print ends the command: for those that spend or record, whose exit code must be true
    whether anybody reads along or not."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        below = getattr(stream, "buffer", None)
        # A test's stream has no file below it, and the console of Windows is none.
        if not isinstance(below, (io.BufferedWriter, io.FileIO)) or (os.name == "nt" and stream.isatty()):
            continue
        try:
            stream.flush()
        except OSError:
            silence(stream)
        raw = _Outlived(stream.fileno(), "w", closefd=False)
        binary: Any = raw if isinstance(below, io.FileIO) else io.BufferedWriter(raw)  # the former: PYTHONUNBUFFERED
        lines = {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
        setattr(sys, name, io.TextIOWrapper(binary, stream.encoding, stream.errors, **lines))


def silence(stream: IO[Any] | io.FileIO) -> None:
    """Send the rest of a stream nowhere, or what is buffered would fail again at the exit."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
