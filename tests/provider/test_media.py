"""What a file is by its first bytes, and whether an MP4 is all there."""

from __future__ import annotations

from pathlib import Path

import pytest

from orbatch_provider.media import SNIFF_BYTES, extension, is_cut_short, video_type
from tests.provider.rawserver import clip

CLIP = clip()
WEBM = b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm" + bytes(600)


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
def test_an_mp4_that_breaks_off_is_told_by_its_boxes(tmp_path: Path, body: bytes, expected: bool) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(body)

    assert is_cut_short(path) is expected


@pytest.mark.parametrize(
    ("mime_type", "expected"),
    [("video/mp4", ".mp4"), ("video/webm", ".webm"), ("VIDEO/QUICKTIME; x=1", ".mov"), ("odd/type", ".bin")],
)
def test_a_file_is_named_after_its_type(mime_type: str, expected: str) -> None:
    assert extension(mime_type) == expected
