"""What a file of a picture is taken for, by its content alone."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from orbatch_provider.media import NotAnImageError, extension, inspect_image
from tests.provider.paintings import SVG, painted

BOMB = b"""<?xml version="1.0"?>
<!DOCTYPE svg [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<svg xmlns="http://www.w3.org/2000/svg"><text>&b;</text></svg>"""
OUTSIDE = b"""<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/hostname">]><svg><text>&x;</text></svg>"""
DOCTYPE = b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://localhost:1/svg11.dtd">'


def file_with(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "picture.part"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "mime_type", "ending", "size"),
    [
        pytest.param(painted("PNG"), "image/png", ".png", (30, 20), id="png"),
        pytest.param(painted("JPEG"), "image/jpeg", ".jpg", (30, 20), id="jpeg"),
        pytest.param(painted("WEBP"), "image/webp", ".webp", (30, 20), id="webp"),
        pytest.param(painted("GIF"), "image/gif", ".gif", (30, 20), id="gif"),
        pytest.param(SVG, "image/svg+xml", ".svg", (30, 20), id="svg"),
        pytest.param(
            b"\xef\xbb\xbf\n" + b"<svg viewBox='0 0 300.4 150'/>", "image/svg+xml", ".svg", (300, 150), id="box"
        ),
        pytest.param(b"<svg width='100%'/>", "image/svg+xml", ".svg", (None, None), id="svg without a size"),
        pytest.param(DOCTYPE + b"<svg/>", "image/svg+xml", ".svg", (None, None), id="svg with a doctype"),
    ],
)
def test_a_picture_is_what_its_content_says(
    tmp_path: Path, content: bytes, mime_type: str, ending: str, size: tuple[int | None, int | None]
) -> None:
    looks = inspect_image(file_with(tmp_path, content))
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
        pytest.param(painted("PNG")[:60], "does not open as image/png", id="png that breaks off"),
        pytest.param(painted("WEBP")[:-8], "does not open as image/webp", id="webp that breaks off"),
    ],
)
def test_what_is_no_picture_is_refused_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(NotAnImageError, match=reason):
        inspect_image(file_with(tmp_path, content))


def test_the_end_of_a_large_jpeg_is_missed(tmp_path: Path) -> None:
    target = io.BytesIO()
    Image.linear_gradient("L").resize((2000, 1500)).save(target, "JPEG", quality=95)
    inspect_image(file_with(tmp_path, target.getvalue()))
    with pytest.raises(NotAnImageError, match="truncated"):
        inspect_image(file_with(tmp_path, target.getvalue()[:-5000]))
