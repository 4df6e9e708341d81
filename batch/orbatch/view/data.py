"""A batch as the page needs it: one row per prompt, variables and seed, one column per model, a cell per output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orbatch.ledger import BatchRecord, ExportedJob, Filter, Ledger, parse_timestamp
from orbatch.money import from_nano

FAILED = frozenset({"rejected", "failed", "cancelled", "expired", "lost"})


def batch_data(ledger: Ledger, batch: BatchRecord, *, me: str = "") -> dict[str, Any]:
    """Everything on the page, as JSON. Amounts in USD, times in seconds. ``me``: whose own marks are ``mine``."""
    rows: dict[str, dict[str, Any]] = {}
    models: dict[str, None] = {}
    reviews, times = ledger.reviews.of_batch(batch.id), _times(ledger, batch)
    for job in ledger.reports.exported_jobs(batch.id):
        models[job.model] = None
        seed = job.request.get("seed")
        key = f"{job.prompt_id}\0{sorted(job.variables.items(), key=str)}\0{seed}\0{job.repeat}"
        row = rows.setdefault(
            key,
            {
                "prompt_id": job.prompt_id,
                "prompt": job.prompt,
                "variables": job.variables,
                "seed": seed,
                "repeat": job.repeat,
                "cells": {},
            },
        )
        row["cells"].setdefault(job.model, []).append(_cell(job, reviews.get(job.job_id), times.get(job.job_id), me))
    found, total = ledger.reports.report("model", Filter(batch.id))
    rates = ledger.reviews.win_rates(batch.id)
    sums = {row.key: row for row in found}
    return {
        "batch": batch.name,
        "models": [
            {
                "id": model,
                "spent": _usd(sums[model].charged_nusd) if model in sums else 0.0,
                "per_second": _usd(sums[model].nusd_per_second) if model in sums else None,
                "votes": rates[model].votes if model in rates else 0,
                "wins": rates[model].wins if model in rates else 0,
                "interval": rates[model].interval if model in rates else None,
            }
            for model in models
        ],
        "rows": list(rows.values()),
        "spent": _usd(total.charged_nusd),
        "reserved": _usd(total.reserved_nusd),
        "me": me,
    }


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
