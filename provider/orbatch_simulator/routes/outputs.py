"""GET /videos/{id}/content, and the stored copies behind signed URLs.

As the live service: chunked, no Content-Length, no ETag, Range ignored, unless the setting ``ranges`` says otherwise.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from dataclasses import dataclass

from aiohttp import web

from orbatch_simulator.answers import Answer, RefusedError, hang_up
from orbatch_simulator.books import Job
from orbatch_simulator.clips import Payload
from orbatch_simulator.faults import Fault
from orbatch_simulator.routes.calls import api_call, spoil
from orbatch_simulator.world import STORED_COPY_S, World

_ON_THE_WAY = frozenset({"delay", "cut_answer", "stall", "content_type"})


@api_call("content")
async def content(request: web.Request, world: World, owner: str) -> web.StreamResponse:
    job = world.job_of(owner, request.match_info["job_id"])
    index = _index(request.query.get("index", "0"), world)
    status = world.status(job)
    if status in ("pending", "in_progress"):
        raise RefusedError(409, f"Video generation {job.id} is not completed")
    if status != "completed":
        raise RefusedError(404, f"Video generation {job.id} has no output: it is {status}")
    fault = world.fault("content", job=job)
    if fault is not None and fault.action not in _ON_THE_WAY:
        return await spoil(request, world, fault, lambda: Answer(200, {}))
    if fault is not None and fault.action != "stall":
        await world.pause(fault.delay_s)
    return await _send(request, world, job, index, fault)


@api_call("store", needs_key=False)
async def stored_copy(request: web.Request, world: World, _: str) -> web.StreamResponse:
    """Works without a key, and refuses one: a signed URL must not be sent the bearer key."""
    job = world.books.jobs.get(request.match_info["job_id"])
    index = _index(request.match_info["index"], world)
    if "Authorization" in request.headers:
        raise RefusedError(400, "Only one way of authorization is allowed, and the URL is signed")
    if job is None or not hmac.compare_digest(world.signature(job, index), request.query.get("signature", "")):
        raise RefusedError(403, "The signature does not match")
    if job.ends_as != "completed" or not 0 <= world.ended_for_s(job) < STORED_COPY_S:
        raise RefusedError(403, "The URL has expired")
    return await _send(request, world, job, index, None)


ROUTES = [
    web.get("/api/v1/videos/{job_id}/content", content, allow_head=False),
    web.get("/_store/{job_id}/{index}", stored_copy, allow_head=False),
]


@dataclass(frozen=True, slots=True)
class _Part:
    """Bytes ``start`` to ``stop`` of an output."""

    start: int
    stop: int
    status: int


async def _send(request: web.Request, world: World, job: Job, index: int, fault: Fault | None) -> web.StreamResponse:
    output = await world.payload(job, index)
    media_type = fault.word if fault is not None and fault.action == "content_type" else "video/mp4"
    response = web.StreamResponse(headers={"Content-Type": media_type})
    part = _Part(0, output.size, 200)
    if world.settings.ranges:
        tag = f'"{job.id}-{index}"'
        part = _asked(request, output.size, tag)
        response.headers.update({"Accept-Ranges": "bytes", "ETag": tag})
        response.set_status(part.status)
        response.content_length = part.stop - part.start
        if part.status == 206:
            response.headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{output.size}"
    else:
        response.enable_chunked_encoding()
    await response.prepare(request)
    trouble = _trouble_at(fault, part)
    for chunk in output.chunks(part.start, trouble):
        await response.write(chunk)
    if fault is not None and fault.action == "cut_answer":
        hang_up(request)
        return response
    await world.pause(fault.delay_s if fault is not None and fault.action == "stall" else 0)
    # Before the last bytes leave: whoever has the whole file finds it in the books.
    if part.stop == output.size:
        await _record(world, job, index, output)
    for chunk in output.chunks(trouble, part.stop):
        await response.write(chunk)
    await response.write_eof()
    return response


async def _record(world: World, job: Job, index: int, output: Payload) -> None:
    known = world.books.outputs(job.id).get(index)
    digest = known.sha256 if known is not None else await asyncio.to_thread(output.sha256)
    world.books.serve(job.id, index, digest, output.size)


def _trouble_at(fault: Fault | None, part: _Part) -> int:
    """The byte of the output before which a cut or a stall happens; without either, the last one."""
    length = part.stop - part.start
    if fault is None or fault.action not in ("cut_answer", "stall"):
        return part.stop - 1
    return part.start + (length // 2 if fault.at_byte is None else min(fault.at_byte, length - 1))


def _asked(request: web.Request, size: int, tag: str) -> _Part:
    """The single range that is asked for, else everything. Raises RefusedError 416 for a range beyond the end."""
    whole = _Part(0, size, 200)
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", request.headers.get("Range", ""))
    if match is None or match[0] == "bytes=-" or request.headers.get("If-Range", tag) != tag:
        return whole
    first, last = match[1], match[2]
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if start >= stop:
        raise RefusedError(416, "The range is not satisfiable", "invalid_request", {"Content-Range": f"bytes */{size}"})
    return _Part(start, stop, 206)


def _index(text: str, world: World) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise RefusedError(400, "index must be a whole number from 0")
    index = int(text)
    if index >= world.settings.outputs:
        raise RefusedError(404, f"There is no output {index}")
    return index
