"""Small real images, each colour with another content, and answers that bring them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

from PIL import Image

SVG = (
    b'<?xml version="1.0"?>\n<!-- made by hand -->\n<svg xmlns="http://www.w3.org/2000/svg" width="30px" height="20"/>'
)


def painted(color: str = "red", file_format: str = "PNG", size: tuple[int, int] = (30, 20)) -> bytes:
    """An image of one colour in a Pillow format: PNG, JPEG, WEBP or GIF."""
    target = io.BytesIO()
    Image.new("RGB", size, color).save(target, file_format)
    return target.getvalue()


def answer_with(*images: bytes, **fields: Any) -> dict[str, Any]:
    """The answer to an image request, with a cost of 0.04 unless ``fields`` say otherwise."""
    data = [{"b64_json": base64.b64encode(each).decode(), "media_type": "image/png"} for each in images]
    return {"created": 1, "data": data, "usage": usage()} | fields


def usage(**fields: Any) -> Mapping[str, Any]:
    return {"prompt_tokens": 3, "completion_tokens": 1024, "total_tokens": 1027, "cost": 0.04} | fields
