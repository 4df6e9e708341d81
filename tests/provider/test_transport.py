"""Over real sockets: what a broken exchange means for the money, and which connection a request takes."""

from __future__ import annotations

import asyncio
import inspect
import ssl

import aiohttp
import httpx
import pytest

from orbatch_provider.client import OpenRouterProvider
from orbatch_provider.errors import (
    BadRequestError,
    ConfigurationError,
    InvalidResponseError,
    NotSentError,
    OpenRouterError,
    OutcomeUnknownError,
    RateLimitError,
)
from orbatch_provider.http.connections import NEVER_SENT, proxy_for
from tests.provider.rawserver import (
    RawServer,
    Servers,
    Step,
    answer,
    close,
    raw_answer,
    read_head_only,
    read_request,
    reset,
    send,
    stall,
)

KEY = "sk-or-v1-c0ffee0123456789"
REQUEST = {"model": "alibaba/wan-2.6", "prompt": "a cat"}
ACCEPTED = {"id": "gen-vid-1", "polling_url": "/api/v1/videos/gen-vid-1", "status": "pending"}


def http_exceptions() -> list[type[BaseException]]:
    from aiohttp import client_exceptions

    return [
        kind
        for module in (httpx, client_exceptions)
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__.split(".")[0] in {"httpx", "aiohttp"}
    ]


def test_only_failures_to_connect_are_taken_for_never_sent() -> None:
    names = {kind.__name__ for kind in http_exceptions() if issubclass(kind, NEVER_SENT)}

    assert names == {
        "ClientConnectorCertificateError",
        "ClientConnectorDNSError",
        "ClientConnectorError",
        "ClientConnectorSSLError",
        "ClientHttpProxyError",
        "ClientProxyConnectionError",
        "ClientSSLError",
        "ConnectError",
        "ConnectTimeout",
        "ConnectionTimeoutError",
        "PoolTimeout",
        "ServerFingerprintMismatch",
        "UnixClientConnectorError",
    }


def test_an_unknown_exception_promises_nothing() -> None:
    class NewError(aiohttp.ClientError):
        pass

    assert not issubclass(NewError, NEVER_SENT)
    assert not issubclass(KeyError, NEVER_SENT)


CUTS = [
    pytest.param([close], id="hung-up-before-reading"),
    pytest.param([reset], id="reset-before-reading"),
    pytest.param([read_head_only, reset], id="reset-during-the-body"),
    pytest.param([read_request, close], id="hung-up-after-the-request"),
    pytest.param([read_request, reset], id="reset-after-the-request"),
    pytest.param([read_request, send(b"HTTP/1.1 202 Acc"), close], id="cut-in-the-status-line"),
    pytest.param([read_request, send(b"HTTP/1.1 202 Accepted\r\nContent-"), reset], id="cut-in-the-headers"),
    pytest.param([read_request, send(raw_answer(ACCEPTED, 202, length=500)), close], id="cut-in-the-body"),
    pytest.param([read_request, send(raw_answer(b"", 202, length=50)), reset], id="cut-before-the-body"),
    pytest.param([read_request, send(b"SSH-2.0-OpenSSH_9.6\r\n"), close], id="not-http"),
    pytest.param([read_request, send(b"\x00\xff" * 600), close], id="binary-garbage"),
    pytest.param([read_request, send(raw_answer(ACCEPTED, 202, headers={"Content-Encoding": "gzip"}))], id="bad-gzip"),
    pytest.param([read_request, stall], id="no-answer-in-time"),
    pytest.param([read_request, send(raw_answer(ACCEPTED, 202, length=500)), stall], id="half-an-answer-in-time"),
]


@pytest.fixture
async def hasty(raw_server: RawServer) -> OpenRouterProvider:
    return OpenRouterProvider(KEY, base_url=raw_server.url, submit_timeout_s=0.2, read_timeout_s=0.2)


