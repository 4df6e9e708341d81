"""Which exceptions of the HTTP stack mean "never sent", and which leave the outcome unknown.

For a paid request the difference is a second charge. aiohttp tells the two apart, and its exceptions come here as they
are. Those of httpx stand beside them because a transport of another make raises them.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping

import aiohttp
import httpx
from aiohttp.client_exceptions import UnixClientConnectorError

from orbatch_provider.errors import NotSentError, OpenRouterError, OutcomeUnknownError

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
