"""One job's way through its lifecycle: send, follow, collect. Each step is durable before the next begins."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from orbatch import outputs, schedule
from orbatch.budget import Caps
from orbatch.collecting import fetch_all
from orbatch.expand import job_key
from orbatch.inputs import InputError, materialise
from orbatch.ledger import AttemptRecord, JobRecord, Ledger, LedgerError, Reservation, Settlement
from orbatch.lifecycle import Status
from orbatch.limits import Gates
from orbatch.money import nusd, show_usd
from orbatch.pace import Pace
from orbatch.progress import Notify, Progress
from orbatch.settling import record_usage
from orbatch_provider.download import Download
from orbatch_provider.errors import (
    APIError,
    AuthenticationError,
    DownloadError,
    GoneError,
    NotFoundError,
    NotSentError,
    OpenRouterError,
    PaymentRequiredError,
    PermissionDeniedError,
)
from orbatch_provider.requests import VideoRequest
from orbatch_provider.responses import COMPLETED, ENDED_WITHOUT_RESULT, VideoJob

if TYPE_CHECKING:
    from orbatch_provider.responses import Generation, KeyInfo

FIRST_BACKOFF_S = 5.0
ANSWER_PATIENCE_S = 120.0  # after this a submit counts as uncertain; its answer is still waited for
DOWNLOAD_TRIES = 5  # in one run; the next run tries again
NOT_READY_TRIES = 12  # 404 and 409 right after completion
OUTAGE_SAID_AFTER_S = 60.0


class Provider(Protocol):
    """What a run needs of the provider."""

    @property
    def account(self) -> str: ...
    @property
    def origin(self) -> str: ...
    async def submit(self, request: VideoRequest) -> VideoJob: ...
    async def poll(self, job_id: str) -> VideoJob: ...
    async def download(self, job_id: str, index: int, part: Path) -> Download: ...
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


class Driver:
    """Drives jobs of one batch. Raises StopRun or StopSubmits for what concerns more than its job; every other fault
    ends in the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        provider: Provider,
        gates: Gates,
        terms: Terms,
        pace: Pace,
        notify: Notify,
        durations: Mapping[tuple[str, int | None], list[float]],
        block_model: Callable[[str, str], None],
    ) -> None:
        self._ledger = ledger
        self._provider = provider
        self._gates = gates
        self._terms = terms
        self._pace = pace
        self._notify = notify
        self._durations = durations
        self._block_model = block_model
        self.stopping = asyncio.Event()

    # -- send -----------------------------------------------------------------------------------------------------

    async def send(self, job: JobRecord, reservation: Reservation) -> VideoJob | None:
        """submitting -> submitted, with the answer; None when the job ended here. The intent is already durable."""
        attempt_id = reservation.attempt_id
        try:
            request = await asyncio.to_thread(_as_planned, job)
        except (OSError, ValueError) as exc:
            self._ledger.reject(attempt_id, f"not sent: {exc}")
            self._say(job, f"not sent: {exc}", "error")
            return None
        sending = asyncio.create_task(self._provider.submit(request))
        answered: set[asyncio.Task[VideoJob]] = set()
        try:
            answered, _ = await asyncio.wait({sending}, timeout=ANSWER_PATIENCE_S)
            if not answered:
                self._doubt(job, attempt_id, f"no answer for {ANSWER_PATIENCE_S:.0f} s", reservation)
            accepted = await sending
        except asyncio.CancelledError:
            self._abandon(attempt_id, sending)
            raise
        except OpenRouterError as exc:
            await self._not_accepted(job, reservation, exc, already_uncertain=not answered)
            return None
        await self._record_acceptance(job, attempt_id, accepted)
        self._gates.note_success(job.model)
        self._say(job, f"accepted as {accepted.id}")
        return accepted

    def _abandon(self, attempt_id: int, sending: asyncio.Task[VideoJob]) -> None:
        """The run is torn down: an answer that is already here counts, everything else is uncertain."""
        with contextlib.suppress(LedgerError):
            if sending.done() and not sending.cancelled() and sending.exception() is None:
                self._ledger.accept(attempt_id, sending.result().id, sending.result().generation_id)
            else:
                sending.cancel()
                self._ledger.doubt(attempt_id, "orbatch was stopped while the request was on its way")

    async def _record_acceptance(self, job: JobRecord, attempt_id: int, accepted: VideoJob) -> None:
        """The id is worth money: a ledger that cannot take it now is asked again before the run gives up."""
        for pause_s in (0.1, 0.5, 2.0, 5.0, None):
            try:
                self._ledger.accept(attempt_id, accepted.id, accepted.generation_id)
            except LedgerError as exc:
                if pause_s is None:
                    raise StopRun(
                        f"{exc} Job {job.id} was accepted as {accepted.id}, and this could not be recorded: note it, "
                        f"and after the repair run `orbatch resolve {job.id} --remote-id {accepted.id}`."
                    ) from exc
                await asyncio.sleep(pause_s)
            else:
                return

    async def _not_accepted(
        self, job: JobRecord, reservation: Reservation, error: OpenRouterError, *, already_uncertain: bool
    ) -> None:
        attempt_id = reservation.attempt_id
        if not error.nothing_started:
            if not already_uncertain:
                self._doubt(job, attempt_id, str(error), reservation)
            await record_usage(self._ledger, self._provider)
            return
        if error.temporary and not already_uncertain:
            self._ledger.release(attempt_id, str(error))
            self._cool_down(job, error)
            return
        if isinstance(error, AuthenticationError):
            self._ledger.release(attempt_id, str(error))
            raise StopRun(str(error)) from error
        if isinstance(error, PaymentRequiredError) or (isinstance(error, PermissionDeniedError) and error.budget_spent):
            self._ledger.release(attempt_id, str(error))
            raise StopSubmits(str(error)) from error
        self._ledger.reject(attempt_id, str(error))
        self._say(job, f"rejected, not charged: {error}", "error")

    def _doubt(self, job: JobRecord, attempt_id: int, reason: str, reservation: Reservation) -> None:
        self._ledger.doubt(attempt_id, reason)
        amount = show_usd(reservation.amount_nusd, "an unknown amount of")
        self._say(job, f"uncertain ({reason}): it may have been charged, up to {amount} USD stays reserved", "warning")

    def _cool_down(self, job: JobRecord, error: OpenRouterError) -> None:
        """A refusal that cost nothing: this model (or, without a connection, everything) waits."""
        scope = None if isinstance(error, NotSentError) else job.model
        failures = self._gates.note_failure(scope)
        fallback = schedule.backoff(failures, FIRST_BACKOFF_S, random.random())
        asked = error.retry_after_s if isinstance(error, APIError) else None
        # Retry-After is an answer of HTTP and means real seconds, also where a simulator runs faster.
        wait = self._pace.real(fallback) if asked is None else schedule.bounded_retry_after(asked)
        self._gates.cool_down(scope, wait, str(error))
        self._say(job, f"{error} Trying again in {wait:.0f} s.", "warning")

    # -- follow ---------------------------------------------------------------------------------------------------

    async def follow(self, job: JobRecord, attempt: AttemptRecord) -> VideoJob | None:
        """submitted -> completed, with the provider's last word; None when it ended otherwise or is left for the next
        run."""
        remote_id = attempt.remote_id
        assert remote_id is not None
        watch = _Watch(self._pace)
        durations = self._durations.get((job.model, job.seconds), [])
        last_status = ""
        failures = 0
        while True:
            wait = schedule.next_poll(watch.age_s, self._terms.poll_interval_s, durations, random.random())
            if failures:
                wait = schedule.backoff(failures, self._terms.poll_interval_s, random.random())
            if not await self._wait(wait):
                return None
            try:
                async with self._gates.polls:
                    seen = await self._provider.poll(remote_id)
            except AuthenticationError as exc:
                raise StopRun(str(exc)) from exc
            except OpenRouterError as exc:
                failures += 1
                watch.outage()
                self._say_poll_failure(job, attempt, exc, failures, watch)
                if watch.is_overdue(self._terms.poll_timeout_s) and not exc.temporary:
                    self._leave(job, attempt, f"it could not be asked for: {exc}")
                    return None
                continue
            if failures and watch.outage_said:
                self._say(job, "the provider answers again")
            failures = 0
            watch.answered()
            if seen.status == COMPLETED:
                return self._complete(job, attempt, seen)
            if seen.status in ENDED_WITHOUT_RESULT:
                self._end(job, attempt, seen)
                return None
            if seen.status != last_status:
                self._say(job, f"{seen.status}")
                last_status = seen.status
            if watch.is_overdue(self._terms.poll_timeout_s):
                self._leave(job, attempt, f"still {seen.status} after {self._terms.poll_timeout_s:g} s")
                return None

    def _complete(self, job: JobRecord, attempt: AttemptRecord, seen: VideoJob) -> VideoJob:
        cost, is_byok = _charge(seen)
        settlement = self._ledger.complete(
            attempt.id, cost, is_byok=is_byok, generation_id=seen.generation_id, caps=self._terms.caps
        )
        self._check_overrun(job, attempt, settlement)
        self._say(job, f"completed, charged {show_usd(cost, 'an amount not known yet,')} USD")
        return seen

    def _end(self, job: JobRecord, attempt: AttemptRecord, seen: VideoJob) -> None:
        cost, is_byok = _charge(seen)
        status = Status(seen.status)
        reason = seen.error or f"the provider ended it as {seen.status}"
        settlement = self._ledger.end(
            attempt.id,
            status,
            reason,
            cost_nusd=cost,
            is_byok=is_byok,
            generation_id=seen.generation_id,
            caps=self._terms.caps,
        )
        self._check_overrun(job, attempt, settlement)
        charged = f"charged {show_usd(cost)} USD" if cost is not None else "no charge reported"
        made = self._ledger.queries.attempts_made(job.id)
        if status in self._terms.retry_on and made < self._terms.attempts and not job.retired:
            self._ledger.reopen([job.id], forgive=False)
            self._say(job, f"{status} ({reason}; {charged}): attempt {made} of {self._terms.attempts}", "warning")
        else:
            self._say(job, f"{status}: {reason} ({charged})", "error")

    def _check_overrun(self, job: JobRecord, attempt: AttemptRecord, settlement: Settlement) -> None:
        if not settlement.overrun_nusd:
            return
        text = (
            f"charged {show_usd(settlement.cost_nusd)} USD, {show_usd(settlement.overrun_nusd)} USD more than the "
            f"{show_usd(attempt.reserved_nusd)} USD reserved"
        )
        self._ledger.note(job.id, attempt.id, text)
        self._say(job, text, "warning")
        if settlement.cap_exceeded is not None:
            self._block_model(
                job.model,
                f"a charge of {job.model} broke {settlement.cap_exceeded}: its price is not what was estimated",
            )

    def _say_poll_failure(
        self, job: JobRecord, attempt: AttemptRecord, error: OpenRouterError, failures: int, watch: _Watch
    ) -> None:
        if isinstance(error, (NotFoundError, PermissionDeniedError)) and attempt.account != self._provider.account:
            self._say(job, f"{error} It was submitted with another API key.", "warning")
        elif watch.outage_s >= OUTAGE_SAID_AFTER_S and not watch.outage_said:
            watch.outage_said = True
            self._say(
                job, f"the provider cannot be reached ({error}); the job is paid for and asked for again", "warning"
            )
        elif failures == 1:
            self._say(job, f"one poll failed ({error}); asking again")

    # -- collect --------------------------------------------------------------------------------------------------

    async def collect(self, job: JobRecord, attempt: AttemptRecord, seen: VideoJob | None) -> None:
        """completed -> done or lost. A disk that does not take the file leaves the job completed, for the next run."""
        tries = 0
        not_ready = 0
        while True:
            try:
                async with self._gates.downloads:
                    if self.stopping.is_set():
                        return
                    records = await fetch_all(self._provider, self._terms.output_dir, job, attempt, seen)
            except GoneError as exc:
                self._ledger.lose(attempt.id, f"paid, but {exc}")
                self._say(job, f"lost: it was paid for, and {exc}", "error")
                return
            except AuthenticationError as exc:
                raise StopRun(str(exc)) from exc
            except OSError as exc:
                self._leave(job, attempt, f"the file could not be written: {exc}")
                return
            except (OpenRouterError, outputs.NotPlayable) as exc:
                if isinstance(exc, APIError) and exc.status_code in (404, 409):
                    not_ready += 1
                    given_up = not_ready >= NOT_READY_TRIES
                else:
                    tries += 1
                    given_up = tries >= DOWNLOAD_TRIES or not _may_download_again(exc)
                if given_up:
                    self._leave(job, attempt, f"the download failed: {exc}")
                    return
                wait = schedule.backoff(tries + not_ready, FIRST_BACKOFF_S, random.random())
                self._say(job, f"download: {exc}; again in {wait:.0f} s", "warning")
                if not await self._wait(wait):
                    return
                continue
            self._ledger.finish(attempt.id, [record for record, _ in records])
            for record, part in records:
                outputs.discard(part)
                warning = f" ({record.warning})" if record.warning else ""
                self._say(job, f"done: {record.path}{warning}", "warning" if record.warning else "info")
            return

    # -- common ---------------------------------------------------------------------------------------------------

    async def _wait(self, seconds: float) -> bool:
        """Sleep; False when the run is being stopped."""
        if self.stopping.is_set():
            return False
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), self._pace.real(seconds))
            return False
        return True

    def _leave(self, job: JobRecord, attempt: AttemptRecord, text: str) -> None:
        """The job stays where it is, paid for; the next run goes on."""
        self._ledger.note(job.id, attempt.id, text)
        self._say(job, f"{text}. It is paid for; run the same command again to go on.", "warning")

    def _say(self, job: JobRecord, text: str, level: str = "info") -> None:
        self._notify(Progress(text, f"{job.prompt_id} {job.model}", level))


