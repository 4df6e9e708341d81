"""Desks, each with a fresh folder and a simulator of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from orbatch_provider.catalog import Catalog, VideoModel
from orbatch_simulator import SimulatorSettings, simulator_thread
from tests.desk import SPEED, Desk


class Open(Protocol):
    def __call__(self, *, catalog: Catalog[VideoModel] | None = None, **settings: Any) -> Desk: ...


@pytest.fixture
def open_desk(tmp_path: Path) -> Iterator[Open]:
    """Opens desks whose simulators are closed with the test; ``settings`` are the simulator's."""
    with ExitStack() as stack:
        numbers = itertools.count(1)

        def open_one(*, catalog: Catalog[VideoModel] | None = None, **settings: Any) -> Desk:
            folder = tmp_path / f"desk{next(numbers)}"
            folder.mkdir()
            chosen = SimulatorSettings(**{"speed": SPEED, "clip_bytes": 3000} | settings)
            return Desk(folder, stack.enter_context(simulator_thread(chosen, catalog=catalog)))

        yield open_one


@pytest.fixture
def desk(open_desk: Open) -> Desk:
    """A desk with a simulator at which everything goes well."""
    return open_desk()
