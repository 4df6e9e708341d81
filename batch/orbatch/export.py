"""A job with its output as a record: prompt, variables, model, file as it was measured, text, cost and settings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from orbatch.ledger import ExportedJob
from orbatch.money import from_nano

TEXT_EXTENSIONS = (".txt", ".json")  # text jobs write these two only
# By column, the type of its values; the names are those of `jobs --json` where both have a column.
COLUMNS: Mapping[str, type] = {
    **dict.fromkeys(("job_id", "batch", "prompt_id", "prompt"), str),
    "variables": dict,
    "seed": int,
    **dict.fromkeys(("model", "kind", "status"), str),
    "repeat": int,
    "cost_usd": float,
    **dict.fromkeys(("output_path", "sha256", "mime_type"), str),
    **dict.fromkeys(("bytes", "width", "height"), int),
    **dict.fromkeys(("fps", "seconds"), float),
    "paths": list,
    "text": str,
    "settings": dict,
    "error": str,
}
_MEASURED = ("sha256", "mime_type", "bytes", "width", "height", "fps", "seconds")  # of the first file
_OWN_COLUMNS = frozenset({"model", "prompt", "messages"})  # parts of a request that have a column already


def record_of(job: ExportedJob, base: Path | None = None) -> dict[str, Any]:
    """One job by column; None for what is not known. Paths are relative to ``base``, without it absolute. ``cost_usd``
    is the nearest float, exact to the nano-dollar below 999,999 USD; ``text`` is None for a job whose output is not
    text, or is missing."""
    paths = [path_from(output.path, base) for output in job.outputs]
    first = job.outputs[0] if job.outputs else None
    return {
        **{name: getattr(job, name) for name in ("job_id", "batch", "prompt_id", "prompt", "variables")},
        "seed": job.request.get("seed"),
        **{name: getattr(job, name) for name in ("model", "kind", "status", "repeat")},
        "cost_usd": None if job.cost_nusd is None else float(from_nano(job.cost_nusd)),
        "output_path": paths[0] if paths else None,
        **{name: getattr(first, name, None) for name in _MEASURED},
        "paths": paths,
        "text": text_of(output.path for output in job.outputs),
        "settings": settings_of(job.request),
        "error": job.error,
    }


def path_from(path: str, base: Path | None) -> str:
    """A path as seen from a directory, with ``/``; absolute without one, and on another drive."""
    try:
        return path if base is None else Path(os.path.relpath(path, base)).as_posix()
    except ValueError:
        return path


def text_of(paths: Iterable[str]) -> str | None:
    """The content of the first text file among ``paths``; None when there is none, or it cannot be read."""
    path = next((Path(path) for path in paths if path.endswith(TEXT_EXTENSIONS)), None)
    try:
        return None if path is None else path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None  # one missing file must not stop the export of the others


def settings_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request without model and prompt; the system message of a text request counts as a setting."""
    system = [message["content"] for message in request.get("messages", ()) if message.get("role") == "system"]
    own = {"system": system[0]} if system else {}
    return own | {name: value for name, value in request.items() if name not in _OWN_COLUMNS}
