"""Every fault that a call to the provider can meet, as a server that has it."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orbatch_provider.errors import STATUS_RULES
from tests.faults.workshop import CALLS, Healthy, clip, job_of, pictures, words
from tests.images import painted
from tests.provider.rawserver import (
    Exchange,
    Step,
    close,
    raw_answer,
    read_head_only,
    read_request,
    reset,
    send,
    stall,
)

UNKNOWN_STATUSES = (302, 418, 520)
STATUSES = (*STATUS_RULES, *UNKNOWN_STATUSES)
NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Fault:
    """``steps``: what the server does to the faulty call. ``place``: where there is no server to speak of.

    ``says``: what every message about it holds. ``patience_s``: how long the caller waits for an answer.
    """

    steps: Mapping[str, list[Step]] = field(default_factory=dict)
    place: str = ""
    says: str = ""
    patience_s: float = 20.0


def status_fault(
    status: int,
    headers: Mapping[str, str] | None = None,
    message: str = "It is said.",
    more: Mapping[str, Any] = NOTHING,
) -> Fault:
    body = {"error": {"code": status, "message": message, **more}}
    return everywhere([read_request, send(raw_answer(body, status, headers=headers))], f"answered {status}")


def everywhere(steps: list[Step], says: str) -> Fault:
    return Fault(dict.fromkeys(CALLS, steps), says=says)


def answers(says: str = "", **bodies: Any) -> Fault:
    """A 200 for each call, whose body is bytes, JSON, or a function of the job's id."""
    return Fault({call: [answering(call, bodies[call])] for call in CALLS}, says=says)


def answering(call: str, body: Any) -> Step:
    async def step(exchange: Exchange) -> None:
        await read_request(exchange)
        assert exchange.request is not None
        made = body(job_of(exchange.request.target)) if callable(body) else body
        kind = "video/mp4" if call == "content" and isinstance(made, bytes) else "application/json"
        exchange.writer.write(raw_answer(made, content_type=kind))
        await exchange.writer.drain()

    return step


def cut_in_the_answer(call: str) -> Step:
    async def step(exchange: Exchange) -> None:
        await read_request(exchange)
        assert exchange.request is not None
        whole = Healthy().answer(call, exchange.request.target)
        exchange.writer.write(whole[:-1] if call != "content" else whole[: -len(clip()) // 2])
        await exchange.writer.drain()
        exchange.writer.close()

    return step


def truncated(call: str) -> Any:
    """Half of the body, announced as if it were whole."""
    if call == "content":
        return clip()[: len(clip()) // 2]
    return lambda job: Healthy().answer(call, f"/videos/{job}").partition(b"\r\n\r\n")[2][:20]


PROVIDER_ERROR = {"code": 502, "message": "Provider returned error"}
# The error's own word on whether the request may be sent again.
MAY, MAY_NOT = ({"availability": {"retryable": retryable}} for retryable in (True, False))
ERROR_OBJECT = {"error": PROVIDER_ERROR}
RETRYABLE_OBJECT = {"error": PROVIDER_ERROR | MAY}
HTML = b"<!DOCTYPE html><html><body><h1>Bad gateway</h1></body></html>"

FAULTS: dict[str, Fault] = {
    **{str(status): status_fault(status) for status in STATUSES},
    "403-budget": status_fault(403, message="The budget of this key is spent."),
    "500-retryable": status_fault(500, more=MAY),
    "503-final": status_fault(503, more=MAY_NOT),
    "refused": Fault(place="refused", says="Could not connect"),
    "dns": Fault(place="dns", says="Could not connect"),
    "tls": Fault(place="tls", says="Could not connect"),
    "cut-before": everywhere([close], "broke or timed out"),
    "cut-during": everywhere([read_head_only, reset], "broke or timed out"),
    "cut-after": everywhere([read_request, reset], "broke or timed out"),
    "cut-answer": Fault({call: [cut_in_the_answer(call)] for call in CALLS}, says="broke"),
    "too-late": replace(everywhere([read_request, stall], "broke or timed out"), patience_s=0.01),
    "html": everywhere([read_request, send(raw_answer(HTML, content_type="text/html"))], "Bad gateway"),
    "empty": answers(**dict.fromkeys(CALLS, b""), says="is empty"),
    "truncated": answers(**{call: truncated(call) for call in CALLS}),
    "wrong-types": answers(
        submit={"id": ["job"], "status": 1},
        images={"created": "now", "data": "none"},
        text={"id": 1, "choices": "none"},
        poll=lambda job: {"id": job, "status": 7, "usage": {"cost": []}},
        content=b"[1, 2, 3]" * 100,
        models={"data": "none"},
        key={"data": {"usage": "much", "limit": []}},
        generation={"data": {"id": "gen-1", "total_cost": "dear"}},
    ),
    "unknown-word": answers(
        submit=lambda _: {"id": f"job-{uuid.uuid4()}", "status": "dreaming"},
        images=pictures({"b64_json": base64.b64encode(painted()).decode(), "media_type": "image/dreaming"}),
        text=words({"message": {"content": "A cat."}, "finish_reason": "dreaming"}),
        poll=lambda job: {"id": job, "status": "dreaming"},
        content={"status": "dreaming"},
        models={"data": [{"id": "a/b", "status": "dreaming"}]},
        key={"data": {"status": "dreaming"}},
        generation={"data": {"status": "dreaming"}},
    ),
    "no-id": answers(
        submit={"status": "pending"},
        images=pictures({"media_type": "image/png"}),
        text=words(),
        poll={"status": "completed"},
        content={"status": "completed"},
        models={"data": [{"name": "a model"}]},
        key={"label": "k"},
        generation={"data": {"is_byok": False}},
    ),
    "200-error": answers(**dict.fromkeys(CALLS, ERROR_OBJECT), says="Provider returned error"),
    "200-retryable": answers(**dict.fromkeys(CALLS, RETRYABLE_OBJECT), says="Provider returned error"),
}

_MOMENT = "Wed, 01 Jan 2025 00:00:"
RETRY_AFTER_S = 7.0
# The two forms of the header; the date is compared with the answer's own.
RETRY_AFTER: Mapping[str, Mapping[str, str]] = {
    "seconds": {"Retry-After": "7"},
    "date": {"Date": f"{_MOMENT}00 GMT", "Retry-After": f"{_MOMENT}07 GMT"},
}
