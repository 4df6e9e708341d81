"""A proxy may carry the key through a tunnel that it cannot see into, and in no other way."""

from __future__ import annotations

import ssl
from base64 import b64encode
from pathlib import Path

import pytest

from orbatch_provider import OpenRouterProvider
from orbatch_provider.errors import ConfigurationError, NotSentError
from orbatch_provider.http.connections import proxy_for
from tests.provider.rawserver import Exchange, Servers, Step, answer, certificate_for, close, reset, stall

KEY = "sk-or-v1-c0ffee0123456789"
REQUEST = {"model": "m/m", "prompt": "a cat"}


async def refusal_through(proxy_url: str, monkeypatch: pytest.MonkeyPatch, timeout_s: float = 5) -> NotSentError:
    """Of a submit to the real service through this proxy."""
    monkeypatch.setenv("HTTPS_PROXY", proxy_url)
    provider = OpenRouterProvider(KEY, base_url="https://openrouter.ai/api/v1", connect_timeout_s=timeout_s)
    async with provider:
        with pytest.raises(NotSentError) as caught:
            await provider.submit(REQUEST)
    return caught.value


@pytest.fixture
def forged(tmp_path: Path) -> ssl.SSLContext:
    """TLS with a certificate for the real name that nobody vouches for."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate_for("DNS:openrouter.ai", tmp_path))
    return context


async def test_a_proxy_that_opens_the_tunnel_gets_no_request(
    servers: Servers, forged: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []

    async def open_the_tunnel(exchange: Exchange) -> None:
        await exchange.take_head()
        exchange.writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await exchange.writer.drain()
        try:
            await exchange.writer.start_tls(forged)
            read.append(await exchange.reader.read(65536))
        except (ssl.SSLError, OSError):
            exchange.writer.close()

    proxy = await servers.start([open_the_tunnel])

    error = await refusal_through(proxy.url, monkeypatch)

    assert "ertificate" in str(error)
    assert proxy.connections == 1
    assert not b"".join(read)


async def test_a_login_is_shown_to_the_proxy_and_to_nobody_else(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads: list[bytes] = []

    async def refuse(exchange: Exchange) -> None:
        heads.append(await exchange.take_head())
        exchange.writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

    proxy = await servers.start([refuse, close])

    error = await refusal_through(proxy.url.replace("://", "://me%40work:s3cret%2F@"), monkeypatch)

    assert b64encode(b"me@work:s3cret/") in heads[0]
    assert "s3cret" not in str(error)


async def test_a_proxy_that_says_nothing_was_never_asked_to_pass_the_request_on(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = await servers.start([stall])

    await refusal_through(proxy.url, monkeypatch, timeout_s=0.2)


@pytest.mark.parametrize("way", [close, reset], ids=["close", "reset"])
async def test_a_proxy_that_hangs_up_was_never_asked_to_pass_the_request_on(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, way: Step
) -> None:
    async def hang_up(exchange: Exchange) -> None:
        await exchange.take_head()
        await way(exchange)

    proxy = await servers.start([hang_up])

    error = await refusal_through(proxy.url, monkeypatch)

    assert "Nothing was sent or charged" in str(error)


@pytest.mark.parametrize("address", ["http://me:s3cret@proxy.example:port", "http://", "socks5://127.0.0.1:1080"])
def test_an_address_that_is_none_is_said_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", address)

    with pytest.raises(ConfigurationError, match="HTTPS_PROXY is") as caught:
        OpenRouterProvider(KEY, base_url="https://openrouter.ai/api/v1")

    assert "s3cret" not in str(caught.value)
    assert ("a SOCKS proxy" in str(caught.value)) is address.startswith("socks")


def test_a_proxy_may_have_an_address_of_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "me:s3cret@[::1]:3128")

    proxy = proxy_for("https", "openrouter.ai")

    assert proxy is not None
    assert proxy.url == "http://[::1]:3128"


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
async def test_what_goes_to_this_machine_in_clear_text_goes_through_no_proxy(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    proxy = await servers.start(answer({}))
    service = await servers.start(answer({"id": "job-1", "status": "pending"}, 202))
    monkeypatch.setenv(variable, proxy.url)

    async with OpenRouterProvider(KEY, base_url=service.url) as provider:
        await provider.submit(REQUEST)

    assert proxy.connections == 0
    assert len(service.requests) == 1
