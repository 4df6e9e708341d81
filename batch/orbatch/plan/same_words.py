"""Jobs that the ledger knows under another form of the same words: a prompt with other line endings or composed
characters, or the URL of an input that was signed again. Such a job keeps its old key, so that it is not bought twice.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from orbatch.batchfile.settings import OBSERVABILITY
from orbatch.ledger import StoredRequest
from orbatch.plan.jobs import Job

# Parameters that a signature consists of, as Amazon, Google, Azure, Cloudflare and CloudFront name them.
_SIGNATURE = re.compile(
    r"(?i)x-(amz|goog)-.*|(signature|expires?|key-pair-id|policy|token|verify|awsaccesskeyid|googleaccessid|hdnea|exp|hmac"
    r"|sig|se|sp|sr|sv|st|spr|skoid|sktid|skt|ske|sks|skv)"
)
# One of these is there in every signed URL; without it, the others may well choose the content.
_SIGNED = re.compile(r"(?i)(x-(amz|goog)-)?signature|sig|token|hdnea|hmac")
_HAS_FORMS = re.compile(r"[\r\n\u0080-\U0010ffff]")
_ENCODE = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=str).encode


def known_jobs(jobs: Iterable[Job], stored: Callable[[], Iterable[StoredRequest]]) -> Iterator[Job]:
    """The same jobs; one that ``stored`` has in another form has the key under which it is there.

    ``stored`` is read only when a job may have another form, and compared only when one is not there as it is.
    """
    requests: list[StoredRequest] | None = None
    keys: set[str] = set()
    forms: dict[str, str] | None = None
    for job in jobs:
        if not _has_forms(job.body):
            yield job
            continue
        if requests is None:
            requests = list(stored())
            keys = {request.key for request in requests}
        if not requests or job.key in keys:
            yield job
            continue
        if forms is None:
            forms = {
                _form(request.kind, request.repeat, request.request): request.key
                for request in requests
                if _has_forms(request.request)
            }
        known = forms.get(_form(job.kind, job.repeat, job.body))
        yield job if known is None else replace(job, key=known)


def _has_forms(body: Mapping[str, Any]) -> bool:
    """Whether a request can be written in another way; one with local images is compared by its key alone, which has
    their content."""
    urls = list(_urls(body))
    if any(not url.startswith("https://") for url in urls):
        return False
    return any("?" in url for url in urls) or any(_HAS_FORMS.search(text) for text in _texts(body))


def _form(kind: str, repeat: int, body: Mapping[str, Any]) -> str:
    paid_for = {name: value for name, value in body.items() if name not in OBSERVABILITY}
    text = _ENCODE([kind, repeat, _plain(paid_for)])
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        text = unicodedata.normalize("NFC", value.replace("\r\n", "\n").replace("\r", "\n"))
        return _unsigned(text) if text.startswith("https://") else text
    if isinstance(value, Mapping):
        return {name: _plain(child) for name, child in value.items()}
    return [_plain(child) for child in value] if isinstance(value, (list, tuple)) else value


def _unsigned(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    given = parse_qsl(parts.query, keep_blank_values=True)
    if not any(_SIGNED.fullmatch(name) for name, _ in given):
        return url
    kept = [(name, value) for name, value in given if not _SIGNATURE.fullmatch(name)]
    return parts._replace(query=urlencode(kept), fragment="").geturl()


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for child in value.values():
            yield from _texts(child)
    elif isinstance(value, (list, tuple)):
        for child in value:
            yield from _texts(child)


def _urls(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, child in value.items():
            if name == "url" and isinstance(child, str):
                yield child
            else:
                yield from _urls(child)
    elif isinstance(value, (list, tuple)):
        for child in value:
            yield from _urls(child)
