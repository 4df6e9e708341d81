"""Requests to the API: three kinds of connection, the key bound to its origin, and no failure without its meaning."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode

import httpx

from orbatch_provider.errors import UNKNOWN_ADVICE, ConfigurationError, Kind, NotSentError, OpenRouterError, redact
from orbatch_provider.http.connections import SECRET_QUERY, Client, check_proxy, failure_class, forget_frames
from orbatch_provider.http.credentials import ApiKey, origin_of
from orbatch_provider.http.decode import Answer

BODY_LIMIT = 64 * 1024 * 1024  # bytes of a JSON answer
STREAMED_LIMIT = 1024 * 1024 * 1024  # bytes of an answer that goes to disk as it comes
ERROR_BODY_LIMIT = 64 * 1024  # bytes of an error's answer, of which a message repeats a part
CATEGORY_LIMIT = 2  # per request, by the API
READS_AT_ONCE = 128  # connections for polls and other reads; the rest wait, without a timeout


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. ``connect_s``: name lookup, connect and TLS. ``submit_s``: a paid request, once connected, until its
    whole answer is here. ``read_s``: the same for a free one, and the longest silence within a download."""

    connect_s: float = 20.0
    submit_s: float = 600.0
    read_s: float = 60.0


class Sink(Protocol):
    """Where the body of a successful answer goes piece by piece; ``kept`` is what of it stays in memory. It never
    raises: what goes wrong on this side must not end an answer that is paid for."""

    def write(self, piece: bytes) -> None: ...

    @property
    def kept(self) -> bytes: ...


