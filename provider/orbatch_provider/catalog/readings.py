"""All models of one reading of the catalog, and what became of their prices between two readings."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import cache
from importlib.resources import files
from typing import Any, Self

from orbatch_provider.catalog.models import VideoModel, prices_of
from orbatch_provider.catalog.reading import Reading
from orbatch_provider.requests import strip_prefix


@dataclass(frozen=True, slots=True)
class Catalog(Reading[VideoModel]):
    """The video models. ``digest`` covers ids, capabilities and prices (``sha256:...``); ``records`` have every price
    as text."""

    @classmethod
    def from_json(cls, body: Mapping[str, Any], *, captured_at: datetime, source: str) -> Self:
        """From the body of ``GET /videos/models``; entries without an id are passed over."""
        data = body.get("data")
        sent = data if isinstance(data, Sequence) and not isinstance(data, str) else ()
        records = tuple(_record(item) for item in sent if isinstance(item, Mapping) and item.get("id"))
        models = {model.id: model for model in map(VideoModel.from_json, records)}
        told = [item.name for item in fields(VideoModel) if item.name != "name"]  # a new title is no new model
        content = [[getattr(model, name) for name in told] for _, model in sorted(models.items())]
        return cls(models, captured_at, source, digest_of(content), records)

    @property
    def prices_digest(self) -> str:
        """``sha256:...`` over ids and price lines alone: unchanged as long as no price is."""
        return digest_of({model.id: dict(model.prices) for model in self.models.values()})


@cache
def snapshot() -> Catalog:
    """The catalog packaged with this release: the last resort for prices, and the simulator's catalog."""
    body = json.loads(files("orbatch_provider").joinpath("data/videos-models.json").read_text("utf-8"))
    captured_at = datetime.fromisoformat(body["captured_at"]).astimezone(UTC)
    return Catalog.from_json(body, captured_at=captured_at, source="packaged snapshot")


@dataclass(frozen=True, slots=True)
class PriceChange:
    """A price line of ``model`` that differs between two catalogs: ``old`` and ``new`` as sent, None: no such line."""

    model: str
    line: str
    old: str | None
    new: str | None

    def __str__(self) -> str:
        return f"{self.model} {self.line}: {self.old or 'no such line'} -> {self.new or 'no such line'}"


def price_changes(old: Catalog, new: Catalog, models: Iterable[str]) -> list[PriceChange]:
    """The price lines of ``models`` that are not the same in both catalogs, by model and in the catalog's order."""
    changes = []
    for name in dict.fromkeys(map(strip_prefix, models)):
        before, after = old.find(name), new.find(name)
        old_prices = before.prices if before else {}
        new_prices = after.prices if after else {}
        changes += [
            PriceChange(name, line, old_prices.get(line), new_prices.get(line))
            for line in dict.fromkeys((*old_prices, *new_prices))
            if not _same_price(old_prices.get(line), new_prices.get(line))
        ]
    return changes


def _record(sent: Mapping[str, Any]) -> Mapping[str, Any]:
    """A record that JSON can hold again, whatever the numbers in it were parsed as."""
    record: dict[str, Any] = {str(name): jsonable(value) for name, value in sent.items()}
    if isinstance(sent.get("pricing_skus"), Mapping):
        record["pricing_skus"] = prices_of(sent["pricing_skus"])
    return record


def jsonable(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(name): jsonable(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, Decimal | float):
        return (int(value) if value == int(value) else float(value)) if math.isfinite(value) else None
    return value


def _same_price(old: str | None, new: str | None) -> bool:
    if old is None or new is None:
        return old == new
    try:
        return Decimal(old) == Decimal(new)
    except InvalidOperation:
        return old == new


def digest_of(content: object) -> str:
    canonical = json.dumps(content, sort_keys=True, default=str)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
