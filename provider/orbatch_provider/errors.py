"""Everything that can go wrong with the provider, and what it means for the user's money.

    OpenRouterError
    ├── ConfigurationError            no key, or a base URL that must not receive one; nothing was sent
    ├── NotSentError                  name lookup, connect or TLS failed: the request never left
    ├── OutcomeUnknownError           cut off or timed out after the request may have left
    ├── APIError                      an HTTP answer that is an error
    │   ├── BadRequestError           400    ├── AuthenticationError      401
    │   ├── PaymentRequiredError      402    ├── PermissionDeniedError    403
    │   ├── NotFoundError             404    ├── RequestTimeoutError      408
    │   ├── ConflictError             409    ├── GoneError                410
    │   ├── PayloadTooLargeError      413    ├── UnprocessableError       422
    │   ├── RateLimitError            429    ├── ClientClosedError        499
    │   ├── ServerError               500    ├── BadGatewayError          502
    │   ├── ServiceUnavailableError   503    ├── GatewayTimeoutError      504
    │   ├── EdgeTimeoutError          524    ├── OverloadedError          529
    │   ├── ClientStatusError         any other 4xx
    │   └── UnexpectedStatusError     any other status
    ├── InvalidResponseError          a 2xx answer that cannot be read
    ├── UnusableResultError           a 2xx answer that is all there, and holds no usable picture or text
    ├── DownloadError                 the content arrived wrong: truncated, not a video, an error page
    ├── JobEndedError                 the job ended without a result: failed, cancelled or expired
    └── JobTimeoutError               we stopped waiting; the job goes on and is paid for

Two questions decide what may be done after an error, and every class answers both:

- ``nothing_started``: after a *submit* ended with this error, is it certain that no job was started?
  Where it is not, the job may exist and be billed, and the request must never be sent again by itself.
- ``temporary``: may the same request succeed later, unchanged? A submit may be sent again only when
  both are true; a read (poll, content, key, generation) costs nothing and may be repeated whenever
  this one is.

Both are attributes of the error at hand, because the same status means different things for different
kinds of request. The class says what it means for a video; ``NOT_STARTED`` and the answer's own word differ:

- An image is billed whole or not at all, and 502 is how the service says that it failed: nothing was
  started. 500, 504, 524 and a cut connection promise nothing, as for a video.
- A text request that ends with 500, 502, 504 or 524 is uncertain, unless the answer says otherwise:
  ``error.availability.retryable`` is documented for the text APIs and counts more than the status.
- 529, the provider is overloaded, refuses images and texts; for a video it is not declared.

Source of the table: OpenRouter's error documentation, and the rule that no paid request has an idempotency
key: a status that does not clearly refuse the request leaves its outcome unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from orbatch_provider.responses import Usage, VideoJob

Kind = Literal["video", "image", "text"]

# Statuses that are a clear refusal for this kind of request, whatever their class says.
NOT_STARTED: Mapping[Kind, frozenset[int]] = {
    "video": frozenset(),
    "image": frozenset({502, 529}),
    "text": frozenset({529}),
}

MESSAGE_LIMIT = 300  # characters of a provider's text that an error repeats
_EXAMINED_LIMIT = 64 * MESSAGE_LIMIT  # characters looked at, so that a huge body costs nothing

_KEY = re.compile(r"sk-or-[A-Za-z0-9_-]{4,}")
_BEARER = re.compile(r"(?i)bearer\s+[^\s\"']+")
_LOGIN = re.compile(r"(?<=://)[^\s/@\"'<>?]+:[^\s/@\"'<>?]*@")
_SIGNED_QUERY = re.compile(r"(https?://[^\s\"'<>?]+)\?[^\s\"'<>]+")


def redact(text: str) -> str:
    """``text`` without API keys, bearer tokens, and the login and the query of any URL (signed URLs are secrets), on
    one line, control characters removed, at most MESSAGE_LIMIT characters."""
    text = _LOGIN.sub("[redacted]@", text[:_EXAMINED_LIMIT])
    text = _SIGNED_QUERY.sub(r"\1?[redacted]", _BEARER.sub("Bearer [redacted]", _KEY.sub("[redacted key]", text)))
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= MESSAGE_LIMIT else text[: MESSAGE_LIMIT - 1] + "…"


class OpenRouterError(Exception):
    """Base of all errors of this package. ``str(error)`` is a sentence a user can act on."""

    nothing_started: bool = True
    temporary: bool = False

    @property
    def may_resend(self) -> bool:
        """Whether a paid request that ended so may be sent again: nothing was started, and it may succeed later."""
        return self.nothing_started and self.temporary


class ConfigurationError(OpenRouterError):
    """The call cannot be made: no usable API key, an origin that must not receive one, or a value that cannot be
    written into a request. Nothing was sent."""


class NotSentError(OpenRouterError):
    """The connection could not be made (name lookup, connect, TLS), so the request never left this machine."""

    temporary = True


class OutcomeUnknownError(OpenRouterError):
    """The connection broke or timed out after the request may have left: it may have been accepted."""

    nothing_started = False
    temporary = True


UNKNOWN_ADVICE = (
    "it may be billed, so it is not sent again by itself; look for it at https://openrouter.ai/activity before you do."
)


class APIError(OpenRouterError):
    """The API answered with an error status.

    ``status_code``: HTTP status. ``detail``: the provider's own words, redacted. ``error_type``:
    ``error.metadata.error_type`` or None. ``retry_after_s``: seconds to wait, from the header in either
    form, or None. ``request``: what was asked, as ``POST /videos``. ``paid``: whether that request could start
    something that costs money, so that the message says what became of the money. ``kind``: of what, which
    changes what some statuses mean. ``retryable``: the answer's own word on that, believed for texts alone.
    """

    advice: ClassVar[str] = ""

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
    ) -> None:
        self.status_code = status_code
        self.detail = redact(detail)
        self.error_type = error_type
        self.retry_after_s = retry_after_s
        self.request = request
        if status_code in NOT_STARTED[kind]:
            self.nothing_started = True
        if kind == "text" and retryable is not None:
            self.temporary = retryable
            self.nothing_started = self.nothing_started or retryable
        said = f": {self.detail}" if self.detail else ""
        where = f" to {redact(request)}" if request else ""
        end = "" if said.endswith((".", "!", "?")) else "."
        super().__init__(f"OpenRouter answered {status_code}{where}{said}{end} {self._what_to_do(paid)}".rstrip())

    def _what_to_do(self, paid: bool) -> str:
        if paid and not self.nothing_started:
            return f"Whether a job was started is unknown: {UNKNOWN_ADVICE}"
        known = "nothing was started or charged" if paid else ""
        free = "asking again costs nothing" if self.temporary and not paid else ""
        text = "; ".join(part for part in (known, self.advice, free) if part)
        return f"{text[:1].upper()}{text[1:]}." if text else ""


class BadRequestError(APIError):
    """400: a parameter the model does not support, a policy, or a reference that could not be fetched."""

    advice = "correct the request"


class AuthenticationError(APIError):
    """401: the key is missing, wrong or disabled."""

    advice = "check OPENROUTER_API_KEY"


class PaymentRequiredError(APIError):
    """402: credits or the key's limit are exhausted."""

    advice = "add credits or raise the key's limit, then run again"


