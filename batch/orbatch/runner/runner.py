"""Runs one planned batch: one coroutine per job in flight; everything else stays in the ledger."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from typing import Any

from orbatch.ledger import (
    LEASE_S,
    STOP,
    AttemptRecord,
    BatchRecord,
    Caps,
    Control,
    Holder,
    JobRecord,
    LeaseLost,
    Ledger,
    LedgerConflict,
    LedgerError,
    LedgerMoved,
    ModelProgress,
    OnDisk,
    Refused,
    Reservation,
    Status,
    utc_now,
)
from orbatch.outputs.receipts import ReceiptsWriter
from orbatch.plan.overrides import overridden
from orbatch.runner.context import (
    OFFLINE_LIMIT_S,
    Clock,
    Event,
    OnEvent,
    Provider,
    RunContext,
    RunOptions,
    StopRun,
    StopSubmits,
)
from orbatch.runner.download import Downloader
from orbatch.runner.lookup import Finding, is_due, look_up, refusal_text
from orbatch.runner.poll import Poller
from orbatch.runner.poll_schedule import time_left
from orbatch.runner.reconcile import reconcile, record_usage
from orbatch.runner.scheduler import Scheduler
from orbatch.runner.submit import Submitter
from orbatch_provider import OpenRouterError, redact

SUBMITS_PER_TURN = 32  # then running jobs get their turn; these intents share a commit
BACKLOG_PER_DOWNLOAD = 4  # completed jobs that may wait for each download before submits pause
RECONCILE_EVERY_S = 60.0
UNRECORDED_PAUSE_S = 0.1
CONTROLS_EVERY_S = 0.5  # real time: somebody waits for the answer
USAGE_AGE_S = 30.0  # how old the reading of the key's usage before a submit may be
HEARTBEATS_PER_LEASE = 4

_log = logging.getLogger(__name__)


class Stop(Enum):
    """Why a run ended before everything was done."""

    INTERRUPTED = "interrupted"
    FAILED = "failed"  # the provider refuses every request, or the ledger cannot be written
    NO_CREDIT = "no credit"
    FAIL_FAST = "fail fast"
    LEDGER_MOVED = "ledger moved"


# These stop submits only: running jobs are followed to their end, which may still be interrupted.
_STOPS_SUBMITS = frozenset({Stop.NO_CREDIT, Stop.FAIL_FAST, Stop.LEDGER_MOVED})
# What --fail-fast does not take for a failure.
_NOT_FAILED = frozenset({Status.DONE, Status.SUBMITTED, Status.COMPLETED, Status.PENDING})


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended. ``stop`` None: it did all it could. ``over_budget``: pending jobs that the caps left no room
    for; ``blocked``: models that were not submitted further, each with the reason. ``seconds``: how long it took;
    ``caps``: those that held at the end; ``held``: pending jobs whose request another batch has in flight."""

    stop: Stop | None
    message: str
    over_budget: bool
    blocked: Mapping[str, str]
    seconds: float
    caps: Caps
    held: int = 0