@pytest.mark.parametrize("script", CUTS)
async def test_a_submit_that_breaks_after_it_may_have_left_is_unknown(
    raw_server: RawServer, hasty: OpenRouterProvider, script: list[Step]
) -> None:
    raw_server.script(script)

    async with hasty:
        with pytest.raises(OutcomeUnknownError, match="It may have been charged, so it is not retried") as caught:
            await hasty.submit({**REQUEST, "prompt": "long " * 100_000})

    assert not caught.value.nothing_started
    assert not caught.value.may_resend
    assert raw_server.connections == 1


@pytest.mark.parametrize("script", CUTS)
async def test_a_poll_that_breaks_may_be_repeated_for_nothing(
    raw_server: RawServer, hasty: OpenRouterProvider, script: list[Step]
) -> None:
    raw_server.script(script)

    async with hasty:
        with pytest.raises(OutcomeUnknownError, match="Retrying is free") as caught:
            await hasty.poll("gen-vid-1")

    assert caught.value.temporary


async def test_what_came_of_a_cut_answer_is_in_the_message(raw_server: RawServer, hasty: OpenRouterProvider) -> None:
    raw_server.script([read_request, send(raw_answer(b'{"id": "gen-vid-77", "sta', 202, length=100)), close])

    async with hasty:
        with pytest.raises(OutcomeUnknownError, match="gen-vid-77"):
            await hasty.submit(REQUEST)


@pytest.mark.parametrize(
    ("status", "error"), [pytest.param(429, RateLimitError, id="429"), pytest.param(400, BadRequestError, id="400")]
)
@pytest.mark.parametrize("end", [pytest.param(reset, id="cut"), pytest.param(stall, id="stalled")])
async def test_a_refusal_counts_even_when_its_body_never_comes(
    raw_server: RawServer, hasty: OpenRouterProvider, status: int, error: type[OpenRouterError], end: Step
) -> None:
    raw_server.script([read_request, send(raw_answer(b"{", status, length=50)), end])

    async with hasty:
        with pytest.raises(error) as caught:
            await hasty.submit(REQUEST)

    assert caught.value.nothing_started


async def test_a_refused_connection_was_never_sent(servers: Servers) -> None:
    server = await servers.start(answer({}))
    await servers.stop()

    async with OpenRouterProvider(KEY, base_url=server.url) as provider:
        with pytest.raises(NotSentError, match="Nothing was sent or charged") as caught:
            await provider.submit(REQUEST)

    assert caught.value.may_resend


async def test_a_name_that_does_not_resolve_was_never_sent() -> None:
    async with OpenRouterProvider(KEY, base_url="https://name.invalid/api/v1") as provider:
        with pytest.raises(NotSentError, match=r"name\.invalid"):
            await provider.submit(REQUEST)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), close], id="speaks-no-tls"),
        pytest.param([close], id="hangs-up-at-once"),
        pytest.param([reset], id="resets-at-once"),
        pytest.param([stall], id="never-shakes-hands"),
    ],
)
async def test_a_failed_tls_handshake_was_never_sent(raw_server: RawServer, script: list[Step]) -> None:
    raw_server.script(script)
    url = raw_server.url.replace("http://", "https://")

    async with OpenRouterProvider(KEY, base_url=url, connect_timeout_s=0.2) as provider:
        with pytest.raises(NotSentError):
            await provider.submit(REQUEST)

    assert raw_server.requests == []


async def test_a_certificate_nobody_vouches_for_ends_it_before_the_request(
    servers: Servers, tls: ssl.SSLContext
) -> None:
    server = await servers.start(answer(ACCEPTED, 202), tls=tls)

    async with OpenRouterProvider(KEY, base_url=server.url) as provider:
        with pytest.raises(NotSentError, match="ertificate"):
            await provider.submit(REQUEST)

    assert server.requests == []


@pytest.mark.usefixtures("trusted")
async def test_over_tls_too_an_answer_that_is_cut_off_leaves_the_outcome_unknown(
    servers: Servers, tls: ssl.SSLContext
) -> None:
    server = await servers.start(answer(ACCEPTED, 202), [read_request, reset], tls=tls)

    async with OpenRouterProvider(KEY, base_url=server.url) as provider:
        assert (await provider.submit(REQUEST)).id == "gen-vid-1"
        with pytest.raises(OutcomeUnknownError):
            await provider.submit(REQUEST)


