"""Where prices come from, for every kind: a young copy on disk, the live API, an old copy, or the packaged snapshot.

Prices decide what may be spent, so prices that are not fresh are used only together with a note that says so. Nothing
that is wrong with a copy or its directory ever stops a plan.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from platformdirs import user_cache_dir

from orbatch.plan.kinds import KINDS, Kind
from orbatch_provider import AnyModel, Catalog, OpenRouterError, PriceChange, price_changes

CACHE_DIR_VARIABLE = "ORBATCH_CACHE_DIR"
MAX_AGE = timedelta(hours=1)  # one reading for a morning of edits, and no price older than that

Freshness = Literal["live", "cache", "stale cache", "snapshot"]
_utc_now = partial(datetime.now, UTC)
_FRESHNESS: tuple[Freshness, ...] = ("live", "cache", "stale cache", "snapshot")  # the best first


@dataclass(frozen=True, slots=True)
class Catalogs:
    """The catalogs of the kinds that a batch has. ``freshness``: of the least fresh one; ``note``: a sentence for the
    user with source and age, which must be shown for a ``stale cache`` or a ``snapshot``."""

    by_kind: Mapping[str, Catalog[AnyModel]]
    freshness: Freshness = "live"
    note: str = ""

    @property
    def captured_at(self) -> datetime:
        """When the oldest of them was read, in UTC."""
        return min(catalog.captured_at for catalog in self.by_kind.values())

    @property
    def source(self) -> str:
        """Where they were read."""
        return next(iter(self.by_kind.values())).source

    @property
    def digest(self) -> str:
        """``sha256:...`` of the content; that of the catalog where there is only one."""
        digests = {kind: catalog.digest for kind, catalog in self.by_kind.items()}
        if len(digests) == 1:
            return next(iter(digests.values()))
        return "sha256:" + hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()

    def find(self, kind: str, model: str) -> AnyModel | None:
        """The model of this kind; None when it or the whole kind is not there."""
        catalog = self.by_kind.get(kind)
        return None if catalog is None else catalog.find(model)

    def only(self, models: Collection[str]) -> Catalogs:
        """The same, restricted to these models: the lists are long, and kept with every plan."""
        by_kind = {kind: catalog.only(models) for kind, catalog in self.by_kind.items()}
        return Catalogs(by_kind, self.freshness, self.note)

    def price_changes(self, before: Catalogs, models: Iterable[str]) -> list[PriceChange]:
        """The price lines of ``models`` that differ from an earlier reading."""
        names = list(models)
        # A kind that the batch did not have before has no old prices.
        shared = [kind for kind in self.by_kind if kind in before.by_kind]
        return [change for kind in shared for change in price_changes(before.by_kind[kind], self.by_kind[kind], names)]

    def to_json(self) -> str:
        """The catalogs by kind, as JSON text."""
        return "{" + ", ".join(f'"{kind}": {catalog.to_json()}' for kind, catalog in self.by_kind.items()) + "}"

    @classmethod
    def from_text(cls, text: str) -> Catalogs:
        """Read what ``to_json`` wrote. Raises ValueError when it is anything else."""
        body = json.loads(text)
        # Version 0.1.0 wrote the video catalog, with those of other kinds beside its models.
        parts = body | {"video": body} if "data" in body else body
        return cls(
            {
                name: Catalog.from_text(kind.model, json.dumps(parts[name]))
                for name, kind in KINDS.items()
                if name in parts
            }
        )


class CatalogCache:
    """Copies of the catalogs on disk: one file per kind, host and port, so that a simulator's prices never pass for
    real ones. ``directory`` None: ORBATCH_CACHE_DIR, or where the platform keeps caches."""

    def __init__(self, origin: str, directory: Path | None = None) -> None:
        self.place = _host_and_port(origin)
        self.directory = directory or Path(
            os.environ.get(CACHE_DIR_VARIABLE) or user_cache_dir("orbatch", appauthor=False)
        )

    def path(self, kind: str) -> Path:
        """The file of this kind."""
        readable = re.sub(r"[^a-z0-9.-]+", "-", self.place)[:40]
        digest = hashlib.sha256(self.place.encode()).hexdigest()[:12]  # two long hosts may share the readable part
        return self.directory / f"catalog-{readable}-{digest}-{kind}.json"

    def read(self, kind: Kind) -> Catalog[Any] | None:
        """The copy, or None when there is none that can be used."""
        try:
            copy = Catalog.from_text(kind.model, self.path(kind.name).read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return copy if copy.models else None

    def write(self, kind: Kind, catalog: Catalog[Any]) -> bool:
        """Replace the copy in one step, so that another process reads the old one or the new one. False: failed."""
        path, temporary = self.path(kind.name), None
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


# The catalog of a kind, how fresh it is, and the end of a sentence that begins with "Prices".
_Loaded = tuple[Catalog[Any], Freshness, str]


async def load_catalogs(
    provider: Any,
    models: Mapping[str, Collection[str] | None],
    cache: CatalogCache,
    *,
    refresh: bool = False,
    now: Callable[[], datetime] = _utc_now,
) -> Catalogs:
    """The catalogs of the kinds in ``models``, each from its copy in ``cache`` when that is at most an hour old, else
    from the API.

    ``models``: the models in question by kind, None: all; the endpoints of others need not be read. ``refresh``: read
    live even when the copy is young. An OpenRouterError falls back on an old copy or the packaged snapshot; it is
    raised for a kind that has neither.
    """
    loaded = {
        name: await _load(kind, provider, models[name], cache, now(), refresh=refresh)
        for name, kind in KINDS.items()
        if name in models
    }
    freshness = max((fresh for _, fresh, _ in loaded.values()), key=_FRESHNESS.index)
    return Catalogs({kind: catalog for kind, (catalog, _, _) in loaded.items()}, freshness, _note(loaded))


async def _load(
    kind: Kind, provider: Any, models: Collection[str] | None, cache: CatalogCache, now: datetime, *, refresh: bool
) -> _Loaded:
    copy = cache.read(kind)
    if copy is not None and not _covers(copy, models):
        # Together with the models of other batches, so that these do not take turns in replacing the copy.
        models = None if models is None else {*models, *(name for name in copy.models if _covers(copy, [name]))}
        copy = None
    # A negative age comes from a clock that was ahead: such a copy would stay young for as long.
    elif copy is not None and not refresh and timedelta(0) <= now - copy.captured_at <= MAX_AGE:
        return copy, "cache", _from_copy(copy, now) + "."
    try:
        live = await kind.read_catalog(provider, models)
    except OpenRouterError as exc:
        reason = str(exc).rstrip(".")
        if copy is None and kind.snapshot is None:
            raise
    else:
        if live.models or kind.snapshot is None:  # an empty list is an outage, not a price list
            saved = cache.write(kind, live)
            lost = f" They could not be kept in {cache.directory}, so every plan reads them again."
            return live, "live", f"read live from {cache.place} at {_minute(live)}." + ("" if saved else lost)
        reason = "it was empty"
    because = f": the live catalog could not be read ({reason})."
    if copy is not None:
        return copy, "stale cache", _from_copy(copy, now) + because
    assert kind.snapshot is not None  # raised above
    packaged = kind.snapshot()
    return packaged, "snapshot", f"from the packaged snapshot of {packaged.captured_at:%Y-%m-%d}{because}"


def _covers(copy: Catalog[Any], models: Collection[str] | None) -> bool:
    """Whether the copy has all of these models; the endpoints of an image model are read only when asked for."""
    found = copy.models.values() if models is None else map(copy.find, models)
    return all(getattr(model, "endpoints", True) for model in found if model is not None)


def _note(loaded: Mapping[str, _Loaded]) -> str:
    kinds: dict[str, list[str]] = {}
    for kind, (_, _, source) in loaded.items():
        kinds.setdefault(source, []).append(kind)
    if len(kinds) == 1:
        return f"Prices {next(iter(kinds))}"
    return " ".join(f"Prices of {' and '.join(names)} models {source}" for source, names in kinds.items())


def _host_and_port(origin: str) -> str:
    """Host and port of a URL, which may carry a user name that has no business in a file name or a note."""
    parts = urlsplit(origin.lower() if "://" in origin else f"//{origin.lower()}")
    host = parts.hostname or "unknown"
    # A port that is the default names the same API as none.
    default = 80 if parts.scheme == "http" else 443
    return host if parts.port in (None, default) else f"{host}:{parts.port}"


def _from_copy(copy: Catalog[Any], now: datetime) -> str:
    return f"from the cached catalog of {_minute(copy)} ({_age(now - copy.captured_at)} old)"


def _minute(catalog: Catalog[Any]) -> str:
    return f"{catalog.captured_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _age(age: timedelta) -> str:
    minutes = max(0, int(age.total_seconds() // 60))
    if minutes < 120:
        return "1 minute" if minutes == 1 else f"{minutes} minutes"
    return f"{minutes // 60} hours" if minutes < 48 * 60 else f"{minutes // (24 * 60)} days"
