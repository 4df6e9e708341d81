"""Content downloads over real sockets: whole or not at all, resumed where possible, an error page never a file."""

from __future__ import annotations

import hashlib
import random
import sys
import tracemalloc
from pathlib import Path

import pytest

from orbatch_provider.client import OpenRouterProvider
from orbatch_provider.download import Download, PartFile
from orbatch_provider.errors import (
    ConflictError,
    DownloadError,
    GoneError,
    NotFoundError,
    OpenRouterError,
    OutcomeUnknownError,
    RateLimitError,
    ServerError,
)
from tests.provider.rawserver import (
    Exchange,
    RawServer,
    Step,
    answer,
    clip,
    close,
    raw_answer,
    read_request,
    reset,
    send,
)

CLIP = clip()
WEBM = b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm" + bytes(600)


def video(body: bytes = CLIP, status: int = 200, *, content_type: str = "video/mp4", **kwargs: object) -> list[Step]:
    return answer(body, status, content_type=content_type, **kwargs)


def rest(start: int, body: bytes = CLIP, total: int | str = len(CLIP)) -> list[Step]:
    headers = {"Content-Range": f"bytes {start}-{len(body) - 1}/{total}"}
    return video(body[start:], 206, headers=headers)


def write_all(file: PartFile, content: bytes) -> None:
    for at in range(0, len(content), 100_000):
        file.write(content[at : at + 100_000])


async def load(provider: OpenRouterProvider, part: Path) -> Download:
    return await provider.download("job-1", 0, part)


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "clip.part"


async def test_a_clip_arrives_whole_with_its_hash(
    raw_server: RawServer, provider: OpenRouterProvider, part: Path
) -> None:
    raw_server.script(video())

    loaded = await load(provider, part)

    assert loaded == Download(part, len(CLIP), hashlib.sha256(CLIP).hexdigest(), "video/mp4", False)
    assert part.read_bytes() == CLIP
    request = raw_server.requests[0]
    assert request.target == "/videos/job-1/content?index=0"
    assert request.headers["accept"] == "video/mp4, */*"
    assert request.headers["accept-encoding"] == "identity"
    assert "range" not in request.headers


