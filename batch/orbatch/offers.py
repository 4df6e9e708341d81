"""What the models of a batch can do and cost: the catalogs of all its kinds, read together and kept together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from orbatch_provider.catalog import (
    Catalog,
    ImageCatalog,
    ImageModel,
    PriceChange,
    TextCatalog,
    TextModel,
    VideoModel,
    price_changes,
)

AnyModel = VideoModel | ImageModel | TextModel


@dataclass(frozen=True, slots=True)
class Offers:
    """One reading of the catalogs. ``image`` and ``text`` are None where no job needed them."""

    video: Catalog
    image: ImageCatalog | None = None
    text: TextCatalog | None = None

    @property
    def captured_at(self) -> datetime:
        """When the oldest of them was read, UTC."""
        return min(catalog.captured_at for catalog in self._all.values())

    @property
    def source(self) -> str:
        return self.video.source

    @property
    def digest(self) -> str:
        """Names the content; that of the video catalog where there is nothing else."""
        digests = {kind: catalog.digest for kind, catalog in self._all.items()}
        if len(digests) == 1:
            return self.video.digest
        return "sha256:" + hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()

    def find(self, kind: str, model: str) -> AnyModel | None:
        catalog = self._all.get(kind)
        return None if catalog is None else catalog.find(model)

    def nearest(self, kind: str, model: str) -> str | None:
        catalog = self._all.get(kind)
        return None if catalog is None else catalog.nearest(model)

    def digest_for(self, models: Mapping[str, Iterable[str]]) -> str:
        """Names all that is known of these models, which are given by kind: what checks and prices of their jobs are
        made from."""
        known = [
            (kind, name, self.find(kind, name)) for kind, names in sorted(models.items()) for name in sorted(names)
        ]
        return "sha256:" + hashlib.sha256(repr(known).encode()).hexdigest()

    def only(self, models: Collection[str]) -> Offers:
        """The same without image and text models that are not asked for: their lists are long, and kept with every
        plan."""
        image, text = (None if catalog is None else _subset(catalog, models) for catalog in (self.image, self.text))
        return replace(self, image=image, text=text)

    def to_json(self) -> str:
        """As text: the video catalog, with the others beside its models."""
        body = json.loads(self.video.to_json())
        for kind in ("image", "text"):
            if kind in self._all:
                body[kind] = json.loads(self._all[kind].to_json())
        return json.dumps(body, ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str) -> Offers:
        """What ``to_json`` wrote, or a video catalog alone. Raises ValueError when it is anything else."""
        body = json.loads(text)
        image, text_models = body.get("image"), body.get("text")
        return cls(
            Catalog.from_text(text),
            None if image is None else ImageCatalog.from_text(json.dumps(image)),
            None if text_models is None else TextCatalog.from_text(json.dumps(text_models)),
        )

    @property
    def _all(self) -> Mapping[str, Catalog | ImageCatalog | TextCatalog]:
        every = {"video": self.video, "image": self.image, "text": self.text}
        return {kind: catalog for kind, catalog in every.items() if catalog is not None}


def changes(old: Offers, new: Offers, models: Iterable[str]) -> list[PriceChange]:
    """The price lines of ``models`` that differ between two readings."""
    names = list(dict.fromkeys(models))
    found = price_changes(old.video, new.video, names)
    for kind in ("image", "text"):
        for name in names:
            before, after = old.find(kind, name), new.find(kind, name)
            if before is not None and after is not None:
                found += _changed_lines(name, _lines(before), _lines(after))
    return found


def _changed_lines(model: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[PriceChange]:
    return [
        PriceChange(model, line, old.get(line), new.get(line))
        for line in dict.fromkeys((*old, *new))
        if _amount(old.get(line)) != _amount(new.get(line))
    ]


def _lines(model: AnyModel) -> dict[str, str]:
    """The price lines of a model by name; of an image model by endpoint."""
    if not isinstance(model, ImageModel):
        return dict(model.prices)
    lines: dict[str, str] = {}
    for endpoint in model.endpoints:
        where = endpoint.provider_tag or endpoint.provider_slug
        for line in endpoint.pricing:
            variant = f"[{line['variant']}]" if line.get("variant") else ""
            name = f"{line.get('billable')}/{line.get('unit')}{variant}"
            name = f"{name} of {where}" if where else name
            # Lines may have lost what tells them apart; then their order does.
            lines[name if name not in lines else f"{name} ({len(lines) + 1})"] = str(line.get("cost_usd"))
    return lines


def _amount(price: str | None) -> object:
    try:
        return None if price is None else Decimal(price)
    except InvalidOperation:
        return price


def _subset(catalog: Any, models: Collection[str]) -> Any:
    used = {found.id for found in map(catalog.find, models) if found is not None}
    records = [record for record in catalog.records if record["id"] in used]
    return type(catalog).from_json({"data": records}, captured_at=catalog.captured_at, source=catalog.source)