class PermissionDeniedError(APIError):
    """403: guardrail, moderation, a spent budget, a region, or a missing right."""

    advice = "change the prompt, the key's rights or its budget"

    @property
    def budget_spent(self) -> bool:
        """Whether the refusal is about a spent budget, which refuses every later submit as well."""
        return (
            self.error_type == "payment_required"
            or re.search(r"(?i)\bbudget\b|spend(ing)? limit", self.detail) is not None
        )


class NotFoundError(APIError):
    """404: no such job or model, or no endpoint is left for it."""

    advice = "check the model or job id (a job is visible only to the account that created it)"


class RequestTimeoutError(APIError):
    """408: the request took too long; it may have been accepted all the same."""

    nothing_started = False
    temporary = True


class ConflictError(APIError):
    """409: the content is not ready yet."""

    advice = "try again in a moment"
    temporary = True

    @property
    def may_resend(self) -> bool:
        """False: it is undocumented for paid requests, and only a clear "not now" (429, 503) lets one go again."""
        return False


class GoneError(APIError):
    """410: the output is no longer available."""

    advice = "the provider no longer has this output"


class PayloadTooLargeError(APIError):
    """413: the request body is too large."""

    advice = "use smaller reference files, or https URLs for them"


class UnprocessableError(APIError):
    """422: the request is well-formed and makes no sense."""

    advice = "correct the request"


class RateLimitError(APIError):
    """429: too many requests, or every provider is at capacity. Nothing was started."""

    advice = "try again later"
    temporary = True


class ClientClosedError(APIError):
    """499: the connection was closed from our side before the answer; it may have been accepted."""

    nothing_started = False
    temporary = True


class ServerError(APIError):
    """500: the server failed, before or after starting the job."""

    nothing_started = False
    temporary = True


