"""Streams and logs that cannot be written, and terminals with few characters: a run goes on, its exit code is true."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orbatch_simulator import Fault
from tests.desk import PATIENCE_S, Desk

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="only Linux has a device that is always full")


def shell(desk: Desk, redirections: str, *arguments: object, **env: str) -> subprocess.CompletedProcess[bytes]:
    """A command whose standard streams the shell has redirected."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirections}', "sh", sys.executable, "-m", "orbatch", *map(str, arguments)],
        env=dict(os.environ) | desk.env | env,
        cwd=desk.folder,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )


def run(desk: Desk, redirections: str, *more: object) -> int:
    return shell(desk, redirections, "run", desk.write(), "--yes", "--speed", desk.speed, *more).returncode


def broken_pipe(desk: Desk, *arguments: object) -> int:
    reader, writer = os.pipe()
    os.close(reader)  # at its worst: nobody reads at all
    done = subprocess.run(
        [sys.executable, "-m", "orbatch", *map(str, arguments)],
        env=dict(os.environ) | desk.env,
        cwd=desk.folder,
        stdout=writer,
        stderr=writer,
        timeout=PATIENCE_S,
        check=False,
    )
    os.close(writer)
    return done.returncode


@pytest.mark.parametrize("failed", [0, 1])
def test_a_run_goes_on_without_a_reader_and_its_exit_code_is_true(desk: Desk, failed: int) -> None:
    desk.simulator.set_faults(*[Fault("job", "failed", prompt_contains="a cat")] * failed)
    assert broken_pipe(desk, "run", desk.write(), "--yes", "--speed", desk.speed) == (3 if failed else 0)
    assert sorted(job["status"] for job in desk.jobs()) == ["done"] * (3 - failed) + ["failed"] * failed


@pytest.mark.parametrize("redirections", ["2>&-", ">&-", "<&- >&- 2>&-"])
def test_a_run_goes_on_with_closed_streams(desk: Desk, redirections: str) -> None:
    assert run(desk, redirections) == 0
    assert [job["status"] for job in desk.jobs()] == ["done"] * 3


@needs_full
@pytest.mark.parametrize("redirections", [">/dev/full", "2>/dev/full", ">/dev/full 2>&1"])
def test_a_run_goes_on_with_full_streams(desk: Desk, redirections: str) -> None:
    assert run(desk, redirections) == 0
    assert [job["status"] for job in desk.jobs()] == ["done"] * 3


@needs_full
def test_a_report_that_cannot_be_written_is_an_error(desk: Desk) -> None:
    desk.run(desk.write())
    for command in ("jobs", "export"):
        ended = shell(desk, ">/dev/full", command)
        assert ended.returncode == 1
        assert ended.stderr.decode() == "error: [Errno 28] No space left on device\n"


def test_an_error_that_nobody_can_read_keeps_its_exit_code(desk: Desk) -> None:
    desk.call("plan", desk.write())
    assert broken_pipe(desk, "run", "nowhere.yaml") == 2
    assert broken_pipe(desk, "show", "zzz") == 2


@needs_full
def test_a_log_file_that_is_full_is_reported_once_and_the_run_goes_on(desk: Desk) -> None:
    ended = shell(desk, "", "run", desk.write(), "--yes", "--speed", desk.speed, "--log-file", FULL)
    assert ended.returncode == 0
    said = ended.stderr.decode()
    text = "The log file /dev/full cannot be written: No space left on device. The run continues without it."
    assert said.count(text) == 1
    assert said.count("✓") == 3, "stderr has what the log does not"
    assert [job["status"] for job in desk.jobs()] == ["done"] * 3


@pytest.mark.parametrize(
    "locale",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "cp1252:strict"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["ascii", "cp1252", "C"],
)
def test_every_locale_can_print_everything(desk: Desk, locale: dict[str, str]) -> None:
    """Escaped where it must be."""
    name = "plain" if "LC_ALL" in locale else "done-\u2714"  # ASCII, where file names have nothing else
    path = desk.write(prompts=[{"id": name, "prompt": "\u732b \u263a"}])
    commands: list[list[object]] = [
        ["run", path, "--yes", "--speed", desk.speed],
        ["plan", path],
        ["jobs"],
        ["export"],
        ["report", "--by", "prompt"],
    ]
    for command in commands:
        ended = shell(desk, "", *command, **locale)
        assert ended.returncode == 0, ended.stderr
        assert b"Traceback" not in ended.stderr
