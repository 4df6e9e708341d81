"""The endpoints, one module for each part of the API; a further part is a further module in this list."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from orbatch_simulator.routes import account, chat, control, images, outputs, videos


def all_routes() -> Iterable[web.RouteDef]:
    return [*videos.ROUTES, *outputs.ROUTES, *images.ROUTES, *chat.ROUTES, *account.ROUTES, *control.ROUTES]
