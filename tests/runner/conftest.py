"""One ledger full of jobs for each module, and a provider in memory that says what a test wants."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.fakes import FakeProvider
from tests.faults.workshop import Workshop
from tests.provider.conftest import servers  # noqa: F401 - a fixture


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with Workshop.at(tmp_path_factory.mktemp("workshop"), jobs=80) as made:
        yield made


@pytest.fixture
def provider() -> FakeProvider:
    return FakeProvider()