class BatchRun:
    """One run of one batch. ``waiting``: why nothing is being submitted at the moment, for the live view.

    ``lease_s``: real seconds of silence after which another runner may take the batch over.
    """

    def __init__(
        self,
        ledger: Ledger,
        batch: BatchRecord,
        provider: Provider,
        options: RunOptions,
        clock: Clock,
        on_event: OnEvent,
        *,
        lease_s: float = LEASE_S,
    ) -> None:
        self._receipts = ReceiptsWriter(ledger, batch)
        self._context = RunContext(ledger, provider, options, clock, on_event, self._block_model, self._receipts)
        self._ledger = ledger
        self._batch = batch
        self._lease_s = lease_s
        self._holder = Holder.this_process()
        self._scheduler = Scheduler(self._context, batch.id)
        self._submitter = Submitter(self._context)
        self._poller = Poller(self._context)
        self._downloader = Downloader(self._context)
        self._tasks: set[asyncio.Task[Any]] = set()  # one for each job that is being driven
        self._submitting: set[asyncio.Task[Any]] = set()  # those whose submit has no answer yet
        self._downloading: set[asyncio.Task[Any]] = set()
        self._wake = asyncio.Event()
        self._stop: Stop | None = None
        self._message = ""
        self._usage_read_at = float("-inf")
        self._reconciling = asyncio.Lock()  # the last look waits for a regular one, and repeats nothing it says
        self._lookup_problem = ""  # said once
        self.waiting: str | None = None

    @property
    def options(self) -> RunOptions:
        """How it runs now; ``orbatch set`` may have changed caps and limits."""
        return self._context.options

    async def run(self) -> RunResult:
        """Drive the batch until nothing is left that can be done. Raises BatchHeld, LedgerError.

        Whatever ends it, the lease is released and every coroutine has ended when this returns.
        """
        began = time.monotonic()
        self._ledger.database.check_single_name()
        self._ledger.database.check_whole()
        self._ledger.leases.claim(self._batch.id, self._holder, utc_now(), self._lease_s)
        self._receipts.start()
        work = (self._heartbeat, self._reconcile_regularly, partial(self._follow_controls, self._newest_control()))
        helpers = [asyncio.create_task(self._watched(each)) for each in work]
        try:
            await self._watched(self._feed)
            await self._until_idle()
            if self._stop is None:
                await self._reconcile()
                await self._until_idle()
        finally:
            tasks = [*helpers, *self._tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for last in (self._receipts.stop, partial(self._ledger.leases.release, self._batch.id, self._holder)):
                with contextlib.suppress(LedgerError):
                    last()
        over_budget = self._set_wait_reasons()  # may fail, and then says so in _stop
        blocked, seconds = dict(self._scheduler.blocked), time.monotonic() - began
        return RunResult(
            self._stop, self._message, over_budget, blocked, seconds, self.options.caps, len(self._scheduler.held)
        )

    async def _until_idle(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)

    def seconds_left(self, progress: Sequence[ModelProgress]) -> float | None:
        """About how many real seconds the run still takes; None while no job of a model has shown how long it is."""
        work = []
        for part in progress:
            waiting = 0 if part.model in self._scheduler.blocked else part.counts[Status.PENDING]
            running = sum(part.counts[status] for status in (Status.SUBMITTING, Status.SUBMITTED, Status.COMPLETED))
            usual_s = self._poller.usual_s(part.model)
            if waiting + running and usual_s is None:
                return None
            work.append((waiting, running, usual_s or 0.0))
        limits = self.options.limits
        return self._context.clock.real(time_left(work, limits.in_flight, limits.submits_per_minute))

    def interrupt(self) -> None:
        """Stop submitting and polling; requests in progress may finish. Cancel the task for a second stop."""
        self._end(Stop.INTERRUPTED, "interrupted")

    def _end(self, stop: Stop, message: str) -> None:
        """Submit nothing more; where ``stop`` stops more than submits, poll and download nothing more either.

        Every message of an end is shown: one of them may hold the id of a paid job.
        """
        if stop in _STOPS_SUBMITS:
            if self._stop is None:
                self._stop, self._message = stop, message
                self._context.on_event(Event(f"submitting stopped: {message}", level="warning"))
        else:
            if self._stop is None or self._stop in _STOPS_SUBMITS:
                self._stop, self._message = stop, message
            elif stop is not Stop.INTERRUPTED and message != self._message:
                self._context.on_event(Event(message, level="error"))
            self._context.stop.set()
            for task in self._downloading:  # it may take minutes, and the next run resumes it
                task.cancel()
        self._wake.set()

    async def _watched(self, work: Callable[[], Awaitable[None]], job: JobRecord | None = None) -> None:
        """No part of a run breaks silently: a failure ends the run in order, and answers on their way are recorded."""
        try:
            await work()
        except Exception as exc:  # noqa: BLE001 - any error ends the run and is reported
            self._end_by(exc, job)

    def _end_by(self, error: Exception, job: JobRecord | None) -> None:
        if isinstance(error, StopSubmits):
            self._end(Stop.NO_CREDIT, str(error))
        elif isinstance(error, LedgerMoved):  # jobs that are paid for are followed to their end, into the receipts
            self._end(Stop.LEDGER_MOVED, str(error))
        elif isinstance(error, (StopRun, LedgerError)):
            self._end(Stop.FAILED, str(error))
        else:
            _log.error("unexpected error", exc_info=error)
            where = f" with job {job.id} ({job.prompt_id} {job.model})" if job is not None else ""
            self._end(
                Stop.FAILED,
                f"Unexpected error{where}: {type(error).__name__}: {redact(str(error))}. Paid jobs are recorded: run "
                "the same command to resume, and please report this.",
            )
        if isinstance(error, LeaseLost):
            # The jobs are another runner's now. Only an answer that is still to come is worth staying for.
            for task in self._tasks - self._submitting:
                task.cancel()

    async def _feed(self) -> None:
        """Resume what an earlier run left, then submit pending jobs while the limits and the caps allow any."""
        self._resume()
        self._scheduler.hold()
        submitted = 0
        while self._stop is None:
            self._wake.clear()
            # Completed jobs are not in flight, so a slow disk or line would let them pile up without end.
            waiting = len(self._tasks) - self._context.limits.in_flight
            is_backlog_long = waiting > self.options.limits.downloads * BACKLOG_PER_DOWNLOAD
            if self._context.unrecorded:
                await self._pause("an answer could not be recorded yet", UNRECORDED_PAUSE_S)
                continue
            choice = self._scheduler.choose() if self.options.submits and not is_backlog_long else None
            if is_backlog_long:
                await self._pause("downloads are slower than completions")
            elif isinstance(choice, JobRecord):
                await self._submit(choice)
                submitted += 1
                if submitted % SUBMITS_PER_TURN == 0:
                    await asyncio.sleep(0)
            elif choice is not None and self._context.is_given_up and not self._tasks:
                minutes = round(OFFLINE_LIMIT_S / 60)
                self._end(
                    Stop.FAILED, f"no connection for {minutes} minutes, and no paid job to wait for: {choice.reason}"
                )
            elif choice is not None:
                await self._pause(choice.reason, choice.seconds)
            elif self._tasks:
                await self._pause()
            else:
                return

    def _resume(self) -> None:
        """Intents without an answer become uncertain; paid jobs are polled and downloaded again."""
        for job_id in self._ledger.attempts.recover_interrupted(self._batch.id):
            text = "uncertain: an earlier run stopped during the submit. It may have been charged."
            self._context.log(self._ledger.queries.job(job_id), text, "warning")
        self._poller.learn_from_ledger()
        self._downloader.sweep_parts()
        for job in self._ledger.queries.open_attempts(self._batch.id):
            assert job.attempt is not None
            self._start(job, job.attempt)

    async def _pause(self, reason: str | None = None, seconds: float | None = None) -> None:
        """Until something changes: a job moved, a limit opens, or the run is stopped."""
        self.waiting = reason
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if seconds is None else max(seconds, 0.001)):
                await self._wake.wait()
        self.waiting = None

    async def _submit(self, job: JobRecord) -> None:
        self._scheduler.take(job)
        now = self._context.clock.now()
        if now - self._usage_read_at > USAGE_AGE_S:  # not one request per submit: evidence if it becomes uncertain
            self._usage_read_at = now
            await record_usage(self._ledger, self._context.provider)
        if self._stop is not None or job.model in self._scheduler.blocked:
            return
        await self._context.limits.take(job.model)
        provider, owner = self._context.provider, self._holder.owner
        try:
            decision, on_disk = self._ledger.commits.take(
                lambda: self._ledger.attempts.reserve(
                    job.id, self.options.caps, owner=owner, origin=provider.origin, account=provider.account
                )
            )
        except LedgerConflict:
            # It was moved since it was read ahead, by a late answer or by another command.
            self._scheduler.forget(job.model)
            return
        if isinstance(decision, Refused):
            self._scheduler.refuse(job)
        else:
            self._start(job, decision, on_disk)

    def _start(self, job: JobRecord, paid: Reservation | AttemptRecord, on_disk: OnDisk | None = None) -> None:
        # Counted here and not when the coroutine begins: the next choice may come before that.
        self._context.limits.enter(job.model)
        task = asyncio.create_task(self._watched(partial(self._drive, job, paid, on_disk), job))
        self._tasks.add(task)
        if isinstance(paid, Reservation):
            self._submitting.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._submitting.discard(task)
        self._scheduler.reconsider()
        self._wake.set()

    async def _drive(self, job: JobRecord, paid: Reservation | AttemptRecord, on_disk: OnDisk | None) -> None:
        """A job from its present status to its end, or to where this run must leave it."""
        await self._advance(job, paid, on_disk)
        if self.options.fail_fast and (status := self._ledger.queries.job(job.id).status) not in _NOT_FAILED:
            self._end(Stop.FAIL_FAST, f"{job.prompt_id} {job.model} is {status}, and --fail-fast is set")

    async def _advance(self, job: JobRecord, paid: Reservation | AttemptRecord, on_disk: OnDisk | None) -> None:
        try:
            if isinstance(paid, Reservation):
                attempt = await self._submitter.submit(job, paid, on_disk)
                self._submitting -= {asyncio.current_task()}
            else:
                attempt = paid
            if attempt is None:
                return
            answer = None
            if attempt.status == Status.SUBMITTED:
                self._downloader.warm_up()
                answer = await self._poller.poll_until_ended(job, attempt, resumed=paid is attempt)
                if answer is None:
                    return
        finally:
            self._context.limits.leave(job.model)
            self._wake.set()
        task = asyncio.current_task()
        assert task is not None  # for the type checker: a coroutine that runs
        self._downloading.add(task)
        try:
            await self._downloader.download(job, attempt, answer)
        finally:
            self._downloading.discard(task)

    def _block_model(self, model: str, reason: str) -> None:
        self._scheduler.block(model, reason)
        self._context.on_event(Event(f"submitting stopped: {reason}", model, "error"))

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / HEARTBEATS_PER_LEASE)
            try:
                self._ledger.database.check_in_place()
                self._ledger.leases.renew(self._batch.id, self._holder, utc_now(), self._lease_s)
                self._receipts.remember()
            except (LeaseLost, LedgerMoved):
                raise
            except LedgerError as exc:
                self._context.on_event(Event(str(exc), level="warning"))

    def _newest_control(self) -> int:
        return self._ledger.controls.newest(self._batch.id)

    async def _follow_controls(self, newest: int) -> None:
        """Do what ``orbatch stop`` and ``orbatch set`` ask for."""
        while True:
            await asyncio.sleep(CONTROLS_EVERY_S)
            with contextlib.suppress(LedgerError):  # busy; the next look will do
                for control in self._ledger.controls.since(self._batch.id, newest):
                    newest = control.id
                    self._follow(control)

    def _follow(self, control: Control) -> None:
        why = f" ({control.reason})" if control.reason else ""
        if control.setting == STOP:
            self._context.on_event(Event(f"Stopping, as `orbatch stop` asks{why}.", level="warning"))
            self.interrupt()
            return
        settings = {} if control.value is None else {control.setting: control.value}
        if not settings:
            text = f"{control.setting} is the batch file's again from the next run on{why}."
            self._context.on_event(Event(text, level="warning"))
            return
        caps, limits = overridden(self.options.caps, self.options.limits, settings)
        self._context.options = replace(self.options, caps=caps, limits=limits)
        self._context.limits.change(limits)
        self._scheduler.follow()
        self._context.on_event(Event(f"{control.setting} is {control.value} from now on{why}.", level="warning"))
        self._wake.set()

    async def _reconcile_regularly(self) -> None:
        while True:
            await self._reconcile()
            await asyncio.sleep(self._context.clock.real(RECONCILE_EVERY_S))

    async def _reconcile(self) -> None:
        # The next one tries again: a charge that cannot be settled now is never worth a stopped run.
        async with self._reconciling:
            with contextlib.suppress(OpenRouterError, LedgerError):
                await self._reconcile_now()

    async def _reconcile_now(self) -> None:
        provider, unsettled = self._context.provider, self._ledger.queries.unsettled(self._batch.id)
        result = await reconcile(self._ledger, provider, unsettled, self.options.caps)
        for model, reason in result.broken.items():
            self._block_model(model, reason)
        if uncertain := self._ledger.queries.uncertain(self._batch.id):
            await record_usage(self._ledger, provider)  # usage lags; the newest reading says most
            await self._look_up(uncertain)
        if result.settled:
            self._scheduler.reconsider()
            self._wake.set()

    async def _look_up(self, uncertain: Sequence[JobRecord]) -> None:
        """Follow the uncertain jobs that the account's records identify, and note what they say about the others."""
        provider, clock = self._context.provider, self._context.clock
        due = [job for job in uncertain if is_due(job, self._poller.usual_s(job.model), clock)]
        if not due or not provider.lists_generations:
            return
        try:
            findings = await look_up(self._ledger, provider, due, clock)
        except OpenRouterError as exc:
            if not exc.temporary and self._lookup_problem != refusal_text(exc):
                self._lookup_problem = refusal_text(exc)
                text = f"Uncertain jobs cannot be looked up: {self._lookup_problem}"
                self._context.on_event(Event(text, level="warning"))
            return
        for finding in findings if self._stop is None else []:
            with contextlib.suppress(LedgerConflict):  # it was resolved by hand meanwhile
                self._follow_up(finding)

    def _follow_up(self, finding: Finding) -> None:
        job, attempt = finding.job, finding.attempt
        if finding.remote_id is not None and finding.is_certain:
            self._ledger.attempts.attach_remote_id(attempt, finding.remote_id)
            self._context.log(job, f"found: {finding.text}", "info")
            found = self._ledger.queries.job(job.id)
            assert found.attempt is not None  # it was attached to one
            self._start(found, found.attempt)
        elif finding.text != job.error:
            self._ledger.attempts.add_event(job.id, attempt.id, finding.text)
            self._context.log(job, f"still uncertain: {finding.text}", "warning")

    def _set_wait_reasons(self) -> bool:
        """Record for each pending job why it was not submitted. Returns whether a cap is the reason for any."""
        if not self.options.submits:
            return False  # it tried none, so it knows no reason
        blocked = self._scheduler.blocked
        try:
            for model, reason in blocked.items():
                self._ledger.attempts.set_wait_reason(self._batch.id, model, reason)
            if self._stop is Stop.NO_CREDIT:
                self._ledger.attempts.set_wait_reason(self._batch.id, None, self._message)
            self._ledger.attempts.set_wait_reasons(
                {
                    job_id: f"batch {batch} has submitted the same request"
                    for job_id, batch in self._scheduler.held.items()
                }
            )
            if self._stop is not None:
                return bool(blocked)
            over_budget = self._ledger.attempts.mark_over_budget(self._batch.id, self.options.caps, self.options.only)
        except LedgerError as exc:
            self._end(Stop.FAILED, str(exc))
            return bool(blocked)
        return over_budget > 0 or bool(blocked)
