"""Processes of ``orbatch``, started by one launcher that has imported everything already."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orbatch
import orbatch_provider

HERE = Path(__file__).parent
PATIENCE_S = 60.0  # real seconds until a process counts as stuck

SOURCES = os.pathsep.join(str(Path(package.__file__ or "").parents[1]) for package in (orbatch, orbatch_provider))


def environment() -> dict[str, str]:
    """Without proxies and keys, and with the same sources as this process."""
    own = ("ORBATCH_", "OPENROUTER_")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(own) and not name.lower().endswith("_proxy")
    }
    return kept | {"PYTHONPATH": SOURCES}


class Launcher:
    """Starts processes and hears of their end. Close it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "launcher.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            bufsize=0,
        )
        self._heard = b""
        self._codes: dict[int, int] = {}

    def start(self, order: dict[str, Any]) -> Process:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        while True:
            message = self._listen(PATIENCE_S)
            if message is not None and "started" in message:
                return Process(self, message["started"])

    def code(self, pid: int, timeout_s: float) -> int | None:
        """The exit code, once the process has ended; a negative one is the signal that killed it."""
        deadline = time.monotonic() + timeout_s
        while pid not in self._codes:
            if self._listen(max(0.0, deadline - time.monotonic())) is None:
                return None
        return self._codes[pid]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    def _listen(self, timeout_s: float) -> dict[str, int] | None:
        """The launcher's next message; None when there is none in time."""
        assert self._process.stdout is not None
        while b"\n" not in self._heard:
            if not select.select([self._process.stdout], [], [], timeout_s)[0]:
                return None
            heard = os.read(self._process.stdout.fileno(), 65536)
            assert heard, "the launcher has ended"
            self._heard += heard
        line, self._heard = self._heard.split(b"\n", 1)
        message: dict[str, int] = json.loads(line)
        if "ended" in message:
            self._codes[message["ended"]] = message["code"]
        return message


class Process:
    """One run of ``orbatch``."""

    def __init__(self, launcher: Launcher, pid: int) -> None:
        self._launcher = launcher
        self.pid = pid

    def poll(self) -> int | None:
        return self._launcher.code(self.pid, 0.0)

    def wait(self) -> int | None:
        """Its exit code, or None when it is stuck."""
        return self._launcher.code(self.pid, PATIENCE_S)

    def signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def is_frozen(self) -> bool:
        """Whether SIGSTOP holds it."""
        shown = subprocess.run(["ps", "-o", "state=", "-p", str(self.pid)], capture_output=True, text=True, check=False)
        return shown.stdout.strip().startswith("T")
