"""Servers that are well and servers that are not, and one ledger for many jobs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.faults.workshop import PAID_CALLS, Workshop
from tests.provider.conftest import _no_environment, servers  # noqa: F401 - fixtures


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with Workshop.at(tmp_path_factory.mktemp("faults")) as made:
        yield made


@pytest.fixture(scope="session")
def workshops(tmp_path_factory: pytest.TempPathFactory, workshop: Workshop) -> Iterator[dict[str, Workshop]]:
    """By kind of job."""
    with ExitStack() as stack:
        made = {"video": workshop}
        for kind in set(PAID_CALLS.values()) - {"video"}:
            made[kind] = stack.enter_context(Workshop.at(tmp_path_factory.mktemp(kind), 300, kind))
        yield made
