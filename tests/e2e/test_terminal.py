"""What a person at a terminal sees: the question before money is spent, the live view, and no control characters."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest
from rich.cells import cell_len

from orbatch.cli.streams import printable
from orbatch_simulator import Fault
from tests.conftest import Open
from tests.desk import HORSE, LITE, PATIENCE_S, Desk

LONG = 1e6  # simulated seconds: far beyond a test
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A process at a terminal of its own. ``shown``: everything that it wrote there, without colours and movements."""

    def __init__(self, process: subprocess.Popen[bytes], end: int) -> None:
        self.process = process
        self._end = end
        self.raw = ""

    @property
    def shown(self) -> str:
        return _ESCAPES.sub("", self.raw)

    def until(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.shown:
            assert time.monotonic() < deadline, f"{text!r} was not shown, but:\n{self.shown}"
            assert self._read(), f"{text!r} was not shown, but:\n{self.shown}"

    def until_more(self, text: str, times: int = 2) -> None:
        """Until it has been drawn so many times again."""
        wanted = self.shown.count(text) + times
        deadline = time.monotonic() + PATIENCE_S
        while self.shown.count(text) < wanted:
            assert time.monotonic() < deadline, self.shown
            assert self._read(), self.shown

    def resize(self, columns: int, rows: int) -> None:
        """What a person does with the window."""
        fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def finish(self, code: int) -> None:
        while self._read():
            pass
        assert self.process.wait(PATIENCE_S) == code, self.shown

    def is_silent(self, seconds: float) -> bool:
        """Whether nothing new comes in so long."""
        return not select.select([self._end], [], [], seconds)[0]

    def _read(self) -> bool:
        assert not self.is_silent(PATIENCE_S), f"it says nothing more after:\n{self.shown}"
        try:
            read = os.read(self._end, 65_536)
        except OSError:  # the other side has gone
            return False
        self.raw += read.decode("utf-8", "replace")
        return bool(read)


@contextlib.contextmanager
def at_a_terminal(desk: Desk, *arguments: object, size: tuple[int, int] | None = None) -> Iterator[Terminal]:
    """``size``: columns and rows of the window; None: as the environment says."""
    end, other = pty.openpty()
    env = dict(os.environ) | desk.env | {"TERM": "xterm", "LINES": "50"}
    if size is not None:
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("4H", size[1], size[0], 0, 0))
        env = {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "orbatch", *map(str, arguments)],
        env=env,
        cwd=desk.folder,
        stdin=other,
        stdout=other,
        stderr=other,
        start_new_session=True,
    )
    os.close(other)
    try:
        yield Terminal(process, end)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(end)


def test_it_asks_before_it_spends_and_a_no_buys_nothing(desk: Desk) -> None:
    with at_a_terminal(desk, "run", desk.write(), "--speed", desk.speed, "--quiet") as terminal:
        terminal.until("Submit 3 jobs for up to 0.36 USD? [y/N]:")
        assert "3 jobs to submit, 0.36 USD" in terminal.shown, "also a quiet run shows what it asks about"
        terminal.type("n\n")
        terminal.finish(130)
    assert "Nothing was submitted." in terminal.shown
    assert desk.accepted() == 0


def test_a_no_to_verify_downloads_nothing_and_ends_with_130(desk: Desk) -> None:
    desk.run(desk.write(prompts=["one"]))
    [file] = (desk.folder / "outputs" / "films").glob("*.mp4")
    file.unlink()
    with at_a_terminal(desk, "verify") as terminal:
        terminal.until("1 file missing or changed. Download again? It costs nothing. [y/N]:")
        terminal.type("n\n")
        terminal.finish(130)
    assert "Nothing was downloaded." in terminal.shown
    assert not file.exists()


def test_a_plan_that_changed_while_it_asked_is_not_bought(desk: Desk) -> None:
    path = desk.write()
    with at_a_terminal(desk, "run", path, "--speed", desk.speed) as terminal:
        terminal.until("USD? [y/N]")
        desk.write(prompts=["something dearer"], models=["google/veo-3.1"])
        desk.call("plan", path)
        terminal.type("y\n")
        terminal.finish(2)
    assert "was re-planned by another process" in terminal.shown
    assert desk.accepted() == 0


