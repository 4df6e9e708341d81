"""What grows with the length of a batch, and what does not.

``python -m bench.growth plan`` times planning, the first submit of a resumed run, and ``status``.
``python -m bench.growth chart --output growth.svg`` runs batches of growing length, each up to its first 2,000
jobs, and draws jobs per second, CPU per job and memory.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.harness import (
    MODEL,
    environment,
    ledger_value,
    limits,
    measure,
    orbatch,
    raise_file_limit,
    running,
    show,
    simulator,
    write_batch,
)

RENDER_S = 10.0  # simulated
SPEED = 20.0
IN_FLIGHT = 50
MEASURED = 2000  # jobs of each batch that are measured
WARM_UP = 0.1  # of them, before the measuring begins
_DONE = "select count(*) from jobs where status = 'done'"


def plan(jobs: int, directory: Path) -> None:
    with simulator(speed=SPEED, render_s={MODEL: RENDER_S}, clip_bytes=20_000) as server:
        env = environment(server.base_url)
        batch = write_batch(
            directory / "plan", jobs, limits=limits(max(1, min(IN_FLIGHT, jobs // 3))), polling={"interval": 5}
        )
        ledger = batch.parent / "bench.db"
        planned = measure(orbatch("plan", batch.name), env=env, cwd=batch.parent)
        again = measure(orbatch("plan", batch.name), env=env, cwd=batch.parent)
        command = orbatch("--quiet", "run", batch.name, "--yes", "--speed", str(SPEED))
        with running(command, env=env, cwd=batch.parent) as run:
            run.wait_until(lambda: ledger_value(ledger, _DONE) > 0)
        before = ledger_value(ledger, "select count(*) from attempts")
        with running(command, env=env, cwd=batch.parent) as run:
            first_s = run.wait_until(lambda: ledger_value(ledger, "select count(*) from attempts") > before)
        status = measure(orbatch("status"), env=env, cwd=batch.parent)
    rows = [
        ["plan", f"{planned.wall_s:.2f} s", f"{planned.peak_mb:.0f} MB"],
        ["plan again, nothing changed", f"{again.wall_s:.2f} s", f"{again.peak_mb:.0f} MB"],
        ["first submit of a resumed run", f"{first_s:.2f} s", ""],
        ["status", f"{status.wall_s:.2f} s", f"{status.peak_mb:.0f} MB"],
    ]
    show([f"{jobs:,} jobs", "from the start of the command", "peak memory"], rows)


@dataclass(frozen=True, slots=True)
class Point:
    jobs: int
    jobs_per_s: float
    cpu_ms: float
    memory_mb: float


def chart(sizes: Sequence[int], measured: int, output: Path | None, directory: Path) -> None:
    points = [_measure(size, min(size, measured), directory / str(size)) for size in sizes]
    rows = [[f"{p.jobs:,}", f"{p.jobs_per_s:.0f}", f"{p.cpu_ms:.1f} ms", f"{p.memory_mb:.0f} MB"] for p in points]
    show(["jobs in the batch", "jobs/s", "CPU per job", "memory"], rows)
    if output is not None:
        output.write_text(draw(points), "utf-8")


def _measure(jobs: int, measured: int, directory: Path) -> Point:
    """The middle of a run: what starting and ending cost is measured elsewhere."""
    with simulator(speed=SPEED, render_s={MODEL: RENDER_S}, clip_bytes=20_000) as server:
        batch = write_batch(directory, jobs, limits=limits(IN_FLIGHT), polling={"interval": 5})
        ledger = directory / "bench.db"
        env = environment(server.base_url)
        measure(orbatch("plan", batch.name), env=env, cwd=directory)
        command = orbatch("--quiet", "run", batch.name, "--yes", "--speed", str(SPEED))
        with running(command, env=env, cwd=directory) as run:
            run.wait_until(lambda: (ledger_value(ledger, _DONE) or 0) >= measured * WARM_UP)
            begun, cpu_s, since = ledger_value(ledger, _DONE), run.cpu_s(), time.perf_counter()
            # Not to the very last: then the slots empty, and the run waits for single jobs.
            run.wait_until(lambda: ledger_value(ledger, _DONE) >= measured * (1 - WARM_UP))
            # A handful of jobs may all have ended between two queries.
            done = max(1, ledger_value(ledger, _DONE) - begun)
            passed_s = time.perf_counter() - since
            return Point(jobs, done / passed_s, (run.cpu_s() - cpu_s) / done * 1000, run.resident_mb())


_PANEL_WIDTH, _PANEL_HEIGHT, _MARGIN = 220, 150, 50


def draw(points: Sequence[Point]) -> str:
    """Three small charts as one SVG, over the number of jobs on a logarithmic axis."""
    series = (
        ("jobs per second", [point.jobs_per_s for point in points]),
        ("CPU per job, ms", [point.cpu_ms for point in points]),
        ("memory, MB", [point.memory_mb for point in points]),
    )
    width = len(series) * (_PANEL_WIDTH + _MARGIN) + _MARGIN
    height = _PANEL_HEIGHT + 2 * _MARGIN
    labels = [f"{point.jobs:,}" for point in points]
    panels = [
        _panel(_MARGIN + number * (_PANEL_WIDTH + _MARGIN), title, values, labels)
        for number, (title, values) in enumerate(series)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="11" fill="#333333">\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n' + "\n".join(panels) + "\n</svg>\n"
    )


def _panel(left: float, title: str, values: Sequence[float], labels: Sequence[str]) -> str:
    top, bottom = _MARGIN, _MARGIN + _PANEL_HEIGHT
    highest = max(values) * 1.15
    step = _PANEL_WIDTH / max(len(values) - 1, 1)
    places = [(left + number * step, bottom - value / highest * _PANEL_HEIGHT) for number, value in enumerate(values)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    marks = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#2a6fb0"/>' for x, y in places]
    texts = [
        f'<text x="{x:.1f}" y="{y - 7:.1f}" text-anchor="middle">{value:.3g}</text>'
        for (x, y), value in zip(places, values, strict=True)
    ]
    below = [
        f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{label}</text>'
        for (x, _), label in zip(places, labels, strict=True)
    ]
    return "\n".join(
        [
            f'<text x="{left}" y="{top - 22}" font-size="13" font-weight="bold">{title}</text>',
            f'<path d="M{left},{top} V{bottom} H{left + _PANEL_WIDTH}" fill="none" stroke="#999999"/>',
            f'<polyline points="{line}" fill="none" stroke="#2a6fb0" stroke-width="2"/>',
            *marks,
            *texts,
            *below,
        ]
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    rows = parser.add_subparsers(dest="row", required=True)
    row = rows.add_parser("plan")
    row.add_argument("--jobs", type=int, default=100_000)
    row = rows.add_parser("chart")
    row.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10_000, 100_000])
    row.add_argument("--measured", type=int, default=MEASURED, help="jobs of each batch that are measured")
    row.add_argument("--output", type=Path, help="where to draw the chart (SVG)")
    given = parser.parse_args(arguments)
    raise_file_limit()
    with tempfile.TemporaryDirectory(prefix="orbatch-bench-") as name:
        if given.row == "plan":
            plan(given.jobs, Path(name))
        else:
            chart(given.sizes, given.measured, given.output, Path(name))


if __name__ == "__main__":
    main()
