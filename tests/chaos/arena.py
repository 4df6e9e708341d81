"""One batch, its ledger and a simulator in another process: killed, started again, and at last compared.

The simulator's journal is the truth about money; the ledger is what orbatch believes.
"""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from typer.testing import CliRunner

from orbatch.cli.app import app, move_global_options
from orbatch.cli.errors import ExitCode
from tests.chaos.audit import Audit, unknown_jobs
from tests.chaos.processes import PATIENCE_S, Launcher, Process

KEY = "sk-or-v1-chaos"
BATCH = "chaos"
MOST_RESTARTS = 30


@dataclass(frozen=True)
class Scene:
    """What is run. ``answer_delay_s``: simulated seconds from accepting an order to its answer."""

    prompts: int = 2  # for each of the two models
    in_flight: int = 2
    budget_usd: str = "100"
    speed: float = 300.0
    ranges: bool = False
    answer_delay_s: float = 0.0

    @property
    def jobs(self) -> int:
        return 2 * self.prompts

    def simulator_settings(self) -> dict[str, Any]:
        return {"speed": self.speed, "clip_bytes": 300_000, "ranges": self.ranges, "usage_lag_s": 30.0}

    def batch_file(self) -> str:
        # JSON is YAML.
        return json.dumps(
            {
                "name": BATCH,
                "output_dir": "out",
                "defaults": {"duration": 4, "resolution": "720p", "generate_audio": False},
                "models": ["google/veo-3.1-lite", {"model": "alibaba/wan-2.6", "duration": 5}],
                "prompts": [{"id": f"p{n}", "prompt": f"Cat number {n} asleep"} for n in range(self.prompts)],
                "budget": {"total_usd": self.budget_usd},
                "limits": {"in_flight": self.in_flight, "submits_per_minute": 600, "polls_per_second": 50},
                "polling": {"interval": 20, "timeout": 3600},
            }
        )


class Arena:
    """A scene that is being played in ``folder``; use it as a context manager.

    Counted are runs that were started and killed, kills of the simulator, and attempts that had to be resolved.
    """

    def __init__(self, folder: Path, scene: Scene, launcher: Launcher) -> None:
        self._launcher = launcher
        self.folder = folder
        self.scene = scene
        self.ledger = folder / "ledger.db"
        self.log = folder / "orbatch.log"
        self.starts = self.kills = self.provider_kills = self.uncertain = 0
        self._port = 0
        self._simulator: Process | None = None
        self._running: list[Process] = []
        folder.mkdir(parents=True, exist_ok=True)
        self.log.touch()
        (folder / "batch.yaml").write_text(scene.batch_file(), "utf-8")

    def __enter__(self) -> Self:
        self.start_simulator()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._running:
            process.signal(signal.SIGKILL)
            process.wait()
        self.kill_simulator()

    # -- the simulator

    def start_simulator(self) -> None:
        """On the same port as before, resuming from its journal."""
        log = self.folder / "simulator.log"
        log.touch()
        lines = len(log.read_text().splitlines())
        scene = self.scene
        simulator = {
            "port": self._port,
            "settings": scene.simulator_settings(),
            "answer_delay_s": scene.answer_delay_s,
        }
        order = {"folder": str(self.folder), "environment": {}, "log": str(log), "simulator": simulator}
        self._simulator = self._launcher.start(order)
        wait_until(lambda: len(log.read_text().splitlines()) > lines)
        url = log.read_text().splitlines()[-1]
        assert url.startswith("http://"), log.read_text()
        self._port = int(url.split(":")[2].split("/")[0])

    def kill_simulator(self) -> None:
        if self._simulator is not None:
            self.provider_kills += 1
            self._simulator.signal(signal.SIGKILL)
            self._simulator.wait()
            self._simulator = None

    def journal(self) -> dict[str, Any]:
        """The simulator's journal, once no request is on its way into it."""
        known = -1
        while True:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/_sim/journal", timeout=30) as answer:
                journal: dict[str, Any] = json.load(answer)
            if journal["accepted"] == known:
                return journal
            known = journal["accepted"]
            time.sleep(0.02)

    # -- orbatch

    def start(
        self,
        point: str = "",
        number: int = 1,
        *,
        with_signal: str = "SIGKILL",
        lease_s: float | None = None,
        only: str = "*",
    ) -> Process:
        """A real ``orbatch run``; with a ``point`` it ends itself at the ``number``-th passing of it."""
        self.starts += 1
        process = self._launcher.start(
            {
                "folder": str(self.folder),
                "log": str(self.log),
                "environment": self._environment,
                "point": point,
                "number": number,
                "signal": with_signal,
                "lease_s": lease_s,
                "arguments": [
                    *("--db", str(self.ledger), "run", "batch.yaml", "--yes"),
                    *("--speed", str(self.scene.speed), "--only", only),
                ],
            }
        )
        self._running.append(process)
        return process

    def wait(self, process: Process) -> int:
        """Its exit code; a negative one is the signal that killed it."""
        code = process.wait()
        assert code is not None, f"orbatch is stuck:\n{self.said()}"
        self._running.remove(process)
        self.kills += code == -signal.SIGKILL
        return code

    def run(self, point: str = "", number: int = 1, *, only: str = "*") -> int:
        return self.wait(self.start(point, number, only=only))

    @contextmanager
    def running(self) -> Iterator[Process]:
        """A run that has shown its plan and goes on; it is waited for at the end."""
        said = self.log.stat().st_size
        process = self.start()
        wait_until(lambda: self.log.stat().st_size > said or process.poll() is not None)
        yield process
        self.wait(process)

    def run_and_kill(self, after_s: float) -> None:
        """Kill it so long after it has shown its plan, at whatever it is doing then."""
        with self.running() as process:
            time.sleep(after_s)
            process.signal(signal.SIGKILL)

    def said(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def finish(self) -> None:
        """Run until everything is done, and resolve what is uncertain by the journal."""
        for _ in range(MOST_RESTARTS):
            code = self.run()
            if code == ExitCode.DONE:
                return
            # What the simulator's absence left is taken up by the next run.
            assert code in (ExitCode.UNCERTAIN, ExitCode.NO_OUTPUT), f"exit code {code}:\n{self.said()}"
            self.resolve()
        raise AssertionError(f"{MOST_RESTARTS} runs did not finish the batch:\n{self.said()}")

    def resolve(self) -> None:
        """What a user does who looks at the provider's activity page, which the journal stands for."""
        for job_id, remote_id in unknown_jobs(self.ledger, self.journal()):
            self.uncertain += 1
            verdict = ["--not-charged"] if remote_id is None else ["--remote-id", remote_id]
            self.command("resolve", job_id, *verdict)

    @property
    def _environment(self) -> dict[str, str]:
        return {
            "OPENROUTER_API_KEY": KEY,
            "OPENROUTER_BASE_URL": f"http://127.0.0.1:{self._port}/api/v1",
            "ORBATCH_CACHE_DIR": str(self.folder / "cache"),
        }

    def command(self, *arguments: str) -> str:
        """What another ``orbatch`` command on this ledger prints."""
        result = CliRunner().invoke(
            app, move_global_options(["--db", str(self.ledger), *arguments]), env=self._environment
        )
        assert result.exit_code == 0, result.output
        return result.output

    def audit(self) -> Audit:
        return Audit.of(self.ledger, self.folder / "out", self.journal())


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)
