"""Where prices come from, and that the user is always told when they are not fresh."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orbatch.plan.catalogs import CACHE_DIR_VARIABLE, cache_path, load_catalog
from orbatch_provider.catalog import Catalog, snapshot
from orbatch_provider.errors import NotSentError, OpenRouterError, ServiceUnavailableError

ORIGIN = "https://openrouter.ai/api/v1"
NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)


def catalog(price: str = "0.1", *, at: datetime = NOW) -> Catalog:
    record = {"id": "a/one", "pricing_skus": {"duration_seconds": price}}
    return Catalog.from_json({"data": [record]}, captured_at=at, source=ORIGIN)


class Live:
    """The live catalog: what is read next, and how often it was read."""

    def __init__(self, answer: Catalog | OpenRouterError) -> None:
        self.answer = answer
        self.reads = 0

    async def __call__(self) -> Catalog:
        self.reads += 1
        if isinstance(self.answer, OpenRouterError):
            raise self.answer
        return self.answer


def now() -> datetime:
    return NOW


def offline() -> Live:
    return Live(NotSentError("No connection to openrouter.ai could be made."))


def files_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def keep(cache_dir: Path, kept: Catalog, origin: str = ORIGIN) -> None:
    await load_catalog(Live(kept), origin=origin, cache_dir=cache_dir, refresh=True, now=now)


async def test_the_first_reading_is_live_and_kept(tmp_path: Path) -> None:
    loaded = await load_catalog(Live(catalog()), origin=ORIGIN, cache_dir=tmp_path / "deep" / "er", now=now)
    assert (loaded.kind, loaded.catalog) == ("live", catalog())
    assert loaded.note == "Prices read live from openrouter.ai at 2026-11-02 12:00 UTC."
    assert files_in(tmp_path / "deep" / "er") == [cache_path(ORIGIN).name]


async def test_a_young_copy_is_used_without_reading(tmp_path: Path) -> None:
    await keep(tmp_path, catalog(at=NOW - timedelta(minutes=59)))
    live = Live(catalog("0.2"))
    loaded = await load_catalog(live, origin=ORIGIN, cache_dir=tmp_path, now=now)
    assert (loaded.kind, live.reads) == ("cache", 0)
    assert loaded.catalog == catalog(at=NOW - timedelta(minutes=59))
    assert loaded.note == "Prices from the cached catalog of 2026-11-02 11:01 UTC (59 minutes old)."


@pytest.mark.parametrize(
    "age",
    [
        pytest.param(timedelta(minutes=61), id="old"),
        pytest.param(timedelta(days=-1), id="from a clock that was ahead"),
    ],
)
async def test_another_copy_is_replaced_by_the_live_catalog(tmp_path: Path, age: timedelta) -> None:
    await keep(tmp_path, catalog(at=NOW - age))
    loaded = await load_catalog(Live(catalog("0.2")), origin=ORIGIN, cache_dir=tmp_path, now=now)
    assert (loaded.kind, loaded.catalog) == ("live", catalog("0.2"))
    again = await load_catalog(offline(), origin=ORIGIN, cache_dir=tmp_path, now=now)
    assert (again.kind, again.catalog) == ("cache", catalog("0.2"))


async def test_refresh_reads_live_although_the_copy_is_young(tmp_path: Path) -> None:
    await keep(tmp_path, catalog())
    loaded = await load_catalog(Live(catalog("0.2")), origin=ORIGIN, cache_dir=tmp_path, refresh=True, now=now)
    assert (loaded.kind, loaded.catalog) == ("live", catalog("0.2"))


async def test_an_old_copy_is_used_aloud_when_the_live_catalog_cannot_be_read(tmp_path: Path) -> None:
    await keep(tmp_path, catalog(at=NOW - timedelta(days=3)))
    loaded = await load_catalog(Live(ServiceUnavailableError(503)), origin=ORIGIN, cache_dir=tmp_path, now=now)
    assert loaded.kind == "stale cache"
    assert loaded.catalog == catalog(at=NOW - timedelta(days=3))
    assert loaded.note.startswith(
        "Prices from the cached catalog of 2026-10-30 12:00 UTC (3 days old): the live catalog could not be read ("
    )
    assert "503" in loaded.note


async def test_the_snapshot_is_the_last_resort_and_says_its_date(tmp_path: Path) -> None:
    loaded = await load_catalog(offline(), origin=ORIGIN, cache_dir=tmp_path, now=now)
    assert (loaded.kind, loaded.catalog) == ("snapshot", snapshot())
    assert loaded.note == (
        "Prices from the packaged snapshot of 2026-10-09: the live catalog could not be read "
        "(No connection to openrouter.ai could be made)."
    )
    assert files_in(tmp_path) == []


async def test_an_empty_live_catalog_is_not_believed(tmp_path: Path) -> None:
    empty = Catalog.from_json({"data": []}, captured_at=NOW, source=ORIGIN)
    loaded = await load_catalog(Live(empty), origin=ORIGIN, cache_dir=tmp_path, now=now)
    assert loaded.kind == "snapshot"
    assert "could not be read (it was empty)" in loaded.note


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(catalog().to_json().encode()[:-9], id="cut off"),
        pytest.param(b"\xff\xfe\x00", id="no text"),
        pytest.param(b"[" * 100_000, id="nested"),
        pytest.param(b'{"captured_at": "soon", "source": "x", "data": []}', id="no time"),
        pytest.param(json.dumps({"captured_at": NOW.isoformat(), "source": "x", "data": []}).encode(), id="no models"),
    ],
)
async def test_a_corrupt_copy_is_passed_over_and_replaced(tmp_path: Path, content: bytes) -> None:
    path = cache_path(ORIGIN, tmp_path)
    path.write_bytes(content)
    assert (await load_catalog(offline(), origin=ORIGIN, cache_dir=tmp_path, now=now)).kind == "snapshot"
    assert (await load_catalog(Live(catalog()), origin=ORIGIN, cache_dir=tmp_path, now=now)).kind == "live"
    assert (await load_catalog(offline(), origin=ORIGIN, cache_dir=tmp_path, now=now)).kind == "cache"


async def test_a_folder_that_cannot_be_written_breaks_nothing(tmp_path: Path) -> None:
    in_the_way = tmp_path / "cache"
    in_the_way.write_text("a file where the folder should be")
    loaded = await load_catalog(Live(catalog()), origin=ORIGIN, cache_dir=in_the_way, now=now)
    assert loaded.kind == "live"
    assert f"could not be kept in {in_the_way}" in loaded.note


async def test_a_copy_that_cannot_be_replaced_leaves_no_litter(tmp_path: Path) -> None:
    path = cache_path(ORIGIN, tmp_path)
    path.mkdir()
    assert (await load_catalog(Live(catalog()), origin=ORIGIN, cache_dir=tmp_path, now=now)).kind == "live"
    assert files_in(tmp_path) == [path.name]


async def test_a_simulator_has_a_copy_of_its_own(tmp_path: Path) -> None:
    await keep(tmp_path, catalog("9"), origin="http://127.0.0.1:8080/api/v1")
    assert (await load_catalog(offline(), origin=ORIGIN, cache_dir=tmp_path, now=now)).kind == "snapshot"
    other_port = await load_catalog(offline(), origin="http://127.0.0.1:8081/api/v1", cache_dir=tmp_path, now=now)
    assert other_port.kind == "snapshot"


@pytest.mark.parametrize(
    "origin", ["https://openrouter.ai", "https://OpenRouter.ai:443/api/v1", "https://user:secret@openrouter.ai/x"]
)
def test_one_host_and_port_is_one_file_without_secrets(origin: str, tmp_path: Path) -> None:
    assert cache_path(origin, tmp_path) == cache_path(ORIGIN, tmp_path)
    assert "secret" not in cache_path(origin, tmp_path).name


def test_the_environment_names_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(CACHE_DIR_VARIABLE, str(tmp_path))
    assert cache_path(ORIGIN).parent == tmp_path
    monkeypatch.delenv(CACHE_DIR_VARIABLE)
    assert "orbatch" in str(cache_path(ORIGIN).parent)


async def test_a_programming_error_is_not_taken_for_an_outage(tmp_path: Path) -> None:
    async def broken() -> Catalog:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        await load_catalog(broken, origin=ORIGIN, cache_dir=tmp_path, now=now)
