"""Local pictures: checked and hashed when the batch is read, sent as data URLs."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from orbatch import inputs
from orbatch.inputs import InputError, content_hash, inspect, materialise, resolve_picture
from orbatch_provider.requests import VideoRequest, first_frame

PNG, JPEG, WEBP = b"\x89PNG\r\n\x1a\n....", b"\xff\xd8\xff\xe0....", b"RIFF\x04\x00\x00\x00WEBPVP8 "


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        pytest.param(PNG, "image/png", id="png"),
        pytest.param(JPEG, "image/jpeg", id="jpeg"),
        pytest.param(WEBP, "image/webp", id="webp"),
    ],
)
def test_the_type_is_taken_from_the_content(tmp_path: Path, content: bytes, media_type: str) -> None:
    path = tmp_path / "picture.txt"
    path.write_bytes(content)
    picture = inspect(path)
    assert (picture.media_type, picture.size) == (media_type, len(content))
    assert content_hash(str(path)) == "sha256:" + hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"GIF89a...", "is neither PNG, JPEG nor WebP", id="gif"),
        pytest.param(b"\0\0\0\x20ftypisom", "is a video; providers fetch videos and sounds themselves", id="mp4"),
        pytest.param(b"\x1aE\xdf\xa3....", "is a video", id="webm"),
        pytest.param(b"ID3\x04....", "is a sound", id="mp3"),
        pytest.param(b"RIFF\x04\0\0\0WAVEfmt ", "is a sound", id="wav"),
    ],
)
def test_what_is_no_picture_is_refused_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=reason):
        inspect(path)


def test_a_picture_over_the_limit_is_refused_with_both_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MAX_LOCAL_BYTES", 1_000_000)
    path = tmp_path / "large.png"
    path.write_bytes(PNG + b"x" * 2_000_000)
    with pytest.raises(InputError, match=r"has 2\.0 MB, at most 1 MB can be sent"):
        inspect(path)


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    before = content_hash(str(path))
    path.write_bytes(PNG + b"more")
    assert content_hash(str(path)) != before


@pytest.mark.parametrize(
    "text",
    ["https://a.b/c.png", "data:image/png;base64,AAAA", "https://a.b/c.png?sig=1#x"],
    ids=["url", "data", "query"],
)
def test_urls_stay_as_they_are(tmp_path: Path, text: str) -> None:
    assert resolve_picture(text, tmp_path) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("http://a.b/c.png", "allowed: an https:// URL", id="http"),
        pytest.param("ftp://a.b/c.png", "allowed: an https:// URL", id="ftp"),
        pytest.param("https://u:p@a.b/c.png", "works without a login", id="login"),
        pytest.param("https:///c.png", "allowed: an https:// URL", id="no host"),
        pytest.param("https://[a/c.png", "allowed: an https:// URL", id="broken host"),
        pytest.param("file:///c.png", "give the plain path", id="file"),
        pytest.param("data:text/html,hi", "is not a base64 data URL", id="data of another type"),
        pytest.param("none.png", "there is no file", id="missing"),
        pytest.param(".", "is not a file", id="folder"),
        pytest.param("a\0b", "there is no file", id="NUL"),
    ],
)
def test_what_cannot_be_sent_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        resolve_picture(text, tmp_path)


def test_paths_are_relative_to_the_file_they_stand_in(tmp_path: Path) -> None:
    (tmp_path / "shots").mkdir()
    (tmp_path / "a.png").write_bytes(PNG)
    assert resolve_picture("../a.png", tmp_path / "shots") == str(tmp_path / "a.png")


def test_a_request_is_sent_with_data_urls_in_place_of_paths(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    video = {"type": "video_url", "video_url": {"url": "https://a.b/c.mp4"}}
    picture = {"type": "image_url", "image_url": {"url": str(path)}}
    request = VideoRequest("a/b", "x", frame_images=[first_frame(str(path))], input_references=[video, picture])
    sent = materialise(request)
    data_url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    assert sent.frame_images == [first_frame(data_url)]
    assert sent.input_references == [video, {"type": "image_url", "image_url": {"url": data_url}}]
    assert request.frame_images == [first_frame(str(path))]


def test_a_request_without_local_files_is_sent_as_it_is() -> None:
    request = VideoRequest("a/b", "x", frame_images=[first_frame("https://a.b/c.png")])
    assert materialise(request) is request


def test_a_picture_that_has_gone_is_noticed_before_it_is_sent(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        materialise(VideoRequest("a/b", "x", frame_images=[first_frame(str(tmp_path / "gone.png"))]))
