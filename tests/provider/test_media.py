"""What a file is by its content: a video, whether it is complete, and an image."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from orbatch_provider.media import SNIFF_BYTES, NotAnImageError, extension, inspect_image, is_cut_short, video_type
from tests.images import SVG, painted
from tests.provider.rawserver import WEBM, clip

CLIP = clip()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.part"


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        pytest.param(CLIP, "video/mp4", id="mp4"),
        pytest.param(b"\0\0\0\x14ftypqt  " + bytes(8), "video/quicktime", id="mov"),
        pytest.param(b"\0\0\0\x08wide\0\0\0\0mdat", "video/quicktime", id="old-mov"),
        pytest.param(WEBM, "video/webm", id="webm"),
        pytest.param(b"\x1a\x45\xdf\xa3\x88matroska", "video/x-matroska", id="mkv"),
        pytest.param(b"RIFF\0\0\0\0AVI LIST", "video/x-msvideo", id="avi"),
        pytest.param(b"OggS\0\2", "video/ogg", id="ogg"),
        pytest.param(b"\0\0\x01\xba!", "video/mpeg", id="mpeg"),
        pytest.param((b"\x47" + bytes(187)) * 2, "video/mp2t", id="ts"),
        pytest.param(b"\0\0\0\x1cftypavif", None, id="a-picture-in-the-same-container"),
        pytest.param(b"RIFF\0\0\0\0WAVE", None, id="sound"),
        pytest.param(b"G", None, id="one-letter"),
        pytest.param(b"", None, id="nothing"),
    ],
)
def test_a_container_is_known_by_its_first_bytes(head: bytes, expected: str | None) -> None:
    assert video_type(head[:SNIFF_BYTES]) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(CLIP, False, id="whole"),
        pytest.param(CLIP[:-1], True, id="last-byte-missing"),
        pytest.param(CLIP[:28], True, id="cut-in-a-box-header"),
        pytest.param(CLIP[:24], False, id="cut-between-boxes"),
        pytest.param(CLIP[:24] + bytes(4) + b"mdat" + bytes(9), False, id="last-box-to-the-end"),
        pytest.param(CLIP[:24] + b"\0\0\0\1mdat" + (16 + 9).to_bytes(8, "big") + bytes(9), False, id="long-size"),
        pytest.param(CLIP[:24] + b"\0\0\0\1mdat" + (16 + 9).to_bytes(8, "big") + bytes(5), True, id="long-size-cut"),
        pytest.param(CLIP[:24] + b"\0\0\0\3odd!", False, id="not-boxes-any-more"),
        pytest.param(WEBM, False, id="another-container"),
    ],
)
def test_an_mp4_that_breaks_off_is_told_by_its_boxes(path: Path, body: bytes, expected: bool) -> None:
    path.write_bytes(body)
    assert is_cut_short(path) is expected


def test_a_file_is_named_after_its_type() -> None:
    types = ("video/mp4", "video/webm", "VIDEO/QUICKTIME; x=1", "odd/type")
    assert [extension(mime_type) for mime_type in types] == [".mp4", ".webm", ".mov", ".bin"]


BOMB = b"""<?xml version="1.0"?>
<!DOCTYPE svg [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<svg xmlns="http://www.w3.org/2000/svg"><text>&b;</text></svg>"""
OUTSIDE = b"""<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/hostname">]><svg><text>&x;</text></svg>"""
DOCTYPE = b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://localhost:1/svg11.dtd">'


@pytest.mark.parametrize(
    ("content", "mime_type", "ending", "size"),
    [
        pytest.param(painted(), "image/png", ".png", (30, 20), id="png"),
        pytest.param(painted(file_format="JPEG"), "image/jpeg", ".jpg", (30, 20), id="jpeg"),
        pytest.param(painted(file_format="WEBP"), "image/webp", ".webp", (30, 20), id="webp"),
        pytest.param(painted(file_format="GIF"), "image/gif", ".gif", (30, 20), id="gif"),
        pytest.param(SVG, "image/svg+xml", ".svg", (30, 20), id="svg"),
        pytest.param(
            b"\xef\xbb\xbf\n" + b"<svg viewBox='0 0 300.4 150'/>", "image/svg+xml", ".svg", (300, 150), id="box"
        ),
        pytest.param(b"<svg width='100%'/>", "image/svg+xml", ".svg", (None, None), id="svg without a size"),
        pytest.param(DOCTYPE + b"<svg/>", "image/svg+xml", ".svg", (None, None), id="svg with a doctype"),
    ],
)
def test_a_picture_is_what_its_content_says(
    path: Path, content: bytes, mime_type: str, ending: str, size: tuple[int | None, int | None]
) -> None:
    path.write_bytes(content)
    looks = inspect_image(path)
    assert (looks.mime_type, (looks.width, looks.height)) == (mime_type, size)
    assert extension(looks.mime_type) == ending


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "not a PNG", id="empty"),
        pytest.param(b"%PDF-1.7", "not a PNG", id="another format"),
        pytest.param(b"<html><body/></html>", "its root is 'html'", id="html"),
        pytest.param(b"<svg><g></svg>", "nor a well-formed SVG", id="svg that is not well-formed"),
        pytest.param(SVG[:-20], "nor a well-formed SVG", id="svg that breaks off"),
        pytest.param(BOMB, "declares entities", id="entities that unfold"),
        pytest.param(OUTSIDE, "declares entities", id="an entity from outside"),
        pytest.param(painted()[:60], "does not open as image/png", id="png that breaks off"),
        pytest.param(painted(file_format="WEBP")[:-8], "does not open as image/webp", id="webp that breaks off"),
    ],
)
def test_what_is_no_picture_is_refused_with_the_reason(path: Path, content: bytes, reason: str) -> None:
    path.write_bytes(content)
    with pytest.raises(NotAnImageError, match=reason):
        inspect_image(path)


def test_the_end_of_a_large_jpeg_is_missed(path: Path) -> None:
    Image.linear_gradient("L").resize((2000, 1500)).save(path, "JPEG", quality=95)
    inspect_image(path)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(NotAnImageError, match="truncated"):
        inspect_image(path)
