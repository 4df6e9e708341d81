"""From an HTTP response to a value or the right error: bodies, error envelopes, Retry-After. No HTTP library here."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from typing import Any

from orbatch_provider.errors import (
    FREE_ADVICE,
    UNKNOWN_ADVICE,
    APIError,
    InvalidResponseError,
    Kind,
    OpenRouterError,
    status_rule,
)

LONGEST_RETRY_AFTER_S = 86_400.0  # a longer wait is not credible

_TAGS = re.compile(r"(?s)<(script|style)\b.*?</\1\s*>|<[^>]*>")
_LONGEST_INTEGER = 300  # digits; Python refuses to convert 4,300, and a float holds 308
_TEXT_BYTES = 20_000  # of a body that is not JSON; a message shows less


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """An HTTP response read as far as it came. ``headers``: names in lower case.

    ``request``: method and path, as ``POST /videos``; ``paid``: whether it could start something that costs money,
    and then ``kind`` says what. ``failure``: why the body ends early, None when it is complete.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    request: str
    paid: bool = False
    failure: OpenRouterError | None = None
    kind: Kind = "video"

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300


def read_json(response: ApiResponse) -> Any:
    """The JSON value of a successful response; amounts are Decimal. A number that Python cannot hold, NaN and Infinity
    are their text: one odd number must not lose the rest of an answer that is paid for.

    Raises the APIError of the status, or of the error object that a 200 holds; the failure that cut the body off;
    InvalidResponseError for what is not JSON.
    """
    if not response.is_success:
        raise error_of(response)
    if response.failure is not None:
        raise response.failure
    problem = None
    try:
        text = response.body.decode("utf-8-sig")
        value = json.loads(text, parse_float=_decimal, parse_int=_integer, parse_constant=str)
    except (ValueError, RecursionError):
        problem = "is not JSON" if response.body.strip() else "is empty"
    if problem is not None:  # raised here, since the parser's error, which holds the body, would be its context
        raise _unreadable(response, problem)
    # A job has an error field too; only an error without an id is the API's own.
    if isinstance(value, Mapping) and isinstance(value.get("error"), Mapping) and "id" not in value:
        raise error_inside(response, value["error"])
    return value


def error_of(response: ApiResponse) -> APIError:
    """The error for a response with an error status, whatever its body is."""
    details = _envelope(response)
    location = response.headers.get("location")
    if 300 <= response.status < 400 and location:
        message = f"a redirect to {location}, which is not followed, because the key goes nowhere else. "
        details["detail"] = (message + details["detail"]).strip()
    return _api_error(response, response.status, details)


def error_inside(response: ApiResponse, error: Mapping[str, Any]) -> OpenRouterError:
    """The error for an error object inside a success: for a read the one it names. A paid request stays unknown, unless
    it is one for text and the object says that it may be sent again."""
    code = error.get("code")
    code = int(code) if isinstance(code, str) and len(code) == 3 and code.isascii() and code.isdigit() else code
    details = _details(error)
    is_clear = not response.paid or (response.kind == "text" and details["retryable"] is True)
    if not is_clear or isinstance(code, bool) or not isinstance(code, int) or not 400 <= code < 600:
        return _unreadable(response, "holds an error")
    return _api_error(response, code, details)


def retry_after(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Seconds to wait, from ``retry-after-ms`` or ``Retry-After`` in seconds or as an HTTP date; never negative, at
    most LONGEST_RETRY_AFTER_S; None when neither is readable.

    A date is compared with the response's own ``Date``, so that a wrong local clock does not matter.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None:
        return _bounded(seconds)
    until = _date(value)
    if until is None:
        return None
    return _bounded((until - (now or _date(headers.get("date")) or datetime.now(UTC))).total_seconds())


def _api_error(response: ApiResponse, status: int, details: dict[str, Any]) -> APIError:
    wait_s = retry_after(response.headers)  # the header counts more than the body
    if wait_s is not None:
        details["retry_after_s"] = wait_s
    error = status_rule(status).error
    return error(status, request=response.request, paid=response.paid, kind=response.kind, **details)


def _unreadable(response: ApiResponse, problem: str) -> InvalidResponseError:
    return InvalidResponseError(
        f"The response {response.status} to {response.request} {problem}",
        status_code=response.status,
        detail=_text(response.body),
        advice=UNKNOWN_ADVICE if response.paid else FREE_ADVICE,
    )


def _envelope(response: ApiResponse) -> dict[str, Any]:
    """The details of the JSON envelope, or whatever text came instead."""
    try:
        body = json.loads(response.body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        body = None
    error = body.get("error") if isinstance(body, Mapping) else None
    if isinstance(error, Mapping):
        return _details(error)
    return {"detail": error if isinstance(error, str) else _text(response.body), "is_api_form": False}


def _details(error: Mapping[str, Any]) -> dict[str, Any]:
    """What an error object says, as arguments of APIError."""
    parts = (error.get("metadata"), error.get("availability"))
    metadata, availability = (part if isinstance(part, Mapping) else {} for part in parts)
    error_type, retryable = metadata.get("error_type"), availability.get("retryable")
    wait = availability.get("retry_after")
    seconds = None if isinstance(wait, bool) or not isinstance(wait, (int, float, str, Decimal)) else _number(str(wait))
    # The provider behind OpenRouter and the moderation give their reasons beside the message, which often has none.
    reasons, limit_source = metadata.get("reasons"), metadata.get("limit_source")
    texts = [error.get("message"), metadata.get("raw"), *(map(str, reasons) if isinstance(reasons, list) else ())]
    return {
        "detail": " | ".join(text for text in texts if isinstance(text, str) and text),
        "error_type": error_type if isinstance(error_type, str) else None,
        "retryable": retryable if isinstance(retryable, bool) else None,
        "retry_after_s": None if seconds is None else _bounded(seconds),
        "limit_source": limit_source if isinstance(limit_source, str) else None,
        "is_api_form": isinstance(error.get("message"), str) and _is_code(error.get("code")),
    }


def _is_code(value: object) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _text(body: bytes) -> str:
    text = body[:_TEXT_BYTES].decode("utf-8", "replace").strip()
    return _TAGS.sub(" ", text).strip() if text.startswith("<") else text


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _bounded(seconds: float) -> float:
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER_S)


def _date(value: str | None) -> datetime | None:
    try:
        date = parsedate_to_datetime(value or "")
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)


def _decimal(text: str) -> Decimal | str:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent of 20 digits; it is no ValueError
        return text


def _integer(text: str) -> int | str:
    return int(text) if len(text) <= _LONGEST_INTEGER else text
