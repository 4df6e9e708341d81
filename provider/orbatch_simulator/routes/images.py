"""POST /images, GET /images/models, GET /images/models/{author}/{slug}/endpoints."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from dataclasses import replace
from typing import Any

from aiohttp import web

from orbatch_simulator import imagerules
from orbatch_simulator.answers import Answer, RefusedError
from orbatch_simulator.books import Job
from orbatch_simulator.imagebilling import Painting, charge_images
from orbatch_simulator.jobs import instant_job
from orbatch_simulator.pictures import paint
from orbatch_simulator.routes.calls import api_call, say
from orbatch_simulator.routes.paying import Sold, Strike, sell
from orbatch_simulator.world import World


@api_call("images")
async def generate(request: web.Request, world: World, owner: str) -> web.StreamResponse:
    async def accept(raw: object, strike: Strike) -> Sold:
        return await _accept(world, owner, raw, strike)

    return await sell(request, world, "images", accept)


@api_call("models", needs_key=False)
async def models(request: web.Request, world: World, _: str) -> web.StreamResponse:
    records = [
        {**record, "endpoints": f"/api/v1/images/models/{record['id']}/endpoints"}
        for record in world.image_catalog.records
    ]
    return await say(request, world, "models", lambda: Answer(200, {"data": records}))


@api_call("models", needs_key=False)
async def endpoints(request: web.Request, world: World, _: str) -> web.StreamResponse:
    model = f"{request.match_info['author']}/{request.match_info['slug']}"

    def make() -> Answer:
        for record in world.image_catalog.records:
            if record["id"] == model:
                return Answer(200, {"id": model, "endpoints": record["endpoints"]})
        raise RefusedError(404, f"{model} is not a valid image model ID")

    return await say(request, world, "models", make)


ROUTES = [
    web.post("/api/v1/images", generate),
    web.get("/api/v1/images/models", models),
    web.get("/api/v1/images/models/{author}/{slug}/endpoints", endpoints),
]


async def _accept(world: World, owner: str, raw: object, strike: Strike) -> Sold:
    world.limit_rate(owner)
    body = imagerules.check_form(raw)
    model = world.image_catalog.models.get(body["model"])
    if model is None:
        raise RefusedError(404, f"{body['model']} is not a valid image model ID")
    endpoint = imagerules.choose_endpoint(body, model)
    painting = Painting.read(body, endpoint)
    price = charge_images(painting, endpoint, world.settings.unknown_price_usd)
    world.check_credit(owner, price)
    lost = strike()
    if lost is not None and lost.action == "fewer":
        painting = replace(painting, count=painting.count - 1)
        price = charge_images(painting, endpoint, world.settings.unknown_price_usd)
    job = instant_job(world, owner, "image", body, painting.prompt, price, lost)
    world.books.accept(job)
    return Sold(await _answer(world, job, painting), lost)


async def _answer(world: World, job: Job, painting: Painting) -> Answer:
    pictures = [await asyncio.to_thread(paint, painting, f"{job.id}/{index}") for index in range(painting.count)]
    for index, picture in enumerate(pictures if not job.withheld else ()):
        world.books.serve(job.id, index, hashlib.sha256(picture).hexdigest(), len(picture))
    data = [{"b64_json": base64.b64encode(each).decode(), "media_type": painting.mime_type} for each in pictures]
    return Answer(200, {"created": int(world.clock.now()), "data": data, "usage": _usage(job, painting)})


def _usage(job: Job, painting: Painting) -> dict[str, Any]:
    prompt, completion = painting.prompt_tokens, painting.tokens * painting.count
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "cost": job.cost_usd if job.reports_cost else None,
        "is_byok": job.is_byok,
    }
