"""Where the price catalog comes from: a young copy on disk, the live API, an old copy, or the packaged snapshot.

Prices decide what may be spent, so whatever is not fresh is used only together with a note that says so. Nothing that
is wrong with the copy or its folder ever stops a plan.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from platformdirs import user_cache_dir

from orbatch_provider.catalog import (
    Catalog,
    ImageCatalog,
    ImageModel,
    PriceChange,
    TextCatalog,
    TextModel,
    VideoModel,
    price_changes,
    snapshot,
)
from orbatch_provider.errors import OpenRouterError

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


CACHE_DIR_VARIABLE = "ORBATCH_CACHE_DIR"
MAX_AGE = timedelta(hours=1)

CatalogKind = Literal["live", "cache", "stale cache", "snapshot"]


@dataclass(frozen=True, slots=True)
class LoadedCatalog:
    """A catalog and where it comes from. ``note`` is a sentence for the user, with dates; one about a ``stale cache``
    or a ``snapshot`` must be shown. ``image`` and ``text`` are there where the batch has such jobs."""

    catalog: Catalog
    kind: CatalogKind
    note: str
    image: ImageCatalog | None = None
    text: TextCatalog | None = None

    @property
    def offers(self) -> Offers:
        """The catalogs of all kinds."""
        return Offers(self.catalog, self.image, self.text)


def _utc_now() -> datetime:
    return datetime.now(UTC)


async def load_catalog(
    read_live: Callable[[], Awaitable[Catalog]],
    *,
    origin: str,
    cache_dir: Path | None = None,
    max_age: timedelta = MAX_AGE,
    refresh: bool = False,
    now: Callable[[], datetime] = _utc_now,
) -> LoadedCatalog:
    """The catalog of the API at ``origin``: its copy when that is younger than ``max_age``, else the live one.

    ``read_live``: reads it from the API; any OpenRouterError of it falls back on what is at hand. ``origin``: the
    API's base URL; each host and port has a copy of its own. ``cache_dir``: None is ORBATCH_CACHE_DIR, or where the
    platform keeps caches. ``refresh``: read live even when the copy is young.
    """
    path = cache_path(origin, cache_dir)
    copy = _read(path)
    if copy is not None and not refresh and timedelta(0) <= now() - copy.captured_at <= max_age:
        note = f"Prices from the cached catalog of {_minute(copy)} ({_age(now() - copy.captured_at)} old)."
        return LoadedCatalog(copy, "cache", note)
    try:
        live = await read_live()
    except OpenRouterError as exc:
        return _fallback(copy, now(), str(exc).rstrip("."))
    if not live.models:
        return _fallback(copy, now(), "it was empty")
    saved = "" if _write(path, live) else f" They could not be kept in {path.parent}, so every plan reads them again."
    return LoadedCatalog(live, "live", f"Prices read live from {_place(origin)} at {_minute(live)}.{saved}")


def cache_path(origin: str, cache_dir: Path | None = None) -> Path:
    """The file that holds the copy for ``origin``: one per host and port, so that a simulator's prices never pass for
    the real ones."""
    folder = cache_dir or Path(os.environ.get(CACHE_DIR_VARIABLE) or user_cache_dir("orbatch", appauthor=False))
    place = _place(origin)
    readable = re.sub(r"[^a-z0-9.-]+", "-", place)[:40]
    return folder / f"catalog-{readable}-{hashlib.sha256(place.encode()).hexdigest()[:12]}.json"


def _fallback(copy: Catalog | None, now: datetime, reason: str) -> LoadedCatalog:
    because = f"the live catalog could not be read ({reason})"
    if copy is not None:
        note = f"Prices from the cached catalog of {_minute(copy)} ({_age(now - copy.captured_at)} old): {because}."
        return LoadedCatalog(copy, "stale cache", note)
    packaged = snapshot()
    note = f"Prices from the packaged snapshot of {packaged.captured_at:%Y-%m-%d}: {because}."
    return LoadedCatalog(packaged, "snapshot", note)


def _read(path: Path) -> Catalog | None:
    """The copy, or None when there is none that can be used."""
    try:
        copy = Catalog.from_text(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return copy if copy.models else None


def _write(path: Path, catalog: Catalog) -> bool:
    """Replace the copy in one step, so that another process reads the old one or the new one. False: impossible."""
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=path.name, suffix=".part", delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(catalog.to_json())
        temporary.replace(path)
    except (OSError, ValueError):
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        return False
    return True


def _place(origin: str) -> str:
    """Host and port of a URL, which may carry a user name that has no business in a file name or a note."""
    parts = urlsplit(origin.lower() if "://" in origin else f"//{origin.lower()}")
    host = parts.hostname or "unknown"
    default = 80 if parts.scheme == "http" else 443
    return host if parts.port in (None, default) else f"{host}:{parts.port}"


def _minute(catalog: Catalog) -> str:
    return f"{catalog.captured_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _age(age: timedelta) -> str:
    minutes = max(0, int(age.total_seconds() // 60))
    if minutes < 120:
        return "1 minute" if minutes == 1 else f"{minutes} minutes"
    return f"{minutes // 60} hours" if minutes < 48 * 60 else f"{minutes // (24 * 60)} days"
