"""What a picture file really is: opened and decoded to its end, or, an SVG, parsed as XML and rendered nowhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

from orbatch_provider.media import SNIFF_BYTES, image_type

SVG = "image/svg+xml"

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_BEFORE_XML = b"\xef\xbb\xbf \t\r\n"
_LENGTH = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)(?:px)?\s*")
_SVG_NAMESPACE = "http://www.w3.org/2000/svg"


class NotAPictureError(ValueError):
    """The file is no picture that opens; ``str()`` says why."""


@dataclass(frozen=True, slots=True)
class Looks:
    """``mime_type`` by the content; ``width`` and ``height`` in pixels, None for an SVG that names none."""

    mime_type: str
    width: int | None
    height: int | None


def look_at(path: Path) -> Looks:
    """Open a picture and read it to its end. Raises NotAPictureError for what is none, OSError when unreadable.

    Takes as long as decoding does, so call it in a worker thread.
    """
    with path.open("rb") as file:
        head = file.read(SNIFF_BYTES)
    mime_type = image_type(head)
    if mime_type is not None:
        return _decoded(path, mime_type)
    if head.lstrip(_BEFORE_XML).startswith(b"<"):
        return _parsed(path)
    raise NotAPictureError("it is no PNG, JPEG, WebP, GIF or SVG")


def _decoded(path: Path, mime_type: str) -> Looks:
    from PIL import Image

    try:
        with Image.open(path, formats=_FORMATS) as image:
            width, height = image.size
            # A JPEG is decoded to its end at an eighth of its size, and a sixty-fourth of the memory.
            image.draft(image.mode, (max(1, width // 8), max(1, height // 8)))
            image.load()
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as exc:
        raise NotAPictureError(f"it does not open as {mime_type} ({exc})") from exc
    return Looks(mime_type, width, height)


def _parsed(path: Path) -> Looks:
    """An SVG by its root element. Nothing is fetched, and a file that declares entities is refused: a few lines of
    them can unfold to gigabytes."""
    attributes: list[tuple[str, dict[str, str]]] = []

    def begin(name: str, given: dict[str, str]) -> None:
        if not attributes:
            attributes.append((name, given))

    def refuse(*_: object) -> NoReturn:
        raise NotAPictureError("it is an SVG that declares entities, which are not expanded")

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = begin
    parser.EntityDeclHandler = refuse
    try:
        with path.open("rb") as file:
            parser.ParseFile(file)
    except expat.ExpatError as exc:
        raise NotAPictureError(f"it is no picture, and no well-formed SVG ({exc})") from exc
    root, given = attributes[0]
    if root not in ("svg", f"{_SVG_NAMESPACE} svg"):
        raise NotAPictureError(f"it is XML, and no SVG: its root is {root.rpartition(' ')[2]!r}")
    width, height = (_pixels(given.get(name)) for name in ("width", "height"))
    if width is None or height is None:
        box = [_pixels(part) for part in given.get("viewBox", "").replace(",", " ").split()]
        width, height = (box[2], box[3]) if len(box) == 4 else (None, None)
    return Looks(SVG, width, height)


def _pixels(text: str | None) -> int | None:
    match = _LENGTH.fullmatch(text or "")
    return round(float(match[1])) if match else None
