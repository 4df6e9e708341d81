"""aiohttp under httpx: sessions made in the running loop, proxies of the environment, nothing secret in a traceback.

httpx is the form in which requests and answers are written down, and mocked by tests; aiohttp does the exchange.
"""

from __future__ import annotations

import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from aiohttp.client_exceptions import UnixClientConnectorError

from orbatch_provider.errors import ConfigurationError, NotSentError, OpenRouterError, OutcomeUnknownError

NOT_SENT: tuple[type[BaseException], ...] = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientConnectorDNSError,
    aiohttp.ClientProxyConnectionError,
    aiohttp.ClientSSLError,
    aiohttp.ClientConnectorSSLError,
    aiohttp.ClientConnectorCertificateError,
    UnixClientConnectorError,
    aiohttp.ClientHttpProxyError,  # the proxy refused the tunnel, before the request
    aiohttp.ServerFingerprintMismatch,
    aiohttp.ConnectionTimeoutError,
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
)
OUTCOME_UNKNOWN: tuple[type[BaseException], ...] = (
    aiohttp.ClientError,
    aiohttp.ClientConnectionError,
    aiohttp.ClientConnectionResetError,
    aiohttp.ClientOSError,
    aiohttp.ServerConnectionError,
    aiohttp.ServerDisconnectedError,
    aiohttp.ServerTimeoutError,
    aiohttp.SocketTimeoutError,
    aiohttp.ClientPayloadError,
    getattr(aiohttp, "UploadAbortedError", aiohttp.ClientError),  # since aiohttp 3.14
    aiohttp.ClientResponseError,
    aiohttp.ContentTypeError,
    aiohttp.TooManyRedirects,
    aiohttp.WSServerHandshakeError,
    aiohttp.WSMessageTypeError,
    aiohttp.InvalidURL,
    aiohttp.InvalidUrlClientError,
    aiohttp.NonHttpUrlClientError,
    aiohttp.RedirectClientError,
    aiohttp.InvalidUrlRedirectClientError,
    aiohttp.NonHttpUrlRedirectClientError,
    httpx.HTTPError,
    httpx.RequestError,
    httpx.TransportError,
    httpx.TimeoutException,
    httpx.ReadTimeout,
    httpx.WriteTimeout,
    httpx.NetworkError,
    httpx.ReadError,
    httpx.WriteError,
    httpx.CloseError,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.ProtocolError,
    httpx.LocalProtocolError,
    httpx.RemoteProtocolError,
    httpx.DecodingError,
    httpx.TooManyRedirects,
    httpx.HTTPStatusError,
    httpx.InvalidURL,
    httpx.CookieConflict,
    httpx.StreamError,
    httpx.StreamConsumed,
    httpx.StreamClosed,
    httpx.ResponseNotRead,
    httpx.RequestNotRead,
    ssl.SSLError,
    OSError,
    TimeoutError,
    Exception,  # anything else that comes out of a request on its way promises nothing
)
FAILURES: Mapping[type[BaseException], type[OpenRouterError]] = {
    **dict.fromkeys(OUTCOME_UNKNOWN, OutcomeUnknownError),
    **dict.fromkeys(NOT_SENT, NotSentError),
}


def failure_class(error: BaseException) -> type[OpenRouterError]:
    """Whether the request certainly never left: the nearest class in FAILURES decides."""
    return next(FAILURES[kind] for kind in type(error).__mro__ if kind in FAILURES)


# Key of ``request.extensions``: the query of a signed URL (bytes). It stays out of the request's own URL, which is
# shown wherever a request is.
SECRET_QUERY = "orbatch_secret_query"  # noqa: S105

_KEEPALIVE_S = 75.0  # longer than the usual poll interval, so that polls reuse their connections


# Submits have one address, and polls of a job too; parsing it takes a tenth of a poll's time.
_parsed = lru_cache(maxsize=1024)(httpx.URL)


class Client(httpx.AsyncClient):
    """An ``httpx.AsyncClient`` over ``Connections`` for requests that say all of themselves. ``exchange`` leaves out
    what none of them uses and each would pay for: cookies, .netrc, redirects, hooks, and the merging of settings."""

    def __init__(self, *, reuse: bool, headers: Mapping[str, str]) -> None:
        super().__init__(transport=Connections(reuse=reuse), trust_env=False, follow_redirects=False)
        self._always = dict(headers)

    def request_of(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        timeout: Mapping[str, float | None],
        content: bytes | None = None,
    ) -> httpx.Request:
        """``headers``: spelt as the client's own ones, whose place they take. ``timeout``: in seconds, ``connect``
        until there is a connection, ``read`` for a silence on it."""
        return httpx.Request(
            method, _parsed(url), headers={**self._always, **headers}, content=content, extensions={"timeout": timeout}
        )

    async def exchange(self, request: httpx.Request) -> httpx.Response:
        """Send a request as it stands; the body of the answer is still to come."""
        transport = self._transport_for_url(request.url)  # what httpx itself asks, and respx puts its answers in
        response = await transport.handle_async_request(request)
        response.request = request
        return response


