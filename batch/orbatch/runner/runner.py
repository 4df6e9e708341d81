"""Runs a batch that stands in the ledger: one coroutine per job in flight, everything else stays on disk."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from enum import Enum

from orbatch.batchfile.models import LimitsConfig
from orbatch.ledger import (
    AttemptRecord,
    BatchRecord,
    Holder,
    JobRecord,
    LeaseLost,
    Ledger,
    LedgerConflict,
    LedgerError,
    OnDisk,
    Reservation,
    utc_now,
)
from orbatch.ledger.budget import Refused
from orbatch.ledger.leases import LEASE_S
from orbatch.ledger.status import Status
from orbatch.outputs import files as outputs
from orbatch.runner.context import Clock, Notify, Progress
from orbatch.runner.driver import Driver, Provider, StopRun, StopSubmits, Terms
from orbatch.runner.limits import Limits, Wait
from orbatch.runner.poll_schedule import Ended, PollSchedule
from orbatch.runner.reconcile import record_usage, settle_unknown
from orbatch.runner.scheduler import Choice, Scheduler
from orbatch_provider.errors import OpenRouterError, redact

SENDS_AT_ONCE = 32  # then running jobs get their turn; these intents share a commit
BACKLOG_PER_DOWNLOAD = 4  # finished jobs that may wait for each download before submits pause
SETTLE_EVERY_S = 60.0
USAGE_AGE_S = 30.0  # how old the reading of the key's usage before a submit may be
HEARTBEATS_PER_LEASE = 4

_log = logging.getLogger(__name__)


class Stop(Enum):
    """Why a run ended before everything was done."""

    INTERRUPTED = "interrupted"
    FAILED = "failed"  # the provider refuses every request, or the ledger cannot be written
    NO_CREDIT = "no credit"
    FAIL_FAST = "fail fast"


# These stop submits only: jobs in flight are followed to their end, which may still be interrupted.
_FOLLOWS_ON = frozenset({Stop.NO_CREDIT, Stop.FAIL_FAST})
# What --fail-fast does not take for a failure.
_GOES_ON = frozenset({Status.DONE, Status.SUBMITTED, Status.COMPLETED, Status.PENDING})


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
    """One run of one batch. ``waiting`` says why nothing is being sent at the moment, for the live view.

    ``lease_s``: real seconds of silence after which another runner may take the batch over.
    """

    def __init__(
        self,
        ledger: Ledger,
        batch: BatchRecord,
        provider: Provider,
        options: Options,
        pace: Clock,
        notify: Notify,
        *,
        lease_s: float = LEASE_S,
    ) -> None:
        self._ledger = ledger
        self._batch = batch
        self._provider = provider
        self._options = options
        self._pace = pace
        self._notify = notify
        self._lease_s = lease_s
        self._holder = Holder.this_process()
        self._gates = Limits(options.limits, pace.speed)
        choice = Choice(options.limits, options.terms.caps, options.only, options.resubmit_uncertain)
        self._feeder = Scheduler(ledger, batch.id, self._gates, pace, choice)
        self._timetable = PollSchedule(options.terms.poll_interval_s)
        self._driver = Driver(
            ledger, provider, self._gates, options.terms, pace, notify, self._timetable, self._block_model
        )
        self._tasks: dict[asyncio.Task[None], str] = {}  # each with the id of its job
        self._sending: set[asyncio.Task[None]] = set()  # those whose submit has no answer yet
        self._wake = asyncio.Event()
        self._submits_stopped = False
        self._stop: Stop | None = None
        self._message = ""
        self._usage_read_at = float("-inf")
        self.waiting: str | None = None

    # -- the run --------------------------------------------------------------------------------------------------

    async def run(self) -> RunResult:
        """Drive the batch until nothing is left that can be done. Raises BatchHeld, LedgerError.

        Whatever ends it, the lease is released and every coroutine has ended when this returns.
        """
        self._ledger.leases.claim(self._batch.id, self._holder, utc_now(), self._lease_s)
        helpers = [asyncio.create_task(self._watched(work)) for work in (self._heartbeat, self._settle_regularly)]
        try:
            await self._watched(self._feed_all)
            await self._drain()
            if self._stop is None:
                await self._settle_once()
        finally:
            await _cancel([*helpers, *self._tasks])
            with contextlib.suppress(LedgerError):
                self._ledger.leases.release(self._batch.id, self._holder)
        over_budget = self._hold_what_does_not_fit()
        return RunResult(self._stop, self._message, over_budget, dict(self._feeder.blocked))

    def interrupt(self) -> None:
        """Stop submitting and polling; requests in the air are let finish. A second stop is the task's cancellation."""
        self._end(Stop.INTERRUPTED, "interrupted")

    def _end(self, stop: Stop, message: str) -> None:
        """Send and poll nothing more. Every message is shown: one of them may hold the id of a paid job."""
        if self._stop is None or self._stop in _FOLLOWS_ON:
            self._stop, self._message = stop, message
        elif stop is not Stop.INTERRUPTED and message != self._message:
            self._notify(Progress(message, level="error"))
        self._driver.stopping.set()
        self._stop_submits()

    def _stop_submits(self, stop: Stop | None = None, message: str = "") -> None:
        """Send nothing more; what runs is followed to its end."""
        if self._stop is None and stop is not None:
            self._stop, self._message = stop, message
            self._notify(Progress(f"nothing more is sent: {message}", level="warning"))
        self._submits_stopped = True
        self._wake.set()

    async def _watched(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """No part of a run breaks silently: a failure ends the run in order, with answers in the air recorded."""
        try:
            await work()
        except Exception as exc:  # noqa: BLE001 - whatever it is, the run ends and says so
            self._end_by(exc)

    def _end_by(self, error: Exception, job: JobRecord | None = None) -> None:
        if isinstance(error, StopSubmits):
            self._stop_submits(Stop.NO_CREDIT, str(error))
        elif isinstance(error, (StopRun, LedgerError)):
            self._end(Stop.FAILED, str(error))
        else:
            _log.error("unexpected error", exc_info=error)
            where = f" with job {job.id} ({job.prompt_id} {job.model})" if job is not None else ""
            self._end(
                Stop.FAILED,
                f"orbatch met an error it does not know{where}: {type(error).__name__}: {redact(str(error))}. What is "
                "paid for is in the ledger, and the next run goes on with it. Please report this.",
            )
        if isinstance(error, LeaseLost):
            # The jobs are another runner's now. Only an answer that is still to come is worth staying for.
            for task in self._tasks.keys() - self._sending:
                task.cancel()

    async def _drain(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)

    # -- feeding --------------------------------------------------------------------------------------------------

    async def _feed_all(self) -> None:
        """Take up what an earlier run left, then send pending jobs while the gates and the caps let any through."""
        self._recover()
        self._feeder.other_runners = self._ledger.leases.other_runners(self._batch.id, utc_now())
        sent = 0
        while not self._submits_stopped:
            self._wake.clear()
            choice = self._backlog() or self._feeder.choose(self._tasks.values())
            if isinstance(choice, JobRecord):
                await self._send(choice)
                sent += 1
                if sent % SENDS_AT_ONCE == 0:
                    await asyncio.sleep(0)
            elif choice is None and not self._tasks:
                return
            else:
                await self._pause(choice)

    def _recover(self) -> None:
        """Intents without an answer become uncertain, paid jobs are taken up again."""
        for job_id in self._ledger.attempts.recover_interrupted(self._batch.id):
            job = self._ledger.queries.job(job_id)
            text = "uncertain: an earlier run was stopped while it was being submitted; it is not sent again"
            self._notify(Progress(text, f"{job.prompt_id} {job.model}", "warning"))
        for model, seconds, took in self._ledger.queries.durations():
            self._timetable.learn((model, seconds), Ended.recorded(took * self._pace.speed))
        self._sweep_parts()
        for job in self._ledger.queries.open_attempts(self._batch.id):
            assert job.attempt is not None
            self._start(job, job.attempt)

    def _sweep_parts(self) -> None:
        """A run that was killed right after recording a file could not remove its part any more."""
        folder = self._options.terms.output_dir
        for part in outputs.parts_below(folder) if folder.is_dir() else ():
            placed = outputs.find_existing(part)
            is_recorded = placed is not None and self._ledger.queries.path_owner(str(placed)) is not None
            if is_recorded or outputs.is_empty(part):
                outputs.discard(part)

    def _backlog(self) -> Wait | None:
        """Finished jobs hold no slot in flight, so a slow disk or line would let them pile up without end."""
        waiting = len(self._tasks) - self._gates.in_flight
        if waiting > self._options.limits.downloads * BACKLOG_PER_DOWNLOAD:
            return Wait("downloads are slower than completions")
        return None

    async def _pause(self, wait: Wait | None) -> None:
        """Until something changes: a job moved, a gate opens, or the run is stopped."""
        self.waiting = wait.reason if wait is not None else None
        timeout = None if wait is None or wait.seconds is None else max(wait.seconds, 0.001)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._wake.wait()
        self.waiting = None

    async def _send(self, job: JobRecord) -> None:
        self._feeder.take(job)
        await self._read_usage()
        if self._submits_stopped or job.model in self._feeder.blocked:
            return
        await self._gates.take(job.model)
        try:
            decision, on_disk = self._ledger.commits.take(
                lambda: self._ledger.attempts.reserve(
                    job.id,
                    self._options.terms.caps,
                    owner=self._holder.owner,
                    origin=self._provider.origin,
                    account=self._provider.account,
                    resubmit=self._options.resubmit_uncertain,
                )
            )
        except LedgerConflict:
            # It was moved since it was read ahead, by a late answer or by another command.
            self._feeder.forget(job.model)
            return
        if isinstance(decision, Refused):
            self._feeder.refuse(job)
            return
        self._start(job, decision, on_disk)

    async def _read_usage(self) -> None:
        """A reading of the key's usage before each submit, not one request per submit: evidence for uncertain ones."""
        now = self._pace.now()
        if now - self._usage_read_at > USAGE_AGE_S:
            self._usage_read_at = now
            await record_usage(self._ledger, self._provider)

    # -- one job --------------------------------------------------------------------------------------------------

    def _start(self, job: JobRecord, paid: Reservation | AttemptRecord, on_disk: OnDisk | None = None) -> None:
        # Counted here and not when the coroutine begins: the next choice may come before that.
        self._gates.enter(job.model)
        task = asyncio.create_task(self._drive(job, paid, on_disk))
        self._tasks[task] = job.id
        if isinstance(paid, Reservation):
            self._sending.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task)
        self._sending.discard(task)
        self._feeder.reconsider()
        self._wake.set()

    async def _drive(self, job: JobRecord, paid: Reservation | AttemptRecord, on_disk: OnDisk | None) -> None:
        """A job from where it stands to its end, or to where this run must leave it."""
        try:
            await self._advance(job, paid, on_disk)
            if self._options.fail_fast:
                self._check_fail_fast(self._ledger.queries.job(job.id))
        except Exception as exc:  # noqa: BLE001 - whatever it is, the run ends and says so
            self._end_by(exc, job)

    def _check_fail_fast(self, job: JobRecord) -> None:
        if job.status not in _GOES_ON:
            text = f"{job.prompt_id} {job.model} is {job.status}, and --fail-fast was given"
            self._stop_submits(Stop.FAIL_FAST, text)

    async def _advance(self, job: JobRecord, paid: Reservation | AttemptRecord, on_disk: OnDisk | None) -> None:
        try:
            attempt = await self._sent(job, paid, on_disk) if isinstance(paid, Reservation) else paid
            seen = None
            if attempt is not None and attempt.status == Status.SUBMITTED:
                seen = await self._driver.follow(job, attempt, resumed=not isinstance(paid, Reservation))
                if seen is None:
                    return
        finally:
            self._gates.leave(job.model)
            self._wake.set()
        if attempt is not None:
            await self._driver.collect(job, attempt, seen)

    async def _sent(self, job: JobRecord, reservation: Reservation, on_disk: OnDisk | None) -> AttemptRecord | None:
        """The attempt, once it is accepted; None when it ended otherwise."""
        accepted = await self._driver.send(job, reservation, on_disk)
        task = asyncio.current_task()
        assert task is not None
        self._sending.discard(task)
        if accepted is None:
            return None
        # Not the job's latest one: with `uncertain: resubmit` a late answer may belong to an earlier attempt.
        return self._ledger.queries.attempt(reservation.attempt_id)

    def _block_model(self, model: str, reason: str) -> None:
        self._feeder.block(model, reason)
        self._notify(Progress(f"no further submits: {reason}", model, "error"))

    # -- beside the jobs ------------------------------------------------------------------------------------------

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / HEARTBEATS_PER_LEASE)
            try:
                self._ledger.leases.renew(self._batch.id, self._holder, utc_now(), self._lease_s)
                self._feeder.other_runners = self._ledger.leases.other_runners(self._batch.id, utc_now())
            except LeaseLost:
                raise
            except LedgerError as exc:
                self._notify(Progress(str(exc), level="warning"))

    async def _settle_regularly(self) -> None:
        while True:
            await self._settle_once()
            await asyncio.sleep(self._pace.real(SETTLE_EVERY_S))

    async def _settle_once(self) -> None:
        # The next one tries again: a bill that cannot be settled now is never worth a stopped run.
        with contextlib.suppress(OpenRouterError, LedgerError):
            unsettled = self._ledger.queries.unsettled(self._batch.id)
            result = await settle_unknown(self._ledger, self._provider, unsettled, self._options.terms.caps)
            for model, reason in result.broken.items():
                self._block_model(model, reason)
            if self._ledger.queries.uncertain(self._batch.id):
                await record_usage(self._ledger, self._provider)  # usage lags; the newest reading says most
            if result.settled:
                self._feeder.reconsider()
                self._wake.set()

    def _hold_what_does_not_fit(self) -> bool:
        """Say beside each pending job why it was not sent. Returns whether a cap is the reason for any."""
        blocked = self._feeder.blocked
        try:
            for model, reason in blocked.items():
                self._ledger.attempts.set_wait_reason(self._batch.id, model, reason)
            if self._stop is Stop.NO_CREDIT:
                self._ledger.attempts.set_wait_reason(self._batch.id, None, self._message)
            if self._stop is not None:
                return bool(blocked)
            held = self._ledger.attempts.mark_over_budget(self._batch.id, self._options.terms.caps, self._options.only)
        except LedgerError as exc:
            self._end(Stop.FAILED, str(exc))
            return bool(blocked)
        return held > 0 or bool(blocked)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
