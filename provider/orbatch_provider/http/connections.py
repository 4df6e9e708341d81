"""aiohttp as a transport for httpx: one session per event loop, proxies of the environment, no secrets in tracebacks.

httpx is the form in which requests and responses are written down, and mocked by tests; aiohttp does the exchange,
because plain httpx fails at 1,000 connections and httpx-aiohttp reports a broken connection as one never made.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx

from orbatch_provider.errors import ConfigurationError

# Raised only before there is a connection to send the request on. Any other error may have come after that.
NEVER_SENT = (
    aiohttp.ClientConnectorError,  # name lookup, connect, TLS, certificate, and connect to a proxy
    aiohttp.ClientHttpProxyError,  # the proxy refused the tunnel, before the request
    aiohttp.ServerFingerprintMismatch,
    aiohttp.ConnectionTimeoutError,
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
)

# Key of ``request.extensions``: the query of a signed URL (bytes). It stays out of the request's own URL, which httpx
# logs and every repr shows.
SECRET_QUERY = "orbatch_secret_query"  # noqa: S105

_KEEPALIVE_S = 75.0  # longer than the usual poll interval, so that polls reuse their connections


class AiohttpTransport(httpx.AsyncBaseTransport):
    """A transport for ``httpx.AsyncClient`` that can be used in several event loops, one after another.

    ``reuse=False``: every request gets a connection of its own, which is closed after it. A paid request uses that:
    on an idle connection, "broken" could mean "was closed long ago" as well as "accepted, response lost".

    Raises ConnectError only for requests that never left, ReadError for all others. The proxies are those of the
    environment and the system (``HTTPS_PROXY``, ``ALL_PROXY``, ``NO_PROXY``); they tunnel and see nothing. Plain http
    to this machine uses no proxy: it could read the key. The number of connections is not limited here, because
    waiting for one would count as a timeout.
    """

    def __init__(self, *, reuse: bool) -> None:
        self._reuse = reuse
        # By loop: its session, and the generator that made it and will close it.
        self._sessions: dict[
            asyncio.AbstractEventLoop, tuple[aiohttp.ClientSession, AsyncGenerator[aiohttp.ClientSession]]
        ] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send ``request``; its ``timeout`` extension is ``connect`` until connected, ``read`` for a silence."""
        session, reached = await self._session(), _Reached()
        timeout = request.extensions.get("timeout", {})
        query, proxy = request.extensions.get(SECRET_QUERY), proxy_for(request.url.scheme, request.url.host)
        failure: httpx.TransportError
        try:
            response = await session.request(
                request.method,
                str(request.url if query is None else request.url.copy_with(query=query)),
                headers=[(name.decode("ascii"), value.decode("latin-1")) for name, value in request.headers.raw],
                data=request.content or None,
                allow_redirects=False,
                auto_decompress=False,  # an encoding that aiohttp does not know would lose the status too
                timeout=aiohttp.ClientTimeout(
                    connect=timeout.get("connect"),  # name lookup and a proxy's tunnel included
                    sock_connect=timeout.get("connect"),
                    sock_read=timeout.get("read"),
                ),
                proxy=None if proxy is None else proxy.url,
                proxy_headers=None if proxy is None else proxy.headers,
                trace_request_ctx=reached,
            )
        except BaseException as exc:
            # The frames inside aiohttp hold the headers as plain text, and some loggers print locals.
            forget_frames(exc)
            if not isinstance(exc, Exception):
                raise
            text = f"{type(exc).__name__}: {exc}".rstrip(": ")
            # On a connection of its own, nothing was written before there was one, whatever the error is called.
            is_never_sent = isinstance(exc, NEVER_SENT) or not (self._reuse or reached.peer)
            failure = httpx.ConnectError(text) if is_never_sent else httpx.ReadError(text)
        else:
            return httpx.Response(response.status, headers=response.raw_headers, stream=_Body(response))
        raise failure  # outside the handler, so that aiohttp's error, which holds the headers, is not its context

    async def aclose(self) -> None:
        """Close the connections of the running loop; other loops close theirs when they end."""
        opened = self._sessions.pop(asyncio.get_running_loop(), None)
        if opened is not None:
            await opened[1].aclose()

    async def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if loop not in self._sessions:
            self._sessions = {known: opened for known, opened in self._sessions.items() if not known.is_closed()}
            # ``asyncio.run`` ends with closing the async generators begun in its loop, and this one its session: so a
            # provider that is used in two loops leaves no connection of the first one open.
            opening = _open_session(reuse=self._reuse)
            self._sessions[loop] = (await anext(opening), opening)
        return self._sessions[loop][0]


