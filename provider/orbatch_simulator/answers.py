"""Answers as the service gives them, and answers as a fault wants them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from email.utils import formatdate
from typing import Any

from aiohttp import web

from orbatch_simulator.faults import Fault

HTML_PAGE = (
    "<!DOCTYPE html>\n<html><head><title>Error</title></head><body><h1>Something went wrong</h1></body></html>\n"
)

# Status -> error_type of the metadata, and the message of a fault that brings none.
_ERRORS: Mapping[int, tuple[str, str]] = {
    400: ("invalid_request", "Invalid request"),
    401: ("authentication", "No auth credentials found"),
    402: ("payment_required", "Insufficient credits"),
    403: ("permission_denied", "Forbidden"),
    404: ("not_found", "Not found"),
    408: ("timeout", "Request timed out"),
    409: ("precondition_failed", "The output is not ready"),
    410: ("not_found", "The output is no longer available"),
    413: ("payload_too_large", "Request body too large"),
    422: ("unprocessable", "Unprocessable request"),
    429: ("rate_limit_exceeded", "Rate limit exceeded"),
    499: ("unmapped", "Client closed the request"),
    500: ("server", "Internal Server Error"),
    502: ("provider_unavailable", "Provider returned error"),
    503: ("provider_unavailable", "No provider available"),
    504: ("timeout", "Gateway timeout"),
    524: ("timeout", "Edge network timeout"),
    529: ("provider_overloaded", "Provider overloaded"),
}


_OF_THE_NORMAL = frozenset({"cut_answer", "edit", "delay", "fewer", "null_cost"})


@dataclass(frozen=True, slots=True)
class Answer:
    """One complete JSON answer, before it is sent or spoiled."""

    status: int
    content: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return json.dumps(self.content, default=_number)

    def response(self) -> web.Response:
        return web.json_response(text=self.text, status=self.status, headers=self.headers)


class RefusedError(Exception):
    """The service says no; ``status`` is the HTTP status and the envelope's code."""

    def __init__(
        self, status: int, message: str, error_type: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type
        self.headers = headers or {}

    def answer(self) -> Answer:
        return Answer(self.status, envelope(self.status, str(self), self.error_type), self.headers)


def envelope(status: int, message: str = "", error_type: str | None = None) -> dict[str, Any]:
    """The error object of every refusal: the code repeats the HTTP status."""
    usual_type, usual_message = _ERRORS.get(status, ("unmapped", f"Status {status}"))
    metadata = {"error_type": error_type or usual_type}
    return {"error": {"code": status, "message": message or usual_message, "metadata": metadata}}


def needs_normal(fault: Fault) -> bool:
    """Whether the fault's answer is made from the one that would have been given."""
    return fault.action in _OF_THE_NORMAL or (fault.body == "truncated" and fault.status < 400)


async def spoiled(request: web.Request, fault: Fault, normal: Answer | None = None) -> web.StreamResponse:
    """The answer of a fault that strikes a JSON call. ``normal`` is what would have been said, where it is needed."""
    match fault.action:
        case "cut" | "hang_up":
            return hang_up(request, abruptly=fault.action == "hang_up")
        case "redirect":
            status = fault.status if 300 <= fault.status < 400 else 307
            return web.Response(status=status, headers={"Location": fault.location or ""})
        case "cut_answer" if normal is not None:
            return await _cut_inside(request, normal, fault.at_byte)
        case "edit" if normal is not None:
            content = {name: value for name, value in normal.content.items() if name not in fault.drop}
            return Answer(normal.status, content | dict(fault.fields), normal.headers).response()
        case "delay" | "fewer" | "null_cost" if normal is not None:
            return normal.response()
    return faulty_answer(fault, normal)


def faulty_answer(fault: Fault, normal: Answer | None = None) -> web.Response:
    """``fault.status`` with ``fault.body``. A truncated body is the first half of the normal answer, or else of the
    error."""
    content = envelope(fault.status, fault.message, fault.error_type)
    error = json.dumps({"error": content["error"] | dict(fault.fields)})
    whole = normal.text if normal is not None and fault.status < 400 else error
    text, media_type = {
        "json": (error, "application/json"),
        "html": (HTML_PAGE, "text/html"),
        "text": ("upstream connect error", "text/plain"),
        "empty": ("", "application/json"),
        "list": ("[]", "application/json"),
        "truncated": (whole[: len(whole) // 2], "application/json"),
    }[fault.body]
    media_type = fault.word or media_type
    return web.Response(text=text, status=fault.status, content_type=media_type, headers=_retry_after(fault))


def hang_up(request: web.Request, *, abruptly: bool = False) -> web.Response:
    """Close the connection under the request; the response returned goes nowhere."""
    if request.transport is not None:
        if abruptly:
            request.transport.abort()
        else:
            request.transport.close()
    return web.Response()


async def _cut_inside(request: web.Request, normal: Answer, at_byte: int | None) -> web.StreamResponse:
    whole = normal.text.encode()
    headers = {"Content-Length": str(len(whole)), "Content-Type": "application/json"}
    response = web.StreamResponse(status=normal.status, headers=headers)
    await response.prepare(request)
    await response.write(whole[: len(whole) // 2 if at_byte is None else at_byte])
    hang_up(request)
    return response


def _retry_after(fault: Fault) -> dict[str, str]:
    wait = fault.retry_after
    if wait is None:
        return {}
    if isinstance(wait, str):
        return {"Retry-After": wait}
    if fault.retry_after_as == "date":
        # Real time, whatever the simulator's clock says: the caller compares it with its own.
        return {"Retry-After": formatdate(time.time() + wait, usegmt=True)}
    return {"Retry-After": f"{wait:g}"}


def _number(value: object) -> float:
    # Charges are whole nano-dollars, which a double prints back digit for digit up to a million dollars.
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"{value!r} is not JSON")
