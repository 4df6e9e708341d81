"""What every step of a run works with: ledger, provider, options, limits, clock, stop signal and events."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from orbatch.ledger import (
    AttemptRecord,
    Caps,
    JobRecord,
    Ledger,
    OutputRecord,
    Status,
    job_label,
    parse_timestamp,
    utc_now,
)
from orbatch.money import format_usd
from orbatch.outputs.receipts import ReceiptsWriter
from orbatch.runner.limits import Limits
from orbatch.runner.poll_schedule import backoff, bounded_retry_after
from orbatch_provider import APIError, NotSentError, OutcomeUnknownError

if TYPE_CHECKING:  # types alone: pydantic takes 0.1 s to import, and commands that only read the ledger do without
    from datetime import datetime

    from orbatch.batchfile.models import LimitsConfig
    from orbatch_provider import Generation, GenerationRows, KeyInfo, PartFile, VideoJob

# How long polls and downloads of one job are repeated while the provider does not answer. The next run resumes them;
# without an end, one job that is broken at the provider would keep a run alive for ever.
OUTAGE_LIMIT_S = 2 * 3600.0
OFFLINE_LIMIT_S = 300.0  # without a connection, for a run that has nothing paid to wait for
MIN_PAUSE_S = 1.0  # whatever a Retry-After says


class Clock:
    """Time as the provider has it. ``speed``: 1 for the real API, more for a simulator that runs faster."""

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed

    def now(self) -> float:
        """Seconds on the provider's clock, from an arbitrary start; monotonic, so a changed wall clock is harmless."""
        return time.monotonic() * self.speed

    def real(self, seconds: float) -> float:
        """Real seconds that ``seconds`` of the provider's time take."""
        return seconds / self.speed


