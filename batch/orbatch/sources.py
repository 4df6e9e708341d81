"""What the jobs of a batch are made from, as digests: while none of it has changed, making them again makes the same.

Prices are not in here, and neither are pictures, which show only while the jobs are made.
"""

from __future__ import annotations

import hashlib
import os
import sys
from importlib.metadata import version
from pathlib import Path

import orbatch
import orbatch_provider
from orbatch.config import BatchConfig

_TAG = "sha256:"
_LIBRARIES = ("jinja2", "pyyaml", "pillow")  # that jobs are made with


def sources_digest(config: BatchConfig) -> str | None:
    """Names the program, the batch file, where it lies, and its prompt file. None: something of it cannot be read."""
    parts = [
        program_digest(),
        str(config.path.absolute()),  # pictures and prompts are found from there
        os.path.expanduser("~"),  # noqa: PTH111 - Path.home() raises where there is none
        config.sha256,
        "" if config.prompts_from is None else file_digest(config.prompts_from.path),
    ]
    return None if None in parts else _TAG + hashlib.sha256(repr(parts).encode()).hexdigest()


def program_digest() -> str | None:
    """Names the code that makes keys and prices, with its data and what renders its prompts. Our own by content,
    because a checkout changes without a new version. None where it does not lie in files."""
    digest = hashlib.sha256(repr([sys.version, *map(version, _LIBRARIES)]).encode())
    for package in (orbatch, orbatch_provider):
        folder = Path(package.__path__[0])
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*") if path.is_file())
        code = [name for name in names if "__pycache__" not in name]
        if not code:
            return None
        for name in code:
            digest.update(f"{name} {file_digest(folder / name)}\n".encode())
    return _TAG + digest.hexdigest()


def file_digest(path: Path) -> str | None:
    """``sha256:...`` of a file's bytes; None when it cannot be read."""
    try:
        with path.open("rb") as file:
            return _TAG + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
