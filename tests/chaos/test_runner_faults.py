"""What a run does when something breaks beside, below or inside it. In this process, with a provider of the test's."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from orbatch.ledger import JobRecord, LedgerError, utc_now
from orbatch.ledger.leases import Holder
from orbatch.ledger.status import Status
from orbatch.plan.kinds import AnyRequest
from orbatch.runner import runner, scheduler, submit
from orbatch.runner.context import Clock
from orbatch.runner.runner import BACKLOG_PER_DOWNLOAD, RECONCILE_EVERY_S, Stop
from orbatch_provider.errors import (
    NotFoundError,
    NotSentError,
    PaymentRequiredError,
    ServiceUnavailableError,
)
from tests.chaos.stage import staged, until

HOUR = 3600.0


class LeapingClock(Clock):
    """A clock for one job: every wait passes at once, and is as long as it says."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def real(self, seconds: float) -> float:
        if seconds == RECONCILE_EVERY_S:
            return HOUR  # the helper beside the job must not turn the clock
        self.time += seconds
        return 0.0


async def test_a_provider_outage_of_an_hour_is_ridden_out_with_backoff_and_says_so(tmp_path: Path) -> None:
    with staged(tmp_path) as stage:
        stage.clock = clock = LeapingClock()

        async def out_for_an_hour(_: str) -> None:
            if clock.time < HOUR:
                raise ServiceUnavailableError(503, "down", paid=False)

        stage.actor.on_poll = out_for_an_hour
        result = await stage.play()
        assert (result.stop, stage.statuses) == (None, [Status.DONE])
        assert len(stage.actor.polled) < 60  # every 30 s would be 120
        assert len(stage.actor.submitted) == 1
        assert "provider unreachable" in stage.text
        assert "provider reachable again" in stage.text


async def test_submits_wait_for_a_provider_that_cannot_be_reached(tmp_path: Path) -> None:
    with staged(tmp_path, 3) as stage:
        tries = 0

        async def unreachable_at_first(_: str) -> None:
            nonlocal tries
            tries += 1
            if tries <= 7:
                raise NotSentError("no route")

        stage.actor.on_submit = unreachable_at_first
        result = await stage.play()
        assert (result.stop, set(stage.statuses)) == (None, {Status.DONE})
        assert tries == 7 + 3


async def test_a_late_answer_resolves_its_job_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "ANSWER_TIMEOUT_S", 0.01)
    with staged(tmp_path) as stage:

        async def until_it_is_uncertain(_: str) -> None:
            await until(lambda: stage.statuses == [Status.UNCERTAIN])

        stage.actor.on_submit = until_it_is_uncertain
        result = await stage.play()
        assert (result.stop, stage.statuses) == (None, [Status.DONE])
        assert len(stage.actor.submitted) == 1


async def test_no_more_jobs_are_in_flight_than_the_limit_says(tmp_path: Path) -> None:
    with staged(tmp_path, 12, in_flight=3) as stage:
        in_flight, most = 0, 0

        async def enter(_: str) -> None:
            nonlocal in_flight, most
            in_flight += 1
            most = max(most, in_flight)

        async def leave(_: str) -> None:
            nonlocal in_flight
            in_flight -= 1

        stage.actor.on_submit, stage.actor.on_poll = enter, leave
        await stage.play()
        assert most == 3


async def test_what_cannot_be_fetched_as_fast_as_it_completes_slows_the_buying_down(tmp_path: Path) -> None:
    with staged(tmp_path, 60, in_flight=8) as stage:
        disk_is_free = asyncio.Event()

        async def wait_for_the_disk(_: str) -> None:
            await disk_is_free.wait()

        stage.actor.on_receive = wait_for_the_disk
        run = stage.run()
        running = asyncio.create_task(run.run())
        await until(lambda: run.waiting == "downloads are slower than completions")
        await until(lambda: stage.statuses.count(Status.COMPLETED) == len(stage.actor.submitted))
        waiting = 4 * BACKLOG_PER_DOWNLOAD  # behind the batch file's default of 4 downloads
        assert waiting < len(stage.actor.submitted) <= waiting + 8 + 1
        disk_is_free.set()
        await running
        assert set(stage.statuses) == {Status.DONE}


async def test_an_unforeseen_error_in_one_job_ends_the_run_and_says_so(tmp_path: Path) -> None:
    with staged(tmp_path, 3) as stage:

        async def broken_for_one(job_id: str) -> None:
            if job_id == "job-2":
                raise ZeroDivisionError("a bug")

        stage.actor.on_poll = broken_for_one
        result = await stage.play()
        assert result.stop is Stop.FAILED
        assert "ZeroDivisionError: a bug" in result.message
        assert Status.SUBMITTED in stage.statuses  # paid for, and left to the next run
        stage.actor.on_poll = None
        await stage.play()
        assert set(stage.statuses) == {Status.DONE}
        assert len(stage.actor.submitted) == 3


async def test_an_unforeseen_error_while_sending_leaves_the_job_uncertain(tmp_path: Path) -> None:
    with staged(tmp_path) as stage:

        async def broken(_: str) -> None:
            raise ZeroDivisionError("a bug")

        stage.actor.on_submit = broken
        result = await stage.play()
        assert (result.stop, stage.statuses) == (Stop.FAILED, [Status.UNCERTAIN])


