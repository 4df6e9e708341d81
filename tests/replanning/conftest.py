from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orbatch.ledger import Ledger
from tests.replanning.shop import Shop


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path)
    shop.write()
    return shop


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "orbatch.db") as ledger:
        yield ledger
