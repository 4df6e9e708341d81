"""All models of one kind as they were read at one time, and how their prices changed between two readings."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import cache
from importlib.resources import files
from typing import Any, Generic, TypeVar

from orbatch_provider.catalog.models import AnyModel, ImageModel, TextModel, VideoModel, items, prices_of
from orbatch_provider.requests import strip_prefix

T = TypeVar("T", VideoModel, ImageModel, TextModel)
M = TypeVar("M", bound=AnyModel, covariant=True)  # so that a Catalog[AnyModel] may be the catalog of any kind


@dataclass(frozen=True, slots=True)
class Catalog(Generic[M]):
    """The models of one kind by id. ``captured_at``: when they were read, in UTC; ``source``: from where; ``digest``
    (``sha256:...``) identifies the content; ``records`` are the models as the API sent them."""

    models: Mapping[str, M]
    captured_at: datetime
    source: str
    digest: str
    records: tuple[Mapping[str, Any], ...] = field(default=(), repr=False, compare=False)

    @staticmethod
    def from_json(model: type[T], body: Mapping[str, Any], *, captured_at: datetime, source: str) -> Catalog[T]:
        """Read ``{"data": [...]}``, the API's form, as models of the class ``model``; entries without an id are
        skipped."""
        sent = (item for item in items(body.get("data")) if isinstance(item, Mapping) and item.get("id"))
        records = tuple(map(_storable, sent))
        models: dict[str, T] = {str(record["id"]): model.from_json(record) for record in records}
        return Catalog(models, captured_at, source, _digest(models), records)

    @staticmethod
    def from_text(model: type[T], text: str) -> Catalog[T]:
        """Read what ``to_json`` wrote. Raises ValueError when the text is anything else."""
        try:
            body = json.loads(text, parse_float=Decimal)
            captured_at = datetime.fromisoformat(body["captured_at"])
            if captured_at.tzinfo is None:  # its age could not be told
                raise ValueError("the catalog's time has no zone")
            source = str(body["source"])
            return Catalog.from_json(model, body, captured_at=captured_at.astimezone(UTC), source=source)
        except (AttributeError, KeyError, TypeError, RecursionError) as exc:
            raise ValueError(f"not a stored catalog: {exc!r}") from exc

    def to_json(self) -> str:
        """The records as JSON text, with ``captured_at`` and ``source``."""
        body = {"captured_at": self.captured_at.isoformat(), "source": self.source, "data": self.records}
        return json.dumps(body, ensure_ascii=False, allow_nan=False)

    def find(self, model: str) -> M | None:
        """The model with this id or dated canonical slug, with or without the ``openrouter/`` prefix."""
        name = strip_prefix(model)
        found = self.models.get(name)  # a dated slug is rare, so only it costs a search
        if found is not None:
            return found
        return next((entry for entry in self.models.values() if entry.canonical_slug == name), None)

    def nearest(self, model: str) -> str | None:
        """The id that a misspelt one most likely means."""
        close = difflib.get_close_matches(strip_prefix(model), self.models, n=1, cutoff=0.6)
        return close[0] if close else None

    def only(self, names: Collection[str]) -> Catalog[M]:
        """The same reading, restricted to these models."""
        ids = {found.id for found in map(self.find, names) if found is not None}
        models = {name: model for name, model in self.models.items() if name in ids}
        records = tuple(record for record in self.records if record["id"] in ids)
        return Catalog(models, self.captured_at, self.source, _digest(models), records)


@dataclass(frozen=True, slots=True)
class PriceChange:
    """A price line of ``model`` that differs between two catalogs: ``old`` and ``new`` as sent, None: no such line."""

    model: str
    line: str
    old: str | None
    new: str | None

    def __str__(self) -> str:
        return f"{self.model} {self.line}: {self.old or 'no such line'} -> {self.new or 'no such line'}"


def price_changes(old: Catalog[AnyModel], new: Catalog[AnyModel], models: Iterable[str]) -> list[PriceChange]:
    """The price lines of ``models`` that differ between two catalogs, by model and in the catalog's order. A model
    that ``old`` does not have has no price to compare with."""
    changes = []
    for name in dict.fromkeys(map(strip_prefix, models)):
        before, after = old.find(name), new.find(name)
        old_prices = before.prices if before else {}
        new_prices = after.prices if before and after else {}
        changes += [
            PriceChange(name, line, old_prices.get(line), new_prices.get(line))
            for line in dict.fromkeys((*old_prices, *new_prices))
            if _amount(old_prices.get(line)) != _amount(new_prices.get(line))
        ]
    return changes


def _amount(price: str | None) -> object:
    """A price for comparison: 0.10 and 0.1 are the same."""
    try:
        amount = None if price is None else Decimal(price)
    except InvalidOperation:
        return price
    return amount if amount is None or amount.is_finite() else price  # a NaN differs from itself, or raises


def _storable(sent: Mapping[str, Any]) -> dict[str, Any]:
    """A record that JSON can hold again, whatever its numbers were parsed as. Prices of videos become text, which keeps
    every digit."""
    record: dict[str, Any] = {str(name): _jsonable(value) for name, value in sent.items()}
    if isinstance(sent.get("pricing_skus"), Mapping):
        record["pricing_skus"] = prices_of(sent["pricing_skus"])
    return record


def _jsonable(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(name): _jsonable(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    if isinstance(value, Decimal | float):
        return (
            (int(value) if value == int(value) else float(value)) if math.isfinite(value) else None
        )  # JSON has no NaN
    return value


def _digest(models: Mapping[str, AnyModel]) -> str:
    content = [_content(model) for _, model in sorted(models.items())]  # the order of the list says nothing
    canonical = json.dumps(content, sort_keys=True, default=_content)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def _content(value: Any) -> object:
    """A dataclass as the list of its fields; the name of a model is left out, since a new title changes nothing."""
    if not is_dataclass(value):
        return str(value)
    return [getattr(value, item.name) for item in fields(value) if item.name != "name"]


@cache
def snapshot() -> Catalog[VideoModel]:
    """The video models packaged with this release: the last resort for prices, and the simulator's catalog."""
    return _packaged_catalog(VideoModel, "videos-models.json")


@cache
def image_snapshot() -> Catalog[ImageModel]:
    """The image models packaged with this release: only those whose endpoint records were captured."""
    return _packaged_catalog(ImageModel, "images-models.json")


@cache
def output_tokens() -> Mapping[str, Mapping[str, Any]]:
    """Tokens of one output image by model, then by tier or quality, as the vendors document them; ``at`` names the one
    size that a row is about."""
    rows: list[Mapping[str, Any]] = _packaged("images-models.json")["output_tokens_per_image"]
    return {str(model): row for row in rows for model in row["models"]}


def _packaged_catalog(model: type[T], name: str) -> Catalog[T]:
    body = _packaged(name)
    captured_at = datetime.fromisoformat(body["captured_at"]).astimezone(UTC)
    return Catalog.from_json(model, body, captured_at=captured_at, source="packaged snapshot")


@cache
def _packaged(name: str) -> Mapping[str, Any]:
    text = files("orbatch_provider").joinpath("data", name).read_text("utf-8")
    body: Mapping[str, Any] = json.loads(text, parse_float=Decimal)  # a float would lose digits of a price
    return body
