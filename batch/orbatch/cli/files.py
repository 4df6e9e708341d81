"""Files that commands write for the user: new ones, private ones, and none that matters replaced."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from orbatch.cli.errors import Failure


def relative_path(path: str | Path) -> str:
    """The shorter of the absolute path and the one from the current directory."""
    absolute = str(Path(path).absolute())
    with contextlib.suppress(ValueError):  # another drive
        return min(os.path.relpath(absolute), absolute, key=len)
    return absolute


def open_private(path: Path, mode: str) -> IO[str]:
    """A text file that only the user can read where it is made here: it holds prompts and amounts."""
    return open(path, mode, encoding="utf-8", newline="", opener=lambda name, flags: os.open(name, flags, 0o600))


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[IO[str]]:
    """A file that has its name only when it is whole. Check the name with ``check_new`` first."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open_private(part, "x") as file:
            yield file
        part.replace(path)
    except OSError as exc:
        if exc.filename == str(part):
            exc.filename = str(path)  # the one that the user knows
        raise
    finally:
        part.unlink(missing_ok=True)


def check_new(path: Path, example: str, *, force: bool | None = None) -> None:
    """Raises Failure for a path that must not be written: a directory; a file that exists, without ``force`` (None: the
    command has no such option); and with it, what may be a batch file, a ledger or its receipts."""
    if path.is_dir():
        raise Failure(f"{path} is a directory. Name the file to write, such as {path / example}.")
    if not os.path.lexists(path):
        return
    if not force:
        replace_it = "" if force is None else ", or pass --force to replace it"
        raise Failure(f"{path} already exists. Choose another name{replace_it}.")
    if path.suffix in (".yaml", ".yml") or path.parent.name == ".orbatch" or _is_database(path):
        raise Failure(f"{path} may be a batch file, a ledger or its receipts, so --force does not replace it.")


def _is_database(path: Path) -> bool:
    """Whether it is an SQLite file, or one that belongs to one."""
    beside = [path.with_name(path.name.removesuffix(suffix)) for suffix in ("-wal", "-shm", "-journal")]
    try:
        return any(_begins_with(name, b"SQLite format 3\0") for name in {path, *beside} if name.is_file())
    except OSError:
        return True  # what cannot be read is not replaced


def _begins_with(path: Path, start: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(start)) == start


_LOG_LINE = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ [a-z]+ ")


def is_log(path: Path) -> bool:
    with path.open("rb") as file:
        beginning = file.read(64)
    return not beginning or _LOG_LINE.match(beginning) is not None
