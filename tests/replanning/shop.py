"""A batch to plan again and again: its folder, its ledger, and what a plan has written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orbatch.batchfile.loader import load_config
from orbatch.ledger import Ledger
from orbatch.plan.catalogs import LoadedCatalog
from orbatch.plan.plan import Plan, prepare
from orbatch_provider.catalog import Catalog, snapshot
from tests.ledger.books import Books
from tests.pictures import picture

ORIGIN = "https://openrouter.ai"
LITE, WAN = "google/veo-3.1-lite", "alibaba/wan-2.7"
PRICE = 120_000_000  # nano-dollars of one job; twice as much by a catalog that is twice as dear
PROMPTS = [f"cat {number}" for number in range(1, 40)]

# All that a plan writes of a job, and whether it is still in the file.
WRITTEN = (
    "id, key, position, kind, model, prompt_id, prompt, variables, request, repeat, stem, retired, estimate_low_nusd, "
    "estimate_exact_nusd, estimate_high_nusd, price_lines, price_why"
)


class Shop:
    """A folder with a batch file, its prompts and its pictures, and the catalog that it is planned with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.catalog = snapshot()
        self.batch: dict[str, Any] = {
            "name": "cats",
            "defaults": {"duration": 4, "resolution": "720p", "generate_audio": False},
            "models": [LITE],
            "prompts": [{"prompt": "a cat moves", "first_frame": "one.png"}],
            "prompts_from": "more.csv",
        }
        self.file = folder / "cats.yaml"
        self.prompts = folder / "more.csv"
        self.prompts.write_text("prompt,first_frame\n" + "".join(f"{each},\n" for each in PROMPTS) + "last,two.png\n")
        (folder / "one.png").write_bytes(picture("red"))
        (folder / "two.png").write_bytes(picture("lime"))

    def write(self, **changes: Any) -> None:
        self.batch |= changes
        self.file.write_text(json.dumps(self.batch), "utf-8")

    def plan(self, ledger: Ledger, only: str | None = None) -> Plan:
        return prepare(ledger, load_config(self.file), LoadedCatalog(self.catalog, "live", ""), ORIGIN, only)


def rows(ledger: Ledger, what: str = WRITTEN) -> list[tuple[Any, ...]]:
    with ledger.database.read() as db:
        return [tuple(row) for row in db.execute(f"select {what} from jobs order by id")]  # noqa: S608 - a test's own


def changed_by(ledger: Ledger, act: Callable[[], object]) -> int:
    """Rows that were written meanwhile, in temporary tables too."""
    books = Books(ledger)
    before = books.changes()
    act()
    return books.changes() - before


def afresh(shop: Shop) -> tuple[str, list[tuple[Any, ...]]]:
    """Digest and jobs of a plan into a ledger that knows nothing."""
    with Ledger.open(shop.folder / f"fresh-{len(list(shop.folder.iterdir()))}.db") as fresh:
        return shop.plan(fresh).digest, rows(fresh)


def dearer(times: int, model: str = LITE) -> Catalog:
    body = json.loads(snapshot().to_json())
    for record in body["data"]:
        if record["id"] == model:
            record["pricing_skus"] = {line: float(price) * times for line, price in record["pricing_skus"].items()}
    return Catalog.from_json(body, captured_at=snapshot().captured_at, source="test")
