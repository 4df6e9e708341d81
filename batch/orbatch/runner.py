"""Runs a batch that stands in the ledger: one coroutine per job in flight, everything else stays on disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from orbatch import outputs
from orbatch.budget import Refused, room
from orbatch.config import LimitsConfig, ModelLimits
from orbatch.driver import Driver, Provider, StopRun, StopSubmits, Terms
from orbatch.ledger import BatchRecord, Holder, JobRecord, LeaseLost, Ledger, LedgerError, Reservation, utc_now
from orbatch.ledger.leases import HEARTBEAT_S
from orbatch.lifecycle import Status
from orbatch.limits import Gates, Wait
from orbatch.pace import Pace
from orbatch.progress import Notify, Progress
from orbatch.schedule import HISTORY_KEPT
from orbatch.settling import record_usage, settle_unknown

CANDIDATES = 32  # pending jobs read ahead per model
BACKLOG_PER_DOWNLOAD = 4  # finished jobs that may wait for each download before submits pause
SETTLE_EVERY_S = 60.0
USAGE_AGE_S = 30.0  # how old the reading of the key's usage before a submit may be
RESUBMITS = 2  # attempts that `uncertain: resubmit` may leave uncertain for one job


class Stop(Enum):
    """Why a run ended before everything was done."""

    INTERRUPTED = "interrupted"
    FAILED = "failed"  # the provider refuses every request, or the ledger cannot be written
    NO_CREDIT = "no credit"
    FAIL_FAST = "fail fast"


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended. ``stop`` None: it did all it could. ``over_budget``: pending jobs that the caps left no room
    for; ``blocked``: models that were not submitted further, each with the reason."""

    stop: Stop | None
    message: str
    over_budget: bool
    blocked: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Options:
    """How to run: limits, terms, and what the command line added."""

    limits: LimitsConfig
    terms: Terms
    only: str | None = None
    fail_fast: bool = False
    resubmit_uncertain: bool = False


