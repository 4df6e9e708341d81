"""GET /videos/{id}/content.

As the live service: chunked, without Content-Length and ETag, Range ignored, unless the setting ``ranges`` is on.
"""

from __future__ import annotations

import asyncio
import re

from aiohttp import web

from orbatch_simulator.clips import TINY, Clip, Payload, payload
from orbatch_simulator.faults import Fault
from orbatch_simulator.journal import Job
from orbatch_simulator.middleware import Answer, api_call, close_connection, spoil
from orbatch_simulator.state import RefusedError, State
from orbatch_simulator.videos import EffectiveRequest

# The other faults replace the whole answer and never look at the bytes.
_WHILE_SENDING = frozenset({"delay", "cut_answer", "stall", "content_type"})


@api_call("content")
async def content(request: web.Request, state: State, owner: str) -> web.StreamResponse:
    """An output of a completed job, for the key that submitted it."""
    job = state.job_of(owner, request.match_info["job_id"])
    text = request.query.get("index", "0")
    if not re.fullmatch(r"[0-9]{1,9}", text):  # int() would also take "+1" and thousands of digits
        raise RefusedError(400, "index must be a whole number from 0")
    index = int(text)
    if index >= state.settings.outputs:
        there = state.settings.outputs  # recorded live on 2026-10-02, as the early generation id and its equality
        raise RefusedError(400, f"Video index {index} out of range ({there} videos available)")
    status = state.status(job)
    if status in ("pending", "in_progress"):
        raise RefusedError(409, f"Video generation {job.id} is not completed")
    if status != "completed":
        raise RefusedError(404, f"Video generation {job.id} has no output: it is {status}")
    fault = state.fault("content", job)
    if fault is not None and fault.action not in _WHILE_SENDING:
        return await spoil(request, state, fault, lambda: Answer(200, {}))
    if fault is not None and fault.action != "stall":  # a stall waits between the bytes
        await state.pause(fault.delay_s)
    return await _send(request, state, job, index, fault)


ROUTES = [web.get("/api/v1/videos/{job_id}/content", content, allow_head=False)]  # the live service has no HEAD


async def _send(request: web.Request, state: State, job: Job, index: int, fault: Fault | None) -> web.StreamResponse:
    output = await _rendered(state, job, index)
    action = fault.action if fault is not None else ""
    media_type = fault.word if fault is not None and action == "content_type" else "video/mp4"
    response = web.StreamResponse(headers={"Content-Type": media_type})
    part = range(output.size)
    if state.settings.ranges:
        tag = f'"{job.id}-{index}"'
        requested = _requested(request, output.size, tag)
        response.headers.update({"Accept-Ranges": "bytes", "ETag": tag})
        if requested is not None:
            part = requested
            response.set_status(206)
            response.headers["Content-Range"] = f"bytes {part[0]}-{part[-1]}/{output.size}"
        response.content_length = len(part)
    else:
        response.enable_chunked_encoding()
    await response.prepare(request)
    split = _fault_at(fault, part)
    for chunk in output.chunks(part.start, split):
        await response.write(chunk)
    if action == "cut_answer":
        close_connection(request)
        return response
    await state.pause(fault.delay_s if fault is not None and action == "stall" else 0)
    # Before the last bytes leave: whoever has the whole file finds it in the journal.
    if part.stop == output.size:
        known = state.journal.outputs(job.id).get(index)
        # Hashing a large payload again for every download would slow down benchmarks.
        digest = known.sha256 if known is not None else await asyncio.to_thread(output.sha256)
        state.journal.serve(job.id, index, digest, output.size)
    for chunk in output.chunks(split, part.stop):
        await response.write(chunk)
    await response.write_eof()
    return response


async def _rendered(state: State, job: Job, index: int) -> Payload:
    """Always the same bytes for the same job, also after a restart."""
    size, clip = state.settings.clip_bytes, TINY
    if size is None:
        effective = EffectiveRequest.from_body(job.body, state.catalog.models[job.model], state.settings)
        clip = Clip(job.model, job.prompt, effective.seconds, effective.width, effective.height, effective.audio)
    return await asyncio.to_thread(payload, clip, f"{job.id}/{index}", size)


def _fault_at(fault: Fault | None, part: range) -> int:
    """The byte of the output before which a cut or a stall happens; without either, the last one."""
    if fault is None or fault.action not in ("cut_answer", "stall"):
        return part[-1]
    return part[len(part) // 2 if fault.at_byte is None else min(fault.at_byte, len(part) - 1)]


def _requested(request: web.Request, size: int, tag: str) -> range | None:
    """The requested single range, None for everything. Raises RefusedError 416 for a range beyond the end."""
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", request.headers.get("Range", ""))
    # RFC 9110: a range that cannot be read is ignored, and so is one whose If-Range names another version.
    if match is None or match[0] == "bytes=-" or request.headers.get("If-Range", tag) != tag:
        return None
    first, last = match[1], match[2]
    start = int(first) if first else max(0, size - int(last))  # "-5": the last five bytes
    stop = min(size, int(last) + 1) if first and last else size
    if start >= stop:
        raise RefusedError(416, "The range is not satisfiable", "invalid_request", {"Content-Range": f"bytes */{size}"})
    return range(start, stop)
