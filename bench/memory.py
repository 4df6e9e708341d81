"""Memory of a run: many large downloads in parallel, and a long queue behind a few jobs.

``python -m bench.memory downloads`` · ``pending``; ``--help`` shows the sizes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from bench.harness import (
    MODEL,
    environment,
    ledger_value,
    limits,
    measure,
    orbatch,
    python_path,
    raise_file_limit,
    require_done,
    running,
    show,
    simulator,
    write_batch,
)

RENDER_S = 10.0  # simulated
SPEED = 20.0
_SUBMITTED = "select count(*) from attempts where status = 'submitted'"
_DOWNLOAD_S = "select (julianday(max(done_at)) - julianday((select min(completed_at) from attempts))) * 86400 from jobs"
DONE_FIRST = 100  # jobs that a run has finished before its memory is read


def downloads(jobs: int, size: int, render_s: float, directory: Path) -> None:
    """All files in parallel, compared with a bare loop over the same transport."""
    total_mb = jobs * size / 1e6
    rows = []
    with simulator(render_s={MODEL: render_s}, clip_bytes=size) as server:
        env = environment(server.base_url)
        bare_directory = directory / "bare"
        bare_directory.mkdir(parents=True)
        command = [sys.executable, "-m", "bench.streaming", str(jobs), str(bare_directory)]
        bare = measure(command, env=env | python_path(), cwd=bare_directory)
        bare_s = float(bare.output)
        rows.append(
            ["bare streaming loop", f"{bare_s:.2f}", f"{total_mb / bare_s:.0f} MB/s", "1.00x", f"{bare.peak_mb:.0f} MB"]
        )
        batch = write_batch(directory / "run", jobs, limits=limits(jobs, min(jobs, 100)), polling={"interval": 600})
        ledger = batch.parent / "bench.db"
        command = orbatch("--quiet", "run", batch.name, "--yes")
        # Interrupted when all jobs are submitted: the next run finds all of them completed, and downloads in parallel.
        with running(command, env=env, cwd=batch.parent) as ordering:
            ordering.wait_until(lambda: ledger_value(ledger, _SUBMITTED) == jobs)
        time.sleep(render_s)
        run = measure(command, env=env, cwd=batch.parent)
        require_done(ledger, jobs)
        run_s = float(ledger_value(ledger, _DOWNLOAD_S))
        rows.append(
            [
                "orbatch run: hashed, decoded, synced, recorded",
                f"{run_s:.2f}",
                f"{total_mb / run_s:.0f} MB/s",
                f"{bare_s / run_s:.2f}x",
                f"{run.peak_mb:.0f} MB",
            ]
        )
    show(
        [f"{jobs} files of {size / 1e6:g} MB in parallel", "seconds", "throughput", "of the bare loop", "peak memory"],
        rows,
    )


def pending(few: int, many: int, done_first: int, directory: Path) -> None:
    """The same run with a short and with a long queue."""
    rows = []
    resident = []
    with simulator(speed=SPEED, render_s={MODEL: RENDER_S}, clip_bytes=20_000) as server:
        for jobs in (few, many):
            batch = write_batch(directory / str(jobs), jobs, limits=limits(16), polling={"interval": RENDER_S / 2})
            ledger = batch.parent / "bench.db"
            env = environment(server.base_url)
            measure(orbatch("plan", batch.name), env=env, cwd=batch.parent)
            command = orbatch("--quiet", "run", batch.name, "--yes", "--speed", str(SPEED))
            with running(command, env=env, cwd=batch.parent) as run:
                run.wait_until(partial(_has_done, ledger, min(done_first, few - 16)))
                resident.append(run.resident_mb())
            rows.append([f"{jobs:,}", f"{resident[-1]:.0f} MB", f"{resident[-1] - resident[0]:+.0f} MB"])
    show(["jobs in the batch", "memory of the run", "compared with the smaller"], rows)


def _has_done(ledger: Path, jobs: int) -> bool:
    return int(ledger_value(ledger, "select count(*) from jobs where status = 'done'")) >= jobs


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    rows = parser.add_subparsers(dest="row", required=True)
    row = rows.add_parser("downloads")
    row.add_argument("--jobs", type=int, default=48)
    row.add_argument("--size", type=int, default=20_000_000, help="bytes of a file")
    row.add_argument("--render-s", type=float, default=3.0, help="seconds that a job takes at the provider")
    row = rows.add_parser("pending")
    row.add_argument("--few", type=int, default=100)
    row.add_argument("--many", type=int, default=100_000)
    row.add_argument("--done-first", type=int, default=DONE_FIRST, help="jobs done before memory is read")
    given = parser.parse_args(arguments)
    raise_file_limit()
    with tempfile.TemporaryDirectory(prefix="orbatch-bench-") as name:
        if given.row == "downloads":
            downloads(given.jobs, given.size, given.render_s, Path(name))
        else:
            pending(given.few, given.many, given.done_first, Path(name))


if __name__ == "__main__":
    main()
