"""The limits in front of the provider, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from itertools import pairwise

import pytest

from orbatch.batchfile.models import LimitsConfig, ModelLimits
from orbatch.runner.limits import Limits, Wait, submit_limiter


class Clock:
    """The time of the running loop, which stands still until the test moves it."""

    now = 1000.0


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: clock.now)
    return clock


def config(**given: object) -> LimitsConfig:
    return LimitsConfig(**given)  # type: ignore[arg-type] # by its own names


@pytest.mark.parametrize("speed", [1.0, 30.0])
@pytest.mark.parametrize("per_minute", [1, 2, 3, 10, 11, 19, 20, 30, 60, 100, 999])
async def test_no_minute_sees_more_submits_than_the_limit_and_a_long_run_nearly_as_many(
    clock: Clock, per_minute: int, speed: float
) -> None:
    sent: list[float] = []

    limiter = submit_limiter(per_minute, speed)
    tick = 60 / per_minute / 7 / speed
    while clock.now < 1000 + 300 / speed:
        while limiter.has_capacity():
            await limiter.acquire()
            sent.append((clock.now - 1000) * speed)
        clock.now += tick

    in_a_minute = max(bisect_left(sent, start + 60 - 1e-6) - index for index, start in enumerate(sent))
    assert in_a_minute <= per_minute
    assert len(sent) >= 5 * per_minute * 0.85


@pytest.mark.parametrize(("per_minute", "at_once"), [(1, 1), (19, 1), (30, 3), (100, 10)])
async def test_a_tenth_may_go_at_once(clock: Clock, per_minute: int, at_once: int) -> None:
    limits = Limits(config(submits_per_minute=per_minute))
    for _ in range(at_once):
        assert limits.why_not("a/one") is None
        await limits.take("a/one")
    wait = limits.why_not("a/one")
    assert wait is not None
    assert "limits.submits_per_minute" in wait.reason
    began = clock.now
    while (wait := limits.why_not("a/one")) is not None:
        assert wait.seconds is not None
        clock.now += wait.seconds
    assert clock.now - began <= 1.1 * 60 / (per_minute - at_once + 1)


async def test_a_models_own_limit_holds_it_back_alone(clock: Clock) -> None:
    own = {"a/slow": ModelLimits(in_flight=1, submits_per_minute=1)}
    limits = Limits(config(in_flight=3, submits_per_minute=600, models=own))
    await limits.take("a/slow")
    wait = limits.why_not("a/slow")
    assert wait is not None
    assert "limits.models" in wait.reason
    assert limits.why_not("a/fast") is None
    clock.now += 61
    limits.enter("a/slow")
    assert limits.why_not("a/slow") == Wait("1 jobs of a/slow are in flight (limits.models)")
    limits.leave("a/slow")
    assert limits.why_not("a/slow") is None


async def test_jobs_in_flight_are_bounded_over_all_models_and_runs(clock: Clock) -> None:
    limits = Limits(config(in_flight=2, submits_per_minute=600))
    limits.enter("a/one")
    assert limits.why_not("a/two") is None
    assert limits.why_not("a/two", elsewhere=1) == Wait("2 jobs are in flight (limits.in_flight)", 1.0)
    limits.enter("a/two")
    assert limits.in_flight == 2
    assert limits.why_not("a/one") == Wait("2 jobs are in flight (limits.in_flight)")


async def test_a_cool_down_holds_one_model_or_all_and_the_longer_one_stays(clock: Clock) -> None:
    limits = Limits(config())
    limits.cool_down("a/one", 10, "429: slow down")
    limits.cool_down("a/one", 5, "a shorter one")
    assert limits.why_not("a/one") == Wait("429: slow down", 10)
    assert limits.why_not("a/two") is None
    limits.cool_down(None, 3, "no connection")
    assert limits.why_not("a/two") == Wait("no connection", 3)
    clock.now += 4
    assert limits.why_not("a/two") is None
    assert limits.why_not("a/one") == Wait("429: slow down", 6)
    clock.now += 6
    assert limits.why_not("a/one") is None


async def test_refusals_in_a_row_are_counted_until_a_job_is_accepted(clock: Clock) -> None:
    limits = Limits(config())
    assert [limits.note_failure("a/one") for _ in range(3)] == [1, 2, 3]
    assert limits.note_failure(None) == 1
    assert limits.note_failure("a/two") == 1
    limits.note_success("a/one")
    assert [limits.note_failure(scope) for scope in ("a/one", None, "a/two")] == [1, 1, 2]


@pytest.mark.parametrize("per_second", [1, 2, 10])
async def test_polls_keep_their_own_pace(clock: Clock, per_second: int) -> None:
    sent: list[float] = []

    limits = Limits(config(polls_per_second=per_second))
    while clock.now < 1040:
        while limits.polls.has_capacity():
            await limits.polls.acquire()
            sent.append(clock.now)
        clock.now += 0.01

    burst = per_second
    assert all(later - at >= 0.99 for at, later in pairwise(sent[burst - 1 :: burst]))
    assert len(sent) == pytest.approx(40 * per_second, rel=0.1, abs=burst)
