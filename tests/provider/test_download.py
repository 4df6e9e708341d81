"""Content downloads over real sockets: whole or not at all, resumed where possible, an error page never a file."""

from __future__ import annotations

import hashlib
import random
import sys
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from orbatch_provider import errors
from orbatch_provider.download import Download, Entity, PartFile, entity_path, source_of
from tests.provider.conftest import Wire
from tests.provider.rawserver import (
    MP4_HEAD,
    WEBM,
    Exchange,
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
NO_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n\r\n"


def video(body: bytes = CLIP, status: int = 200, *, content_type: str = "video/mp4", **kwargs: object) -> list[Step]:
    return answer(body, status, content_type=content_type, **kwargs)


TAG = '"v1"'
TAGGED = {"ETag": TAG}


def rest(start: int, body: bytes = CLIP, headers: Mapping[str, str] = TAGGED) -> list[Step]:
    content_range = f"bytes {start}-{len(body) - 1}/{len(body)}"
    return video(body[start:], 206, headers={**headers, "Content-Range": content_range})


def leave(wire: Wire, content: bytes, total: int | None = len(CLIP), validator: str = TAG, path: str = "") -> None:
    """What a killed download leaves."""
    wire.part.unlink(missing_ok=True)
    file = PartFile(wire.part)
    url = f"{wire.server.url}{path or '/videos/job-1/content'}"
    file.entity = Entity(source_of(url), validator, total)
    file.write(content)
    file.keep()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def test_a_clip_arrives_whole_with_its_hash(wire: Wire) -> None:
    wire.script(video())

    loaded = await wire.load()

    assert loaded == Download(wire.part, len(CLIP), sha256(CLIP), "video/mp4", False)
    assert wire.part.read_bytes() == CLIP
    request = wire.requests[0]
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
        pytest.param([read_request, send(NO_LENGTH + CLIP), close], "video/mp4", id="until-the-connection-closes"),
    ],
)
async def test_it_is_recognised_by_its_bytes(wire: Wire, script: list[Step], mime_type: str) -> None:
    wire.script(script)

    loaded = await wire.load()

    assert loaded.mime_type == mime_type
    assert loaded.sha256 == sha256(wire.part.read_bytes())


def cut(content: bytes, end: Step, at: int, head: bytes | None = None) -> list[Step]:
    """``content`` up to ``at``, with a head that announces all of it unless it is given."""
    whole = raw_answer(content, content_type="video/mp4", headers=TAGGED)
    head = whole.removesuffix(content) if head is None else head
    return [read_request, send(head + content[:at]), end]


