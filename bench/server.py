"""The simulator in a process of its own: ``python -m bench.server '{"speed": 20}'`` prints its base URL and serves.

Next to the simulator's settings, ``watch`` names a file. At the end, a JSON list is written there with a pair for every
poll of a job but its first: when it came (seconds, monotonic), and how many seconds after the previous one.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from bench.harness import raise_file_limit
from orbatch_simulator import SimulatorSettings, run_forever
from orbatch_simulator.state import State


class Watch:
    """Records polls, by wrapping the method with which the simulator finds a job."""

    def __init__(self) -> None:
        self.gaps: list[tuple[float, float]] = []
        self._last: dict[str, float] = {}
        self._job_of = State.job_of

    def job_of(self, state: State, owner: str, job_id: str) -> Any:
        now = time.monotonic()
        if job_id in self._last:
            self.gaps.append((now, now - self._last[job_id]))
        self._last[job_id] = now
        return self._job_of(state, owner, job_id)


def ready(base_url: str) -> None:
    sys.stdout.write(base_url + "\n")
    sys.stdout.flush()


def main() -> None:
    raise_file_limit()
    settings = json.loads(sys.argv[1])
    target = settings.pop("watch", None)
    watch = Watch()
    if target is not None:
        State.job_of = lambda self, owner, job_id: watch.job_of(self, owner, job_id)  # type: ignore[method-assign]
    run_forever(SimulatorSettings(**settings), on_ready=ready)
    if target is not None:
        Path(target).write_text(json.dumps(watch.gaps), "ascii")


if __name__ == "__main__":
    main()
