"""A job's way from intent to id: what is in the ledger after everything that can interfere."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest

from orbatch.ledger import AttemptRecord, JobRecord, LedgerConflict, LedgerError, Status
from orbatch.runner import submit
from orbatch.runner.context import StopRun
from orbatch.runner.poll_schedule import MAX_RETRY_AFTER_S
from orbatch.runner.reconcile import record_usage
from orbatch_provider import KeyInfo, OpenRouterError, OutcomeUnknownError, PaymentRequiredError, VideoJob
from orbatch_provider.errors import BadRequestError, RateLimitError, ServiceUnavailableError
from tests.faults.fakes import FakeProvider
from tests.faults.workshop import MODEL, Workshop, briefly

UNKNOWN = OutcomeUnknownError("cut off")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer to a submit that is not there at once is late."""
    monkeypatch.setattr(submit, "ANSWER_TIMEOUT_S", 0.0)


async def on_its_way(
    workshop: Workshop, provider: FakeProvider
) -> tuple[JobRecord, asyncio.Task[AttemptRecord | None]]:
    """A job whose request has left, and the step that waits for the answer."""
    job = workshop.take()
    task = asyncio.create_task(workshop.steps(provider).submit(job, workshop.reserve(job)))
    await provider.asked.wait()
    await briefly()
    return job, task


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("answer", "status"),
    [
        pytest.param(VideoJob("late-1", "pending"), Status.SUBMITTED, id="accepted"),
        pytest.param(BadRequestError(400, "no"), Status.REJECTED, id="refused"),
        pytest.param(RateLimitError(429), Status.PENDING, id="not now"),
        pytest.param(PaymentRequiredError(402), Status.PENDING, id="no credit"),
        pytest.param(OutcomeUnknownError("cut off"), Status.UNCERTAIN, id="never known"),
    ],
)
async def test_a_late_answer_ends_the_uncertainty(
    workshop: Workshop, provider: FakeProvider, answer: VideoJob | OpenRouterError, status: Status
) -> None:
    job, task = await on_its_way(workshop, provider)
    assert workshop.status(job) is Status.UNCERTAIN

    provider.answer(answer)
    await asyncio.wait({task})

    assert workshop.status(job) is status
    assert workshop.now(job)[1].settled is (status in (Status.REJECTED, Status.PENDING))
    assert isinstance(answer, PaymentRequiredError) is (task.exception() is not None)
    if isinstance(answer, VideoJob):
        assert workshop.now(job)[1].remote_id == "late-1"
        assert "accepted late as late-1" in workshop.text


@pytest.mark.usefixtures("impatient")
async def test_a_refusal_after_the_user_has_resolved_it_changes_nothing(
    workshop: Workshop, provider: FakeProvider
) -> None:
    job, task = await on_its_way(workshop, provider)
    workshop.ledger.attempts.resolve_not_charged(workshop.now(job)[1])

    provider.answer(BadRequestError(400, "no"))
    await asyncio.wait({task})

    assert workshop.status(job) is Status.PENDING


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("again", [False, True], ids=["still pending", "submitted again"])
async def test_an_id_that_comes_after_not_charged_is_a_second_attempt_and_its_cost_counts(
    workshop: Workshop, provider: FakeProvider, again: bool
) -> None:
    remote_id = f"late-{2 + 20 * again}"
    job, task = await on_its_way(workshop, provider)
    workshop.ledger.attempts.resolve_not_charged(workshop.now(job)[1])
    if again:
        workshop.reserve(job)
    [_, reserved] = workshop.ledger.reports.spend(workshop.batch.id)

    provider.answer(VideoJob(remote_id, "pending"))
    attempt = await task

    found = {each.remote_id: each for each in workshop.ledger.queries.attempts(job.id)}
    assert workshop.ledger.reports.spend(workshop.batch.id) == (0, reserved + (found[remote_id].reserved_nusd or 0))
    assert "after it was resolved as not charged" in workshop.text
    if again:
        assert (attempt, found[remote_id].status, workshop.status(job)) == (None, Status.LOST, Status.SUBMITTING)
    else:
        assert attempt is not None
        assert (attempt.id, attempt.remote_id) == (found[remote_id].id, remote_id)
        assert workshop.status(job) is Status.SUBMITTED


@pytest.mark.usefixtures("impatient")
async def test_an_id_that_the_user_has_named_already_is_no_surprise(workshop: Workshop, provider: FakeProvider) -> None:
    job, task = await on_its_way(workshop, provider)
    workshop.ledger.attempts.attach_remote_id(workshop.now(job)[1], "late-3")

    provider.answer(VideoJob("late-3", "pending"))

    assert await task is not None
    assert workshop.status(job) is Status.SUBMITTED


