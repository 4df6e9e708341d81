"""The official SDK doing the same work, without records: submit, polls, download, each job a coroutine.

``python -m bench.yardstick JOBS IN_FLIGHT POLL_S FOLDER``, with the address and the key in the environment. Prints the
seconds from the first submit to the last file.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from openrouter import OpenRouter

from bench.harness import MODEL, SETTINGS, raise_file_limit


async def one(sdk: OpenRouter, number: int, poll_s: float, slots: asyncio.Semaphore, directory: Path) -> None:
    async with slots:
        job = await sdk.video_generation.generate_async(
            model=MODEL, prompt=f"A cat on roof number {number} at dusk, waiting for rain", **SETTINGS
        )
        status = str(job.status)
        while status not in ("completed", "failed"):
            await asyncio.sleep(poll_s)
            status = str((await sdk.video_generation.get_generation_async(job_id=job.id)).status)
        answer = await sdk.video_generation.get_video_content_async(job_id=job.id)
        with (directory / f"{number}.mp4").open("wb") as file:
            async for chunk in answer.aiter_bytes():
                file.write(chunk)


async def run(jobs: int, in_flight: int, poll_s: float, directory: Path) -> float:
    slots = asyncio.Semaphore(in_flight)
    async with OpenRouter(
        api_key=os.environ["OPENROUTER_API_KEY"], server_url=os.environ["OPENROUTER_BASE_URL"], timeout_ms=120_000
    ) as sdk:
        started = time.perf_counter()
        await asyncio.gather(*[one(sdk, number, poll_s, slots, directory) for number in range(jobs)])
        return time.perf_counter() - started


if __name__ == "__main__":
    raise_file_limit()
    target = Path(sys.argv[4])
    target.mkdir(parents=True, exist_ok=True)
    seconds = asyncio.run(run(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), target))
    sys.stdout.write(f"{seconds}\n")
