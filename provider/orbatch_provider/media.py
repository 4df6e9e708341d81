"""What bytes are: the type by the first bytes, whether an MP4 is complete, whether an image opens. Trusts no header."""

from __future__ import annotations

import mimetypes
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

SNIFF_BYTES = 512  # enough for every signature below
SVG = "image/svg+xml"

# Where mimetypes is missing one, or differs by platform.
_EXTENSIONS = {
    "video/mp4": ".mp4",
    "video/quicktime": ".mov",
    "video/webm": ".webm",
    "video/x-matroska": ".mkv",
    "video/x-msvideo": ".avi",
    "video/ogg": ".ogv",
    "video/mp2t": ".ts",
    "video/mpeg": ".mpg",
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "image/gif": ".gif",
    SVG: ".svg",
}
_OLD_QUICKTIME_BOXES = frozenset({b"moov", b"mdat", b"wide"})  # from before ``ftyp``
# Images in the same container.
_STILL_BRANDS = dict.fromkeys((b"avif", b"avis"), "image/avif") | dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "image/heic"
)
_STEM_LIMIT = 100  # characters of a job id in a file name
_BOX_HEADER = 8  # bytes: 4 of size, 4 of type
_IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")  # the decoders of Pillow that are tried
_BEFORE_XML = b"\xef\xbb\xbf \t\r\n"  # byte order mark and white space
_LENGTH = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)(?:px)?\s*")
_SVG_ROOTS = ("svg", "http://www.w3.org/2000/svg svg")  # without and with its namespace


def video_type(head: bytes) -> str | None:
    """The media type of a video file that begins with ``head`` (SNIFF_BYTES of it, or all); None: not a video."""
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        if brand in _STILL_BRANDS:
            return None
        return "video/quicktime" if brand == b"qt  " else "video/mp4"
    if head[4:8] in _OLD_QUICKTIME_BOXES:
        return "video/quicktime"
    if head.startswith(b"\x1a\x45\xdf\xa3"):  # EBML, whose DocType is in the header
        return "video/webm" if b"webm" in head else "video/x-matroska"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "video/x-msvideo"
    if head.startswith(b"OggS"):
        return "video/ogg"
    if head.startswith(b"\x00\x00\x01\xba"):
        return "video/mpeg"
    if head[:1] == b"\x47" and head[188:189] == b"\x47":  # the sync bytes of two packets
        return "video/mp2t"
    return None


def image_type(head: bytes) -> str | None:
    """The media type of a pixel image that begins with ``head``; None for anything else, SVG included."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    return "image/gif" if head.startswith((b"GIF87a", b"GIF89a")) else None


def still_type(head: bytes) -> str | None:
    """``image/heic`` or ``image/avif``, which phones and browsers write, and the API does not take; None: neither."""
    if head[4:8] != b"ftyp":
        return None
    # A general brand names what it stands for among the compatible ones.
    return "image/avif" if b"avif" in head[8:64] else _STILL_BRANDS.get(head[8:12])


def audio_type(head: bytes) -> str | None:
    """The media type of an audio file that begins with ``head``, None for anything else; Ogg counts as video."""
    if head.startswith(b"RIFF") and head[8:12] == b"WAVE":
        return "audio/wav"
    if head.startswith(b"fLaC"):
        return "audio/flac"
    return "audio/mpeg" if head.startswith((b"ID3", b"\xff\xfb", b"\xff\xf3")) else None


def extension(mime_type: str) -> str:
    """With the dot; ``.bin`` for an unknown type."""
    kind = mime_type.partition(";")[0].strip().lower()
    return _EXTENSIONS.get(kind) or mimetypes.guess_extension(kind) or ".bin"


def file_stem(text: str) -> str:
    """A file name that stays in its directory, whatever a job id or a caller passes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._")[:_STEM_LIMIT] or "output"


def is_cut_short(path: Path) -> bool:
    """Whether an MP4 or QuickTime file ends within one of its top-level boxes; False for any other container.

    The only sign of an interrupted download whose length was not announced.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if video_type(file.read(SNIFF_BYTES)) not in {"video/mp4", "video/quicktime"}:
            return False
        at = 0
        while at < size:
            file.seek(at)
            header = file.read(_BOX_HEADER + 8)
            length = int.from_bytes(header[:4], "big")
            if length == 1:  # the real length follows the type
                length = int.from_bytes(header[8:16], "big")
            if length == 0:  # the last box, to the end of the file
                return False
            if length < _BOX_HEADER or len(header) < _BOX_HEADER:
                return len(header) < _BOX_HEADER
            at += length
    return at > size


class NotAnImageError(ValueError):
    """The file is not an image that opens; ``str()`` says why."""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """``mime_type`` by the content; ``width`` and ``height`` in pixels, None for an SVG that names none."""

    mime_type: str
    width: int | None
    height: int | None


def inspect_image(path: Path) -> ImageInfo:
    """Open an image and read it to its end. Raises NotAnImageError for what is not one, OSError when unreadable.

    Takes as long as decoding does, so call it in a worker thread.
    """
    with path.open("rb") as file:
        head = file.read(SNIFF_BYTES)
    mime_type = image_type(head)
    if mime_type is not None:
        return _decode(path, mime_type)
    if head.lstrip(_BEFORE_XML).startswith(b"<"):
        return _parse_svg(path)
    raise NotAnImageError("it is not a PNG, JPEG, WebP, GIF or SVG")


def _decode(path: Path, mime_type: str) -> ImageInfo:
    from PIL import Image

    try:
        with Image.open(path, formats=_IMAGE_FORMATS) as image:
            width, height = image.size
            # A JPEG is decoded to its end at an eighth of its size, and a sixty-fourth of the memory.
            image.draft(image.mode, (max(1, width // 8), max(1, height // 8)))
            image.load()
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as exc:
        raise NotAnImageError(f"it does not open as {mime_type} ({exc})") from exc
    return ImageInfo(mime_type, width, height)


def _parse_svg(path: Path) -> ImageInfo:
    """By the root element. Nothing is fetched, and a file that declares entities is refused: a few lines of them can
    expand to gigabytes."""
    elements: list[tuple[str, dict[str, str]]] = []  # the root only

    def begin(name: str, attributes: dict[str, str]) -> None:
        if not elements:
            elements.append((name, attributes))

    def refuse(*_: object) -> NoReturn:
        raise NotAnImageError("it is an SVG that declares entities, which are not expanded")

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = begin
    parser.EntityDeclHandler = refuse
    try:
        with path.open("rb") as file:
            parser.ParseFile(file)
    except expat.ExpatError as exc:
        raise NotAnImageError(f"it is neither an image nor a well-formed SVG ({exc})") from exc
    root, attributes = elements[0]
    if root not in _SVG_ROOTS:
        raise NotAnImageError(f"it is XML, but not an SVG: its root is {root.rpartition(' ')[2]!r}")
    width, height = (_pixels(attributes.get(name)) for name in ("width", "height"))
    if width is None or height is None:
        box = [_pixels(part) for part in attributes.get("viewBox", "").replace(",", " ").split()]
        width, height = (box[2], box[3]) if len(box) == 4 else (None, None)
    return ImageInfo(SVG, width, height)


def _pixels(text: str | None) -> int | None:
    match = _LENGTH.fullmatch(text or "")
    return round(float(match[1])) if match else None
