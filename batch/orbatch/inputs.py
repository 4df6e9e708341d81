"""Pictures that a request starts from: https URLs as they are, and local files, which are checked and hashed when the
batch is read and sent as data URLs when the job is submitted.

Until then a request names a local file by its absolute path, in the place where the API expects a URL.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orbatch.batchfile.problems import shown
from orbatch_provider.requests import VideoRequest

MAX_LOCAL_BYTES = (
    20_000_000  # a data URL is a third larger, and the API refuses large requests (413) at an unstated size
)

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # two characters at least: C:\ is a drive
_DATA_URL = re.compile(r"data:image/(png|jpeg|webp);base64,[A-Za-z0-9+/=]+")
_HEAD_BYTES = 16


class InputError(ValueError):
    """An input that cannot be sent; ``str()`` says why."""


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


def resolve_picture(text: str, base: Path) -> str:
    """What a request holds for ``text``: the URL itself, or the absolute path of a file below ``base``.

    Raises InputError when it is neither an https URL, an image data URL nor a readable PNG, JPEG or WebP file.
    """
    if text.startswith("data:"):
        if not _DATA_URL.fullmatch(text):
            raise InputError("is not a base64 data URL of a PNG, JPEG or WebP picture")
        return text
    if _SCHEME.match(text):
        return https_url(text)
    return inspect(Path(os.path.normpath(base.absolute() / Path(text).expanduser()))).path


def https_url(text: str) -> str:
    """``text`` when it is an https URL; raises InputError otherwise."""
    if text.startswith("file:"):
        raise InputError("file: URLs are not sent; give the plain path")
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme != "https" or not parts.hostname or parts.username or re.search(r"[\s\x00-\x1f]", text):
        raise InputError(f"found {shown(text)}; allowed: an https:// URL that works without a login")
    return text


def inspect(path: Path) -> LocalPicture:
    """Checks that ``path`` is a picture the API takes, and hashes it; raises InputError when it is not.

    An unchanged file is read once, however many jobs start from it.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise InputError(f"there is no file {shown(str(path))}") from error
    if not path.is_file():
        raise InputError(f"{shown(str(path))} is not a file")
    return _inspect(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _inspect(path: Path, size: int, _modified_ns: int) -> LocalPicture:
    if size > MAX_LOCAL_BYTES:
        megabytes = f"{size / 1_000_000:.1f} MB"
        limit = MAX_LOCAL_BYTES // 1_000_000
        raise InputError(
            f"{shown(str(path))} has {megabytes}, at most {limit} MB can be sent; make it smaller or use an https URL"
        )
    content = _read(path)
    media_type, what = _sniff(content[:_HEAD_BYTES])
    if media_type is None:
        raise InputError(f"{shown(str(path))} {what}")
    return LocalPicture(str(path), media_type, size, hashlib.sha256(content).hexdigest())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{shown(str(path))} cannot be read: {error.strerror}") from error


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


def content_hash(path: str) -> str:
    """``sha256:...`` of a local file; raises InputError when it is gone or no longer a picture."""
    return f"sha256:{inspect(Path(path)).sha256}"


def data_url(path: str) -> str:
    """The file at ``path`` as a data URL; raises InputError when it is gone or no longer a picture."""
    picture = inspect(Path(path))
    return f"data:{picture.media_type};base64,{base64.b64encode(_read(Path(path))).decode()}"


def materialise(request: VideoRequest) -> VideoRequest:
    """``request`` as it is sent: local files read and put in as data URLs; the same object when there are none.

    Raises InputError when a file is gone or no longer a picture. It does not notice that a file holds another
    picture than when the job was planned: compare ``expand.job_key`` for that.
    """
    frames = with_urls(request.frame_images, data_url)
    references = with_urls(request.input_references, data_url)
    if frames is request.frame_images and references is request.input_references:
        return request
    return replace(request, frame_images=frames, input_references=references)


Items = Sequence[Mapping[str, Any]]


def with_urls(items: Items | None, change: Callable[[str], str]) -> Items | None:
    """``items`` with every local path replaced by what ``change`` makes of it; the same object when there is none."""
    if not items or not any(is_local(url_of(item)) for item in items):
        return items
    return [
        dict(item) | {item["type"]: {"url": change(url_of(item))}} if is_local(url_of(item)) else item for item in items
    ]


def url_of(item: Mapping[str, Any]) -> str:
    """The URL of an item of ``frame_images`` or ``input_references``."""
    url: str = item[item["type"]]["url"]
    return url
