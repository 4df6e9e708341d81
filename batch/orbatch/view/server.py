"""The local server of the page: its data, the files that the ledger lists, and what people say of them.

It answers only to who has the token: a page of another site can neither read it nor act through it.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from aiohttp import web

from orbatch.ledger import BatchRecord, Ledger, LedgerError, OutputRecord
from orbatch.view.data import batch_data
from orbatch.view.posters import poster_of
from orbatch_provider import run_in_disk_pool

COOKIE = "orbatch_view"
LOOK_EVERY_S = 1.0  # for what a run writes
LONGEST_BODY = 16_384  # bytes of a review
# Nothing from elsewhere, no inline script, no plugin, no frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES = {
    "index.html": "text/html",
    "view.css": "text/css",
    "view.js": "text/javascript",
    "data.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
# What a browser may show as it is; anything else, such as an SVG with a script in it, is a download.
_SHOWN = ("video/", "image/png", "image/jpeg", "image/webp", "image/gif", "audio/", "text/plain")
Offer = Callable[[str, str], Awaitable[dict[str, Any]]]  # model and settings of finals -> the file and its price
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ViewServer:
    """Serves one batch. ``who`` signs the reviews; ``host``: the only name under which it may be addressed, None for a
    server that other machines reach by names of their own. ``offer``: what the finals of the picks would cost."""

    def __init__(self, ledger: Ledger, batch: BatchRecord, who: str, host: str | None, offer: Offer) -> None:
        self.token = secrets.token_urlsafe(24)
        self._ledger = ledger
        self._batch = batch
        self._who = who
        self._host = host
        self._offer = offer
        self._outputs: dict[str, list[OutputRecord]] = {}

    def app(self) -> web.Application:
        """The application, to be run by aiohttp."""
        app = web.Application(middlewares=[self._guard], client_max_size=LONGEST_BODY)
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/static/{name}", self._static),
                web.get("/api/batch", self._data),
                web.get("/api/events", self._events),
                web.get("/media/{job}/{number}", self._media),
                web.get("/poster/{job}", self._poster),
                web.post("/api/review", self._review),
                web.post("/api/vote", self._vote),
                web.post("/api/finals", self._finals),
            ]
        )
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._host is not None and request.host.rpartition(":")[0].strip("[]") != self._host:
            raise web.HTTPForbidden(text="This address is not the one that the server was started for.")
        if request.method == "POST" and request.headers.get("Origin") != f"{request.scheme}://{request.host}":
            raise web.HTTPForbidden(text="Another page may not act here.")
        given = request.query.get("token", request.cookies.get(COOKIE, ""))
        if not secrets.compare_digest(given.encode(), self.token.encode()):
            raise web.HTTPForbidden(text="Open the address that `orbatch view` has printed.")
        if "token" in request.query:  # out of the address, into a cookie that no script reads
            found = web.HTTPFound(str(request.rel_url.without_query_params("token")))
            found.set_cookie(COOKIE, self.token, httponly=True, samesite="Strict")
            raise found
        response = await handler(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    async def _page(self, _request: web.Request) -> web.Response:
        return _static_file("index.html")

    async def _static(self, request: web.Request) -> web.Response:
        return _static_file(request.match_info["name"])

    async def _data(self, _request: web.Request) -> web.Response:
        return web.json_response(batch_data(self._ledger, self._batch, me=self._who))

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """A line whenever the ledger has changed, by whatever process."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        response.headers["Content-Security-Policy"] = POLICY
        await response.prepare(request)
        last = self._state()
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now = self._state()
            try:
                await response.write(b"data: changed\n\n" if now != last else b": still here\n\n")
            except ConnectionError:
                return response
            last = now

    def _state(self) -> tuple[object, ...]:
        counts = self._ledger.queries.counts(self._batch.id)
        spent = self._ledger.reports.spend(self._batch.id)
        return (tuple(sorted(counts.by_status.items())), spent, self._ledger.reviews.newest())

    def _output(self, request: web.Request) -> OutputRecord:
        """Only what the ledger lists for a job of this batch is served, wherever a name may point."""
        job_id, number = request.match_info["job"], int(request.match_info.get("number", "0"))
        if job_id not in self._outputs:
            try:
                job = self._ledger.queries.job(job_id)
            except LedgerError:
                raise web.HTTPNotFound from None
            if job.batch_id != self._batch.id:
                raise web.HTTPNotFound
            found = self._ledger.queries.outputs(job_id)
            if not found:
                raise web.HTTPNotFound
            self._outputs[job_id] = found
        outputs = self._outputs[job_id]
        if number >= len(outputs) or not Path(outputs[number].path).is_file():
            raise web.HTTPNotFound
        return outputs[number]

    async def _media(self, request: web.Request) -> web.StreamResponse:
        output = self._output(request)
        headers = {"Cache-Control": "private, max-age=3600", "Content-Type": output.mime_type}
        if not output.mime_type.startswith(_SHOWN):
            headers |= {"Content-Type": "application/octet-stream", "Content-Disposition": "attachment"}
        return web.FileResponse(output.path, headers=headers)  # with Range and ETag

    async def _poster(self, request: web.Request) -> web.StreamResponse:
        try:
            path = await run_in_disk_pool(poster_of, self._output(request), Path(self._batch.output_dir))
        except (OSError, ValueError):
            raise web.HTTPNotFound from None
        return web.FileResponse(path, headers={"Cache-Control": "private, max-age=86400", "Content-Type": "image/jpeg"})

    async def _review(self, request: web.Request) -> web.Response:
        body = await _json(request)
        job, field, value = body.get("job"), body.get("field"), body.get("value")
        if not isinstance(job, str) or not (value is None or isinstance(value, str)):
            raise web.HTTPBadRequest
        return self._recorded(lambda: self._ledger.reviews.add(job, self._who, field, value))

    async def _vote(self, request: web.Request) -> web.Response:
        body = await _json(request)
        winner, loser = body.get("winner"), body.get("loser")
        if not isinstance(winner, str) or not isinstance(loser, str):
            raise web.HTTPBadRequest
        return self._recorded(lambda: self._ledger.reviews.vote(winner, loser, self._who))

    async def _finals(self, request: web.Request) -> web.Response:
        """The batch file of the picks and its price; writes nothing and spends nothing."""
        body = await _json(request)
        model, settings = body.get("model"), body.get("set", "")
        if not isinstance(model, str) or not isinstance(settings, str):
            raise web.HTTPBadRequest
        return web.json_response(await self._offer(model, settings))

    def _recorded(self, verb: Callable[[], None]) -> web.Response:
        try:
            verb()
            self._ledger.commits.flush()
        except LedgerError as exc:  # a ledger that can only be read, or a value that is none
            raise web.HTTPConflict(text=str(exc)) from None
        return web.json_response({"ok": True})


async def _json(request: web.Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except json.JSONDecodeError:
        raise web.HTTPBadRequest from None
    if not isinstance(body, dict):
        raise web.HTTPBadRequest
    return body


def static_text(name: str) -> str:
    """A file of the page."""
    return files("orbatch.view").joinpath("static", name).read_text("utf-8")


def _static_file(name: str) -> web.Response:
    if name not in _TYPES:
        raise web.HTTPNotFound
    text = "" if name == "data.js" else static_text(name)  # an exported page has its data there
    return web.Response(text=text, content_type=_TYPES[name], charset="utf-8")
