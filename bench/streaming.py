"""The bare loop that downloads are measured against: the same transport, straight to files, nothing checked or hashed.

``python -m bench.streaming JOBS FOLDER`` submits JOBS videos, waits for all of them, and downloads them in parallel. It
prints the seconds of the downloads.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from bench.harness import KEY, MODEL, SETTINGS, raise_file_limit
from orbatch_provider import OpenRouterProvider
from orbatch_provider.http.credentials import ApiKey
from orbatch_provider.http.transport import Timeouts, Transport


async def ready_jobs(count: int) -> list[str]:
    """Ids of completed jobs."""
    async with OpenRouterProvider() as provider:
        jobs = [
            await provider.submit({"model": MODEL, "prompt": f"Cat {number}", **SETTINGS}) for number in range(count)
        ]
        for job in jobs:
            await provider.wait(job.id, poll_interval=0.1, timeout=60)
        return [job.id for job in jobs]


async def download(transport: Transport, url: str, path: Path) -> None:
    async with transport.stream(url, {}, keyed=True) as content:
        with path.open("wb") as file:
            async for chunk in content.chunks():
                file.write(chunk)


async def run(count: int, directory: Path, base_url: str) -> float:
    ids = await ready_jobs(count)
    transport = Transport(base_url, ApiKey(KEY), {}, Timeouts())
    try:
        started = time.perf_counter()
        urls = [f"{base_url}/videos/{job_id}/content?index=0" for job_id in ids]
        await asyncio.gather(
            *[download(transport, url, directory / f"{number}.mp4") for number, url in enumerate(urls)]
        )
        return time.perf_counter() - started
    finally:
        await transport.aclose()


if __name__ == "__main__":
    raise_file_limit()
    target = Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    seconds = asyncio.run(run(int(sys.argv[1]), target, os.environ["OPENROUTER_BASE_URL"]))
    sys.stdout.write(f"{seconds}\n")
