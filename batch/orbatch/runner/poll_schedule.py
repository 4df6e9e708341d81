"""When to poll a job next, learnt from the jobs of its kind that have ended; how long to wait after failures; and how
long a run may still take.

Example: of 20 earlier jobs the first ended after 48 s, half of them by 60 s, the last after 75 s. At the plain interval
of 30 s such a job is polled at 30, 60 and 90 s. Learnt, it is polled where one in five jobs ends: at 52, 57, 62, 68 and
75 s. Most jobs have ended before the last of them, so that each end is seen earlier for few polls more.

``python -m bench.polling`` compares this with plain intervals. Pure: no clock, no randomness. All times are seconds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

MIN_POLL_INTERVAL_S = 2.0  # a courtesy to the API: one job is never polled faster
MAX_BACKOFF_S = 120.0
MAX_RETRY_AFTER_S = 900.0  # a header may say a day; a run that obeyed it would seem dead

HISTORY_NEEDED = 5  # ended jobs of a kind, before they say anything
HISTORY_KEPT = 20  # of a kind, the latest: what was true an hour ago may be over
LONGEST_SLEEP = 8  # intervals until the first poll; history is not believed any further than that
EARLY_S = 1.0  # how far jitter moves a poll to either side, so that jobs submitted together are not polled together
# A job that was done at its first poll may have been done for long: assume an earlier end, so that the next ones are
# polled a little earlier, which tells more.
UNSEEN_SHARE = 0.3

Kind = tuple[str, int | None]  # model, and requested length of the video in seconds


@dataclass(frozen=True, slots=True)
class Observation:
    """A job was still running at the age ``after_s`` (0: never seen running) and had ended at the age ``by_s``.

    The end lies between the two. Taken as ``by_s`` it would contain the poll's own delay, and each plan made from it
    would poll later than the one before.
    """

    after_s: float
    by_s: float

    @property
    def end_s(self) -> float:
        """The most likely age at the end."""
        return (max(self.after_s, self.by_s * (1 - UNSEEN_SHARE)) + self.by_s) / 2


class PollSchedule:
    """Learns ages to poll at. ``interval_s``: the plain interval; learnt polls are up to 1.4 times as many."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._history: defaultdict[Kind, deque[float]] = defaultdict(lambda: deque(maxlen=HISTORY_KEPT))
        self._ages: dict[Kind, Sequence[float]] = {}  # a cache: thousands of jobs of a kind wait by the same ages

    def learn(self, kind: Kind, observation: Observation) -> None:
        """Take an ended job into account; the oldest come first."""
        self._history[kind].append(observation.end_s)
        self._ages.pop(kind, None)

    def ages(self, kind: Kind) -> Sequence[float]:
        """Ages at which a job of this kind is worth a poll, sorted; empty while too few have ended."""
        if kind not in self._ages:
            self._ages[kind] = self._quantiles(sorted(self._history[kind]))
        return self._ages[kind]

    def usual_s(self, model: str) -> float | None:
        """How long a job of this model takes in the mean; None while none has ended."""
        ends = [end for (of_model, _), found in self._history.items() if of_model == model for end in found]
        return sum(ends) / len(ends) if ends else None

    def _quantiles(self, ends: Sequence[float]) -> Sequence[float]:
        # Polled at n quantiles, a job is polled (n + 1) / 2 times in the mean: so n is twice what the interval makes.
        if len(ends) < HISTORY_NEEDED:
            return ()
        polls_at_interval = sum(ends) / len(ends) / self._interval_s + 0.5
        count = round(2 * polls_at_interval)
        return [ends[round((place + 1) / count * (len(ends) - 1))] for place in range(count)]


def next_poll(age_s: float, interval_s: float, ages: Sequence[float], jitter: float) -> float:
    """Seconds to wait before a job of this age is polled (again). ``jitter``: 0 to 1.

    Without ``ages`` the plain interval holds. A job that outlives them is polled in growing steps, up to the interval.
    """
    # A poll that its jitter made early stands for its age; it is not made again.
    upcoming = bisect_right(ages, age_s + min(EARLY_S, 0.06 * age_s))
    if upcoming < len(ages):
        # Between polls never more than the interval: where no earlier job ended, this one may.
        longest_s = interval_s * (LONGEST_SLEEP if upcoming == 0 else 1)
        step_s = min(ages[upcoming] - age_s, longest_s)
        return max(MIN_POLL_INTERVAL_S, step_s + (2 * jitter - 1) * min(EARLY_S, 0.05 * step_s))
    step_s = interval_s if not ages else min(interval_s, max(interval_s / 3, age_s - ages[-1]))
    return max(MIN_POLL_INTERVAL_S, step_s * (0.9 + 0.2 * jitter))


def time_left(work: Sequence[tuple[int, int, float]], in_flight: int, submits_per_minute: int | None) -> float:
    """Seconds until jobs have ended; ``work``: by model, how many are pending, how many run, and how long one takes.

    The longest of three bounds: jobs share the places in flight, submits are limited, and one job takes its time.
    """
    pending = sum(waiting for waiting, _, _ in work)
    job_s = sum(
        (waiting + running / 2) * usual_s for waiting, running, usual_s in work
    )  # half of a running one is over
    longest_s = max((usual_s if waiting else usual_s / 2 for waiting, running, usual_s in work), default=0.0)
    submits_s = pending * 60.0 / submits_per_minute if submits_per_minute else 0.0
    return max(job_s / in_flight, longest_s, submits_s)


def backoff(failures: int, first_s: float, jitter: float, limit_s: float = MAX_BACKOFF_S) -> float:
    """Seconds to wait after the ``failures``-th failure in a row (1 is the first): doubling, bounded, jittered."""
    exponent = min(max(failures, 1) - 1, 32)  # 2**1000 is no float
    return min(limit_s, first_s * 2.0**exponent) * (0.75 + 0.5 * jitter)


def bounded_retry_after(retry_after_s: float) -> float:
    """A provider's Retry-After in seconds, from 0 to MAX_RETRY_AFTER_S."""
    return min(max(retry_after_s, 0.0), MAX_RETRY_AFTER_S)
