"""The simulator as a server: in the running event loop, in a thread of its own, or until it is interrupted."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from types import TracebackType

from aiohttp import web

from orbatch_provider.catalog import Catalog, VideoModel, snapshot
from orbatch_simulator.answers import RefusedError
from orbatch_simulator.books import Books
from orbatch_simulator.faults import Fault
from orbatch_simulator.routes import all_routes
from orbatch_simulator.routes.calls import WORLD, Handler
from orbatch_simulator.settings import SimulatorSettings
from orbatch_simulator.timing import Clock, WallClock
from orbatch_simulator.world import World

LOOPBACK = "127.0.0.1"
_CLOSING_S = 0.2  # how long answers that are being held back may keep a simulator from closing


class Simulator:
    """A strict imitation of the service on ``host``; ``port`` 0 takes a free one. Use it as ``async with``.

    ``books_path``: the journal that a later simulator goes on from, None to keep the books in memory. ``catalog``:
    models and prices, None for the packaged snapshot. ``clock``: see ``timing``.
    """

    def __init__(
        self,
        settings: SimulatorSettings | None = None,
        *,
        port: int = 0,
        host: str = LOOPBACK,
        books_path: Path | None = None,
        catalog: Catalog[VideoModel] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._host, self._port = host, port
        self._world = World(settings or SimulatorSettings(), clock or WallClock(), catalog or snapshot(), books_path)
        self._runner: web.AppRunner | None = None

    @property
    def base_url(self) -> str:
        """The API's base URL, once it runs: ``http://127.0.0.1:PORT/api/v1``."""
        return f"{self._world.origin}/api/v1"

    @property
    def control_url(self) -> str:
        """Where the control paths are: ``http://127.0.0.1:PORT/_sim``."""
        return f"{self._world.origin}/_sim"

    @property
    def books(self) -> Books:
        return self._world.books

    @property
    def settings(self) -> SimulatorSettings:
        return self._world.settings

    @settings.setter
    def settings(self, settings: SimulatorSettings) -> None:
        self._world.settings = settings

    def set_faults(self, *faults: Fault) -> None:
        """Put these rules in the place of all others; none ends all faults."""
        self._world.faults.replace(faults)

    async def start(self) -> None:
        """Raises OSError when the port is taken, ValueError when ``books_path`` is no journal."""
        self._world.books.open()
        app = web.Application(middlewares=[_in_envelopes])
        app[WORLD] = self._world
        app.add_routes(all_routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSING_S)
        try:
            await self._runner.setup()
            await web.TCPSite(self._runner, self._host, self._port).start()
        except BaseException:
            await self.stop()
            raise
        port = self._runner.addresses[0][1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        self._world.origin = f"http://{host}:{port}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self._world.books.close()

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
    books_path: Path | None = None,
    catalog: Catalog[VideoModel] | None = None,
) -> Iterator[Simulator]:
    """A simulator in a background thread with a loop of its own, for blocking callers and those with another loop.

    Raises what ``Simulator.start`` raises.
    """
    simulator = Simulator(settings, port=port, host=host, books_path=books_path, catalog=catalog)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="simulator", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(simulator.start(), loop).result()
        try:
            yield simulator
        finally:
            asyncio.run_coroutine_threadsafe(_wind_up(simulator, loop), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def run_forever(
    settings: SimulatorSettings | None = None,
    host: str = LOOPBACK,
    port: int = 0,
    books_path: Path | None = None,
    on_ready: Callable[[str], None] | None = None,
    catalog: Catalog[VideoModel] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM. ``on_ready`` is called with the base URL once requests are answered.

    Raises what ``Simulator.start`` raises.
    """

    async def serve() -> None:
        simulator = Simulator(settings, port=port, host=host, books_path=books_path, catalog=catalog)
        async with simulator, _interrupted() as interrupted:
            if on_ready is not None:
                on_ready(simulator.base_url)
            await interrupted.wait()

    # Where signals cannot be handled in the loop, Ctrl-C arrives as an exception.
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


async def _wind_up(simulator: Simulator, loop: asyncio.AbstractEventLoop) -> None:
    await simulator.stop()
    await loop.shutdown_default_executor()


@web.middleware
async def _in_envelopes(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Unknown paths and methods are refused in the service's envelope, too."""
    try:
        return await handler(request)
    except web.HTTPError as error:
        return RefusedError(error.status, error.reason).answer().response()
