"""Pictures that a request starts from: https URLs as they are, and local files, which are checked and hashed before
anything is spent and sent as data URLs.

Until then a request names a local file by its path, in the place where the API expects a URL; ``downscale`` beside it
is the longest side, in pixels, that the picture is sent with.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from orbatch_provider.download import run_in_disk_pool
from orbatch_provider.errors import ConfigurationError, redact

if TYPE_CHECKING:
    from PIL.Image import Image

# A data URL is a third larger, and the API refuses large requests (413) at an unstated size.
MAX_LOCAL_BYTES = 20_000_000  # of one picture
MAX_REQUEST_BYTES = 60_000_000  # of all pictures of a request
MAX_SOURCE_BYTES = 200_000_000  # of a picture that is made smaller before it is sent
MAX_PIXELS = 200_000_000  # a small file may unpack to a huge picture
DOWNSCALE = "downscale"

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # two characters at least: C:\ is a drive
_DATA_URL = re.compile(r"data:image/(png|jpeg|webp);base64,[A-Za-z0-9+/=]+")
_HEAD_BYTES = 16
_FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
PICTURE_FIELDS = ("frame_images", "input_references")
_SHOWN = 60  # characters of a path or URL that a message repeats


class InputError(ConfigurationError, ValueError):
    """An input that cannot be sent; ``str()`` says why. Nothing was sent."""


@dataclass(frozen=True, slots=True)
class LocalPicture:
    """A local file that can be sent. ``media_type`` by its content, whatever its name; ``size`` in bytes."""

    path: str
    media_type: str
    size: int
    sha256: str


def is_local(url: str) -> bool:
    """Whether the place of a URL holds the path of a local file."""
    return not url.startswith(("https://", "data:"))


def resolve_picture(text: str, base: Path, *, downscaled: bool = False) -> str:
    """What a request holds for ``text``: the URL itself, or the absolute path of a file below ``base``.

    Raises InputError when it is neither an https URL, an image data URL nor a readable PNG, JPEG or WebP file.
    """
    if text.startswith("data:"):
        if not _DATA_URL.fullmatch(text):
            raise InputError("is not a base64 data URL of a PNG, JPEG or WebP picture")
        return text
    if _SCHEME.match(text):
        return https_url(text)
    return inspect(Path(os.path.normpath(base.absolute() / Path(text).expanduser())), downscaled=downscaled).path


def https_url(text: str) -> str:
    """``text`` when it is an https URL; raises InputError otherwise."""
    if text.startswith("file:"):
        raise InputError("file: URLs are not sent; give the plain path")
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme != "https" or not parts.hostname or parts.username or re.search(r"[\s\x00-\x1f]", text):
        raise InputError(f"found {_shown(text)}; allowed: an https:// URL that works without a login")
    return text


def inspect(path: Path, *, downscaled: bool = False) -> LocalPicture:
    """Checks that ``path`` is a whole picture that the API takes, and hashes it; raises InputError when it is not.

    ``downscaled``: it may be larger than what can be sent. A file that has not changed is read once, and a content
    that was decoded once is not decoded again, however many jobs start from it.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise InputError(f"there is no file {_shown(str(path))}") from error
    if not path.is_file():
        raise InputError(f"{_shown(str(path))} is not a file")
    limit = MAX_SOURCE_BYTES if downscaled else MAX_LOCAL_BYTES
    if status.st_size > limit:
        raise InputError(
            f"{_shown(str(path))} has {_megabytes(status.st_size)}, at most {limit // 1_000_000} MB can be "
            f"{'read' if downscaled else 'sent; give downscale, make it smaller'} or use an https URL"
        )
    return _inspect(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _inspect(path: Path, size: int, _modified_ns: int) -> LocalPicture:
    content = _read(path)
    media_type, what = _sniff(content[:_HEAD_BYTES])
    if media_type is None:
        raise InputError(f"{_shown(str(path))} {what}")
    sha256 = hashlib.sha256(content).hexdigest()
    problem = _decoding_problem(sha256, content)
    if problem is not None:
        raise InputError(f"{_shown(str(path))} {problem}")
    return LocalPicture(str(path), media_type, size, sha256)


_PROBLEMS: dict[str, str | None] = {}  # sha256 of a content -> why it does not open


def _decoding_problem(sha256: str, content: bytes) -> str | None:
    if sha256 not in _PROBLEMS:
        try:
            _opened(content).verify()  # the checksums and the end of a PNG, of which decoding forgives a lot
            _opened(content).load()
        except InputError as error:
            _PROBLEMS[sha256] = str(error)
        except Exception:  # noqa: BLE001 - whatever a decoder stumbles over, it is no whole picture
            _PROBLEMS[sha256] = "does not open as a picture; it may be damaged or cut short"
        else:
            _PROBLEMS[sha256] = None
    return _PROBLEMS[sha256]


def _opened(content: bytes) -> Image:
    """The picture, not decoded yet. Raises InputError for a size that nobody means."""
    import warnings

    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is the rule
        try:
            picture = Image.open(io.BytesIO(content))
        except Image.DecompressionBombError:
            raise InputError(f"has more than {MAX_PIXELS // 1_000_000} megapixels") from None
    if picture.width * picture.height > MAX_PIXELS:
        raise InputError(f"has more than {MAX_PIXELS // 1_000_000} megapixels")
    return picture


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{_shown(str(path))} cannot be read: {error.strerror}") from error


def _sniff(head: bytes) -> tuple[str | None, str]:
    """The media type by the first bytes, or None and what is wrong instead."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png", ""
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg", ""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp", ""
    is_video = head[4:8] == b"ftyp" or head.startswith(b"\x1aE\xdf\xa3") or head[8:12] == b"AVI "
    is_audio = head.startswith((b"ID3", b"OggS", b"fLaC", b"\xff\xfb", b"\xff\xf3")) or head[8:12] == b"WAVE"
    if is_video or is_audio:
        kind = "a video" if is_video else "a sound"
        return None, f"is {kind}; providers fetch videos and sounds themselves, so put it online and give its https URL"
    if not head:
        return None, "is empty"
    return None, "is neither PNG, JPEG nor WebP by its content"


def content_hash(path: str, downscale: int | None = None) -> str:
    """``sha256:...`` of a local file; raises InputError when it is gone or no longer a picture."""
    return f"sha256:{inspect(Path(path), downscaled=downscale is not None).sha256}"


def data_url(path: str, downscale: int | None = None) -> str:
    """The file at ``path`` as a data URL, made smaller where a side is longer than ``downscale`` pixels.

    Raises InputError when it is gone, no longer a picture, or too large to be sent.
    """
    picture = inspect(Path(path), downscaled=downscale is not None)
    content = _read(Path(path))
    if downscale is not None:
        content = _smaller(content, picture.media_type, downscale)
    if len(content) > MAX_LOCAL_BYTES:
        raise InputError(
            f"{_shown(path)} has {_megabytes(len(content))}, also at {downscale} pixels; at most "
            f"{MAX_LOCAL_BYTES // 1_000_000} MB can be sent"
        )
    return f"data:{picture.media_type};base64,{base64.b64encode(content).decode()}"


def _smaller(content: bytes, media_type: str, longest: int) -> bytes:
    """The picture with no side longer than ``longest`` pixels; the same bytes when it has none."""
    from PIL import Image, ImageOps

    picture = _opened(content)
    if max(picture.size) <= longest:
        return content
    # Cameras store a turned picture with a note to turn it, which is lost with the rest of the metadata.
    upright = ImageOps.exif_transpose(picture) or picture
    upright.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    upright.save(out, _FORMATS[media_type], **({} if media_type == "image/png" else {"quality": 92}))
    return out.getvalue()


Items = Sequence[Mapping[str, Any]]
Request = TypeVar("Request")


def materialise(request: Request) -> Request:
    """``request`` as it is sent: local files read and put in as data URLs; the same object when there are none.

    Takes any request value; those without pictures are returned as they are. Raises InputError when a file is gone,
    no longer a picture, no picture by its place, or too large. It does not notice that a file holds another picture
    than when the job was planned.
    """
    changed: dict[str, Items] = {}
    for name in PICTURE_FIELDS:
        items: Items | None = getattr(request, name, None)
        if items and any(map(_is_local_item, items)):
            changed[name] = _with_holders(items, lambda path, downscale: {"url": data_url(path, downscale)})
    if not changed:
        return request
    _check_total(sum(len(url_of(item) or "") for items in changed.values() for item in items) * 3 // 4)
    return replace(request, **changed)  # type: ignore[type-var]  # every request is a dataclass


async def with_local_files(request: Request) -> Request:
    """``materialise``, in a worker thread where there are files to read."""
    fields = (getattr(request, name, None) or () for name in PICTURE_FIELDS)
    if any(_is_local_item(item) for items in fields for item in items):
        return await run_in_disk_pool(materialise, request)
    return request


def hashed(items: Items) -> Items:
    """``items`` with the content of local files in place of their paths, which is what makes two requests the same.

    Raises InputError when a file is gone, no longer a picture, or no picture by its place.
    """
    if not any(map(_is_local_item, items)):
        return items

    def identity(path: str, downscale: int | None) -> dict[str, Any]:
        # A picture that is sent smaller is another picture.
        smaller = {} if downscale is None else {DOWNSCALE: downscale}
        return {"url": content_hash(path, downscale), **smaller}

    return _with_holders(items, identity)


def check_sizes(fields: Mapping[str, Any]) -> None:
    """Raises InputError when the local pictures among request fields are too large together. One that is made smaller
    is not pluralize: how large it will be shows when it is sent."""
    items = [item for name in PICTURE_FIELDS for item in fields.get(name) or () if _is_local_item(item)]
    paths = [url_of(item) for item in items if DOWNSCALE not in item[item["type"]]]
    _check_total(sum(inspect(Path(path)).size for path in paths if path is not None))


def _check_total(size: int) -> None:
    if size > MAX_REQUEST_BYTES:
        raise InputError(
            f"the pictures of one request have {_megabytes(size)}, at most {MAX_REQUEST_BYTES // 1_000_000} MB can be "
            "sent; give downscale, or use https URLs"
        )


def url_of(item: object) -> str | None:
    """The URL of an item of ``frame_images`` or ``input_references``; None for one that is not in the API's form."""
    if not isinstance(item, Mapping):
        return None
    holder = item.get(str(item.get("type")))
    url = holder.get("url") if isinstance(holder, Mapping) else None
    return url if isinstance(url, str) else None


def remote_inputs(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The https inputs among request fields, each with the kind of media it stands for: image, video or audio."""
    for item in (item for name in PICTURE_FIELDS for item in fields.get(name) or ()):
        url = url_of(item)
        if url is not None and url.startswith("https://"):
            yield url, str(item["type"]).removesuffix("_url")


def _is_local_item(item: object) -> bool:
    url = url_of(item)
    return url is not None and is_local(url)


def _with_holders(items: Items, holder: Callable[[str, int | None], dict[str, Any]]) -> Items:
    return [_with_holder(item, holder) if _is_local_item(item) else item for item in items]


def _with_holder(item: Mapping[str, Any], holder: Callable[[str, int | None], dict[str, Any]]) -> dict[str, Any]:
    kind, url = item["type"], url_of(item)
    assert url is not None
    if kind != "image_url":
        raise InputError(f"{_shown(url)}: {kind} must be an https URL; providers fetch videos and sounds themselves")
    if _SCHEME.match(url):
        https_url(url)  # which it is not
    return dict(item) | {kind: holder(str(Path(url).expanduser()), item[kind].get(DOWNSCALE))}


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:.1f} MB"


def _shown(text: str) -> str:
    text = redact(text)
    return f"'{text if len(text) <= _SHOWN else text[: _SHOWN - 1] + '…'}'"
