"""What the calls have in common: key, faults, error envelopes, types of fields, and how a paid call is accepted."""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from email.utils import formatdate
from functools import wraps
from string import capwords
from typing import Any, Protocol, TypeVar

from aiohttp import web

from orbatch_simulator.faults import PAID, Fault, Stage
from orbatch_simulator.journal import Job
from orbatch_simulator.state import RefusedError, State

STATE: web.AppKey[State] = web.AppKey("state", State)
MAX_SESSION_ID = 256  # characters
_CHUNK = 64 * 1024  # bytes
_HTML_PAGE = (
    "<!DOCTYPE html>\n<html><head><title>Error</title></head><body><h1>Something went wrong</h1></body></html>\n"
)

# Status -> error_type of the metadata, and the message of a fault that has none.
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

_JSON_TYPES: Mapping[str, tuple[type, ...]] = {
    "a string": (str,),
    "an integer": (int,),
    "a number": (int, float),
    "a boolean": (bool,),
    "an array": (list,),
    "an object": (dict,),
}
_IMAGE_DATA = re.compile(r"data:(image/(?:png|jpeg|webp|gif));base64,(.*)", re.DOTALL)
_IMAGE_SIGNATURES = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/webp": b"RIFF",
    "image/gif": b"GIF8",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Call = Callable[[web.Request, State, str], Awaitable[web.StreamResponse]]


# -- answers


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete JSON answer, before it is sent or spoiled."""

    status: int
    content: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The body."""
        return json.dumps(self.content, default=_to_number)

    def response(self) -> web.Response:
        """The answer as aiohttp sends it."""
        return web.json_response(text=self.text, status=self.status, headers=self.headers)


def refusal(error: RefusedError) -> web.Response:
    """A refusal in the service's error envelope."""
    return Answer(error.status, _envelope(error.status, str(error), error.error_type), error.headers).response()


