"""Limits in front of the provider: submits, polls and downloads, per account and per model, and cool-downs after 429.

A submit limit of N per minute holds in every window of 60 seconds: a tenth of it may go immediately, the rest follows
evenly. ``speed`` is how many times faster than real time a simulator runs; all periods shrink with it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiolimiter import AsyncLimiter

if TYPE_CHECKING:  # a type alone: pydantic takes 0.1 s to import, and commands that only read the ledger do without
    from orbatch.batchfile.models import LimitsConfig

BURST_SHARE = 0.1  # of a minute's submits
RECHECK_SHARE = 0.1  # of the time to the next free place
MIN_RECHECK_S = 0.01


@dataclass(frozen=True, slots=True)
class Wait:
    """Why nothing may be submitted now. ``seconds``: when to check again; None: when a job ends."""

    reason: str
    seconds: float | None = None


def submit_limiter(per_minute: float, speed: float) -> AsyncLimiter:
    """A bucket that a burst empties, and that fills up so slowly that no 60 seconds see more than ``per_minute``."""
    burst = max(1, int(per_minute * BURST_SHARE))
    per_second = (per_minute - burst + 1) / 60.0  # the last of a window's refills comes when the next one begins
    return AsyncLimiter(burst, burst / per_second / speed)


def _poll_limiter(per_second: float, speed: float) -> AsyncLimiter:
    # Below one poll a second a bucket of one fills more slowly; a smaller bucket would let nothing through.
    return AsyncLimiter(max(1.0, per_second), max(1.0, 1 / per_second) / speed)


class Limits:
    """The limits of one run. Create it inside the running loop: the limiters belong to it.

    ``polls`` and ``downloads`` are entered around each poll and each download.
    """

    def __init__(self, limits: LimitsConfig, speed: float = 1.0) -> None:
        self._config = limits
        self._speed = speed
        self._clock = asyncio.get_running_loop().time
        self._account = submit_limiter(limits.submits_per_minute, speed)
        self._models = {
            model: submit_limiter(of_model.submits_per_minute, speed)
            for model, of_model in limits.models.items()
            if of_model.submits_per_minute is not None
        }
        self._in_flight: Counter[str] = Counter()
        self._cool_downs: dict[str | None, tuple[float, str]] = {}  # until and why, by model; None: everything
        self._failures: Counter[str | None] = Counter()
        self.polls = _poll_limiter(limits.polls_per_second, speed)
        self.downloads = asyncio.Semaphore(limits.downloads)

    def change(self, limits: LimitsConfig) -> None:
        """Follow other limits from now on; downloads that have begun keep their place."""
        if limits.submits_per_minute != self._config.submits_per_minute:
            self._account = submit_limiter(limits.submits_per_minute, self._speed)
        if limits.polls_per_second != self._config.polls_per_second:
            self.polls = _poll_limiter(limits.polls_per_second, self._speed)
        if limits.downloads != self._config.downloads:
            self.downloads = asyncio.Semaphore(limits.downloads)
        self._config = limits

    def why_not(self, model: str, elsewhere: int = 0, elsewhere_of_model: int = 0) -> Wait | None:
        """What keeps a job of this model from being submitted now; None when it may go.

        ``elsewhere``: jobs that other runs on the same ledger have in flight, which count as well.
        """
        for scope in (None, model):
            until, reason = self._cool_downs.get(scope, (0.0, ""))
            if until > self._clock():
                return Wait(reason, until - self._clock())
        of_model = self._config.of(model)
        if self.in_flight + elsewhere >= self._config.in_flight:
            return Wait(f"{self._config.in_flight} jobs are in flight (limits.in_flight)", 1.0 if elsewhere else None)
        if of_model.in_flight is not None and self._in_flight[model] + elsewhere_of_model >= of_model.in_flight:
            text = f"{of_model.in_flight} jobs of {model} are in flight (limits.models)"
            return Wait(text, 1.0 if elsewhere_of_model else None)
        for limiter, name in ((self._account, "limits.submits_per_minute"), (self._models.get(model), "limits.models")):
            if limiter is not None and not limiter.has_capacity():
                # Only a part of the time to the next place: who comes a moment early would else wait for the one after.
                recheck_s = limiter.time_period / limiter.max_rate * RECHECK_SHARE
                return Wait(f"rate limit of submits ({name})", max(MIN_RECHECK_S, recheck_s))
        return None

    async def take(self, model: str) -> None:
        """Count one submit. Does not wait, because ``why_not`` has just returned None."""
        await self._account.acquire()
        of_model = self._models.get(model)
        if of_model is not None:
            await of_model.acquire()

    def enter(self, model: str) -> None:
        """Count a job of this model as in flight."""
        self._in_flight[model] += 1

    def leave(self, model: str) -> None:
        """The provider is done with a job of this model."""
        self._in_flight[model] -= 1

    @property
    def in_flight(self) -> int:
        """Jobs of this run that are in flight."""
        return self._in_flight.total()

    def cool_down(self, model: str | None, seconds: float, reason: str) -> None:
        """Submit nothing of this model (None: nothing at all) for ``seconds`` of real time; a longer one stays."""
        until = self._clock() + seconds
        self._cool_downs[model] = max(self._cool_downs.get(model, (0.0, "")), (until, reason))

    def note_failure(self, model: str | None) -> int:
        """Count a refusal that cost nothing; returns how many there were in a row."""
        until, _ = self._cool_downs.get(model, (0.0, ""))
        # Requests that were already on their way are refused together, for one reason: they count once.
        if until <= self._clock():
            self._failures[model] += 1
        return max(1, self._failures[model])

    def note_success(self, model: str) -> None:
        """An accepted job: this model, and the connection, work."""
        self._failures[model] = self._failures[None] = 0
