"""One image request: the images in the response, on disk and opened, and what was charged for them."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orbatch_provider.download import run_in_disk_pool
from orbatch_provider.errors import UNKNOWN_ADVICE, ConfigurationError, InvalidResponseError
from orbatch_provider.http.decode import ApiResponse, read_json
from orbatch_provider.http.transport import Transport
from orbatch_provider.image_stream import ImageFile, ImageStream
from orbatch_provider.media import extension
from orbatch_provider.requests import ImageRequest
from orbatch_provider.responses import FileOutput, MultimodalResponse, UnusableResultError, Usage, text_or_none


@dataclass(frozen=True, slots=True)
class ImagesResult:
    """What an image request returned. ``requested``: how many images, of which ``files`` came.

    ``problems``: a sentence for each one that came and cannot be used. ``generation_id``: None unless the response
    names it. ``raw``: the response without the images.
    """

    files: tuple[ImageFile, ...]
    requested: int
    usage: Usage | None
    generation_id: str | None = None
    problems: tuple[str, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def missing(self) -> int:
        """How many of the requested images did not come or cannot be used."""
        return max(0, self.requested - len(self.files))


async def create(transport: Transport, request: ImageRequest, directory: Path, stem: str) -> ImagesResult:
    """Send the request, once, and put the images of its response into ``directory``; see ``create_images`` of the
    provider."""
    if request.extra.get("stream"):
        raise ConfigurationError("Streamed images are not supported; remove stream. Nothing was sent.")
    if not stem or Path(stem).name != stem:
        raise ConfigurationError(f"{stem[:80]!r} is not a file name. Nothing was sent.")
    body = request.to_json()  # before a file is created, since it may raise
    with ImageStream(directory, stem) as stream:
        response = await transport.submit("/images", body, kind="image", sink=stream)
        # In a thread: opening an image decodes it.
        return await run_in_disk_pool(_result, request, response, read_json(response), stream)


async def generate(transport: Transport, request: ImageRequest, directory: str | Path | None) -> MultimodalResponse:
    """The images under names of their own in ``directory``, or in a new temporary directory."""
    folder = Path(directory if directory is not None else await run_in_disk_pool(tempfile.mkdtemp, prefix="orbatch-"))
    stem = f"image-{secrets.token_hex(4)}"  # two calls may share a directory
    try:
        result = await create(transport, request, folder, stem)
    except BaseException:
        if directory is None:
            with suppress(OSError):  # it stays where it holds complete images of a response that was cut off
                await run_in_disk_pool(folder.rmdir)
        raise
    files = await run_in_disk_pool(_rename, result, folder, stem)
    return MultimodalResponse(files=files, usage=result.usage, job_id=result.generation_id, raw_response=result.raw)


def _rename(result: ImagesResult, directory: Path, stem: str) -> tuple[FileOutput, ...]:
    """Give the images of a result their final names: ``stem``, numbered from 1 if there are several."""
    files = []
    for number, image in enumerate(result.files, 1):
        name = stem if len(result.files) == 1 else f"{stem}-{number}"
        target = image.path.replace(directory / f"{name}{extension(image.mime_type)}")
        files.append(FileOutput("", target, image.mime_type, target.name, image.size))
    return tuple(files)


def _result(request: ImageRequest, response: ApiResponse, data: object, stream: ImageStream) -> ImagesResult:
    items = data.get("data") if isinstance(data, Mapping) else None
    if not isinstance(data, Mapping) or not isinstance(items, list):
        problem = "The response to POST /images has no list of images"
        raise InvalidResponseError(problem, detail=repr(data), advice=UNKNOWN_ADVICE)
    opened = [stream.open(number) for number in map(_number_of, items) if number in range(len(stream))]
    result = ImagesResult(
        files=tuple(image for image in opened if isinstance(image, ImageFile)),
        requested=request.image_count,
        usage=Usage.from_result(data.get("usage")),
        generation_id=text_or_none(response.headers.get("x-generation-id")) or text_or_none(data.get("id")),
        problems=tuple(problem for problem in opened if isinstance(problem, str)),
        raw={**data, "data": [_without_image(item) for item in items]},
    )
    if not result.files:
        why = "; ".join(result.problems) or "the response has none"
        raise UnusableResultError(
            f"No image can be used: {why}", usage=result.usage, generation_id=result.generation_id, raw=result.raw
        )
    return result


def _number_of(item: object) -> int:
    """The number that the stream left in place of an image; -1 where there was none."""
    number = item.get("b64_json") if isinstance(item, Mapping) else None
    return int(number) if isinstance(number, str) and number.isdecimal() else -1


def _without_image(item: object) -> object:
    return {name: value for name, value in item.items() if name != "b64_json"} if isinstance(item, Mapping) else item
