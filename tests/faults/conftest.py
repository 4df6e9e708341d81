"""Servers that are well and servers that are not, and one ledger for many jobs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.workshop import Workshop
from tests.provider.conftest import _no_environment, servers  # noqa: F401 - fixtures


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with Workshop.at(tmp_path_factory.mktemp("faults")) as made:
        yield made
