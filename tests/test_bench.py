"""The benchmarks run, in sizes that say nothing about speed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import growth, memory, polling, throughput

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="CPU and memory of a process are read from /proc")

ROWS = {
    "polling": (polling.main, ["--jobs", "30"], "mixed lengths and models"),
    "lifecycle": (
        throughput.main,
        ["lifecycle", "--jobs", "6", "--in-flight", "3", "--job-s", "0.1", "--yardstick-jobs", "3"],
        "official SDK",
    ),
    "polls": (throughput.main, ["polls", "--jobs", "3", "--interval", "2", "--watch", "0.1", "--settling", "0"], "3"),
    "startup": (throughput.main, ["startup", "--jobs", "2", "--repeats", "1"], "orbatch status"),
    "downloads": (
        memory.main,
        ["downloads", "--jobs", "2", "--size", "30000", "--render-s", "0.2"],
        "bare streaming loop",
    ),
    "pending": (memory.main, ["pending", "--few", "20", "--many", "40", "--done-first", "2"], "40"),
    "plan": (growth.main, ["plan", "--jobs", "30"], "first submit of a resumed run"),
}


@pytest.mark.parametrize("row", ROWS)
def test_a_benchmark_runs_and_prints_its_table(row: str, capsys: pytest.CaptureFixture[str]) -> None:
    main: Callable[[list[str]], None]
    main, arguments, shown = ROWS[row]
    main(arguments)
    printed = capsys.readouterr().out
    assert "|---" in printed
    assert shown in printed


def test_the_growth_chart_shows_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chart = tmp_path / "growth.svg"
    growth.main(["chart", "--sizes", "90", "--measured", "20", "--output", str(chart)])
    assert "| 90 " in capsys.readouterr().out
    root = ElementTree.fromstring(chart.read_text("utf-8"))  # noqa: S314 - our own file
    assert sum(element.tag.endswith("circle") for element in root.iter()) == 3
