"""Tables as a person reads them: whole numbers and names, within the width of the terminal."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from orbatch.cli.files import relative_path
from orbatch.cli.tables import shortened, table
from tests.desk import Desk

MODEL = "x-ai/grok-imagine-video-1.5-lite"
ROWS = [
    {"model": MODEL, "done": "3/3", "failed": 0, "spent": "0.12", "file": "outputs/cats/beach-grok-1.5-89d6c229.mp4"},
    {
        "model": "google/veo-3.1",
        "done": "2/2",
        "failed": 0,
        "spent": "10.3024",
        "file": "outputs/cats/\u732b-03172f62.mp4",
    },
]


def laid_out(width: int | None, rows: Sequence[dict[str, Any]] = ROWS, **settings: Any) -> list[str]:
    columns = {title: itemgetter(title) for title in ROWS[0]}
    return list(table(rows, columns, numbers=["spent"], flexible=["file", "model"], **settings).lines(width))


@pytest.mark.parametrize("width", [60, 72, 80])
def test_a_table_fits_the_terminal_and_shortens_only_names(width: int) -> None:
    lines = laid_out(width)
    assert max(map(cell_len, lines)) <= width
    for whole in ("3/3", "0.1200", "10.3024", "model", "spent"):
        assert whole in " ".join(lines)
    assert all(line.endswith(".mp4") for line in lines[2:])


def test_in_a_pipe_nothing_is_shortened_or_padded() -> None:
    lines = laid_out(None)
    assert [line.split()[-1] for line in lines[2:]] == [row["file"] for row in ROWS]
    assert [line for line in lines if line != line.rstrip()] == []


def test_columns_with_nothing_in_them_are_dropped_and_amounts_can_be_compared() -> None:
    lines = laid_out(None)
    assert lines[0].split() == ["model", "done", "spent", "file"]
    assert [line.index(".", line.index("/", 20)) for line in lines[2:]] == [lines[2].index("0.12") + 1] * 2
    assert "failed" in laid_out(None, always=["failed"])[0]


def test_prose_goes_on_below_itself() -> None:
    columns: dict[str, Callable[[Any], object]] = {"model": itemgetter("model")}
    columns["prices"] = lambda _: "0.08 USD per second of 720p; " * 5
    lines = list(table(ROWS[:1], columns, flexible=["model"], prose=True).lines(70))
    assert max(map(len, lines)) <= 70
    assert {len(line) - len(line.lstrip()) for line in lines[3:]} == {lines[0].index("prices")}


@pytest.mark.parametrize(
    ("text", "length", "shown"),
    [
        pytest.param(MODEL, 40, MODEL, id="long enough"),
        pytest.param(MODEL, 13, "x-ai/g\u20265-lite", id="the middle is left out"),
        pytest.param("\u732b" * 10, 9, "\u732b\u732b\u2026\u732b\u732b", id="characters of two columns"),
    ],
)
def test_a_name_is_shortened_in_its_middle(text: str, length: int, shown: str) -> None:
    assert shortened(text, length) == shown


def test_a_path_is_told_from_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert relative_path(str(tmp_path / "outputs" / "a.mp4")) == str(Path("outputs") / "a.mp4")
    assert relative_path("/elsewhere/a.mp4") == "/elsewhere/a.mp4"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_jobs_of_two_takes_can_be_told_apart_on_80_columns(desk: Desk) -> None:
    import fcntl
    import pty
    import termios

    desk.run(desk.write(prompts=["A cat"], seeds=[7, 8]))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = dict(os.environ) | desk.env
    environment.pop("COLUMNS", None)
    done = subprocess.run([sys.executable, "-m", "orbatch", "jobs"], env=environment, stdout=theirs, check=False)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert done.returncode == 0
    lines = [line.removeprefix("\x1b[1m").removesuffix("\x1b[0m") for line in shown.splitlines()]
    assert max(map(len, lines)) <= 80
    assert [seed for seed in ("seed 7", "seed 8") if seed in shown] == ["seed 7", "seed 8"]
    assert {row["seed"] for row in desk.call("jobs", "--json").json} == {7, 8}