def test_the_live_view_counts_jobs_and_money_and_says_why_it_waits(open_desk: Open) -> None:
    desk = open_desk(render_s={LITE: LONG})
    desk.simulator.set_faults(Fault("job", "failed", prompt_contains="a cat"))
    limits = {"in_flight": 1, "submits_per_minute": 6000}
    path = desk.write(budget={"total_usd": 1}, limits=limits, prompts=["a dog", "a cow"])
    with at_a_terminal(desk, "run", path, "--speed", desk.speed) as terminal:
        terminal.until("USD? [y/N]")
        terminal.type("yes\n")
        terminal.until("model         progress              done  running  pending  spent USD")
        terminal.until(f"veo-3.1-lite  {'░' * 20}   0/2        1        1       0.00")
        terminal.until("0.00 USD spent, 0.12 reserved of 1.00 USD.")
        terminal.until("Waiting: 1 jobs are in flight (limits.in_flight)")
        terminal.process.send_signal(signal.SIGINT)
        terminal.finish(130)
    assert "To resume" in terminal.shown
    assert desk.accepted() == 1


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
def test_the_live_view_fits_its_window_also_when_that_is_made_narrower(open_desk: Open, size: tuple[int, int]) -> None:
    desk = open_desk(render_s={LITE: LONG})
    desk.simulator.set_faults(Fault("job", "failed", prompt_contains="cat"))
    path = desk.write(models=[LITE, HORSE], prompts=["a cat with a prompt", "a dog"], budget={"total_usd": 5})
    with at_a_terminal(desk, "run", path, "--yes", "--speed", desk.speed, size=size) as terminal:
        terminal.until("happyhorse-1.1")
        terminal.until("reserved of 5.00 USD.")
        before = len(terminal.raw)
        terminal.resize(60, 24)
        terminal.until_more("reserved of 5.00 USD.")
        after = terminal.raw[before:].partition("reserved of 5.00 USD.")[2]  # what was on its way had the old width
        terminal.process.send_signal(signal.SIGINT)
        terminal.finish(130)
    assert 40 < longest_line(terminal.raw[:before]) <= size[0]
    assert 40 < longest_line(after) <= 60


def longest_line(raw: str) -> int:
    """Cells of the longest line that was drawn; a message of the log may be longer, and is wrapped by the terminal."""
    drawn = [
        line for line in _ESCAPES.sub("", raw).splitlines() if "veo" in line or "USD spent" in line or "total" in line
    ]
    return max(map(cell_len, drawn), default=0)


def test_every_finished_job_is_one_line_that_fits_and_its_steps_are_in_the_log(open_desk: Open) -> None:
    desk = open_desk()
    desk.simulator.set_faults(Fault("job", "failed", prompt_contains="cow", message="it was a bull"))
    path = desk.write(prompts=["a dog", {"id": "cow", "prompt": "a {{ n }} cow", "vars": {"n": ["red"]}}], seeds=[7, 8])
    with at_a_terminal(desk, "run", path, "--yes", "--speed", desk.speed, "--log-file", "run.log") as terminal:
        terminal.finish(3)
    assert re.search(
        r"✓ p1 \(seed 7\) · veo-3.1-lite · 0.12 USD · \d+ s · p1-veo-3.1-lite-s7-\w{8}\.mp4\r", terminal.shown
    )
    assert (
        len(
            re.findall(
                r"✗ cow \(red, seed .\) · veo-3.1-lite: failed, charge not reported yet: it was a bull", terminal.shown
            )
        )
        == 2
    )
    assert "accepted as" not in terminal.shown
    assert (desk.folder / "run.log").read_text().count("accepted as") == 4
    assert re.search(r"veo-3.1-lite  █{10}░{10}   2/4 +0 +2 +0.24", terminal.shown)


def test_ctrl_c_at_the_question_buys_nothing_and_ends_with_130(desk: Desk) -> None:
    with at_a_terminal(desk, "run", desk.write(), "--speed", desk.speed) as terminal:
        terminal.until("USD? [y/N]: ")  # with the blank, which comes last: more output would look like an answer
        # One that comes just before the terminal is read is seen only after it: a person would press again.
        terminal.process.send_signal(signal.SIGINT)
        for _ in range(PATIENCE_S):
            if not terminal.is_silent(1.0):
                break
            terminal.process.send_signal(signal.SIGINT)
        terminal.finish(130)
    assert "Interrupted; nothing was done." in terminal.shown
    assert desk.accepted() == 0


def test_control_characters_are_escaped_in_json_and_the_data_is_whole(desk: Desk) -> None:
    """Text for people is in tests/security; JSON allows raw characters that a terminal would obey."""
    hostile = "red \x1b[31m title \x1b]0;pwned\x07 csi \x9b2J bell \x07 back \x08 right-to-left \u202e end"
    desk.simulator.set_faults(Fault("job", "failed", message=hostile))
    path = desk.write(prompts=[{"id": "hostile", "prompt": hostile}])
    desk.run(path, code=3)
    [row] = desk.jobs()
    commands = (
        ["run", path, "--yes", "--json"],
        ["show", row["job_id"], "--json"],
        ["report", "--by", "prompt", "--json"],
    )
    for command in (*commands, ["export"]):
        printed = desk.call(*command, code=None).text
        assert not set("\x1b\x07\x08\x9b\u202e") & set(printed), ascii(printed)
    assert row["prompt"] == hostile


def test_a_reader_that_goes_away_is_no_error(desk: Desk) -> None:
    """As in ``orbatch jobs | head -1``, at its worst: nobody reads at all."""
    desk.run(desk.write())
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "orbatch", "jobs"],
        env=dict(os.environ) | desk.env,
        cwd=desk.folder,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "text",
    ["caf\u00e9\u00a0!", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u05e9\u05dc\u05d5\u05dd", "\u732b\tcat"],
)
def test_the_letters_of_every_language_are_shown_as_they_are(text: str) -> None:
    assert printable(text) == text
