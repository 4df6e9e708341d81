"""Draws docs/images/run.svg: the screen of a real simulated run at the moment half of its jobs are done.

    python docs/make_terminal_picture.py

The command runs in a pseudo-terminal, so this needs Linux or macOS.
"""

from __future__ import annotations

import argparse
import io
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "run.svg"
COMMAND = "orbatch run configs/cats.yaml --simulate"
COLUMNS = 118
SHOWN_AS = "~/orbatch"  # the folder of the run, as a reader's prompt would name it
HALF_DONE = re.compile(r"total .* [34]/7 ")

# What the live view sends besides text: up one line, erase the line, hide or show the cursor.
_CONTROL = re.compile(r"\x1b\[(?:(?P<up>\d*)A|(?P<erase>\d*)K|\?25[lh])|(?P<start>\r)|(?P<newline>\n)")


class Screen:
    """The lines of a terminal that only grows downwards, and rewrites the last few of them."""

    def __init__(self) -> None:
        self.lines = [""]
        self._row = 0

    def write(self, text: str) -> None:
        position = 0
        for control in _CONTROL.finditer(text):
            self._put(text[position : control.start()])
            position = control.end()
            if control["newline"]:
                self._row += 1
                if self._row == len(self.lines):
                    self.lines.append("")
            elif control["up"] is not None:
                self._row -= int(control["up"] or 1)
            elif control["erase"] is not None:
                self.lines[self._row] = ""
        self._put(text[position:])

    def _put(self, text: str) -> None:
        self.lines[self._row] += text

    def text(self) -> str:
        return "\n".join(self.lines).rstrip()


def output(folder: Path) -> Iterator[str]:
    """What the command writes to its terminal, as it comes."""
    main, other = pty.openpty()
    environment = os.environ | {"COLUMNS": str(COLUMNS), "LINES": "60", "TERM": "xterm-256color", "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", *COMMAND.split()]
    with subprocess.Popen(  # noqa: S603 - the program under the picture
        command, cwd=folder, env=environment, stdin=other, stdout=other, stderr=other, close_fds=True
    ) as process:
        os.close(other)
        while True:
            try:
                chunk = os.read(main, 65536)
            except OSError:  # how Linux says that the other end is closed
                break
            if not chunk:
                break
            yield chunk.decode(errors="replace")
        process.wait()
    os.close(main)


def half_done() -> str:
    """The screen of a whole run, as it was when the first half of the jobs was done."""
    screen = Screen()
    picture = ""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        shutil.copytree(ROOT / "configs", folder / "configs")
        for text in output(folder):
            screen.write(text)
            if not picture and HALF_DONE.search(screen.text()):
                picture = screen.text()
        return picture.replace(str(folder), SHOWN_AS)


def svg(screen: str) -> str:
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.assemble((f"{SHOWN_AS} $ ", "bold green"), COMMAND))
    console.print(Text.from_ansi(screen), soft_wrap=True)
    drawn = console.export_svg(title="orbatch", theme=DIMMED_MONOKAI, unique_id="orbatch")
    # Any monospaced font will do; a picture should not load one from elsewhere.
    return re.sub(r"\s*@font-face \{.*?\}\n", "\n", drawn, flags=re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=PICTURE)
    target = parser.parse_args().output
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(svg(half_done()), "utf-8")


if __name__ == "__main__":
    main()