Level = Literal["detail", "done", "failed", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. ``level``: a detail is a step of a job on its way; done and failed are its end. ``job``:
    its prompt and model, empty for the run. ``path``: of the output, if there is one."""

    text: str
    job: str = ""
    level: Level = "info"
    path: str = ""


OnEvent = Callable[[Event], None]


class Provider(Protocol):
    """What a run needs of the provider; tests and other backends implement this."""

    @property
    def account(self) -> str:
        """Tells one API key's jobs from another's; never the key itself."""

    @property
    def origin(self) -> str:
        """Scheme, host and port of the API."""

    async def submit(self, request: Any) -> VideoJob:
        """Start a paid video job. Never retried below the runner."""

    async def create_images(self, request: Any, directory: Path, stem: str) -> Any:
        """Buy images; they are in ``directory`` when this returns."""

    async def complete_text(self, request: Any) -> Any:
        """Buy a text."""

    async def poll(self, job_id: str) -> VideoJob:
        """The job as the provider has it now; free."""

    async def receive(self, job_id: str, index: int, part: Path) -> PartFile:
        """Download one output into ``part``, resuming what is there; free."""

    async def generation(self, generation_id: str) -> Generation:
        """The charge of one request, once the provider knows it."""

    async def key(self) -> KeyInfo:
        """Usage and limits of the API key."""

    @property
    def lists_generations(self) -> bool:
        """Whether the account's records can be read."""

    async def generations_between(self, start: datetime, end: datetime, users: Collection[str] = ()) -> GenerationRows:
        """The generations of the account; ``users``: only those whose request had one of these in ``user``."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run a batch: its file's settings, with the command line's in their place. Times in seconds.

    ``attempts``: per job, the first included; ``retry_on``: final statuses that get another; ``only``: glob pattern.
    ``submits`` False: paid jobs are polled and downloaded, and nothing is submitted. ``fresh``: also submit what
    another batch has submitted and has no file of yet.
    """

    limits: LimitsConfig
    caps: Caps
    output_dir: Path
    poll_interval_s: float
    poll_timeout_s: float
    attempts: int = 1
    retry_on: frozenset[Status] = frozenset()
    only: str | None = None
    fail_fast: bool = False
    submits: bool = True
    fresh: bool = False


class StopRun(Exception):
    """Nothing more can be done in this run; ``str()`` says why and what to do."""


class StopSubmits(Exception):
    """Nothing more may be submitted; running jobs are polled and downloaded to their end."""


class StopEvent(asyncio.Event):
    """Set when the run must end; wakes everything that sleeps here.

    Thousands of jobs sleep here, so that a sleep must cost little more than a timer: no task, no ``wait_for``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._sleepers: set[asyncio.Future[None]] = set()

    async def sleep(self, real_s: float) -> None:
        """Return after ``real_s``, or as soon as the event is set."""
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
        """Set it and wake every sleeper."""
        super().set()
        for sleeper in self._sleepers:
            _wake(sleeper)


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


@dataclass(slots=True)
class RunContext:
    """What the steps of one run share. Create it inside the running loop.

    ``block_model``: called with a model and the reason to submit no more of it. ``receipts``: the second record of what
    is submitted.
    """

    ledger: Ledger
    provider: Provider
    options: RunOptions
    clock: Clock
    on_event: OnEvent
    block_model: Callable[[str, str], None]
    receipts: ReceiptsWriter | None = None
    stop: StopEvent = field(default_factory=StopEvent)
    unrecorded: int = 0  # answers that could not be written into the ledger yet
    offline_since: float | None = None  # on the clock; since when no submit could be sent
    limits: Limits = field(init=False)

    def __post_init__(self) -> None:
        self.limits = Limits(self.options.limits, self.clock.speed)

    async def wait(self, real_s: float) -> bool:
        """Sleep; False when the run is being stopped."""
        await self.stop.sleep(real_s)
        return not self.stop.is_set()

    def note_offline(self) -> bool:
        """A request could not be sent. Returns whether that was known already."""
        is_known = self.offline_since is not None
        self.offline_since = self.clock.now() if self.offline_since is None else self.offline_since
        return is_known

    @property
    def is_given_up(self) -> bool:
        """Whether it has been offline for OFFLINE_LIMIT_S."""
        return self.offline_since is not None and self.clock.now() - self.offline_since > OFFLINE_LIMIT_S

    def pause_s(self, error: Exception, failures: int, first_s: float) -> float:
        """Real seconds to wait after ``error``, the ``failures``-th in a row: its Retry-After within bounds, else a
        backoff that begins with ``first_s``.

        A Retry-After of 0, or in the past, would be an invitation to many requests a second; so it counts as none.
        """
        retry_after_s = error.retry_after_s if isinstance(error, APIError) else None
        if retry_after_s is None or retry_after_s < MIN_PAUSE_S:
            return self.clock.real(max(MIN_PAUSE_S, backoff(failures, first_s, random.random())))
        # Retry-After is HTTP's and means real seconds, also where a simulator runs faster.
        return bounded_retry_after(retry_after_s)

    def log(self, job: JobRecord, text: str, level: Level = "info", path: str = "") -> None:
        """Report an event of a job."""
        self.on_event(Event(text, job_label(job.prompt_id, job.variant, job.model), level, path))

    def log_done(self, job: JobRecord, attempt_id: int, records: Sequence[OutputRecord]) -> None:
        """Report the files of a job, one event each; charge and duration with the first."""
        attempt = self.ledger.queries.attempt(attempt_id)
        ended = utc_now() if attempt.completed_at is None else parse_timestamp(attempt.completed_at)
        took_s = max(0.0, (ended - parse_timestamp(attempt.created_at)).total_seconds())
        cost = format_usd(attempt.cost_nusd, "charge not reported yet")
        text = f"{cost} USD" if attempt.cost_nusd is not None else cost
        text = f"{text} · {took_s:.0f} s"
        for number, record in enumerate(records, start=1):
            self.log(job, text, "done", record.path)
            if record.warning:
                self.log(job, f"{Path(record.path).name}: {record.warning}", "warning")
            text = f"output {number + 1} of {len(records)}"

    def leave_for_next_run(self, job: JobRecord, attempt: AttemptRecord, text: str) -> None:
        """Record why this run gives up on a paid job, which keeps its status."""
        text = text.rstrip(".")
        self.ledger.attempts.add_event(job.id, attempt.id, text)
        self.log(job, f"{text}. The job is paid for; run the same command to resume.", "warning")


def retry_text(real_s: float) -> str:
    """When the next try is, for a message. Beside a simulator that runs faster, that is in parts of a second."""
    return f"Retrying in {real_s:.0f} s." if real_s >= 1 else f"Retrying in {max(real_s, 0.1):.1f} s."


def is_outage(error: Exception) -> bool:
    """Whether a failed read says nothing about the job: the provider was unreachable, overloaded or failing."""
    return isinstance(error, (NotSentError, OutcomeUnknownError)) or (
        isinstance(error, APIError) and error.temporary and error.status_code != 409  # 409: the content is not ready
    )
