"""A job with its output as a record: prompt, variables, model, text or paths, cost and settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from orbatch.ledger import ExportedJob
from orbatch.money import from_nano

TEXT_EXTENSIONS = (".txt", ".json")  # text jobs write these two only
COLUMNS = (
    *("job_id", "prompt_id", "prompt", "variables", "model", "kind", "status", "text", "paths", "cost_usd"),
    *("settings", "repeat", "error"),
)
_OWN_COLUMNS = frozenset({"model", "prompt", "messages"})  # parts of a request that have a column already


def record_of(job: ExportedJob) -> dict[str, Any]:
    """One job by column. ``cost_usd`` is an exact decimal as text, None while it is unknown; ``text`` is None for a job
    whose output is not text, or is missing."""
    return {
        "job_id": job.job_id,
        "prompt_id": job.prompt_id,
        "prompt": job.prompt,
        "variables": job.variables,
        "model": job.model,
        "kind": job.kind,
        "status": job.status,
        "text": text_of(job.paths),
        "paths": list(job.paths),
        "cost_usd": None if job.cost_nusd is None else f"{from_nano(job.cost_nusd):f}",  # a float would lose digits
        "settings": settings_of(job.request),
        "repeat": job.repeat,
        "error": job.error,
    }


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
