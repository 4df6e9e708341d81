"""Requests to the API: two kinds of connection, the key bound to its origin, and no failure without its meaning."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Protocol
from urllib.parse import urlencode

import httpx

from orbatch_provider.errors import (
    FREE_ADVICE,
    UNKNOWN_ADVICE,
    ConfigurationError,
    Kind,
    NotSentError,
    OpenRouterError,
    OutcomeUnknownError,
    redact,
)
from orbatch_provider.http.connections import (
    NEVER_SENT,
    SECRET_QUERY,
    AiohttpTransport,
    forget_frames,
    proxy_for,
    tls_context,
)
from orbatch_provider.http.credentials import ApiKey, origin_of
from orbatch_provider.http.decode import ApiResponse
from orbatch_provider.http.encoding import ACCEPTED, decoded

BODY_LIMIT = 8 * 1024 * 1024  # bytes of a JSON response, decoded
STREAMED_LIMIT = 1024 * 1024 * 1024  # bytes of a response that goes to disk as it comes
ERROR_BODY_LIMIT = 64 * 1024  # bytes of an error response, of which a message repeats a part
CATEGORY_LIMIT = 2  # per request, by the API
READS_AT_ONCE = 128  # connections for polls and other reads; the others wait, without a timeout

# Submits have one URL, and the polls of a job too; parsing it twice takes a fifth of a poll's time.
_parsed_url = lru_cache(maxsize=1024)(httpx.URL)
_origin = lru_cache(maxsize=1024)(origin_of)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. ``connect_s``: name lookup, connect and TLS. ``submit_s``: a paid request, once connected, until its
    whole response is here. ``read_s``: the same for a free one, and the longest silence within a download."""

    connect_s: float = 20.0
    submit_s: float = 600.0
    read_s: float = 60.0


class Sink(Protocol):
    """Where the body of a successful response goes piece by piece, as io.BytesIO does. It never raises: a local problem
    must not end a response that is paid for."""

    def write(self, piece: bytes, /) -> object:
        """Take the next piece."""

    def getvalue(self) -> bytes:
        """What is kept in memory for the JSON decoder."""


