"""Poll a paid job until the provider has ended it. No failed poll ever ends a job.

``poll_until_ended`` decides when to poll; ``_record_end`` records what the last answer means.
"""

from __future__ import annotations

import random

from orbatch.ledger import AttemptRecord, Charge, JobRecord, Status, parse_timestamp, utc_now
from orbatch.runner.context import OUTAGE_LIMIT_S, RunContext, StopRun, is_outage
from orbatch.runner.poll_schedule import MIN_POLL_INTERVAL_S, Observation, PollSchedule, next_poll
from orbatch.runner.reconcile import charged_text, report_end, report_overrun
from orbatch_provider import (
    COMPLETED,
    ENDED_WITHOUT_RESULT,
    AuthenticationError,
    NotFoundError,
    OpenRouterError,
    PermissionDeniedError,
    VideoJob,
    redact,
)

OUTAGE_REPORTED_AFTER_S = 60.0
FAILURES_REPORTED = 5  # in a row; by then the backoff is at its longest


class Poller:
    """submitted -> completed, failed, cancelled or expired."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._schedule = PollSchedule(context.options.poll_interval_s)

    def learn_from_ledger(self) -> None:
        """Take the jobs of earlier runs into account."""
        for model, seconds, took_s in self._context.ledger.queries.durations():
            # The ledger has when the end was seen, and not how long before it was still running.
            self._schedule.learn((model, seconds), Observation(0.0, took_s * self._context.clock.speed))

    def usual_s(self, model: str) -> float | None:
        """How long a job of this model takes, in the provider's seconds; None while none has ended."""
        return self._schedule.usual_s(model)

    async def poll_until_ended(
        self, job: JobRecord, attempt: AttemptRecord, *, resumed: bool = False
    ) -> VideoJob | None:
        """The last answer about a completed job; None when it ended otherwise or is left for the next run.

        ``resumed``: an earlier run has submitted it. Raises StopRun and LedgerError.
        """
        answer = await self._last_answer(_Watch(self._context, job, attempt, resumed))
        return answer if answer is not None and await self._record_end(job, attempt, answer) else None

    async def _record_end(self, job: JobRecord, attempt: AttemptRecord, answer: VideoJob) -> bool:
        """Record the end of a job and its charge, before any download. True when there are outputs to download."""
        charge = Charge.of(answer.usage, answer.generation_id)
        caps, ledger = self._context.options.caps, self._context.ledger
        status, error = Status(answer.status), None
        if status is not Status.COMPLETED:
            error = redact(answer.error or "") or f"the provider ended it as {status}"
        settlement = await ledger.commits.durably(
            lambda: ledger.attempts.end(attempt.id, status, charge, caps, error=error)
        )
        report_overrun(self._context, job, attempt.id, attempt.reserved_nusd, settlement)
        if error is not None:
            report_end(self._context, job, status, error, charge)
            return False
        self._context.log(job, f"completed, {charged_text(charge)}", "detail")
        return True

    async def _last_answer(self, watch: _Watch) -> VideoJob | None:
        """The answer that ends the job; None when the run stops, or leaves it for the next one."""
        # A run that was stopped right after a submit may be started again before a poll is polite.
        soonest_s = max(0.0, MIN_POLL_INTERVAL_S - watch.age_s)
        pause_s: float | None = self._context.clock.real(soonest_s) if watch.resumed else self._until_next(watch)
        while pause_s is not None and await self._context.wait(pause_s):
            try:
                async with self._context.limits.polls:
                    answer = await self._context.provider.poll(watch.attempt.remote_id or "")
            except AuthenticationError as exc:
                raise StopRun(str(exc)) from exc
            except OpenRouterError as exc:
                pause_s = self._after_failure(watch, exc)
                continue
            if watch.end_outage():
                self._context.log(watch.job, "provider reachable again")
            if answer.status == COMPLETED or answer.status in ENDED_WITHOUT_RESULT:
                if answer.status == COMPLETED and watch.running_s is not None:
                    self._schedule.learn(watch.kind, Observation(watch.running_s, watch.age_s))
                return answer
            pause_s = self._after_answer(watch, redact(answer.status))
        return None

    def _after_answer(self, watch: _Watch, status: str) -> float | None:
        """Real seconds to the next poll of a job that is still running; None when its time is up."""
        timeout_s = self._context.options.poll_timeout_s
        watch.failures = 0
        watch.running_s = watch.age_s
        if status != watch.status:
            watch.status = status
            self._context.log(watch.job, status, "detail")
        if watch.is_over(timeout_s):
            self._context.leave_for_next_run(watch.job, watch.attempt, f"still {status} after {timeout_s:g} s")
            return None
        return self._until_next(watch)

    def _after_failure(self, watch: _Watch, error: OpenRouterError) -> float | None:
        if watch.fail(error):
            self._context.log(watch.job, f"provider unreachable, retrying: {error}", "warning")
        elif watch.failures == 1:
            # A job is visible only to the account that has created it.
            is_hidden = isinstance(error, (NotFoundError, PermissionDeniedError))
            by_other_key = is_hidden and watch.attempt.account != self._context.provider.account
            hint = " It was submitted with another API key." if by_other_key else ""
            self._context.log(watch.job, f"poll failed, retrying: {error}{hint}", "warning" if hint else "info")
        elif watch.failures == FAILURES_REPORTED and not is_outage(error):
            text = f"{watch.failures} polls in a row have failed, polling less often: {error}"
            self._context.log(watch.job, text, "warning")
        options = self._context.options
        if watch.is_over(options.poll_timeout_s):
            self._context.leave_for_next_run(watch.job, watch.attempt, f"polling failed: {error}")
            return None
        return self._context.pause_s(error, watch.failures, options.poll_interval_s)

    def _until_next(self, watch: _Watch) -> float:
        interval_s = self._context.options.poll_interval_s
        pause_s = next_poll(watch.age_s, interval_s, self._schedule.ages(watch.kind), random.random())
        return self._context.clock.real(pause_s)