def going_on(content: bytes) -> list[Step]:
    """All of the content, or what a range asks for."""

    async def step(exchange: Exchange) -> None:
        assert exchange.request is not None
        start = int(exchange.request.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        headers |= TAGGED
        whole = raw_answer(content[start:], 206 if start else 200, content_type="video/mp4", headers=headers)
        await send(whole)(exchange)

    return [read_request, step]


CHUNKED = raw_answer(CLIP, content_type="video/mp4", chunked=True, headers=TAGGED)
NO_LENGTH_TAGGED = NO_LENGTH.replace(b"\r\n\r\n", b"\r\nETag: " + TAG.encode() + b"\r\n\r\n")
LARGE = MP4_HEAD + (11_000_000 - 24).to_bytes(4, "big") + b"mdat" + random.Random(2).randbytes(11_000_000 - 32)


@pytest.mark.parametrize(
    ("content", "script"),
    [
        pytest.param(CLIP, cut(CLIP, close, 1500), id="with-length"),
        pytest.param(CLIP, cut(CLIP, reset, 1500), id="reset"),
        pytest.param(CLIP, cut(CHUNKED, close, len(CHUNKED) - 600, b""), id="chunked"),
        pytest.param(CLIP, cut(CLIP, close, 2000, NO_LENGTH_TAGGED), id="no-length"),
        pytest.param(LARGE, cut(LARGE, close, 9_300_000), id="large"),  # hashed in pieces, beside the download
    ],
)
async def test_a_cut_is_noticed_and_the_next_download_goes_on_where_it_broke_off(
    wire: Wire, content: bytes, script: list[Step]
) -> None:
    wire.script(script, going_on(content))
    with pytest.raises(errors.DownloadError, match="can be resumed") as caught:
        await wire.load()
    assert caught.value.temporary
    assert caught.value.path == wire.part
    kept = wire.part.read_bytes() if wire.part.exists() else b""  # after a reset the system may drop what had come
    assert content.startswith(kept)
    assert len(kept) > 4_000_000 or content is CLIP

    loaded = await wire.load()

    assert wire.requests[-1].headers.get("range") == (f"bytes={len(kept)}-" if kept else None)
    assert (loaded.size, loaded.resumed) == (len(content), bool(kept))
    assert loaded.sha256 == sha256(content) == sha256(wire.part.read_bytes())


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
async def test_where_it_cannot_be_joined_it_starts_over(wire: Wire, scripts: list[list[Step]]) -> None:
    leave(wire, CLIP[:1000])
    wire.script(*scripts)

    loaded = await wire.load()

    assert not loaded.resumed
    assert wire.part.read_bytes() == CLIP
    assert loaded.sha256 == sha256(CLIP)
    assert "range" in wire.requests[0].headers
    assert all("range" not in request.headers for request in wire.requests[1:])


OTHER = bytes([*CLIP[:600], *(255 - byte for byte in CLIP[600:])]) + bytes(700)
DATE = "Wed, 25 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("validator", "total", "changed"),
    [
        pytest.param(TAG, len(CLIP), [video(OTHER, headers={"ETag": '"v2"'})], id="if-range-obeyed"),
        pytest.param(TAG, len(CLIP), [rest(1000, OTHER, {"ETag": '"v2"'}), video(OTHER)], id="other-tag"),
        pytest.param(TAG, len(CLIP), [rest(1000, OTHER, {}), video(OTHER)], id="no-tag-any-more"),
        pytest.param(TAG, len(CLIP), [rest(1000, OTHER), video(OTHER)], id="same-tag-and-another-length"),
        pytest.param(DATE, len(CLIP), [rest(1000, OTHER, {}), video(OTHER)], id="date-and-another-length"),
        pytest.param(
            DATE, None, [rest(1000, OTHER, {"Last-Modified": DATE.replace("10:", "11:")}), video(OTHER)], id="date"
        ),
    ],
)
async def test_two_halves_of_different_content_are_never_joined(
    wire: Wire, validator: str, total: int | None, changed: list[list[Step]]
) -> None:
    leave(wire, CLIP[:1000], total, validator)
    wire.script(*changed)

    loaded = await wire.load()

    assert wire.requests[0].headers["if-range"] == validator
    assert (loaded.resumed, loaded.sha256) == (False, sha256(OTHER))
    assert wire.part.read_bytes() == OTHER


async def test_content_that_only_has_a_date_is_resumed_by_it(wire: Wire) -> None:
    wire.script(cut(CLIP, close, 1500, dated(CLIP)), rest(1500, headers={}))
    with pytest.raises(errors.DownloadError, match="can be resumed"):
        await wire.load()

    loaded = await wire.load()

    assert wire.requests[1].headers["if-range"] == DATE
    assert (loaded.resumed, loaded.sha256) == (True, sha256(CLIP))
    assert list(wire.part.parent.iterdir()) == [wire.part]


def dated(content: bytes) -> bytes:
    """The head of a response with a date and a weak tag, which says nothing about bytes."""
    headers = {"Last-Modified": DATE, "ETag": 'W/"v1"'}
    return raw_answer(content, content_type="video/mp4", headers=headers).removesuffix(content)


@pytest.mark.parametrize("case", ["no entity", "torn entity", "other url", "longer", "no video"])
async def test_a_part_of_what_nobody_knows_is_never_resumed(wire: Wire, case: str) -> None:
    content = {"longer": clip(9000), "no video": b'{"error": "unauthorised"}' * 50}.get(case, CLIP[:1000])
    leave(wire, clip(9000) if case == "longer" else CLIP[:1000], path="/stored/copy" if case == "other url" else "")
    wire.part.write_bytes(content)
    if case == "no entity":
        entity_path(wire.part).unlink()
    elif case == "torn entity":
        entity_path(wire.part).write_text('{"source": "')
    wire.script(video(headers=TAGGED))

    await wire.load()

    assert "range" not in wire.requests[0].headers
    assert wire.part.read_bytes() == CLIP
    assert list(wire.part.parent.iterdir()) == [wire.part]


