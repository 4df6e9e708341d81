"""What the steps of a job's way share: the provider they ask, the terms they keep, how they wait and what they say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from orbatch.ledger import AttemptRecord, JobRecord, Ledger
from orbatch.ledger.budget import Caps
from orbatch.ledger.status import Status
from orbatch.runner import poll_schedule
from orbatch.runner.limits import Limits
from orbatch_provider.download import PartFile
from orbatch_provider.errors import APIError, NotSentError, OutcomeUnknownError
from orbatch_provider.requests import ImageRequest, TextRequest, VideoRequest
from orbatch_provider.responses import VideoJob

if TYPE_CHECKING:
    from orbatch_provider.images import ImagesResult
    from orbatch_provider.responses import Generation, KeyInfo
    from orbatch_provider.texts import TextResult


class Clock:
    """``speed``: how many times faster than real time the counterpart runs; 1 for the real API."""

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed

    def now(self) -> float:
        """Seconds on the counterpart's clock, from an arbitrary start."""
        return time.monotonic() * self.speed

    def real(self, seconds: float) -> float:
        """How long ``seconds`` of the counterpart's time take here."""
        return seconds / self.speed


@dataclass(frozen=True, slots=True)
class Progress:
    """One thing that happened. ``level``: info, warning or error. ``job`` names the job by prompt and model."""

    text: str
    job: str = ""
    level: str = "info"


Notify = Callable[[Progress], None]


# How long polls and downloads of one job are repeated while the provider gives no answer of substance. The next run
# goes on; without an end, one job that is broken at the provider would keep a run alive for ever.
OUTAGE_PATIENCE_S = 2 * 3600.0
OUTAGE_SAID_AFTER_S = 60.0
SHORTEST_PAUSE_S = 1.0  # whatever a Retry-After says


class Provider(Protocol):
    """What a run needs of the provider."""

    @property
    def account(self) -> str: ...
    @property
    def origin(self) -> str: ...
    async def submit(self, request: VideoRequest) -> VideoJob: ...
    async def create_images(self, request: ImageRequest, directory: Path, stem: str) -> ImagesResult: ...
    async def complete_text(self, request: TextRequest) -> TextResult: ...
    async def poll(self, job_id: str) -> VideoJob: ...
    async def receive(self, job_id: str, index: int, part: Path) -> PartFile: ...
    async def generation(self, generation_id: str) -> Generation: ...
    async def key(self) -> KeyInfo: ...


@dataclass(frozen=True, slots=True)
class Terms:
    """What a batch says about following its jobs. Times in seconds."""

    caps: Caps
    output_dir: Path
    poll_interval_s: float
    poll_timeout_s: float
    attempts: int
    retry_on: frozenset[Status]


class StopRun(Exception):
    """Nothing more can be done in this run: the message says why and what to do."""


class StopSubmits(Exception):
    """Nothing more may be sent; running jobs are followed to their end."""


class StopEvent(asyncio.Event):
    """Set when the run is to end; it wakes those who sleep here. Thousands do, so that each must cost little more than
    a timer."""

    def __init__(self) -> None:
        super().__init__()
        self._sleepers: set[asyncio.Future[None]] = set()

    async def sleep(self, real_s: float) -> None:
        """For so long, or until it is set."""
        if self.is_set():
            return
        loop = asyncio.get_running_loop()
        sleeper: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(real_s, _wake, sleeper)
        self._sleepers.add(sleeper)
        try:
            await sleeper
        finally:
            timer.cancel()
            self._sleepers.discard(sleeper)

    def set(self) -> None:
        super().set()
        for sleeper in self._sleepers:
            _wake(sleeper)


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


@dataclass(frozen=True, slots=True)
class RunContext:
    """What every step of one run works with. ``stopping``: set when the run is to end."""

    ledger: Ledger
    provider: Provider
    gates: Limits
    terms: Terms
    pace: Clock
    notify: Notify
    stopping: StopEvent = field(default_factory=StopEvent)

    async def wait(self, real_s: float) -> bool:
        """Sleep; False when the run is being stopped."""
        await self.stopping.sleep(real_s)
        return not self.stopping.is_set()

    def pause_s(self, error: Exception, backoff_s: float) -> float:
        """Real seconds to wait after ``error``: what its answer asks for, within bounds, or else ``backoff_s``."""
        asked = error.retry_after_s if isinstance(error, APIError) else None
        if asked is None:
            return self.pace.real(backoff_s)
        # Retry-After is an answer of HTTP and means real seconds, also where a simulator runs faster.
        return max(self.pace.real(SHORTEST_PAUSE_S), poll_schedule.bounded_retry_after(asked))

    def say(self, job: JobRecord, text: str, level: str = "info") -> None:
        self.notify(Progress(text, f"{job.prompt_id} {job.model}", level))

    def leave(self, job: JobRecord, attempt: AttemptRecord, text: str) -> None:
        """The job stays where it is, paid for; the next run goes on."""
        text = text.rstrip(".")
        self.ledger.attempts.add_event(job.id, attempt.id, text)
        self.say(job, f"{text}. It is paid for; run the same command again to go on.", "warning")


def is_outage(error: Exception) -> bool:
    """Whether a failed read says nothing about the job: the provider was out of reach, overloaded or failing."""
    return isinstance(error, (NotSentError, OutcomeUnknownError)) or (
        isinstance(error, APIError) and error.temporary and error.status_code != 409
    )


class PollDeadline:
    """How long a job has been waited for, on a monotonic clock, and how much of that was an outage.

    An outage does not count towards the timeout: the job cannot be blamed for it.
    """

    def __init__(self, pace: Clock) -> None:
        self._pace = pace
        self._start = self._last = pace.now()
        self._excused_s = 0.0
        self.outage_s = 0.0
        self._said = False

    @property
    def age_s(self) -> float:
        return self._pace.now() - self._start

    def answered(self) -> bool:
        """An answer came. Returns whether it ends an outage that was talked about."""
        was_said = self._said
        self._last = self._pace.now()
        self.outage_s = 0.0
        self._said = False
        return was_said

    def failed(self, error: Exception) -> None:
        """A read failed; only an outage is excused."""
        if not is_outage(error):
            self.answered()
            return
        passed_s = self._pace.now() - self._last
        self._last += passed_s
        self.outage_s += passed_s
        self._excused_s += passed_s

    def outage_worth_saying(self) -> bool:
        """True once per outage, when it has lasted for OUTAGE_SAID_AFTER_S."""
        if self._said or self.outage_s < OUTAGE_SAID_AFTER_S:
            return False
        self._said = True
        return True

    def is_over(self, timeout_s: float) -> bool:
        """Whether the job has had its time, or the outage has lasted for OUTAGE_PATIENCE_S."""
        return self.age_s - self._excused_s > timeout_s or self.outage_s > OUTAGE_PATIENCE_S