async def test_every_submit_has_a_connection_of_its_own(raw_server: RawServer, provider: OpenRouterProvider) -> None:
    raw_server.script(answer(ACCEPTED, 202))
    await provider.poll("gen-vid-1")  # leaves an idle connection behind

    for _ in range(3):
        await provider.submit(REQUEST)

    submits = [request for request in raw_server.requests if request.method == "POST"]
    assert len({request.connection for request in submits}) == 3
    assert raw_server.connections == 4
    assert all(request.headers["connection"] == "close" for request in submits)


async def test_reads_share_their_connection(raw_server: RawServer, provider: OpenRouterProvider) -> None:
    raw_server.script(answer(ACCEPTED))

    for _ in range(5):
        await provider.poll("gen-vid-1")

    assert raw_server.connections == 1


async def test_thousands_of_polls_at_once_wait_for_a_connection_without_an_error(
    raw_server: RawServer, provider: OpenRouterProvider
) -> None:
    raw_server.script(answer(ACCEPTED))

    jobs = await asyncio.gather(*(provider.poll("gen-vid-1") for _ in range(2000)))

    assert len(jobs) == 2000
    assert raw_server.connections <= 128


async def test_an_answer_without_end_is_given_up(raw_server: RawServer, provider: OpenRouterProvider) -> None:
    endless = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    raw_server.script([read_request, send(endless), *[send(chunk)] * 10, stall])

    with pytest.raises(OutcomeUnknownError, match="longer than 8 MB"):
        await provider.poll("gen-vid-1")


async def test_a_proxy_of_the_environment_is_used_unless_the_host_is_excepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "internal.example")
    proxy_for.cache_clear()

    proxy = proxy_for("https", "openrouter.ai")
    assert proxy is not None
    assert (proxy.url, proxy.headers) == ("http://proxy.example:3128", None)
    assert proxy_for("https", "internal.example") is None
    proxy_for.cache_clear()


async def test_a_proxy_that_refuses_the_tunnel_means_never_sent(
    raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw_server.script([read_head_only, send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"), close])
    monkeypatch.setenv("HTTPS_PROXY", raw_server.url)
    proxy_for.cache_clear()

    async with OpenRouterProvider(KEY, base_url="https://name.invalid/api/v1") as provider:
        with pytest.raises(NotSentError):
            await provider.submit(REQUEST)
    proxy_for.cache_clear()


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip", "made-up"])
async def test_a_refusal_counts_whatever_its_body_is_encoded_in(
    raw_server: RawServer, provider: OpenRouterProvider, encoding: str
) -> None:
    headers = {"Content-Encoding": encoding, "Retry-After": "3"}
    raw_server.script([read_request, send(raw_answer(b"not what it says it is", 429, headers=headers))])

    with pytest.raises(RateLimitError) as caught:
        await provider.submit(REQUEST)

    assert caught.value.retry_after_s == 3
    assert caught.value.may_resend


async def test_a_provider_that_is_closed_sends_nothing(raw_server: RawServer, provider: OpenRouterProvider) -> None:
    raw_server.script(answer(ACCEPTED, 202))
    await provider.submit(REQUEST)
    await provider.aclose()

    with pytest.raises(ConfigurationError, match="closed") as caught:
        await provider.submit(REQUEST)

    assert caught.value.nothing_started
    assert len(raw_server.requests) == 1


async def test_an_unreadable_success_after_a_submit_is_unknown(
    raw_server: RawServer, provider: OpenRouterProvider
) -> None:
    raw_server.script(answer(b"<html>Welcome</html>", 200, content_type="text/html"))

    with pytest.raises(InvalidResponseError, match="Welcome") as caught:
        await provider.submit(REQUEST)

    assert not caught.value.nothing_started
