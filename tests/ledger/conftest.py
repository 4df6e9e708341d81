from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orbatch.ledger import Ledger
from tests.ledger.books import Books


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A migrated file, copied for each test: making one takes longer than most tests."""
    path = tmp_path_factory.mktemp("ledger") / "empty.db"
    Ledger.open(path).close()
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, empty_ledger: bytes) -> Path:
    file = tmp_path / "orbatch.db"
    file.write_bytes(empty_ledger)
    return file


@pytest.fixture
def books(path: Path) -> Iterator[Books]:
    with Ledger.open(path) as ledger:
        with ledger.database.read() as db:
            db.execute("pragma synchronous = off")  # what the disk does is not what these tests are about
        yield Books(ledger)
