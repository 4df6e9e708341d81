"""Submit: send one paid request whose intent is durable, and record the outcome whatever happens.

A kind with jobs of its own at the provider (video) is accepted and gets a remote id. The others have their result in
the answer: it is on disk, verified and under its name before the job is done. Whatever is raised, the attempt is
accounted for: released while nothing has left, uncertain after it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from orbatch.ledger import (
    AttemptRecord,
    Charge,
    JobRecord,
    LeaseLost,
    LedgerConflict,
    LedgerError,
    OnDisk,
    OutputRecord,
    Reservation,
    Status,
)
from orbatch.ledger.schema import RELEASED
from orbatch.money import format_usd
from orbatch.plan.jobs import job_key
from orbatch.plan.kinds import KINDS, AnyRequest, request_of
from orbatch.runner.context import RunContext, StopRun, StopSubmits, retry_text
from orbatch.runner.reconcile import record_usage, report_end, report_overrun
from orbatch.runner.results import SAVERS, OutputTarget, SaveError, UnusableText, discard_parts
from orbatch_provider import (
    IMAGE_FIELDS,
    APIError,
    AuthenticationError,
    InputError,
    NotSentError,
    OpenRouterError,
    PaymentRequiredError,
    PermissionDeniedError,
    UnusableResultError,
    materialise,
    redact,
    run_in_disk_pool,
)

FIRST_BACKOFF_S = 5.0
ANSWER_TIMEOUT_S = 120.0  # after this the submit of a polled kind is uncertain; its answer is still waited for
RECORDING_PAUSES_S = (0.1, 0.5, 2.0, 5.0)  # between tries to write what was paid for into a ledger that refuses
_STOPPED_BEFORE = "orbatch was stopped before the request left"
_STOPPED_DURING = "orbatch was stopped while the request was on its way"

T = TypeVar("T")


@dataclass(slots=True)
class _Submission:
    """One attempt. ``target``: where a result in the answer goes. ``is_late``: it was marked uncertain, and its answer
    is still waited for."""

    job: JobRecord
    reservation: Reservation
    attempt_id: int
    request: AnyRequest
    target: OutputTarget
    is_late: bool = False


class Submitter:
    """submitting -> submitted, done, failed or lost; or rejected, pending or uncertain."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._ledger = context.ledger
        self._attempts = context.ledger.attempts

    async def submit(
        self, job: JobRecord, reservation: Reservation, on_disk: OnDisk | None = None
    ) -> AttemptRecord | None:
        """The accepted attempt; None when it ended here. Raises StopRun, StopSubmits and LedgerError.

        ``on_disk``: of the reservation, None when it is already; nothing leaves before it.
        """
        submission = await self._prepare(job, reservation, on_disk)
        if submission is None or not self._may_leave(submission):
            return None
        kind, target = KINDS[job.kind], submission.target
        submit = kind.submit(self._context.provider, submission.request, target.directory, target.part_stem)
        call = asyncio.ensure_future(submit)  # the only paid call
        try:
            if not kind.is_synchronous:
                await asyncio.wait({call}, timeout=ANSWER_TIMEOUT_S)
                submission.is_late = not call.done()
            if submission.is_late:
                self._try_mark_uncertain(submission, f"no answer for {ANSWER_TIMEOUT_S:.0f} s, still waiting for it")
            await asyncio.wait({call})
        except asyncio.CancelledError:
            if call.done():
                await _finish(self._conclude(submission, call))
            else:
                call.cancel()
                self._try_mark_uncertain(submission, _STOPPED_DURING)
            raise
        return await _finish(self._conclude(submission, call))

    async def _prepare(self, job: JobRecord, reservation: Reservation, on_disk: OnDisk | None) -> _Submission | None:
        """Wait for the intent to be on disk, then read input files and check the output directory. None, and rejected,
        when the request is no longer what was planned."""
        target = OutputTarget(self._context.options.output_dir, job.stem, reservation.number, job.id)
        try:
            if on_disk is not None:
                await asyncio.shield(on_disk)  # shared with the other intents of this commit
            request = await run_in_disk_pool(_as_planned, job) if _has_files(job) else _as_planned(job)
            problem = await run_in_disk_pool(target.why_not_writable) if KINDS[job.kind].is_synchronous else ""
            if problem:
                where = f"its output cannot be saved in {target.output_dir}"
                raise StopRun(f"Job {job.id} was not submitted, because {where}: {problem}")
        except (OSError, ValueError) as exc:
            self._attempts.reject(reservation.attempt_id, f"not submitted: {exc}")
            self._context.log(job, f"not submitted: {exc}", "failed")
            return None
        except BaseException as exc:  # an interruption, a full disk, or a bug: nothing has left
            # An intent that the disk has refused is not in the ledger, so there is nothing to release.
            if on_disk is None or not on_disk.done() or on_disk.exception() is None:
                with contextlib.suppress(LedgerError):
                    reason = str(exc) if isinstance(exc, StopRun) else _STOPPED_BEFORE
                    self._attempts.release(reservation.attempt_id, reason)
            raise
        return _Submission(job, reservation, reservation.attempt_id, _marked(request, reservation.key), target)

    def _may_leave(self, submission: _Submission) -> bool:
        """The last check before money moves: False when the run is being stopped. Raises LeaseLost when this process
        was frozen for so long that another one has taken over the batch and given up the intent."""
        if not self._ledger.queries.is_submitting(submission.attempt_id):
            raise LeaseLost("Another process has taken over this batch, because this one stopped responding.")
        if self._context.receipts is not None and (problem := self._context.receipts.problem):
            self._attempts.release(submission.attempt_id, problem)
            raise StopRun(f"Job {submission.job.id} was not submitted. {problem}")
        if self._context.stop.is_set():
            self._attempts.release(submission.attempt_id, _STOPPED_BEFORE)
            return False
        return True

    async def _conclude(self, submission: _Submission, call: asyncio.Future[Any]) -> AttemptRecord | None:
        job = submission.job
        if not isinstance(call.exception(), NotSentError):
            self._context.offline_since = None
        try:
            answer = call.result()
        except UnusableResultError as exc:
            await self._end(submission, Status.FAILED, Charge.of(exc.usage, exc.generation_id), str(exc))
        except OpenRouterError as exc:
            # The user may have resolved a late one meanwhile, and that stands.
            with contextlib.suppress(*[LedgerConflict] * submission.is_late):
                await self._refuse(submission, exc)
        except Exception as exc:
            error = redact(repr(exc))
            self._try_mark_uncertain(submission, f"unexpected error during the submit: {error}")
            raise StopRun(f"Unexpected error while job {job.id} was submitted: {error}") from exc
        else:
            if not KINDS[job.kind].is_synchronous:
                return await self._accept(submission, answer.id, answer.generation_id)
            self._context.limits.note_success(job.model)
            await self._save(submission, answer)
        return None

    async def _accept(self, submission: _Submission, remote_id: str, generation_id: str | None) -> AttemptRecord | None:
        job, reservation = submission.job, submission.reservation

        def note() -> None:
            if self._context.receipts is not None:
                self._context.receipts.note(reservation.key, remote_id)

        try:
            await self._write(
                job,
                partial(self._attempts.accept, submission.attempt_id, remote_id, generation_id),
                f"accepted as {remote_id}",
                f": note it, and after the repair run `orbatch resolve {job.id} --remote-id {remote_id}`.",
                note,
            )
        except StopRun as exc:
            if not isinstance(exc.__cause__, LedgerConflict):
                raise
            taken = self._accept_beside(submission, remote_id, exc.__cause__)
            if taken is None:
                return None
            reservation = taken
        # Not before the id is durable: what comes next must not delay it.
        self._context.limits.note_success(job.model)
        late = submission.is_late
        self._context.log(job, f"accepted{' late' * late} as {remote_id}", "info" if late else "detail")
        account, amount = self._context.provider.account, reservation.amount_nusd
        # What the ledger has now, without reading it again; ``submitted_at`` None means just now.
        return AttemptRecord(
            reservation.attempt_id,
            job.id,
            reservation.number,
            reservation.key,
            Status.SUBMITTED,
            account,
            amount,
            remote_id=remote_id,
        )

    def _accept_beside(self, submission: _Submission, remote_id: str, conflict: LedgerConflict) -> Reservation | None:
        """The id cannot be recorded as the attempt's: another job has it, or the user has resolved the attempt
        meanwhile, perhaps with this very id. The attempt to poll; None where the job has another one by now."""
        job, attempt_id = submission.job, submission.attempt_id
        attempt = self._ledger.queries.attempt(attempt_id)
        if attempt.remote_id == remote_id:
            return submission.reservation
        if attempt.status == RELEASED:
            with contextlib.suppress(LedgerConflict):
                late = self._attempts.accept_late(attempt_id, remote_id)
                text = f"the provider accepted it as {remote_id} after it was resolved as not charged"
                ends = "" if late else "; it was submitted again meanwhile, so both may be charged"
                self._context.log(job, text + ends, "warning" if late else "error")
                return late
        text = f"the provider accepted it as {remote_id}, which could not be recorded as its id ({conflict})"
        self._context.log(job, f"{text} It may be charged.", "error")
        try:
            self._attempts.mark_uncertain(attempt_id, text)
        except LedgerConflict:
            self._attempts.add_event(job.id, attempt_id, text)
        raise StopRun(f"Job {job.id}: {text} See `orbatch show {job.id}`.") from conflict

    async def _save(self, submission: _Submission, answer: Any) -> None:
        job, target = submission.job, submission.target
        charge = Charge.of(answer.usage, answer.generation_id)
        try:
            saved = await run_in_disk_pool(SAVERS[job.kind], answer, submission.request, target)
        except UnusableText as exc:
            await self._end(submission, Status.FAILED, charge, str(exc))
            return
        except SaveError as exc:
            reason = f"paid, and could not be saved: {exc}"
            await self._end(submission, Status.LOST, charge, reason)
            self._context.log(job, f"lost: {reason}", "failed")
            return
        records = [each.record for each in saved]
        await self._end(submission, Status.DONE, charge, ", ".join(record.path for record in records), records)
        discard_parts(saved)
        self._context.log_done(job, submission.attempt_id, records)

    async def _end(
        self, submission: _Submission, status: Status, charge: Charge, text: str, outputs: Sequence[OutputRecord] = ()
    ) -> None:
        job, reservation = submission.job, submission.reservation
        error = None if status is Status.DONE else text
        caps = self._context.options.caps
        verb = partial(self._attempts.end_answered, reservation.attempt_id, status, charge, caps)
        settlement = await self._write(
            job,
            partial(verb, error=error, outputs=outputs),
            "answered",
            f" ({status}: {text}). It may be charged; see `orbatch show {job.id}`.",
        )
        report_overrun(self._context, job, reservation.attempt_id, reservation.amount_nusd, settlement)
        if status is Status.FAILED:
            report_end(self._context, job, status, text, charge)

    async def _write(
        self, job: JobRecord, verb: Callable[[], T], outcome: str, advice: str, note: Callable[[], None] | None = None
    ) -> T:
        """Try several times, where a ledger refuses what was paid for; ``note`` writes it into the receipts meanwhile.
        Raises StopRun, caused by the LedgerError."""
        pauses = iter(RECORDING_PAUSES_S)
        is_reported = False
        while True:
            try:
                result = await self._ledger.commits.durably(verb)
                self._context.unrecorded -= is_reported
                return result
            except LedgerError as exc:
                is_taken = isinstance(exc, LedgerConflict)
                pause_s = None if is_taken else next(pauses, None)
                if pause_s is None:
                    if is_taken:  # the ledger works again; else the run ends, and submits nothing
                        self._context.unrecorded -= is_reported
                    text = f"{exc} Job {job.id} was {outcome}, and this could not be recorded{advice}"
                    raise StopRun(text) from exc
                if not is_reported:  # immediately, in case nothing comes after it
                    is_reported = True
                    self._context.unrecorded += 1  # nothing more is submitted meanwhile
                    self._context.log(job, f"{outcome}, not recorded yet ({exc})", "error")
                    if note is not None:
                        with contextlib.suppress(OSError):
                            note()
                await asyncio.sleep(pause_s)

    async def _refuse(self, submission: _Submission, error: OpenRouterError) -> None:
        """What a failed submit means for the money is for the error to say, for all kinds alike."""
        attempt_id, text = submission.attempt_id, str(error)
        if not error.nothing_started:
            if submission.is_late:
                self._attempts.add_event(submission.job.id, attempt_id, text)
            else:
                self._mark_uncertain(submission, text)
            await record_usage(self._ledger, self._context.provider)
        elif error.may_resend:
            self._attempts.release(attempt_id, text)
            self._cool_down(submission.job, error)
        elif isinstance(error, AuthenticationError):
            self._attempts.release(attempt_id, text)
            raise StopRun(text) from error
        elif isinstance(error, PaymentRequiredError) or (
            isinstance(error, PermissionDeniedError) and error.budget_spent
        ):
            self._attempts.release(attempt_id, text)
            raise StopSubmits(text) from error
        else:
            self._attempts.reject(attempt_id, text)
            self._context.log(submission.job, f"rejected, not charged: {text}", "failed")

    def _cool_down(self, job: JobRecord, error: OpenRouterError) -> None:
        """A refusal that cost nothing: this model waits; without a connection or with a full account, everything."""
        is_for_all = isinstance(error, NotSentError) or (isinstance(error, APIError) and error.is_in_flight_budget)
        scope = None if is_for_all else job.model
        failures = self._context.limits.note_failure(scope)
        wait_s = self._context.pause_s(error, failures, FIRST_BACKOFF_S)
        self._context.limits.cool_down(scope, wait_s, str(error))
        # One outage, one message: the next attempts fail alike.
        is_known = isinstance(error, NotSentError) and self._context.note_offline()
        self._context.log(job, f"{error} {retry_text(wait_s)}", "detail" if is_known else "warning")

    def _mark_uncertain(self, submission: _Submission, reason: str) -> None:
        self._attempts.mark_uncertain(submission.attempt_id, reason)
        amount = format_usd(submission.reservation.amount_nusd, "an unknown amount of")
        first = reason.partition(". ")[0].rstrip(".")  # the whole reason is in the ledger
        text = f"uncertain: {first}. It may have been charged; up to {amount} USD stays reserved."
        self._context.log(submission.job, text, "warning")

    def _try_mark_uncertain(self, submission: _Submission, reason: str) -> None:
        """A ledger that fails, or knows it as uncertain already, must not keep us from hearing the answer: what is
        submitting is reserved all the same, and uncertain for the next run."""
        with contextlib.suppress(LedgerError):
            self._mark_uncertain(submission, reason)


async def _finish(work: Coroutine[Any, Any, T]) -> T:
    """What was answered is worth money: recording it goes on when the run is torn down meanwhile."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


def _marked(request: AnyRequest, key: str) -> AnyRequest:
    """With the attempt's key as ``user``, which OpenRouter keeps and passes to no provider: by it an attempt whose
    answer is lost can be found in the account's records. A ``user`` of the batch file stays."""
    return replace(request, extra={"user": key} | dict(request.extra))


def _has_files(job: JobRecord) -> bool:
    return any(job.request.get(field) for field in IMAGE_FIELDS)


def _as_planned(job: JobRecord) -> AnyRequest:
    """The request with its local files in it. Raises InputError, a ValueError, when one is not what was planned."""
    request = request_of(job.kind, job.request)
    if not _has_files(job):
        return request
    # The key holds the content of the files, so that it tells whether they are still the same.
    if job_key(request, job.repeat, job.kind) != job.key:
        raise InputError("an input file has changed since the batch was planned; run the batch again")
    return materialise(request)
