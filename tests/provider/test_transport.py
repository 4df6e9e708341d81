"""Over real sockets: what a broken exchange means for the money, and which connection a request takes."""

from __future__ import annotations

import asyncio
import inspect
import ssl

import aiohttp
import httpx
import pytest

from orbatch_provider import OpenRouterProvider, errors
from orbatch_provider.http.connections import NEVER_SENT, proxy_for
from tests.provider.conftest import KEY, REQUEST, Wire
from tests.provider.rawserver import (
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

ACCEPTED = {"id": "gen-vid-1", "polling_url": "/api/v1/videos/gen-vid-1", "status": "pending"}


def test_only_failures_to_connect_are_taken_for_never_sent() -> None:
    from aiohttp import client_exceptions

    kinds = [kind for module in (httpx, client_exceptions) for _, kind in inspect.getmembers(module, inspect.isclass)]
    own = [kind for kind in kinds if kind.__module__.split(".")[0] in {"httpx", "aiohttp"}]

    assert {kind.__name__ for kind in own if issubclass(kind, NEVER_SENT)} == {
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
    unknown = type("NewError", (aiohttp.ClientError,), {})
    assert not issubclass(unknown, NEVER_SENT)
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


@pytest.mark.parametrize("script", CUTS)
async def test_a_submit_that_breaks_after_it_may_have_left_is_unknown_and_a_poll_is_repeated_for_nothing(
    hasty: Wire, script: list[Step]
) -> None:
    hasty.script(script)

    with pytest.raises(errors.OutcomeUnknownError, match="It may have been charged, so it is not retried") as submitted:
        await hasty.provider.submit({**REQUEST, "prompt": "long " * 100_000})
    assert not submitted.value.nothing_started
    assert not submitted.value.may_resend
    assert hasty.server.connections == 1

    with pytest.raises(errors.OutcomeUnknownError, match="Retrying is free") as polled:
        await hasty.provider.poll("gen-vid-1")
    assert polled.value.temporary


async def test_what_came_of_a_cut_answer_is_in_the_message(hasty: Wire) -> None:
    hasty.script([read_request, send(raw_answer(b'{"id": "gen-vid-77", "sta', 202, length=100)), close])

    with pytest.raises(errors.OutcomeUnknownError, match="gen-vid-77"):
        await hasty.provider.submit(REQUEST)


WAIT = {"Retry-After": "3"}
CUT_REFUSAL = send(raw_answer(b"{", 429, length=50, headers=WAIT))


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([read_request, CUT_REFUSAL, reset], id="cut"),
        pytest.param([read_request, CUT_REFUSAL, stall], id="stalled"),
        *(answer(b"?", 429, headers=WAIT | {"Content-Encoding": name}) for name in ("br", "zstd", "gzip", "made-up")),
    ],
)
async def test_a_refusal_whose_body_cannot_be_read_proves_nothing(hasty: Wire, script: list[Step]) -> None:
    hasty.script(script)

    with pytest.raises(errors.RateLimitError) as caught:
        await hasty.provider.submit(REQUEST)

    assert caught.value.retry_after_s == 3
    assert not caught.value.nothing_started  # it may be the page of a gateway, with an accepted job behind it


async def never_sent(url: str, says: str = "Nothing was sent or charged", timeout_s: float = 5) -> None:
    """A submit to ``url`` fails before it leaves."""
    async with OpenRouterProvider(KEY, base_url=url, connect_timeout_s=timeout_s) as provider:
        with pytest.raises(errors.NotSentError, match=says) as caught:
            await provider.submit(REQUEST)
    assert caught.value.may_resend


async def test_without_a_connection_nothing_was_sent(servers: Servers) -> None:
    server = await servers.start(answer({}))
    await servers.stop()

    await never_sent(server.url)
    await never_sent("https://name.invalid/api/v1", r"name\.invalid")


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), close], id="speaks-no-tls"),
        pytest.param([close], id="hangs-up-at-once"),
        pytest.param([reset], id="resets-at-once"),
        pytest.param([stall], id="never-shakes-hands"),
    ],
)
async def test_a_failed_tls_handshake_was_never_sent(servers: Servers, script: list[Step]) -> None:
    server = await servers.start(script)

    await never_sent(server.url.replace("http://", "https://"), timeout_s=0.2)

    assert server.requests == []


async def test_a_certificate_nobody_vouches_for_ends_it_before_the_request(
    servers: Servers, tls: ssl.SSLContext
) -> None:
    server = await servers.start(answer(ACCEPTED, 202), tls=tls)

    await never_sent(server.url, "ertificate")

    assert server.requests == []


async def test_a_proxy_that_refuses_the_tunnel_means_never_sent(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    proxy = await servers.start([read_head_only, refusal, close])
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)

    await never_sent("https://name.invalid/api/v1")

    assert proxy.connections > 0


@pytest.mark.usefixtures("trusted")
async def test_over_tls_too_an_answer_that_is_cut_off_leaves_the_outcome_unknown(
    servers: Servers, tls: ssl.SSLContext
) -> None:
    server = await servers.start(answer(ACCEPTED, 202), [read_request, reset], tls=tls)

    async with OpenRouterProvider(KEY, base_url=server.url) as provider:
        assert (await provider.submit(REQUEST)).id == "gen-vid-1"
        with pytest.raises(errors.OutcomeUnknownError):
            await provider.submit(REQUEST)


async def test_every_submit_has_a_connection_of_its_own_and_reads_share_one(wire: Wire) -> None:
    wire.script(answer(ACCEPTED, 202))
    for _ in range(5):
        await wire.provider.poll("gen-vid-1")  # leaves an idle connection behind
    assert wire.server.connections == 1

    for _ in range(3):
        await wire.provider.submit(REQUEST)

    submits = [request for request in wire.requests if request.method == "POST"]
    assert len({request.connection for request in submits}) == 3
    assert wire.server.connections == 4
    assert all(request.headers["connection"] == "close" for request in submits)


async def test_thousands_of_polls_at_once_wait_for_a_connection_without_an_error(wire: Wire) -> None:
    wire.script(answer(ACCEPTED))

    jobs = await asyncio.gather(*(wire.provider.poll("gen-vid-1") for _ in range(2000)))

    assert len(jobs) == 2000
    assert wire.server.connections <= 128


async def test_an_answer_without_end_is_given_up(wire: Wire) -> None:
    endless = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    wire.script([read_request, send(endless), *[send(chunk)] * 10, stall])

    with pytest.raises(errors.OutcomeUnknownError, match="longer than 8 MB"):
        await wire.provider.poll("gen-vid-1")


def test_a_proxy_of_the_environment_is_used_unless_the_host_is_excepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "internal.example")

    proxy = proxy_for("https", "openrouter.ai")

    assert proxy is not None
    assert (proxy.url, proxy.headers) == ("http://proxy.example:3128", None)
    assert proxy_for("https", "internal.example") is None


async def test_a_provider_that_is_closed_sends_nothing(wire: Wire) -> None:
    wire.script(answer(ACCEPTED, 202))
    await wire.provider.submit(REQUEST)
    await wire.provider.aclose()

    with pytest.raises(errors.ConfigurationError, match="closed") as caught:
        await wire.provider.submit(REQUEST)

    assert caught.value.nothing_started
    assert len(wire.requests) == 1
