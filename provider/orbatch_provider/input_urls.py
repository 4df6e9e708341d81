"""Whether the https inputs of requests can be fetched: their headers, asked for without any key."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import aiohttp
import httpx

from orbatch_provider.errors import redact
from orbatch_provider.http.connections import Connections
from orbatch_provider.inputs import InputError, https_url

AT_ONCE = 8  # requests
TIMEOUT_S = 20.0  # for the headers of one answer
MAX_REDIRECTS = 3

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NO_HEAD = frozenset({400, 403, 404, 405, 501})  # what servers say that know only GET, or signed URLs for GET alone
# What file stores call everything; what it really is shows only in the content.
_UNSAID = frozenset({"application/octet-stream", "binary/octet-stream", ""})


@dataclass(frozen=True, slots=True)
class Link:
    """What was found behind a URL. ``name``: it without its query, which may be a signature. ``size`` in bytes, None
    where nothing is said. ``problem``: why it cannot be an input, None when it can."""

    url: str
    name: str
    mime_type: str = ""
    size: int | None = None
    problem: str | None = None


async def check_links(urls: Mapping[str, str], *, at_once: int = AT_ONCE) -> list[Link]:
    """Look behind each URL, in the order given. ``urls``: to what each is to be, image, video or audio. Never raises
    for what is behind one of them."""
    slots = asyncio.Semaphore(at_once)
    async with httpx.AsyncClient(
        transport=Connections(reuse=True),
        trust_env=False,
        follow_redirects=False,
        headers={"User-Agent": "orbatch", "Accept": "*/*", "Accept-Encoding": "identity"},
        timeout=TIMEOUT_S,
    ) as client:

        async def check(url: str, kind: str) -> Link:
            async with slots:
                return await _look_behind(client, url, kind)

        return list(await asyncio.gather(*(check(url, kind) for url, kind in urls.items())))


async def _look_behind(client: httpx.AsyncClient, url: str, kind: str) -> Link:
    link = Link(url, redact(f"https://{urlsplit(url).hostname}{urlsplit(url).path}"))
    try:
        answer = await _headers(client, url)
    except InputError as exc:
        return _with_problem(link, str(exc))
    except (aiohttp.ClientError, httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as exc:
        return _with_problem(link, f"cannot be reached ({redact(f'{type(exc).__name__}: {exc}')})")
    if answer.status_code not in (200, 206):
        return _with_problem(link, f"answers {answer.status_code}; it must work without a login")
    mime_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_media = mime_type in _UNSAID or mime_type.startswith(f"{kind}/")
    problem = None if is_media else f"is {mime_type or 'of no type'}, and {_article(kind)} was expected"
    return Link(url, link.name, mime_type, _size(answer), problem)


async def _headers(client: httpx.AsyncClient, url: str) -> httpx.Response:
    """The last answer behind the redirects, without its body. Raises InputError for one that leads astray."""
    for _ in range(MAX_REDIRECTS + 1):
        answer = await _ask(client, "HEAD", url)
        if answer.status_code in _NO_HEAD:
            answer = await _ask(client, "GET", url)
        if answer.status_code not in _REDIRECTS or "location" not in answer.headers:
            return answer
        url = https_url(urljoin(url, answer.headers["location"]))
    raise InputError(f"is redirected more than {MAX_REDIRECTS} times")


async def _ask(client: httpx.AsyncClient, method: str, url: str) -> httpx.Response:
    headers = {"Range": "bytes=0-0"} if method == "GET" else {}
    async with client.stream(method, url, headers=headers) as answer:
        return answer


def _with_problem(link: Link, problem: str) -> Link:
    return Link(link.url, link.name, problem=problem)


def _size(answer: httpx.Response) -> int | None:
    total = answer.headers.get("content-range", "").rpartition("/")[2] or answer.headers.get("content-length", "")
    return int(total) if total.isascii() and total.isdigit() else None


def _article(kind: str) -> str:
    return {"image": "an image", "audio": "a sound"}.get(kind, f"a {kind}")