class BatchRun:
    """One run of one batch. ``waiting`` says why nothing is being sent at the moment, for the live view."""

    def __init__(
        self, ledger: Ledger, batch: BatchRecord, provider: Provider, options: Options, pace: Pace, notify: Notify
    ) -> None:
        self._ledger = ledger
        self._batch = batch
        self._provider = provider
        self._options = options
        self._pace = pace
        self._notify = notify
        self._gates = Gates(options.limits, pace.speed)
        self._holder = Holder.this_process()
        self._durations: dict[tuple[str, int | None], list[float]] = {}
        self._driver = Driver(
            ledger, provider, self._gates, options.terms, pace, notify, self._durations, self._block_model
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._following = 0  # coroutines alive; those not in flight wait for a download
        self._models: list[str] | None = None  # those with pending jobs; None when a job was reopened since
        self._candidates: dict[str, deque[JobRecord]] = {}
        self._refused: set[str] = set()
        self._blocked: dict[str, str] = {}
        self._wake = asyncio.Event()
        self._submits_stopped = False
        self._stop: Stop | None = None
        self._message = ""
        self._other_runners = 0
        self._started = utc_now()
        self._usage_read_at = float("-inf")
        self.waiting: str | None = None

    # -- the run --------------------------------------------------------------------------------------------------

    async def run(self) -> RunResult:
        """Drive the batch until nothing is left that can be done. Raises BatchHeld, LedgerError.

        Whatever ends it, the lease is released and every coroutine has ended when this returns.
        """
        self._ledger.leases.claim(self._batch.id, self._holder, utc_now())
        helpers = [asyncio.create_task(self._heartbeat()), asyncio.create_task(self._settle_regularly())]
        try:
            self._recover()
            await self._feed()
            await self._drain()
            if self._stop is None:
                await self._settle_once()
        finally:
            await _cancel([*helpers, *self._tasks])
            with contextlib.suppress(LedgerError):
                self._ledger.leases.release(self._batch.id, self._holder)
        return RunResult(self._stop, self._message, self._hold_what_does_not_fit(), dict(self._blocked))

    def interrupt(self) -> None:
        """Stop submitting and polling; requests in the air are let finish. A second stop is the task's cancellation."""
        self._end(Stop.INTERRUPTED, "interrupted")

    def _end(self, stop: Stop, message: str) -> None:
        if self._stop is None:
            self._stop, self._message = stop, message
        self._submits_stopped = True
        self._driver.stopping.set()
        self._wake.set()

    def _recover(self) -> None:
        """What an earlier run left: intents without an answer become uncertain, paid jobs are taken up again."""
        for job_id in self._ledger.doubt_interrupted(self._batch.id):
            job = self._ledger.queries.job(job_id)
            text = "uncertain: an earlier run was stopped while it was being submitted; it is not sent again"
            self._notify(Progress(text, f"{job.prompt_id} {job.model}", "warning"))
        for model, seconds, took in self._ledger.queries.durations():
            self._learn(model, seconds, took)
        self._sweep_parts()
        for job in self._ledger.queries.open_attempts(self._batch.id):
            self._start(job, None)

    def _sweep_parts(self) -> None:
        """A run that was killed right after recording a file could not remove its part any more."""
        folder = self._options.terms.output_dir
        for part in outputs.parts_below(folder) if folder.is_dir() else ():
            placed = outputs.find_placed(part)
            if placed is not None and self._ledger.queries.path_owner(str(placed)) is not None:
                outputs.discard(part)

    async def _drain(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)

    # -- feeding --------------------------------------------------------------------------------------------------

    async def _feed(self) -> None:
        """Send pending jobs while the gates and the caps let any through, until none is left."""
        while not self._submits_stopped:
            self._wake.clear()
            choice = self._choose()
            if isinstance(choice, JobRecord):
                await self._send(choice)
            elif choice is None and not self._tasks:
                return
            else:
                await self._pause(choice)

    async def _pause(self, wait: Wait | None) -> None:
        """Until something changes: a job moved, a gate opens, or the run is stopped."""
        self.waiting = wait.reason if wait is not None else None
        timeout = None if wait is None or wait.seconds is None else max(wait.seconds, 0.001)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), timeout)
        self.waiting = None

    def _choose(self) -> JobRecord | Wait | None:
        """The next job that may be sent now; or why it must wait; or None when there is none to send."""
        backlog = self._following - self._gates.in_flight
        if backlog > self._options.limits.downloads * BACKLOG_PER_DOWNLOAD:
            return Wait("downloads are slower than completions")
        waits: list[Wait] = []
        ready: list[JobRecord] = []
        for model in self._models_to_send():
            candidate = self._candidate(model)
            if candidate is None:
                continue
            wait = self._why_not(model)
            if wait is None:
                ready.append(candidate)
            else:
                waits.append(wait)
        if ready:
            return min(ready, key=lambda job: job.position)
        timed = [wait for wait in waits if wait.seconds is not None]
        return min(timed, key=lambda wait: wait.seconds or 0.0) if timed else waits[0] if waits else None

    def _models_to_send(self) -> list[str]:
        if self._models is None:
            self._models = self._ledger.queries.pending_models(self._batch.id, self._options.only)
            if self._options.resubmit_uncertain:
                self._models += [job.model for job in self._uncertain_to_resubmit()]
            self._models = list(dict.fromkeys(self._models))
        return [model for model in self._models if model not in self._blocked]

    def _candidate(self, model: str) -> JobRecord | None:
        """The first pending job of this model whose worst case fits under the caps now."""
        queue = self._candidates.setdefault(model, deque())
        if not queue:
            caps = self._options.terms.caps
            left = room(model, caps, self._ledger.committed(self._batch.id, model)) if caps.apply_to(model) else None
            found = self._ledger.queries.next_pending(
                self._batch.id,
                model,
                room_nusd=left,
                unpriced_nusd=caps.unpriced,
                limit=CANDIDATES + len(self._refused),
                only=self._options.only,
            )
            if self._options.resubmit_uncertain:
                found += [job for job in self._uncertain_to_resubmit() if job.model == model]
            queue.extend(job for job in found if job.id not in self._refused)
        return queue[0] if queue else None

    def _uncertain_to_resubmit(self) -> list[JobRecord]:
        return [
            job
            for job in self._ledger.queries.uncertain(self._batch.id)
            if job.status is Status.UNCERTAIN
            and not job.retired
            and job.id not in self._refused
            and job.attempt is not None
            and self._ledger.queries.attempts_made(job.id) < RESUBMITS
        ]

    def _why_not(self, model: str) -> Wait | None:
        elsewhere, of_model = 0, 0
        if self._other_runners:
            now = utc_now()
            elsewhere = self._ledger.queries.in_flight_elsewhere(self._batch.id, None, now)
            of_model = self._ledger.queries.in_flight_elsewhere(self._batch.id, model, now)
        return self._gates.why_not(model, elsewhere, of_model) or self._shared_rate(model)

    def _shared_rate(self, model: str) -> Wait | None:
        """Submits of the last minute by other runs on this ledger, or by this batch's run before it was stopped."""
        minute = timedelta(seconds=self._pace.real(60))
        if not self._other_runners and utc_now() - self._started > minute:
            return None
        since = utc_now() - minute
        of_model = self._options.limits.models.get(model, ModelLimits()).submits_per_minute
        for limit, scope in ((self._options.limits.submits_per_minute, None), (of_model, model)):
            if limit is not None and self._ledger.queries.recent_submits(since, scope) >= limit:
                return Wait("rate limit of submits, shared with the other runs on this ledger", self._pace.real(1.0))
        return None

    async def _send(self, job: JobRecord) -> None:
        self._candidates[job.model].popleft()
        await self._read_usage()
        if self._submits_stopped or job.model in self._blocked:
            return
        await self._gates.take(job.model)
        try:
            decision = self._ledger.reserve(
                job.id,
                self._options.terms.caps,
                owner=self._holder.owner,
                origin=self._provider.origin,
                account=self._provider.account,
                resubmit=self._options.resubmit_uncertain,
            )
        except LeaseLost as exc:
            self._end(Stop.FAILED, str(exc))
            return
        if isinstance(decision, Refused):
            # Its room has gone since it was chosen; what fits is asked for again when something settles.
            self._refused.add(job.id)
            self._candidates.pop(job.model, None)
            return
        self._start(job, decision)

    async def _read_usage(self) -> None:
        """A reading of the key's usage before each submit, not one request per submit: evidence for uncertain ones."""
        now = self._pace.now()
        if now - self._usage_read_at > USAGE_AGE_S:
            self._usage_read_at = now
            await record_usage(self._ledger, self._provider)

    # -- one job --------------------------------------------------------------------------------------------------

    def _start(self, job: JobRecord, reservation: Reservation | None) -> None:
        task = asyncio.create_task(self._drive(job, reservation))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake.set()

    async def _drive(self, job: JobRecord, reservation: Reservation | None) -> None:
        """A job from where it stands to its end, or to where this run must leave it."""
        self._following += 1
        try:
            await self._advance(job, reservation)
        except StopRun as exc:
            self._end(Stop.FAILED, str(exc))
        except LedgerError as exc:
            self._end(Stop.FAILED, str(exc))
        except StopSubmits as exc:
            self._submits_stopped = True
            if self._stop is None:
                self._stop, self._message = Stop.NO_CREDIT, str(exc)
        finally:
            self._following -= 1
            self._refused.clear()  # something may have settled, so what did not fit may fit now
            self._models = None  # and a failed job may be pending again
        if self._options.fail_fast and self._stop is None:
            status = self._ledger.queries.job(job.id).status
            if status not in (Status.DONE, Status.SUBMITTED, Status.COMPLETED, Status.PENDING):
                self._stop_submits(
                    Stop.FAIL_FAST, f"{job.prompt_id} {job.model} is {status}, and --fail-fast was given"
                )

    def _stop_submits(self, stop: Stop, message: str) -> None:
        self._submits_stopped = True
        self._stop, self._message = stop, message
        self._wake.set()

    async def _advance(self, job: JobRecord, reservation: Reservation | None) -> None:
        seen = None
        self._gates.enter(job.model)
        try:
            if reservation is not None:
                if await self._driver.send(job, reservation) is None:
                    return
                job = self._ledger.queries.job(job.id)
            attempt = job.attempt
            assert attempt is not None
            if attempt.status == Status.SUBMITTED:
                started = self._pace.now()
                seen = await self._driver.follow(job, attempt)
                if seen is None:
                    return
                if reservation is not None:
                    self._learn(job.model, job.seconds, self._pace.now() - started)
        finally:
            self._gates.leave(job.model)
            self._wake.set()
        await self._driver.collect(job, attempt, seen)

    def _learn(self, model: str, seconds: int | None, took: float) -> None:
        known = self._durations.setdefault((model, seconds), [])
        known.append(took)
        known.sort()
        if len(known) > HISTORY_KEPT:
            # Thin evenly, so that the shape of the distribution stays.
            del known[::2]

    def _block_model(self, model: str, reason: str) -> None:
        self._blocked[model] = reason
        self._candidates.pop(model, None)
        self._notify(Progress(f"no further submits: {reason}", model, "error"))

    # -- beside the jobs ------------------------------------------------------------------------------------------

    async def _heartbeat(self) -> None:
        while True:
            self._other_runners = self._ledger.leases.other_runners(self._batch.id, utc_now())
            await asyncio.sleep(HEARTBEAT_S)
            try:
                self._ledger.leases.renew(self._batch.id, self._holder, utc_now())
            except LeaseLost as exc:
                self._end(Stop.FAILED, str(exc))
                return
            except LedgerError as exc:
                self._notify(Progress(str(exc), level="warning"))

    async def _settle_regularly(self) -> None:
        while True:
            await self._settle_once()
            await asyncio.sleep(self._pace.real(SETTLE_EVERY_S))

    async def _settle_once(self) -> None:
        unsettled = self._ledger.queries.unsettled(self._batch.id)
        if not unsettled:
            return
        with contextlib.suppress(Exception):  # the next one tries again; a settled bill is never worth a stopped run
            result = await settle_unknown(self._ledger, self._provider, unsettled, self._options.terms.caps)
            if result.settled:
                self._refused.clear()
                self._wake.set()

    def _hold_what_does_not_fit(self) -> bool:
        """Say beside each pending job why it was not sent. Returns whether a cap is the reason for any."""
        for model, reason in self._blocked.items():
            self._ledger.hold_pending(self._batch.id, model, reason)
        if self._stop is Stop.NO_CREDIT:
            self._ledger.hold_pending(self._batch.id, None, self._message)
        if self._stop is not None:
            return bool(self._blocked)
        held = self._ledger.hold_over_budget(self._batch.id, self._options.terms.caps, self._options.only)
        return held > 0 or bool(self._blocked)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
