"""Everything that can go wrong with the provider, and what it means for the user's money.

    OpenRouterError
    ├── ConfigurationError       the call cannot be made; nothing was sent
    │   └── InputError           (inputs) a local file or URL that cannot be an input
    ├── NotSentError             name lookup, connect or TLS failed: the request never left
    ├── OutcomeUnknownError      cut off or timed out after the request may have left
    ├── APIError                 an HTTP error status; STATUS_RULES has the class and the meaning of each
    ├── InvalidResponseError     a 2xx response that cannot be read
    ├── UnusableResultError      (responses) a complete 2xx response without a usable image or text
    ├── DownloadError            the content arrived wrong: truncated, not a video, an error page
    ├── JobEndedError            (responses) the job failed, was cancelled or expired
    └── JobTimeoutError          we stopped waiting; the job continues and is paid for

Two attributes of every error decide what may be done next:

- ``nothing_started``: after a *submit*, is it certain that no job was started? Where it is not, the job may exist and
  be charged, and the request must never be retried automatically.
- ``temporary``: may the same request succeed later, unchanged? A submit may be repeated only when both are true; a
  read (poll, content, key, generation) is free and may be repeated whenever this one is.

Source: OpenRouter's error documentation, and the rule that no paid request has an idempotency key: a status that does
not clearly refuse the request leaves its outcome unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["video", "image", "text"]

# Statuses that clearly refuse this kind of request, whatever STATUS_RULES says for a video: an image is charged whole
# or not at all, and 502 is how the API reports that it failed. 529, an overloaded provider, is not declared for videos.
NOT_STARTED: Mapping[Kind, frozenset[int]] = {
    "video": frozenset(),
    "image": frozenset({502, 529}),
    "text": frozenset({529}),
}

UNKNOWN_ADVICE = "It may have been charged, so it is not retried; check https://openrouter.ai/activity."
FREE_ADVICE = "Retrying is free."
# ``error.metadata.limit_source`` of the 402 that only says: too much money is in flight at this moment.
IN_FLIGHT_BUDGET = "openrouter_in_flight_budget"
MESSAGE_LIMIT = 300  # characters of a provider's text that an error repeats
_EXAMINED_LIMIT = 64 * MESSAGE_LIMIT  # characters examined, so that a huge body costs nothing

_KEY = re.compile(r"sk-or-[A-Za-z0-9_-]{4,}")
_BEARER = re.compile(r"(?i)bearer\s+[^\s\"']+")
_LOGIN = re.compile(r"(?<=://)[^\s/@\"'<>?]+:[^\s/@\"'<>?]*@")  # user:password of a proxy or URL
_SIGNED_QUERY = re.compile(r"(https?://[^\s\"'<>?]+)\?[^\s\"'<>]+")
_BUDGET = re.compile(r"(?i)\bbudget\b|spend(ing)? limit")  # 403 has no type of its own for it


def redact(text: str) -> str:
    """``text`` without API keys, bearer tokens, and the login and the query of any URL (signed URLs are secrets), on
    one line, control characters removed, at most MESSAGE_LIMIT characters."""
    text = _LOGIN.sub("[redacted]@", text[:_EXAMINED_LIMIT])
    text = _SIGNED_QUERY.sub(r"\1?[redacted]", _BEARER.sub("Bearer [redacted]", _KEY.sub("[redacted key]", text)))
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= MESSAGE_LIMIT else text[: MESSAGE_LIMIT - 1] + "…"


class OpenRouterError(RuntimeError):
    """Base of all errors of this package. ``str(error)`` says what happened and what to do."""

    nothing_started: bool = True  # most are raised before anything is sent
    temporary: bool = False

    @property
    def may_resend(self) -> bool:
        """Whether a paid request with this error may be sent again: nothing was started, and it may succeed later."""
        return self.nothing_started and self.temporary


class ConfigurationError(OpenRouterError, ValueError):
    """The call cannot be made: no usable API key, an origin that must not receive one, or a value that cannot be
    written into a request. Nothing was sent."""


class NotSentError(OpenRouterError):
    """The connection could not be made (name lookup, connect, TLS), so the request never left this machine."""

    temporary = True


class OutcomeUnknownError(OpenRouterError):
    """The connection broke or timed out after the request may have left: it may have been accepted."""

    nothing_started = False
    temporary = True


class APIError(OpenRouterError):
    """The API answered with an error status.

    ``status_code``: HTTP status. ``detail``: the provider's own words, redacted. ``error_type``:
    ``error.metadata.error_type`` or None. ``retry_after_s``: seconds to wait, from the header in either form, or None.
    ``request``: method and path, as ``POST /videos``. ``paid``: whether that request could cost money, so that the
    message says what happened to it. ``kind``: video, image or text, which changes what some statuses mean.
    ``retryable``: the response's own flag, trusted for texts only. ``limit_source``: which limit a 402 speaks of, or
    None. ``is_api_form``: whether the body is the API's own JSON error; a gateway's page, whatever its status, knows
    nothing of the job behind it, so it never proves that a paid request started nothing.
    """

    def __init__(
        self,
        status_code: int,
        detail: str = "",
        *,
        error_type: str | None = None,
        retry_after_s: float | None = None,
        request: str = "",
        paid: bool = True,
        kind: Kind = "video",
        retryable: bool | None = None,
        limit_source: str | None = None,
        is_api_form: bool = True,
    ) -> None:
        rule = status_rule(status_code)
        self.status_code = status_code
        self.detail = redact(detail)
        self.error_type = error_type
        self.retry_after_s = retry_after_s
        self.request = request
        self.limit_source = limit_source
        is_clear = is_api_form or not paid
        self.nothing_started = is_clear and (rule.refused or status_code in NOT_STARTED[kind])
        self.temporary = rule.temporary or self.is_in_flight_budget
        if kind == "text" and retryable is not None:  # documented for the text API only
            self.temporary = retryable
            self.nothing_started = self.nothing_started or retryable
        where = f" to {redact(request)}" if request else ""
        title = f"{rule.title}: " if rule.title and not self.is_in_flight_budget else ""
        what = f"{title}OpenRouter answered {status_code}{where}" + (f": {self.detail}" if self.detail else "")
        # The provider's own words may already end a sentence.
        end = "" if what.endswith((".", "!", "?")) else "."
        known = "nothing was started or charged" if paid else ""
        what_to_do = "it goes on when running jobs have ended" if self.is_in_flight_budget else rule.advice
        free = "retrying is free" if self.temporary and not paid else ""
        text = "; ".join(part for part in (known, what_to_do, free) if part)
        advice = f"{text[:1].upper()}{text[1:]}." if text else ""
        super().__init__(f"{what}{end} {UNKNOWN_ADVICE if paid and not self.nothing_started else advice}".rstrip())

    @property
    def is_in_flight_budget(self) -> bool:
        """Whether the account has too much money in flight: running jobs free it, so waiting is enough."""
        return self.status_code == 402 and self.limit_source == IN_FLIGHT_BUDGET


class BadRequestError(APIError):
    """The request was refused as it is."""


class AuthenticationError(APIError):
    """The key was refused."""


class PaymentRequiredError(APIError):
    """No credit or limit is left."""


class PermissionDeniedError(APIError):
    """The request is not allowed."""

    @property
    def budget_spent(self) -> bool:
        """Whether a spent budget is the reason, which refuses every later submit as well."""
        return self.error_type == "payment_required" or _BUDGET.search(self.detail) is not None


class NotFoundError(APIError):
    """The job or model does not exist for this account."""


class ConflictError(APIError):
    """The content is not ready."""

    @property
    def may_resend(self) -> bool:
        """False: 409 is undocumented for paid requests, and only a clear "not now" (429, 503) permits a second try."""
        return False


class GoneError(APIError):
    """The output was deleted."""


class RateLimitError(APIError):
    """Too many requests."""


class ServiceUnavailableError(APIError):
    """No provider is available."""


class RequestTimeoutError(APIError):
    """Somebody on the way gave up waiting for the response."""


class ServerError(APIError):
    """OpenRouter or the provider behind it failed."""


class UnexpectedStatusError(APIError):
    """A redirect, or a status that the API does not document."""


@dataclass(frozen=True, slots=True)
class StatusRule:
    """What an HTTP status means. ``refused``: it is certain that no video was started; ``advice``: what to do;
    ``title``: how its message begins."""

    error: type[APIError]
    meaning: str  # shown in docs/sdk.md
    advice: str = ""
    refused: bool = True
    temporary: bool = False
    title: str = ""


def _unknown(error: type[APIError], meaning: str, title: str = "") -> StatusRule:
    return StatusRule(error, meaning, refused=False, temporary=True, title=title)


_FIX = "correct the request"
_LATER = "try again later"
STATUS_RULES: Mapping[int, StatusRule] = {
    400: StatusRule(
        BadRequestError,
        "a parameter the model does not support, a policy, or an input that could not be fetched",
        _FIX,
        title="Bad request",
    ),
    401: StatusRule(
        AuthenticationError,
        "the API key is missing, wrong or disabled",
        "check OPENROUTER_API_KEY",
        title="Invalid API key",
    ),
    402: StatusRule(
        PaymentRequiredError,
        "the account's credit or the key's limit is used up",
        "add credits or raise the key's limit, then run again",
        title="Insufficient credits or key limit",
    ),
    403: StatusRule(
        PermissionDeniedError,
        "guardrail, moderation, a spent budget, a region, or a missing right",
        "change the prompt, the key's rights or its budget",
    ),
    404: StatusRule(
        NotFoundError,
        "no such job or model, or no endpoint serves it",
        "check the model or job id (a job is visible only to the account that created it)",
    ),
    408: _unknown(RequestTimeoutError, "the request took too long; it may have been accepted"),
    409: StatusRule(ConflictError, "the content is not ready", "try again in a moment", temporary=True),
    410: StatusRule(GoneError, "the output is no longer available", "the provider no longer has this output"),
    413: StatusRule(
        BadRequestError, "the request body is too large", "use smaller reference files, or https URLs for them"
    ),
    422: StatusRule(BadRequestError, "the request is valid JSON but has invalid values", _FIX),
    429: StatusRule(
        RateLimitError,
        "too many requests, or every provider is at capacity",
        _LATER,
        temporary=True,
        title="Rate limited",
    ),
    499: _unknown(RequestTimeoutError, "the connection was closed before the response; it may have been accepted"),
    500: _unknown(ServerError, "the server failed, before or after starting the job", "OpenRouter server error"),
    502: _unknown(ServerError, "the provider behind OpenRouter failed, before or after starting the job"),
    503: StatusRule(ServiceUnavailableError, "no provider is available", _LATER, temporary=True),
    504: _unknown(RequestTimeoutError, "a gateway timed out; the request may have been accepted"),
    524: _unknown(RequestTimeoutError, "the edge timed out; the request may have been accepted"),
    529: _unknown(ServerError, "the provider is overloaded; not declared for videos, so unknown there"),
}
OTHER_4XX = StatusRule(BadRequestError, "the request was refused", _FIX)
OTHER_STATUS = _unknown(UnexpectedStatusError, "a redirect or an undocumented status, which promises nothing")


def status_rule(status_code: int) -> StatusRule:
    """The rule for an HTTP status: an undocumented 4xx is a refusal, any other undocumented status promises nothing."""
    return STATUS_RULES.get(status_code) or (OTHER_4XX if 400 <= status_code < 500 else OTHER_STATUS)


class InvalidResponseError(OpenRouterError):
    """A successful response that cannot be used: not JSON, truncated, no id, or an error object inside a 200.

    ``detail`` is the redacted beginning of the body: after a submit, the place to look for the id. ``advice``: the
    second sentence of the message.
    """

    nothing_started = False
    temporary = True

    def __init__(self, message: str, *, status_code: int | None = None, detail: str = "", advice: str = "") -> None:
        self.status_code = status_code
        self.detail = redact(detail)
        text = f"{message}: {self.detail}" if self.detail else message
        super().__init__(f"{text.rstrip('.')}. {advice}".rstrip())


class DownloadError(OpenRouterError):
    """The content did not arrive as announced. Downloading again is free; ``path`` names the partial file."""

    temporary = True

    def __init__(self, message: str, *, path: Path | None = None) -> None:
        self.path = path
        super().__init__(message)


class JobTimeoutError(OpenRouterError, TimeoutError):
    """We stopped waiting for a job that continues at the provider.

    ``job_id``: pass it to ``provider.wait(job_id)`` to keep waiting. ``last_status``: the status of the last poll.
    ``waited_s``: seconds.
    """

    nothing_started = False

    def __init__(self, job_id: str, last_status: str, waited_s: float) -> None:
        self.job_id = job_id
        self.last_status = last_status
        self.waited_s = waited_s
        super().__init__(
            f"Waiting for job {job_id} timed out after {waited_s:g} s; it was still {redact(last_status)}. The job is "
            f"paid for: keep waiting with provider.wait({job_id!r}), do not submit it again."
        )
