"""One image request: the pictures in the answer, on disk and opened, and what was paid for them."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orbatch_provider.download import run_in_disk_pool
from orbatch_provider.errors import UNKNOWN_ADVICE, ConfigurationError, InvalidResponseError, UnusableResultError
from orbatch_provider.http.decode import Answer, read_json
from orbatch_provider.http.transport import Transport
from orbatch_provider.image_stream import PictureSpool, Spooled
from orbatch_provider.media import NotAPictureError, extension, look_at
from orbatch_provider.requests import ImageRequest
from orbatch_provider.responses import FileOutput, MultimodalResponse, Usage

_UNKNOWN = f"Whether it was paid for is unknown: {UNKNOWN_ADVICE} It began"


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture, synced to disk at ``path`` (a ``.part`` file until somebody places it) and opened once.

    ``mime_type`` is what the bytes are, whatever the answer called them; ``size`` in bytes; ``sha256`` in hex;
    ``width`` and ``height`` in pixels, None for an SVG that names none.
    """

    path: Path
    mime_type: str
    size: int
    sha256: str
    width: int | None
    height: int | None


@dataclass(frozen=True, slots=True)
class ImagesResult:
    """What an image request brought. ``asked``: how many pictures were wanted, of which ``files`` came.

    ``problems``: a sentence for each one that came and cannot be used. ``generation_id``: None unless the answer names
    it. ``raw``: the answer without the pictures.
    """

    files: tuple[Picture, ...]
    asked: int
    usage: Usage | None
    generation_id: str | None = None
    problems: tuple[str, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def missing(self) -> int:
        """How many pictures fewer than asked for can be used."""
        return max(0, self.asked - len(self.files))


async def create(transport: Transport, request: ImageRequest, directory: Path, stem: str) -> ImagesResult:
    """Send the request, once, and put the pictures of its answer into ``directory``; see ``create_images`` of the
    provider."""
    if request.extra.get("stream"):
        raise ConfigurationError("Streamed images are not read here; leave stream out. Nothing was sent.")
    if not stem or Path(stem).name != stem:
        raise ConfigurationError(f"{stem[:80]!r} is no name of a file. Nothing was sent.")
    body = request.to_json()
    spool = PictureSpool(directory, stem)
    with spool:
        answer = await transport.submit("/images", body, kind="image", sink=spool)
        data = read_json(answer)
        pictures = await run_in_disk_pool(spool.finish)
        return await run_in_disk_pool(_result, request, answer, data, pictures)


async def generate(transport: Transport, request: ImageRequest, directory: str | Path | None) -> MultimodalResponse:
    """The pictures under names of their own in ``directory``, or in a new temporary folder."""
    folder = Path(directory if directory is not None else await run_in_disk_pool(tempfile.mkdtemp, prefix="orbatch-"))
    stem = f"image-{secrets.token_hex(4)}"
    try:
        result = await create(transport, request, folder, stem)
    except BaseException:
        if directory is None:
            with suppress(OSError):  # it stays where it holds whole pictures of a broken answer
                await run_in_disk_pool(folder.rmdir)
        raise
    files = await run_in_disk_pool(place, result, folder, stem)
    return MultimodalResponse(files=files, usage=result.usage, job_id=result.generation_id, raw_response=result.raw)


def place(result: ImagesResult, directory: Path, stem: str) -> tuple[FileOutput, ...]:
    """Give the pictures of a result their final names: ``stem``, numbered from 1 if there are several."""
    files = []
    for number, picture in enumerate(result.files, 1):
        ending = extension(picture.mime_type)
        name = f"{stem}{ending}" if len(result.files) == 1 else f"{stem}-{number}{ending}"
        target = picture.path.replace(directory / name)
        files.append(FileOutput("", target, picture.mime_type, target.name, picture.size))
    return tuple(files)


def _result(request: ImageRequest, answer: Answer, data: object, spooled: Sequence[Spooled]) -> ImagesResult:
    items = data.get("data") if isinstance(data, Mapping) else None
    if not isinstance(data, Mapping) or not isinstance(items, list):
        raise InvalidResponseError(f"The answer to POST /images has no list of pictures. {_UNKNOWN}", detail=repr(data))
    result = ImagesResult(
        files=(),
        asked=request.asked,
        usage=Usage.from_result(data.get("usage")),
        generation_id=_generation_id(answer, data),
        raw={**data, "data": [_without_picture(item) for item in items]},
    )
    looked_at = [_look_at(number, spooled) for number in map(_number_of, items) if number in range(len(spooled))]
    result = replace(
        result,
        files=tuple(found for found in looked_at if isinstance(found, Picture)),
        problems=tuple(found for found in looked_at if isinstance(found, str)),
    )
    if not result.files:
        why = "; ".join(result.problems) or "there was none in the answer"
        raise UnusableResultError(
            f"The answer holds no picture that can be used: {why}",
            usage=result.usage,
            generation_id=result.generation_id,
            raw=result.raw,
        )
    return result


def _look_at(number: int, spooled: Sequence[Spooled]) -> Picture | str:
    """The picture, or why it cannot be used."""
    picture = spooled[number]
    problem = picture.problem
    if problem is None:
        try:
            looks = look_at(picture.path)
        except NotAPictureError as exc:
            problem = str(exc)
        else:
            return Picture(picture.path, looks.mime_type, picture.size, picture.sha256, looks.width, looks.height)
    return f"picture {number + 1}: {problem}"


def _number_of(item: object) -> int:
    """The number that the spool left in the place of a picture; -1 where there was none."""
    number = item.get("b64_json") if isinstance(item, Mapping) else None
    return int(number) if isinstance(number, str) and number.isdecimal() else -1


def _without_picture(item: object) -> object:
    if not isinstance(item, Mapping):
        return item
    return {name: value for name, value in item.items() if name != "b64_json"}


def _generation_id(answer: Answer, data: Mapping[str, Any]) -> str | None:
    found = answer.headers.get("x-generation-id") or data.get("id")
    return found if isinstance(found, str) and found else None
