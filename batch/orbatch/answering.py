"""The paid step of kinds that answer at once: the answer to the request is what was paid for. It is on disk, verified
and in its place before the job is done; until then a crash leaves the job uncertain, as for any other kind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orbatch import outputs
from orbatch.endings import BlockModel, check_overrun, say_ended
from orbatch.keeping import Kept, NotKept, Place, UnusableText, keep_pictures, keep_text, keep_unusable
from orbatch.kinds import AnyRequest
from orbatch.ledger import JobRecord, LedgerConflict, LedgerError, OnDisk, Reservation, Settlement
from orbatch.ledger.answers import Charge
from orbatch.lifecycle import Status
from orbatch.money import nusd, show_usd
from orbatch.sending import RECORDING_PAUSES_S, Sending
from orbatch.steps import Shared, StopRun
from orbatch_provider.disk import in_thread
from orbatch_provider.errors import OpenRouterError, UnusableResultError, redact
from orbatch_provider.images import ImagesResult
from orbatch_provider.requests import ImageRequest, TextRequest
from orbatch_provider.responses import Usage
from orbatch_provider.texts import TextResult

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

    def __init__(self, shared: Shared, block_model: BlockModel) -> None:
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
        place = Place(self._shared.terms.output_dir, job.stem, reservation.number, job.id)
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
                    self._shared.ledger.doubt(order.attempt_id, _STOPPED_DURING)
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
            await in_thread(order.place.check_writable)
        except OSError as exc:
            self._shared.ledger.release(order.attempt_id, f"not sent: {exc}")
            raise StopRun(
                f"The result of job {order.job.id} could not be kept in {order.place.output_dir} ({exc}), so it was "
                "not sent."
            ) from exc
        except BaseException:
            with contextlib.suppress(LedgerError):
                self._shared.ledger.release(order.attempt_id, _STOPPED_BEFORE)
            raise

    async def _ask(self, order: _Order) -> Answer:
        provider = self._shared.provider
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
            self._shared.gates.note_success(order.job.model)
            await self._keep(order, answer)

    async def _keep(self, order: _Order, answer: Answer) -> None:
        charge = _charge(answer.usage, answer.generation_id)
        try:
            kept = await in_thread(_kept, order, answer)
        except UnusableText as exc:
            where = await in_thread(_kept_unusable, exc.text, order.place)
            await self._fail(order, f"{redact(str(exc))}{where}", charge)
        except NotKept as exc:
            await self._lose(order, f"paid, and could not be kept: {exc}", charge)
        else:
            await self._finish(order, kept, charge)

    # -- in the ledger ----------------------------------------------------------------------------------------------

    async def _finish(self, order: _Order, kept: Sequence[Kept], charge: Charge) -> None:
        records = [each.record for each in kept]
        answers, caps = self._shared.ledger.answers, self._shared.terms.caps
        files = ", ".join(record.path for record in records)
        await self._write(order, f"done: {files}", lambda: answers.finish(order.attempt_id, records, charge, caps))
        for each in kept:
            outputs.discard(each.part)
        done = f"done, charged {show_usd(charge.cost_nusd, 'an amount not known yet,')} USD"
        for record in records:
            warning = f" ({record.warning})" if record.warning else ""
            self._shared.say(order.job, f"{done}: {record.path}{warning}", "warning" if warning else "info")
            done = "done"

    async def _fail(self, order: _Order, reason: str, charge: Charge) -> None:
        answers, caps = self._shared.ledger.answers, self._shared.terms.caps
        await self._write(order, f"failed: {reason}", lambda: answers.fail(order.attempt_id, reason, charge, caps))
        say_ended(self._shared, order.job, Status.FAILED, reason, charge.cost_nusd)

    async def _lose(self, order: _Order, reason: str, charge: Charge) -> None:
        answers, caps = self._shared.ledger.answers, self._shared.terms.caps
        await self._write(order, f"lost: {reason}", lambda: answers.lose(order.attempt_id, reason, charge, caps))
        self._shared.say(order.job, f"lost: {reason}", "error")

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
            attempts = self._shared.ledger.queries.attempts(order.job.id)
            attempt = next(each for each in attempts if each.id == order.attempt_id)
            check_overrun(self._shared, self._block_model, order.job, attempt, settlement)


def _kept(order: _Order, answer: Answer) -> list[Kept]:
    if isinstance(answer, ImagesResult):
        return keep_pictures(answer, order.place)
    assert isinstance(order.request, TextRequest)
    return keep_text(answer, order.place, as_json=order.request.wants_json)


def _kept_unusable(text: str, place: Place) -> str:
    """Where a text that is no result was put, for the end of a sentence."""
    try:
        path = keep_unusable(text, place)
    except NotKept as exc:
        return f"; its text could not be kept: {exc}"
    return "" if path is None else f"; the text is kept in {path}"


def _charge(usage: Usage | None, generation_id: str | None) -> Charge:
    cost = usage.cost if usage is not None else None
    return Charge(None if cost is None else nusd(cost), usage is not None and usage.is_byok, generation_id)
