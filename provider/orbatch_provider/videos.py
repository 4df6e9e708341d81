"""How a video job is waited for, and what its ids and ends mean."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from orbatch_provider.errors import (
    APIError,
    ConfigurationError,
    DownloadError,
    JobEndedError,
    JobTimeoutError,
    OpenRouterError,
)
from orbatch_provider.responses import COMPLETED, ENDED_WITHOUT_RESULT, PENDING, VideoJob, is_job_id

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
