"""POST /videos, GET /videos/{id}, GET /videos/models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from orbatch_provider.catalog import VideoModel
from orbatch_simulator import rules
from orbatch_simulator.answers import Answer, RefusedError
from orbatch_simulator.billing import charge
from orbatch_simulator.books import Job
from orbatch_simulator.faults import Fault
from orbatch_simulator.jobs import job_body, new_job, submit_body
from orbatch_simulator.order import Order
from orbatch_simulator.routes.calls import api_call, say
from orbatch_simulator.routes.paying import Sold, Strike, sell
from orbatch_simulator.world import World


@api_call("submit")
async def submit(request: web.Request, world: World, owner: str) -> web.StreamResponse:
    async def accept(body: object, strike: Strike) -> Sold:
        job, lost = _accept(world, owner, body, strike)
        return Sold(Answer(202, submit_body(world, job)), lost)

    return await sell(request, world, "submit", accept)


@api_call("poll")
async def poll(request: web.Request, world: World, owner: str) -> web.StreamResponse:
    job = world.job_of(owner, request.match_info["job_id"])
    return await say(request, world, "poll", lambda: Answer(200, job_body(world, job)), job)


@api_call("models", needs_key=False)
async def models(request: web.Request, world: World, _: str) -> web.StreamResponse:
    records = [_record(model, world.catalog.captured_at) for model in world.catalog.models.values()]
    return await say(request, world, "models", lambda: Answer(200, {"data": records}))


ROUTES = [
    web.post("/api/v1/videos", submit),
    web.get("/api/v1/videos/models", models),
    web.get("/api/v1/videos/{job_id}", poll),
]


def _accept(world: World, owner: str, raw: object, strike: Strike) -> tuple[Job, Fault | None]:
    """The accepted job, in the books, and the fault that will spoil its answer. Raises RefusedError."""
    world.limit_rate(owner)
    body = rules.check_form(raw)
    model = world.catalog.models.get(body["model"])
    if model is None:
        raise RefusedError(404, f"{body['model']} is not a valid video model ID")
    rules.check_model(body, model, refuse_audio_off=world.settings.refuse_audio_off)
    _check_continuation(world, owner, body)
    order = Order.read(body, model, world.settings)
    price = charge(order, model.prices, world.settings.unknown_price_usd)
    world.check_credit(owner, price)
    lost = strike()
    withheld = lost is not None and lost.hides_the_job
    job = new_job(world, owner, order, body, price, withheld=withheld)
    world.books.accept(job)
    return job, lost


def _check_continuation(world: World, owner: str, body: Mapping[str, Any]) -> None:
    if "previous_job_id" not in body:
        return
    before = world.job_of(owner, body["previous_job_id"])
    if world.status(before) != "completed":
        raise RefusedError(400, "previous_job_id: the job is not completed")
    if before.model != body["model"]:
        raise RefusedError(400, f"previous_job_id: the job was made with {before.model}")


def _record(model: VideoModel, captured_at: datetime) -> dict[str, Any]:
    upscales = model.upscale_min is not None or model.upscale_max is not None
    author, _, slug = model.id.partition("/")
    return {
        "id": model.id,
        "canonical_slug": model.canonical_slug or model.id,
        "name": model.name or f"{_title(author)}: {_title(slug)}",
        "created": _created(model.canonical_slug, captured_at),
        "description": "",
        "hugging_face_id": None,
        "supported_resolutions": model.resolutions,
        "supported_aspect_ratios": model.aspect_ratios,
        "supported_sizes": model.sizes,
        "supported_durations": model.durations,
        "supported_frame_images": model.frame_types,
        "generate_audio": model.generate_audio,
        "seed": model.seed,
        "upscale_factor": {"min": model.upscale_min, "max": model.upscale_max} if upscales else None,
        "creativity": model.creativity,
        "allowed_passthrough_parameters": model.passthrough,
        "pricing_skus": dict(model.prices),
    }


def _title(slug: str) -> str:
    return " ".join(word.capitalize() for word in slug.split("-"))


def _created(canonical_slug: str, captured_at: datetime) -> int:
    """Unix seconds: the day that dated slugs end with, else the day of the catalog."""
    day = re.search(r"(20\d{6})$", canonical_slug)
    moment = datetime.strptime(day[1], "%Y%m%d").replace(tzinfo=UTC) if day else captured_at
    return int(moment.timestamp())
