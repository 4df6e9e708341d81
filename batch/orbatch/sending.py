"""The paid step: send one request whose intent is durable, and record what became of it, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import random
from functools import partial

from orbatch import schedule
from orbatch.expand import job_key
from orbatch.kinds import AnyRequest, request_of
from orbatch.ledger import JobRecord, LeaseLost, LedgerConflict, LedgerError, OnDisk, Reservation
from orbatch.money import show_usd
from orbatch.settling import record_usage
from orbatch.steps import Shared, StopRun, StopSubmits
from orbatch_provider.disk import in_thread
from orbatch_provider.errors import (
    AuthenticationError,
    NotSentError,
    OpenRouterError,
    PaymentRequiredError,
    PermissionDeniedError,
    redact,
)
from orbatch_provider.inputs import PICTURE_FIELDS, InputError, materialise
from orbatch_provider.requests import VideoRequest
from orbatch_provider.responses import VideoJob

FIRST_BACKOFF_S = 5.0
ANSWER_PATIENCE_S = 120.0  # after this a submit counts as uncertain; its answer is still waited for
RECORDING_PAUSES_S = (0.1, 0.5, 2.0, 5.0)  # between tries to write an id into a ledger that refuses


class Sending:
    """submitting -> submitted, rejected, pending or uncertain."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def send(self, job: JobRecord, reservation: Reservation, on_disk: OnDisk | None = None) -> VideoJob | None:
        """The accepted job; None when it ended here. Raises StopRun and StopSubmits, and LedgerError.

        ``on_disk``: of the reservation, None when it is already; nothing leaves before it.

        Whatever else is raised, the attempt is accounted for: released while nothing has left, uncertain after it.
        """
        await self._intend(reservation, on_disk)
        request = await self._request(job, reservation)
        if request is None or not self._may_leave(reservation):
            return None
        assert isinstance(request, VideoRequest)
        sending = asyncio.create_task(self._shared.provider.submit(request))
        late = False
        try:
            answered, _ = await asyncio.wait({sending}, timeout=ANSWER_PATIENCE_S)
            late = not answered
            if late:
                self._doubt_meanwhile(job, reservation)
            accepted = await sending
        except asyncio.CancelledError:
            self._abandon(job, reservation.attempt_id, sending)
            raise
        except OpenRouterError as exc:
            try:
                await self._not_accepted(job, reservation, exc, late=late)
            except LedgerConflict:
                if not late:  # else the user has resolved it while its answer was still to come
                    raise
            return None
        except Exception as exc:
            fault = redact(repr(exc))
            self._doubt_after_fault(job, reservation, fault, late=late)
            raise StopRun(f"Stopped by an unforeseen fault while job {job.id} was being sent: {fault}") from exc
        await self._keep_recording(job, reservation.attempt_id, accepted)
        self._shared.gates.note_success(job.model)
        self._shared.say(job, f"accepted as {accepted.id}{', after all' if late else ''}")
        return accepted

    async def _intend(self, reservation: Reservation, on_disk: OnDisk | None) -> None:
        """Until the intent is on disk. Raises LedgerError when the disk refuses it; then there is no such attempt."""
        if on_disk is None:
            return
        try:
            await asyncio.shield(on_disk)
        except asyncio.CancelledError:
            is_undone = on_disk.done() and on_disk.exception() is not None
            if not is_undone:
                with contextlib.suppress(LedgerError):
                    self._shared.ledger.release(reservation.attempt_id, "orbatch was stopped before the request left")
            raise

    def _may_leave(self, reservation: Reservation) -> bool:
        """The last look before money moves: False when the run is being stopped. Raises LeaseLost when this process
        was frozen for so long that another runner has taken the batch over and given the intent up."""
        if not self._shared.ledger.queries.is_submitting(reservation.attempt_id):
            raise LeaseLost("Another runner has taken this batch over, because this one was silent for too long.")
        if self._shared.stopping.is_set():
            self._shared.ledger.release(reservation.attempt_id, "orbatch was stopped before the request left")
            return False
        return True

    async def _request(self, job: JobRecord, reservation: Reservation) -> AnyRequest | None:
        """The request with its local files in it; None, and rejected, when it is not what was planned."""
        try:
            if _has_pictures(job):
                return await in_thread(_as_planned, job)  # files are read
            return _as_planned(job)
        except (OSError, ValueError) as exc:
            self._shared.ledger.reject(reservation.attempt_id, f"not sent: {exc}")
            self._shared.say(job, f"not sent: {exc}", "error")
            return None
        except BaseException:  # an interruption, or a fault of ours: nothing has left
            with contextlib.suppress(LedgerError):
                self._shared.ledger.release(reservation.attempt_id, "orbatch was stopped before the request left")
            raise

    # -- accepted ---------------------------------------------------------------------------------------------------

    async def _keep_recording(self, job: JobRecord, attempt_id: int, accepted: VideoJob) -> None:
        """The id is worth money: writing it down goes on when the run is torn down meanwhile."""
        recording = asyncio.create_task(self._record(job, attempt_id, accepted))
        try:
            await asyncio.shield(recording)
        except asyncio.CancelledError:
            await recording
            raise

    async def _record(self, job: JobRecord, attempt_id: int, accepted: VideoJob) -> None:
        """A ledger that cannot take the id now is asked again before the run gives up."""
        for number, pause_s in enumerate((*RECORDING_PAUSES_S, None)):
            try:
                ledger = self._shared.ledger
                await ledger.commits.durably(partial(ledger.accept, attempt_id, accepted.id, accepted.generation_id))
            except LedgerConflict as exc:
                self._record_beside(job, attempt_id, accepted.id, exc)
                return
            except LedgerError as exc:
                by_hand = f"`orbatch resolve {job.id} --remote-id {accepted.id}`"
                if pause_s is None:
                    raise StopRun(
                        f"{exc} Job {job.id} was accepted as {accepted.id}, and this could not be recorded: note it, "
                        f"and after the repair run {by_hand}."
                    ) from exc
                if number == 0:  # at once, in case nothing comes after it
                    self._shared.say(job, f"accepted as {accepted.id}, not recorded yet ({exc})", "error")
                await asyncio.sleep(pause_s)
            else:
                return

    def _record_beside(self, job: JobRecord, attempt_id: int, remote_id: str, conflict: LedgerConflict) -> None:
        """The id cannot be written down as the attempt's: another job has it, or the user has resolved the attempt
        meanwhile, perhaps by this very id."""
        attempts = self._shared.ledger.queries.attempts(job.id)
        if any(attempt.id == attempt_id and attempt.remote_id == remote_id for attempt in attempts):
            return
        text = f"the provider accepted it as {remote_id}, which could not be recorded as its id ({conflict})"
        self._shared.say(job, f"{text} It may be charged.", "error")
        try:
            self._shared.ledger.doubt(attempt_id, text)
        except LedgerConflict:
            self._shared.ledger.note(job.id, attempt_id, text)
        raise StopRun(f"Job {job.id}: {text} See `orbatch show {job.id}`.") from conflict

    # -- not accepted -----------------------------------------------------------------------------------------------

    async def _not_accepted(
        self, job: JobRecord, reservation: Reservation, error: OpenRouterError, *, late: bool
    ) -> None:
        attempt_id = reservation.attempt_id
        ledger = self._shared.ledger
        if not error.nothing_started:
            if late:
                ledger.note(job.id, attempt_id, str(error))
            else:
                self._doubt(job, reservation, str(error))
            await record_usage(ledger, self._shared.provider)
            return
        if error.may_resend:
            ledger.release(attempt_id, str(error))
            self._cool_down(job, error)
            return
        if isinstance(error, AuthenticationError):
            ledger.release(attempt_id, str(error))
            raise StopRun(str(error)) from error
        if isinstance(error, PaymentRequiredError) or (isinstance(error, PermissionDeniedError) and error.budget_spent):
            ledger.release(attempt_id, str(error))
            raise StopSubmits(str(error)) from error
        ledger.reject(attempt_id, str(error))
        self._shared.say(job, f"rejected, not charged: {error}", "error")

    def _cool_down(self, job: JobRecord, error: OpenRouterError) -> None:
        """A refusal that cost nothing: this model (or, without a connection, everything) waits."""
        scope = None if isinstance(error, NotSentError) else job.model
        failures = self._shared.gates.note_failure(scope)
        wait_s = self._shared.pause_s(error, schedule.backoff(failures, FIRST_BACKOFF_S, random.random()))
        self._shared.gates.cool_down(scope, wait_s, str(error))
        self._shared.say(job, f"{error} Trying again in {wait_s:.0f} s.", "warning")

    # -- unknown ----------------------------------------------------------------------------------------------------

    def _doubt(self, job: JobRecord, reservation: Reservation, reason: str) -> None:
        self._shared.ledger.doubt(reservation.attempt_id, reason)
        amount = show_usd(reservation.amount_nusd, "an unknown amount of")
        self._shared.say(
            job, f"uncertain ({reason}): it may have been charged, up to {amount} USD stays reserved", "warning"
        )

    def _doubt_meanwhile(self, job: JobRecord, reservation: Reservation) -> None:
        """The answer is still waited for. A ledger that fails now must not keep us from hearing the id; and what
        stands as submitting is reserved all the same, and uncertain for the next run."""
        with contextlib.suppress(LedgerError):
            self._doubt(job, reservation, f"no answer for {ANSWER_PATIENCE_S:.0f} s, still waiting for it")

    def _doubt_after_fault(self, job: JobRecord, reservation: Reservation, fault: str, *, late: bool) -> None:
        with contextlib.suppress(LedgerError):
            if not late:
                self._doubt(job, reservation, f"an unforeseen fault while it was being sent: {fault}")

    def _abandon(self, job: JobRecord, attempt_id: int, sending: asyncio.Task[VideoJob]) -> None:
        """The run is torn down: an answer that is already here counts, everything else is uncertain."""
        sending.cancel()
        if not _is_success(sending):
            with contextlib.suppress(LedgerError):
                self._shared.ledger.doubt(attempt_id, "orbatch was stopped while the request was on its way")
            return
        accepted = sending.result()
        try:
            self._shared.ledger.accept(attempt_id, accepted.id, accepted.generation_id)
        except LedgerError as exc:
            self._shared.say(job, f"accepted as {accepted.id}, which could not be recorded ({exc})", "error")


def _is_success(task: asyncio.Task[VideoJob]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _has_pictures(job: JobRecord) -> bool:
    return any(job.request.get(field) for field in PICTURE_FIELDS)


def _as_planned(job: JobRecord) -> AnyRequest:
    """The request with its local files in it. Raises InputError, a ValueError, when one is not what was planned."""
    request = request_of(job.kind, job.request)
    if not _has_pictures(job):
        return request
    if job_key(request, job.repeat, job.kind) != job.key:
        raise InputError("an input file has changed since the batch was planned; run the batch again")
    return materialise(request)
