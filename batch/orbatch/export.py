"""The result of a job as a record: prompt, variables, model, text or paths, cost and settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from orbatch.ledger.reports import ExportedJob
from orbatch.money import from_nano

TEXT_ENDINGS = (".txt", ".json")
COLUMNS = (
    *("job_id", "prompt_id", "prompt", "variables", "model", "kind", "status", "text", "paths", "cost_usd"),
    *("settings", "repeat", "error"),
)
_SAID_ELSEWHERE = frozenset({"model", "prompt", "messages"})


def record_of(job: ExportedJob) -> dict[str, Any]:
    """One job as it is exported. ``cost_usd`` is an exact decimal as text, None while nothing is known; ``text`` is
    None for a job whose result is no text, or not there."""
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
        "cost_usd": None if job.cost_nusd is None else f"{from_nano(job.cost_nusd):f}",
        "settings": settings_of(job.request),
        "repeat": job.repeat,
        "error": job.error,
    }


def text_of(paths: Iterable[str]) -> str | None:
    """The text in the first text file among the results, None when there is none."""
    path = next((Path(path) for path in paths if path.endswith(TEXT_ENDINGS)), None)
    try:
        return None if path is None else path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def settings_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request without model and prompt; the system message of a text request is a setting like any other."""
    system = [message["content"] for message in request.get("messages", ()) if message.get("role") == "system"]
    own = {"system": system[0]} if system else {}
    return own | {name: value for name, value in request.items() if name not in _SAID_ELSEWHERE}