async def _open_session(*, reuse: bool) -> AsyncGenerator[aiohttp.ClientSession]:
    keepalive = {"keepalive_timeout": _KEEPALIVE_S} if reuse else {"force_close": True}
    connector = aiohttp.TCPConnector(limit=0, ssl=_usable_tls_context(), **keepalive)
    traces = [] if reuse else [_tracing()]
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(connector=connector, cookie_jar=jar, trace_configs=traces) as session:
        yield session


@dataclass(slots=True)
class _Reached:
    """Whether there was a connection to the peer, through the tunnel of a proxy too, on which bytes may have left."""

    peer: bool = False


def _tracing() -> aiohttp.TraceConfig:
    trace = aiohttp.TraceConfig()

    async def connected(_session: aiohttp.ClientSession, context: Any, _parameters: object) -> None:
        context.trace_request_ctx.peer = True

    trace.on_connection_create_end.append(connected)
    trace.on_connection_reuseconn.append(connected)  # never on such a session; if it were, bytes could have left
    return trace


class _Body(httpx.AsyncByteStream):
    """The body of a response as it comes."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._response.content.iter_any():
            yield piece

    async def aclose(self) -> None:
        # A connection whose response was not read to its end cannot be reused; then this closes it.
        self._response.release()
        await self._response.wait_for_close()


def forget_frames(error: BaseException) -> None:
    """Remove the frames, and with them the locals, of an exception and its causes and contexts."""
    remaining: list[BaseException | None] = [error]
    seen: set[int] = set()
    while remaining:
        current = remaining.pop()
        if current is not None and id(current) not in seen:
            seen.add(id(current))
            current.__traceback__ = None
            remaining += [current.__cause__, current.__context__]


@cache
def tls_context() -> ssl.SSLContext:
    """Reads SSL_CERT_FILE and SSL_CERT_DIR; once, since loading the certificates takes tens of milliseconds. Raises
    ConfigurationError with the variable that names no certificates."""
    try:
        return httpx.create_ssl_context()
    except (OSError, ssl.SSLError) as exc:
        named = {name: os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)}
        where = " and ".join(f"{name} ({value})" for name, value in named.items()) or "the system"
        reason = getattr(exc, "strerror", None) or str(exc)
        raise ConfigurationError(
            f"The certificates of {where} cannot be read: {reason}. Nothing was sent; correct the variable or unset it."
        ) from exc


def _usable_tls_context() -> ssl.SSLContext | bool:
    """For a connector. Without certificates plain http to this machine works all the same, and https fails."""
    try:
        return tls_context()
    except ConfigurationError:
        return True


@dataclass(frozen=True, slots=True)
class Proxy:
    """``url`` without the user and password, because aiohttp repeats it in errors; those are in ``headers``."""

    url: str
    headers: dict[str, str] | None


@cache
def proxy_for(scheme: str, host: str) -> Proxy | None:
    """The proxy of the environment for this host. Raises ConfigurationError when its URL is invalid."""
    if scheme != "https":
        return None
    proxies = getproxies()
    given = proxies.get(scheme) or proxies.get("all")
    if not given or proxy_bypass(host):
        return None
    variable = "HTTPS_PROXY" if proxies.get(scheme) else "ALL_PROXY"
    try:
        parts = urlsplit(given if "://" in given else f"http://{given}")
        is_usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        what = "a SOCKS proxy, which is not supported" if given.startswith("socks") else "not a valid URL"
        raise ConfigurationError(f"{variable} is {what} (expected http://host:port). Nothing was sent.")
    url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    if parts.username is None:
        return Proxy(url, None)
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(url, {"Proxy-Authorization": f"Basic {b64encode(login.encode()).decode()}"})
