"""GET /key, GET /credits, GET /generation, POST /analytics/query."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from orbatch_simulator.faults import STRICT
from orbatch_simulator.journal import Job
from orbatch_simulator.middleware import Answer, api_call, invalid, read_body, respond
from orbatch_simulator.state import RefusedError, State

_API_TYPES = {"video": "video", "image": "image", "text": "completions"}  # kind of a job -> name in the API

_LONGEST_RANGE = timedelta(days=31)
_Dimension = Literal["generation_id", "external_user", "model"]
_Time = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$")]  # with seconds


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
        return Answer(200, {"data": _generation(state, job)})

    return await respond(request, state, "generation", make, job)


@api_call("analytics")
async def analytics(request: web.Request, state: State, owner: str) -> web.StreamResponse:
    """POST /analytics/query: charges by generation, user and model, for management keys only."""
    if not _manages(state, owner):
        raise RefusedError(403, "Only management keys can query analytics")
    question = _read_question(await read_body(request, state.settings.max_body_bytes))

    def make() -> Answer:
        rows = _rows(state, question)
        metadata = {"row_count": min(len(rows), question.limit), "truncated": len(rows) > question.limit}
        return Answer(200, {"data": {"data": rows[: question.limit], "metadata": metadata | {"query_time_ms": 12}}})

    return await respond(request, state, "analytics", make)


ROUTES = [
    web.post("/api/v1/analytics/query", analytics),
    web.get("/api/v1/key", key),
    web.get("/api/v1/credits", credits_left),
    web.get("/api/v1/generation", generation),
]


@dataclass(frozen=True, slots=True, config=STRICT)
class _Filter:
    field: _Dimension
    operator: Literal["in"]
    value: list[str]


@dataclass(frozen=True, slots=True, config=STRICT)
class _Range:
    start: _Time
    end: _Time


@dataclass(frozen=True, slots=True, config=STRICT)
class _Question:
    metrics: Annotated[list[Literal["request_count", "total_usage"]], Field(min_length=1)]
    time_range: _Range
    dimensions: Annotated[list[_Dimension], Field(max_length=2)] = field(default_factory=list)
    filters: Annotated[list[_Filter], Field(max_length=20)] = field(default_factory=list)
    limit: Annotated[int, Field(ge=1, le=10_000)] = 1000


def _read_question(body: object) -> _Question:
    """Raises RefusedError 400 for what the service would not answer."""
    try:
        # As JSON again: only then may an object become a dataclass.
        question = TypeAdapter(_Question).validate_json(json.dumps(body))
    except ValidationError as exc:
        first = exc.errors()[0]
        raise invalid(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from exc
    if not timedelta() <= _time(question.time_range.end) - _time(question.time_range.start) <= _LONGEST_RANGE:
        raise invalid("time_range: at most 31 days, and the end not before the start")
    return question


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _rows(state: State, question: _Question) -> list[dict[str, Any]]:
    """One row for each combination of the dimensions, of the jobs that show already."""
    start, end = (_time(text).timestamp() for text in (question.time_range.start, question.time_range.end))
    groups: dict[tuple[str | None, ...], list[Job]] = {}
    for job in state.journal.jobs.values():
        user = _user(state, job)
        values: dict[str, str | None] = {"generation_id": job.generation_id, "external_user": user, "model": job.model}
        is_asked = start <= job.accepted_at <= end and all(
            values[each.field] in each.value for each in question.filters
        )
        if is_asked and state.ended_for_s(job) >= state.settings.analytics_lag_s:
            groups.setdefault(tuple(values[name] for name in question.dimensions), []).append(job)
    found = []
    for names, jobs in groups.items():
        metrics = {"request_count": len(jobs), "total_usage": _sum(jobs)}
        row: dict[str, Any] = dict(zip(question.dimensions, names, strict=True))
        found.append(row | {name: metrics[name] for name in question.metrics})
    return found


def _user(state: State, job: Job) -> str | None:
    return job.body.get("user") if state.settings.records_user else None


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


def _generation(state: State, job: Job) -> dict[str, Any]:
    # The API documents these fields, but nothing here fills them.
    unknown = (
        "app_id", "cache_discount", "finish_reason", "http_referer", "moderation_latency",
        "native_finish_reason", "native_tokens_cached", "native_tokens_completion", "native_tokens_completion_images",
        "native_tokens_prompt", "native_tokens_reasoning", "num_fetches", "num_input_audio_prompt", "num_media_prompt",
        "num_search_results", "preset_id", "provider_name", "provider_responses", "router", "service_tier", "streamed",
        "tokens_completion", "tokens_prompt", "upstream_id", "user_agent", "web_search_engine", "workspace_id",
    )  # fmt: skip
    return dict.fromkeys(unknown) | {
        "id": job.generation_id,
        "model": job.model,
        "api_type": _API_TYPES[job.kind],
        "external_user": _user(state, job),
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
