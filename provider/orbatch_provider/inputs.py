"""Images that a request starts from: https URLs as they are, and local files, which are checked and hashed before
anything is spent and sent as data URLs. Whether https URLs can be fetched is checked by their headers, without a key.

Until then a request names a local file by its path, in place of the URL; ``downscale`` beside it is the longest side,
in pixels, that the image is sent with.
"""

from __future__ import annotations

import asyncio
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
from urllib.parse import urljoin, urlsplit

import httpx

from orbatch_provider.download import run_in_disk_pool
from orbatch_provider.errors import ConfigurationError, redact
from orbatch_provider.http.connections import AiohttpTransport
from orbatch_provider.media import SNIFF_BYTES, audio_type, image_type, still_type, video_type

if TYPE_CHECKING:
    from PIL.Image import Image

# A data URL is a third larger, and the API refuses large requests (413) at an unstated size.
MAX_LOCAL_BYTES = 20_000_000  # of one image
MAX_REQUEST_BYTES = 60_000_000  # of all images of a request
MAX_SOURCE_BYTES = 200_000_000  # of an image that is downscaled before it is sent
MAX_PIXELS = 200_000_000  # a small file may unpack to a huge image
QUALITY = 92  # of a JPEG or WebP that is encoded again
DOWNSCALE = "downscale"
IMAGE_FIELDS = ("frame_images", "input_references")

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # two characters at least: C:\ is a drive
_DATA_URL = re.compile(r"data:image/(png|jpeg|webp);base64,[A-Za-z0-9+/=]+")
_FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}  # what the API takes, by Pillow's names
_ORIENTATION = 0x0112  # the EXIF tag
_QUOTED = 60  # characters of a path or URL that a message repeats

URLS_AT_ONCE = 8  # requests
TIMEOUT_S = 20.0  # for the headers of one response
MAX_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NO_HEAD = frozenset({400, 403, 404, 405, 501})  # from servers that know only GET, or URLs signed for GET only
# What file stores call everything; the real type shows only in the content.
_UNTYPED = frozenset({"application/octet-stream", "binary/octet-stream", ""})
_EXPECTED = {"image": "an image", "audio": "audio", "video": "a video"}

Items = Sequence[Mapping[str, Any]]  # of ``frame_images`` or ``input_references``
RequestT = TypeVar("RequestT")


class InputError(ConfigurationError):
    """An input that cannot be sent; ``str()`` says why. Nothing was sent."""


@dataclass(frozen=True, slots=True)
class LocalImage:
    """A local file that can be sent. ``media_type`` by its content, whatever its name; ``size`` in bytes; ``note``:
    what the user should know of how it is sent."""

    media_type: str
    size: int
    sha256: str
    note: str = ""


def is_local(url: str) -> bool:
    """Whether the value of a URL field is the path of a local file."""
    return not url.startswith(("https://", "data:"))


def resolve_image(text: str, base: Path, *, downscaled: bool = False) -> str:
    """What a request holds for ``text``: the URL itself, or the absolute path of a file below ``base``.

    Raises InputError when it is neither an https URL, an image data URL nor a readable PNG, JPEG or WebP file.
    """
    if text.startswith("data:"):
        if not _DATA_URL.fullmatch(text):
            raise InputError("is not a base64 data URL of a PNG, JPEG or WebP image")
        return text
    if _SCHEME.match(text):
        return https_url(text)
    path = os.path.normpath(base.absolute() / Path(text).expanduser())
    inspect(Path(path), downscaled=downscaled)
    return path


def https_url(text: str) -> str:
    """``text`` when it is an https URL; raises InputError otherwise."""
    if text.startswith("file:"):
        raise InputError("file: URLs are not sent; use the plain path")
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme != "https" or not parts.hostname or parts.username or re.search(r"[\s\x00-\x1f]", text):
        raise InputError(f"found {_quoted(text)}; allowed: an https:// URL that works without a login")
    return text


