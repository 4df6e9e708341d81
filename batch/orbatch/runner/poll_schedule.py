"""At which ages jobs of each model and length are worth a poll, learnt from those that have ended.

What is known of an ended job is between which two polls it ended, and nothing finer. A duration taken as "when it was
seen" would contain the poll's own delay; planned with, it would put the next polls later still, and so on. So the plans
are made from both bounds.

All plans share one price of a poll, in seconds of waiting that it must save. The price is the lowest at which all jobs
together are polled no more often than at the plain interval: what jobs of a steady length save is spent on others.
Pure: no clock, no randomness. All times are seconds.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, log, sqrt

MIN_POLL_INTERVAL_S = 2.0  # a courtesy to the API: one job is never polled faster
MAX_BACKOFF_S = 120.0
MAX_RETRY_AFTER_S = 900.0

LONGEST_SLEEP = 8  # intervals until the first poll; history is not believed any further than that
LONGEST_GAP = 2  # intervals between two polls: where nothing ever ended, this job may
EARLY_S = 1.0  # how far jitter moves a planned poll to either side, so that jobs sent together are not asked together


def next_poll(age_s: float, interval_s: float, ages: Sequence[float], jitter: float) -> float:
    """Seconds to wait before a job of this age is polled (again).

    ``ages``: when it is worth it, sorted; empty where too little is known, and then the plain interval holds. A job
    that outlives them all is polled in growing steps, up to the interval.
    """
    # A poll that its jitter made early stands for its age in the plan; it is not made again.
    upcoming = bisect_right(ages, age_s + min(EARLY_S, 0.06 * age_s))
    if 0 < upcoming < len(ages) and ages[upcoming] - age_s < (ages[upcoming] - ages[upcoming - 1]) / 2:
        upcoming += (
            1  # the plan has changed meanwhile; taking every first age would make the steps smaller than planned
        )
    if upcoming < len(ages):
        longest = (LONGEST_SLEEP if upcoming == 0 else LONGEST_GAP) * interval_s
        step = min(ages[upcoming] - age_s, longest)
        return max(MIN_POLL_INTERVAL_S, step + (2 * jitter - 1) * min(EARLY_S, 0.05 * step))
    step = interval_s if not ages else min(interval_s, max(interval_s / 3, age_s - ages[-1]))
    return max(MIN_POLL_INTERVAL_S, step * (0.9 + 0.2 * jitter))


def backoff(failures: int, first_s: float, jitter: float, limit_s: float = MAX_BACKOFF_S) -> float:
    """Seconds to wait after the ``failures``-th failure in a row (1 is the first): doubling, bounded, jittered."""
    exponent = min(max(failures, 1) - 1, 32)
    return min(limit_s, first_s * 2.0**exponent) * (0.75 + 0.5 * jitter)


def bounded_retry_after(retry_after_s: float) -> float:
    """A provider's Retry-After; never waited for blindly beyond MAX_RETRY_AFTER_S."""
    return min(max(retry_after_s, 0.0), MAX_RETRY_AFTER_S)


HISTORY_NEEDED = 5  # ended jobs of a kind, before they say anything
HISTORY_KEPT = 150  # of a kind, the latest: what was true an hour ago may be over
REPLAN_SHARE = 0.25  # of the history, and HISTORY_NEEDED at least, must be new before plans are made with it
ALLOWED_SHARE = 0.92  # of the plain interval's polls: jobs that no plan foresees take more than planned
USUAL = 4  # medians; a job that took longer counts as so long when polls are pluralize
SURPRISE = 0.001  # a run of ends that was less likely than this: from here on, only they count

# A job that was done at its first poll may have been done for long. It is assumed to have ended within this share of
# its age, so that the next ones are looked at a little earlier, which tells more; within the larger share while no job
# at all was seen running.
_UNSEEN_SHARE, _ALL_UNSEEN_SHARE = 0.15, 0.5
_NORMAL = (0.0, 1.28, -0.52, 0.52, -1.28)  # the quintiles' middles of a normal distribution, in no order
_LEAST_BLUR = 0.01  # of an age
_POINTS = 96  # that a distribution is planned with
_PRICES = tuple(0.1 * 2**step for step in range(11))  # 0.1 to 102 s for a poll
_SEARCH_STEPS = 20

