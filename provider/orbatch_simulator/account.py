"""GET /key, GET /credits, GET /generation."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from aiohttp import web

from orbatch_simulator.journal import Job
from orbatch_simulator.middleware import Answer, api_call, respond
from orbatch_simulator.state import RefusedError, State

_API_TYPES = {"video": "video", "image": "image", "text": "completions"}  # kind of a job -> name in the API


@api_call("key")
async def key(request: web.Request, state: State, owner: str) -> web.StreamResponse:
    """GET /key: limits and usage of the calling key."""
    return await respond(request, state, "key", lambda: Answer(200, {"data": _key(state, owner)}))


@api_call("credits")
async def credits_left(request: web.Request, state: State, owner: str) -> web.StreamResponse:
    """GET /credits: credits of the account, for management keys only."""
    if not _manages(state, owner):
        raise RefusedError(403, "Only management keys can fetch credits for an account")
    total = state.settings.credit_usd if state.settings.credit_usd is not None else Decimal(0)
    data = {"total_credits": total, "total_usage": _sum(_shown(state))}
    return await respond(request, state, "credits", lambda: Answer(200, {"data": data}))


@api_call("generation")
async def generation(request: web.Request, state: State, owner: str) -> web.StreamResponse:
    """GET /generation: the charge of an ended job, known some minutes after its end."""
    job = state.journal.by_generation.get(request.query.get("id", ""))
    if job is not None and job.owner != owner:
        job = None  # jobs of other keys are invisible

    def make() -> Answer:
        if job is None or state.ended_for_s(job) < state.settings.generation_lag_s:
            raise RefusedError(404, f"Generation {request.query.get('id', '')} not found")
        return Answer(200, {"data": _generation(job)})

    return await respond(request, state, "generation", make, job)


ROUTES = [
    web.get("/api/v1/key", key),
    web.get("/api/v1/credits", credits_left),
    web.get("/api/v1/generation", generation),
]


def _manages(state: State, owner: str) -> bool:
    return any(state.owner_of(each) == owner for each in state.settings.management_keys)


def _shown(state: State, owner: str | None = None) -> list[Job]:
    """Jobs whose charge already shows in the account's figures, of all keys or of one."""
    lag = state.settings.usage_lag_s
    jobs = state.journal.jobs.values()
    return [job for job in jobs if owner in (None, job.owner) and state.ended_for_s(job) >= lag]


def _key(state: State, owner: str) -> dict[str, Any]:
    settings, jobs = state.settings, _shown(state, owner)
    usage = _sum(jobs)
    limit = settings.key_limit_usd
    budgets = []  # layers of limits; the one with the least left blocks first
    if settings.budget_usd is not None:
        budgets.append(_budget("workspace", settings.budget_usd, _sum(_shown(state))))
    if limit is not None:
        budgets.append(_budget("key_limit", limit, usage))
    unset = ("limit_reset", "creator_user_id", "workspace_id", "organization_id", "expires_at")
    return dict.fromkeys(unset) | {
        "label": "sk-or-v1-simulated",
        "limit": limit,
        "limit_remaining": None if limit is None else limit - usage,
        **_usage(state, jobs),
        "include_byok_in_limit": False,
        "is_free_tier": False,
        "is_management_key": _manages(state, owner),
        "is_provisioning_key": _manages(state, owner),
        "allowed_data_regions": ["global"],
        "budgets": budgets,
        "effective_budget": min(budgets, key=lambda budget: Decimal(budget["remaining_usd"]), default=None),
        "free_model_daily_requests": {"limit": 50, "used": 0, "remaining": 50},
        "rate_limit": {"requests": -1, "interval": "10s", "note": "This field is deprecated and safe to ignore."},
    }


def _budget(scope: str, limit: Decimal, spent: Decimal) -> dict[str, Any]:
    unset = dict.fromkeys(("budget_id", "guardrail_id", "reset_interval", "resets_at"))
    amounts = {"limit_usd": limit, "spend_usd": spent, "remaining_usd": limit - spent}
    return {"scope": scope, "include_byok": False, **amounts, **unset}


def _usage(state: State, jobs: list[Job]) -> dict[str, Decimal]:
    """Sums of all time and of the current UTC day, week (from Monday) and month."""
    midnight = datetime.fromtimestamp(state.clock.now(), UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    week, month = midnight - timedelta(days=midnight.weekday()), midnight.replace(day=1)
    starts = {"": 0.0, "_daily": midnight.timestamp(), "_weekly": week.timestamp(), "_monthly": month.timestamp()}
    sums = {}
    for period, start in starts.items():
        # A job counts on the day of its submit, as the service's activity page shows it.
        counted = [job for job in jobs if job.accepted_at >= start]
        sums[f"usage{period}"] = _sum(counted)
        sums[f"byok_usage{period}"] = sum((job.list_usd for job in counted if job.is_byok), Decimal(0))
    return sums


def _sum(jobs: Iterable[Job]) -> Decimal:
    return sum((job.cost_usd for job in jobs), Decimal(0))


def _generation(job: Job) -> dict[str, Any]:
    # The API documents these fields, but nothing here fills them.
    unknown = (
        "app_id", "cache_discount", "external_user", "finish_reason", "http_referer", "moderation_latency",
        "native_finish_reason", "native_tokens_cached", "native_tokens_completion", "native_tokens_completion_images",
        "native_tokens_prompt", "native_tokens_reasoning", "num_fetches", "num_input_audio_prompt", "num_media_prompt",
        "num_search_results", "preset_id", "provider_name", "provider_responses", "router", "service_tier", "streamed",
        "tokens_completion", "tokens_prompt", "upstream_id", "user_agent", "web_search_engine", "workspace_id",
    )  # fmt: skip
    return dict.fromkeys(unknown) | {
        "id": job.generation_id,
        "model": job.model,
        "api_type": _API_TYPES[job.kind],
        "total_cost": job.cost_usd,
        "usage": job.cost_usd,
        "is_byok": job.is_byok,
        "upstream_inference_cost": job.list_usd if job.is_byok else None,
        "cancelled": job.ends_as == "cancelled",
        "created_at": datetime.fromtimestamp(job.accepted_at, UTC).isoformat(),
        "data_region": "global",
        "generation_time": round(job.render_s * 1000),
        "latency": 0,
        "num_media_completion": 1 if job.ends_as == "completed" and job.kind != "text" else 0,
        "origin": "",
    }
