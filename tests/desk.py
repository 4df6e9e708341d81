"""A user's desk: a folder of its own with batch files and a ledger, a simulator that plays the service, and orbatch,
called as a real process or, where no process is needed to prove the point, in this one.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

import orbatch
import orbatch_provider
from orbatch.cli.app import app, move_global_options
from orbatch.ledger import Filter, Ledger
from orbatch.money import from_nano
from orbatch_simulator import Simulator

KEY = "sk-or-v1-e2e-c0ffee0123456789"
SPEED = 400.0
PATIENCE_S = 60  # for one process, on a machine that is busy; nothing takes so long

LITE = "google/veo-3.1-lite"  # 0.03 USD a second without sound
HORSE = "alibaba/happyhorse-1.1"  # 0.0988 USD a second

_SOURCES = os.pathsep.join(str(Path(path).parent) for path in (*orbatch.__path__, *orbatch_provider.__path__))


@dataclass(frozen=True)
class Outcome:
    """How a call ended. ``out`` and ``err`` are what it printed."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Desk:
    """``folder``: where the user is. ``env``: what every call finds in its environment beside PATH and the like.
    ``under``: a command that starts the processes, with its arguments."""

    def __init__(self, folder: Path, simulator: Simulator) -> None:
        self.folder = folder
        self.simulator = simulator
        self.db = folder / "orbatch.db"
        self.under: list[str] = []
        self._beside: list[subprocess.Popen[str]] = []
        self.env = {
            "OPENROUTER_API_KEY": KEY,
            "OPENROUTER_BASE_URL": simulator.base_url,
            "ORBATCH_DB": str(self.db),
            "ORBATCH_CACHE_DIR": str(folder / "cache"),
            "HOME": str(folder / "home"),
            "COLUMNS": "200",
        }

    # -- batch files

    def write(self, name: str = "films", **changes: Any) -> Path:
        """A batch file of three jobs at 0.12 USD; ``changes`` replace its keys, None takes one out. JSON is YAML."""
        batch: dict[str, Any] = {
            "name": name,
            "defaults": {"duration": 4, "resolution": "720p", "generate_audio": False},
            "models": [LITE],
            "prompts": ["a cat", "a dog", "a cow"],
            "limits": {"in_flight": 8, "submits_per_minute": 6000, "polls_per_second": 200},
        }
        batch = {key: value for key, value in (batch | changes).items() if value is not None}
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps(batch, indent=1), "utf-8")
        return path

    # -- calling orbatch

    def orbatch(self, *arguments: object, code: int | None = 0, **env: str) -> Outcome:
        """A real process, to its end. ``code``: what it must end with, None for any."""
        with self.started(*arguments, **env) as process:
            return process.finish(code)

    def call(self, *arguments: object, code: int | None = 0, typed: str | None = None, **env: str) -> Outcome:
        """The same command in this process: quicker, where nothing depends on a process of its own."""
        with contextlib.chdir(self.folder):
            result = CliRunner().invoke(
                app, move_global_options([*map(str, arguments)]), input=typed, env=self.env | env
            )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return _checked(arguments, Outcome(result.exit_code, result.stdout, result.stderr), code)

    def run(self, path: Path | str, *more: object, code: int | None = 0, **env: str) -> Outcome:
        """``orbatch run`` in this process, without asking, at the simulator's speed."""
        return self.call("run", path, "--yes", "--speed", self.speed, *more, code=code, **env)

    @contextlib.contextmanager
    def started(self, *arguments: object, **env: str) -> Iterator[Started]:
        """A real process that goes on beside the test; it is gone afterwards."""
        kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TMPDIR", "LANG") if name in os.environ}
        process = subprocess.Popen(
            [*self.under, sys.executable, "-m", "orbatch", *map(str, arguments)],
            env={**kept, "PYTHONPATH": _SOURCES, **self.env, **env},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._beside.append(process)
        with process:
            try:
                yield Started(process, arguments)
            finally:
                self._beside.remove(process)
                if process.poll() is None:
                    process.kill()

    @contextlib.contextmanager
    def running(self, path: Path | str, *more: object, **env: str) -> Iterator[Started]:
        """``orbatch run`` as a real process beside the test."""
        with self.started("run", path, "--yes", "--speed", self.speed, *more, **env) as run:
            yield run

    @property
    def speed(self) -> float:
        return self.simulator.state.settings.speed

    # -- what is true afterwards

    @contextlib.contextmanager
    def ledger(self, path: Path | None = None) -> Iterator[Ledger]:
        with Ledger.open(path or self.db, create=False) as ledger:
            yield ledger

    def jobs(self, *more: object) -> list[dict[str, Any]]:
        """Rows of ``jobs --json``."""
        rows: list[dict[str, Any]] = self.call("jobs", "--json", *more).json
        return rows

    def statuses(self) -> list[str]:
        """What the ledger says, also beside a process that writes it; nothing before it is there."""
        listed = self.call("jobs", "--json", code=None)
        return [row["status"] for row in listed.json] if listed.code == 0 else []

    def accepted(self) -> int:
        return self.simulator.journal.accepted

    def prompts_bought(self) -> list[str]:
        return sorted(job.prompt for job in self.simulator.journal.jobs.values())

    def until(self, condition: Callable[[], object], what: str = "what the test waits for") -> None:
        """Wait for something that a process beside the test makes happen."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not happen"
            for process in self._beside:
                assert process.poll() is None or condition(), f"{what} did not happen:\n{process.communicate()}"
            time.sleep(0.005)

    def assert_nothing_bought_twice(self) -> None:
        journal = self.simulator.journal
        assert journal.duplicates == 0
        with self.ledger() as ledger, ledger.database.read() as db:
            recorded = {row[0] for row in db.execute("select remote_id from attempts where remote_id is not null")}
            unknown = db.execute("select count(*) from attempts where status = 'uncertain'").fetchone()[0]
        assert len(journal.jobs.keys() - recorded) <= unknown
        assert recorded <= journal.jobs.keys()

    def assert_report_equals_journal(self) -> None:
        """To the nano-dollar, by every grouping, and through the commands that a user has."""
        journal = self.simulator.journal
        own = sum((job.cost_usd for job in journal.ended() if not job.is_byok), Decimal(0))
        fees = sum((job.cost_usd for job in journal.ended() if job.is_byok), Decimal(0))
        with self.ledger() as ledger:
            total = ledger.reports.total(Filter())
            assert (from_nano(total.charged_nusd), from_nano(total.byok_fee_nusd)) == (own, fees)
            assert total.reserved_nusd == 0
        for grouping in ("model", "batch", "day", "prompt", "status"):
            lines = self.call("report", "--by", grouping, "--format", "csv").out.splitlines()
            column = lines[0].split(",").index("cost_usd")
            assert sum(Decimal(line.split(",")[column]) for line in lines[1:]) == own, grouping


@dataclass
class Started:
    """A process that goes on beside the test."""

    process: subprocess.Popen[str]
    arguments: tuple[object, ...]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def finish(self, code: int | None = 0) -> Outcome:
        """Its end. ``code``: what it must end with, None for any; negative for a signal."""
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return _checked(self.arguments, Outcome(self.process.returncode, out, err), code)


def _checked(arguments: tuple[object, ...], outcome: Outcome, code: int | None) -> Outcome:
    assert "Traceback" not in outcome.text, outcome.text
    assert KEY not in outcome.text
    assert code is None or outcome.code == code, f"{arguments}: {outcome.code}\n{outcome.out}\n{outcome.err}"
    return outcome