class _Watch:
    """One job while it is polled: its age, how long this run has waited for it, and how much of that was an outage.

    ``resumed``: it was accepted a while ago. It may have ended long since, so it is polled immediately, and teaches
    nothing unless it is then still running: ``running_s`` is its age when it was last seen running, None until it was.
    An outage does not count towards the timeout: the job cannot be blamed for it.
    """

    def __init__(self, context: RunContext, job: JobRecord, attempt: AttemptRecord, resumed: bool) -> None:
        self.job = job
        self.attempt = attempt
        self.kind = (job.model, job.seconds)
        self.failures = 0  # in a row
        self.status = ""
        now = utc_now()
        since = now if attempt.submitted_at is None else parse_timestamp(attempt.submitted_at)
        passed_s = max(0.0, (now - since).total_seconds())  # a wall clock may jump back
        self._clock = context.clock
        self._began = self._last = context.clock.now()
        self._submitted = self._began - passed_s * context.clock.speed
        self._outage_s = self._excused_s = 0.0
        self._is_reported = False
        self.resumed = resumed or passed_s >= MIN_POLL_INTERVAL_S
        self.running_s: float | None = None if self.resumed else 0.0

    @property
    def age_s(self) -> float:
        return self._clock.now() - self._submitted

    def end_outage(self) -> bool:
        """An answer came. Returns whether it ends an outage that was reported."""
        was_reported = self._is_reported
        self._last = self._clock.now()
        self._outage_s = 0.0
        self._is_reported = False
        return was_reported

    def fail(self, error: Exception) -> bool:
        """A poll failed. True once per outage, when it has lasted for OUTAGE_REPORTED_AFTER_S."""
        self.failures += 1
        if not is_outage(error):
            self.end_outage()
            return False
        passed_s = self._clock.now() - self._last
        self._last += passed_s
        self._outage_s += passed_s
        self._excused_s += passed_s
        if self._is_reported or self._outage_s < OUTAGE_REPORTED_AFTER_S:
            return False
        self._is_reported = True
        return True

    def is_over(self, timeout_s: float) -> bool:
        """Whether the job has had its time, or the outage has lasted for OUTAGE_LIMIT_S."""
        waited_s = self._clock.now() - self._began - self._excused_s
        return waited_s > timeout_s or self._outage_s > OUTAGE_LIMIT_S
