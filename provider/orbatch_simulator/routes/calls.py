"""What every call of the API has in common: the key, faults at its head, refusals as error envelopes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps

from aiohttp import web

from orbatch_simulator.answers import Answer, RefusedError, hang_up, needs_normal, spoiled
from orbatch_simulator.books import Job
from orbatch_simulator.faults import PAID, Fault
from orbatch_simulator.world import World

WORLD: web.AppKey[World] = web.AppKey("world", World)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Call = Callable[[web.Request, World, str], Awaitable[web.StreamResponse]]


def api_call(name: str, *, needs_key: bool = True) -> Callable[[Call], Handler]:
    """Make ``call(request, world, owner)`` an aiohttp handler; ``owner`` is "" where no key is needed."""

    def decorate(call: Call) -> Handler:
        @wraps(call)
        async def handle(request: web.Request) -> web.StreamResponse:
            world = request.app[WORLD]
            fault = world.fault(name, "head")
            try:
                if fault is not None:
                    await world.pause(fault.delay_s)
                    return await spoiled(request, fault)
                return await call(request, world, _owner(request, world) if needs_key else "")
            except RefusedError as refusal:
                if name in PAID:
                    world.books.refused[refusal.status] += 1
                return refusal.answer().response()
            except ConnectionError:
                # The caller went away; there is nobody to answer.
                return hang_up(request)

        return handle

    return decorate


async def say(
    request: web.Request, world: World, call: str, make: Callable[[], Answer], job: Job | None = None
) -> web.StreamResponse:
    """The answer of a read, or what a fault makes of it. ``make`` is called after any delay."""
    fault = world.fault(call, job=job)
    return make().response() if fault is None else await spoil(request, world, fault, make)


async def spoil(request: web.Request, world: World, fault: Fault, make: Callable[[], Answer]) -> web.StreamResponse:
    await world.pause(fault.delay_s)
    return await spoiled(request, fault, make() if needs_normal(fault) else None)


def _owner(request: web.Request, world: World) -> str:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return world.owner_of(key.strip() if scheme.lower() == "bearer" else "")