@web.middleware
async def use_envelopes(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse unknown paths and methods in the same envelope, as the service does."""
    try:
        return await handler(request)
    except web.HTTPError as error:
        return refusal(RefusedError(error.status, error.reason))


def close_connection(request: web.Request, *, reset: bool = False) -> web.Response:
    """Close the connection without an answer; the returned response goes nowhere."""
    if request.transport is not None:
        if reset:
            request.transport.abort()
        else:
            request.transport.close()
    return web.Response()


async def respond(
    request: web.Request, state: State, call: str, make: Callable[[], Answer], job: Job | None = None
) -> web.StreamResponse:
    """The answer of a read, or what a fault makes of it. ``make`` is called after any delay."""
    fault = state.fault(call) if job is None else state.job_fault(call, job)
    return make().response() if fault is None else await spoil(request, state, fault, make)


async def spoil(request: web.Request, state: State, fault: Fault, make: Callable[[], Answer]) -> web.StreamResponse:
    """What a fault makes of an answer. ``make`` is called only if the fault needs the normal answer."""
    await state.pause(fault.delay_s)
    match fault.action:
        case "cut":
            return close_connection(request)
        case "redirect":
            status = fault.status if 300 <= fault.status < 400 else 307
            return web.Response(status=status, headers={"Location": fault.location or ""})
        case "cut_answer":
            return await _cut_inside(request, make(), fault.at_byte)
        case "edit":
            normal = make()
            content = {name: value for name, value in normal.content.items() if name not in fault.drop}
            return Answer(normal.status, content | dict(fault.fields), normal.headers).response()
        case "delay" | "fewer" | "null_cost":
            return make().response()
    content = _envelope(fault.status, fault.message, fault.error_type)["error"]
    text = json.dumps({"error": content | dict(fault.fields)})
    # A truncated success is the first half of the real one, a truncated failure of the error.
    whole = make().text if fault.body == "truncated" and fault.status < 400 else text
    text, media_type = {
        "json": (text, "application/json"),
        "html": (_HTML_PAGE, "text/html"),
        "text": ("upstream connect error", "text/plain"),
        "empty": ("", "application/json"),
        "list": ("[]", "application/json"),
        "truncated": (whole[: len(whole) // 2], "application/json"),
    }[fault.body]
    media_type = fault.word or media_type
    return web.Response(text=text, status=fault.status, content_type=media_type, headers=_retry_after(fault))


async def _cut_inside(request: web.Request, normal: Answer, at_byte: int | None) -> web.StreamResponse:
    whole = normal.text.encode()
    # The full length is announced, so that the caller can tell that the body is incomplete.
    headers = {"Content-Length": str(len(whole)), "Content-Type": "application/json"}
    response = web.StreamResponse(status=normal.status, headers=headers)
    await response.prepare(request)
    await response.write(whole[: len(whole) // 2 if at_byte is None else at_byte])
    close_connection(request)
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


def _envelope(status: int, message: str = "", error_type: str | None = None) -> dict[str, Any]:
    usual_type, usual_message = _ERRORS.get(status, ("unmapped", f"Status {status}"))
    metadata = {"error_type": error_type or usual_type}
    return {"error": {"code": status, "message": message or usual_message, "metadata": metadata}}


def _to_number(value: object) -> float:
    # Charges are whole nano-dollars, which a double prints back digit for digit up to a million dollars.
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"{value!r} is not JSON")


# -- calls


def api_call(name: str, *, needs_key: bool = True) -> Callable[[Call], Handler]:
    """Make ``call(request, state, owner)`` an aiohttp handler; ``owner`` is "" where no key is needed."""

    def decorate(call: Call) -> Handler:
        @wraps(call)
        async def handle(request: web.Request) -> web.StreamResponse:
            state = request.app[STATE]
            fault = state.fault(name, "head")
            try:
                if fault is not None:
                    await state.pause(fault.delay_s)
                    return close_connection(request, reset=True)
                return await call(request, state, _owner(request, state) if needs_key else "")
            except RefusedError as error:
                if name in PAID:
                    state.journal.refused[error.status] += 1
                return refusal(error)
            except ConnectionError:
                return close_connection(request)  # the caller is gone

        return handle

    return decorate


def _owner(request: web.Request, state: State) -> str:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return state.owner_of(key.strip() if scheme.lower() == "bearer" else "")


class Checked(Protocol):
    """A request that nothing is wrong with; ``price``: USD that the credit must cover."""

    @property
    def price(self) -> Decimal:
        """USD."""
        ...


C = TypeVar("C", bound=Checked)
Check = Callable[[State, str, object], C]
Accept = Callable[[State, str, C, Fault | None], Awaitable[Answer]]


def paid_call(name: str, check: Check[C], accept: Accept[C], prompt_of: Callable[[Mapping[str, Any]], str]) -> Handler:
    """A handler for a call that costs money.

    ``check(state, owner, body)`` raises RefusedError. ``accept(state, owner, checked, fault)`` records the job and
    returns its answer, which ``fault`` will spoil. ``prompt_of`` finds the prompt in a body of any shape.
    """

    def pick(state: State, stage: Stage, body: object) -> Fault | None:
        named = body if isinstance(body, Mapping) else {}
        return state.fault(name, stage, model=str(named.get("model", "")), prompt=prompt_of(named))

    @api_call(name)
    async def handle(request: web.Request, state: State, owner: str) -> web.StreamResponse:
        await state.pause(state.settings.submit_latency_s)
        body = _parsed(await _read(request, state.settings.max_body_bytes))
        fault = pick(state, "answer", body)
        if fault is not None and fault.action != "delay":
            if fault.action == "answer":
                state.journal.refused[fault.status] += 1
            return await spoil(request, state, fault, lambda: Answer(fault.status, {}))
        if fault is not None:
            await state.pause(fault.delay_s)
        state.limit_rate(owner)
        checked = check(state, owner, body)
        state.check_credit(owner, checked.price)
        # Picked this late, so that only requests that would be accepted count.
        answer_fault = pick(state, "accepted", body)
        answer = await accept(state, owner, checked, answer_fault)
        return answer.response() if answer_fault is None else await spoil(request, state, answer_fault, lambda: answer)

    return handle


async def _read(request: web.Request, limit: int) -> bytes:
    content = bytearray()
    async for chunk in request.content.iter_chunked(_CHUNK):
        content += chunk
        if len(content) > limit:
            raise RefusedError(413, f"The request body is larger than {limit} bytes")
    return bytes(content)


def _parsed(text: bytes) -> object:
    try:
        body: object = json.loads(text)
    except (ValueError, RecursionError) as exc:  # RecursionError: thousands of nested brackets
        raise RefusedError(400, "The request body is not valid JSON") from exc
    return body


# -- fields


def display_name(model_id: str) -> str:
    """A model's name for records that have none: "Google: Veo 3.1 Lite"."""
    return ": ".join(capwords(part.replace("-", " ")) for part in model_id.split("/", 1))


def invalid(message: str, error_type: str | None = None) -> RefusedError:
    """A refusal with 400."""
    return RefusedError(400, message, error_type or "invalid_request")


def is_json(value: object, kind: str) -> bool:
    """Whether a value is of a JSON type, such as "an integer"."""
    # JSON's true and false are ints in Python, but not numbers in JSON.
    return isinstance(value, _JSON_TYPES[kind]) and (kind == "a boolean" or not isinstance(value, bool))


def check_types(body: object, types: Mapping[str, str]) -> Mapping[str, Any]:
    """The body, if it is an object whose fields have these types. Raises RefusedError 400.

    Fields that are not in ``types`` are accepted and ignored, as the service does.
    """
    if not isinstance(body, dict):
        raise invalid("The request body must be a JSON object")
    for name, value in body.items():
        if name in types and not is_json(value, types[name]):
            raise invalid(f"{name}: expected {types[name]}")
    if not body.get("model"):
        raise invalid("model: required")
    if len(body.get("session_id", "")) > MAX_SESSION_ID:
        raise invalid(f"session_id: at most {MAX_SESSION_ID} characters")
    return body


def check_input(name: str, item: object, types: tuple[str, ...]) -> None:
    """Raises RefusedError 400 for an input image, video or audio that the service would not fetch or decode."""
    kind = item.get("type") if isinstance(item, dict) else None
    if not isinstance(item, dict) or kind not in types:
        raise invalid(f"{name}: every item needs a type: {', '.join(types)}")
    holder = item.get(kind)
    url = holder.get("url") if isinstance(holder, dict) else None
    if not isinstance(url, str) or not url:
        raise invalid(f"{name}: {kind}.url is required")
    if url.startswith("https://"):
        return
    # Data URLs are documented for images only.
    if kind != "image_url" or not url.startswith("data:"):
        allowed = "an https URL or a base64 data URL" if kind == "image_url" else "an https URL"
        raise invalid(f"{name}: {kind}.url must be {allowed}", "invalid_image" if kind == "image_url" else None)
    _check_image_data(name, url)


def _check_image_data(name: str, url: str) -> None:
    match = _IMAGE_DATA.fullmatch(url)
    if match is None:
        raise invalid(f"{name}: the data URL must be a base64 PNG, JPEG, WebP or GIF", "unsupported_image_format")
    try:
        # All of it, although the first bytes tell the format: alphabet and padding are checked on the way.
        content = base64.b64decode(match[2], validate=True)
    except (binascii.Error, ValueError) as exc:
        raise invalid(f"{name}: the data URL is not valid base64", "invalid_image") from exc
    if not content.startswith(_IMAGE_SIGNATURES[match[1]]):
        raise invalid(f"{name}: the data URL does not contain the {match[1]} it announces", "invalid_image")