class Content:
    """An answer whose body is still to come."""

    def __init__(
        self, response: httpx.Response, fail: Callable[[BaseException], OpenRouterError], hide: ApiKey
    ) -> None:
        self._response = response
        self._fail = fail
        self._key = hide
        self.status = response.status_code
        self.headers = _plain(response.headers, hide)

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The bytes in pieces. Raises OutcomeUnknownError when the rest does not come."""
        failure: OpenRouterError | None = None
        pieces = _pieces(self._response)
        while True:
            try:
                chunk = await anext(pieces, None)
            except Exception as exc:  # noqa: BLE001 - whatever broke it, the answer is not whole
                forget_frames(exc)
                failure = self._fail(exc)
                break
            if chunk is None:
                return
            yield chunk
        raise failure

    async def answer(self, request: str) -> Answer:
        """The beginning of the body, for an error message."""
        body = bytearray()
        async with aclosing(self.chunks()) as chunks:
            with suppress(OpenRouterError):
                async for chunk in chunks:
                    body += chunk
                    if len(body) > ERROR_BODY_LIMIT:
                        break
        return Answer(self.status, self.headers, self._key.hide_bytes(bytes(body)), request)


class Transport:
    """The HTTP side of the provider. ``base_url``: without a slash at the end, already checked. Raises
    ConfigurationError for an unusable proxy."""

    def __init__(self, base_url: str, key: ApiKey, headers: Mapping[str, str], timeouts: Timeouts) -> None:
        self.base_url = base_url
        self.origin = origin_of(base_url) or ""
        check_proxy(base_url)
        self._key = key
        self._timeouts = timeouts
        self._attribution = dict(headers)
        self._submits = _client(reuse=False)
        self._reads = _client(reuse=True)
        self._files = _client(reuse=True)
        self._read_slots = asyncio.Semaphore(READS_AT_ONCE)

    async def submit(self, path: str, body: bytes, *, kind: Kind = "video", sink: Sink | None = None) -> Answer:
        """POST ``body`` (JSON) to ``path``: paid, on a connection of its own, sent exactly once.

        ``sink`` takes a successful answer as it comes; then the body of the Answer is what the sink kept.
        Raises NotSentError when it certainly never left, OutcomeUnknownError when it may have.
        """
        times = self._timeouts
        request = self._submits.request_of(
            "POST",
            self.base_url + path,
            content=body,
            headers={
                **self._attribution,
                "Content-Type": "application/json",
                "Accept": "application/json",
                "Connection": "close",
            },
            timeout={"connect": times.connect_s, "read": times.submit_s},
        )
        total_s = times.connect_s + times.submit_s
        return await self._exchange(self._submits, request, path, total_s, kind=kind, sink=sink)

    async def read(self, path: str, *, query: Mapping[str, str] | None = None, keyed: bool = True) -> Answer:
        """GET ``path``: free, on a pooled connection. ``keyed=False`` sends neither key nor attribution."""
        times = self._timeouts
        request = self._reads.request_of(
            "GET",
            f"{self.base_url}{path}?{urlencode(query)}" if query else self.base_url + path,
            headers={**(self._attribution if keyed else {}), "Accept": "application/json"},
            timeout={"connect": times.connect_s, "read": times.read_s},
        )
        async with self._read_slots:
            return await self._exchange(self._reads, request, path, times.connect_s + times.read_s, keyed=keyed)

    @asynccontextmanager
    async def stream(self, url: str, headers: Mapping[str, str], *, keyed: bool) -> AsyncIterator[Content]:
        """GET ``url`` with its body to come. Only with ``keyed`` does it carry the key, and only to its origin.

        The query of a foreign URL is a signature, and stays out of logs and messages.
        """
        times = self._timeouts
        target, _, query = url.partition("?")
        request = self._files.request_of(
            "GET",
            url if keyed else target,
            headers={**(self._attribution if keyed else {}), **headers, "Accept-Encoding": "identity"},
            timeout={"connect": times.connect_s, "read": times.read_s},
        )
        if not keyed:
            request.extensions[SECRET_QUERY] = query.partition("#")[0].encode()

        def fail(exc: BaseException) -> OpenRouterError:
            return self._failure(exc, f"GET {request.url.path}", request.url.host, paid=False)

        failure: OpenRouterError | None = None
        try:
            response = await self._send(self._files, request, keyed=keyed)
        except OpenRouterError:
            raise
        except Exception as exc:  # noqa: BLE001 - whatever it was, the request may have left
            forget_frames(exc)
            failure = fail(exc)
        if failure is not None:
            raise failure
        try:
            yield Content(response, fail, self._key)
        finally:
            await _close(response)

    async def aclose(self) -> None:
        for client in (self._submits, self._reads, self._files):
            await client.aclose()

    async def _exchange(
        self,
        client: Client,
        request: httpx.Request,
        path: str,
        total_s: float,
        *,
        keyed: bool = True,
        kind: Kind = "video",
        sink: Sink | None = None,
    ) -> Answer:
        """Send, and read the whole answer. Once a status is known, it counts even if the body is cut off."""
        paid = request.method == "POST"
        name = f"{request.method} {path}"
        response: httpx.Response | None = None
        failure: OpenRouterError | None = None
        body: Sink = _Memory()
        try:
            async with asyncio.timeout(total_s):
                response = await self._send(client, request, keyed=keyed)
                if sink is not None and response.is_success:
                    body = sink
                await _collect(response, body, BODY_LIMIT if sink is None else STREAMED_LIMIT)
        except OpenRouterError:
            raise
        except Exception as exc:  # noqa: BLE001 - whatever it was, the request may have left
            forget_frames(exc)
            failure = self._failure(exc, name, request.url.host, paid=paid, came=body.kept)
        finally:
            if response is not None:
                await _close(response)
        if response is None:
            assert failure is not None
            raise failure
        headers = _plain(response.headers, self._key)
        return Answer(response.status_code, headers, self._key.hide_bytes(body.kept), name, paid, failure, kind)

    async def _send(self, client: Client, request: httpx.Request, *, keyed: bool) -> httpx.Response:
        """The key is added at the last moment, and to requests for its own origin only."""
        if keyed:
            if self._key.problem is not None:
                raise ConfigurationError(self._key.problem)
            if origin_of(str(request.url)) != self.origin:
                raise ConfigurationError(f"The key belongs to {self.origin} and is not sent to {request.url.host}.")
            request.headers["Authorization"] = f"Bearer {self._key.reveal()}"
        return await client.exchange(request)

    def _failure(
        self, exc: BaseException, request: str, host: str, *, paid: bool, came: bytes = b""
    ) -> OpenRouterError:
        """The error that a failed exchange means, made of text only: the exception itself holds the request."""
        why = redact(self._key.hide(f"{type(exc).__name__}: {exc}".rstrip(": ")))
        kind = failure_class(exc)
        if kind is NotSentError:
            return NotSentError(
                f"Could not connect to {host} for {request} ({why}). Nothing was sent or charged; check the network, "
                "the name and the proxy settings."
            )
        money = f"Whether a job was started is unknown: {UNKNOWN_ADVICE}" if paid else "Asking again costs nothing."
        seen = self._key.hide_bytes(came).decode("utf-8", "replace")
        part = f" What came of the answer: {redact(seen)}" if seen and paid else ""
        return kind(f"The connection to {host} broke or timed out during {request} ({why}). {money}{part}")


def attribution_headers(referer: str | None, title: str | None, categories: Sequence[str]) -> dict[str, str]:
    """The headers that name the calling app; nothing else than the API receives them."""
    if len(categories) > CATEGORY_LIMIT:
        raise ConfigurationError(f"At most {CATEGORY_LIMIT} categories can be named, not {len(categories)}.")
    headers = {"HTTP-Referer": referer, "X-OpenRouter-Title": title, "X-OpenRouter-Categories": ",".join(categories)}
    given = {name: value for name, value in headers.items() if value}
    for name, value in given.items():
        if not value.isascii() or not value.isprintable():
            raise ConfigurationError(f"{name} can hold printable ASCII characters only, not {value!r}.")
    return given


def _client(*, reuse: bool) -> Client:
    return Client(reuse=reuse, headers={"User-Agent": "orbatch"})


class _Memory:
    """The sink of an ordinary answer."""

    def __init__(self) -> None:
        self._body = bytearray()

    def write(self, piece: bytes) -> None:
        self._body += piece

    @property
    def kept(self) -> bytes:
        return bytes(self._body)


async def _collect(response: httpx.Response, body: Sink, limit: int) -> None:
    size = 0
    async for chunk in _pieces(response):
        body.write(chunk)
        size += len(chunk)
        if response.is_success and size > limit:
            raise ValueError(f"the answer is longer than {limit // (1024 * 1024)} MB")
        if not response.is_success and size > ERROR_BODY_LIMIT:
            return


def _pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body as it comes, decoded where it is encoded; only then does httpx look at each piece."""
    if "content-encoding" in response.headers:
        return response.aiter_bytes()
    assert isinstance(response.stream, httpx.AsyncByteStream)
    return aiter(response.stream)


async def _close(response: httpx.Response) -> None:
    closing: Awaitable[Any] = response.aclose()
    with suppress(Exception):  # the answer is here, or its failure is known
        await closing


def _plain(headers: httpx.Headers, key: ApiKey) -> dict[str, str]:
    return {name.lower(): key.hide(value) for name, value in headers.items()}
