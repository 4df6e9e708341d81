"""What the calls have in common: key, faults, error envelopes, types of fields, and how a paid call is accepted."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from string import capwords
from typing import Any

from aiohttp import web

from orbatch_simulator.faults import Fault, Stage
from orbatch_simulator.journal import Job
from orbatch_simulator.state import RefusedError, State

STATE: web.AppKey[State] = web.AppKey("state", State)
MAX_SESSION_ID = 256  # characters
UNKNOWN_PRICE_USD = Decimal("0.10")  # of a video or an image none of whose price lines is known: never free
BYTES_PER_TOKEN = 4  # of prompts and texts
MEGAPIXEL = Decimal(2**20)
SIZE = re.compile(r"[1-9][0-9]{1,4}x[1-9][0-9]{1,4}")  # width and height in pixels
FREE_QUESTIONS = frozenset({"/api/v1/analytics/query"})  # paths of POST requests that buy nothing
_NANO = Decimal("0.000000001")
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


@dataclass(frozen=True, slots=True)
class EventsAnswer(Answer):
    """An answer that is sent as server-sent events; ``content`` is what they say together."""

    events: Sequence[Mapping[str, Any]] = ()

    @property
    def text(self) -> str:
        """A comment first, as the service keeps the line busy; then the events, and their end."""
        sent = [f"data: {json.dumps(event, default=_to_number)}" for event in self.events]
        return "".join(f"{line}\n\n" for line in (": OPENROUTER PROCESSING", *sent, "data: [DONE]"))

    def response(self) -> web.Response:
        """The answer as aiohttp sends it."""
        return web.Response(
            text=self.text, status=self.status, headers=self.headers, content_type="text/event-stream", charset="utf-8"
        )


def refusal(error: RefusedError) -> web.Response:
    """A refusal in the service's error envelope."""
    return Answer(
        error.status, _envelope(error.status, str(error), error.error_type, error.metadata), error.headers
    ).response()


@web.middleware
async def use_envelopes(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse in the service's error envelope, unknown paths and methods included."""
    try:
        return await handler(request)
    except web.HTTPError as error:
        answered = refusal(RefusedError(error.status, error.reason))
        if isinstance(error, web.HTTPMethodNotAllowed):
            answered.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
        return answered
    except RefusedError as error:
        if request.method == "POST" and request.path not in FREE_QUESTIONS:  # the paid calls
            request.app[STATE].journal.refused[error.status] += 1
        return refusal(error)
    except ConnectionError:
        return close_connection(request)  # the caller is gone


def close_connection(request: web.Request, *, reset: bool = False) -> web.Response:
    """Close the connection without an answer; the returned response goes nowhere."""
    if request.transport is not None:
        (request.transport.abort if reset else request.transport.close)()
    return web.Response()


async def respond(
    request: web.Request, state: State, call: str, make: Callable[[], Answer], job: Job | None = None
) -> web.StreamResponse:
    """The answer of a read, or what a fault makes of it. ``make`` is called after any delay."""
    fault = state.fault(call, job)
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
    return {} if wait is None else {"Retry-After": wait if isinstance(wait, str) else f"{wait:g}"}


def _envelope(
    status: int, message: str = "", error_type: str | None = None, more: Mapping[str, str] | None = None
) -> dict[str, Any]:
    usual_type, usual_message = _ERRORS.get(status, ("unmapped", f"Status {status}"))
    metadata = {"error_type": error_type or usual_type, **(more or {})}
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
        async def handle(request: web.Request) -> web.StreamResponse:
            state = request.app[STATE]
            fault = state.faults.pick(name, "head")
            if fault is not None:
                await state.pause(fault.delay_s)
                return close_connection(request, reset=True)
            return await call(request, state, _owner(request, state) if needs_key else "")

        return handle

    return decorate


def _owner(request: web.Request, state: State) -> str:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return state.owner_of(key.strip() if scheme.lower() == "bearer" else "")


Accept = Callable[[Fault | None], Awaitable[Answer]]
Check = Callable[[State, str, object], tuple[Decimal, Accept]]


def prompt_field(body: Mapping[str, Any]) -> str:
    """The prompt of a video or an image; "" if a body of any shape has none."""
    return str(body.get("prompt") or "")


def paid_call(name: str, check: Check, prompt_of: Callable[[Mapping[str, Any]], str] = prompt_field) -> Handler:
    """A handler for a call that costs money.

    ``check(state, owner, body)`` raises RefusedError, or returns the USD that the credit must cover and ``accept``.
    ``accept(fault)`` records the job and returns its answer, which ``fault`` will spoil.
    """

    def pick(state: State, stage: Stage, body: object) -> Fault | None:
        named = body if isinstance(body, Mapping) else {}
        return state.faults.pick(name, stage, model=str(named.get("model", "")), prompt=prompt_of(named))

    @api_call(name)
    async def handle(request: web.Request, state: State, owner: str) -> web.StreamResponse:
        body = await read_body(request, state.settings.max_body_bytes)
        fault = pick(state, "answer", body)
        if fault is not None and fault.action != "delay":
            if fault.action == "answer":
                state.journal.refused[fault.status] += 1
            return await spoil(request, state, fault, lambda: Answer(fault.status, {}))
        if fault is not None:
            await state.pause(fault.delay_s)
        state.limit_rate(owner)
        price, accept = check(state, owner, body)
        state.check_credit(owner, price)
        # Picked this late, so that only requests that would be accepted count.
        answer_fault = pick(state, "accepted", body)
        answer = await accept(answer_fault)
        return answer.response() if answer_fault is None else await spoil(request, state, answer_fault, lambda: answer)

    return handle


async def read_body(request: web.Request, limit: int) -> object:
    """A JSON body of any shape. Raises RefusedError 413 beyond ``limit`` bytes, 400 for what is not JSON."""
    content = bytearray()
    async for chunk in request.content.iter_chunked(_CHUNK):
        content += chunk
        if len(content) > limit:
            raise RefusedError(413, f"The request body is larger than {limit} bytes")
    try:
        body: object = json.loads(content)
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


def check_fields(
    body: object,
    types: Mapping[str, str],
    choices: Mapping[str, Sequence[str]],
    ranges: Mapping[str, tuple[float, float]],
) -> Mapping[str, Any]:
    """The body, if it is an object whose fields have these types and values. Raises RefusedError 400.

    Fields that are not in ``types`` are accepted and ignored, as the service does.
    """
    if not isinstance(body, dict):
        raise invalid("The request body must be a JSON object")
    for name, value in body.items():
        kind = types.get(name)
        # JSON's true and false are ints in Python, but not numbers in JSON.
        is_swapped = isinstance(value, bool) != (kind == "a boolean")
        if kind is not None and (is_swapped or not isinstance(value, _JSON_TYPES[kind])):
            raise invalid(f"{name}: expected {kind}")
        if name in choices and value not in choices[name]:
            raise invalid(f"{name}: must be one of {', '.join(choices[name])}")
        low, high = ranges.get(name, (0, 0))
        if name in ranges and not low <= value <= high:
            raise invalid(f"{name}: must be " + (f"at least {low}" if high == math.inf else f"from {low} to {high}"))
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


# -- amounts


def count_tokens(text: str) -> int:
    """Tokens of a text, at four bytes each."""
    return math.ceil(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN)


def whole_nano(amount: Decimal) -> Decimal:
    """USD rounded half up to whole nano-dollars, so that a ledger of nano-dollars can agree exactly."""
    return amount.quantize(_NANO, ROUND_HALF_UP).normalize()
