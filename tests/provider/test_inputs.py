"""Local pictures: checked and hashed before anything is spent, sent as data URLs."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
from PIL import Image

from orbatch_provider import OpenRouterProvider, inputs
from orbatch_provider.errors import BadRequestError, ConfigurationError
from orbatch_provider.inputs import InputError, check_sizes, content_hash, hashed, inspect, materialise, resolve_image
from orbatch_provider.requests import ImageRequest, VideoRequest, first_frame
from tests.pictures import picture


@pytest.mark.parametrize(
    ("file_format", "media_type"),
    [
        pytest.param("PNG", "image/png", id="png"),
        pytest.param("JPEG", "image/jpeg", id="jpeg"),
        pytest.param("WEBP", "image/webp", id="webp"),
    ],
)
def test_the_type_is_taken_from_the_content(tmp_path: Path, file_format: str, media_type: str) -> None:
    path, content = tmp_path / "picture.txt", picture(file_format=file_format)
    path.write_bytes(content)
    found = inspect(path)
    assert (found.media_type, found.size) == (media_type, len(content))
    assert content_hash(str(path)) == "sha256:" + hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(picture(file_format="GIF"), "is neither PNG, JPEG nor WebP", id="gif"),
        pytest.param(b"\0\0\0\x20ftypisom", "is a video; providers fetch video and audio themselves", id="mp4"),
        pytest.param(b"\x1aE\xdf\xa3....", "is a video", id="webm"),
        pytest.param(b"ID3\x04....", "is an audio file", id="mp3"),
        pytest.param(b"RIFF\x04\0\0\0WAVEfmt ", "is an audio file", id="wav"),
        pytest.param(picture(size=(90, 90))[:-20], "does not open as an image", id="png cut short"),
        pytest.param(picture("red", "JPEG", (90, 90))[:-40], "does not open as an image", id="jpeg cut short"),
        pytest.param(picture("red", "WEBP", (90, 90))[:-10], "does not open as an image", id="webp cut short"),
        pytest.param(b"\x89PNG\r\n\x1a\n<html>", "does not open as an image", id="a signature and nothing behind it"),
    ],
)
def test_what_is_no_whole_picture_is_refused_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=reason):
        inspect(path)


def test_a_picture_over_the_limit_is_refused_with_both_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MAX_LOCAL_BYTES", 1_000_000)
    path = tmp_path / "large.png"
    path.write_bytes(picture() + b"x" * 2_000_000)
    with pytest.raises(InputError, match=r"has 2\.0 MB, at most 1 MB can be sent; set downscale"):
        inspect(path)
    assert inspect(path, downscaled=True).size > 2_000_000


def test_a_small_file_that_unpacks_to_a_huge_picture_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "MAX_PIXELS", 1_000_000)
    path = tmp_path / "bomb.png"
    path.write_bytes(picture(size=(1001, 1000)))
    with pytest.raises(InputError, match="more than 1 megapixels"):
        inspect(path)


def test_pictures_that_are_too_large_together_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MAX_REQUEST_BYTES", 1_500_000)
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        path.write_bytes(picture() + b"x" * 1_000_000)
    references = [{"type": "image_url", "image_url": {"url": str(path)}} for path in paths]
    check_sizes({"input_references": references[:1]})
    with pytest.raises(InputError, match=r"the images of one request have 2\.0 MB, at most 1 MB"):
        check_sizes({"input_references": references})
    with pytest.raises(InputError, match="the images of one request"):
        materialise(ImageRequest("a/b", "x", input_references=references))


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(picture("red"))
    before = content_hash(str(path))
    path.write_bytes(picture("red") + b"more")
    assert content_hash(str(path)) != before


@pytest.mark.parametrize(
    "text",
    ["https://a.b/c.png", "data:image/png;base64,AAAA", "https://a.b/c.png?sig=1#x"],
    ids=["url", "data", "query"],
)
def test_urls_stay_as_they_are(tmp_path: Path, text: str) -> None:
    assert resolve_image(text, tmp_path) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("http://a.b/c.png", "allowed: an https:// URL", id="http"),
        pytest.param("ftp://a.b/c.png", "allowed: an https:// URL", id="ftp"),
        pytest.param("https://u:p@a.b/c.png", "works without a login", id="login"),
        pytest.param("https:///c.png", "allowed: an https:// URL", id="no host"),
        pytest.param("https://[a/c.png", "allowed: an https:// URL", id="broken host"),
        pytest.param("file:///c.png", "use the plain path", id="file"),
        pytest.param("data:text/html,hi", "is not a base64 data URL", id="data of another type"),
        pytest.param("none.png", "does not exist", id="missing"),
        pytest.param(".", "is not a file", id="folder"),
        pytest.param("a\0b", "does not exist", id="NUL"),
    ],
)
def test_what_cannot_be_sent_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        resolve_image(text, tmp_path)


def test_paths_are_relative_to_the_file_they_stand_in(tmp_path: Path) -> None:
    (tmp_path / "shots").mkdir()
    (tmp_path / "a.png").write_bytes(picture())
    assert resolve_image("../a.png", tmp_path / "shots") == str(tmp_path / "a.png")


def reference(path: Path | str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": str(path), **more}}


def test_a_request_is_sent_with_data_urls_in_place_of_paths(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(picture())
    video = {"type": "video_url", "video_url": {"url": "https://a.b/c.mp4"}}
    request = VideoRequest("a/b", "x", frame_images=[first_frame(str(path))], input_references=[video, reference(path)])
    sent = materialise(request)
    data_url = "data:image/png;base64," + base64.b64encode(picture()).decode()
    assert sent.frame_images == [first_frame(data_url)]
    assert sent.input_references == [video, reference(data_url)]
    assert request.frame_images == [first_frame(str(path))]


def test_a_request_without_local_files_is_sent_as_it_is() -> None:
    request = VideoRequest("a/b", "x", frame_images=[first_frame("https://a.b/c.png")])
    assert materialise(request) is request


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        pytest.param(reference("gone.png"), "does not exist", id="gone"),
        pytest.param(reference("http://a.b/c.png"), "allowed: an https:// URL", id="http"),
        pytest.param(
            {"type": "video_url", "video_url": {"url": "clip.mp4"}}, "video_url must be an https URL", id="local video"
        ),
    ],
)
def test_what_cannot_be_put_into_a_request_is_noticed_before_it_is_sent(item: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        materialise(VideoRequest("a/b", "x", input_references=[item]))


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_a_large_picture_is_sent_smaller_only_when_asked(tmp_path: Path, file_format: str) -> None:
    path = tmp_path / "large"
    path.write_bytes(picture("red", file_format, (400, 200)))

    def sent(**more: Any) -> tuple[tuple[int, int], str | None]:
        [item] = (
            materialise(ImageRequest("a/b", "x", input_references=[reference(path, **more)])).input_references or ()
        )
        assert set(item["image_url"]) == {"url"}
        with Image.open(io.BytesIO(base64.b64decode(item["image_url"]["url"].partition(",")[2]))) as opened:
            return opened.size, opened.format

    assert sent() == ((400, 200), file_format)
    assert sent(downscale=100) == ((100, 50), file_format)
    assert sent(downscale=400) == ((400, 200), file_format)


def test_a_picture_that_is_sent_smaller_is_another_one(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(picture())
    remote = reference("https://a.b/c.png")
    plain, small = hashed([reference(path), remote]), hashed([reference(path, downscale=100), remote])
    assert plain != small
    assert plain[1] == small[1] == remote
    assert plain[0]["image_url"] == {"url": content_hash(str(path))}


@respx.mock(using="httpx")
async def test_the_sdk_takes_a_local_file_wherever_a_url_is_allowed(
    respx_mock: respx.MockRouter, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(picture())
    data_url = "data:image/png;base64," + base64.b64encode(picture()).decode()
    refusal = httpx.Response(400, json={"error": {"code": 400, "message": "no"}})
    sent = respx_mock.post(path__in=["/api/v1/videos", "/api/v1/images"]).mock(return_value=refusal)
    async with OpenRouterProvider("sk-or-v1-c0ffee0123456789") as provider:
        with pytest.raises(BadRequestError):
            await provider.generate_video("x", "a/b", image_url=str(path))
        assert json.loads(sent.calls[0].request.content)["frame_images"] == [first_frame(data_url)]
        with pytest.raises(BadRequestError):
            await provider.generate_image("x", "a/b", input_references=[reference(path)])
        assert json.loads(sent.calls[1].request.content)["input_references"] == [reference(data_url)]
        with pytest.raises(ConfigurationError, match="does not exist"):
            await provider.generate_image("x", "a/b", input_references=[reference("gone.png")])
    assert sent.call_count == 2
