"""OpenRouterProvider: paid generations in their phases, and in one call, awaited or blocking.

A video is a job that is submitted, polled until it ends, and downloaded; images and texts come in the response itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from threading import Event, Thread
from typing import Any, ClassVar, ParamSpec, Self, TypeVar, Unpack
from urllib.parse import quote

import httpx

from orbatch_provider.catalog import (
    Catalog,
    ImageModel,
    Problem,
    TextModel,
    VideoModel,
    check_image,
    check_text,
    check_video,
)
from orbatch_provider.download import (
    Download,
    PartFile,
    download_with_fallback,
    part_path,
    rename_new,
    run_in_disk_pool,
)
from orbatch_provider.errors import (
    APIError,
    BadRequestError,
    ConfigurationError,
    DownloadError,
    InvalidResponseError,
    JobTimeoutError,
    NotFoundError,
    OpenRouterError,
)
from orbatch_provider.http.credentials import MANAGEMENT_KEY_VARIABLE, ApiKey, read_base_url
from orbatch_provider.http.decode import read_json
from orbatch_provider.http.transport import Timeouts, Transport, attribution_headers
from orbatch_provider.inputs import with_local_files
from orbatch_provider.instant import ImagesResult, TextResult, complete_text, create_images, save_images
from orbatch_provider.media import extension, file_stem
from orbatch_provider.requests import (
    ImageOptions,
    ImageRequest,
    TextOptions,
    TextRequest,
    VideoOptions,
    VideoRequest,
    image_options,
    strip_prefix,
)
from orbatch_provider.responses import (
    COMPLETED,
    ENDED_WITHOUT_RESULT,
    PENDING,
    FileOutput,
    Generation,
    GenerationRows,
    JobEndedError,
    KeyInfo,
    MultimodalResponse,
    VideoJob,
    is_job_id,
    plain_json,
)

# Of a call that names none: the least expensive of those that make what most people want.
DEFAULT_VIDEO_MODEL = "google/veo-3.1-lite"
DEFAULT_IMAGE_MODEL = "google/gemini-3.1-flash-image"
POLL_INTERVAL_S = 30.0
WAIT_TIMEOUT_S = 600.0
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_MOST_ROWS = 10_000  # of an analytics answer, by the API's schema
ENDPOINTS_AT_ONCE = 8  # reads of endpoint records at a time

Key = str | ApiKey | None
P = ParamSpec("P")
T = TypeVar("T")
_ModelT = TypeVar("_ModelT", VideoModel, ImageModel, TextModel)
_RequestT = TypeVar("_RequestT", VideoRequest, ImageRequest, TextRequest)

_log = logging.getLogger(__name__)


class OpenRouterProvider:
    """A client for one key and one base URL; use it as ``async with OpenRouterProvider() as provider``. It may be used
    in several event loops, one after another.

    ``api_key``: None reads OPENROUTER_API_KEY; without a key only the catalog can be read. ``management_key``, for
    ``generations_between`` alone: None reads OPENROUTER_MANAGEMENT_KEY. ``base_url``: None reads OPENROUTER_BASE_URL,
    else the public API. ``referer``, ``title``, ``categories`` (at most 2) name your app to
    OpenRouter. Timeouts in seconds: ``connect_timeout_s`` for name lookup, connect and TLS, ``submit_timeout_s`` for
    the response to a paid request, ``read_timeout_s`` for the response to a free one and for a silence in a download.
    Proxies are those of the environment (HTTPS_PROXY, NO_PROXY ...). ``transport`` replaces the network in tests.

    A paid request is sent exactly once, on a connection of its own; what its error means for the money is in
    ``error.nothing_started`` and ``error.may_resend``. Raises ConfigurationError for an unusable key or base URL.
    """

    name: ClassVar[str] = "openrouter"
    supported_modalities: ClassVar[list[str]] = ["image", "video", "text"]

    def __init__(
        self,
        api_key: str | ApiKey | None = None,
        *,
        management_key: str | ApiKey | None = None,
        base_url: str | None = None,
        referer: str | None = None,
        title: str | None = None,
        categories: Iterable[str] = (),
        submit_timeout_s: float = 600.0,
        read_timeout_s: float = 60.0,
        connect_timeout_s: float = 20.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._is_key_of_environment = api_key is None
        self._key = ApiKey.read(api_key)
        self._management_key = ApiKey.read(management_key, MANAGEMENT_KEY_VARIABLE)
        api_key = management_key = None  # no frame that an error passes may hold the text
        if not self._key.is_missing:  # without a key there is still the catalog
            self.require_key()
        self.base_url = read_base_url(base_url)
        timeouts = Timeouts(connect_s=connect_timeout_s, submit_s=submit_timeout_s, read_s=read_timeout_s)
        headers = attribution_headers(referer, title, tuple(categories))
        self._transport = Transport(self.base_url, self._key, headers, timeouts, transport)
        # Of its own, so that each key is hidden in, and sent with, its own requests only.
        self._management = Transport(self.base_url, self._management_key, headers, timeouts, transport)
        self._catalogs: dict[type, Catalog[Any]] = {}  # by class of their models, for ``check``

    @property
    def origin(self) -> str:
        """``scheme://host:port``, the only place the key is sent to."""
        return self._transport.origin

    @property
    def account(self) -> str:
        """Distinguishes the jobs of two API keys: a short digest, from which the key cannot be found."""
        return self._key.digest

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections; later calls raise ConfigurationError."""
        await self._transport.aclose()
        await self._management.aclose()

    def __repr__(self) -> str:
        # A traceback may show it half constructed.
        return f"<OpenRouterProvider {getattr(self, 'base_url', '(not set up)')}>"

    # Phases of a video job

    async def submit(self, request: VideoRequest | Mapping[str, Any]) -> VideoJob:
        """Start a paid job and return it as soon as it has an id. Never sent twice.

        In place of an image's URL, the path of a local PNG, JPEG or WebP file is allowed, which is sent as a data URL;
        ``downscale`` beside it is the longest side in pixels. Raises InputError for a file that cannot be sent;
        NotSentError, OutcomeUnknownError, InvalidResponseError or the APIError of the status. Only where
        ``error.nothing_started`` is true is it certain that nothing will be charged.
        """
        self.require_key()
        body = (await with_local_files(VideoRequest.of(request))).to_json()
        # The lenient form: from here on the job is paid for, and its id must not be lost.
        job = VideoJob.from_submit(read_json(await self._transport.submit("/videos", body)))
        _log.info("Job %s was accepted", job.id)
        return job

    async def poll(self, job_id: str) -> VideoJob:
        """The job's current state. Free, and safe to repeat. Raises ConfigurationError for what is not a job id."""
        self.require_key()
        job = VideoJob.from_json(read_json(await self._transport.read(_job_path(job_id))))
        if job.id != job_id:  # a proxy or cache mixed two responses up
            raise InvalidResponseError(f"The response to a poll of job {job_id} is about job {job.id}. Poll again.")
        return job

    async def wait(
        self,
        job_id: str,
        *,
        poll_interval: float = POLL_INTERVAL_S,
        timeout: float = WAIT_TIMEOUT_S,  # noqa: ASYNC109 - it ends with an error of its own, and the job continues
        on_poll: Callable[[VideoJob], None] | None = None,
    ) -> VideoJob:
        """Poll every ``poll_interval`` seconds until the job is completed, failed, cancelled or expired.

        Polls that fail for a temporary reason are repeated. Raises JobTimeoutError after ``timeout`` seconds: the job
        continues and is paid for, and calling this again keeps waiting. There is always a poll before that.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        status, pause, failure = PENDING, poll_interval, None
        while True:
            await asyncio.sleep(max(0.0, min(pause, deadline - loop.time())))
            pause = poll_interval  # a Retry-After counts for one pause
            try:
                job = await self.poll(job_id)
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
            if loop.time() >= deadline:
                raise JobTimeoutError(job_id, status, timeout) from failure

    async def download(self, job_id: str, index: int, part: Path) -> Download:
        """Stream output ``index`` of a completed job into ``part``, resuming what is there; nothing is renamed.

        Raises ConflictError while it is not ready, GoneError when the provider no longer has it, DownloadError when it
        arrives wrong, OSError when it cannot be written. What the API no longer has is taken from the provider's
        stored copy if there is one.
        """
        received = await self.receive(job_id, index, part)
        return await run_in_disk_pool(received.finish)

    async def receive(self, job_id: str, index: int, part: Path) -> PartFile:
        """``download`` without its last step: call ``finish`` of the returned file, which blocks while it syncs and
        checks it. For callers who have more to do with the file in the same thread."""
        self.require_key()

        async def stored_copy() -> str | None:
            job = await self.poll(job_id)
            return job.urls[index] if index < len(job.urls) else None  # signed, and fresh only in a new poll

        return await download_with_fallback(self._transport, self._content_url(job_id, index), part, stored_copy)

    async def fetch(self, job: VideoJob, directory: str | Path, *, stem: str | None = None) -> tuple[FileOutput, ...]:
        """Download all outputs of a completed job into ``directory``, each renamed when it is complete.

        Named ``stem`` (the job id when None), numbered from 1 if there are several, with the extension of their type;
        an existing file is never overwritten. Raises JobEndedError for a job without a result, and what ``download``
        raises.
        """
        if job.status in ENDED_WITHOUT_RESULT:
            raise JobEndedError(job)
        if job.status != COMPLETED:
            raise DownloadError(f"Job {job.id} is {job.status}, and only completed jobs have content. Wait for it.")
        folder, stem = Path(directory), file_stem(job.id if stem is None else stem)
        await run_in_disk_pool(folder.mkdir, parents=True, exist_ok=True)
        files: list[FileOutput] = []
        for index in range(job.output_count):
            name = stem if job.output_count == 1 else f"{stem}-{index + 1}"
            try:
                loaded = await self.download(job.id, index, part_path(folder / name, job.id))
            except BadRequestError:
                if not files:
                    raise
                break  # fewer than were announced
            target = folder / f"{name}{extension(loaded.mime_type)}"
            await run_in_disk_pool(rename_new, loaded.path, target)
            url = self._content_url(job.id, index)
            files.append(FileOutput(url, target, loaded.mime_type, target.name, loaded.size))
        return tuple(files)

    # Images and texts, which come in the response

    async def create_images(
        self, request: ImageRequest | Mapping[str, Any], directory: str | Path, stem: str
    ) -> ImagesResult:
        """Send a paid image request, once, and put its images into ``directory`` as ``stem.part``, ``stem-2.part`` and
        so on, replacing files of these names: decoded as the response comes, synced, opened. Renaming is yours.

        Raises OSError when the first file cannot be created, and ConfigurationError for a ``stem`` that is not a file
        name, before anything is sent; then what ``submit`` raises, or UnusableResultError when no image of a complete
        response can be used. Complete files of a response that was cut off are kept and named in a note of the error.
        """
        self.require_key()
        body = await with_local_files(ImageRequest.of(request))
        return await create_images(self._transport, body, Path(directory), stem)

    async def complete_text(self, request: TextRequest | Mapping[str, Any]) -> TextResult:
        """Send a paid text request, once.

        Raises what ``submit`` raises, or UnusableResultError when a complete response holds no text.
        """
        self.require_key()
        return await complete_text(self._transport, TextRequest.of(request))

    # One call

    async def generate_video(
        self,
        prompt: str | None,
        model: str = DEFAULT_VIDEO_MODEL,
        image_url: str | None = None,
        **options: Unpack[VideoOptions],
    ) -> MultimodalResponse:
        """Submit, wait and fetch. ``duration``, ``poll_interval`` (30) and ``timeout`` (600) in seconds; ``on_poll`` is
        called with the VideoJob of each poll.

        ``image_url`` (https or data URL, or local file) is the short form for a first frame. The files are put into
        ``directory``, or a new temporary directory that outlives the client. Raises TypeError for an unknown keyword,
        JobEndedError when the job fails, JobTimeoutError when it takes longer: that one is paid for, and ``wait`` and
        ``fetch`` continue with its id. Any other error after the submit has the id in a note.
        """
        known = ("image_url", *VideoOptions.__annotations__)
        request = VideoRequest.from_keywords(prompt, model, options, known).with_first_frame(image_url)
        job = await self.submit(request)
        pause, timeout = options.get("poll_interval", POLL_INTERVAL_S), options.get("timeout", WAIT_TIMEOUT_S)
        try:
            job = await self.wait(job.id, poll_interval=pause, timeout=timeout, on_poll=options.get("on_poll"))
            if job.status != COMPLETED:  # before a directory is created for nothing
                raise JobEndedError(job)
            directory = options.get("directory")
            files = await self.fetch(job, tempfile.mkdtemp(prefix="orbatch-") if directory is None else directory)
        except (JobEndedError, JobTimeoutError):  # whose messages have the id
            raise
        except BaseException as exc:
            exc.add_note(f"Job {job.id} was accepted and is paid for; continue with provider.wait({job.id!r}).")
            raise
        return MultimodalResponse(prompt, list(files), job.usage, job.id, plain_json(job.raw))

    async def generate_image(
        self, prompt: str, model: str = DEFAULT_IMAGE_MODEL, **options: Unpack[ImageOptions]
    ) -> MultimodalResponse:
        """Up to ``n`` images, as files with the extension of what they are, in ``directory`` or a new temporary one
        that outlives the client. Raises TypeError for an unknown keyword, and what ``create_images`` raises."""
        request = ImageRequest.from_keywords(prompt, model, image_options(options), ImageOptions.__annotations__)
        self.require_key()  # before files are read
        return await save_images(self._transport, await with_local_files(request), options.get("directory"))

    async def generate_text(self, prompt: str | None, model: str, **options: Unpack[TextOptions]) -> MultimodalResponse:
        """A text, in ``.text`` of the result; why it ends is ``finish_reason`` in ``raw_response``. Set ``max_tokens``:
        nothing else bounds the price. Raises TypeError for an unknown keyword, and what ``complete_text`` raises."""
        request = TextRequest.from_keywords(prompt, model, options, TextOptions.__annotations__)
        result = await self.complete_text(request)
        return MultimodalResponse(
            text=result.text, usage=result.usage, job_id=result.generation_id, raw_response=plain_json(result.raw)
        )

    # What the provider offers and has charged

    async def catalog(self) -> Catalog[VideoModel]:
        """The video models with capabilities and prices, read now. Needs no key, and sends none."""
        return self._parse_catalog(VideoModel, await self._models("/videos/models"))

    async def image_catalog(self, only: Collection[str] | None = None) -> Catalog[ImageModel]:
        """The image models; each of them, or only those named, with what its endpoints can do and charge. One read for
        the list and one for each of these models. Needs no key, and sends none."""
        body = await self._models("/images/models")
        wanted = None if only is None else {strip_prefix(model) for model in only}
        slots = asyncio.Semaphore(ENDPOINTS_AT_ONCE)

        async def with_endpoints(item: Mapping[str, Any]) -> Mapping[str, Any]:
            model = str(item["id"])
            if wanted is not None and model not in wanted:
                return {**item, "endpoints": []}
            async with slots:
                return {**item, "endpoints": await self._endpoints(model)}

        named = (item for item in body["data"] if isinstance(item, Mapping) and item.get("id"))
        data = await asyncio.gather(*map(with_endpoints, named))
        return self._parse_catalog(ImageModel, {"data": data}, keep=only is None)

    async def text_catalog(self) -> Catalog[TextModel]:
        """The text models with their prices, read now (``GET /models``, unpaged). Needs no key, and sends none."""
        return self._parse_catalog(TextModel, await self._models("/models"))

    async def video_models(self) -> list[VideoModel]:
        """The models of ``catalog``."""
        return list((await self.catalog()).models.values())

    async def image_models(self, only: Collection[str] | None = None) -> list[ImageModel]:
        """The models of ``image_catalog``."""
        return list((await self.image_catalog(only)).models.values())

    async def text_models(self) -> list[TextModel]:
        """The models of ``text_catalog``."""
        return list((await self.text_catalog()).models.values())

    async def check(self, request: VideoRequest | ImageRequest | TextRequest | Mapping[str, Any]) -> list[Problem]:
        """What the model does not support in the request, by the catalog of its kind (read once), and of a video
        request also fields that look misspelt; [] when it fits. A mapping is the body of a video request."""
        if isinstance(request, ImageRequest):
            return _problems(request, self._catalogs.get(ImageModel) or await self.image_catalog(), check_image)
        if isinstance(request, TextRequest):
            return _problems(request, self._catalogs.get(TextModel) or await self.text_catalog(), check_text)
        return _problems(VideoRequest.of(request), self._catalogs.get(VideoModel) or await self.catalog(), check_video)

    async def key(self) -> KeyInfo:
        """What the key may still spend, and has spent."""
        self.require_key()
        return KeyInfo.from_json(read_json(await self._transport.read("/key")))

    async def generation(self, generation_id: str) -> Generation:
        """The authoritative cost of a generation; NotFoundError for minutes after it is normal."""
        self.require_key()
        return Generation.from_json(read_json(await self._transport.read("/generation", query={"id": generation_id})))

    @property
    def lists_generations(self) -> bool:
        """Whether there is a management key, so that ``generations_between`` works."""
        return not self._management_key.is_missing

    async def generations_between(self, start: datetime, end: datetime, users: Collection[str] = ()) -> GenerationRows:
        """The generations of the account, of all its keys, between two times at most 31 days apart, to the second.

        ``users``: only those whose request had one of these in ``user``. A generation is listed minutes after its end.

        Raises ConfigurationError without a management key, PermissionDeniedError for a key that is none.
        """
        if self._management_key.problem is not None:
            raise ConfigurationError(self._management_key.problem)
        last = end + timedelta(seconds=1)  # a part of a second is not lost
        question = {
            "metrics": ["request_count", "total_usage"],
            "dimensions": ["generation_id", "external_user"],
            "filters": [{"field": "external_user", "operator": "in", "value": sorted(users)}] if users else [],
            "time_range": {"start": f"{start.astimezone(UTC):{_TIME}}", "end": f"{last.astimezone(UTC):{_TIME}}"},
            "limit": _MOST_ROWS,
        }
        response = await self._management.ask("/analytics/query", json.dumps(question).encode())
        return GenerationRows.from_json(read_json(response))

    def require_key(self) -> None:
        """Raises ConfigurationError when there is no usable API key. Sends nothing."""
        if self._is_key_of_environment:
            self._key.look_again()
        if self._key.problem is not None:
            raise ConfigurationError(self._key.problem)

    def _content_url(self, job_id: str, index: int) -> str:
        return f"{self.base_url}{_job_path(job_id)}/content?index={index}"

    async def _models(self, path: str) -> Mapping[str, Any]:
        body = read_json(await self._transport.read(path, keyed=False))
        if not isinstance(body, Mapping) or not isinstance(body.get("data"), list):
            raise InvalidResponseError("The catalog has no list of models", detail=repr(body))
        return body

    async def _endpoints(self, model: str) -> list[Any]:
        """The records of a model's endpoints; none for a model that was removed since the list was read."""
        try:
            body = read_json(await self._transport.read(f"/images/models/{quote(model)}/endpoints", keyed=False))
        except NotFoundError:
            return []
        endpoints = body.get("endpoints") if isinstance(body, Mapping) else None
        if not isinstance(endpoints, list):
            raise InvalidResponseError(f"The endpoints of {model} are not a list", detail=repr(body))
        return endpoints

    def _parse_catalog(self, kind: type[_ModelT], body: Mapping[str, Any], *, keep: bool = True) -> Catalog[_ModelT]:
        try:
            catalog = Catalog.from_json(kind, body, captured_at=datetime.now(UTC), source=self.base_url)
        except (TypeError, ValueError) as exc:
            raise InvalidResponseError(f"The catalog cannot be read ({exc})") from None
        if keep:
            self._catalogs[kind] = catalog
        return catalog


