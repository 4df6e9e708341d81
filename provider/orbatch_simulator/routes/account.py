"""GET /key, GET /credits, GET /generation."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from aiohttp import web

from orbatch_simulator.answers import Answer, RefusedError
from orbatch_simulator.books import Job
from orbatch_simulator.routes.calls import api_call, say
from orbatch_simulator.world import World


@api_call("key")
async def key(request: web.Request, world: World, owner: str) -> web.StreamResponse:
    return await say(request, world, "key", lambda: Answer(200, {"data": _key(world, owner)}))


@api_call("credits")
async def credits_left(request: web.Request, world: World, owner: str) -> web.StreamResponse:
    if not _manages(world, owner):
        raise RefusedError(403, "Only management keys can fetch credits for an account")
    total = world.settings.credit_usd if world.settings.credit_usd is not None else Decimal(0)
    data = {"total_credits": total, "total_usage": _sum(_shown(world))}
    return await say(request, world, "credits", lambda: Answer(200, {"data": data}))


@api_call("generation")
async def generation(request: web.Request, world: World, owner: str) -> web.StreamResponse:
    job = world.books.of_generation(request.query.get("id", ""))
    if job is None or job.owner != owner:
        job = None

    def make() -> Answer:
        if job is None or world.ended_for_s(job) < world.settings.generation_lag_s:
            raise RefusedError(404, f"Generation {request.query.get('id', '')} not found")
        return Answer(200, {"data": _generation(job)})

    return await say(request, world, "generation", make, job)


ROUTES = [
    web.get("/api/v1/key", key),
    web.get("/api/v1/credits", credits_left),
    web.get("/api/v1/generation", generation),
]


_API_TYPES = {"video": "video", "image": "image", "text": "completions"}


def _manages(world: World, owner: str) -> bool:
    return any(world.owner_of(each) == owner for each in world.settings.management_keys)


def _shown(world: World, owner: str | None = None) -> list[Job]:
    """Jobs whose charge has reached the account's figures, of all keys or of one."""
    lag = world.settings.usage_lag_s
    jobs = world.books.jobs.values()
    return [job for job in jobs if owner in (None, job.owner) and world.ended_for_s(job) >= lag]


def _key(world: World, owner: str) -> dict[str, Any]:
    settings, jobs = world.settings, _shown(world, owner)
    usage = _sum(jobs)
    limit = settings.key_limit_usd
    budgets = []
    if settings.budget_usd is not None:
        budgets.append(_budget("workspace", settings.budget_usd, _sum(_shown(world))))
    if limit is not None:
        budgets.append(_budget("key_limit", limit, usage))
    return {
        "label": "sk-or-v1-simulated",
        "limit": limit,
        "limit_remaining": None if limit is None else limit - usage,
        "limit_reset": None,
        "usage": usage,
        **_by_period(world, "usage", jobs),
        "byok_usage": _byok(jobs),
        **_by_period(world, "byok_usage", jobs),
        "include_byok_in_limit": False,
        "is_free_tier": False,
        "is_management_key": _manages(world, owner),
        "is_provisioning_key": _manages(world, owner),
        "creator_user_id": None,
        "workspace_id": None,
        "organization_id": None,
        "allowed_data_regions": ["global"],
        "budgets": budgets,
        "effective_budget": min(budgets, key=lambda budget: Decimal(budget["remaining_usd"]), default=None),
        "free_model_daily_requests": {"limit": 50, "used": 0, "remaining": 50},
        "expires_at": None,
        "rate_limit": {"requests": -1, "interval": "10s", "note": "This field is deprecated and safe to ignore."},
    }


def _budget(scope: str, limit: Decimal, spent: Decimal) -> dict[str, Any]:
    return {
        "budget_id": None,
        "guardrail_id": None,
        "scope": scope,
        "limit_usd": limit,
        "spend_usd": spent,
        "remaining_usd": limit - spent,
        "reset_interval": None,
        "resets_at": None,
        "include_byok": False,
    }


def _by_period(world: World, name: str, jobs: list[Job]) -> dict[str, Decimal]:
    """Sums of the current UTC day, week (from Monday) and month."""
    midnight = datetime.fromtimestamp(world.clock.now(), UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    starts = {
        "daily": midnight,
        "weekly": midnight - timedelta(days=midnight.weekday()),
        "monthly": midnight.replace(day=1),
    }
    total = _byok if name == "byok_usage" else _sum
    return {
        f"{name}_{period}": total([job for job in jobs if job.accepted_at >= start.timestamp()])
        for period, start in starts.items()
    }


def _sum(jobs: Iterable[Job]) -> Decimal:
    return sum((job.cost_usd for job in jobs), Decimal(0))


def _byok(jobs: Iterable[Job]) -> Decimal:
    return sum((job.list_usd for job in jobs if job.is_byok), Decimal(0))


def _generation(job: Job) -> dict[str, Any]:
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
        "latency": round(job.queue_s * 1000),
        "num_media_completion": 1 if job.ends_as == "completed" and job.kind != "text" else 0,
        "origin": "",
    }
