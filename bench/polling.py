"""What adaptive polling gains over a fixed interval: waiting after a job's end, and polls per job.

``python -m bench.polling`` simulates batches with the scheduler of a run and nothing else: no network, no clock. Every
batch begins without any history; jobs are accepted one every few seconds, and what their polls saw is all that the
schedule learns from.
"""

from __future__ import annotations

import argparse
import heapq
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp

from bench.harness import show
from orbatch.runner.poll_schedule import Observation, PollSchedule, next_poll

INTERVAL_S = 30.0
FIXED_S = (10.0, 20.0, 30.0)
ACCEPTED_EVERY_S = 4.0
SEEDS = (1, 2, 3)

Render = Callable[[random.Random, float], float]  # (randomness, share of the batch that was sent) -> seconds


def lognormal(median_s: float, spread: float) -> Render:
    return lambda luck, _: min(median_s * exp(luck.gauss(0, spread)), 4 * median_s)


def bimodal(luck: random.Random, _: float) -> float:
    """Four jobs of five find a free slot; the others queue."""
    return (40 if luck.random() < 0.8 else 150) * exp(luck.gauss(0, 0.08))


def with_outliers(luck: random.Random, _: float) -> float:
    return 60 * exp(luck.gauss(0, 0.15)) * (6 if luck.random() < 0.03 else 1)


def slowdown(luck: random.Random, sent: float) -> float:
    return (60 if sent < 0.3 else 180) * exp(luck.gauss(0, 0.2))


def recovery(luck: random.Random, sent: float) -> float:
    return (180 if sent < 0.3 else 60) * exp(luck.gauss(0, 0.2))


# Medians and spreads like those of public status pages and reports: a small model that takes 40 s within a few per
# cent, others around one to two minutes, a large one of five.
SCENARIOS: Mapping[str, Sequence[Render]] = {
    "one model, 60 s, spread 15 %": [lognormal(60, 0.15)],
    "one model, 60 s, spread 25 %": [lognormal(60, 0.25)],
    "one model, 300 s, spread 25 %": [lognormal(300, 0.25)],
    "one model, 40 s, spread 4 %": [lognormal(40, 0.04)],
    "bimodal, 40 and 150 s": [bimodal],
    "3 % take six times as long": [with_outliers],
    "sudden slowdown, 60 to 180 s": [slowdown],
    "sudden recovery, 180 to 60 s": [recovery],
    "mixed lengths and models": [
        lognormal(40, 0.04),
        lognormal(45, 0.08),
        lognormal(60, 0.15),
        lognormal(100, 0.2),
        lognormal(100, 0.25),
        lognormal(160, 0.2),
        lognormal(300, 0.2),
        bimodal,
    ],
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Seconds between a job's end and the poll that saw it, and polls per job."""

    mean_s: float
    p95_s: float
    polls: float


def simulate(renders: Sequence[Render], jobs: int, seed: int, fixed_s: float | None = None) -> Outcome:
    """One batch, its jobs spread over the kinds at random. ``fixed_s``: a plain interval instead of the schedule."""
    luck = random.Random(seed)
    kinds = [luck.randrange(len(renders)) for _ in range(jobs)]
    ends = [renders[kind](luck, number / jobs) for number, kind in enumerate(kinds)]
    schedule = PollSchedule(INTERVAL_S)
    running_s = [0.0] * jobs  # age at the last poll that found it running
    delays = []
    polls = 0
    # (time, job, whether it is polled then; at first it is only accepted)
    queue = [(number * ACCEPTED_EVERY_S, number, False) for number in range(jobs)]
    while queue:
        now, job, is_poll = heapq.heappop(queue)
        age_s = now - job * ACCEPTED_EVERY_S
        kind = (str(kinds[job]), None)
        polls += is_poll
        if is_poll and age_s >= ends[job]:
            delays.append(age_s - ends[job])
            schedule.learn(kind, Observation(running_s[job], age_s))
            continue
        running_s[job] = age_s
        pause_s = fixed_s or next_poll(age_s, INTERVAL_S, schedule.ages(kind), luck.random())
        heapq.heappush(queue, (now + pause_s, job, True))
    delays.sort()
    return Outcome(sum(delays) / jobs, delays[int(0.95 * jobs)], polls / jobs)


def mean(outcomes: Sequence[Outcome]) -> Outcome:
    count = len(outcomes)
    return Outcome(
        sum(outcome.mean_s for outcome in outcomes) / count,
        sum(outcome.p95_s for outcome in outcomes) / count,
        sum(outcome.polls for outcome in outcomes) / count,
    )


def compare(jobs: int) -> None:
    rows = []
    for name, renders in SCENARIOS.items():
        count = jobs * max(1, len(renders) // 2)
        learnt = mean([simulate(renders, count, seed) for seed in SEEDS])
        fixed = {interval: mean([simulate(renders, count, seed, interval) for seed in SEEDS]) for interval in FIXED_S}
        widest = fixed[FIXED_S[-1]]
        rows.append(
            [
                name,
                f"{learnt.mean_s:.1f} / {learnt.p95_s:.1f} / {learnt.polls:.2f}",
                *[f"{one.mean_s:.1f} / {one.p95_s:.1f} / {one.polls:.2f}" for one in fixed.values()],
                f"{learnt.mean_s / widest.mean_s:.2f}",
                f"{learnt.polls / widest.polls:.2f}",
            ]
        )
    show(
        [
            "mean s / 95 % s / polls per job",
            "schedule",
            *[f"every {interval:g} s" for interval in FIXED_S],
            "delay, of 30 s",
            "polls, of 30 s",
        ],
        rows,
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.polling", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000, help="jobs of each batch; more where kinds are mixed")
    given = parser.parse_args(arguments)
    compare(given.jobs)


if __name__ == "__main__":
    main()
