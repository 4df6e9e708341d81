"""Small real pictures for tests: each colour is another content."""

from __future__ import annotations

import io

from PIL import Image


def picture(color: str = "red", file_format: str = "PNG", size: tuple[int, int] = (8, 6)) -> bytes:
    """A picture of one colour in a Pillow format: PNG, JPEG, WEBP or GIF."""
    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, file_format)
    return out.getvalue()
