"""The simulator as a server: in the running event loop, in a thread of its own, or until it is interrupted."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from aiohttp import web

from orbatch_provider.catalog import Catalog, VideoModel, snapshot
from orbatch_simulator.account import ROUTES as ACCOUNT_ROUTES
from orbatch_simulator.content import ROUTES as CONTENT_ROUTES
from orbatch_simulator.faults import Fault
from orbatch_simulator.images import ROUTES as IMAGE_ROUTES
from orbatch_simulator.images import image_examples
from orbatch_simulator.journal import Journal
from orbatch_simulator.middleware import STATE, use_envelopes
from orbatch_simulator.state import Clock, SimulatorSettings, State
from orbatch_simulator.text import ROUTES as TEXT_ROUTES
from orbatch_simulator.text import text_examples
from orbatch_simulator.videos import ROUTES as VIDEO_ROUTES

LOOPBACK = "127.0.0.1"
_CLOSING_S = 0.2  # how long answers that a fault holds back may keep a simulator from closing


class Simulator:
    """A strict OpenRouter on loopback; ``port`` 0 takes a free one. Use it as ``async with``.

    ``journal_path``: the file that a later simulator resumes from, None to keep everything in memory. ``catalog``:
    video models and prices, None for the packaged snapshot. ``clock``: for tests that control the time.
    """

    def __init__(
        self,
        settings: SimulatorSettings | None = None,
        *,
        port: int = 0,
        journal_path: Path | None = None,
        catalog: Catalog[VideoModel] | None = None,
        clock: Clock | None = None,
    ) -> None:
        settings, clock, catalog = settings or SimulatorSettings(), clock or Clock(), catalog or snapshot()
        self.state = State(settings, clock, catalog, image_examples(), text_examples(), journal_path)
        self._port = port
        self._runner: web.AppRunner | None = None

    @property
    def base_url(self) -> str:
        """The API's base URL once it runs: ``http://127.0.0.1:PORT/api/v1``."""
        return f"{self.state.origin}/api/v1"

    @property
    def journal(self) -> Journal:
        """What was accepted, charged and downloaded."""
        return self.state.journal

    def set_faults(self, *faults: Fault) -> None:
        """Replace all rules with these; without arguments, end all faults."""
        self.state.faults.replace(faults)

    async def start(self) -> None:
        """Raises OSError if the port is taken, ValueError if the file at ``journal_path`` is not a journal."""
        self.state.journal.open()  # before the port: a file that is not a journal must not start a server
        app = web.Application(middlewares=[use_envelopes])
        app[STATE] = self.state
        for routes in (VIDEO_ROUTES, CONTENT_ROUTES, IMAGE_ROUTES, TEXT_ROUTES, ACCOUNT_ROUTES):
            app.add_routes(routes)
        app.add_routes([web.get("/_sim/journal", _journal)])  # outside the API, without a key
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSING_S)
        try:
            await self._runner.setup()
            await web.TCPSite(self._runner, LOOPBACK, self._port).start()
        except BaseException:
            await self.stop()
            raise
        self.state.origin = f"http://{LOOPBACK}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Close all connections and the journal."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self.state.journal.close()

    async def __aenter__(self) -> Simulator:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


@contextmanager
def simulator_thread(settings: SimulatorSettings | None = None, **options: Any) -> Iterator[Simulator]:
    """A simulator in a background thread with its own event loop, for blocking callers and callers with another loop.

    ``options`` are those of ``Simulator``. Raises what its ``start`` raises.
    """
    simulator = Simulator(settings, **options)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="simulator", daemon=True)
    thread.start()

    async def stop() -> None:
        await simulator.stop()
        # Renders run in its threads, which would outlive the loop.
        await loop.shutdown_default_executor()

    try:
        asyncio.run_coroutine_threadsafe(simulator.start(), loop).result()
        try:
            yield simulator
        finally:
            asyncio.run_coroutine_threadsafe(stop(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def run_forever(settings: SimulatorSettings, on_ready: Callable[[str], None], **options: Any) -> None:
    """Serve until SIGINT or SIGTERM. ``on_ready`` is called with the base URL once requests are answered.

    ``options`` are those of ``Simulator``. Raises what its ``start`` raises.
    """

    async def serve() -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(NotImplementedError):  # on Windows, where Ctrl-C arrives as an exception
                loop.add_signal_handler(number, stopped.set)
        async with Simulator(settings, **options) as simulator:
            on_ready(simulator.base_url)
            await stopped.wait()

    with suppress(KeyboardInterrupt):
        asyncio.run(serve())


async def _journal(request: web.Request) -> web.Response:
    # For observers in other processes; str: amounts keep all digits.
    return web.json_response(text=json.dumps(request.app[STATE].journal.summary(), default=str))
