"""The simulator as a process and as a thread."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orbatch_simulator import SimulatorSettings, simulator_thread
from tests.simulator.conftest import KEY, ORDER

SERVE = """
import sys
from pathlib import Path
from orbatch_simulator import SimulatorSettings, run_forever
run_forever(SimulatorSettings(speed=1e6), "127.0.0.1", 0, Path(sys.argv[1]), lambda url: print(url, flush=True))
"""


def ask(url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Authorization": f"Bearer {KEY}"})  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
        return json.loads(response.read())


@contextmanager
def serving(journal: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(journal)], stdout=subprocess.PIPE, text=True)
    with process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_a_killed_simulator_process_goes_on_where_it_was(tmp_path: Path) -> None:
    journal = tmp_path / "new folder" / "books.jsonl"
    with serving(journal) as (process, url):
        job_id = ask(f"{url}/videos", dict(ORDER))["id"]
        process.kill()
    with serving(journal) as (process, url):
        job = ask(f"{url}/videos/{job_id}")
        assert (job["status"], job["usage"]["cost"]) == ("completed", 0.12)
        books = ask(url.replace("/api/v1", "/_sim/journal"))
        assert (books["accepted"], books["charged"]) == (1, "0.12")


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_quietly(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path / "books.jsonl") as (process, _):
        process.send_signal(number)
        assert process.wait(timeout=10) == 0


def test_it_runs_in_a_thread_beside_blocking_code() -> None:
    with simulator_thread(SimulatorSettings(speed=1e6)) as simulator:
        job_id = ask(f"{simulator.base_url}/videos", dict(ORDER))["id"]
        assert ask(f"{simulator.base_url}/videos/{job_id}")["status"] == "completed"
        assert simulator.journal.accepted == 1


def test_a_port_that_is_taken_is_an_error_at_once() -> None:
    with simulator_thread() as simulator:
        port = int(simulator.base_url.split(":")[2].split("/")[0])
        with pytest.raises(OSError, match=r"."), simulator_thread(port=port):
            raise AssertionError