async def test_a_ledger_that_fails_while_feeding_lets_answers_in_the_air_be_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with staged(tmp_path, 2, submits_per_minute=1) as stage:  # the first leaves before the second is reserved
        reserve = stage.ledger.attempts.reserve
        failed = asyncio.Event()

        def full(job_id: str, *args: object, **kwargs: object) -> object:
            if stage.actor.submitted:
                failed.set()
                raise LedgerError("the disk is full")
            return reserve(job_id, *args, **kwargs)  # type: ignore[arg-type]

        async def slow(_: str) -> None:
            await failed.wait()

        monkeypatch.setattr(stage.ledger.attempts, "reserve", full)
        stage.actor.on_submit = slow
        result = await stage.play()
        assert (result.stop, result.message) == (Stop.FAILED, "the disk is full")
        assert sorted(stage.statuses) == [Status.PENDING, Status.SUBMITTED]


async def test_a_job_that_another_command_moved_is_passed_over(tmp_path: Path) -> None:
    with staged(tmp_path, 3, in_flight=1) as stage:
        last = stage.jobs[-1]

        async def retired(_: str) -> None:
            with stage.another_process() as other, other.database.write() as db:
                db.execute("update jobs set retired = 1 where id = ?", (last.id,))

        stage.actor.on_submit = retired
        result = await stage.play()
        assert result.stop is None
        assert stage.statuses == [Status.DONE, Status.DONE]  # the retired one is listed no more
        assert len(stage.actor.submitted) == 2


async def test_a_stop_before_a_request_has_left_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with staged(tmp_path) as stage:
        run = stage.run()
        as_planned = submit._as_planned

        def interrupted(job: JobRecord) -> AnyRequest:
            run.interrupt()
            return as_planned(job)

        monkeypatch.setattr(submit, "_as_planned", interrupted)
        await run.run()
        assert (stage.actor.submitted, stage.statuses) == ([], [Status.PENDING])


async def test_without_credit_nothing_more_is_sent_and_what_runs_is_collected(tmp_path: Path) -> None:
    with staged(tmp_path, 4, in_flight=2) as stage:

        async def credit_for_two(_: str) -> None:
            if len(stage.actor.submitted) > 2:
                raise PaymentRequiredError(402, "no credit")

        stage.actor.on_submit = credit_for_two
        result = await stage.play()
        assert result.stop is Stop.NO_CREDIT
        assert sorted(stage.statuses) == [Status.DONE, Status.DONE, Status.PENDING, Status.PENDING]
        assert "submitting stopped" in stage.text


async def test_an_interruption_while_the_rest_is_collected_counts_as_one(tmp_path: Path) -> None:
    with staged(tmp_path, 3, in_flight=2) as stage:
        run = stage.run()

        async def credit_for_one(_: str) -> None:
            if len(stage.actor.submitted) > 1:
                raise PaymentRequiredError(402, "no credit")

        async def interrupt(_: str) -> None:
            run.interrupt()
            raise ServiceUnavailableError(503, "later", paid=False)

        stage.actor.on_submit, stage.actor.on_poll = credit_for_one, interrupt
        async with asyncio.timeout(30):
            result = await run.run()
        assert result.stop is Stop.INTERRUPTED


async def test_a_second_interruption_leaves_stuck_submits_uncertain(tmp_path: Path) -> None:
    with staged(tmp_path, 2) as stage:
        run = stage.run()

        async def stuck(_: str) -> None:
            run.interrupt()
            await asyncio.Event().wait()

        stage.actor.on_submit = stuck
        playing = asyncio.create_task(run.run())
        async with asyncio.timeout(30):
            await until(lambda: bool(stage.actor.submitted))
            playing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await playing
        assert Status.UNCERTAIN in stage.statuses
        assert Status.SUBMITTING not in stage.statuses
        stage.ledger.leases.claim(stage.batch.id, Holder.this_process(), utc_now())  # it was released


async def test_jobs_of_another_key_stay_paid_for_and_say_so(tmp_path: Path) -> None:
    with staged(tmp_path) as stage:

        async def interrupted(_: str) -> None:
            run.interrupt()
            raise ServiceUnavailableError(503, "later", paid=False)

        async def unknown(job_id: str) -> None:
            raise NotFoundError(404, f"{job_id} not found", paid=False)

        stage.actor.on_poll = interrupted
        run = stage.run()
        await run.run()
        stage.actor.account, stage.actor.on_poll = "account-2", unknown
        result = await stage.play()
        assert (result.stop, stage.statuses) == (None, [Status.SUBMITTED])
        assert "another API key" in stage.text
        assert len(stage.actor.submitted) == 1


async def test_a_runner_that_lost_its_lease_submits_nothing_more(tmp_path: Path) -> None:
    with staged(tmp_path, 3, in_flight=1) as stage:

        async def taken_over(_: str) -> None:
            with stage.another_process() as other, other.database.write() as db:
                db.execute("update batches set lease_owner = 'another'")

        stage.actor.on_poll = taken_over
        result = await stage.play()
        assert result.stop is Stop.FAILED
        assert "taken this batch over" in result.message
        assert len(stage.actor.submitted) == 1


async def test_a_job_that_lost_its_intent_before_the_send_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with staged(tmp_path) as stage:
        as_planned = submit._as_planned

        def meanwhile(job: JobRecord) -> AnyRequest:
            with stage.another_process() as other:
                other.attempts.recover_interrupted(stage.batch.id)
            return as_planned(job)

        monkeypatch.setattr(submit, "_as_planned", meanwhile)
        result = await stage.play()
        assert result.stop is Stop.FAILED
        assert stage.actor.submitted == []
        assert stage.statuses == [Status.UNCERTAIN]


async def test_the_clock_on_the_wall_may_jump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = iter([timedelta(hours=step) for step in (0, -5, 7, -9, 11)] * 100)
    for module in (scheduler, runner):
        monkeypatch.setattr(module, "utc_now", lambda: utc_now() + next(jumps))
    with staged(tmp_path, 5, in_flight=2) as stage:
        result = await stage.play()
        assert (result.stop, set(stage.statuses)) == (None, {Status.DONE})
