"""Types the console blocks of a page as a reader would, and compares what the page shows with what happens.

In a block marked ``console`` a line that begins with ``$ `` is typed, and the lines below it are what it prints. A page
is typed from top to bottom in one folder. ``...`` stands for lines left out, ``^C`` for the reader's Ctrl-C after the
first job was accepted, ``$ echo $?`` for the exit code of the command before: without it that must be 0. A command that
ends in ``&`` goes on beside the others.

A simulator plays the service, so that commands for real money can be typed too. It is faster than real time, and
commands that wait for it are told so by ``--speed``. That and a free port are all that is added to what the page says.

A page cannot know where a Ctrl-C strikes, so figures are not compared in a block that holds one.

``python -m tests.console PAGE ...`` writes into the pages what the commands print now. Where lines are left out, each
line that is no longer printed becomes the one most like it, so look at what it made.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from orbatch_simulator import SimulatorSettings, simulator_thread

ROOT = Path(__file__).parents[1]
SPEED = 200.0
PATIENCE_S = 120  # for one command, on a machine that is busy
PORT_ON_PAGES = "8787"  # of `orbatch simulate`
_ABBREVIATED = {"...", "^C"}

_VARYING = [
    (r"· \d+ s ·", "· # s ·"),  # how long a job took
    (r" in \d+:\d\d\.", " in #."),  # and a run
    (r"\b\d\d:\d\d +\d+:\d\d\b", "SINCE"),
    (r"/home/you/\w+", "FOLDER"),
    (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
    (r"\d\d:\d\d:\d\d", "TIME"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "TIME"),
    (r"gen-vid-[\w-]+", "REMOTE"),
    (r"(https?://)?(127\.0\.0\.1:\d+|openrouter\.ai)(?!/activity)", "SERVICE"),
    (r"[\d.]+ GB free", "SPACE free"),
    (r"\b\d+ bytes", "SIZE bytes"),  # these two depend on the encoder's version
    (r"\b[0-9a-f]{64}\b", "HASH"),
    (r"─+", "─"),
    (r"\s{2,}", "  "),
]


@dataclass(frozen=True)
class Step:
    """A command of a page and the lines that the page shows below it."""

    command: str
    shown: list[str]
    line: int
    block: str

    @property
    def is_abbreviated(self) -> bool:
        return not _ABBREVIATED.isdisjoint(self.shown)

    @property
    def is_interrupted(self) -> bool:
        return "^C" in self.shown

    @property
    def has_fixed_figures(self) -> bool:
        return "\n^C\n" not in self.block


def blocks(page: str, language: str) -> Iterator[tuple[int, str]]:
    """Fenced blocks of a language: the number of the first line inside, and the text."""
    for match in re.finditer(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        yield page.count("\n", 0, match.start(1)) + 1, match[1]


def steps(page: str) -> list[Step]:
    found: list[Step] = []
    for first, text in blocks(page, "console"):
        for number, line in enumerate(text.splitlines(), first):
            if line.startswith("$ "):
                found.append(Step(line[2:], [], number, text))
            else:
                found[-1].shown.append(line)
    return found


def shape(line: str, folder: Path, *, numbers: bool = True) -> str:
    """The line without what differs from one run to the next; ``numbers=False``: without any figure, too."""
    line = line.replace(str(folder), "/home/you/folder").rstrip()
    for pattern, word in _VARYING:
        line = re.sub(pattern, word, line)
    if not numbers:
        line = re.sub(r"(?<![\w.-])(\d+(\.\d+)?%?|-)(?![\w-])", "#", line)
        line = re.sub(r"#( +#)+", "#", line)  # an amount may be a range
    return line


def shapes(lines: Sequence[str], folder: Path, *, numbers: bool = True) -> list[str]:
    return [shape(line, folder, numbers=numbers) for line in lines if line.strip() and line not in _ABBREVIATED]


@dataclass
class Terminal:
    """A folder, an environment, and the exit code of the last command."""

    folder: Path
    environment: dict[str, str]
    service: str  # host and port
    inside: Path  # where the reader is, in the folder
    last_code: int = 0
    port: str = ""
    beside: list[subprocess.Popen[str]] = field(default_factory=list)

    def type(self, step: Step) -> list[str]:
        """Do what the command says; the lines that it printed, errors and results in the order of a terminal."""
        words = shlex.split(step.command.replace(PORT_ON_PAGES, self._port()))
        program, rest = words[0], words[1:]
        if program == "export":
            self.environment |= dict(word.split("=", 1) for word in rest)
            return []
        if step.command == "echo $?":
            return [str(self.last_code)]
        if program == "mkdir":
            (self.inside / rest[0]).mkdir()
            return []
        if program == "cd":
            self.inside /= rest[0]
            return []
        if program == "ls":
            return sorted(path.name for path in (self.inside / rest[0]).glob("[!.]*"))
        assert program == "orbatch", f"line {step.line}: {program} cannot be typed here"
        if rest[-1] == "&":
            return self._beside([*rest[:-1], f"--port={self._port()}"])
        if rest[0] == "run" and not step.is_interrupted and "--speed" not in rest:
            rest.append(f"--speed={SPEED}")
        return self._printed(rest, is_interrupted=step.is_interrupted)

    def as_on_pages(self, line: str, folder_name: str) -> str:
        """The line as the page of a reader in ``folder_name`` shows it."""
        line = line.replace(f"http://{self.service}", "https://openrouter.ai").replace(self.service, "openrouter.ai")
        return line.replace(str(self.folder), folder_name).replace(f":{self.port}/", f":{PORT_ON_PAGES}/").rstrip()

    def close(self) -> None:
        for process in self.beside:
            process.terminate()
            process.communicate(timeout=PATIENCE_S)

    def _port(self) -> str:
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = str(probe.getsockname()[1])
        return self.port

    def _start(self, arguments: Sequence[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "orbatch", *arguments],
            cwd=self.inside,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )

    def _printed(self, arguments: Sequence[str], *, is_interrupted: bool) -> list[str]:
        lines: list[str] = []
        with self._start(arguments) as process, _killed_when_late(process):
            assert process.stdout is not None
            if is_interrupted:
                threading.Thread(target=self._interrupt_when_submitted, args=[process], daemon=True).start()
            lines += [line.rstrip("\n") for line in process.stdout]
        self.last_code = process.returncode
        return lines

    def _interrupt_when_submitted(self, process: subprocess.Popen[str]) -> None:
        """Press Ctrl-C once the simulator has accepted a job, and before any is done."""
        before = self._accepted()
        while process.poll() is None and self._accepted() == before:
            time.sleep(0.01)
        time.sleep(0.3)  # the other jobs that fit in flight are submitted, and none is done
        process.send_signal(signal.SIGINT)

    def _accepted(self) -> int:
        return sum(path.read_text("utf-8").count('"accepted"') for path in self.folder.rglob("*.simulator.jsonl"))

    def _beside(self, arguments: Sequence[str]) -> list[str]:
        process = self._start(arguments)
        self.beside.append(process)
        assert process.stdout is not None
        with _killed_when_late(process):
            return [process.stdout.readline().rstrip("\n")]


@contextlib.contextmanager
def _killed_when_late(process: subprocess.Popen[str]) -> Iterator[None]:
    timer = threading.Timer(PATIENCE_S, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def terminal(folder: Path, base_url: str) -> Terminal:
    """A terminal in ``folder`` with the example configs, where the service is at ``base_url`` and no key is set."""
    folder /= "here"  # so that a page may go beside it
    shutil.copytree(ROOT / "configs", folder / "configs")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENROUTER_", "ORBATCH_"))}
    environment = kept | {
        "OPENROUTER_BASE_URL": base_url,
        "ORBATCH_CACHE_DIR": str(folder / ".cache"),
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
    }
    return Terminal(folder.resolve(), environment, urlsplit(base_url).netloc, folder.resolve())


def differences(step: Step, lines: Sequence[str], folder: Path) -> list[str]:
    """What the page shows and the command did not print; for a whole output also the other way round."""
    exact = step.has_fixed_figures
    expected, found = shapes(step.shown, folder, numbers=exact), shapes(lines, folder, numbers=exact)
    # Jobs overtake each other, so a run's lines come in any order.
    if step.is_abbreviated or step.command.startswith("orbatch run"):
        return [line for line in expected if line not in found]
    return [] if expected == found else [f"shown: {expected}", f"found: {found}"]


def rewritten(page: str, here: Terminal) -> str:
    """The page with what its commands print now, where that is not what it shows."""
    lines = page.splitlines()
    name = match[0] if (match := re.search(r"/home/you/\w+", page)) else "/home/you/films"
    shift = 0
    for step in steps(page):
        typed = here.type(step)
        wrong = differences(step, typed, here.folder)
        if not wrong:
            continue
        output = [here.as_on_pages(line, name) for line in typed]
        if step.is_abbreviated:
            output = [
                nearest(line, output) if shape(line, here.folder, numbers=step.has_fixed_figures) in wrong else line
                for line in step.shown
            ]
        start = step.line + shift
        lines[start : start + len(step.shown)] = output
        shift += len(output) - len(step.shown)
    return "\n".join(lines) + "\n"


def nearest(line: str, output: Sequence[str]) -> str:
    """The line of the output that says what an outdated one of the page said; the old one when none is like it."""
    return next(iter(difflib.get_close_matches(line, output, n=1, cutoff=0.5)), line)


def main(pages: Sequence[str]) -> None:
    for page in map(Path, pages):
        with tempfile.TemporaryDirectory() as folder, simulator_thread(SimulatorSettings(speed=SPEED)) as simulator:
            here = terminal(Path(folder), simulator.base_url)
            try:
                page.write_text(rewritten(page.read_text("utf-8"), here), "utf-8")
            finally:
                here.close()


if __name__ == "__main__":
    main(sys.argv[1:])