def inspect(path: Path, *, downscaled: bool = False) -> LocalImage:
    """Check that ``path`` is a complete image that the API takes, and hash it; raises InputError when it is not.

    ``downscaled``: it may be larger than what can be sent. A file that has not changed is read once, and content
    that was decoded once is not decoded again, however many jobs start from it.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise InputError(f"{_quoted(str(path))} does not exist") from error
    if not path.is_file():
        raise InputError(f"{_quoted(str(path))} is not a file")
    limit = MAX_SOURCE_BYTES if downscaled else MAX_LOCAL_BYTES
    if status.st_size > limit:
        raise InputError(
            f"{_quoted(str(path))} has {_megabytes(status.st_size)}, at most {limit // 1_000_000} MB can be "
            f"{'read' if downscaled else 'sent; set downscale, make it smaller'} or use an https URL"
        )
    return _inspect(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _inspect(path: Path, size: int, _modified_ns: int) -> LocalImage:
    content = _read(path)
    head = content[:SNIFF_BYTES]
    still = still_type(head)
    media_type = image_type(head) or still
    if media_type not in _FORMATS and still is None:
        kind = "a video" if video_type(head) else "an audio file" if audio_type(head) else None
        what = "is neither PNG, JPEG nor WebP by its content" if head else "is empty"
        if kind is not None:
            what = f"is {kind}; providers fetch video and audio themselves, so put it online and use its https URL"
        raise InputError(f"{_quoted(str(path))} {what}")
    assert media_type is not None  # one of the two
    sha256 = hashlib.sha256(content).hexdigest()
    finding = _decoded(sha256, content)
    if finding.problem is not None:
        what = f"is {_name(still)}, which cannot be read here; save it as JPEG or PNG" if still else finding.problem
        raise InputError(f"{_quoted(str(path))} {what}")
    notes = [f"is {_name(still)} and is sent as JPEG"] if still else []
    _NOTES[str(path)] = note = "; ".join([*notes, *finding.notes])
    return LocalImage(media_type, size, sha256, note)


def _name(media_type: str) -> str:
    return media_type.removeprefix("image/").upper()


@dataclass(frozen=True, slots=True)
class _Finding:
    """What decoding showed: why it does not open, or else notes for the user. ``is_turned``: by a note of the
    camera, which not every provider obeys."""

    problem: str | None
    notes: tuple[str, ...] = ()
    is_turned: bool = False


_FINDINGS: dict[str, _Finding] = {}  # by the SHA-256 of a content
_NOTES: dict[str, str] = {}  # by path


def image_notes() -> dict[str, str]:
    """Notes on the local images that were inspected so far, by path: converted, turned, animated, CMYK."""
    return {path: note for path, note in _NOTES.items() if note}


def _decoded(sha256: str, content: bytes) -> _Finding:
    if sha256 not in _FINDINGS:
        try:
            _opened(content).verify()  # the checksums and the end of a PNG, where decoding tolerates a lot
            image = _opened(content)
            image.load()
            _FINDINGS[sha256] = _described(image)
        except InputError as error:
            _FINDINGS[sha256] = _Finding(str(error))
        except Exception:  # noqa: BLE001 - whatever fails in a decoder, the image is not complete
            _FINDINGS[sha256] = _Finding("does not open as an image; it may be damaged or cut short")
    return _FINDINGS[sha256]


def _described(image: Image) -> _Finding:
    notes = []
    is_turned = image.getexif().get(_ORIENTATION, 1) not in (0, 1)
    if is_turned:
        notes.append("is turned by its EXIF note and is sent upright")
    if getattr(image, "is_animated", False):
        notes.append("is animated; most models use its first frame")
    if image.mode == "CMYK":
        notes.append("is CMYK and is sent as RGB")
    return _Finding(None, tuple(notes), is_turned)


def _opened(content: bytes) -> Image:
    """The image, not decoded yet. Raises InputError for an implausible size."""
    import warnings

    from PIL import Image, PngImagePlugin

    # Profiles of monitors and the metadata of editors are larger than Pillow expects; MAX_SOURCE_BYTES is the limit.
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = MAX_SOURCE_BYTES
    too_large = InputError(f"has more than {MAX_PIXELS // 1_000_000} megapixels")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is the rule
        try:
            image = Image.open(io.BytesIO(content))
        except Image.DecompressionBombError:
            raise too_large from None
    if image.width * image.height > MAX_PIXELS:
        raise too_large
    return image


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{_quoted(str(path))} cannot be read: {error.strerror}") from error


def content_hash(path: str, downscale: int | None = None) -> str:
    """``sha256:...`` of a local file; raises InputError when it is gone or no longer an image."""
    return f"sha256:{inspect(Path(path), downscaled=downscale is not None).sha256}"


def data_url(path: str, downscale: int | None = None) -> str:
    """The file at ``path`` as a data URL: upright, in RGB, in a format that the API takes, and made smaller where a
    side is longer than ``downscale`` pixels.

    Raises InputError when it is gone, no longer an image, or too large to be sent.
    """
    image = inspect(Path(path), downscaled=downscale is not None)
    media_type, content = image.media_type, _read(Path(path))
    finding = _decoded(image.sha256, content)
    is_sent_as_it_is = media_type in _FORMATS and not finding.is_turned and not _is_cmyk(content)
    if downscale is not None or not is_sent_as_it_is:
        media_type = media_type if media_type in _FORMATS else "image/jpeg"
        content = _converted(content, media_type, downscale, keep=is_sent_as_it_is)
    if len(content) > MAX_LOCAL_BYTES:
        raise InputError(
            f"{_quoted(path)} has {_megabytes(len(content))}, also at {downscale} pixels; at most "
            f"{MAX_LOCAL_BYTES // 1_000_000} MB can be sent"
        )
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _is_cmyk(content: bytes) -> bool:
    return _opened(content).mode == "CMYK"


def _converted(content: bytes, media_type: str, longest: int | None, *, keep: bool) -> bytes:
    """The image upright, in RGB, with no side longer than ``longest`` pixels; with ``keep`` the same bytes where it is
    small enough."""
    from PIL import Image, ImageOps

    image = _opened(content)
    if keep and (longest is None or max(image.size) <= longest):
        return content
    # Cameras store a turned image with a note to turn it, which is lost with the rest of the metadata.
    upright = ImageOps.exif_transpose(image) or image
    if longest is not None:
        upright.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    if media_type == "image/jpeg" and upright.mode not in ("RGB", "L"):
        upright = upright.convert("RGB")
    out = io.BytesIO()
    upright.save(out, _FORMATS[media_type], **({} if media_type == "image/png" else {"quality": QUALITY}))
    return out.getvalue()


def materialise(request: RequestT) -> RequestT:
    """``request`` as it is sent: local files read and put in as data URLs; the same object when there are none.

    Takes any request. Raises InputError when a file is gone, no longer an image, in a field for video or audio, or too
    large. It does not notice that a file holds another image than when the job was planned.
    """
    given = {name: getattr(request, name, None) or () for name in IMAGE_FIELDS}
    changed = {name: _replace_paths(items, data_url) for name, items in given.items() if _has_local(items)}
    if not changed:
        return request
    _check_total(sum(len(url_of(item) or "") for items in changed.values() for item in items) * 3 // 4)
    return replace(request, **changed)  # type: ignore[type-var]  # every request is a dataclass


async def with_local_files(request: RequestT) -> RequestT:
    """``materialise``, in a worker thread where there are files to read."""
    if any(_has_local(getattr(request, name, None) or ()) for name in IMAGE_FIELDS):
        return await run_in_disk_pool(materialise, request)
    return request


def hashed(items: Items) -> Items:
    """``items`` with the content hashes of local files in place of their paths, which identify a request.

    Raises InputError when a file is gone, no longer an image, or in a field for video or audio.
    """
    if not _has_local(items):
        return items
    # An image that is sent smaller is another image.
    return _replace_paths(items, content_hash, keep=(DOWNSCALE,))


def check_sizes(fields: Mapping[str, Any]) -> None:
    """Raises InputError when the local images among request fields are too large together. One that is downscaled is
    not counted: its size is known when it is sent."""
    items = [item for name in IMAGE_FIELDS for item in fields.get(name) or ()]
    paths = [path for item in items if (path := _local_path(item)) and DOWNSCALE not in item[item["type"]]]
    _check_total(sum(inspect(Path(path)).size for path in paths))


def _check_total(size: int) -> None:
    if size > MAX_REQUEST_BYTES:
        raise InputError(
            f"the images of one request have {_megabytes(size)}, at most {MAX_REQUEST_BYTES // 1_000_000} MB can be "
            "sent; set downscale, or use https URLs"
        )


def url_of(item: object) -> str | None:
    """The URL of an item of ``frame_images`` or ``input_references``; None for one that is not in the API's form."""
    if not isinstance(item, Mapping):
        return None
    holder = item.get(str(item.get("type")))
    url = holder.get("url") if isinstance(holder, Mapping) else None
    return url if isinstance(url, str) else None