def _problems(
    request: _RequestT, catalog: Catalog[_ModelT], check: Callable[[_RequestT, _ModelT], list[Problem]]
) -> list[Problem]:
    model = catalog.find(request.model)
    if model is None:
        near = catalog.nearest(request.model)
        return [Problem("model", request.model, f"{request.model} is not in the catalog", nearest=near)]
    return check(request, model)


def _job_path(job_id: str) -> str:
    """Below the base URL. Raises ConfigurationError for what cannot be a job id."""
    if not is_job_id(job_id):
        raise ConfigurationError(f"{str(job_id)[:80]!r} is not a job id. Nothing was sent.")
    return f"/videos/{quote(job_id, safe='')}"


# The same in one blocking call each, for scripts


def _blocking(call: Callable[P, Coroutine[Any, Any, MultimodalResponse]]) -> Callable[P, MultimodalResponse]:
    """``call`` in an event loop of its own; where one is running, as in a notebook, in a thread of its own."""

    @wraps(call)
    def blocking(*args: P.args, **kwargs: P.kwargs) -> MultimodalResponse:
        # The text of the key must not be in a frame that an error passes; ApiKey hides it.
        kwargs["api_key"] = ApiKey.read(kwargs.pop("api_key", None))  # type: ignore[arg-type]  # as the signature says
        running = None
        with suppress(RuntimeError):
            running = asyncio.get_running_loop()
        if running is None:
            return asyncio.run(call(*args, **kwargs))  # a provider of its own, so that nothing outlives the loop
        return run_in_thread(call(*args, **kwargs))

    return blocking


