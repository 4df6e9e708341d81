"""The lower bound of a run: only the provider, without a ledger, making the requests of the same jobs.

``python -m bench.bare JOBS IN_FLIGHT POLL_S FOLDER``. Prints the seconds from the first submit to the last file.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from bench.harness import MODEL, SETTINGS, raise_file_limit
from orbatch_provider import OpenRouterProvider


async def one(
    provider: OpenRouterProvider,
    number: int,
    poll_s: float,
    slots: asyncio.Semaphore,
    files: asyncio.Semaphore,
    to: Path,
) -> None:
    async with slots:
        body = {"model": MODEL, "prompt": f"A cat on roof number {number} at dusk, waiting for rain", **SETTINGS}
        job = await provider.submit(body)
        while not job.is_terminal:
            await asyncio.sleep(poll_s)
            job = await provider.poll(job.id)
    async with files:
        await provider.download(job.id, 0, to / f"{number}.part")


async def run(jobs: int, in_flight: int, poll_s: float, directory: Path) -> float:
    slots, files = asyncio.Semaphore(in_flight), asyncio.Semaphore(50)
    async with OpenRouterProvider() as provider:
        started = time.perf_counter()
        await asyncio.gather(*[one(provider, number, poll_s, slots, files, directory) for number in range(jobs)])
        return time.perf_counter() - started


if __name__ == "__main__":
    raise_file_limit()
    target = Path(sys.argv[4])
    target.mkdir(parents=True, exist_ok=True)
    seconds = asyncio.run(run(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), target))
    sys.stdout.write(f"{seconds}\n")