@pytest.mark.parametrize(
    ("script", "mime_type"),
    [
        pytest.param(video(chunked=True), "video/mp4", id="chunked-without-length"),
        pytest.param(video(content_type="application/octet-stream"), "video/mp4", id="octet-stream"),
        pytest.param(video(content_type="video/mp4; codecs=avc1"), "video/mp4", id="with-parameters"),
        pytest.param(video(WEBM, content_type="video/webm"), "video/webm", id="webm"),
        pytest.param(video(WEBM), "video/webm", id="the-bytes-win-over-the-header"),
        pytest.param(
            [read_request, send(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n\r\n" + CLIP), close],
            "video/mp4",
            id="until-the-connection-closes",
        ),
    ],
)
async def test_it_is_recognised_by_its_bytes(
    raw_server: RawServer, provider: OpenRouterProvider, part: Path, script: list[Step], mime_type: str
) -> None:
    raw_server.script(script)

    loaded = await load(provider, part)

    assert loaded.mime_type == mime_type
    assert loaded.sha256 == hashlib.sha256(part.read_bytes()).hexdigest()


async def test_a_download_goes_on_where_it_broke_off(
    raw_server: RawServer, provider: OpenRouterProvider, part: Path
) -> None:
    raw_server.script([read_request, send(raw_answer(CLIP[:1000], content_type="video/mp4", length=3000)), reset])
    with pytest.raises(DownloadError, match="can be resumed") as caught:
        await load(provider, part)
    assert caught.value.path == part
    had = part.stat().st_size
    raw_server.scripts[:] = [rest(had)]

    loaded = await load(provider, part)

    assert raw_server.requests[-1].headers["range"] == f"bytes={had}-"
    assert loaded.resumed
    assert part.read_bytes() == CLIP
    assert loaded.sha256 == hashlib.sha256(CLIP).hexdigest()


@pytest.mark.parametrize(
    "scripts",
    [
        pytest.param([video()], id="range-ignored"),
        pytest.param([video(chunked=True)], id="range-ignored-and-no-length"),
        pytest.param([rest(500), video()], id="another-start"),
        pytest.param([video(CLIP[1000:], 206), video()], id="no-content-range"),
        pytest.param([video(b"", 416), video()], id="offset-refused"),
    ],
)
async def test_where_it_cannot_be_joined_it_starts_over(
    raw_server: RawServer, provider: OpenRouterProvider, part: Path, scripts: list[list[Step]]
) -> None:
    part.write_bytes(CLIP[:1000])
    raw_server.script(*scripts)

    loaded = await load(provider, part)

    assert not loaded.resumed
    assert part.read_bytes() == CLIP
    assert loaded.sha256 == hashlib.sha256(CLIP).hexdigest()
    assert "range" in raw_server.requests[0].headers
    assert all("range" not in request.headers for request in raw_server.requests[1:])


async def test_a_longer_leftover_leaves_nothing_behind(
    raw_server: RawServer, provider: OpenRouterProvider, part: Path
) -> None:
    part.write_bytes(clip(9000))
    raw_server.script(video())

    await load(provider, part)

    assert part.read_bytes() == CLIP


async def test_a_leftover_that_is_no_video_is_not_continued(
    raw_server: RawServer, provider: OpenRouterProvider, part: Path
) -> None:
    part.write_bytes(b'{"error": "unauthorised"}')
    raw_server.script(video())

    await load(provider, part)

    assert "range" not in raw_server.requests[0].headers
    assert part.read_bytes() == CLIP


CUTS = [
    pytest.param([send(raw_answer(CLIP[:1500], content_type="video/mp4", length=3000)), close], id="with-length"),
    pytest.param([send(raw_answer(CLIP[:1500], content_type="video/mp4", length=3000)), reset], id="reset"),
    pytest.param([send(raw_answer(CLIP, content_type="video/mp4", chunked=True)[:-600]), close], id="chunked"),
    pytest.param([send(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n\r\n" + CLIP[:2000]), close], id="no-length"),
]


@pytest.mark.parametrize("steps", CUTS)
async def test_a_cut_is_noticed_and_what_came_is_kept(
    raw_server: RawServer, provider: OpenRouterProvider, part: Path, steps: list[Step]
) -> None:
    raw_server.script([read_request, *steps])

    with pytest.raises(DownloadError, match="can be resumed") as caught:
        await load(provider, part)

    assert caught.value.temporary
    if part.exists():  # after a reset the system may drop what had come
        assert CLIP.startswith(part.read_bytes())


@pytest.mark.parametrize(
    ("script", "words"),
    [
        pytest.param(answer({"hello": 1}), "application/json instead of a video", id="json"),
        pytest.param(answer("<html>x", content_type="text/html"), "text/html instead of a video", id="html"),
        pytest.param(video(b'{"error":"no"}'), "not a video", id="json-called-a-video"),
        pytest.param(video(b"<html>" * 200, content_type="application/octet-stream"), "not a video", id="long-html"),
        pytest.param(video(b""), "empty", id="empty"),
        pytest.param(video(b"", chunked=True), "empty", id="empty-chunked"),
        pytest.param(video(b"\x89PNG\r\n\x1a\n" + bytes(600)), "not a video", id="picture"),
        pytest.param(video(b"", 204), "204 instead of a video", id="no-content"),
        pytest.param(answer({"status": "queued"}, 202), "202 instead of a video", id="not-yet"),
        pytest.param(rest(700), "only a part of", id="unasked-piece"),
    ],
)
async def test_what_is_no_video_is_never_left_as_a_file(
    raw_server: RawServer, provider: OpenRouterProvider, part: Path, script: list[Step], words: str
) -> None:
    raw_server.script(script)

    with pytest.raises(DownloadError, match=words):
        await load(provider, part)

    assert not part.exists()


@pytest.mark.parametrize(
    ("script", "error"),
    [
        pytest.param(answer({"error": {"code": 409, "message": "not ready"}}, 409), ConflictError, id="409"),
        pytest.param(answer({"error": {"code": 410, "message": "gone"}}, 410), GoneError, id="410"),
        pytest.param(answer({"error": {"code": 429, "message": "slow"}}), RateLimitError, id="200-with-429-inside"),
        pytest.param([read_request, reset], OutcomeUnknownError, id="no-answer"),
    ],
)
async def test_what_came_earlier_survives_an_error_answer(
    raw_server: RawServer, provider: OpenRouterProvider, part: Path, script: list[Step], error: type[OpenRouterError]
) -> None:
    part.write_bytes(CLIP[:1000])
    raw_server.script(script)

    with pytest.raises(error):
        await load(provider, part)

    assert part.read_bytes() == CLIP[:1000]


async def test_a_stored_copy_is_used_when_the_api_has_no_content_and_gets_no_key(
    raw_server: RawServer, provider: OpenRouterProvider, part: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    signed = f"{raw_server.url}/stored/clip.mp4?signature=s3cret"
    job = {"id": "job-1", "status": "completed", "urls": [signed]}
    raw_server.script(answer({}, 404), answer(job), video())

    await load(provider, part)

    assert part.read_bytes() == CLIP
    stored = raw_server.requests[-1]
    assert stored.target == "/stored/clip.mp4?signature=s3cret"
    assert "authorization" not in stored.headers
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    ("urls", "copy", "error"),
    [
        pytest.param([], None, NotFoundError, id="no-copy"),
        pytest.param(["http://elsewhere.example/clip.mp4"], None, NotFoundError, id="copy-over-plain-http"),
        pytest.param(["file:///etc/passwd"], None, NotFoundError, id="copy-that-is-a-file"),
        pytest.param(["{url}/copy"], answer({}, 403), NotFoundError, id="copy-expired"),
        pytest.param(["{url}/copy"], answer({}, 500), ServerError, id="copy-fails-for-now"),
    ],
)
async def test_without_a_usable_copy_the_first_refusal_stands(
    raw_server: RawServer,
    provider: OpenRouterProvider,
    part: Path,
    urls: list[str],
    copy: list[Step] | None,
    error: type[OpenRouterError],
) -> None:
    job = {"id": "job-1", "status": "completed", "urls": [url.format(url=raw_server.url) for url in urls]}
    raw_server.script(answer({}, 404), answer(job), *([copy] if copy else []))

    with pytest.raises(error):
        await load(provider, part)

    assert not part.exists()


async def test_a_write_error_stays_what_it_is(
    raw_server: RawServer, provider: OpenRouterProvider, tmp_path: Path
) -> None:
    raw_server.script(video())

    with pytest.raises(FileNotFoundError):
        await load(provider, tmp_path / "no-such-folder" / "clip.part")


@pytest.mark.skipif(sys.platform == "win32", reason="there the size of a file cannot be limited")
def test_what_a_full_disk_took_half_of_is_not_written_twice(part: Path) -> None:
    import resource

    content = CLIP[:512] + random.Random(1).randbytes(2_000_000)
    file = PartFile(part)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_all(file, content)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    file.keep()

    kept = part.read_bytes()
    assert len(kept) >= 512
    assert content.startswith(kept)


async def test_a_large_clip_is_hashed_as_it_lies_on_disk_and_gone_on_with_where_it_broke_off(
    raw_server: RawServer, provider: OpenRouterProvider, part: Path
) -> None:
    size = 11_000_000
    box = (24).to_bytes(4, "big") + b"ftypisom" + bytes(12) + (size - 24).to_bytes(4, "big") + b"mdat"
    content = box + random.Random(2).randbytes(size - len(box))
    cut = 9_300_000

    async def go_on(exchange: Exchange) -> None:
        assert exchange.request is not None
        start = int(exchange.request.headers["range"].removeprefix("bytes=").rstrip("-"))
        headers = {"Content-Range": f"bytes {start}-{size - 1}/{size}"}
        exchange.writer.write(raw_answer(content[start:], 206, content_type="video/mp4", headers=headers))

    whole = raw_answer(content, content_type="video/mp4")
    raw_server.script([read_request, send(whole[:cut]), reset], [read_request, go_on])
    with pytest.raises(DownloadError, match="can be resumed"):
        await load(provider, part)
    kept = part.stat().st_size
    assert kept > 4_000_000
    assert content.startswith(part.read_bytes())

    loaded = await load(provider, part)

    assert (loaded.size, loaded.resumed) == (size, True)
    assert loaded.sha256 == hashlib.sha256(content).hexdigest() == hashlib.sha256(part.read_bytes()).hexdigest()


async def test_memory_does_not_grow_with_the_size_of_the_file(
    raw_server: RawServer, provider: OpenRouterProvider, part: Path
) -> None:
    size = 24 * 1024 * 1024
    piece = bytes(512 * 1024)
    head = (24).to_bytes(4, "big") + b"ftypisom" + bytes(12) + (size - 24).to_bytes(4, "big") + b"mdat"
    start = raw_answer(head, content_type="video/mp4", length=size)
    raw_server.script(
        [read_request, send(start), *[send(piece)] * (size // len(piece) - 1), send(piece[: len(piece) - len(head)])]
    )
    tracemalloc.start()

    loaded = await load(provider, part)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert loaded.size == size
    assert peak < 8 * 1024 * 1024
