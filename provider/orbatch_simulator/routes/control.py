"""The simulator's own paths, outside the API and without a key: its books, faults and settings."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any

from aiohttp import web

from orbatch_simulator.faults import Fault
from orbatch_simulator.routes.calls import WORLD
from orbatch_simulator.world import World

# Settings that hold keys, or that the faults' own path shows.
_NOT_SHOWN = ("api_keys", "management_keys", "faults")


async def books(request: web.Request) -> web.Response:
    return _json(request.app[WORLD].books.summary())


async def faults(request: web.Request) -> web.Response:
    return _json({"faults": request.app[WORLD].faults.summary()})


async def settings(request: web.Request) -> web.Response:
    shown = asdict(request.app[WORLD].settings)
    return _json({name: value for name, value in shown.items() if name not in _NOT_SHOWN})


async def set_faults(request: web.Request, world: World, body: object) -> web.Response:
    """``{"faults": [...]}`` takes the place of all rules; an empty list ends all faults."""
    rules = body.get("faults") if isinstance(body, Mapping) else None
    if not isinstance(rules, list):
        raise ValueError('the body must be {"faults": [...]}')
    world.faults.replace([Fault.from_json(rule) for rule in rules])
    return await faults(request)


async def set_settings(request: web.Request, world: World, body: object) -> web.Response:
    """The fields of the body change; the others stay."""
    world.settings = world.settings.changed(body)
    return await settings(request)


async def reset(request: web.Request, world: World, _: object) -> web.Response:
    """Empty books and no faults; the settings stay."""
    world.books.reset()
    world.faults.replace(())
    return await books(request)


Change = Callable[[web.Request, World, object], Awaitable[web.Response]]


def _change(change: Change) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        text = await request.text()
        try:
            return await change(request, request.app[WORLD], json.loads(text) if text else {})
        except ValueError as exc:
            return _json({"error": str(exc)}, status=400)

    return handle


def _json(content: Mapping[str, Any], status: int = 200) -> web.Response:
    return web.json_response(text=json.dumps(content, default=str), status=status)


ROUTES = [
    web.get("/_sim/books", books),
    web.get("/_sim/faults", faults),
    web.get("/_sim/settings", settings),
    web.post("/_sim/faults", _change(set_faults)),
    web.post("/_sim/settings", _change(set_settings)),
    web.post("/_sim/reset", _change(reset)),
]
