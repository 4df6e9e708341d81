"""Whether the https inputs of requests can be fetched: reads their headers, without any key."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urljoin, urlsplit

import httpx

from orbatch_provider.errors import redact
from orbatch_provider.http.connections import AiohttpTransport
from orbatch_provider.inputs import InputError, https_url

AT_ONCE = 8  # requests
TIMEOUT_S = 20.0  # for the headers of one response
MAX_REDIRECTS = 3

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NO_HEAD = frozenset({400, 403, 404, 405, 501})  # from servers that know only GET, or URLs signed for GET only
# What file stores call everything; the real type shows only in the content.
_UNTYPED = frozenset({"application/octet-stream", "binary/octet-stream", ""})
_EXPECTED = {"image": "an image", "audio": "audio", "video": "a video"}


@dataclass(frozen=True, slots=True)
class UrlCheck:
    """What a URL returns. ``name``: it without its query, which may be a signature. ``size`` in bytes, None where not
    announced. ``problem``: why it cannot be an input, None when it can."""

    url: str
    name: str
    mime_type: str = ""
    size: int | None = None
    problem: str | None = None


async def check_urls(urls: Mapping[str, str], *, at_once: int = AT_ONCE) -> list[UrlCheck]:
    """Check each URL, in the order given. ``urls``: the kind each should be (image, video or audio). A URL that fails
    is a result with a problem, never an error."""
    slots = asyncio.Semaphore(at_once)
    async with httpx.AsyncClient(
        transport=AiohttpTransport(reuse=True),
        trust_env=False,
        follow_redirects=False,
        headers={"User-Agent": "orbatch", "Accept": "*/*", "Accept-Encoding": "identity"},
        timeout=TIMEOUT_S,
    ) as client:

        async def check(url: str, kind: str) -> UrlCheck:
            async with slots:
                return await _check(client, url, kind)

        return list(await asyncio.gather(*(check(url, kind) for url, kind in urls.items())))


async def _check(client: httpx.AsyncClient, url: str, kind: str) -> UrlCheck:
    result = UrlCheck(url, redact(f"https://{urlsplit(url).hostname}{urlsplit(url).path}"))
    try:
        response = await _headers(client, url)
    except InputError as exc:
        return replace(result, problem=str(exc))
    except Exception as exc:  # noqa: BLE001 - whatever goes wrong with this URL, the others are checked
        return replace(result, problem=f"cannot be reached ({redact(f'{type(exc).__name__}: {exc}')})")
    if response.status_code not in (200, 206):
        return replace(result, problem=f"returns {response.status_code}; it must work without a login")
    mime_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_media = mime_type in _UNTYPED or mime_type.startswith(f"{kind}/")
    problem = None if is_media else f"is {mime_type}, expected {_EXPECTED.get(kind, kind)}"
    return replace(result, mime_type=mime_type, size=_size(response), problem=problem)


async def _headers(client: httpx.AsyncClient, url: str) -> httpx.Response:
    """The last response behind the redirects, without its body. Raises InputError for a redirect to plain http."""
    for _ in range(MAX_REDIRECTS + 1):
        response = await _send(client, "HEAD", url)
        if response.status_code in _NO_HEAD:
            response = await _send(client, "GET", url)
        if response.status_code not in _REDIRECTS or "location" not in response.headers:
            return response
        url = https_url(urljoin(url, response.headers["location"]))
    raise InputError(f"is redirected more than {MAX_REDIRECTS} times")


async def _send(client: httpx.AsyncClient, method: str, url: str) -> httpx.Response:
    headers = {"Range": "bytes=0-0"} if method == "GET" else {}
    async with client.stream(method, url, headers=headers) as response:
        return response


def _size(response: httpx.Response) -> int | None:
    total = response.headers.get("content-range", "").rpartition("/")[2] or response.headers.get("content-length", "")
    return int(total) if total.isascii() and total.isdigit() else None
