"""Peak memory of one image request whose answer is about 30 MB of JSON, in multiples of the answer.

    python -m bench.image_memory

The answer holds one PNG of noise as base64, served from another process. A small image comes first, so that what
Python, the HTTP stack and Pillow need anyway is not counted; after it, the growth of the process's peak is what the
large answer cost: receiving, decoding to disk and opening the image together.
"""

from __future__ import annotations

import asyncio
import base64
import io
import multiprocessing
import os
import resource
import sys
import tempfile
from multiprocessing.connection import Connection

from aiohttp import web
from PIL import Image

from orbatch_provider.client import OpenRouterProvider

ANSWER_BYTES = 30_000_000
PROMISE = 4.0  # times the answer
_SMALL_SIDE = 64  # pixels
_MB = 1_000_000


def noise_png(side: int) -> bytes:
    """An image that does not compress: 3 bytes for each pixel."""
    target = io.BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(3 * side * side)).save(target, "PNG", compress_level=0)
    return target.getvalue()


def serve(ready: Connection, large_side: int) -> None:
    """Answer the first request with a small image, every later one with a large one; ``ready`` gets the port."""
    answers = [_answer(noise_png(_SMALL_SIDE)), _answer(noise_png(large_side))]

    async def generate(request: web.Request) -> web.Response:
        await request.read()
        body = answers.pop(0) if len(answers) > 1 else answers[0]
        return web.Response(body=body, content_type="application/json")

    async def run() -> None:
        app = web.Application()
        app.router.add_post("/images", generate)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        ready.send((runner.addresses[0][1], len(answers[-1])))
        await asyncio.Event().wait()

    asyncio.run(run())


def _answer(image: bytes) -> bytes:
    return b'{"created":1,"data":[{"b64_json":"%s","media_type":"image/png"}],"usage":{"cost":0.04}}' % (
        base64.b64encode(image)
    )


def peak_bytes() -> int:
    """The most memory this process has had so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


async def measure(port: int) -> int:
    """How many bytes the peak grew by the large answer."""
    with tempfile.TemporaryDirectory() as directory:
        async with OpenRouterProvider("sk-or-v1-benchmark", base_url=f"http://127.0.0.1:{port}") as provider:
            await provider.generate_image("noise", "bench/noise", directory=directory)
            before = peak_bytes()
            await provider.generate_image("noise", "bench/noise", directory=directory)
            return peak_bytes() - before


def main() -> int:
    side = int((ANSWER_BYTES * 3 / 4 / 3) ** 0.5)
    here, there = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there, side), daemon=True)
    server.start()
    try:
        port, answer_bytes = here.recv()
        growth = asyncio.run(measure(port))
    finally:
        server.terminate()
        server.join()
    ratio = growth / answer_bytes
    print(  # noqa: T201 - a benchmark prints its figure
        f"answer {answer_bytes / _MB:.1f} MB, peak memory +{growth / _MB:.1f} MB, "
        f"{ratio:.2f} times the answer (promised: at most {PROMISE:g})"
    )
    return 0 if ratio <= PROMISE else 1


if __name__ == "__main__":
    raise SystemExit(main())
