"""All image or text models of one reading, as ``Catalog`` is for video models."""

from __future__ import annotations

import difflib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any, Generic, Self, TypeVar

from orbatch_provider.catalog.imagemodels import ImageModel, items
from orbatch_provider.catalog.readings import digest_of, jsonable
from orbatch_provider.catalog.textmodels import TextModel
from orbatch_provider.requests import strip_prefix

M = TypeVar("M", ImageModel, TextModel)


@dataclass(frozen=True, slots=True)
class Listing(ABC, Generic[M]):
    """The models of one reading. ``captured_at`` is UTC; ``source`` says where it was read; ``digest`` names the
    content, so that two readings can be compared; ``records`` are the models as they were sent."""

    models: Mapping[str, M]
    captured_at: datetime
    source: str
    digest: str
    records: tuple[Mapping[str, Any], ...] = field(default=(), repr=False, compare=False)

    @classmethod
    def from_json(cls, body: Mapping[str, Any], *, captured_at: datetime, source: str) -> Self:
        """From ``{"data": [...]}``; entries without an id are passed over."""
        sent = (item for item in items(body.get("data")) if isinstance(item, Mapping) and item.get("id"))
        records = tuple({str(name): jsonable(value) for name, value in item.items()} for item in sent)
        models = {model.id: model for model in map(cls._read, records)}
        return cls(models, captured_at, source, digest_of(sorted(records, key=lambda item: str(item["id"]))), records)

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

    @classmethod
    @abstractmethod
    def _read(cls, record: Mapping[str, Any]) -> M: ...


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