class Connections(httpx.AsyncBaseTransport):
    """One kind of connection, as a transport for ``httpx.AsyncClient``. What aiohttp raises comes through as it is:
    only that tells a connection that was never made from one that broke.

    ``reuse=False``: every request gets a connection of its own, which is closed after it. A paid request uses that:
    on a connection that lay idle, "cut off" could mean "was closed long ago" as well as "accepted, answer lost".

    The proxies are those of the environment and the system (``HTTPS_PROXY``, ``ALL_PROXY``, ``NO_PROXY``); they tunnel
    and see nothing. What goes to this machine over plain http goes there directly: a proxy could read the key. The
    number of connections is not limited here: who waits for one must not run into a timeout.
    """

    def __init__(self, *, reuse: bool) -> None:
        self._reuse = reuse
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises ConfigurationError when this was closed, or the proxy's address is none."""
        if self._closed:
            raise ConfigurationError("The provider is closed. Nothing was sent; make a new one.")
        if self._session is None:
            self._session = self._open()
        timeout = request.extensions.get("timeout", {})
        proxy = _proxy_for(request.url.scheme, request.url.host)
        try:
            response = await self._session.request(
                request.method,
                _full_url(request),
                headers=[(name.decode("ascii"), value.decode("latin-1")) for name, value in request.headers.raw],
                data=request.content or None,
                allow_redirects=False,
                auto_decompress=False,  # an encoding that aiohttp does not know would cost the status too
                timeout=aiohttp.ClientTimeout(
                    connect=timeout.get("connect"),  # name lookup and a proxy's tunnel included
                    sock_connect=timeout.get("connect"),
                    sock_read=timeout.get("read"),
                ),
                proxy=None if proxy is None else proxy.url,
                proxy_headers=None if proxy is None else proxy.headers,
            )
        except BaseException as exc:
            # The frames inside aiohttp hold the headers as plain text, and some loggers print locals.
            forget_frames(exc)
            raise
        return httpx.Response(response.status, headers=response.raw_headers, stream=_Body(response))

    async def aclose(self) -> None:
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        keepalive = {"keepalive_timeout": _KEEPALIVE_S} if self._reuse else {"force_close": True}
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=_tls(), **keepalive),
            cookie_jar=aiohttp.DummyCookieJar(),
        )


class _Body(httpx.AsyncByteStream):
    """The body of an answer as it came."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._response.content.iter_any():
            yield piece

    async def aclose(self) -> None:
        # A connection whose answer was not read to its end cannot be used again; then this closes it.
        self._response.release()
        await self._response.wait_for_close()


def check_proxy(url: str) -> None:
    """Raises ConfigurationError when requests to ``url`` would go through a proxy whose address is none."""
    parts = urlsplit(url)
    _proxy_for(parts.scheme, parts.hostname or "")


def forget_frames(error: BaseException) -> None:
    """Remove the frames, and with them the locals, of an exception and of all that it came from."""
    open_errors: list[BaseException | None] = [error]
    seen: set[int] = set()
    while open_errors:
        current = open_errors.pop()
        if current is not None and id(current) not in seen:
            seen.add(id(current))
            current.__traceback__ = None
            open_errors += [current.__cause__, current.__context__]


def _full_url(request: httpx.Request) -> str:
    query = request.extensions.get(SECRET_QUERY)
    return str(request.url if query is None else request.url.copy_with(query=query))


@cache
def _tls() -> ssl.SSLContext:
    # Reads SSL_CERT_FILE and SSL_CERT_DIR; loading the certificates takes tens of milliseconds, hence once.
    return httpx.create_ssl_context()


@dataclass(frozen=True, slots=True)
class _Proxy:
    """``url`` without the user and password: aiohttp repeats it in its errors. These are in ``headers``."""

    url: str
    headers: dict[str, str] | None


@cache
def _proxy_for(scheme: str, host: str) -> _Proxy | None:
    """The proxy of the environment. Raises ConfigurationError when its address is none."""
    if scheme != "https":
        return None
    proxies = getproxies()
    given = proxies.get(scheme) or proxies.get("all")
    if not given or proxy_bypass(host):
        return None
    try:
        parts = urlsplit(given if "://" in given else f"http://{given}")
        is_usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ConfigurationError("The proxy of HTTPS_PROXY or ALL_PROXY is no address like http://host:port.")
    url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    if parts.username is None:
        return _Proxy(url, None)
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return _Proxy(url, {"Proxy-Authorization": f"Basic {b64encode(login.encode()).decode()}"})