def remote_inputs(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The https inputs among request fields, each with the kind of media it should be: image, video or audio."""
    for item in (item for name in IMAGE_FIELDS for item in fields.get(name) or ()):
        url = url_of(item)
        if url is not None and url.startswith("https://"):
            yield url, str(item["type"]).removesuffix("_url")


def _local_path(item: object) -> str | None:
    url = url_of(item)
    return url if url is not None and is_local(url) else None


def _has_local(items: Items) -> bool:
    return any(_local_path(item) is not None for item in items)


def _replace_paths(items: Items, url_for: Callable[[str, int | None], str], keep: tuple[str, ...] = ()) -> Items:
    """``items`` with ``url_for(path, downscale)`` in place of each local path, of whose object only the keys to
    ``keep`` remain."""
    replaced: list[Mapping[str, Any]] = []
    for item in items:
        url = _local_path(item)
        if url is None:
            replaced.append(item)
            continue
        kind, holder = item["type"], item[item["type"]]
        if kind != "image_url":
            raise InputError(f"{_quoted(url)}: {kind} must be an https URL; providers fetch video and audio themselves")
        if _SCHEME.match(url):
            https_url(url)  # which it is not, so this raises the reason
        new = {"url": url_for(str(Path(url).expanduser()), holder.get(DOWNSCALE))}
        replaced.append({**item, kind: new | {key: holder[key] for key in keep if holder.get(key) is not None}})
    return replaced


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:.1f} MB"


def _quoted(text: str) -> str:
    text = redact(text)
    return f"'{text if len(text) <= _QUOTED else text[: _QUOTED - 1] + '…'}'"


@dataclass(frozen=True, slots=True)
class UrlCheck:
    """``name``: the URL without its query, which may be a signature. ``problem``: why it cannot be an input, if so."""

    url: str
    name: str
    problem: str | None


async def check_urls(urls: Mapping[str, str], *, at_once: int = URLS_AT_ONCE) -> list[UrlCheck]:
    """Check each URL, in the order given. ``urls``: the kind each should be (image, video or audio). A URL that fails
    is a result with a problem, never an error."""
    slots = asyncio.Semaphore(at_once)
    headers = {"User-Agent": "orbatch", "Accept": "*/*", "Accept-Encoding": "identity"}
    transport = AiohttpTransport(reuse=True)
    async with httpx.AsyncClient(transport=transport, trust_env=False, headers=headers, timeout=TIMEOUT_S) as client:

        async def check(url: str, kind: str) -> UrlCheck:
            name = redact(f"https://{urlsplit(url).hostname}{urlsplit(url).path}")
            async with slots:
                return UrlCheck(url, name, await _url_problem(client, url, kind))

        return list(await asyncio.gather(*(check(url, kind) for url, kind in urls.items())))


async def _url_problem(client: httpx.AsyncClient, url: str, kind: str) -> str | None:
    try:
        response = await _headers(client, url)
    except InputError as exc:
        return str(exc)
    except Exception as exc:  # noqa: BLE001 - whatever goes wrong with this URL, the others are checked
        return f"cannot be reached ({redact(f'{type(exc).__name__}: {exc}')})"
    if response.status_code not in (200, 206):
        return f"returns {response.status_code}; it must work without a login"
    mime_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_media = mime_type in _UNTYPED or mime_type.startswith(f"{kind}/")
    return None if is_media else f"is {mime_type}, expected {_EXPECTED.get(kind, kind)}"


async def _headers(client: httpx.AsyncClient, url: str) -> httpx.Response:
    """The last response behind the redirects, without its body. Raises InputError for a redirect to plain http."""
    for _ in range(MAX_REDIRECTS + 1):
        response = await _send(client, "HEAD", url)
        if response.status_code in _NO_HEAD:
            response = await _send(client, "GET", url)
        if response.status_code not in _REDIRECTS or "location" not in response.headers:
            return response
        url = https_url(urljoin(url, response.headers["location"]))
    raise InputError(f"is redirected more than {MAX_REDIRECTS} times")


async def _send(client: httpx.AsyncClient, method: str, url: str) -> httpx.Response:
    headers = {"Range": "bytes=0-0"} if method == "GET" else {}
    async with client.stream(method, url, headers=headers) as response:
        return response
