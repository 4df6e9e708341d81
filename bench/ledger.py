"""How the reading commands and planning hold up on a large ledger.

``python -m bench.ledger [--jobs N] [--keep FOLDER]`` builds a ledger of N jobs straight through SQL, then times the
real command line on it, each command in a process of its own, and the writing of a plan. Prints a table.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from orbatch.ledger import BatchFile, Ledger, PlannedJob
from orbatch.plan.jobs import KEY_TAG
from orbatch_provider.catalog import Catalog, VideoModel

JOBS = 1_000_000
JOBS_PER_BATCH = 100_000
PLANNED = 100_000
RUNS = 3  # of each command; the middle one counts
MODELS = [
    f"{author}/video-{size}" for author in ("alibaba", "google", "kling", "bytedance") for size in ("lite", "pro")
]
LINES = "text_to_video_duration_seconds_720p"
ORIGIN = "https://openrouter.ai"

# Of a hundred jobs, by their number: 1 failed, 1 pending with a reason, 1 in flight or to be downloaded, 2 retried.
_STATUS = """case n % 100 when 0 then 'failed' when 1 then 'pending'
  when 2 then case when n % 200 = 2 then 'submitted' else 'completed' end else 'done' end"""

_FILL = """
create temp table plan as
with recursive counting(n) as (select 1 union all select n + 1 from counting where n < :jobs)
select n, sha256(n) as digest, (n - 1) / :per_batch + 1 as batch_id, $STATUS as status,
  (select value from json_each(:models) where key = n % json_array_length(:models)) as model,
  strftime('%Y-%m-%dT%H:%M:%f', '2026-01-01', (n / 20) || ' seconds') || 'Z' as at,
  400000000 + 1000000 * (n % 7) as cost
from counting;

insert into batches (name, config_path, config_sha256, output_dir, origin, catalog_id, created_at, planned_at)
select 'batch-' || batch_id, '/clips/batch.yaml', 'sha256:0', '/clips/out', :origin, null, min(at), max(at)
from plan group by batch_id;

insert into jobs (id, batch_id, key, position, kind, model, prompt_id, prompt, variables, request, repeat, stem, status,
  wait_reason, estimate_low_nusd, estimate_exact_nusd, estimate_high_nusd, price_lines, price_why, error, created_at,
  done_at)
select substr(digest, 1, 16) || '-' || batch_id, batch_id, :tag || digest, n, 'video', model, 'prompt-' || n,
  'A cat playing with yarn number ' || n || ', seen from above on a rainy afternoon', '{}',
  json_object('model', model, 'prompt', 'A cat playing with yarn number ' || n, 'duration', 5, 'resolution', '720p'),
  1, 'prompt-' || n, status, case status when 'pending' then 'needs up to 0.40 USD' end, 400000000, 400000000,
  400000000, :lines, '5 s x 0.08 USD/s', case status when 'failed' then 'the provider said no' end, at,
  case status when 'done' then at end
from plan;

insert into attempts (job_id, batch_id, model, number, status, origin, account, day, price_lines, estimate_low_nusd,
  estimate_exact_nusd, estimate_high_nusd, reserved_nusd, settled, cost_nusd, remote_id, output_seconds, created_at,
  submitted_at, completed_at, settled_at, key)
select substr(digest, 1, 16) || '-' || batch_id, batch_id, model, 1,
  case when n % 100 in (3, 4) then 'failed' else status end, :origin, 'key-1', substr(at, 1, 10), :lines, 400000000,
  400000000, 400000000, 400000000, status <> 'submitted', case when status <> 'submitted' then cost end,
  'job-' || substr(digest, 20, 20), case status when 'done' then 5.0 end, at, at,
  case when status <> 'submitted' then at end, case when status <> 'submitted' then at end, 'first-' || n
from plan where status <> 'pending';

insert into attempts (job_id, batch_id, model, number, status, origin, account, day, price_lines, estimate_low_nusd,
  estimate_exact_nusd, estimate_high_nusd, reserved_nusd, settled, cost_nusd, remote_id, output_seconds, created_at,
  submitted_at, completed_at, settled_at, key)
select substr(digest, 1, 16) || '-' || batch_id, batch_id, model, 2, status, :origin, 'key-1', substr(at, 1, 10),
  :lines, 400000000, 400000000, 400000000, 400000000, 1, cost, 'job-' || substr(digest, 40, 20), 5.0, at, at, at, at,
  'second-' || n
from plan where n % 100 in (3, 4);

insert into outputs (job_id, attempt_id, number, path, bytes, sha256, mime_type, seconds, width, height, fps,
  video_codec, created_at)
select attempts.job_id, attempts.id, 0, '/clips/out/' || jobs.stem || '.mp4', 1000000, substr(jobs.key, 4), 'video/mp4',
  5.0, 1280, 720, 24.0, 'h264', jobs.done_at
from attempts join jobs on jobs.id = attempts.job_id where attempts.status = 'done';

insert into events (job_id, attempt_id, at, from_status, to_status, detail)
select attempts.job_id, attempts.id, attempts.created_at, step.value ->> 0, step.value ->> 1, null
from attempts, json_each('[["pending", "submitting"], ["submitting", "submitted"], ["submitted", "completed"],
  ["completed", "done"]]') as step;

insert into committed (batch_id, model, day, committed_nusd)
select batch_id, model, day, sum(case settled when 0 then reserved_nusd else cost_nusd end)
from attempts group by batch_id, model, day;

