"""Real pictures, cheaply: PNG, JPEG, WebP and SVG with the prompt and the model in them, no two of them alike."""

from __future__ import annotations

import io
from typing import Any
from xml.sax.saxutils import escape

from PIL.PngImagePlugin import PngInfo

from orbatch_simulator.drawing import background_of, card, drawable
from orbatch_simulator.imagebilling import Painting


def paint(painting: Painting, label: str) -> bytes:
    """One picture; ``label``, a comment in the file, tells it from all others. Takes up to a second for the largest, so
    call it in a worker thread."""
    facts = f"{painting.width}x{painting.height}  simulated"
    if painting.mime_type == "image/svg+xml":
        return _svg(painting, facts, label)
    image = card(
        painting.model, painting.prompt, facts, painting.width, painting.height, transparent=painting.transparent
    )
    target = io.BytesIO()
    image.save(target, **_encoding(painting.mime_type, label))
    return target.getvalue()


def _encoding(mime_type: str, label: str) -> dict[str, Any]:
    """How a picture is written fast, with the label where the format has room for one."""
    if mime_type == "image/jpeg":
        return {"format": "JPEG", "quality": 80, "comment": label}
    if mime_type == "image/webp":
        return {"format": "WEBP", "quality": 80, "method": 0, "xmp": label.encode()}
    notes = PngInfo()
    notes.add_text("Comment", label)
    return {"format": "PNG", "compress_level": 1, "pnginfo": notes}


def _svg(painting: Painting, facts: str, label: str) -> bytes:
    width, height, prompt = painting.width, painting.height, drawable(painting.prompt)
    # XML has no way to write most control characters.
    lines = ["".join(char if char.isprintable() else " " for char in text) for text in (prompt, painting.model, facts)]
    size = max(8, min(width, height) // 16)
    texts = "".join(
        f'<text x="{size}" y="{2 * size * (number + 1)}" font-size="{size}" fill="white">{escape(line)}</text>'
        for number, line in enumerate(lines)
    )
    fill = "none" if painting.transparent else background_of(painting.model, prompt)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f'<desc>{escape(label)}</desc><rect width="{width}" height="{height}" fill="{fill}"/>{texts}</svg>'
    ).encode()
