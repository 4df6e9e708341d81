"""The patient step: ask for a paid job until the provider is done with it. No fault of a poll ever ends the job."""

from __future__ import annotations

import random

from orbatch.ledger import AttemptRecord, Charge, JobRecord, Settlement, utc_now
from orbatch.ledger.database import parse_timestamp
from orbatch.ledger.status import Status
from orbatch.money import format_usd, to_nano
from orbatch.runner import poll_schedule
from orbatch.runner.context import Clock, PollDeadline, RunContext, StopRun
from orbatch.runner.poll_schedule import Ended, PollSchedule
from orbatch.runner.retry import BlockModel, check_overrun, say_ended
from orbatch_provider.errors import AuthenticationError, NotFoundError, OpenRouterError, PermissionDeniedError, redact
from orbatch_provider.responses import COMPLETED, ENDED_WITHOUT_RESULT, VideoJob


class Poller:
    """submitted -> completed, failed, cancelled or expired."""

    def __init__(
        self,
        shared: RunContext,
        timetable: PollSchedule,
        block_model: BlockModel,
    ) -> None:
        self._context = shared
        self._timetable = timetable
        self._block_model = block_model

    async def follow(self, job: JobRecord, attempt: AttemptRecord, *, resumed: bool = False) -> VideoJob | None:
        """The provider's last word on a completed job; None when it ended otherwise or is left for the next run.

        ``resumed``: an earlier run has submitted it. Raises StopRun and LedgerError.
        """
        remote_id = attempt.remote_id
        assert remote_id is not None
        patience = PollDeadline(self._context.pace)
        life = _Life(job, attempt, self._context.pace, resumed=resumed)
        last_status = ""
        failures = 0
        pause_s = self._until_soonest_poll(life) if life.is_resumed else self._until_next_poll(life)
        while await self._context.wait(pause_s):
            try:
                async with self._context.gates.polls:
                    seen = await self._context.provider.poll(remote_id)
            except AuthenticationError as exc:
                raise StopRun(str(exc)) from exc
            except OpenRouterError as exc:
                failures += 1
                patience.failed(exc)
                self._say_failure(job, attempt, exc, failures, patience)
                if patience.is_over(self._context.terms.poll_timeout_s):
                    self._context.leave(job, attempt, f"it could not be asked for: {exc}")
                    return None
                backoff_s = poll_schedule.backoff(failures, self._context.terms.poll_interval_s, random.random())
                pause_s = self._context.pause_s(exc, backoff_s)
                continue
            if patience.answered():
                self._context.say(job, "the provider answers again")
            failures = 0
            if seen.status == COMPLETED:
                life.ended(self._timetable)
                return await self._complete(job, attempt, seen)
            if seen.status in ENDED_WITHOUT_RESULT:
                self._end(job, attempt, seen)
                return None
            if seen.status != last_status:
                self._context.say(job, redact(seen.status))
                last_status = seen.status
            if patience.is_over(self._context.terms.poll_timeout_s):
                self._context.leave(
                    job, attempt, f"still {redact(seen.status)} after {self._context.terms.poll_timeout_s:g} s"
                )
                return None
            life.was_running()
            pause_s = self._until_next_poll(life)
        return None

    def _until_soonest_poll(self, life: _Life) -> float:
        """Real seconds. A run that was stopped right after a submit may be started again before a poll is polite."""
        return self._context.pace.real(max(0.0, poll_schedule.MIN_POLL_INTERVAL_S - life.age_s))

    def _until_next_poll(self, life: _Life) -> float:
        """Real seconds."""
        interval_s = self._context.terms.poll_interval_s
        ages = self._timetable.ages(life.kind)
        return self._context.pace.real(poll_schedule.next_poll(life.age_s, interval_s, ages, random.random()))

    def _say_failure(
        self, job: JobRecord, attempt: AttemptRecord, error: OpenRouterError, failures: int, patience: PollDeadline
    ) -> None:
        if patience.outage_worth_saying():
            text = f"the provider cannot be reached ({error}); the job is paid for, and is asked for again"
            self._context.say(job, text, "warning")
        elif failures == 1:
            by_other_key = isinstance(error, (NotFoundError, PermissionDeniedError)) and (
                attempt.account != self._context.provider.account
            )
            hint = " It was submitted with another API key." if by_other_key else ""
            self._context.say(
                job, f"one poll failed ({error}{hint}); the job is asked for again", "warning" if hint else "info"
            )

    async def _complete(self, job: JobRecord, attempt: AttemptRecord, seen: VideoJob) -> VideoJob:
        cost, is_byok = _charge(seen)
        ledger = self._context.ledger
        settlement = await ledger.commits.durably(
            lambda: ledger.attempts.end(
                attempt.id, Status.COMPLETED, Charge(cost, is_byok, seen.generation_id), self._context.terms.caps
            )
        )
        self._check_overrun(job, attempt, settlement)
        self._context.say(job, f"completed, charged {format_usd(cost, 'an amount not known yet,')} USD")
        return seen

    def _end(self, job: JobRecord, attempt: AttemptRecord, seen: VideoJob) -> None:
        cost, is_byok = _charge(seen)
        status = Status(seen.status)
        reason = redact(seen.error or "") or f"the provider ended it as {seen.status}"
        settlement = self._context.ledger.attempts.end(
            attempt.id,
            status,
            Charge(cost, is_byok, seen.generation_id),
            self._context.terms.caps,
            error=reason,
        )
        self._check_overrun(job, attempt, settlement)
        say_ended(self._context, job, status, reason, cost)

    def _check_overrun(self, job: JobRecord, attempt: AttemptRecord, settlement: Settlement) -> None:
        check_overrun(self._context, self._block_model, job, attempt, settlement)


class _Life:
    """A job's age since its acceptance, and when it was last seen running: what the timetable learns from.

    ``is_resumed``: it was accepted by an earlier run. It may have ended long ago, so it is asked for at once, and
    teaches nothing unless it is then still running.
    """

    def __init__(self, job: JobRecord, attempt: AttemptRecord, pace: Clock, *, resumed: bool) -> None:
        self.kind = (job.model, job.seconds)
        self._pace = pace
        since = utc_now() if attempt.submitted_at is None else parse_timestamp(attempt.submitted_at)
        passed_s = max(0.0, (utc_now() - since).total_seconds())
        self.is_resumed = resumed or passed_s >= poll_schedule.MIN_POLL_INTERVAL_S
        self._start = pace.now() - passed_s * pace.speed
        self._running_s: float | None = None if self.is_resumed else 0.0

    @property
    def age_s(self) -> float:
        return self._pace.now() - self._start

    def was_running(self) -> None:
        self._running_s = self.age_s

    def ended(self, timetable: PollSchedule) -> None:
        if self._running_s is not None:
            timetable.learn(self.kind, Ended(self._running_s, self.age_s))


def _charge(seen: VideoJob) -> tuple[int | None, bool]:
    if seen.usage is None or seen.usage.cost is None:
        return None, seen.usage is not None and seen.usage.is_byok
    return to_nano(seen.usage.cost), seen.usage.is_byok