class _Watch:
    """How long a job has been followed, on a monotonic clock. Time in which the provider could not be asked does not
    count towards a timeout: the job cannot be blamed for it."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._start = pace.now()
        self._last_answer = self._start
        self._excused_s = 0.0
        self.outage_s = 0.0
        self.outage_said = False

    @property
    def age_s(self) -> float:
        return self._pace.now() - self._start

    def outage(self) -> None:
        self.outage_s = self._pace.now() - self._last_answer

    def answered(self) -> None:
        self._excused_s += self.outage_s
        self.outage_s = 0.0
        self.outage_said = False
        self._last_answer = self._pace.now()

    def is_overdue(self, timeout_s: float) -> bool:
        return self.age_s - self._excused_s > timeout_s


def _charge(seen: VideoJob) -> tuple[int | None, bool]:
    if seen.usage is None or seen.usage.cost is None:
        return None, seen.usage is not None and seen.usage.is_byok
    return nusd(seen.usage.cost), seen.usage.is_byok


def _as_planned(job: JobRecord) -> VideoRequest:
    """The request with its local files in it. Raises InputError, a ValueError, when one is not what was planned."""
    request = VideoRequest.from_body(job.request)
    if job_key(request, job.repeat, job.kind) != job.key:
        raise InputError("an input file has changed since the batch was planned; run the batch again")
    return materialise(request)


def _may_download_again(error: Exception) -> bool:
    return isinstance(error, (DownloadError, outputs.NotPlayable)) or (
        isinstance(error, OpenRouterError) and error.temporary
    )
