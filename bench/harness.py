"""Shared by the benchmarks: a simulator in a process of its own, batch files, measured commands, tables."""

from __future__ import annotations

import json
import os
import platform
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

KEY = "sk-or-v1-0123456789abcdef"
MODEL = "google/veo-3.1-lite"
SETTINGS: dict[str, Any] = {"duration": 4, "resolution": "720p", "aspect_ratio": "16:9", "generate_audio": False}
TIMEOUT_S = 300.0  # of any one measured command
FILES_TRIED = 20  # to measure what creating one costs here

# Connections and files: 500 jobs in flight need more than the usual 1,024.
_FILES_WANTED = 65_536


def page_address(output: IO[str]) -> str:
    """What `orbatch view --json` prints first: the address of its page, with the token."""
    text = ""
    while not text.rstrip().endswith("}"):
        text += output.readline()
    return str(json.loads(text)["url"])


class BenchError(Exception):
    """A measured command did not do its work; the message has what it printed last."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One process from start to exit. ``cpu_s``: user and system time; ``peak_mb``: largest resident size, in MB of
    1,000,000 bytes; ``output``: what it wrote to stdout."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    output: str


@dataclass(frozen=True, slots=True)
class Server:
    """A running simulator: its base URL and its process."""

    base_url: str
    process: subprocess.Popen[str]


def environment(base_url: str = "") -> dict[str, str]:
    """This process's environment, with the key and the address of the simulator, and no proxies."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return kept | {"OPENROUTER_API_KEY": KEY, "OPENROUTER_BASE_URL": base_url, "ORBATCH_DB": "bench.db"}


def measure(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    allowed: Sequence[int] = (0,),
    timeout_s: float = TIMEOUT_S,
) -> Measured:
    """Run a command to its end. Raises BenchError if the exit code is not in ``allowed``, or it takes too long."""
    errors = cwd / "stderr.txt"
    with errors.open("w") as stderr:
        started = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603 - the program under test
            command, env=dict(env), cwd=cwd, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
        killer = threading.Timer(timeout_s, process.kill)
        killer.start()
        assert process.stdout is not None
        try:
            output = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            wall_s = time.perf_counter() - started
        finally:
            killer.cancel()
            process.stdout.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in allowed:
        last = errors.read_text("utf-8", "replace")[-1500:]
        raise BenchError(
            f"{' '.join(command)} ended with {process.returncode} after {wall_s:.1f} s:\n{last}{output[-500:]}"
        )
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return Measured(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit / 1e6, output)


@dataclass(frozen=True, slots=True)
class Running:
    """A command that is still running."""

    process: subprocess.Popen[bytes]
    started: float  # by time.perf_counter

    def cpu_s(self) -> float:
        """User and system time so far. Linux only."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mb(self) -> float:
        """Resident memory now. Linux only."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def wait_until(self, reached: Callable[[], bool], timeout_s: float = TIMEOUT_S) -> float:
        """Seconds since the start when ``reached`` first held. Raises BenchError when the command ends before."""
        while not reached():
            if self.process.poll() is not None or time.perf_counter() - self.started > timeout_s:
                raise BenchError(f"the run did not get far enough (exit code {self.process.returncode})")
            time.sleep(0.02)
        return time.perf_counter() - self.started


