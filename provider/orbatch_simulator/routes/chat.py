"""POST /chat/completions, GET /models."""

from __future__ import annotations

import re

from aiohttp import web

from orbatch_simulator import chat
from orbatch_simulator.answers import Answer, RefusedError
from orbatch_simulator.books import Job
from orbatch_simulator.jobs import instant_job
from orbatch_simulator.routes.calls import api_call, say
from orbatch_simulator.routes.paying import Sold, Strike, sell
from orbatch_simulator.rules import invalid
from orbatch_simulator.world import World


@api_call("chat")
async def complete(request: web.Request, world: World, owner: str) -> web.StreamResponse:
    async def accept(raw: object, strike: Strike) -> Sold:
        return _accept(world, owner, raw, strike)

    return await sell(request, world, "chat", accept)


@api_call("models", needs_key=False)
async def models(request: web.Request, world: World, _: str) -> web.StreamResponse:
    """All of them, or a page where ``offset`` or ``limit`` asks for one."""
    records = world.text_catalog.records
    start = _whole(request, "offset", 0)
    stop = start + _whole(request, "limit", len(records))
    following = f"/api/v1/models?offset={stop}&limit={stop - start}" if stop < len(records) else None
    content = {"data": records[start:stop], "links": {"next": following}, "total_count": len(records)}
    return await say(request, world, "models", lambda: Answer(200, content))


ROUTES = [
    web.post("/api/v1/chat/completions", complete),
    web.get("/api/v1/models", models),
]


def _whole(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise invalid(f"{name}: expected a whole number")
    return int(text)


def _accept(world: World, owner: str, raw: object, strike: Strike) -> Sold:
    world.limit_rate(owner)
    body = chat.check_form(raw)
    model = world.text_catalog.models.get(body["model"])
    if model is None:
        raise RefusedError(400, f"{body['model']} is not a valid model ID")
    chat.check_model(body, model)
    reply = chat.answer(body, model)
    # As the service does: the credit must cover what was allowed, not what comes of it.
    world.check_credit(owner, chat.price_ahead(body, model))
    lost = strike()
    job = instant_job(world, owner, "text", body, chat.prompt_of(body), chat.charge_text(reply, model), lost)
    world.books.accept(job)
    return Sold(_answer(job, reply), lost)


def _answer(job: Job, reply: chat.Reply) -> Answer:
    message = {"role": "assistant", "content": reply.text, "refusal": None}
    usage = {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "total_tokens": reply.prompt_tokens + reply.completion_tokens,
        "cost": job.cost_usd if job.reports_cost else None,
        "is_byok": job.is_byok,
    }
    return Answer(
        200,
        {
            "id": job.generation_id,
            "object": "chat.completion",
            "created": int(job.accepted_at),
            "model": job.model,
            "system_fingerprint": None,
            "choices": [
                {"index": 0, "finish_reason": reply.finish_reason, "message": message, "logprobs": None},
            ],
            "usage": usage,
        },
    )
