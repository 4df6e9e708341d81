"""All models of one reading of the catalog, and what became of their prices between two readings."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import cache
from importlib.resources import files
from typing import Any, Generic, Self, TypeVar

from orbatch_provider.catalog.models import ImageModel, TextModel, VideoModel, items, prices_of
from orbatch_provider.requests import strip_prefix

M = TypeVar("M", VideoModel, ImageModel, TextModel)


@dataclass(frozen=True, slots=True)
class Reading(ABC, Generic[M]):
    """The models of one reading. ``captured_at`` is UTC; ``source`` says where it was read; ``digest`` names the
    content, so that two readings can be compared; ``records`` are the models as they were sent."""

    models: Mapping[str, M]
    captured_at: datetime
    source: str
    digest: str
    records: tuple[Mapping[str, Any], ...] = field(default=(), repr=False, compare=False)

    @classmethod
    @abstractmethod
    def from_json(cls, body: Mapping[str, Any], *, captured_at: datetime, source: str) -> Self:
        """From the body of the API's answer; entries without an id are passed over."""

    @classmethod
    def from_text(cls, text: str) -> Self:
        """What ``to_json`` wrote. Raises ValueError when it is anything else."""
        body = json.loads(text, parse_float=Decimal)
        try:
            captured_at = datetime.fromisoformat(body["captured_at"])
            if captured_at.tzinfo is None:
                raise ValueError("the catalog's time has no zone")
            return cls.from_json(body, captured_at=captured_at.astimezone(UTC), source=str(body["source"]))
        except (AttributeError, KeyError, TypeError) as exc:
            raise ValueError(f"this is no stored catalog: {exc!r}") from exc

    def to_json(self) -> str:
        """The listing as JSON text, with ``captured_at`` and ``source``."""
        body = {"captured_at": self.captured_at.isoformat(), "source": self.source, "data": self.records}
        return json.dumps(body, ensure_ascii=False, allow_nan=False)

    def find(self, model: str) -> M | None:
        """The record for an id, a dated canonical slug, or either with the ``openrouter/`` prefix."""
        name = strip_prefix(model)
        found = self.models.get(name)
        if found is not None:
            return found
        return next((entry for entry in self.models.values() if entry.canonical_slug == name), None)

    def nearest(self, model: str) -> str | None:
        """The id that a misspelt one most likely means."""
        close = difflib.get_close_matches(strip_prefix(model), self.models, n=1, cutoff=0.6)
        return close[0] if close else None


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


M_listings = TypeVar("M_listings", ImageModel, TextModel)


class Listing(Reading[M_listings]):
    """A reading whose models are told apart by all that was sent of them."""

    __slots__ = ()

    @classmethod
    def from_json(cls, body: Mapping[str, Any], *, captured_at: datetime, source: str) -> Self:
        """From ``{"data": [...]}``; entries without an id are passed over."""
        sent = (item for item in items(body.get("data")) if isinstance(item, Mapping) and item.get("id"))
        records = tuple({str(name): jsonable(value) for name, value in item.items()} for item in sent)
        models = {model.id: model for model in map(cls._read, records)}
        return cls(models, captured_at, source, digest_of(sorted(records, key=lambda item: str(item["id"]))), records)

    @classmethod
    @abstractmethod
    def _read(cls, record: Mapping[str, Any]) -> M_listings: ...


class ImageCatalog(Listing[ImageModel]):
    """``GET /images/models``, every model with the records of its endpoints."""

    __slots__ = ()

    @classmethod
    def _read(cls, record: Mapping[str, Any]) -> ImageModel:
        return ImageModel.from_json(record)


class TextCatalog(Listing[TextModel]):
    """``GET /models``: the models that write text."""

    __slots__ = ()

    @classmethod
    def _read(cls, record: Mapping[str, Any]) -> TextModel:
        return TextModel.from_json(record)


@cache
def image_snapshot() -> ImageCatalog:
    """The image models packaged with this release: those whose endpoint records were captured, which is not all."""
    return ImageCatalog.from_json(_packaged(), captured_at=_captured_at(_packaged()), source="packaged snapshot")


@cache
def output_tokens() -> Mapping[str, Mapping[str, Any]]:
    """Tokens of one output picture by model, then by tier or quality, as the vendors document them; ``at`` names the
    one size that a row is about."""
    rows: list[Mapping[str, Any]] = _packaged()["output_tokens_per_image"]
    return {str(model): row for row in rows for model in row["models"]}


@cache
def _packaged() -> Mapping[str, Any]:
    text = files("orbatch_provider").joinpath("data/images-models.json").read_text("utf-8")
    body: Mapping[str, Any] = json.loads(text, parse_float=Decimal)
    return body


def _captured_at(body: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(body["captured_at"]).astimezone(UTC)
