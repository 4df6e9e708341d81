"""Throughput and cost per job of the real command line, compared with the official SDK in the same run.

``python -m bench.throughput lifecycle`` · ``short`` · ``polls`` · ``startup``; ``--help`` shows the sizes. The
simulator runs in another process, and faster than real time, so that the poll intervals of a run shrink with its jobs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.harness import (
    MODEL,
    Measured,
    environment,
    ledger_value,
    limits,
    measure,
    moving_s,
    orbatch,
    python_path,
    raise_file_limit,
    require_done,
    running,
    show,
    simulator,
    write_batch,
)

RENDER_S = 10.0  # simulated; the speed turns it into the real time of a job
POLLS_PER_JOB = 2
LATE = 1.2  # of the interval


@dataclass(frozen=True, slots=True)
class Work:
    """``job_s``: real seconds that a job takes at the provider; ``size``: bytes of its file."""

    jobs: int
    in_flight: int
    job_s: float
    size: int

    @property
    def limit_s(self) -> float:
        """The lower bound in seconds: the slots are always busy."""
        return self.jobs / self.in_flight * self.job_s

    @property
    def speed(self) -> float:
        return RENDER_S / self.job_s


def lifecycle(work: Work, yardstick_jobs: int, directory: Path) -> None:
    """Submit, poll, download, record: all jobs from the first intent to the last file."""
    rows = []
    with simulator(speed=work.speed, render_s={MODEL: RENDER_S}, clip_bytes=work.size) as server:
        env = environment(server.base_url)
        batch = write_batch(
            directory / "orbatch",
            work.jobs,
            limits=limits(work.in_flight),
            polling={"interval": RENDER_S / POLLS_PER_JOB},
        )
        command = orbatch("--quiet", "run", batch.name, "--yes", "--speed", str(work.speed))
        ledger = batch.parent / "bench.db"
        planned = measure([*command, "--dry-run"], env=env, cwd=batch.parent)
        run = measure(command, env=env, cwd=batch.parent)
        require_done(ledger, work.jobs)
        rows.append(_row("orbatch run", work, moving_s(ledger), run, planned.cpu_s))
        for name, module, jobs in (
            ("only its provider, no ledger", "bench.bare", work.jobs),
            ("official SDK, no records", "bench.yardstick", yardstick_jobs),
        ):
            if jobs:
                part = Work(jobs, work.in_flight, work.job_s, work.size)
                rows.append(_other(name, module, part, env, directory / module))
    show(["", "jobs", "seconds", "jobs/s", "of the limit", "CPU per job", "peak memory"], rows)


def _other(name: str, module: str, work: Work, env: dict[str, str], directory: Path) -> list[str]:
    poll_s = work.job_s / POLLS_PER_JOB * 1.02  # so that the second poll sees the end
    arguments = [str(work.jobs), str(work.in_flight), str(poll_s), str(directory)]
    directory.mkdir()
    here = env | python_path()
    idle = measure([sys.executable, "-m", module, "0", *arguments[1:]], env=here, cwd=directory)
    done = measure([sys.executable, "-m", module, *arguments], env=here, cwd=directory)
    return _row(name, work, float(done.output), done, idle.cpu_s)


def _row(name: str, work: Work, seconds: float, done: Measured, start_cpu_s: float) -> list[str]:
    return [
        name,
        f"{work.jobs:,}",
        f"{seconds:.2f}",
        f"{work.jobs / seconds:.0f}",
        f"{seconds / work.limit_s:.2f}x",
        f"{(done.cpu_s - start_cpu_s) / work.jobs * 1000:.2f} ms",
        f"{done.peak_mb:.0f} MB",
    ]


def polls(jobs: int, interval_s: float, settling_s: float, watch_s: float, directory: Path) -> None:
    """Many jobs in flight that never end: what polling them costs, and whether any poll is late."""
    gaps = directory / "gaps.json"
    directory.mkdir(parents=True, exist_ok=True)
    with simulator(watch=str(gaps), render_s={MODEL: 1e6}) as server:
        batch = write_batch(
            directory / "polls", jobs, limits=limits(jobs), polling={"interval": interval_s, "timeout": 600_000}
        )
        command = orbatch("--quiet", "run", batch.name, "--yes")
        accepted = "select count(*) from attempts where status = 'submitted'"
        with running(command, env=environment(server.base_url), cwd=batch.parent) as run:
            run.wait_until(lambda: ledger_value(batch.parent / "bench.db", accepted) == jobs)
            time.sleep(settling_s)
            cpu_s, since = run.cpu_s(), time.monotonic()
            time.sleep(watch_s)
            until = time.monotonic()
            core = (run.cpu_s() - cpu_s) / (until - since)
            memory_mb = run.resident_mb()
    # One clock for all processes of the machine.
    seen = [gap for at, gap in json.loads(gaps.read_text("ascii")) if since <= at <= until]
    late = sum(gap > LATE * interval_s for gap in seen)
    show(
        ["in flight", "interval", "one core", "polls seen", f"later than {LATE:.0%}", "longest gap", "memory"],
        [
            [
                f"{jobs:,}",
                f"{interval_s:g} s",
                f"{core:.0%}",
                f"{len(seen):,}",
                f"{late:,}",
                f"{max(seen, default=0):.1f} s",
                f"{memory_mb:.0f} MB",
            ]
        ],
    )


def startup(jobs: int, repeats: int, directory: Path) -> None:
    """How long a user waits for the smallest commands."""
    env = environment("http://127.0.0.1:9/api/v1")
    with simulator() as server:
        batch = write_batch(directory / "startup", jobs)
        measure(orbatch("plan", batch.name), env=environment(server.base_url), cwd=batch.parent)
    rows = []
    for arguments in (["--help"], ["status"]):
        times = [measure(orbatch(*arguments), env=env, cwd=batch.parent).wall_s for _ in range(repeats)]
        rows.append([f"orbatch {arguments[0]}", f"{statistics.median(times):.3f} s", f"{min(times):.3f} s"])
    show(["", "median", "best"], rows)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.throughput", description=__doc__)
    rows = parser.add_subparsers(dest="row", required=True)
    for name, jobs, in_flight, job_s, size, yardstick in (
        ("lifecycle", 1000, 500, 0.5, 20_000, 500),
        ("short", 400, 50, 0.2, 200_000, 400),
    ):
        row = rows.add_parser(name)
        row.add_argument("--jobs", type=int, default=jobs)
        row.add_argument("--in-flight", type=int, default=in_flight)
        row.add_argument("--job-s", type=float, default=job_s, help="real seconds at the provider")
        row.add_argument("--size", type=int, default=size, help="bytes of a file")
        row.add_argument("--yardstick-jobs", type=int, default=yardstick, help="for the official SDK; 0 leaves it out")
    row = rows.add_parser("polls")
    row.add_argument("--jobs", type=int, default=10_000)
    row.add_argument("--interval", type=float, default=30.0)
    row.add_argument("--settling", type=float, default=40.0, help="seconds after the last submit before watching")
    row.add_argument("--watch", type=float, default=60.0, help="seconds to watch for")
    row = rows.add_parser("startup")
    row.add_argument("--jobs", type=int, default=1000)
    row.add_argument("--repeats", type=int, default=9)
    given = parser.parse_args(arguments)
    raise_file_limit()
    with tempfile.TemporaryDirectory(prefix="orbatch-bench-") as name:
        directory = Path(name)
        if given.row == "polls":
            polls(given.jobs, given.interval, given.settling, given.watch, directory)
        elif given.row == "startup":
            startup(given.jobs, given.repeats, directory)
        else:
            work = Work(given.jobs, given.in_flight, given.job_s, given.size)
            lifecycle(work, given.yardstick_jobs, directory)


if __name__ == "__main__":
    main()
