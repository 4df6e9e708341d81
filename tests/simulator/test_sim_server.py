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
from tests.simulator.conftest import KEY, REQUEST

SERVE = """
import sys
from pathlib import Path
from orbatch_simulator import SimulatorSettings, run_forever
run_forever(SimulatorSettings(speed=1e6), lambda url: print(url, flush=True), journal_path=Path(sys.argv[1]))
"""


def ask(url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Authorization": f"Bearer {KEY}"})  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
        return json.loads(response.read())


@contextmanager
def serving(path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with subprocess.Popen([sys.executable, "-c", SERVE, str(path)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_a_killed_simulator_process_resumes_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new directory" / "journal.jsonl"
    with serving(path) as (process, url):
        job_id = ask(f"{url}/videos", dict(REQUEST))["id"]
        process.kill()
    with serving(path) as (process, url):
        job = ask(f"{url}/videos/{job_id}")
        assert (job["status"], job["usage"]["cost"]) == ("completed", 0.12)
        journal = ask(url.replace("/api/v1", "/_sim/journal"))
        assert (journal["accepted"], journal["charged"]) == (1, "0.12")


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_quietly(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path / "journal.jsonl") as (process, _):
        process.send_signal(number)
        assert process.wait(timeout=10) == 0


def test_it_runs_in_a_thread_next_to_blocking_code_and_a_port_that_is_taken_is_an_error() -> None:
    with simulator_thread(SimulatorSettings(speed=1e6)) as simulator:
        job_id = ask(f"{simulator.base_url}/videos", dict(REQUEST))["id"]
        assert ask(f"{simulator.base_url}/videos/{job_id}")["status"] == "completed"
        assert simulator.journal.accepted == 1
        port = int(simulator.base_url.split(":")[2].split("/")[0])
        with pytest.raises(OSError, match=r"."), simulator_thread(port=port):
            raise AssertionError


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"sped": 3}, "sped\n  Unexpected keyword argument"),
        ({"speed": "fast"}, "speed\n  Input should be a valid number"),
        ({"speed": 0}, "speed\n  Input should be greater than 0"),
        ({"outputs": 0}, "outputs\n  Input should be greater than 0"),
        ({"ranges": 1}, "ranges\n  Input should be a valid boolean"),
        ({"credit_usd": 0.1}, "credit_usd\n  Input should be an instance of Decimal"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        SimulatorSettings(**settings)