class BadGatewayError(APIError):
    """502: the provider behind OpenRouter failed, before or after starting the job."""

    nothing_started = False
    temporary = True


class ServiceUnavailableError(APIError):
    """503: no provider is available. Nothing was started."""

    advice = "try again later"
    temporary = True


class GatewayTimeoutError(APIError):
    """504: a gateway gave up waiting; the request may have been accepted."""

    nothing_started = False
    temporary = True


class EdgeTimeoutError(APIError):
    """524: the edge gave up waiting; the request may have been accepted."""

    nothing_started = False
    temporary = True


class OverloadedError(APIError):
    """529: the provider is overloaded. Not declared for ``POST /videos``, so held as unknown there."""

    nothing_started = False
    temporary = True


class ClientStatusError(APIError):
    """A 4xx status without a class of its own: the request was refused."""

    advice = "correct the request"


class UnexpectedStatusError(APIError):
    """A status that the API does not document (a redirect, an unknown 5xx): no promise can be read from it."""

    nothing_started = False
    temporary = True


ERROR_BY_STATUS: dict[int, type[APIError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: PaymentRequiredError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: RequestTimeoutError,
    409: ConflictError,
    410: GoneError,
    413: PayloadTooLargeError,
    422: UnprocessableError,
    429: RateLimitError,
    499: ClientClosedError,
    500: ServerError,
    502: BadGatewayError,
    503: ServiceUnavailableError,
    504: GatewayTimeoutError,
    524: EdgeTimeoutError,
    529: OverloadedError,
}


def error_class(status_code: int) -> type[APIError]:
    """The class for an HTTP status; an unknown 4xx is a refusal, anything else promises nothing."""
    known = ERROR_BY_STATUS.get(status_code)
    if known is not None:
        return known
    return ClientStatusError if 400 <= status_code < 500 else UnexpectedStatusError


class InvalidResponseError(OpenRouterError):
    """A successful answer that cannot be used: not JSON, truncated, no id, or an error object inside a 200.

    ``detail`` is the redacted beginning of what came: after a submit, the place to look for the id.
    """

    nothing_started = False
    temporary = True

    def __init__(self, message: str, *, status_code: int | None = None, detail: str = "") -> None:
        self.status_code = status_code
        self.detail = redact(detail)
        super().__init__(f"{message}: {self.detail}" if self.detail else message)


class UnusableResultError(OpenRouterError):
    """A paid request was answered in full, and the answer holds no picture or text that can be used or kept.

    The same request may cost as much again, so it is not sent again by itself. ``usage``: what the answer says of the
    charge, None where it says nothing. ``generation_id``: for ``GET /generation``, None where it is not known.
    ``raw``: the answer without its pictures.
    """

    nothing_started = False

    def __init__(
        self,
        message: str,
        *,
        usage: Usage | None = None,
        generation_id: str | None = None,
        raw: Mapping[str, Any] | None = None,
    ) -> None:
        self.usage = usage
        self.generation_id = generation_id
        self.raw = dict(raw or {})
        cost = "the charge is not known" if usage is None or usage.cost is None else f"{usage.cost} USD were charged"
        super().__init__(f"{message} ({cost}).")


class DownloadError(OpenRouterError):
    """The content did not arrive as announced. Downloading again costs nothing; ``path`` names the partial file."""

    temporary = True

    def __init__(self, message: str, *, path: Path | None = None) -> None:
        self.path = path
        super().__init__(message)


class JobEndedError(OpenRouterError):
    """The job ended without a result; it may be billed. ``job`` is the provider's last word on it."""

    nothing_started = False

    def __init__(self, job: VideoJob) -> None:
        self.job = job
        reason = f": {redact(job.error)}" if job.error else ""
        cost = (
            "it reported no charge" if job.usage is None or job.usage.cost is None else f"charged {job.usage.cost} USD"
        )
        super().__init__(f"Job {job.id} ended as {job.status}{reason} ({cost}).")


class JobTimeoutError(OpenRouterError):
    """We stopped waiting for a job that goes on at the provider.

    ``job_id``: pass it to ``provider.wait(job_id)`` to go on waiting. ``last_status``: the last word seen.
    """

    nothing_started = False

    def __init__(self, job_id: str, last_status: str, waited_s: float) -> None:
        self.job_id = job_id
        self.last_status = last_status
        self.waited_s = waited_s
        super().__init__(
            f"Job {job_id} was still {redact(last_status)} after {waited_s:g} s. It goes on at the provider and is "
            f"paid for: do not submit it again, go on waiting with provider.wait({job_id!r})."
        )
