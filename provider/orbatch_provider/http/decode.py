"""From an HTTP answer to a value or the right error: bodies, error envelopes, Retry-After. No HTTP library here."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

from orbatch_provider.errors import UNKNOWN_ADVICE, APIError, InvalidResponseError, Kind, OpenRouterError, error_class

LONGEST_RETRY_AFTER_S = 86_400.0  # a server that asks for more is not believed

_TAGS = re.compile(r"(?s)<(script|style)\b.*?</\1\s*>|<[^>]*>")


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer read as far as it came. ``headers``: names in lower case.

    ``request``: what was asked, as ``POST /videos``; ``paid``: whether it could start something that costs money,
    and then ``kind`` says what. ``failure``: why the body ends early, None when it is whole.
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
        return 200 <= self.status < 300


def read_json(answer: Answer) -> Any:
    """The JSON value of a successful answer; amounts are Decimal.

    Raises the APIError of the status, or of the error object that a 200 holds; the failure that cut the body off;
    InvalidResponseError for what is no JSON.
    """
    if not answer.is_success:
        raise error_of(answer)
    if answer.failure is not None:
        raise answer.failure
    try:
        value = json.loads(answer.body.decode("utf-8-sig"), parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):  # the text of a parser's error repeats the body
        raise _unreadable(answer, "is not JSON" if answer.body.strip() else "is empty") from None
    if isinstance(value, Mapping) and isinstance(value.get("error"), Mapping) and "id" not in value:
        raise error_inside(answer, value["error"])
    return value


def error_of(answer: Answer) -> APIError:
    """The error that an answer with an error status means, whatever its body is."""
    said = _envelope(answer)
    location = answer.headers.get("location")
    if 300 <= answer.status < 400 and location:
        message = f"a redirect to {location}, which is not followed, because the key goes nowhere else. {said.message}"
        said = replace(said, message=message.strip())
    return _api_error(answer, answer.status, said)


def error_inside(answer: Answer, error: Mapping[str, Any]) -> OpenRouterError:
    """What an error object inside a success means: for a read the error it names. A paid request stays unknown, unless
    it is one for text and the object says that it may be sent again."""
    code = error.get("code")
    code = int(code) if isinstance(code, str) and code.isascii() and code.isdigit() else code
    said = _said(error)
    is_clear = not answer.paid or (answer.kind == "text" and said.retryable is True)
    if not is_clear or isinstance(code, bool) or not isinstance(code, int) or not 400 <= code < 600:
        return _unreadable(answer, "holds an error")
    return _api_error(answer, code, said)


def retry_after(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Seconds to wait, from ``retry-after-ms`` or ``Retry-After`` in seconds or as an HTTP date; never negative, at
    most LONGEST_RETRY_AFTER_S; None when nothing readable is said.

    A date is compared with the answer's own ``Date``, so that a wrong clock here does not matter.
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


@dataclass(frozen=True, slots=True)
class _Said:
    """The words of an error. ``retryable`` and ``retry_after_s`` are those of ``error.availability``."""

    message: str
    error_type: str | None = None
    retryable: bool | None = None
    retry_after_s: float | None = None


def _api_error(answer: Answer, status: int, said: _Said) -> APIError:
    wait = retry_after(answer.headers)
    return error_class(status)(
        status,
        said.message,
        error_type=said.error_type,
        retry_after_s=said.retry_after_s if wait is None else wait,
        request=answer.request,
        paid=answer.paid,
        kind=answer.kind,
        retryable=said.retryable,
    )


def _unreadable(answer: Answer, what: str) -> InvalidResponseError:
    advice = f"Whether a job was started is unknown: {UNKNOWN_ADVICE}" if answer.paid else "Asking again costs nothing."
    return InvalidResponseError(
        f"The answer {answer.status} to {answer.request} {what}. {advice} It began",
        status_code=answer.status,
        detail=_text(answer.body) or "(nothing)",
    )


def _envelope(answer: Answer) -> _Said:
    """What the JSON envelope says, or whatever text came instead."""
    try:
        body = json.loads(answer.body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return _Said(_text(answer.body))
    error = body.get("error") if isinstance(body, Mapping) else None
    if isinstance(error, str):
        return _Said(error)
    return _said(error) if isinstance(error, Mapping) else _Said(_text(answer.body))


def _said(error: Mapping[str, Any]) -> _Said:
    metadata, availability = (
        part if isinstance(part, Mapping) else {} for part in (error.get("metadata"), error.get("availability"))
    )
    error_type, message, wait = metadata.get("error_type"), error.get("message"), availability.get("retry_after")
    words = [message if isinstance(message, str) else "", *_reasons(metadata)]
    seconds = None if isinstance(wait, bool) or not isinstance(wait, (int, float, str, Decimal)) else _number(str(wait))
    return _Said(
        " | ".join(word for word in words if word),
        error_type if isinstance(error_type, str) else None,
        availability["retryable"] if isinstance(availability.get("retryable"), bool) else None,
        None if seconds is None else _bounded(seconds),
    )


def _reasons(metadata: Mapping[str, Any]) -> list[str]:
    """What the provider behind OpenRouter said, and why moderation refused: the message alone often says neither."""
    raw, reasons = metadata.get("raw"), metadata.get("reasons")
    words = [raw] if isinstance(raw, str) else []
    return words + ([str(reason) for reason in reasons] if isinstance(reasons, list) else [])


def _text(body: bytes) -> str:
    text = body[:20_000].decode("utf-8", "replace")
    return _TAGS.sub(" ", text).strip() if text.lstrip().startswith("<") else text.strip()


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
        date = parsedate_to_datetime(value) if value else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if date is None:
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