@contextmanager
def running(command: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> Iterator[Running]:
    """A command in the background, interrupted at the end of the block as by Ctrl-C twice."""
    with (cwd / "stderr.txt").open("w") as stderr:
        process = subprocess.Popen(  # noqa: S603 - the program under test
            command, env=dict(env), cwd=cwd, stdout=subprocess.DEVNULL, stderr=stderr
        )
        try:
            yield Running(process, time.perf_counter())
        finally:
            for _ in range(2):
                process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(1)
            process.kill()
            process.wait()


def orbatch(*arguments: str) -> list[str]:
    """The command line under test."""
    return [sys.executable, "-m", "orbatch", *arguments]


@contextmanager
def simulator(**settings: object) -> Iterator[Server]:
    """A simulator with these settings, in another process, until the block ends."""
    process = subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", "bench.server", json.dumps(settings)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment() | python_path(),
    )
    try:
        assert process.stdout is not None
        base_url = process.stdout.readline().strip()
        if not base_url:
            raise BenchError("the simulator did not start")
        yield Server(base_url, process)
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def write_batch(directory: Path, jobs: int, **sections: Any) -> Path:
    """A batch file of ``jobs`` text prompts in ``directory``; ``sections`` are further top-level keys."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "prompts.txt").open("w", encoding="utf-8") as prompts:
        prompts.writelines(f"A cat on roof number {number} at dusk, waiting for rain\n" for number in range(jobs))
    batch = {
        "name": "bench",
        "defaults": SETTINGS,
        "models": [MODEL],
        "prompts_from": "prompts.txt",
        "budget": {"total_usd": 1_000_000},
    }
    path = directory / "batch.yaml"
    path.write_text(json.dumps(batch | sections), "utf-8")  # JSON is YAML
    return path


def limits(in_flight: int, downloads: int = 50) -> dict[str, int]:
    """Limits wide enough to measure what is behind them."""
    return {"in_flight": in_flight, "submits_per_minute": 10_000, "polls_per_second": 1000, "downloads": downloads}


def ledger_value(path: Path, query: str) -> Any:
    """The single value of a query over a ledger; None while there is none."""
    connection = sqlite3.connect(path, timeout=30)
    try:
        return connection.execute(query).fetchone()[0]
    except sqlite3.OperationalError:
        return None
    finally:
        connection.close()


def moving_s(ledger: Path) -> float:
    """Seconds from the first intent to the last file, by the ledger: a run without the start of its program."""
    query = "select (julianday(max(done_at)) - julianday((select min(created_at) from attempts))) * 86400 from jobs"
    return float(ledger_value(ledger, query))


def require_done(ledger: Path, jobs: int) -> None:
    """A figure counts only when all the work was done."""
    done = ledger_value(
        ledger, "select count(*) from jobs join outputs on outputs.job_id = jobs.id where status = 'done'"
    )
    if done != jobs:
        raise BenchError(f"only {done} of {jobs} jobs are done in {ledger}")


def raise_file_limit() -> None:
    """Let this process and those it starts hold many connections."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _FILES_WANTED if hard == resource.RLIM_INFINITY else min(_FILES_WANTED, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def machine() -> str:
    """One line about where the figures come from."""
    processor = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), processor)
    making_ms, syncing_ms = _disk_ms()
    return (
        f"{os.cpu_count()} cores ({processor}), {platform.system()}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}; a file is created in {making_ms:.2f} ms and synced in {syncing_ms:.2f} ms"
    )


def _disk_ms() -> tuple[float, float]:
    """Medians in the directory of the benchmarks (TMPDIR). Every job creates files, and on some disks that takes fifty
    times as long if many files have just been removed, as by a previous benchmark."""
    making, syncing = [], []
    with tempfile.TemporaryDirectory(prefix="orbatch-bench-") as directory:
        for number in range(FILES_TRIED):
            started = time.perf_counter()
            with (Path(directory) / str(number)).open("wb", buffering=0) as file:
                making.append(time.perf_counter() - started)
                file.write(bytes(4096))
                started = time.perf_counter()
                os.fsync(file.fileno())
                syncing.append(time.perf_counter() - started)
    return statistics.median(making) * 1000, statistics.median(syncing) * 1000


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table, padded so that it reads well in a terminal too."""
    lines = [list(head), *[list(row) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    padded = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    return "\n".join([padded[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *padded[1:]])


def python_path() -> dict[str, str]:
    """What lets a process in another directory import the benchmarks."""
    return {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])}


def show(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    sys.stdout.write(f"{table(head, rows)}\n\n{machine()}\n")
