"""What the paid calls have in common: the body, faults before and after acceptance, and how an order is accepted."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from orbatch_simulator.answers import Answer, RefusedError
from orbatch_simulator.chat import prompt_of
from orbatch_simulator.faults import Fault, Stage
from orbatch_simulator.routes.calls import spoil
from orbatch_simulator.world import World

_CHUNK = 64 * 1024  # bytes


Strike = Callable[[], Fault | None]


@dataclass(frozen=True, slots=True)
class Sold:
    """An accepted order: the answer that brings it, and the fault that will spoil that answer."""

    answer: Answer
    lost: Fault | None


async def sell(
    request: web.Request, world: World, call: str, accept: Callable[[object, Strike], Awaitable[Sold]]
) -> web.StreamResponse:
    """The answer to a paid call. ``accept(body, strike)`` puts the order into the books or raises RefusedError;
    ``strike`` is called when nothing speaks against it any more, and gives the fault that spoils its answer."""
    await world.pause(world.settings.submit_latency_s)
    body = _parsed(await _read(request, world.settings.max_body_bytes))
    fault = _fault(world, call, "answer", body)
    if fault is not None and fault.action != "delay":
        if fault.action == "answer":
            world.books.refused[fault.status] += 1
        return await spoil(request, world, fault, lambda: Answer(fault.status, {}))
    if fault is not None:
        await world.pause(fault.delay_s)
    sold = await accept(body, lambda: _fault(world, call, "accepted", body))
    return sold.answer.response() if sold.lost is None else await spoil(request, world, sold.lost, lambda: sold.answer)


def _fault(world: World, call: str, stage: Stage, body: object) -> Fault | None:
    named = body if isinstance(body, Mapping) else {}
    model, prompt = str(named.get("model", "")), str(named.get("prompt") or prompt_of(named))
    return world.faults.pick(call, stage, world.simulated_now(), model=model, prompt=prompt)


async def _read(request: web.Request, limit: int) -> bytes:
    content = bytearray()
    async for chunk in request.content.iter_chunked(_CHUNK):
        content += chunk
        if len(content) > limit:
            raise RefusedError(413, f"The request body is larger than {limit} bytes")
    return bytes(content)


def _parsed(text: bytes) -> object:
    try:
        body: object = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise RefusedError(400, "The request body is not valid JSON") from exc
    return body
