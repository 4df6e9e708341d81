"""Over real sockets: what a broken exchange means for the money, and which connection a request takes."""

from __future__ import annotations

import asyncio
import gc
import gzip
import inspect
import json
import ssl
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress

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


def bomb(layers: int = 1, megabytes: int = 400) -> bytes:
    """Zeros without end, for a reader that does not stop: 400 kB that unfold to 400 MB."""
    packer = zlib.compressobj(wbits=31)
    data = b"".join(packer.compress(bytes(2**20)) for _ in range(megabytes)) + packer.flush()
    return data if layers == 1 else bomb_of(data, layers - 1)


def bomb_of(data: bytes, layers: int) -> bytes:
    return data if layers == 0 else bomb_of(gzip.compress(data), layers - 1)


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("layers", [1, 2])
async def test_a_compressed_bomb_takes_little_memory(wire: Wire, status: int, layers: int) -> None:
    body = bomb(layers)
    encoding = {"Content-Encoding": ", ".join(["gzip"] * layers)}
    wire.script(*[answer(body, status, headers=encoding)] * 2)

    tracemalloc.start()
    try:
        with pytest.raises(errors.OpenRouterError) as submitted:
            await wire.provider.submit(REQUEST)
        with pytest.raises(errors.OpenRouterError):
            await wire.provider.poll("gen-vid-1")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert not submitted.value.nothing_started
    assert peak < 30_000_000


@pytest.mark.parametrize(
    "pack",
    [
        pytest.param(("gzip", gzip.compress), id="gzip"),
        pytest.param(("x-deflate", None), id="unknown"),
        pytest.param(("deflate", zlib.compress), id="deflate"),
        pytest.param(("deflate", lambda data: zlib.compress(data, wbits=-15)), id="deflate without header"),
        pytest.param(("gzip, gzip", lambda data: gzip.compress(gzip.compress(data))), id="two layers"),
        pytest.param(("gzip", lambda data: gzip.compress(data)[:-9]), id="cut"),
    ],
)
async def test_one_layer_of_a_requested_encoding_is_read_and_no_other(
    wire: Wire, pack: tuple[str, Callable[[bytes], bytes] | None], request: pytest.FixtureRequest
) -> None:
    encoding, compress = pack
    data = json.dumps(ACCEPTED | {"error": "x" * 200_000}).encode()
    body = data if compress is None else compress(data)
    wire.script(*[answer(body, 200, headers={"Content-Encoding": encoding})] * 2)

    if request.node.callspec.id in {"gzip", "deflate", "deflate without header"}:
        assert (await wire.provider.submit(REQUEST)).id == "gen-vid-1"
        assert (await wire.provider.poll("gen-vid-1")).id == "gen-vid-1"
        return
    for call in (wire.provider.submit(REQUEST), wire.provider.poll("gen-vid-1")):
        with pytest.raises(errors.OutcomeUnknownError):
            await call


async def test_compressed_content_is_refused(wire: Wire) -> None:
    headers = {"Content-Encoding": "gzip"}
    wire.script(answer(bomb(), 200, headers=headers, content_type="video/mp4"))

    with pytest.raises(errors.DownloadError, match="encoding gzip, which was not requested"):
        await wire.load()


async def test_a_body_that_was_given_up_is_not_kept_by_its_error(wire: Wire) -> None:
    wire.script(*[answer(b" " * (9 * 2**20))] * 3, *[answer(b"{" + b" " * (7 * 2**20))] * 3)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(6):
            with suppress(errors.OpenRouterError):
                await wire.provider.poll("gen-vid-1")
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        gc.enable()

    assert kept < 6_000_000


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