@pytest.mark.skipif(sys.platform == "win32", reason="links need privileges there")
@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to], ids=["symbolic", "hard"])
async def test_a_part_that_is_a_link_to_a_file_of_the_user_is_not_written_through(
    wire: Wire, tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    victim = tmp_path / "mine.mp4"
    leave(wire, CLIP[:1000])
    wire.part.replace(victim)
    link(wire.part, victim)
    wire.script(video())

    await wire.load()

    assert victim.read_bytes() == CLIP[:1000]
    assert (wire.part.is_symlink(), wire.part.read_bytes()) == (False, CLIP)


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
async def test_what_is_no_video_is_never_left_as_a_file(wire: Wire, script: list[Step], words: str) -> None:
    wire.script(script)

    with pytest.raises(errors.DownloadError, match=words):
        await wire.load()

    assert not wire.part.exists()


def copies(*urls: str) -> list[Step]:
    """The answer to a poll for a job with these copies; ``{url}`` is the server's own."""

    async def step(exchange: Exchange) -> None:
        named = [url.format(url=exchange.server.url) for url in urls]
        await send(raw_answer({"id": "job-1", "status": "completed", "urls": named}))(exchange)

    return [read_request, step]


MISSING = answer({}, 404)


@pytest.mark.parametrize(
    ("scripts", "error"),
    [
        pytest.param([answer({}, 409)], errors.ConflictError, id="409"),
        pytest.param([answer({}, 410)], errors.GoneError, id="410"),
        pytest.param([answer({"error": {"code": 429}})], errors.RateLimitError, id="429-in-a-200"),
        pytest.param([[read_request, reset]], errors.OutcomeUnknownError, id="no-answer"),
        pytest.param([MISSING, copies()], errors.NotFoundError, id="no-copy"),
        pytest.param(
            [MISSING, copies("http://elsewhere.example/a.mp4")], errors.NotFoundError, id="copy-in-plain-http"
        ),
        pytest.param([MISSING, copies("file:///etc/passwd")], errors.NotFoundError, id="copy-that-is-a-file"),
        pytest.param([MISSING, copies("{url}/copy"), answer({}, 403)], errors.NotFoundError, id="copy-expired"),
        pytest.param([MISSING, copies("{url}/copy"), answer({}, 500)], errors.ServerError, id="copy-fails-for-now"),
    ],
)
@pytest.mark.parametrize("leftover", [CLIP[:1000], None], ids=["resumed", "new"])
async def test_an_error_leaves_what_came_earlier_and_nothing_else(
    wire: Wire, scripts: list[list[Step]], error: type[errors.OpenRouterError], leftover: bytes | None
) -> None:
    if leftover is not None:
        leave(wire, leftover)
    wire.script(*scripts)

    with pytest.raises(error):
        await wire.load()

    assert (wire.part.read_bytes() if wire.part.exists() else None) == leftover


async def test_a_stored_copy_is_used_when_the_api_has_no_content_and_gets_no_key(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    wire.script(MISSING, copies("{url}/stored/clip.mp4?signature=s3cret"), video())

    await wire.load()

    assert wire.part.read_bytes() == CLIP
    stored = wire.requests[-1]
    assert stored.target == "/stored/clip.mp4?signature=s3cret"
    assert "authorization" not in stored.headers
    assert "s3cret" not in caplog.text


async def test_a_write_error_stays_what_it_is(wire: Wire) -> None:
    wire.script(video())

    with pytest.raises(FileNotFoundError):
        await wire.provider.download("job-1", 0, wire.part.parent / "no-such-folder" / "clip.part")


def write_all(file: PartFile, content: bytes) -> None:
    for at in range(0, len(content), 100_000):
        file.write(content[at : at + 100_000])


@pytest.mark.skipif(sys.platform == "win32", reason="there the size of a file cannot be limited")
def test_what_a_full_disk_took_half_of_is_not_written_twice(tmp_path: Path) -> None:
    import resource

    content = CLIP[:512] + random.Random(1).randbytes(2_000_000)
    file = PartFile(tmp_path / "clip.part")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_all(file, content)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    file.keep()

    kept = file.path.read_bytes()
    assert len(kept) >= 512
    assert content.startswith(kept)


async def test_memory_does_not_grow_with_the_size_of_the_file(wire: Wire) -> None:
    size = 24 * 1024 * 1024
    piece = bytes(512 * 1024)
    head = MP4_HEAD + (size - 24).to_bytes(4, "big") + b"mdat"
    start = raw_answer(head, content_type="video/mp4", length=size)
    pieces = [send(piece)] * (size // len(piece) - 1)
    wire.script([read_request, send(start), *pieces, send(piece[: len(piece) - len(head)])])
    tracemalloc.start()

    loaded = await wire.load()

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert loaded.size == size
    assert peak < 8 * 1024 * 1024
