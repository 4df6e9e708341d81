"""Where the price catalog comes from: a young copy on disk, the live API, an old copy, or the packaged snapshot.

Prices decide what may be spent, so whatever is not fresh is used only together with a note that says so. Nothing that
is wrong with the copy or its folder ever stops a plan.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from platformdirs import user_cache_dir

from orbatch.offers import Offers
from orbatch_provider.catalog import Catalog, ImageCatalog, TextCatalog, snapshot
from orbatch_provider.errors import OpenRouterError

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
