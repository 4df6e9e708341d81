"""A batch as the page needs it: one row per prompt, variables and seed, one column per model, a cell per output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orbatch.ledger import BatchRecord, ExportedJob, Filter, Ledger, parse_timestamp
from orbatch.ledger.reviews import WinRate
from orbatch.money import from_nano

_OF_ROWS = frozenset({"prompt", "model", "seed", "messages", "user", "session_id", "trace", "callback_url"})
_LONGEST_VALUE = 24  # characters
FAILED = frozenset({"rejected", "failed", "cancelled", "expired", "lost"})


def batch_data(ledger: Ledger, batch: BatchRecord, *, me: str = "", picked: bool = False) -> dict[str, Any]:
    """Everything on the page, as JSON. Amounts in USD, times in seconds. ``me``: whose own marks are ``mine``;
    ``picked``: only outputs that are picked, and rows that have any.

    A column is a model, or a model with settings where jobs of one row differ in them.
    """
    rows: dict[str, dict[str, Any]] = {}
    columns: dict[str, list[ExportedJob]] = {}
    reviews, times = ledger.reviews.of_batch(batch.id), _times(ledger, batch)
    jobs = [(_row_key(job), job) for job in ledger.reports.exported_jobs(batch.id)]
    differing = _differing(jobs)
    for key, job in jobs:
        row = rows.setdefault(
            key,
            {
                "prompt_id": job.prompt_id,
                "prompt": job.prompt,
                "variables": job.variables,
                "seed": job.request.get("seed"),
                "repeat": job.repeat,
                "cells": {},
            },
        )
        settings = ", ".join(_shown(name, job.request.get(name)) for name in differing.get(job.model, ()))
        column = f"{job.model} · {settings}" if settings else job.model
        columns.setdefault(column, []).append(job)
        cell = _cell(job, reviews.get(job.job_id), times.get(job.job_id), me)
        if not picked or cell["mark"] == "pick":
            row["cells"].setdefault(column, []).append(cell)
    found, total = ledger.reports.report("model", Filter(batch.id))
    whole = {row.key: {"spent": _usd(row.charged_nusd), "per_second": _usd(row.nusd_per_second)} for row in found}
    rates = ledger.reviews.win_rates(batch.id)
    return {
        "batch": batch.name,
        "models": [
            {
                "id": column,
                "model": made[0].model,
                **(whole.get(column) or _sums(made)),
                **_votes(rates.get(made[0].model)),
            }
            for column, made in columns.items()
        ],
        "rows": [row for row in rows.values() if row["cells"]],
        "spent": _usd(total.charged_nusd),
        "reserved": _usd(total.reserved_nusd),
        "me": me,
    }


def _row_key(job: ExportedJob) -> str:
    return f"{job.prompt_id}\0{sorted(job.variables.items(), key=str)}\0{job.request.get('seed')}\0{job.repeat}"


def _votes(rate: WinRate | None) -> dict[str, Any]:
    if rate is None:
        return {"votes": 0, "wins": 0, "interval": None}
    return {"votes": rate.votes, "wins": rate.wins, "interval": rate.interval}


def _differing(jobs: Sequence[tuple[str, ExportedJob]]) -> dict[str, list[str]]:
    """By model, the settings that tell the jobs of one row apart. ``jobs``: each with the key of its row."""
    first: dict[tuple[str, str], ExportedJob] = {}
    found: dict[str, dict[str, None]] = {}
    for key, job in jobs:
        other = first.setdefault((key, job.model), job)
        names = [name for name in {**other.request, **job.request} if name not in _OF_ROWS]
        unlike = {name: None for name in names if other.request.get(name) != job.request.get(name)}
        if unlike:
            found.setdefault(job.model, {}).update(unlike)
    return {model: list(names) for model, names in found.items()}


def _shown(name: str, value: object) -> str:
    """A setting in the head of a column: ``1080p``, ``8 s``; by its name where the value alone says little."""
    if name == "duration":
        return f"{value} s"
    if isinstance(value, bool) or value is None:
        return f"{name} {'unset' if value is None else str(value).lower()}"
    if isinstance(value, str) and len(value) <= _LONGEST_VALUE:
        return value
    return f"{name} {str(value)[:_LONGEST_VALUE]}"


def _sums(jobs: Sequence[ExportedJob]) -> dict[str, Any]:
    """What a part of a model's outputs was charged, and per second of finished video."""
    done = [(job.cost_nusd, sum(each.seconds or 0.0 for each in job.outputs)) for job in jobs if job.status == "done"]
    timed = [(cost, seconds) for cost, seconds in done if cost and seconds]
    nusd, length = sum(cost for cost, _ in timed), sum(seconds for _, seconds in timed)
    charged = sum(job.cost_nusd or 0 for job in jobs)
    return {"spent": _usd(charged), "per_second": _usd(round(nusd / length)) if timed else None}


def _cell(job: ExportedJob, review: Any, times: Mapping[str, Any] | None, me: str) -> dict[str, Any]:
    first = job.outputs[0] if job.outputs else None
    times = times or {}
    took = None
    if times.get("submitted_at") and times.get("completed_at"):
        took = (parse_timestamp(times["completed_at"]) - parse_timestamp(times["submitted_at"])).total_seconds()
    return {
        "id": job.job_id,
        "kind": job.kind,
        "status": "failed" if job.status in FAILED else job.status,
        "exact": job.status,
        "error": job.error,
        "cost": None if job.cost_nusd is None else _usd(job.cost_nusd),
        "estimate": _usd(times.get("estimate_high_nusd")),
        "since": times.get("submitted_at"),
        "took": took,
        "outputs": len(job.outputs),
        "mime": first.mime_type if first else None,
        "seconds": first.seconds if first else None,
        "size": f"{first.width}x{first.height}" if first and first.width else None,
        "settings": {name: value for name, value in job.request.items() if isinstance(value, (str, int, float, bool))},
        "rating": review.rating if review else None,
        "mine": review.ratings.get(me) if review else None,
        "mark": (review.marks.get(me) or ("pick" if review.is_picked else None)) if review else None,
        "notes": review.notes if review else {},
    }


def _times(ledger: Ledger, batch: BatchRecord) -> dict[str, Mapping[str, Any]]:
    columns = ("job_id", "submitted_at", "completed_at", "estimate_high_nusd")
    return {row["job_id"]: row for row in ledger.reports.job_rows(batch.id, columns=columns)}


def _usd(nusd: int | None) -> float | None:
    return None if nusd is None else float(from_nano(nusd))