Kind = tuple[str, int | None]  # model, and ordered length of the video in seconds


@dataclass(frozen=True, slots=True)
class Ended:
    """A job was still running at the age ``after_s`` (0: never seen running) and was seen ended at ``by_s``."""

    after_s: float
    by_s: float

    @classmethod
    def recorded(cls, by_s: float) -> Ended:
        """From a ledger, which says when the end was seen, and not how long before it was looked for."""
        return cls(by_s * (1 - _UNSEEN_SHARE), by_s)


class PollSchedule:
    """``interval_s``: the plain interval, which is also what all polls together are measured by."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._kinds: dict[Kind, _Kind] = {}
        self._price: float | None = None

    def learn(self, kind: Kind, ended: Ended) -> None:
        """Take an ended job into account; the oldest come first."""
        self._kinds.setdefault(kind, _Kind()).learn(ended)

    def ages(self, kind: Kind) -> Sequence[float]:
        """When to poll a job of this kind; empty while too few have ended."""
        known = self._kinds.get(kind)
        if known is None:
            return ()
        if known.is_due:
            known.plan()
            self._price = None
        if not known.points:
            return ()
        if self._price is None:
            self._price = self._lowest_price()
        return known.ages(self._price)

    def _lowest_price(self) -> float:
        planned = [known for known in self._kinds.values() if known.points]
        at_interval = sum(known.ended * (known.mean_s / self._interval_s + 0.5) for known in planned)
        low, high = log(_PRICES[0]), log(_PRICES[-1])
        for _ in range(_SEARCH_STEPS):
            middle = (low + high) / 2
            if sum(known.ended * known.polls(middle) for known in planned) <= ALLOWED_SHARE * at_interval:
                high = middle
            else:
                low = middle
        return exp(high)


@dataclass(slots=True)
class _Kind:
    """What is known of one kind. ``points``: equally likely ends, sorted, that its plan is made with; ``ended``: jobs,
    the forgotten ones included."""

    history: deque[Ended] = field(default_factory=lambda: deque(maxlen=HISTORY_KEPT))
    points: Sequence[float] = ()
    ended: int = 0
    _new: int = 0
    _polls: Sequence[float] = ()  # mean number of polls at each of _PRICES
    _ages: Sequence[float] = ()
    _ages_price: float | None = None
    _early: _Run = field(default_factory=lambda: _Run())
    _late: _Run = field(default_factory=lambda: _Run())

    @property
    def is_due(self) -> bool:
        return self._new >= max(HISTORY_NEEDED, REPLAN_SHARE * len(self.history))

    @property
    def mean_s(self) -> float:
        """Without what was seen long after its end, by the next day's run: no job is polled more often for that."""
        usual = USUAL * self.points[len(self.points) // 2]
        return sum(min(point, usual) for point in self.points) / len(self.points)

    def learn(self, ended: Ended) -> None:
        self.history.append(ended)
        self.ended += 1
        self._new += 1
        if not self._ages:
            return
        before_first = bisect_right(self.points, self._ages[0]) / len(self.points)
        runs = (
            self._early.went_on(ended.after_s == 0, before_first),
            self._late.went_on(ended.after_s >= self._ages[-1], 1 / len(self.points)),
        )
        if any(runs):
            latest = list(self.history)[-max(self._early.length, self._late.length) :]
            self.history = deque(latest, maxlen=HISTORY_KEPT)
            self._new = len(latest)
            self._early, self._late = _Run(), _Run()

    def plan(self) -> None:
        """Make the points, and the number of polls at each price, from the history."""
        self._new = 0
        self.points = _points(self.history)
        self._polls = [cheapest_ages(self.points, price)[1] for price in _PRICES]
        self._ages_price = None

    def polls(self, log_price: float) -> float:
        """Mean number of polls at a price, read between the known ones."""
        place = (log_price - log(_PRICES[0])) / log(2)
        left = min(int(place), len(_PRICES) - 2)
        return self._polls[left] + (place - left) * (self._polls[left + 1] - self._polls[left])

    def ages(self, price: float) -> Sequence[float]:
        if self._ages_price != price:
            self._ages, self._ages_price = cheapest_ages(self.points, price)[0], price
        return self._ages


@dataclass(slots=True)
class _Run:
    """Ends in a row that all came earlier, or all later, than the plan expected; ``chance``: of that, by the plan."""

    length: int = 0
    chance: float = 1.0

    def went_on(self, surprising: bool, chance: float) -> bool:
        """Count one more end; whether the run is now too long for chance."""
        if not surprising:
            self.length, self.chance = 0, 1.0
            return False
        self.length += 1
        self.chance *= chance
        return self.length >= HISTORY_NEEDED and self.chance < SURPRISE


def poll_ages(history: Sequence[Ended], interval_s: float) -> Sequence[float]:
    """The ages at which to poll where this is all that is known; empty where it is too little."""
    kind = ("", None)
    timetable = PollSchedule(interval_s)
    for ended in history:
        timetable.learn(kind, ended)
    return timetable.ages(kind)


def _points(history: Sequence[Ended]) -> Sequence[float]:
    """The history as a distribution. Each end is spread over its bounds, and blurred: what ended at 61 s might as well
    have ended at 64 s."""
    unseen_share = _UNSEEN_SHARE if any(ended.after_s for ended in history) else _ALL_UNSEEN_SHARE
    bounds = [(ended.after_s or ended.by_s * (1 - unseen_share), ended.by_s) for ended in history]
    blur = _bandwidth(sorted(log((after + by) / 2) for after, by in bounds))
    spread = sorted(
        (after + (by - after) * (place + 0.5) / len(_NORMAL)) * exp(blur * offset)
        for after, by in bounds
        for place, offset in enumerate(_NORMAL)
    )
    if len(spread) <= _POINTS:
        return spread
    return [spread[(2 * k + 1) * len(spread) // (2 * _POINTS)] for k in range(_POINTS - 1)] + [spread[-1]]


def _bandwidth(logs: Sequence[float]) -> float:
    """Silverman's rule for the width of a kernel, by the middle half, so that a second mode does not widen it."""
    count = len(logs)
    mean = sum(logs) / count
    deviation = sqrt(sum((value - mean) ** 2 for value in logs) / count)
    middle = (logs[3 * count // 4] - logs[count // 4]) / 1.34
    return max(_LEAST_BLUR, 0.9 * min(deviation, middle) * exp(-0.2 * log(count)))


def cheapest_ages(points: Sequence[float], price: float) -> tuple[Sequence[float], float]:
    """The ages with the least mean of the delay plus ``price`` per poll, and the mean number of polls they make.

    Polls belong where a point is; which ones is found backwards from the last, which nobody outlives.
    """
    count = len(points)
    sums = [0.0]
    for point in points:
        sums.append(sums[-1] + point)
    # By number of ends that lie behind: the least cost from there on, and how many lie behind after the next poll.
    costs, chosen = [0.0] * (count + 1), [count] * (count + 1)
    for behind in range(count - 1, -1, -1):
        soonest = bisect_left(points, points[behind - 1] + MIN_POLL_INTERVAL_S, behind, count - 1) if behind else 0
        least = float("inf")
        # With fewer ends behind, the next poll is never later; that bounds the search.
        for then in range(soonest + 1, max(soonest + 1, chosen[behind + 1]) + 1):
            delay = points[then - 1] * (then - behind) - (sums[then] - sums[behind])
            cost = price * (count - behind) + delay + costs[then]
            if cost < least:
                least, chosen[behind] = cost, then
        costs[behind] = least
    ages: list[float] = []
    polls = behind = 0
    while behind < count:
        polls += count - behind
        behind = chosen[behind]
        ages.append(points[behind - 1])
    return ages, polls / count
