"""OpenRouterProvider: paid media jobs in their phases (submit, poll, wait, fetch), and in one call."""

from __future__ import annotations

import asyncio
import logging
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import quote

from orbatch_provider.answers import read_json
from orbatch_provider.catalog import Catalog, Problem, VideoModel
from orbatch_provider.catalog import check as check_request
from orbatch_provider.credentials import ApiKey, read_base_url
from orbatch_provider.download import Download, download_with_fallback
from orbatch_provider.errors import (
    APIError,
    ConfigurationError,
    DownloadError,
    InvalidResponseError,
    JobEndedError,
    JobTimeoutError,
    OpenRouterError,
)
from orbatch_provider.media import extension
from orbatch_provider.requests import VideoRequest, with_first_frame
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
from orbatch_provider.transport import Timeouts, Transport, attribution_headers

POLL_INTERVAL_S = 30.0
WAIT_TIMEOUT_S = 600.0
_STEM_LIMIT = 100  # characters of a job id in a file name

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

    supported_modalities: ClassVar[list[str]] = ["video"]

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
        self._catalog: Catalog | None = None

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

        Raises NotSentError, OutcomeUnknownError, InvalidResponseError or the APIError of the status; only where
        ``error.nothing_started`` is true is it certain that nothing will be charged.
        """
        self.require_key()
        job = VideoJob.from_submit(
            read_json(await self._transport.submit("/videos", VideoRequest.of(request).to_json()))
        )
        _log.info("Job %s was accepted", job.id)
        return job

    async def poll(self, job_id: str) -> VideoJob:
        """What the provider says of the job now. Free, and safe to repeat."""
        self.require_key()
        job = VideoJob.from_json(read_json(await self._transport.read(_job_path(job_id))))
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
        loop = asyncio.get_running_loop()
        started = loop.time()
        status, pause, failure = PENDING, poll_interval, None
        while True:
            left = started + timeout - loop.time()
            await asyncio.sleep(max(0.0, min(pause, left)))
            pause = poll_interval
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
            if loop.time() >= started + timeout:
                raise JobTimeoutError(job_id, status, timeout) from failure

    async def download(self, job_id: str, index: int, part: Path) -> Download:
        """Stream output ``index`` of a completed job into ``part``, resuming what is there; nothing is renamed.

        Raises ConflictError while it is not ready, GoneError when the provider no longer has it, DownloadError when it
        arrives wrong, OSError when it cannot be written. What the API no longer has is taken from the provider's
        stored copy if there is one.
        """
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
        if job.status in ENDED_WITHOUT_RESULT:
            raise JobEndedError(job)
        if job.status != COMPLETED:
            raise DownloadError(
                f"Job {job.id} is {job.status}; its content is there once it is completed: wait for it."
            )
        folder = Path(directory)
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        name = _file_stem(job.id if stem is None else stem)
        count = job.output_count
        return tuple(
            [
                await self._fetch_one(job.id, index, folder, name if count == 1 else f"{name}-{index + 1}")
                for index in range(count)
            ]
        )

    async def _fetch_one(self, job_id: str, index: int, folder: Path, name: str) -> FileOutput:
        loaded = await self.download(job_id, index, folder / f"{name}.part")
        target = folder / f"{name}{extension(loaded.mime_type)}"
        await asyncio.to_thread(loaded.path.replace, target)
        return FileOutput(self._content_url(job_id, index), target, loaded.mime_type, target.name, loaded.size)

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

        ``image_url`` (https or data URL) is the short form for a first frame; unknown keyword arguments go into the
        body as they are. The files are put into ``directory``, or a new temporary folder that outlives the client.
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

    # What the provider offers and has charged

    async def catalog(self) -> Catalog:
        """The video models with capabilities and prices, read now. Needs no key, and sends none."""
        body = read_json(await self._transport.read("/videos/models", keyed=False))
        if not isinstance(body, Mapping) or not isinstance(body.get("data"), list):
            raise InvalidResponseError("The catalog has no list of models", detail=repr(body))
        try:
            self._catalog = Catalog.from_json(body, captured_at=datetime.now(UTC), source=self.base_url)
        except (TypeError, ValueError) as exc:
            raise InvalidResponseError(f"The catalog cannot be read ({exc})") from None
        return self._catalog

    async def video_models(self) -> list[VideoModel]:
        return list((await self.catalog()).models.values())

    async def check(self, request: VideoRequest | Mapping[str, Any]) -> list[Problem]:
        """What the model does not support in the request, by the catalog (read once); [] when it fits."""
        wanted = VideoRequest.of(request)
        catalog = self._catalog or await self.catalog()
        model = catalog.find(wanted.model)
        if model is None:
            nearest = catalog.nearest(wanted.model)
            return [Problem("model", wanted.model, f"{wanted.model} is not in the catalog", nearest=nearest)]
        return check_request(wanted, model)

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
        return f"{self.base_url}{_job_path(job_id)}/content?index={index}"


def _job_path(job_id: str) -> str:
    if not is_job_id(job_id):
        raise ConfigurationError(f"{str(job_id)[:80]!r} is not a job id. Nothing was sent.")
    return f"/videos/{quote(job_id, safe='')}"


def _file_stem(text: str) -> str:
    """A file name that stays in its folder, whatever a job id or a caller holds."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._")[:_STEM_LIMIT] or "video"
