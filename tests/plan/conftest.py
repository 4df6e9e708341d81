from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orbatch.batchfile.loader import load_config
from orbatch.ledger import Ledger
from orbatch.plan.jobs import Job, expand

Jobs = Callable[[str], list[Job]]


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    """Expands the text of a batch file."""

    def of(text: str) -> list[Job]:
        path = tmp_path / "b.yaml"
        path.write_text(text, "utf-8")
        return list(expand(load_config(path)))

    return of


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "orbatch.db") as ledger:
        yield ledger
