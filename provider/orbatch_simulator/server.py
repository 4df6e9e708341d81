"""The simulator as a server: in the running event loop, in a thread of its own, or until it is interrupted."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from types import TracebackType

from aiohttp import web

from orbatch_provider.catalog import Catalog, VideoModel, snapshot
from orbatch_simulator.account import ROUTES as ACCOUNT_ROUTES
from orbatch_simulator.content import ROUTES as CONTENT_ROUTES
from orbatch_simulator.faults import Fault
from orbatch_simulator.images import ROUTES as IMAGE_ROUTES
from orbatch_simulator.images import image_examples
from orbatch_simulator.journal import Journal
from orbatch_simulator.middleware import STATE, use_envelopes
from orbatch_simulator.settings import SimulatorSettings
from orbatch_simulator.state import Clock, State
from orbatch_simulator.text import ROUTES as TEXT_ROUTES
from orbatch_simulator.text import text_examples
from orbatch_simulator.videos import ROUTES as VIDEO_ROUTES

LOOPBACK = "127.0.0.1"
_CLOSING_S = 0.2  # how long answers that a fault holds back may keep a simulator from closing


class Simulator:
    """A strict OpenRouter on ``host``; ``port`` 0 takes a free one. Use it as ``async with``.

    ``journal_path``: the file that a later simulator resumes from, None to keep everything in memory. ``catalog``:
    video models and prices, None for the packaged snapshot. ``clock``: for tests that control the time.
    """

    def __init__(
        self,
        settings: SimulatorSettings | None = None,
        *,
        port: int = 0,
        host: str = LOOPBACK,
        journal_path: Path | None = None,
        catalog: Catalog[VideoModel] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._host, self._port = host, port
        self._state = State(
            settings or SimulatorSettings(),
            clock or Clock(),
            catalog or snapshot(),
            image_examples(),
            text_examples(),
            journal_path,
        )
        self._runner: web.AppRunner | None = None

    @property
    def base_url(self) -> str:
        """The API's base URL once it runs: ``http://127.0.0.1:PORT/api/v1``."""
        return f"{self._state.origin}/api/v1"

    @property
    def journal(self) -> Journal:
        """What was accepted, charged and downloaded."""
        return self._state.journal

    @property
    def settings(self) -> SimulatorSettings:
        """The current settings; may be replaced while it runs."""
        return self._state.settings

    @settings.setter
    def settings(self, settings: SimulatorSettings) -> None:
        self._state.settings = settings

    def set_faults(self, *faults: Fault) -> None:
        """Replace all rules with these; without arguments, end all faults."""
        self._state.faults.replace(faults)

    async def start(self) -> None:
        """Raises OSError if the port is taken, ValueError if the file at ``journal_path`` is not a journal."""
        self._state.journal.open()  # before the port: a file that is not a journal must not start a server
        app = web.Application(middlewares=[use_envelopes])
        app[STATE] = self._state
        for routes in (VIDEO_ROUTES, CONTENT_ROUTES, IMAGE_ROUTES, TEXT_ROUTES, ACCOUNT_ROUTES):
            app.add_routes(routes)
        app.add_routes([web.get("/_sim/journal", _journal)])  # outside the API, without a key
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSING_S)
        try:
            await self._runner.setup()
            await web.TCPSite(self._runner, self._host, self._port).start()
        except BaseException:
            await self.stop()
            raise
        port = self._runner.addresses[0][1]
        host = f"[{self._host}]" if ":" in self._host else self._host  # IPv6
        self._state.origin = f"http://{host}:{port}"

    async def stop(self) -> None:
        """Close all connections and the journal."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self._state.journal.close()

    async def __aenter__(self) -> Simulator:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


@contextmanager
def simulator_thread(
    settings: SimulatorSettings | None = None,
    *,
    port: int = 0,
    host: str = LOOPBACK,
    journal_path: Path | None = None,
    catalog: Catalog[VideoModel] | None = None,
) -> Iterator[Simulator]:
    """A simulator in a background thread with its own event loop, for blocking callers and callers with another loop.

    Raises what ``Simulator.start`` raises.
    """
    simulator = Simulator(settings, port=port, host=host, journal_path=journal_path, catalog=catalog)
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


def run_forever(
    settings: SimulatorSettings | None = None,
    host: str = LOOPBACK,
    port: int = 0,
    journal_path: Path | None = None,
    on_ready: Callable[[str], None] | None = None,
    catalog: Catalog[VideoModel] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM. ``on_ready`` is called with the base URL once requests are answered.

    Raises what ``Simulator.start`` raises.
    """

    async def serve() -> None:
        simulator = Simulator(settings, port=port, host=host, journal_path=journal_path, catalog=catalog)
        async with simulator, _interrupted() as interrupted:
            if on_ready is not None:
                on_ready(simulator.base_url)
            await interrupted.wait()

    # Where the loop cannot handle signals, Ctrl-C arrives as an exception.
    with suppress(KeyboardInterrupt):
        asyncio.run(serve())


@asynccontextmanager
async def _interrupted() -> AsyncIterator[asyncio.Event]:
    """An event that SIGINT and SIGTERM set."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    handled = []
    for number in (signal.SIGINT, signal.SIGTERM):
        # Windows has no such handlers, and only the main thread may set them.
        with suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, event.set)
            handled.append(number)
    try:
        yield event
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


async def _journal(request: web.Request) -> web.Response:
    # For observers in other processes; str: amounts keep all digits.
    return web.json_response(text=json.dumps(request.app[STATE].journal.summary(), default=str))