drop table plan;
"""


@dataclass(frozen=True, slots=True)
class Timing:
    """One line of the result. ``goal_s`` None: for information."""

    what: str
    seconds: float
    goal_s: float | None = None

    @property
    def cells(self) -> tuple[str, str, str]:
        goal = "" if self.goal_s is None else f"{self.goal_s:g} s"
        return self.what, f"{self.seconds:.2f} s", goal


def fill(ledger: Ledger, jobs: int) -> None:
    """Put ``jobs`` synthetic jobs with their attempts, files and history into an empty ledger."""
    values = {"jobs": jobs, "per_batch": JOBS_PER_BATCH, "models": json.dumps(MODELS)}
    values |= {"origin": ORIGIN, "tag": KEY_TAG, "lines": LINES}
    with ledger.database.read() as db:
        db.create_function("sha256", 1, lambda n: hashlib.sha256(str(n).encode()).hexdigest(), deterministic=True)
        db.execute("pragma synchronous = off")
        db.execute("pragma foreign_keys = off")
        db.execute("begin")
        for statement in _FILL.replace("$STATUS", _STATUS).split(";\n"):
            if statement.strip():
                names = {name: value for name, value in values.items() if f":{name}" in statement}
                db.execute(statement, names)
        db.execute("commit")
        db.execute("pragma wal_checkpoint(truncate)")


def planned_jobs(count: int) -> Iterator[PlannedJob]:
    """A plan as ``orbatch plan`` would make it, without the cost of making it."""
    for n in range(1, count + 1):
        model, prompt = MODELS[n % len(MODELS)], f"A cat playing with yarn, number {n}"
        yield PlannedJob(
            key=KEY_TAG + hashlib.sha256(prompt.encode()).hexdigest(),
            position=n,
            kind="video",
            model=model,
            prompt_id=f"prompt-{n}",
            prompt=prompt,
            variables={},
            request={"model": model, "prompt": prompt, "duration": 5, "resolution": "720p"},
            repeat=1,
            stem=f"prompt-{n}",
            estimate_low_nusd=400_000_000,
            estimate_exact_nusd=400_000_000,
            estimate_high_nusd=400_000_000,
            price_lines=LINES,
            price_why="5 s x 0.08 USD/s",
        )


def time_planning(directory: Path, count: int, runs: int = RUNS) -> list[Timing]:
    jobs = list(planned_jobs(count))
    catalog: Catalog[VideoModel] = Catalog({}, datetime(2026, 1, 1, tzinfo=UTC), "bench", "sha256:0")
    file = BatchFile("planned", directory / "batch.yaml", "sha256:0", directory / "out", ORIGIN)
    with Ledger.open(directory / "planned.db") as ledger:

        def write() -> None:
            ledger.plans.write(file, catalog, jobs)

        first = timed(write)
        again = middle(write, runs)
        status = middle(lambda: orbatch(directory / "planned.db", "status"), runs)
    return [
        Timing(f"write a plan of {count:,} jobs", first),
        Timing("write it again, nothing changed", again),
        Timing(f"`orbatch status`, {count:,} jobs planned", status, 0.5),
    ]


def time_commands(ledger: Path, jobs: int) -> list[Timing]:
    job_id = hashlib.sha256(b"77").hexdigest()[:16]
    remote_id = "job-" + hashlib.sha256(b"77").hexdigest()[19:39]
    commands: list[tuple[str, list[str], float | None]] = [
        ("`orbatch --help`", ["--help"], None),
        ("`orbatch report --by model`", ["report", "--by", "model"], 2.0),
        *[(f"`orbatch report --by {by}`", ["report", "--by", by], None) for by in ("day", "status")],
        ("`orbatch jobs --status failed` (1 % of all)", ["jobs", "--status", "failed"], 1.0),
        ("`orbatch --json jobs --status failed`", ["--json", "jobs", "--status", "failed"], 1.0),
        ("`orbatch show JOB`", ["show", job_id], 0.3),
        ("`orbatch show JOB` by remote id", ["show", remote_id], 0.3),
        ("`orbatch status`", ["status"], None),
    ]
    return [
        Timing(f"{what}, {jobs:,} jobs", middle(partial(orbatch, ledger, *arguments)), goal)
        for what, arguments, goal in commands
    ]


def orbatch(ledger: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "orbatch", "--db", str(ledger), *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - the program that is measured


def timed(action: Callable[[], None]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def middle(action: Callable[[], None], runs: int = RUNS) -> float:
    return sorted(timed(action) for _ in range(runs))[runs // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=JOBS, help="jobs in the ledger that is read")
    parser.add_argument("--planned", type=int, default=PLANNED, help="jobs in the plan that is written")
    parser.add_argument("--keep", type=Path, help="build the ledger in this directory and leave it there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = given.keep or Path(temporary)
        path = directory / f"ledger-{given.jobs}.db"
        timings = []
        if not path.exists():
            with Ledger.open(path) as ledger:
                timings.append(
                    Timing(f"(build the ledger of {given.jobs:,} jobs)", timed(lambda: fill(ledger, given.jobs)))
                )
        timings += time_commands(path, given.jobs)
        timings += time_planning(Path(temporary), given.planned)
        print_table(timings, path)


def print_table(timings: list[Timing], path: Path) -> None:
    print(f"The ledger is {path.stat().st_size / 1e6:,.0f} MB.\n")  # noqa: T201 - a bench prints
    for row in [("what", "time", "goal"), ("---", "---:", "---:"), *(timing.cells for timing in timings)]:
        print("| " + " | ".join(row) + " |")  # noqa: T201


if __name__ == "__main__":
    main()
