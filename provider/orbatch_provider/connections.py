"""aiohttp under httpx: sessions made in the running loop, proxies of the environment, nothing secret in a traceback."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

# Key of ``request.extensions``: the query of a signed URL (bytes), added below httpx because httpx logs every URL.
SECRET_QUERY = "orbatch_secret_query"  # noqa: S105

_CHUNK_SIZE = 256 * 1024  # bytes; what is read at once where the socket has that much
_KEEPALIVE_S = 75.0  # longer than the usual poll interval, so that polls reuse their connections


class _NoCookies(httpx.Cookies):
    """A keyed API has no use for cookies, and looking for them takes a tenth of a request's time."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Leave them."""


class Client(httpx.AsyncClient):
    """An ``httpx.AsyncClient`` over ``Connections`` for requests that say all of themselves: no cookies, no .netrc, no
    redirects, and no merging of settings that it does not have."""

    def __init__(self, *, reuse: bool, headers: Mapping[str, str]) -> None:
        super().__init__(transport=Connections(reuse=reuse), trust_env=False, follow_redirects=False, headers=headers)
        self._no_cookies = _NoCookies()
        self._always = {name.decode(): value.decode() for name, value in self.headers.raw}

    @property
    def cookies(self) -> httpx.Cookies:
        return self._no_cookies

    @cookies.setter
    def cookies(self, cookies: object) -> None:
        raise AttributeError(f"this client keeps no cookies, so none can be set: {type(cookies).__name__}")

    def build_request(  # type: ignore[override]  # fewer settings than its base, each of them given
        self,
        method: str,
        url: httpx.URL | str,
        *,
        headers: Mapping[str, str],
        timeout: httpx.Timeout,
        content: bytes | None = None,
        params: Mapping[str, str] | None = None,
        extensions: Mapping[str, Any] | None = None,
    ) -> httpx.Request:
        """``headers``: spelt as the client's own ones, whose place they take."""
        return httpx.Request(
            method,
            url,
            params=params,
            headers=self._always | dict(headers),
            content=content,
            extensions={**(extensions or {}), "timeout": timeout.as_dict()},
        )


class Connections(httpx.AsyncBaseTransport):
    """One kind of connection, as a transport for ``httpx.AsyncClient``.

    ``reuse=False``: every request gets a connection of its own, which is closed after it. A paid request uses that:
    on a connection that lay idle, "cut off" could mean "was closed long ago" as well as "accepted, answer lost".

    The proxies are those of the environment and the system (``HTTPS_PROXY``, ``ALL_PROXY``, ``NO_PROXY``); they tunnel
    and see nothing. What goes to this machine over plain http goes there directly: a proxy could read the key. The
    number of connections is not limited here: who waits for one must not run into a timeout.
    """

    def __init__(self, *, reuse: bool) -> None:
        self._reuse = reuse
        self._session: aiohttp.ClientSession | None = None
        self._routes: dict[str | None, AiohttpTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            response = await self._route(request.url).handle_async_request(_with_secret_query(request))
        except BaseException as exc:
            # The frames inside aiohttp hold the headers as plain text, and some loggers print locals.
            forget_frames(exc)
            raise
        if hasattr(response.stream, "CHUNK_SIZE"):
            response.stream.CHUNK_SIZE = _CHUNK_SIZE
        return response

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
        self._session = None
        self._routes.clear()

    def _route(self, url: httpx.URL) -> AiohttpTransport:
        proxy = _proxy_for(url.scheme, url.host)
        if proxy not in self._routes:
            if self._session is None:
                self._session = self._open()
            self._routes[proxy] = AiohttpTransport(
                client=self._session, verify=_tls(), proxy=None if proxy is None else httpx.Proxy(proxy)
            )
        return self._routes[proxy]

    def _open(self) -> aiohttp.ClientSession:
        keepalive = {"keepalive_timeout": _KEEPALIVE_S} if self._reuse else {"force_close": True}
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=_tls(), **keepalive),
            cookie_jar=aiohttp.DummyCookieJar(),
        )


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


def _with_secret_query(request: httpx.Request) -> httpx.Request:
    query = request.extensions.get(SECRET_QUERY)
    if query is None:
        return request
    return httpx.Request(
        request.method,
        request.url.copy_with(query=query),
        headers=request.headers,
        stream=request.stream,
        extensions=request.extensions,
    )


@cache
def _tls() -> ssl.SSLContext:
    # Reads SSL_CERT_FILE and SSL_CERT_DIR; loading the certificates takes tens of milliseconds, hence once.
    return httpx.create_ssl_context()


@cache
def _proxy_for(scheme: str, host: str) -> str | None:
    if scheme != "https":
        return None
    proxies = getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or proxy_bypass(host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
