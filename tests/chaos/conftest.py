"""One launcher for all tests, and arenas that are closed with their test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.arena import Arena, Scene
from tests.chaos.processes import Launcher

Open = Callable[[Scene], Arena]


@pytest.fixture(scope="session")
def launcher() -> Iterator[Launcher]:
    if os.name != "posix":
        pytest.skip("needs fork and SIGKILL")
    launcher = Launcher()
    yield launcher
    launcher.close()


@pytest.fixture
def open_arena(launcher: Launcher, tmp_path: Path) -> Iterator[Open]:
    with ExitStack() as stack:
        yield lambda scene: stack.enter_context(Arena(tmp_path / "arena", scene, launcher))


def finish_and_compare(arena: Arena) -> None:
    arena.finish()
    assert arena.audit().findings == []
    assert len(arena.journal()["jobs"]) == arena.scene.jobs