class Content:
    """A response whose body is still to come; ``headers`` have names in lower case."""

    def __init__(
        self, response: httpx.Response, key: ApiKey, as_error: Callable[[BaseException], OpenRouterError]
    ) -> None:
        self._response = response
        self._key = key
        self._as_error = as_error
        self.status = response.status_code
        self.headers = _plain(response.headers, key)
        self.hide = key.hide_bytes  # for what a message repeats of the body

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The bytes in pieces. Raises OutcomeUnknownError when the rest does not come."""
        # Refused where it is compressed all the same: then offsets and lengths mean something else.
        pieces = _pieces(self._response, (), None)
        while True:
            try:
                chunk = await anext(pieces, None)
            except Exception as exc:  # noqa: BLE001 - whatever broke it, the response is not complete
                forget_frames(exc)
                failure = self._as_error(exc)
                break
            if chunk is None:
                return
            yield chunk
        try:
            raise failure  # outside the handler, so that the exception, which holds the request, is not its context
        finally:
            del failure  # it holds this frame, which would hold it and the body

    async def beginning(self, request: str) -> ApiResponse:
        """The first bytes of the body, for an error message; ``request`` as ``GET /videos``."""
        body = bytearray()
        async with aclosing(self.chunks()) as chunks:
            with suppress(OpenRouterError):
                async for chunk in chunks:
                    body += chunk
                    if len(body) > ERROR_BODY_LIMIT:
                        break
        return ApiResponse(self.status, self.headers, self._key.hide_bytes(bytes(body)), request)


class Transport:
    """The HTTP side of the provider. ``base_url``: without a slash at the end, already checked. ``transport`` replaces
    the network, in tests. Raises ConfigurationError for an unusable proxy."""

    def __init__(
        self,
        base_url: str,
        key: ApiKey,
        headers: Mapping[str, str],
        timeouts: Timeouts,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.base_url = base_url
        self.origin = origin_of(base_url) or ""
        url = httpx.URL(base_url)
        proxy_for(url.scheme, url.host)  # raises
        if url.scheme == "https" and transport is None:
            tls_context()  # raises
        self._key = key
        self._timeouts = timeouts
        # Built once: a request copies them, which is much cheaper than encoding them for every poll.
        # Without Accept-Encoding, aiohttp would ask for whatever happens to be installed.
        public = {"User-Agent": "orbatch", "Accept": "application/json", "Accept-Encoding": ", ".join(ACCEPTED)}
        # The headers name the calling app, to those who get the key.
        self._headers = {True: {**public, **headers}, False: public}
        self._read_headers = {keyed: httpx.Headers(given) for keyed, given in self._headers.items()}
        self._submits = _Client(transport or AiohttpTransport(reuse=False))
        self._reads = _Client(transport or AiohttpTransport(reuse=True))
        # A semaphore belongs to the loop in which somebody waited for it first.
        self._read_slots: tuple[asyncio.AbstractEventLoop, asyncio.Semaphore] | None = None

    async def submit(self, path: str, body: bytes, *, kind: Kind = "video", sink: Sink | None = None) -> ApiResponse:
        """POST ``body`` (JSON) to ``path``: paid, on a connection of its own, sent exactly once.

        ``sink`` takes a successful response as it comes; then the body of the ApiResponse is the sink's value.
        Raises NotSentError when it certainly never left, OutcomeUnknownError when it may have.
        """
        headers = {**self._headers[True], "Content-Type": "application/json", "Connection": "close"}
        wait_s = self._timeouts.submit_s
        request = self._request("POST", self.base_url + path, headers, wait_s, body)
        return await self._exchange(self._submits, request, path, wait_s, paid=True, kind=kind, sink=sink)

    async def read(self, path: str, *, query: Mapping[str, str] | None = None, keyed: bool = True) -> ApiResponse:
        """GET ``path``: free, on a pooled connection. ``keyed=False`` sends neither key nor attribution."""
        url = f"{self.base_url}{path}" + (f"?{urlencode(query)}" if query else "")
        return await self._read(
            self._request("GET", url, self._read_headers[keyed], self._timeouts.read_s), path, keyed
        )

    async def ask(self, path: str, body: bytes) -> ApiResponse:
        """POST a question (JSON) to ``path``: free, like a read."""
        headers = {**self._headers[True], "Content-Type": "application/json"}
        request = self._request("POST", self.base_url + path, headers, self._timeouts.read_s, body)
        return await self._read(request, path, keyed=True)

    async def _read(self, request: httpx.Request, path: str, keyed: bool) -> ApiResponse:
        async with self._slots():
            return await self._exchange(self._reads, request, path, self._timeouts.read_s, paid=False, keyed=keyed)

    @asynccontextmanager
    async def stream(self, url: str, headers: Mapping[str, str], *, keyed: bool) -> AsyncIterator[Content]:
        """GET ``url`` with its body to come. Only with ``keyed`` does it carry the key, and only to its origin.

        The query of a foreign URL is a signature, and stays out of logs and messages.
        """
        target, _, query = url.partition("?")
        headers = {**self._headers[keyed], "Accept-Encoding": "identity", **headers}
        request = self._request("GET", url if keyed else target, headers, self._timeouts.read_s)
        if not keyed:
            request.extensions[SECRET_QUERY] = query.partition("#")[0].encode()

        def as_error(exc: BaseException) -> OpenRouterError:
            return self._error(exc, f"GET {request.url.path}", request.url.host, paid=False)

        failure: OpenRouterError | None = None
        try:
            response = await self._send(self._reads, request, keyed=keyed)
        except OpenRouterError:
            raise  # nothing was sent
        except Exception as exc:  # noqa: BLE001 - no error is known to be harmless once the request may have left
            forget_frames(exc)
            failure = as_error(exc)
        if failure is not None:
            raise failure
        try:
            yield Content(response, self._key, as_error)
        finally:
            await _close(response)

    async def aclose(self) -> None:
        """Close all connections; later requests raise ConfigurationError."""
        await self._submits.aclose()
        await self._reads.aclose()

    def _request(
        self, method: str, url: str, headers: Mapping[str, str], read_s: float, content: bytes | None = None
    ) -> httpx.Request:
        """Built here and not by the client, which would merge cookies, parameters and defaults that no request has."""
        extensions = {"timeout": {"connect": self._timeouts.connect_s, "read": read_s}}
        return httpx.Request(method, _parsed_url(url), headers=headers, content=content, extensions=extensions)

    async def _exchange(
        self,
        client: httpx.AsyncClient,
        request: httpx.Request,
        path: str,
        wait_s: float,
        *,
        paid: bool,
        keyed: bool = True,
        kind: Kind = "video",
        sink: Sink | None = None,
    ) -> ApiResponse:
        """Send, and read the whole response. Once a status is known, it counts even if the body is cut off."""
        name = f"{request.method} {path}"
        response: httpx.Response | None = None
        failure: OpenRouterError | None = None
        body: Sink = BytesIO()
        try:
            async with asyncio.timeout(self._timeouts.connect_s + wait_s):
                response = await self._send(client, request, keyed=keyed)
                if sink is not None and response.is_success:
                    body = sink
                await _collect(response, body, BODY_LIMIT if sink is None else STREAMED_LIMIT)
        except OpenRouterError:
            raise
        except Exception as exc:  # noqa: BLE001 - no error is known to be harmless once the request may have left
            forget_frames(exc)
            failure = self._error(exc, name, request.url.host, paid=paid, received=body.getvalue())
        finally:
            if response is not None:
                await _close(response)
        if response is None:
            assert failure is not None
            try:
                raise failure
            finally:
                del failure  # it holds this frame, which would hold it and the request
        # Nobody reads a success that was cut off; its failure, once raised, would keep the body in a cycle.
        content = b"" if failure and response.is_success else self._key.hide_bytes(body.getvalue())
        headers = _plain(response.headers, self._key)
        return ApiResponse(response.status_code, headers, content, name, paid, failure, kind)

    async def _send(self, client: httpx.AsyncClient, request: httpx.Request, *, keyed: bool) -> httpx.Response:
        """The key is added at the last moment, and to requests for its own origin only."""
        if client.is_closed:
            raise ConfigurationError("The provider is closed. Nothing was sent; create a new one.")
        if keyed:
            if self._key.problem is not None:
                raise ConfigurationError(self._key.problem)
            if _origin(str(request.url)) != self.origin:
                raise ConfigurationError(f"The key belongs to {self.origin} and is not sent to {request.url.host}.")
            request.headers["Authorization"] = f"Bearer {self._key.reveal()}"
        return await client.send(request, stream=True)

    def _slots(self) -> asyncio.Semaphore:
        loop = asyncio.get_running_loop()
        if self._read_slots is None or self._read_slots[0] is not loop:
            self._read_slots = (loop, asyncio.Semaphore(READS_AT_ONCE))
        return self._read_slots[1]

    def _error(
        self, exc: BaseException, request: str, host: str, *, paid: bool, received: bytes = b""
    ) -> OpenRouterError:
        """The error that a failed exchange means, made of text only: the exception itself holds the request."""
        why = redact(self._key.hide(f"{type(exc).__name__}: {exc}".rstrip(": ")))
        if isinstance(exc, NEVER_SENT):
            return NotSentError(
                f"Could not connect to {host} for {request} ({why}). Nothing was sent or charged; check the network, "
                "the host name and the proxy settings."
            )
        body = redact(self._key.hide_bytes(received).decode("utf-8", "replace")) if paid else ""
        why += f"; received: {body}" if body else ""
        advice = UNKNOWN_ADVICE if paid else FREE_ADVICE
        return OutcomeUnknownError(f"The connection to {host} broke or timed out during {request} ({why}). {advice}")


def attribution_headers(referer: str | None, title: str | None, categories: Sequence[str]) -> dict[str, str]:
    """The headers that name the calling app; only the API receives them. Raises ConfigurationError for bad ones."""
    if len(categories) > CATEGORY_LIMIT:
        raise ConfigurationError(f"At most {CATEGORY_LIMIT} categories are allowed, found {len(categories)}.")
    headers = {"HTTP-Referer": referer, "X-OpenRouter-Title": title, "X-OpenRouter-Categories": ",".join(categories)}
    given = {name: value for name, value in headers.items() if value}
    for name, value in given.items():
        if not value.isascii() or not value.isprintable():
            raise ConfigurationError(f"{name} must be printable ASCII, found {value!r}.")
    return given


class _NoCookies(httpx.Cookies):
    def extract_cookies(self, response: httpx.Response) -> None:
        """Keep none: a server could put the key it was sent into one, and parsing them costs every poll."""


class _Client(httpx.AsyncClient):
    cookies = _NoCookies()  # type: ignore[override]  # never set, since none is ever kept

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        super().__init__(transport=transport, trust_env=False, follow_redirects=False)


async def _collect(response: httpx.Response, body: Sink, limit: int) -> None:
    limit = limit if response.is_success else ERROR_BODY_LIMIT
    size = 0
    async with aclosing(_pieces(response, ACCEPTED, limit)) as pieces:
        async for piece in pieces:
            if size + len(piece) > limit:
                if not response.is_success:
                    body.write(piece[: limit - size])
                    return
                raise ValueError(f"the response is longer than {limit // (1024 * 1024)} MB")
            body.write(piece)
            size += len(piece)


def _pieces(response: httpx.Response, accepted: Sequence[str], limit: int | None) -> AsyncGenerator[bytes]:
    """The body without its encoding. Not by httpx, which decodes any number of layers, and each piece as a whole."""
    assert isinstance(response.stream, AsyncIterable)
    encodings = response.headers.get_list("content-encoding", split_commas=True)
    return decoded(response.stream, encodings, accepted, limit)


async def _close(response: httpx.Response) -> None:
    with suppress(Exception):  # the response is here, or its failure is known
        await response.aclose()


def _plain(headers: httpx.Headers, key: ApiKey) -> dict[str, str]:
    return {name.decode("latin-1").lower(): key.hide(value.decode("utf-8", "replace")) for name, value in headers.raw}
