"""OpenRouterProvider: paid generations in their phases, and in one call.

A video is a job that is submitted, polled, waited for and fetched; images and texts come in the answer itself.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import quote

from orbatch_provider import images, texts
from orbatch_provider.catalog import (
    AnyModel,
    Catalog,
    ImageModel,
    Problem,
    TextModel,
    VideoModel,
    check_image,
    check_text,
    check_video,
)
from orbatch_provider.download import Download, PartFile, download_with_fallback, run_in_disk_pool
from orbatch_provider.errors import (
    APIError,
    ConfigurationError,
    DownloadError,
    InvalidResponseError,
    JobEndedError,
    JobTimeoutError,
    NotFoundError,
    OpenRouterError,
)
from orbatch_provider.http.credentials import ApiKey, read_base_url
from orbatch_provider.http.decode import read_json
from orbatch_provider.http.transport import Timeouts, Transport, attribution_headers
from orbatch_provider.images import ImagesResult
from orbatch_provider.inputs import with_local_files
from orbatch_provider.media import extension, file_stem
from orbatch_provider.requests import ImageRequest, TextRequest, VideoRequest, strip_prefix, with_first_frame
from orbatch_provider.responses import (
    COMPLETED,
    ENDED_WITHOUT_RESULT,
    PENDING,
    FileOutput,
    Generation,
    KeyInfo,
    MultimodalResponse,
    VideoJob,
    is_job_id,
)
from orbatch_provider.texts import TextResult

ENDPOINTS_AT_ONCE = 8  # reads of endpoint records at a time


async def read_videos(transport: Transport) -> Catalog[VideoModel]:
    """``GET /videos/models``."""
    body = await _models(transport, "/videos/models")
    try:
        return Catalog.from_json(VideoModel, body, captured_at=datetime.now(UTC), source=transport.base_url)
    except (TypeError, ValueError) as exc:
        raise _unreadable(exc) from None


async def read_images(transport: Transport, only: Collection[str] | None) -> Catalog[ImageModel]:
    """``GET /images/models``, and for each model, or each of ``only``, the records of its endpoints."""
    body = await _models(transport, "/images/models")
    wanted = None if only is None else {strip_prefix(model) for model in only}
    slots = asyncio.Semaphore(ENDPOINTS_AT_ONCE)

    async def joined(item: Mapping[str, Any]) -> Mapping[str, Any]:
        model = str(item["id"])
        async with slots:
            is_wanted = wanted is None or model in wanted
            return {**item, "endpoints": await _endpoints(transport, model) if is_wanted else []}

    named = (item for item in body["data"] if isinstance(item, Mapping) and item.get("id"))
    data = await asyncio.gather(*map(joined, named))
    try:
        return Catalog.from_json(ImageModel, {"data": data}, captured_at=datetime.now(UTC), source=transport.base_url)
    except (TypeError, ValueError) as exc:
        raise _unreadable(exc) from None


async def read_texts(transport: Transport) -> Catalog[TextModel]:
    """``GET /models``, which lists the models that write text, all at once where no page is asked for."""
    body = await _models(transport, "/models")
    try:
        return Catalog.from_json(TextModel, body, captured_at=datetime.now(UTC), source=transport.base_url)
    except (TypeError, ValueError) as exc:
        raise _unreadable(exc) from None


async def _models(transport: Transport, path: str) -> Mapping[str, Any]:
    body = read_json(await transport.read(path, keyed=False))
    if not isinstance(body, Mapping) or not isinstance(body.get("data"), list):
        raise InvalidResponseError("The catalog has no list of models", detail=repr(body))
    return body


async def _endpoints(transport: Transport, model: str) -> list[Any]:
    """The records of a model's endpoints; none for a model that has just gone."""
    try:
        body = read_json(await transport.read(f"/images/models/{quote(model)}/endpoints", keyed=False))
    except NotFoundError:
        return []
    endpoints = body.get("endpoints") if isinstance(body, Mapping) else None
    if not isinstance(endpoints, list):
        raise InvalidResponseError(f"The endpoints of {model} are no list", detail=repr(body))
    return endpoints


def _unreadable(exc: Exception) -> InvalidResponseError:
    return InvalidResponseError(f"The catalog cannot be read ({exc})")


