"""Image and text requests, whose result comes in the response: files on disk or a text, and what was charged."""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orbatch_provider.download import run_in_disk_pool
from orbatch_provider.errors import UNKNOWN_ADVICE, ConfigurationError, InvalidResponseError, redact
from orbatch_provider.http.decode import ApiResponse, error_inside, read_json
from orbatch_provider.http.transport import Transport
from orbatch_provider.image_stream import ImageFile, ImageStream
from orbatch_provider.media import extension
from orbatch_provider.requests import ImageRequest, TextRequest
from orbatch_provider.responses import (
    FileOutput,
    MultimodalResponse,
    UnusableResultError,
    Usage,
    plain_json,
    text_or_none,
)


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


@dataclass(frozen=True, slots=True)
class TextResult:
    """What a text request returned. ``finish_reason``: stop, length (``max_tokens`` was reached), content_filter, or a
    new one. ``generation_id`` is the response's id. ``raw``: the whole response."""

    text: str
    finish_reason: str | None
    usage: Usage | None
    generation_id: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def json(self) -> Any:
        """The text as JSON. Raises ValueError when it is not."""
        return json.loads(self.text)


async def create_images(transport: Transport, request: ImageRequest, directory: Path, stem: str) -> ImagesResult:
    """Send the request, once, and put the images of its response into ``directory``; see the provider's method."""
    if request.extra.get("stream"):
        raise ConfigurationError("Streamed images are not supported; remove stream. Nothing was sent.")
    if not stem or Path(stem).name != stem:
        raise ConfigurationError(f"{stem[:80]!r} is not a file name. Nothing was sent.")
    body = request.to_json()  # before a file is created, since it may raise
    with ImageStream(directory, stem) as stream:
        response = await transport.submit("/images", body, kind="image", sink=stream)
        # In a thread: opening an image decodes it.
        return await run_in_disk_pool(_images_result, request, response, read_json(response), stream)


async def save_images(transport: Transport, request: ImageRequest, directory: str | Path | None) -> MultimodalResponse:
    """``create_images`` under names of their own in ``directory``, or in a new temporary directory."""
    folder = Path(directory if directory is not None else await run_in_disk_pool(tempfile.mkdtemp, prefix="orbatch-"))
    stem = f"image-{secrets.token_hex(4)}"  # two calls may share a directory
    try:
        result = await create_images(transport, request, folder, stem)
    except BaseException:
        if directory is None:
            with suppress(OSError):  # it stays where it holds complete images of a response that was cut off
                await run_in_disk_pool(folder.rmdir)
        raise
    files = await run_in_disk_pool(_rename, result, folder, stem)
    raw = plain_json(result.raw)
    return MultimodalResponse(request.prompt, list(files), result.usage, result.generation_id, raw)


async def complete_text(transport: Transport, request: TextRequest) -> TextResult:
    """Send the request, once; see the provider's method."""
    if request.extra.get("stream"):
        raise ConfigurationError("Streamed text is not supported; remove stream. Nothing was sent.")
    response = await transport.submit("/chat/completions", request.to_json(), kind="text")
    return _text_result(response, read_json(response))


def _rename(result: ImagesResult, directory: Path, stem: str) -> tuple[FileOutput, ...]:
    """Give the images of a result their final names: ``stem``, numbered from 1 if there are several."""
    files = []
    for number, image in enumerate(result.files, 1):
        name = stem if len(result.files) == 1 else f"{stem}-{number}"
        target = image.path.replace(directory / f"{name}{extension(image.mime_type)}")
        files.append(FileOutput("", target, image.mime_type, target.name, image.size))
    return tuple(files)


def _images_result(request: ImageRequest, response: ApiResponse, data: object, stream: ImageStream) -> ImagesResult:
    items = data.get("data") if isinstance(data, Mapping) else None
    if not isinstance(data, Mapping) or not isinstance(items, list):
        raise _unreadable("POST /images has no list of images", data)
    numbers = [str(number) for number in range(len(stream))]  # the stream left one in place of each image
    values = [item.pop("b64_json", None) for item in items if isinstance(item, dict)]
    opened = [stream.open(numbers.index(value)) for value in values if value in numbers]
    result = ImagesResult(
        files=tuple(image for image in opened if isinstance(image, ImageFile)),
        requested=request.image_count,
        usage=Usage.from_json(data.get("usage")),
        generation_id=text_or_none(response.headers.get("x-generation-id")) or text_or_none(data.get("id")),
        problems=tuple(problem for problem in opened if isinstance(problem, str)),
        raw=data,
    )
    if not result.files:
        why = "; ".join(result.problems) or "the response has none"
        raise UnusableResultError(f"No image can be used: {why}", result.usage, result.generation_id, result.raw)
    return result


def _text_result(response: ApiResponse, data: object) -> TextResult:
    if not isinstance(data, Mapping):
        raise _unreadable("a text request is not a JSON object", data)
    usage, generation_id = Usage.from_json(data.get("usage")), text_or_none(data.get("id"))
    choices = data.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    choice: Mapping[str, Any] = first if isinstance(first, Mapping) else {}
    error = data.get("error") or choice.get("error")
    finish_reason = text_or_none(choice.get("finish_reason"))
    # With a usage it is known what was charged; without one, only the error can tell.
    if isinstance(error, Mapping) and usage is None:
        raise error_inside(response, error)
    if not choice and usage is None:
        raise _unreadable("a text request has no choices", data)
    if error or finish_reason == "error" or not choice:
        reason = error.get("message") if isinstance(error, Mapping) else error
        why = f": {redact(str(reason))}" if reason else "" if choice else ": the response has no choices"
        raise UnusableResultError(f"The model returned no text{why}", usage, generation_id, data)
    message = choice.get("message")
    content = message.get("content") if isinstance(message, Mapping) else None
    return TextResult(_joined(content), finish_reason, usage, generation_id, data)


def _joined(content: object) -> str:
    """The content, which may come in parts; empty when the model spent all its tokens on reasoning."""
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, Mapping))
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _unreadable(what: str, data: object) -> InvalidResponseError:
    return InvalidResponseError(f"The response to {what}", detail=repr(data), advice=UNKNOWN_ADVICE)
