"""Where prices come from, and that the user is always told when they are not fresh."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orbatch.plan.catalogs import CACHE_DIR_VARIABLE, CatalogCache, Catalogs, load_catalogs
from orbatch_provider.catalog import Catalog, ImageModel, TextModel, VideoModel, image_snapshot, snapshot
from orbatch_provider.errors import NotSentError, OpenRouterError, ServiceUnavailableError

ORIGIN = "https://openrouter.ai/api/v1"
NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
OFFLINE = NotSentError("No connection to openrouter.ai could be made.")


def videos(price: str = "0.1", *, at: datetime = NOW) -> Catalog[VideoModel]:
    record = {"id": "a/one", "pricing_skus": {"duration_seconds": price}}
    return Catalog.from_json(VideoModel, {"data": [record]}, captured_at=at, source=ORIGIN)


def texts(*, at: datetime = NOW) -> Catalog[TextModel]:
    record = {"id": "a/poet", "pricing": {"prompt": "0.1"}}
    return Catalog.from_json(TextModel, {"data": [record]}, captured_at=at, source=ORIGIN)


@dataclass
class Api:
    """A provider whose catalogs are these; ``reads`` is what was read of it."""

    videos: Catalog[VideoModel] | OpenRouterError = field(default_factory=videos)
    texts: Catalog[TextModel] | OpenRouterError = field(default_factory=texts)
    images: tuple[str, ...] | OpenRouterError = ("a/still", "a/other")
    reads: list[object] = field(default_factory=list)

    def _read(self, what: str, answer: Any) -> Any:
        self.reads.append(what)
        if isinstance(answer, OpenRouterError):
            raise answer
        return answer

    async def catalog(self) -> Any:
        return self._read("video", self.videos)

    async def text_catalog(self) -> Any:
        return self._read("text", self.texts)

    async def image_catalog(self, only: Collection[str] | None) -> Any:
        ids = self._read(f"image {' '.join(sorted(only or ()))}", self.images)
        data = [
            {"id": name, "endpoints": [{"provider_slug": "x"}] if only is None or name in only else []} for name in ids
        ]
        return Catalog.from_json(ImageModel, {"data": data}, captured_at=NOW, source=ORIGIN)


async def load(
    api: Api | OpenRouterError, folder: Path, origin: str = ORIGIN, kind: str = "video", **given: Any
) -> Catalogs:
    """The catalogs by this API, or by one that answers everything with an error."""
    api = Api(api, api, api) if isinstance(api, OpenRouterError) else api
    models = given.pop("models", {kind: None})
    return await load_catalogs(api, models, CatalogCache(origin, folder), now=lambda: NOW, **given)


def files_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_the_first_reading_is_live_and_kept(tmp_path: Path) -> None:
    loaded = await load(Api(), tmp_path / "deep" / "er")
    assert (loaded.freshness, loaded.by_kind) == ("live", {"video": videos()})
    assert loaded.note == "Prices read live from openrouter.ai at 2026-11-02 12:00 UTC."
    assert files_in(tmp_path / "deep" / "er") == [CatalogCache(ORIGIN).path("video").name]


@pytest.mark.parametrize("kind", ["video", "image", "text"])
async def test_a_young_copy_is_used_without_reading(tmp_path: Path, kind: str) -> None:
    first = await load(Api(), tmp_path, kind=kind)
    api = Api()
    loaded = await load(api, tmp_path, kind=kind)
    assert (loaded.freshness, api.reads, loaded.by_kind) == ("cache", [], first.by_kind)
    assert loaded.note == "Prices from the cached catalog of 2026-11-02 12:00 UTC (0 minutes old)."


@pytest.mark.parametrize(
    ("age", "refresh"),
    [
        pytest.param(timedelta(minutes=61), False, id="old"),
        pytest.param(timedelta(days=-1), False, id="from a clock that was ahead"),
        pytest.param(timedelta(0), True, id="young, and refreshed"),
    ],
)
async def test_another_copy_is_replaced_by_the_live_catalog(tmp_path: Path, age: timedelta, refresh: bool) -> None:
    await load(Api(videos(at=NOW - age)), tmp_path)
    loaded = await load(Api(videos("0.2")), tmp_path, refresh=refresh)
    assert (loaded.freshness, loaded.by_kind["video"]) == ("live", videos("0.2"))
    again = await load(OFFLINE, tmp_path)
    assert (again.freshness, again.by_kind["video"]) == ("cache", videos("0.2"))


async def test_an_old_copy_is_used_with_a_note_when_the_live_catalog_cannot_be_read(tmp_path: Path) -> None:
    await load(Api(videos(at=NOW - timedelta(days=3))), tmp_path)
    loaded = await load(ServiceUnavailableError(503), tmp_path)
    assert (loaded.freshness, loaded.by_kind["video"]) == ("stale cache", videos(at=NOW - timedelta(days=3)))
    assert loaded.note.startswith(
        "Prices from the cached catalog of 2026-10-30 12:00 UTC (3 days old): the live catalog could not be read ("
    )
    assert "503" in loaded.note


@pytest.mark.parametrize(("kind", "packaged"), [("video", snapshot), ("image", image_snapshot)])
async def test_the_snapshot_is_the_last_resort_and_says_its_date(tmp_path: Path, kind: str, packaged: Any) -> None:
    loaded = await load(OFFLINE, tmp_path, kind=kind)
    assert (loaded.freshness, loaded.by_kind) == ("snapshot", {kind: packaged()})
    assert loaded.note == (
        f"Prices from the packaged snapshot of {packaged().captured_at:%Y-%m-%d}: the live catalog could not be read "
        "(No connection to openrouter.ai could be made)."
    )
    assert files_in(tmp_path) == []


async def test_texts_have_no_snapshot_so_the_error_is_raised_unless_there_is_an_old_copy(tmp_path: Path) -> None:
    with pytest.raises(NotSentError):
        await load(OFFLINE, tmp_path, kind="text")
    await load(Api(texts=texts(at=NOW - timedelta(days=3))), tmp_path, kind="text")
    assert (await load(OFFLINE, tmp_path, kind="text")).freshness == "stale cache"


async def test_several_kinds_say_which_prices_are_which_and_the_least_fresh_counts(tmp_path: Path) -> None:
    models = {"video": None, "text": None, "image": None}
    same = await load(Api(), tmp_path / "same", models=models)
    assert same.note == "Prices read live from openrouter.ai at 2026-11-02 12:00 UTC."
    mixed = await load(Api(images=OFFLINE), tmp_path / "mixed", models=models)
    assert mixed.freshness == "snapshot"
    assert mixed.note.startswith("Prices of video and text models read live from openrouter.ai")
    assert "Prices of image models from the packaged snapshot" in mixed.note


async def test_endpoints_are_read_of_the_models_in_question_and_of_those_of_other_batches(tmp_path: Path) -> None:
    api = Api()
    for wanted in (["a/still"], ["a/still", "no/such"], ["a/other"], ["a/still"]):
        await load(api, tmp_path, models={"image": wanted})
    assert api.reads == ["image a/still", "image a/other a/still"]
    assert (await load(OFFLINE, tmp_path, models={"image": None})).freshness == "cache"


async def test_an_empty_live_catalog_is_not_believed(tmp_path: Path) -> None:
    empty = Catalog.from_json(VideoModel, {"data": []}, captured_at=NOW, source=ORIGIN)
    loaded = await load(Api(empty), tmp_path)
    assert loaded.freshness == "snapshot"
    assert "could not be read (it was empty)" in loaded.note


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(videos().to_json().encode()[:-9], id="cut off"),
        pytest.param(b"\xff\xfe\x00", id="no text"),
        pytest.param(b"[" * 100_000, id="nested"),
        pytest.param(b'{"captured_at": "soon", "source": "x", "data": []}', id="no time"),
        pytest.param(json.dumps({"captured_at": NOW.isoformat(), "source": "x", "data": []}).encode(), id="no models"),
    ],
)
async def test_a_corrupt_copy_is_skipped_and_replaced(tmp_path: Path, content: bytes) -> None:
    CatalogCache(ORIGIN, tmp_path).path("video").write_bytes(content)
    assert (await load(OFFLINE, tmp_path)).freshness == "snapshot"
    assert (await load(Api(), tmp_path)).freshness == "live"
    assert (await load(OFFLINE, tmp_path)).freshness == "cache"


async def test_a_copy_that_cannot_be_written_breaks_nothing_and_leaves_no_litter(tmp_path: Path) -> None:
    path = CatalogCache(ORIGIN, tmp_path).path("video")
    path.mkdir()
    for directory in (tmp_path, path / "file"):
        (path / "file").touch()  # and not a directory
        loaded = await load(Api(), directory)
        assert loaded.freshness == "live"
        assert f"could not be kept in {directory}" in loaded.note
    assert files_in(tmp_path) == [path.name]


async def test_a_simulator_has_a_copy_of_its_own(tmp_path: Path) -> None:
    await load(Api(videos("9")), tmp_path, "http://127.0.0.1:8080/api/v1")
    assert (await load(OFFLINE, tmp_path)).freshness == "snapshot"
    assert (await load(OFFLINE, tmp_path, "http://127.0.0.1:8081/api/v1")).freshness == "snapshot"


@pytest.mark.parametrize(
    "origin", ["https://openrouter.ai", "https://OpenRouter.ai:443/api/v1", "https://user:secret@openrouter.ai/x"]
)
def test_one_host_and_port_is_one_file_without_secrets(origin: str, tmp_path: Path) -> None:
    path = CatalogCache(origin, tmp_path).path("video")
    assert path == CatalogCache(ORIGIN, tmp_path).path("video")
    assert "secret" not in path.name


def test_the_environment_names_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(CACHE_DIR_VARIABLE, str(tmp_path))
    assert CatalogCache(ORIGIN).directory == tmp_path
    monkeypatch.delenv(CACHE_DIR_VARIABLE)
    assert "orbatch" in str(CatalogCache(ORIGIN).directory)


async def test_a_programming_error_is_not_taken_for_an_outage(tmp_path: Path) -> None:
    with pytest.raises(AttributeError):
        await load_catalogs(object(), {"video": None}, CatalogCache(ORIGIN, tmp_path))