POLL_INTERVAL_S = 30.0
WAIT_TIMEOUT_S = 600.0


async def wait(
    poll: Callable[[str], Awaitable[VideoJob]],
    job_id: str,
    *,
    poll_interval: float,
    timeout: float,  # noqa: ASYNC109 - it ends with an error of its own, and the job goes on
    on_poll: Callable[[VideoJob], None] | None,
) -> VideoJob:
    """Poll until the job has ended; see ``wait`` of the provider."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    status, pause, failure = PENDING, poll_interval, None
    while True:
        left = started + timeout - loop.time()
        await asyncio.sleep(max(0.0, min(pause, left)))
        pause = poll_interval
        try:
            job = await poll(job_id)
        except OpenRouterError as exc:
            if not exc.temporary:
                raise
            failure = exc
            pause = max(pause, exc.retry_after_s or 0.0) if isinstance(exc, APIError) else pause
        else:
            status, failure = job.status, None
            if on_poll is not None:
                on_poll(job)
            if job.is_terminal:
                return job
        if loop.time() >= started + timeout:
            raise JobTimeoutError(job_id, status, timeout) from failure


def require_result(job: VideoJob) -> None:
    """Raises JobEndedError or DownloadError for a job that has nothing to fetch, or not yet."""
    if job.status in ENDED_WITHOUT_RESULT:
        raise JobEndedError(job)
    if job.status != COMPLETED:
        raise DownloadError(f"Job {job.id} is {job.status}; its content is there once it is completed: wait for it.")


def path_of(job_id: str) -> str:
    """Below the base URL. Raises ConfigurationError for what cannot be a job id."""
    if not is_job_id(job_id):
        raise ConfigurationError(f"{str(job_id)[:80]!r} is not a job id. Nothing was sent.")
    return f"/videos/{quote(job_id, safe='')}"


_log = logging.getLogger(__name__)


class OpenRouterProvider:
    """A client for one key and one base URL; use it as ``async with OpenRouterProvider() as provider``.

    ``api_key``: None reads OPENROUTER_API_KEY; without a key only the catalog can be read. ``base_url``: None reads
    OPENROUTER_BASE_URL, else the public API. ``referer``, ``title``, ``categories`` (at most 2) name your app to
    OpenRouter. Timeouts in seconds: ``connect_timeout_s`` for name lookup, connect and TLS, ``submit_timeout_s`` for
    the answer to a paid request, ``read_timeout_s`` for the answer to a free one and for a silence in a download.
    Proxies are those of the environment (HTTPS_PROXY, NO_PROXY ...).

    A paid request is sent exactly once, on a connection of its own; what its error means for the money is said by
    ``error.nothing_started`` and ``error.may_resend``. Raises ConfigurationError for an unusable key or base URL.
    """

    supported_modalities: ClassVar[list[str]] = ["image", "video", "text"]

    def __init__(
        self,
        api_key: str | ApiKey | None = None,
        *,
        base_url: str | None = None,
        referer: str | None = None,
        title: str | None = None,
        categories: Iterable[str] = (),
        submit_timeout_s: float = 600.0,
        read_timeout_s: float = 60.0,
        connect_timeout_s: float = 20.0,
    ) -> None:
        self._key = ApiKey.read(api_key)
        api_key = None  # no frame that an error passes may hold the text
        if not self._key.is_missing:  # without a key there is still the catalog
            self.require_key()
        self.base_url = read_base_url(base_url)
        self._transport = Transport(
            self.base_url,
            self._key,
            attribution_headers(referer, title, tuple(categories)),
            Timeouts(connect_s=connect_timeout_s, submit_s=submit_timeout_s, read_s=read_timeout_s),
        )
        self._catalog: Catalog[VideoModel] | None = None
        self._image_catalog: Catalog[ImageModel] | None = None
        self._text_catalog: Catalog[TextModel] | None = None

    @property
    def origin(self) -> str:
        """``scheme://host:port``, the only place the key is sent to."""
        return self._transport.origin

    @property
    def account(self) -> str:
        """Tells one API key's jobs from another's: a short digest, from which the key cannot be found."""
        return self._key.digest

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._transport.aclose()

    def __repr__(self) -> str:
        # A traceback may show it half made.
        return f"<OpenRouterProvider {getattr(self, 'base_url', '(not set up)')}>"

    # Phases of a video job

    async def submit(self, request: VideoRequest | Mapping[str, Any]) -> VideoJob:
        """Start a paid job and return it as soon as it has an id. Never sent twice.

        Where a picture's URL is expected, the path of a local PNG, JPEG or WebP file may stand; it is sent as a data
        URL. ``downscale`` beside the path is the longest side in pixels that it is sent with. Raises InputError, a
        ConfigurationError, for a file that cannot be sent; NotSentError, OutcomeUnknownError, InvalidResponseError or
        the APIError of the status. Only where ``error.nothing_started`` is true is it certain that nothing will be
        charged.
        """
        self.require_key()
        wanted = await with_local_files(VideoRequest.of(request))
        job = VideoJob.from_submit(read_json(await self._transport.submit("/videos", wanted.to_json())))
        _log.info("Job %s was accepted", job.id)
        return job

    async def poll(self, job_id: str) -> VideoJob:
        """What the provider says of the job now. Free, and safe to repeat."""
        self.require_key()
        job = VideoJob.from_json(read_json(await self._transport.read(path_of(job_id))))
        if job.id != job_id:
            raise InvalidResponseError(f"The answer to a poll for job {job_id} is about job {job.id}; poll again.")
        return job

    async def wait(
        self,
        job_id: str,
        *,
        poll_interval: float = POLL_INTERVAL_S,
        timeout: float = WAIT_TIMEOUT_S,  # noqa: ASYNC109 - it ends with an error of its own, and the job goes on
        on_poll: Callable[[VideoJob], None] | None = None,
    ) -> VideoJob:
        """Poll every ``poll_interval`` seconds until the job is completed, failed, cancelled or expired.

        Polls that fail for a passing reason are repeated. Raises JobTimeoutError after ``timeout`` seconds: the job
        goes on and is paid for, and calling this again goes on waiting. There is always a poll before that.
        """
        return await wait(self.poll, job_id, poll_interval=poll_interval, timeout=timeout, on_poll=on_poll)

    async def download(self, job_id: str, index: int, part: Path) -> Download:
        """Stream output ``index`` of a completed job into ``part``, resuming what is there; nothing is renamed.

        Raises ConflictError while it is not ready, GoneError when the provider no longer has it, DownloadError when it
        arrives wrong, OSError when it cannot be written. What the API no longer has is taken from the provider's
        stored copy if there is one.
        """
        received = await self.receive(job_id, index, part)
        return await run_in_disk_pool(received.finish)

    async def receive(self, job_id: str, index: int, part: Path) -> PartFile:
        """``download`` without its last step: ``finish`` of what is returned, which blocks while it puts the file on
        disk and checks it. For callers who have more to do with the file in the same thread."""
        self.require_key()

        async def stored_copy() -> str | None:
            job = await self.poll(job_id)
            return job.urls[index] if index < len(job.urls) else None

        return await download_with_fallback(self._transport, self._content_url(job_id, index), part, stored_copy)

    async def fetch(self, job: VideoJob, directory: str | Path, *, stem: str | None = None) -> tuple[FileOutput, ...]:
        """Download all outputs of a completed job into ``directory``, each renamed into place when it is whole.

        Named ``stem`` (the job id when None), numbered from 1 if there are several, with the extension of their type.
        Raises JobEndedError for a job without a result, and what ``download`` raises.
        """
        require_result(job)
        folder, name, count = Path(directory), file_stem(job.id if stem is None else stem), job.output_count
        await run_in_disk_pool(folder.mkdir, parents=True, exist_ok=True)
        names = [name] if count == 1 else [f"{name}-{index + 1}" for index in range(count)]
        return tuple([await self._fetch_one(job.id, index, folder, name) for index, name in enumerate(names)])

    async def _fetch_one(self, job_id: str, index: int, folder: Path, name: str) -> FileOutput:
        loaded = await self.download(job_id, index, folder / f"{name}.part")
        target = folder / f"{name}{extension(loaded.mime_type)}"
        await run_in_disk_pool(loaded.path.replace, target)
        return FileOutput(self._content_url(job_id, index), target, loaded.mime_type, target.name, loaded.size)

    # Images and texts, which come in the answer

    async def create_images(
        self, request: ImageRequest | Mapping[str, Any], directory: str | Path, stem: str
    ) -> ImagesResult:
        """Send a paid image request, once, and put its pictures into ``directory`` as ``stem.part``, ``stem-2.part``
        and so on: decoded as the answer comes, synced, opened. Giving them their names is the caller's step.

        A file of that name is replaced. Raises OSError when the first one cannot be made, and ConfigurationError for a
        ``stem`` that is no file name, before anything is sent; then what ``submit`` raises, or UnusableResultError when
        no picture of a whole answer can be used. Where the answer broke off, the files that came whole are kept and
        named in a note of the error.
        """
        self.require_key()
        wanted = await with_local_files(ImageRequest.of(request))
        return await images.create(self._transport, wanted, Path(directory), stem)

    async def complete_text(self, request: TextRequest | Mapping[str, Any]) -> TextResult:
        """Send a paid text request, once.

        Raises what ``submit`` raises, or UnusableResultError when a whole answer holds no text.
        """
        self.require_key()
        return await texts.complete(self._transport, TextRequest.of(request))

    # One call

    async def generate_video(
        self,
        prompt: str | None,
        model: str,
        image_url: str | None = None,
        duration: int | None = None,
        resolution: str | None = None,
        aspect_ratio: str | None = None,
        generate_audio: bool | None = None,
        seed: int | None = None,
        frame_images: Sequence[Mapping[str, Any]] | None = None,
        input_references: Sequence[Mapping[str, Any]] | None = None,
        poll_interval: float = POLL_INTERVAL_S,
        timeout: float = WAIT_TIMEOUT_S,  # noqa: ASYNC109 - see wait
        directory: str | Path | None = None,
        **kwargs: Any,
    ) -> MultimodalResponse:
        """Submit, wait and fetch. ``duration``, ``poll_interval`` and ``timeout`` in seconds.

        ``image_url`` (https or data URL, or local file) is the short form for a first frame; unknown keyword arguments
        go into the body as they are. The files are put into ``directory``, or a new temporary folder that outlives the
        client.
        Raises JobEndedError when the job fails, JobTimeoutError when it takes longer: that one is paid for, and
        ``wait`` and ``fetch`` go on with its id. Any other error after the submit has the id in a note.
        """
        body = {
            **kwargs,
            "prompt": prompt,
            "model": model,
            "duration": duration,
            "resolution": resolution,
            "aspect_ratio": aspect_ratio,
            "generate_audio": generate_audio,
            "seed": seed,
            "frame_images": with_first_frame(image_url, frame_images),
            "input_references": input_references,
        }
        job = await self.submit(body)
        try:
            job = await self.wait(job.id, poll_interval=poll_interval, timeout=timeout)
            if job.status != COMPLETED:
                raise JobEndedError(job)
            folder = directory if directory is not None else tempfile.mkdtemp(prefix="orbatch-")
            files = await self.fetch(job, folder)
        except (JobEndedError, JobTimeoutError):  # which say it themselves
            raise
        except BaseException as exc:
            exc.add_note(f"Job {job.id} was accepted and is paid for; provider.wait({job.id!r}) goes on with it.")
            raise
        return MultimodalResponse(files=files, usage=job.usage, job_id=job.id, raw_response=job.raw)

    async def generate_image(
        self,
        prompt: str,
        model: str,
        n: int | None = None,
        size: str | None = None,
        resolution: str | None = None,
        aspect_ratio: str | None = None,
        quality: str | None = None,
        output_format: str | None = None,
        background: str | None = None,
        seed: int | None = None,
        input_references: Sequence[Mapping[str, Any]] | None = None,
        directory: str | Path | None = None,
        **kwargs: Any,
    ) -> MultimodalResponse:
        """Up to ``n`` pictures, as files with the ending of what they are. ``size``: a tier such as ``2K``, or ``WxH``.

        Unknown keyword arguments go into the body as they are. The files are put into ``directory``, or a new temporary
        folder that outlives the client. Raises what ``create_images`` raises.
        """
        body = {
            **kwargs,
            "prompt": prompt,
            "model": model,
            "n": n,
            "size": size,
            "resolution": resolution,
            "aspect_ratio": aspect_ratio,
            "quality": quality,
            "output_format": output_format,
            "background": background,
            "seed": seed,
            "input_references": input_references,
        }
        self.require_key()
        return await images.generate(self._transport, await with_local_files(ImageRequest.of(body)), directory)

    async def generate_text(
        self,
        prompt: str | None,
        model: str,
        system: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        response_format: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> MultimodalResponse:
        """A text, in ``.text`` of the result; why it ends is ``finish_reason`` in ``raw_response``.

        Give ``max_tokens``: nothing else bounds the price. Unknown keyword arguments go into the body as they are.
        Raises what ``complete_text`` raises.
        """
        body = {
            **kwargs,
            "prompt": prompt,
            "model": model,
            "system": system,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "response_format": response_format,
        }
        result = await self.complete_text(body)
        return MultimodalResponse(
            text=result.text, usage=result.usage, job_id=result.generation_id, raw_response=result.raw
        )

    # What the provider offers and has charged

    async def catalog(self) -> Catalog[VideoModel]:
        """The video models with capabilities and prices, read now. Needs no key, and sends none."""
        self._catalog = await read_videos(self._transport)
        return self._catalog

    async def image_catalog(self, only: Collection[str] | None = None) -> Catalog[ImageModel]:
        """The image models; each of them, or only those named, with what its endpoints can do and charge. One read for
        the list and one for each of these models. Needs no key, and sends none."""
        catalog = await read_images(self._transport, only)
        self._image_catalog = catalog if only is None else self._image_catalog
        return catalog

    async def text_catalog(self) -> Catalog[TextModel]:
        """The text models with their prices, read now. Needs no key, and sends none."""
        self._text_catalog = await read_texts(self._transport)
        return self._text_catalog

    async def video_models(self) -> list[VideoModel]:
        return list((await self.catalog()).models.values())

    async def image_models(self, only: Collection[str] | None = None) -> list[ImageModel]:
        return list((await self.image_catalog(only)).models.values())

    async def text_models(self) -> list[TextModel]:
        return list((await self.text_catalog()).models.values())

    async def check(self, request: VideoRequest | ImageRequest | TextRequest | Mapping[str, Any]) -> list[Problem]:
        """What the model does not support in the request, by the catalog of its kind (read once); [] when it fits. A
        mapping is the body of a video request."""
        if isinstance(request, ImageRequest):
            images_offered = self._image_catalog or await self.image_catalog()
            image_model = images_offered.find(request.model)
            return _unknown(request.model, images_offered) if image_model is None else check_image(request, image_model)
        if isinstance(request, TextRequest):
            texts_offered = self._text_catalog or await self.text_catalog()
            text_model = texts_offered.find(request.model)
            return _unknown(request.model, texts_offered) if text_model is None else check_text(request, text_model)
        wanted = VideoRequest.of(request)
        catalog = self._catalog or await self.catalog()
        model = catalog.find(wanted.model)
        return _unknown(wanted.model, catalog) if model is None else check_video(wanted, model)

    async def key(self) -> KeyInfo:
        """What the key may still spend, and has spent."""
        self.require_key()
        return KeyInfo.from_json(read_json(await self._transport.read("/key")))

    async def generation(self, generation_id: str) -> Generation:
        """The authoritative cost of a generation; NotFoundError for minutes after it is normal."""
        self.require_key()
        return Generation.from_json(read_json(await self._transport.read("/generation", query={"id": generation_id})))

    def require_key(self) -> None:
        """Raises ConfigurationError when there is no usable API key. Sends nothing."""
        if self._key.problem is not None:
            raise ConfigurationError(self._key.problem)

    def _content_url(self, job_id: str, index: int) -> str:
        return f"{self.base_url}{path_of(job_id)}/content?index={index}"


def _unknown(model: str, catalog: Catalog[AnyModel]) -> list[Problem]:
    return [Problem("model", model, f"{model} is not in the catalog", nearest=catalog.nearest(model))]
