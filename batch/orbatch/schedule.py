"""When to poll a job next, and how long to back off. Pure functions of numbers; jitter is passed in.

``jitter`` is uniform in [0, 1). All times are seconds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

MIN_POLL_INTERVAL_S = 2.0  # a courtesy to the API: one job is never polled faster
MAX_BACKOFF_S = 120.0
MAX_RETRY_AFTER_S = 900.0
HISTORY_NEEDED = 5  # durations of one kind of job that must be known before they say anything
HISTORY_KEPT = 200

# The share of earlier jobs that had finished by the time of the first poll. Low, because a poll that comes too late
# costs the user waiting time, while one that comes too early costs only a request.
FIRST_POLL_QUANTILE = 0.35


def next_poll(age_s: float, interval_s: float, durations: Sequence[float], jitter: float) -> float:
    """Seconds to wait before polling a job that was accepted ``age_s`` ago.

    ``durations``: sorted, how long earlier jobs of that model and length took. With fewer than HISTORY_NEEDED, or
    when this one has outlived them all, the plain interval holds. Otherwise the next poll comes when a good part of
    those that took longer than ``age_s`` had finished: a long sleep at first, then short steps where most jobs end.
    """
    later = durations[bisect_right(durations, age_s) :]
    if len(durations) < HISTORY_NEEDED or not later:
        return max(MIN_POLL_INTERVAL_S, interval_s * (0.9 + 0.2 * jitter))
    expected = later[int(len(later) * FIRST_POLL_QUANTILE)] - age_s
    step = max(expected, interval_s / 6)
    if age_s >= durations[0]:
        step = min(step, interval_s)
    return max(MIN_POLL_INTERVAL_S, step * (1.0 + 0.1 * jitter))


def backoff(failures: int, first_s: float, jitter: float, limit_s: float = MAX_BACKOFF_S) -> float:
    """Seconds to wait after the ``failures``-th failure in a row (1 is the first): doubling, bounded, jittered."""
    exponent = min(max(failures, 1) - 1, 32)
    return min(limit_s, first_s * 2.0**exponent) * (0.75 + 0.5 * jitter)


def bounded_retry_after(retry_after_s: float) -> float:
    """A provider's Retry-After; never waited for blindly beyond MAX_RETRY_AFTER_S."""
    return min(max(retry_after_s, 0.0), MAX_RETRY_AFTER_S)
