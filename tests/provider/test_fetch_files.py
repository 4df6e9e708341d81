"""Files that the SDK writes: never over another one, never of two jobs, and never without end."""

from __future__ import annotations

from pathlib import Path

import pytest

from orbatch_provider import VideoJob
from orbatch_provider import download as module
from orbatch_provider.errors import DownloadError
from orbatch_provider.responses import MAX_OUTPUTS
from tests.provider.conftest import Wire
from tests.provider.rawserver import answer
from tests.provider.test_client_jobs import VIDEO

DONE = VideoJob(id="job-1", status="completed")


async def test_an_existing_file_is_not_overwritten_and_the_download_is_kept(wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "beach.mp4").write_bytes(b"mine")
    wire.script(VIDEO)
    with pytest.raises(DownloadError, match=r"beach\.mp4 exists and was not overwritten"):
        await wire.provider.fetch(DONE, tmp_path, stem="beach")
    assert (tmp_path / "beach.mp4").read_bytes() == b"mine"
    assert len(list(tmp_path.glob("beach.*.part"))) == 1


async def test_the_same_video_may_be_fetched_twice(wire: Wire, tmp_path: Path) -> None:
    wire.script(VIDEO, VIDEO)
    for _ in range(2):
        await wire.provider.fetch(DONE, tmp_path, stem="beach")
    assert [path.name for path in tmp_path.iterdir()] == ["beach.mp4"]


async def test_two_jobs_of_one_stem_never_share_a_part(wire: Wire, tmp_path: Path) -> None:
    first, second = (tmp_path / name for name in ("first", "second"))
    wire.script(VIDEO, VIDEO)
    parts = []
    original = wire.provider.download

    async def download(job_id: str, index: int, part: Path) -> module.Download:
        parts.append(part.name)
        return await original(job_id, index, part)

    wire.provider.download = download  # type: ignore[method-assign]
    await wire.provider.fetch(DONE, first, stem="take")
    await wire.provider.fetch(VideoJob(id="job-2", status="completed"), second, stem="take")
    assert len(set(parts)) == 2


async def test_fewer_outputs_than_announced_are_all_that_is_fetched(wire: Wire, tmp_path: Path) -> None:
    job = VideoJob(id="job-1", status="completed", unsigned_urls=("https://a", "https://b"))
    wire.script(VIDEO, answer({"error": {"code": 400, "message": "index out of range"}}, 400))
    assert len(await wire.provider.fetch(job, tmp_path)) == 1


def test_a_list_without_end_counts_as_a_few() -> None:
    job = VideoJob(id="job-1", status="completed", unsigned_urls=("https://a",) * 100_000)
    assert (job.output_count, job.announced) == (MAX_OUTPUTS, 100_000)


@pytest.mark.parametrize(
    ("limit", "words"), [("SLOWEST_BYTES_PER_S", "less than"), ("MOST_S", "more than")], ids=["slow", "long"]
)
async def test_a_download_that_drips_gives_up_its_place(
    wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, words: str
) -> None:
    monkeypatch.setattr(module, "SLOW_AFTER_S", 0.0)
    monkeypatch.setattr(module, "SLOWEST_BYTES_PER_S", 0)
    monkeypatch.setattr(module, limit, 10**12 if limit == "SLOWEST_BYTES_PER_S" else -1.0)
    wire.script(VIDEO)
    with pytest.raises(DownloadError, match=f"can be resumed.*{words}"):
        await wire.provider.fetch(DONE, tmp_path)