def run_in_thread(call: Coroutine[Any, Any, T]) -> T:
    """Run ``call`` in a loop of its own, in a thread, and wait. An interruption cancels it; a job that was accepted
    by then is named in a note of the error, as everywhere."""
    done: Future[T] = Future()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []
    interrupted = Event()

    async def work() -> T:
        task = asyncio.current_task()
        assert task is not None  # for the type checker: this is one
        running.append((asyncio.get_running_loop(), task))
        if interrupted.is_set():  # before there was a task to cancel
            call.close()
            raise asyncio.CancelledError
        return await call

    def run() -> None:
        try:
            done.set_result(asyncio.run(work()))
        except BaseException as exc:  # noqa: BLE001 - raised again where it is waited for
            done.set_exception(exc)

    thread = Thread(target=run, name="orbatch", daemon=True)
    try:
        thread.start()
        return done.result()
    except KeyboardInterrupt as interruption:
        try:
            interrupted.set()
            for loop, task in running:
                with suppress(RuntimeError):  # the loop is closed: the call has ended
                    loop.call_soon_threadsafe(task.cancel)
            ended = done.exception()
        except KeyboardInterrupt as again:
            again.add_note("Interrupted again while the call was ending: a job that it started may be paid for.")
            raise
        if ended is not interruption:  # which a callback may raise itself
            for note in getattr(ended, "__notes__", ()):  # with the id of a job that is paid for
                interruption.add_note(note)
        raise


