"""When a job is polled: as plain tables of numbers, and as properties that hold for whatever was seen before."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbatch.runner.poll_schedule import (
    EARLY_S,
    HISTORY_NEEDED,
    LONGEST_GAP,
    LONGEST_SLEEP,
    MAX_BACKOFF_S,
    MAX_RETRY_AFTER_S,
    MIN_POLL_INTERVAL_S,
    Ended,
    PollSchedule,
    backoff,
    bounded_retry_after,
    next_poll,
    poll_ages,
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
        # A resumed job enters the plan at its age; an age that is less than half a step away is skipped.
        pytest.param(52, 30, PLAN, 0.5, 8, id="entered-before-half-a-step"),
        pytest.param(56, 30, PLAN, 0.5, 24, id="entered-after-half-a-step"),
        # It has outlived all others: short steps at first, then the interval.
        pytest.param(80, 30, PLAN, 0.5, 10, id="outlived"),
        pytest.param(100, 30, PLAN, 0.5, 20, id="outlived-by-20-s"),
        pytest.param(500, 30, PLAN, 0.5, 30, id="outlived-by-far"),
        # History is not believed for hours, nor that nothing ends between two ages.
        pytest.param(0, 30, [3600.0], 0.5, 240, id="never-asleep-for-long"),
        pytest.param(40, 30, [40.0, 3600.0], 0.5, 60, id="no-long-gap"),
        # One job is never asked for faster than every two seconds.
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


@pytest.mark.parametrize(("asked_s", "waited_s"), [(-5.0, 0.0), (30.0, 30.0), (86_400.0, MAX_RETRY_AFTER_S)])
def test_a_retry_after_is_obeyed_within_bounds(asked_s: float, waited_s: float) -> None:
    assert bounded_retry_after(asked_s) == waited_s


durations = st.floats(0.01, 20_000)
histories = st.lists(
    st.tuples(durations, st.floats(0, 1)).map(lambda seen: Ended(seen[0] * seen[1], seen[0])), max_size=60
)


@settings(max_examples=60, deadline=None)
@given(histories, st.floats(2, 600), st.floats(0, 30_000), st.floats(0, 1, exclude_max=True))
def test_no_history_makes_polls_hammer_or_sleep_for_ages(
    history: list[Ended], interval_s: float, age_s: float, jitter: float
) -> None:
    ages = poll_ages(history, interval_s)
    pause_s = next_poll(age_s, interval_s, ages, jitter)
    longest_s = max(LONGEST_SLEEP, LONGEST_GAP) * interval_s + EARLY_S
    assert MIN_POLL_INTERVAL_S <= pause_s <= max(longest_s, MIN_POLL_INTERVAL_S)


@settings(max_examples=60, deadline=None)
@given(histories, st.floats(2, 600))
def test_planned_ages_rise_in_steps_of_two_seconds_at_least(history: list[Ended], interval_s: float) -> None:
    ages = poll_ages(history, interval_s)
    assert bool(ages) == (len(history) >= HISTORY_NEEDED)
    # The very last age is where the longest job ended, however close that is.
    assert all(later - earlier >= MIN_POLL_INTERVAL_S - 1e-6 for earlier, later in pairwise(ages[:-1]))
    assert all(later > earlier for earlier, later in pairwise(ages))


def seen_exactly(*ends: float) -> list[Ended]:
    return [Ended(end - 0.1, end) for end in ends]


def lognormal(median_s: float, spread: float, count: int = 100) -> list[Ended]:
    luck = random.Random(1)
    return seen_exactly(*(median_s * luck.lognormvariate(0, spread) for _ in range(count)))


@pytest.mark.parametrize(
    ("history", "earliest_s", "latest_s"),
    [
        pytest.param(seen_exactly(*[60.0] * 20), 59, 63, id="steady-jobs-are-polled-when-they-end"),
        pytest.param(lognormal(60, 0.25), 40, 60, id="varying-jobs-earlier-than-the-median"),
        pytest.param(lognormal(300, 0.1), 240, 295, id="long-jobs-late"),
        pytest.param(seen_exactly(*[40.0] * 16, *[150.0] * 4), 39, 44, id="bimodal-jobs-by-the-first-mode"),
    ],
)
def test_the_first_poll_waits_until_the_job_is_likely_done(
    history: list[Ended], earliest_s: float, latest_s: float
) -> None:
    assert earliest_s <= poll_ages(history, 30)[0] <= latest_s


def test_slower_jobs_are_polled_later() -> None:
    firsts = [poll_ages(lognormal(median_s, 0.2), 30)[0] for median_s in (30, 60, 120, 240)]
    assert firsts == sorted(firsts)


def test_a_shorter_interval_buys_more_polls() -> None:
    counts = [len(poll_ages(lognormal(120, 0.25), interval_s)) for interval_s in (60, 30, 10)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_between_two_modes_there_is_no_planned_poll() -> None:
    ages = poll_ages(seen_exactly(*[40.0 + n / 10 for n in range(40)], *[200.0 + n for n in range(10)]), 30)
    assert not [age for age in ages if 50 < age < 190]


def test_a_job_seen_a_day_late_does_not_make_others_be_polled_more() -> None:
    usual = lognormal(60, 0.2, 40)
    assert len(poll_ages([*usual, Ended(0, 86_400)], 30)) <= len(poll_ages(usual, 30)) + 2


def test_one_kind_of_job_says_nothing_about_another() -> None:
    timetable = PollSchedule(30)
    for ended in lognormal(60, 0.2):
        timetable.learn(KIND, ended)
    assert timetable.ages(KIND)
    assert not timetable.ages(("some/model", 10))
    assert not timetable.ages(("other/model", 5))


def follow(timetable: PollSchedule, length_s: float, luck: random.Random) -> tuple[float, int]:
    """A job polled as a run does it, and learnt from: its delay and its polls."""
    age_s = running_s = 0.0
    polls = 0
    while True:
        age_s += next_poll(age_s, 30, timetable.ages(KIND), luck.random())
        polls += 1
        if age_s >= length_s:
            timetable.learn(KIND, Ended(running_s, age_s))
            return age_s - length_s, polls
        running_s = age_s


def test_learning_from_what_was_seen_does_not_drift() -> None:
    """Each plan is made from ages at which polls were made; taken as they are, every generation would be later."""
    luck = random.Random(3)
    timetable = PollSchedule(30)
    delays = [follow(timetable, 60 * luck.lognormvariate(0, 0.15), luck)[0] for _ in range(2000)]
    early, late = delays[100:600], delays[-500:]
    assert sum(late) / 500 < 1.3 * sum(early) / 500
    assert sum(late) / 500 < 6


@pytest.mark.parametrize(
    ("before_s", "after_s"), [pytest.param(60, 240, id="slowdown"), pytest.param(240, 60, id="recovery")]
)
def test_after_a_sudden_change_the_plan_follows_within_some_dozens_of_jobs(before_s: float, after_s: float) -> None:
    luck = random.Random(5)
    timetable = PollSchedule(30)
    for _ in range(200):
        follow(timetable, before_s * luck.lognormvariate(0, 0.1), luck)
    for _ in range(60):
        _, polls = follow(timetable, after_s * luck.lognormvariate(0, 0.1), luck)
        assert polls <= after_s / 10 + 8  # meanwhile, nobody is hammered
    delays = [follow(timetable, after_s * luck.lognormvariate(0, 0.1), luck)[0] for _ in range(50)]
    assert sum(delays) / 50 < 7


def test_all_in_all_there_are_no_more_polls_than_at_the_interval() -> None:
    luck = random.Random(7)
    timetable = PollSchedule(30)
    lengths = [90 * luck.lognormvariate(0, 0.2) for _ in range(1500)]
    made = [follow(timetable, length, luck) for length in lengths]
    at_interval = sum(length / 30 + 0.5 for length in lengths)
    assert sum(polls for _, polls in made) <= 1.05 * at_interval
    assert sum(delay for delay, _ in made) / 1500 < 15 / 2
