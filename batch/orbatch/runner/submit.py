"""The paid step: send one request whose intent is durable, and record what became of it, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from orbatch.ledger import Charge, JobRecord, LeaseLost, LedgerConflict, LedgerError, OnDisk, Reservation, Settlement
from orbatch.ledger.status import Status
from orbatch.money import format_usd, to_nano
from orbatch.outputs import files as outputs
from orbatch.plan.jobs import job_key
from orbatch.plan.kinds import AnyRequest, request_of
from orbatch.runner import poll_schedule
from orbatch.runner.context import RunContext, StopRun, StopSubmits
from orbatch.runner.reconcile import record_usage
from orbatch.runner.results import Place, SavedFile, SaveError, UnusableText, keep_pictures, keep_text, keep_unusable
from orbatch.runner.retry import BlockModel, check_overrun, say_ended
from orbatch_provider.download import run_in_disk_pool
from orbatch_provider.errors import (
    AuthenticationError,
    NotSentError,
    OpenRouterError,
    PaymentRequiredError,
    PermissionDeniedError,
    UnusableResultError,
    redact,
)
from orbatch_provider.images import ImagesResult
from orbatch_provider.inputs import PICTURE_FIELDS, InputError, materialise
from orbatch_provider.requests import ImageRequest, TextRequest, VideoRequest
from orbatch_provider.responses import Usage, VideoJob
from orbatch_provider.texts import TextResult

FIRST_BACKOFF_S = 5.0
ANSWER_PATIENCE_S = 120.0  # after this a submit counts as uncertain; its answer is still waited for
RECORDING_PAUSES_S = (0.1, 0.5, 2.0, 5.0)  # between tries to write an id into a ledger that refuses


class Sending:
    """submitting -> submitted, rejected, pending or uncertain."""

    def __init__(self, shared: RunContext) -> None:
        self._context = shared

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
        sending = asyncio.create_task(self._context.provider.submit(request))
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
        self._context.gates.note_success(job.model)
        self._context.say(job, f"accepted as {accepted.id}{', after all' if late else ''}")
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
                    self._context.ledger.attempts.release(
                        reservation.attempt_id, "orbatch was stopped before the request left"
                    )
            raise

    def _may_leave(self, reservation: Reservation) -> bool:
        """The last look before money moves: False when the run is being stopped. Raises LeaseLost when this process
        was frozen for so long that another runner has taken the batch over and given the intent up."""
        if not self._context.ledger.queries.is_submitting(reservation.attempt_id):
            raise LeaseLost("Another runner has taken this batch over, because this one was silent for too long.")
        if self._context.stopping.is_set():
            self._context.ledger.attempts.release(reservation.attempt_id, "orbatch was stopped before the request left")
            return False
        return True

    async def _request(self, job: JobRecord, reservation: Reservation) -> AnyRequest | None:
        """The request with its local files in it; None, and rejected, when it is not what was planned."""
        try:
            if _has_pictures(job):
                return await run_in_disk_pool(_as_planned, job)  # files are read
            return _as_planned(job)
        except (OSError, ValueError) as exc:
            self._context.ledger.attempts.reject(reservation.attempt_id, f"not sent: {exc}")
            self._context.say(job, f"not sent: {exc}", "error")
            return None
        except BaseException:  # an interruption, or a fault of ours: nothing has left
            with contextlib.suppress(LedgerError):
                self._context.ledger.attempts.release(
                    reservation.attempt_id, "orbatch was stopped before the request left"
                )
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
                ledger = self._context.ledger
                await ledger.commits.durably(
                    partial(ledger.attempts.accept, attempt_id, accepted.id, accepted.generation_id)
                )
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
                    self._context.say(job, f"accepted as {accepted.id}, not recorded yet ({exc})", "error")
                await asyncio.sleep(pause_s)
            else:
                return

    def _record_beside(self, job: JobRecord, attempt_id: int, remote_id: str, conflict: LedgerConflict) -> None:
        """The id cannot be written down as the attempt's: another job has it, or the user has resolved the attempt
        meanwhile, perhaps by this very id."""
        attempts = self._context.ledger.queries.attempts(job.id)
        if any(attempt.id == attempt_id and attempt.remote_id == remote_id for attempt in attempts):
            return
        text = f"the provider accepted it as {remote_id}, which could not be recorded as its id ({conflict})"
        self._context.say(job, f"{text} It may be charged.", "error")
        try:
            self._context.ledger.attempts.mark_uncertain(attempt_id, text)
        except LedgerConflict:
            self._context.ledger.attempts.add_event(job.id, attempt_id, text)
        raise StopRun(f"Job {job.id}: {text} See `orbatch show {job.id}`.") from conflict

    # -- not accepted -----------------------------------------------------------------------------------------------

    async def _not_accepted(
        self, job: JobRecord, reservation: Reservation, error: OpenRouterError, *, late: bool
    ) -> None:
        attempt_id = reservation.attempt_id
        ledger = self._context.ledger
        if not error.nothing_started:
            if late:
                ledger.attempts.add_event(job.id, attempt_id, str(error))
            else:
                self._doubt(job, reservation, str(error))
            await record_usage(ledger, self._context.provider)
            return
        if error.may_resend:
            ledger.attempts.release(attempt_id, str(error))
            self._cool_down(job, error)
            return
        if isinstance(error, AuthenticationError):
            ledger.attempts.release(attempt_id, str(error))
            raise StopRun(str(error)) from error
        if isinstance(error, PaymentRequiredError) or (isinstance(error, PermissionDeniedError) and error.budget_spent):
            ledger.attempts.release(attempt_id, str(error))
            raise StopSubmits(str(error)) from error
        ledger.attempts.reject(attempt_id, str(error))
        self._context.say(job, f"rejected, not charged: {error}", "error")

    def _cool_down(self, job: JobRecord, error: OpenRouterError) -> None:
        """A refusal that cost nothing: this model (or, without a connection, everything) waits."""
        scope = None if isinstance(error, NotSentError) else job.model
        failures = self._context.gates.note_failure(scope)
        wait_s = self._context.pause_s(error, poll_schedule.backoff(failures, FIRST_BACKOFF_S, random.random()))
        self._context.gates.cool_down(scope, wait_s, str(error))
        self._context.say(job, f"{error} Trying again in {wait_s:.0f} s.", "warning")

    # -- unknown ----------------------------------------------------------------------------------------------------

    def _doubt(self, job: JobRecord, reservation: Reservation, reason: str) -> None:
        self._context.ledger.attempts.mark_uncertain(reservation.attempt_id, reason)
        amount = format_usd(reservation.amount_nusd, "an unknown amount of")
        self._context.say(
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
                self._context.ledger.attempts.mark_uncertain(
                    attempt_id, "orbatch was stopped while the request was on its way"
                )
            return
        accepted = sending.result()
        try:
            self._context.ledger.attempts.accept(attempt_id, accepted.id, accepted.generation_id)
        except LedgerError as exc:
            self._context.say(job, f"accepted as {accepted.id}, which could not be recorded ({exc})", "error")


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


_STOPPED_BEFORE = "orbatch was stopped before the request left"
_STOPPED_DURING = "orbatch was stopped while the request was on its way"

Answer = ImagesResult | TextResult


@dataclass(frozen=True, slots=True)
class _Order:
    """One attempt: what is asked, under which reservation, and where the result goes."""

    job: JobRecord
    reservation: Reservation
    request: AnyRequest
    place: Place

    @property
    def attempt_id(self) -> int:
        return self.reservation.attempt_id


class Answering(Sending):
    """submitting -> done, failed or lost; or, as for every request, rejected, pending or uncertain."""

    def __init__(self, shared: RunContext, block_model: BlockModel) -> None:
        super().__init__(shared)
        self._block_model = block_model

    async def answer(self, job: JobRecord, reservation: Reservation, on_disk: OnDisk | None = None) -> None:
        """Send the request and keep what it brings. Raises StopRun, StopSubmits and LedgerError.

        Whatever else is raised, the attempt is accounted for: released while nothing has left, uncertain after it.
        """
        await self._intend(reservation, on_disk)
        request = await self._request(job, reservation)
        if request is None:
            return
        place = Place(self._context.terms.output_dir, job.stem, reservation.number, job.id)
        order = _Order(job, reservation, request, place)
        await self._check_writable(order)
        if not self._may_leave(reservation):
            return
        asking = asyncio.create_task(self._ask(order))
        try:
            await asyncio.wait({asking})
        except asyncio.CancelledError:
            if asking.done():
                await self._conclude(order, asking)
            else:
                asking.cancel()
                with contextlib.suppress(LedgerError):
                    self._context.ledger.attempts.mark_uncertain(order.attempt_id, _STOPPED_DURING)
            raise
        # What came is worth money: keeping it goes on when the run is torn down meanwhile.
        concluding = asyncio.create_task(self._conclude(order, asking))
        try:
            await asyncio.shield(concluding)
        except asyncio.CancelledError:
            await concluding
            raise

    async def _check_writable(self, order: _Order) -> None:
        try:
            await run_in_disk_pool(order.place.check_writable)
        except OSError as exc:
            self._context.ledger.attempts.release(order.attempt_id, f"not sent: {exc}")
            raise StopRun(
                f"The result of job {order.job.id} could not be kept in {order.place.output_dir} ({exc}), so it was "
                "not sent."
            ) from exc
        except BaseException:
            with contextlib.suppress(LedgerError):
                self._context.ledger.attempts.release(order.attempt_id, _STOPPED_BEFORE)
            raise

    async def _ask(self, order: _Order) -> Answer:
        provider = self._context.provider
        if isinstance(order.request, ImageRequest):
            return await provider.create_images(order.request, order.place.folder, order.place.part_stem)
        assert isinstance(order.request, TextRequest)
        return await provider.complete_text(order.request)

    async def _conclude(self, order: _Order, asking: asyncio.Task[Answer]) -> None:
        try:
            answer = asking.result()
        except UnusableResultError as exc:
            await self._fail(order, str(exc), _charge(exc.usage, exc.generation_id))
        except OpenRouterError as exc:
            await self._not_accepted(order.job, order.reservation, exc, late=False)
        except Exception as exc:
            fault = redact(repr(exc))
            self._doubt_after_fault(order.job, order.reservation, fault, late=False)
            raise StopRun(f"Stopped by an unforeseen fault while job {order.job.id} was being sent: {fault}") from exc
        else:
            self._context.gates.note_success(order.job.model)
            await self._keep(order, answer)

    async def _keep(self, order: _Order, answer: Answer) -> None:
        charge = _charge(answer.usage, answer.generation_id)
        try:
            kept = await run_in_disk_pool(_kept, order, answer)
        except UnusableText as exc:
            where = await run_in_disk_pool(_kept_unusable, exc.text, order.place)
            await self._fail(order, f"{redact(str(exc))}{where}", charge)
        except SaveError as exc:
            await self._lose(order, f"paid, and could not be kept: {exc}", charge)
        else:
            await self._finish(order, kept, charge)

    # -- in the ledger ----------------------------------------------------------------------------------------------

    async def _finish(self, order: _Order, kept: Sequence[SavedFile], charge: Charge) -> None:
        records = [each.record for each in kept]
        attempts, caps = self._context.ledger.attempts, self._context.terms.caps
        files = ", ".join(record.path for record in records)
        await self._write(
            order,
            f"done: {files}",
            lambda: attempts.end_answered(order.attempt_id, Status.DONE, charge, caps, outputs=records),
        )
        for each in kept:
            outputs.discard(each.part)
        done = f"done, charged {format_usd(charge.cost_nusd, 'an amount not known yet,')} USD"
        for record in records:
            warning = f" ({record.warning})" if record.warning else ""
            self._context.say(order.job, f"{done}: {record.path}{warning}", "warning" if warning else "info")
            done = "done"

    async def _fail(self, order: _Order, reason: str, charge: Charge) -> None:
        attempts, caps = self._context.ledger.attempts, self._context.terms.caps
        await self._write(
            order,
            f"failed: {reason}",
            lambda: attempts.end_answered(order.attempt_id, Status.FAILED, charge, caps, error=reason),
        )
        say_ended(self._context, order.job, Status.FAILED, reason, charge.cost_nusd)

    async def _lose(self, order: _Order, reason: str, charge: Charge) -> None:
        attempts, caps = self._context.ledger.attempts, self._context.terms.caps
        await self._write(
            order,
            f"lost: {reason}",
            lambda: attempts.end_answered(order.attempt_id, Status.LOST, charge, caps, error=reason),
        )
        self._context.say(order.job, f"lost: {reason}", "error")

    async def _write(self, order: _Order, what: str, verb: Callable[[], Settlement]) -> None:
        """A ledger that cannot take it now is asked again before the run gives up."""
        for pause_s in (*RECORDING_PAUSES_S, None):
            try:
                settlement = verb()
            except LedgerError as exc:
                if pause_s is None or isinstance(exc, LedgerConflict):
                    raise StopRun(
                        f"{exc} Job {order.job.id} was answered, and this could not be recorded ({what}). It may be "
                        f"charged; see `orbatch show {order.job.id}`."
                    ) from exc
                await asyncio.sleep(pause_s)
            else:
                self._check_overrun(order, settlement)
                return

    def _check_overrun(self, order: _Order, settlement: Settlement) -> None:
        if settlement.overrun_nusd:
            attempts = self._context.ledger.queries.attempts(order.job.id)
            attempt = next(each for each in attempts if each.id == order.attempt_id)
            check_overrun(self._context, self._block_model, order.job, attempt, settlement)


def _kept(order: _Order, answer: Answer) -> list[SavedFile]:
    if isinstance(answer, ImagesResult):
        return keep_pictures(answer, order.place)
    assert isinstance(order.request, TextRequest)
    return keep_text(answer, order.place, as_json=order.request.wants_json)


def _kept_unusable(text: str, place: Place) -> str:
    """Where a text that is no result was put, for the end of a sentence."""
    try:
        path = keep_unusable(text, place)
    except SaveError as exc:
        return f"; its text could not be kept: {exc}"
    return "" if path is None else f"; the text is kept in {path}"


def _charge(usage: Usage | None, generation_id: str | None) -> Charge:
    cost = usage.cost if usage is not None else None
    return Charge(None if cost is None else to_nano(cost), usage is not None and usage.is_byok, generation_id)