@pytest.mark.usefixtures("impatient")
async def test_a_ledger_that_cannot_mark_it_uncertain_does_not_cost_the_id(
    workshop: Workshop, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, steps = workshop.take(), workshop.steps(provider)
    monkeypatch.setattr(workshop.ledger.attempts, "mark_uncertain", failing(LedgerError("The disk is full.")))
    task = asyncio.create_task(steps.submit(job, workshop.reserve(job)))
    await provider.asked.wait()
    await briefly()

    provider.answer(VideoJob("late-4", "pending"))

    assert await task is not None
    assert workshop.now(job)[1].remote_id == "late-4"


async def test_an_id_is_recorded_when_the_ledger_works_again(
    workshop: Workshop, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, steps = workshop.take(), workshop.steps(provider)
    monkeypatch.setattr(submit, "RECORDING_PAUSES_S", (0.0, 0.0))
    attempts = workshop.ledger.attempts
    monkeypatch.setattr(attempts, "accept", failing(LedgerError("Full."), then=attempts.accept))
    provider.answer(VideoJob("kept-1", "pending"))
    held: list[int] = []
    monkeypatch.setattr(asyncio, "sleep", lambda _: _noted(held, steps.context.unrecorded))

    await steps.submit(job, workshop.reserve(job))

    assert workshop.now(job)[1].remote_id == "kept-1"
    assert held == [1], "nothing more is submitted meanwhile"
    assert steps.context.unrecorded == 0
    assert "accepted as kept-1, not recorded yet (Full.)" in workshop.text  # it may be the last thing that is said


async def test_an_id_that_cannot_be_recorded_stops_the_run_with_the_command_to_save_it(
    workshop: Workshop, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, steps = workshop.take(), workshop.steps(provider)
    monkeypatch.setattr(submit, "RECORDING_PAUSES_S", (0.0,))
    provider.answer(VideoJob("kept-2", "pending"))
    reservation = workshop.reserve(job)
    with monkeypatch.context() as broken:
        broken.setattr(workshop.ledger.attempts, "accept", failing(LedgerError("Full."), times=9))
        with pytest.raises(StopRun, match=f"orbatch resolve {job.id} --remote-id kept-2"):
            await steps.submit(job, reservation)

    assert workshop.status(job) is Status.SUBMITTING  # which the next run takes for uncertain
    workshop.ledger.attempts.mark_uncertain(reservation.attempt_id, "orbatch was stopped")
    workshop.ledger.attempts.attach_remote_id(workshop.now(job)[1], "kept-2")
    assert workshop.status(job) is Status.SUBMITTED


async def test_a_run_that_is_torn_down_goes_on_recording_the_id(
    workshop: Workshop, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, steps = workshop.take(), workshop.steps(provider)
    monkeypatch.setattr(submit, "RECORDING_PAUSES_S", (0.05, 0.05))
    attempts = workshop.ledger.attempts
    monkeypatch.setattr(attempts, "accept", failing(LedgerError("Full."), then=attempts.accept))
    provider.answer(VideoJob("kept-3", "pending"))
    task = asyncio.create_task(steps.submit(job, workshop.reserve(job)))
    await asyncio.sleep(0.005)  # it was refused once, and is to be tried again
    assert "kept-3" in workshop.text
    task.cancel()
    await asyncio.wait({task})

    assert task.cancelled()
    assert workshop.now(job)[1].remote_id == "kept-3"


async def test_an_id_that_belongs_to_another_job_is_kept_beside_an_uncertain_one(
    workshop: Workshop, provider: FakeProvider
) -> None:
    _, taken = workshop.submitted()
    assert taken.remote_id is not None
    job, steps = workshop.take(), workshop.steps(provider)
    provider.answer(VideoJob(taken.remote_id, "pending"))

    with pytest.raises(StopRun, match=taken.remote_id):
        await steps.submit(job, workshop.reserve(job))

    assert workshop.status(job) is Status.UNCERTAIN
    assert taken.remote_id in workshop.shown(job)


@pytest.mark.parametrize("is_answered", [False, True])
async def test_a_request_on_its_way_is_uncertain_when_the_run_is_torn_down_unless_its_answer_is_here(
    workshop: Workshop, provider: FakeProvider, is_answered: bool
) -> None:
    job, task = await on_its_way(workshop, provider)

    if is_answered:
        provider.answer(VideoJob("here-1", "pending"))
        await asyncio.sleep(0)  # the answer is in, and nobody has looked at it
    task.cancel()
    await asyncio.wait({task})

    assert task.cancelled()
    assert workshop.status(job) is (Status.SUBMITTED if is_answered else Status.UNCERTAIN)
    assert workshop.now(job)[1].remote_id == ("here-1" if is_answered else None)


async def test_a_job_whose_request_has_not_left_is_free_when_the_run_is_torn_down(
    workshop: Workshop, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, steps = workshop.take(), workshop.steps(provider)

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("orbatch.runner.submit.run_in_disk_pool", never)  # where local files are read
    with_picture = replace(job, request={**job.request, "frame_images": [{"url": "a.png"}]})
    task = asyncio.create_task(steps.submit(with_picture, workshop.reserve(job)))
    await briefly()
    task.cancel()
    await asyncio.wait({task})

    assert not provider.asked.is_set()
    assert workshop.status(job) is Status.PENDING
    assert workshop.now(job)[1].settled


@pytest.mark.parametrize(("asked_s", "waited_s"), [(7.0, 7.0), (1e9, MAX_RETRY_AFTER_S)], ids=["obeyed", "bounded"])
async def test_retry_after_closes_the_gate_of_the_model_within_bounds(
    workshop: Workshop, provider: FakeProvider, asked_s: float, waited_s: float
) -> None:
    job, steps = workshop.take(), workshop.steps(provider)
    steps.context.clock.real = lambda seconds: seconds  # type: ignore[method-assign]
    provider.answer(ServiceUnavailableError(503, retry_after_s=asked_s))

    await steps.submit(job, workshop.reserve(job))

    wait = steps.context.limits.why_not(MODEL)
    assert wait is not None
    assert wait.seconds == pytest.approx(waited_s, abs=0.5)
    assert steps.context.limits.why_not("another/model") is None


@pytest.mark.parametrize("asked_s", [0.0, 0.3])
async def test_a_retry_after_of_nothing_gives_way_to_the_pauses_that_grow(
    workshop: Workshop, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, asked_s: float
) -> None:
    monkeypatch.setattr("random.random", lambda: 0.5)
    context = workshop.steps(provider).context
    context.clock.real = lambda seconds: seconds  # type: ignore[method-assign]
    refusal = ServiceUnavailableError(503, retry_after_s=asked_s)

    assert [context.pause_s(refusal, failures, 0.5) for failures in (1, 2, 3, 4)] == [1.0, 1.0, 2.0, 4.0]


async def test_a_full_in_flight_budget_pauses_every_model_and_gives_the_job_back(
    workshop: Workshop, provider: FakeProvider
) -> None:
    job, steps = workshop.take(), workshop.steps(provider)
    provider.answer(PaymentRequiredError(402, retry_after_s=3.0, limit_source="openrouter_in_flight_budget"))

    await steps.submit(job, workshop.reserve(job))

    assert workshop.status(job) is Status.PENDING
    assert steps.context.limits.why_not("another/model") is not None


async def test_the_keys_usage_is_read_before_and_after_an_uncertain_submit(
    workshop: Workshop, provider: FakeProvider
) -> None:
    provider.usage = KeyInfo("", Decimal("1.00"), None, None, None)
    await record_usage(workshop.ledger, provider)
    await asyncio.sleep(0.002)  # readings have the resolution of a millisecond
    job, steps = workshop.take(), workshop.steps(provider)
    provider.answer(UNKNOWN)
    reservation = workshop.reserve(job)
    await asyncio.sleep(0.002)
    await steps.submit(job, reservation)

    rise = workshop.ledger.usage.around(workshop.now(job)[1])
    assert rise is not None
    assert rise.unexplained_nusd == 0

    provider.usage = KeyInfo("", Decimal("1.12"), None, None, None)
    await record_usage(workshop.ledger, provider)
    rise = workshop.ledger.usage.around(workshop.now(job)[1])
    assert rise is not None
    assert rise.unexplained_nusd == 120_000_000


async def test_submits_go_on_after_an_id_that_turned_out_to_be_taken(
    workshop: Workshop, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, steps = workshop.take(), workshop.steps(provider)
    monkeypatch.setattr(submit, "RECORDING_PAUSES_S", (0.0,))
    conflict = failing(LedgerConflict("Another job has this id."), times=9)
    monkeypatch.setattr(workshop.ledger.attempts, "accept", failing(LedgerError("Full."), then=conflict))
    provider.answer(VideoJob("taken-1", "pending"))

    with pytest.raises(StopRun):
        await steps.submit(job, workshop.reserve(job))

    assert steps.context.unrecorded == 0


async def _noted(held: list[int], value: int) -> None:
    held.append(value)


def failing(error: LedgerError, *, times: int = 1, then: Callable[..., None] | None = None) -> Callable[..., None]:
    """A verb of the ledger that fails so often, as on a full disk."""
    left = [times]

    def verb(*args: object, **kwargs: object) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise error from sqlite3.OperationalError("database or disk is full")
        if then is not None:
            then(*args, **kwargs)

    return verb
