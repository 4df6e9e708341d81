"""When a job is polled: as plain tables of numbers, and as properties that hold whatever was seen before."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbatch.runner.poll_schedule import (
    EARLY_S,
    HISTORY_NEEDED,
    LONGEST_SLEEP,
    MAX_BACKOFF_S,
    MAX_RETRY_AFTER_S,
    MIN_POLL_INTERVAL_S,
    Observation,
    PollSchedule,
    backoff,
    bounded_retry_after,
    next_poll,
)

PLAN = [50.0, 60.0, 80.0]
KIND = ("some/model", 5)


@pytest.mark.parametrize(
    ("age_s", "interval_s", "ages", "jitter", "pause_s"),
    [
        # Nothing is known: the interval, a tenth more or less.
        pytest.param(0, 30, [], 0.0, 27, id="unknown-early"),
        pytest.param(0, 30, [], 0.5, 30, id="unknown"),
        pytest.param(300, 30, [], 1.0, 33, id="unknown-late"),
        # The first poll comes at the first age, the next at the next one.
        pytest.param(0, 30, PLAN, 0.5, 50, id="first"),
        pytest.param(50, 30, PLAN, 0.5, 10, id="second"),
        pytest.param(60, 30, PLAN, 0.5, 20, id="third"),
        # Jitter moves a planned poll by a second at most, and by less where the step is short.
        pytest.param(0, 30, PLAN, 0.0, 49, id="first-early"),
        pytest.param(50, 30, PLAN, 1.0, 10.5, id="second-late"),
        # A poll that came a second early was the first one: it is not made again.
        pytest.param(49, 30, PLAN, 0.5, 11, id="not-twice"),
        # A resumed job enters the plan at its age.
        pytest.param(52, 30, PLAN, 0.5, 8, id="resumed"),
        # It has outlived all others: short steps at first, then the interval.
        pytest.param(80, 30, PLAN, 0.5, 10, id="outlived"),
        pytest.param(100, 30, PLAN, 0.5, 20, id="outlived-by-20-s"),
        pytest.param(500, 30, PLAN, 0.5, 30, id="outlived-by-far"),
        # History is not believed for hours, nor that nothing ends between two ages.
        pytest.param(0, 30, [3600.0], 0.5, 240, id="never-asleep-for-long"),
        pytest.param(40, 30, [40.0, 3600.0], 0.5, 30, id="no-long-gap"),
        # One job is never polled faster than every two seconds.
        pytest.param(0, 0.1, [], 0.5, 2, id="short-interval"),
        pytest.param(0, 30, [0.5], 0.5, 2, id="short-jobs"),
        pytest.param(10, 30, [10.0, 11.2], 0.5, 2, id="close-ages"),
    ],
)
def test_the_next_poll_comes_when_it_is_worth_it(
    age_s: float, interval_s: float, ages: Sequence[float], jitter: float, pause_s: float
) -> None:
    assert next_poll(age_s, interval_s, ages, jitter) == pytest.approx(pause_s)


@pytest.mark.parametrize(
    ("failures", "first_s", "jitter", "pause_s"),
    [
        pytest.param(1, 5, 0.5, 5, id="first"),
        pytest.param(2, 5, 0.5, 10, id="doubles"),
        pytest.param(3, 5, 0.0, 15, id="a-quarter-less"),
        pytest.param(3, 5, 1.0, 25, id="a-quarter-more"),
        pytest.param(0, 5, 0.5, 5, id="no-failure-is-the-first"),
        pytest.param(10, 5, 0.5, MAX_BACKOFF_S, id="bounded"),
        pytest.param(100_000, 5, 0.5, MAX_BACKOFF_S, id="no-overflow"),
    ],
)
def test_a_back_off_doubles_up_to_its_bound(failures: int, first_s: float, jitter: float, pause_s: float) -> None:
    assert backoff(failures, first_s, jitter) == pytest.approx(pause_s)


@pytest.mark.parametrize(("header_s", "waited_s"), [(-5.0, 0.0), (30.0, 30.0), (86_400.0, MAX_RETRY_AFTER_S)])
def test_a_retry_after_is_obeyed_within_bounds(header_s: float, waited_s: float) -> None:
    assert bounded_retry_after(header_s) == waited_s


def ages_of(history: Sequence[Observation], interval_s: float = 30) -> Sequence[float]:
    """The ages to poll at where ``history`` is all that is known."""
    schedule = PollSchedule(interval_s)
    for observation in history:
        schedule.learn(KIND, observation)
    return schedule.ages(KIND)


durations = st.floats(0.01, 20_000)
histories = st.lists(
    st.tuples(durations, st.floats(0, 1)).map(lambda seen: Observation(seen[0] * seen[1], seen[0])), max_size=60
)


@settings(max_examples=60, deadline=None)
@given(histories, st.floats(2, 600), st.floats(0, 30_000), st.floats(0, 1, exclude_max=True))
def test_no_history_makes_polls_hammer_or_sleep_for_ages(
    history: list[Observation], interval_s: float, age_s: float, jitter: float
) -> None:
    ages = ages_of(history, interval_s)
    assert bool(ages) == (len(history) >= HISTORY_NEEDED)
    assert list(ages) == sorted(ages)
    pause_s = next_poll(age_s, interval_s, ages, jitter)
    assert MIN_POLL_INTERVAL_S <= pause_s <= max(LONGEST_SLEEP * interval_s + EARLY_S, MIN_POLL_INTERVAL_S)


def exactly(*ends_s: float) -> list[Observation]:
    return [Observation(end_s - 0.1, end_s) for end_s in ends_s]


def lognormal(median_s: float, spread: float, count: int = 100) -> list[Observation]:
    luck = random.Random(1)
    return exactly(*(median_s * luck.lognormvariate(0, spread) for _ in range(count)))


@pytest.mark.parametrize(
    ("history", "earliest_s", "latest_s"),
    [
        pytest.param(exactly(*[60.0] * 20), 59, 63, id="steady-jobs-are-polled-when-they-end"),
        pytest.param(lognormal(60, 0.25), 40, 60, id="varying-jobs-earlier-than-the-median"),
        pytest.param(lognormal(300, 0.1), 240, 295, id="long-jobs-late"),
        pytest.param(exactly(*[40.0] * 16, *[150.0] * 4), 39, 44, id="bimodal-jobs-by-the-first-mode"),
    ],
)
def test_the_first_poll_waits_until_the_job_is_likely_done(
    history: list[Observation], earliest_s: float, latest_s: float
) -> None:
    assert earliest_s <= ages_of(history)[0] <= latest_s


def test_a_shorter_interval_buys_more_polls() -> None:
    counts = [len(ages_of(lognormal(120, 0.25), interval_s)) for interval_s in (60, 30, 10)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_one_kind_of_job_says_nothing_about_another() -> None:
    schedule = PollSchedule(30)
    for observation in lognormal(60, 0.2):
        schedule.learn(KIND, observation)
    assert schedule.ages(KIND)
    assert not schedule.ages(("some/model", 10))
    assert not schedule.ages(("other/model", 5))


def poll(schedule: PollSchedule, length_s: float, luck: random.Random) -> tuple[float, int]:
    """A job polled as a run does it, and learnt from: its delay and its polls."""
    age_s = running_s = 0.0
    polls = 0
    while True:
        age_s += next_poll(age_s, 30, schedule.ages(KIND), luck.random())
        polls += 1
        if age_s >= length_s:
            schedule.learn(KIND, Observation(running_s, age_s))
            return age_s - length_s, polls
        running_s = age_s


def test_learning_from_what_was_seen_does_not_drift() -> None:
    """Each plan is made from ages at which polls were made; taken as they are, every generation would be later."""
    luck = random.Random(3)
    schedule = PollSchedule(30)
    delays = [poll(schedule, 60 * luck.lognormvariate(0, 0.15), luck)[0] for _ in range(2000)]
    early, late = delays[100:600], delays[-500:]
    assert sum(late) / 500 < 1.3 * sum(early) / 500
    assert sum(late) / 500 < 6


@pytest.mark.parametrize(
    ("before_s", "after_s"), [pytest.param(60, 240, id="slowdown"), pytest.param(240, 60, id="recovery")]
)
def test_after_a_sudden_change_the_plan_follows_within_some_dozens_of_jobs(before_s: float, after_s: float) -> None:
    luck = random.Random(5)
    schedule = PollSchedule(30)
    for _ in range(200):
        poll(schedule, before_s * luck.lognormvariate(0, 0.1), luck)
    for _ in range(60):
        _, polls = poll(schedule, after_s * luck.lognormvariate(0, 0.1), luck)
        assert polls <= after_s / 10 + 8  # meanwhile, nobody is hammered
    delays = [poll(schedule, after_s * luck.lognormvariate(0, 0.1), luck)[0] for _ in range(50)]
    assert sum(delays) / 50 < 7


def test_learnt_polls_are_much_better_than_the_interval_and_few_more() -> None:
    luck = random.Random(7)
    schedule = PollSchedule(30)
    lengths = [90 * luck.lognormvariate(0, 0.2) for _ in range(1500)]
    made = [poll(schedule, length, luck) for length in lengths]
    assert sum(polls for _, polls in made) <= 1.4 * sum(length / 30 + 0.5 for length in lengths)
    assert sum(delay for delay, _ in made) / 1500 < 15 / 2
