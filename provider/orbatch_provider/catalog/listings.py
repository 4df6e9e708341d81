"""All image or text models of one reading, as ``Catalog`` is for video models."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any, Self, TypeVar

from orbatch_provider.catalog.imagemodels import ImageModel, items
from orbatch_provider.catalog.reading import Reading
from orbatch_provider.catalog.readings import digest_of, jsonable
from orbatch_provider.catalog.textmodels import TextModel

M = TypeVar("M", ImageModel, TextModel)


class Listing(Reading[M]):
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