@_blocking
async def generate_video(
    prompt: str | None,
    model: str = DEFAULT_VIDEO_MODEL,
    image_url: str | None = None,
    *,
    api_key: Key = None,
    base_url: str | None = None,
    **options: Unpack[VideoOptions],
) -> MultimodalResponse:
    """``OpenRouterProvider.generate_video`` as one blocking call, with the same arguments and errors."""
    async with OpenRouterProvider(api_key, base_url=base_url) as provider:
        return await provider.generate_video(prompt, model, image_url, **options)


@_blocking
async def generate_image(
    prompt: str,
    model: str = DEFAULT_IMAGE_MODEL,
    *,
    api_key: Key = None,
    base_url: str | None = None,
    **options: Unpack[ImageOptions],
) -> MultimodalResponse:
    """``OpenRouterProvider.generate_image`` as one blocking call, with the same arguments and errors."""
    async with OpenRouterProvider(api_key, base_url=base_url) as provider:
        return await provider.generate_image(prompt, model, **options)


@_blocking
async def generate_text(
    prompt: str | None, model: str, *, api_key: Key = None, base_url: str | None = None, **options: Unpack[TextOptions]
) -> MultimodalResponse:
    """``OpenRouterProvider.generate_text`` as one blocking call, with the same arguments and errors."""
    async with OpenRouterProvider(api_key, base_url=base_url) as provider:
        return await provider.generate_text(prompt, model, **options)
