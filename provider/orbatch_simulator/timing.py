"""The simulator's clock, and how long a render takes. Simulated seconds pass ``speed`` times faster than real ones."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import time
from decimal import Decimal
from typing import Protocol

from orbatch_simulator.settings import SimulatorSettings

# A render of this length takes the median of the settings; others take proportionally more or less, over a fixed half.
_USUAL_LENGTH_S = 5.0


class Clock(Protocol):
    """``now`` in Unix seconds: wall time, so that jobs go on after a restart of the simulator."""

    def now(self) -> float: ...

    async def sleep(self, real_s: float) -> None: ...


class WallClock:
    def now(self) -> float:
        return time.time()

    async def sleep(self, real_s: float) -> None:
        await asyncio.sleep(real_s)


class ManualClock:
    """A clock that stands still until ``advance`` is called: for tests that need hours to pass at once.

    Call ``advance`` in the thread of the simulator's event loop.
    """

    def __init__(self, start: float = 1_790_000_000.0) -> None:
        self._now = start
        self._order = itertools.count()
        self._asleep = asyncio.Event()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []  # min-heap by (due, order)

    def now(self) -> float:
        return self._now

    def advance(self, real_s: float) -> None:
        self._now += real_s
        self._asleep.clear()
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _, _, sleeper = heapq.heappop(self._sleepers)
            if not sleeper.done():
                sleeper.set_result(None)

    async def sleep(self, real_s: float) -> None:
        if real_s > 0:
            sleeper = asyncio.get_running_loop().create_future()
            heapq.heappush(self._sleepers, (self._now + real_s, next(self._order), sleeper))
            self._asleep.set()
            await sleeper

    async def until_someone_sleeps(self) -> None:
        """Return once an answer is held back until the next ``advance``."""
        await self._asleep.wait()


def render_time(settings: SimulatorSettings, model: str, seconds: Decimal, label: str) -> float:
    """Simulated seconds from the start of a render to its end, at most four medians.

    ``label`` names the job: the same seed and label give the same time.
    """
    fixed = settings.render_s.get(model)
    if fixed is not None:
        return fixed
    by_length = 0.5 + 0.5 * float(seconds) / _USUAL_LENGTH_S
    luck = random.Random(f"{settings.seed}:{label}").lognormvariate(0, settings.render_spread)
    return settings.render_median_s * by_length * min(luck, 4.0)
