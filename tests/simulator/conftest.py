"""A simulator whose clock stands still, and a caller that knows nothing but HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import pytest

from orbatch_simulator import Simulator, SimulatorSettings
from orbatch_simulator.journal import Job
from orbatch_simulator.state import Clock

KEY = "sk-or-v1-c0ffee0123456789"
HOUR = 3600.0

REQUEST: Mapping[str, Any] = {
    "model": "google/veo-3.1-lite",
    "prompt": "A cat playing with yarn",
    "duration": 4,
    "resolution": "720p",
    "generate_audio": False,
}  # 4 s x 0.03 USD


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class ManualClock(Clock):
    """Stands still until ``advance`` is called in the thread of the event loop, so that hours pass immediately."""

    def __init__(self, start: float = 1_790_000_000.0) -> None:
        self._now = start
        self._asleep, self._moved = asyncio.Event(), asyncio.Event()

    def now(self) -> float:
        return self._now

    def advance(self, real_s: float) -> None:
        self._now += real_s
        self._asleep.clear()
        self._moved.set()  # wakes all sleepers
        self._moved = asyncio.Event()

    async def sleep(self, real_s: float) -> None:
        due = self._now + real_s
        while self._now < due:
            self._asleep.set()
            await self._moved.wait()

    async def until_someone_sleeps(self) -> None:
        """Return once an answer is held back until the next ``advance``."""
        await self._asleep.wait()


class Caller:
    """Talks to one simulator under one key; ``clock`` is the simulator's."""

    def __init__(self, http: aiohttp.ClientSession, simulator: Simulator, clock: ManualClock) -> None:
        self.http, self.simulator, self.clock = http, simulator, clock

    async def call(
        self, method: str, path: str, *, key: str | None = KEY, headers: Mapping[str, str] | None = None, **options: Any
    ) -> Reply:
        """``path`` is below the base URL, or a whole URL. Redirects are not followed."""
        url = path if "://" in path else self.simulator.base_url + path
        sent = dict(headers or {}) | ({"Authorization": f"Bearer {key}"} if key is not None else {})
        async with self.http.request(method, url, headers=sent, allow_redirects=False, **options) as response:
            return Reply(response.status, response.headers.copy(), await response.read())

    async def post(self, path: str, request: Mapping[str, Any], changes: Mapping[str, Any]) -> Reply:
        """``request`` with changes; a field that is set to None is left out."""
        body = {name: value for name, value in {**request, **changes}.items() if value is not None}
        return await self.call("POST", path, json=body)

    async def submit(self, **changes: Any) -> Reply:
        return await self.post("/videos", REQUEST, changes)

    async def start(self, **changes: Any) -> str:
        """The id of an accepted job."""
        reply = await self.submit(**changes)
        assert reply.status == 202, reply.body
        return str(reply.json["id"])

    async def finish(self, **changes: Any) -> str:
        """The id of a job that has ended."""
        job_id = await self.start(**changes)
        self.clock.advance(HOUR)
        return job_id

    async def get(self, path: str, **options: Any) -> Any:
        """The JSON of a successful read."""
        reply = await self.call("GET", path, **options)
        assert reply.status == 200, reply.body
        return reply.json

    async def poll(self, job_id: str) -> Any:
        return await self.get(f"/videos/{job_id}")

    async def journal(self) -> Any:
        """As an observer in another process sees it."""
        return await self.get(self.simulator.base_url.replace("/api/v1", "/_sim/journal"), key=None)

    def only_job(self) -> Job:
        (job,) = self.simulator.journal.jobs.values()
        return job


class Open(Protocol):
    async def __call__(self, settings: SimulatorSettings = ..., journal_path: Path | None = None) -> Caller: ...


@pytest.fixture
async def open_simulator() -> AsyncIterator[Open]:
    """Opens simulators that are closed with the test."""
    async with AsyncExitStack() as stack:

        async def open_one(settings: SimulatorSettings | None = None, journal_path: Path | None = None) -> Caller:
            clock = ManualClock()
            simulator = await stack.enter_async_context(Simulator(settings, journal_path=journal_path, clock=clock))
            # A pool would hide which answer cut which connection.
            session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
            return Caller(await stack.enter_async_context(session), simulator, clock)

        yield open_one


@pytest.fixture
async def caller(open_simulator: Open) -> Caller:
    """A caller of a simulator with default settings."""
    return await open_simulator()
