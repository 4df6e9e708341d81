"""When to poll a job next, and how long to back off. Pure functions of numbers; jitter is passed in.

``jitter`` is uniform in [0, 1). All times are seconds; the age of a job counts from its acceptance. The ages at which
to poll come from ``timetable``, which knows how long earlier jobs took.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

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
