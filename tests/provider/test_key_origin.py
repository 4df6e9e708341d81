"""The API key goes to one origin, over a connection nobody can read."""

from __future__ import annotations

import ssl

import pytest

from orbatch_provider import OpenRouterProvider
from orbatch_provider.errors import ConfigurationError, DownloadError, OpenRouterError
from orbatch_provider.http.credentials import may_carry_key, origin_of
from tests.provider.conftest import KEY, REQUEST, SECRET, Wire
from tests.provider.rawserver import Servers, Step, answer, clip, close, read_request, send


def redirect(location: str, status: int = 302) -> list[Step]:
    return answer(b"", status, headers={"Location": location})


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://[fd00::5]/api/v1", "https://[fd00::5]:443"),
        ("http://[::1]:9/api/v1", "http://[::1]:9"),
        ("https://b\u00fccher.example/api/v1", "https://xn--bcher-kva.example:443"),
    ],
)
async def test_addresses_in_brackets_and_international_names_are_origins(url: str, origin: str) -> None:
    async with OpenRouterProvider(KEY, base_url=url) as provider:
        assert provider.origin == origin == origin_of(origin)


def test_a_base_url_without_a_path_is_refused_with_the_one_that_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_BASE_URL", "https://openrouter.ai/")
    with pytest.raises(ConfigurationError, match=r"has no path\. Set it to https://openrouter\.ai/api/v1"):
        OpenRouterProvider(KEY)


CONTENT = answer(clip(), content_type="video/mp4")


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://openrouter.ai/api/v1", id="plain-http"),
        pytest.param("http://127.0.0.1.evil.example/", id="looks-like-loopback"),
        pytest.param("http://localhost.evil.example/", id="looks-like-localhost"),
        pytest.param("http://192.168.1.10/", id="another-machine"),
        pytest.param("https://user:pass@openrouter.ai/", id="with-a-password"),
        pytest.param("https://openrouter.ai/api?x=1", id="with-a-query"),
        pytest.param("https://openrouter.ai/api#x", id="with-a-fragment"),
        pytest.param("ftp://openrouter.ai/", id="another-scheme"),
        pytest.param("openrouter.ai/api/v1", id="no-scheme"),
        pytest.param("https://", id="no-host"),
        pytest.param("https://openrouter.ai:port/", id="bad-port"),
        pytest.param("https://openrouter.ai\\@evil.example/", id="backslash"),
        pytest.param("https://open router.ai/", id="space"),
    ],
)
def test_a_base_url_that_must_not_have_the_key_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        OpenRouterProvider(KEY, base_url=url)

    assert "pass" not in str(caught.value).replace("password", "")


@pytest.mark.parametrize(
    "url",
    [
        "https://openrouter.ai/api/v1/",
        "http://127.0.0.1:8080/v1",
        "http://127.9.9.9/v1",
        "http://localhost:1/api/v1",
        "http://[::1]:8080/api/v1",
    ],
)
def test_a_base_url_that_may_have_the_key(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_BASE_URL", url)

    provider = OpenRouterProvider(KEY)

    assert provider.base_url == url.rstrip("/")
    assert provider.origin == origin_of(url)
    assert may_carry_key(url)


@pytest.mark.usefixtures("trusted")
async def test_content_redirected_elsewhere_is_fetched_without_the_key(
    wire: Wire, servers: Servers, tls: ssl.SSLContext
) -> None:
    elsewhere = await servers.start(CONTENT, tls=tls)
    wire.script(redirect(f"{elsewhere.url}/clip?sig=1"))

    loaded = await wire.load()

    assert loaded.size == len(clip())
    assert elsewhere.requests[0].target == "/clip?sig=1"
    assert SECRET not in repr(elsewhere.requests)


@pytest.mark.usefixtures("trusted")
async def test_the_key_does_not_come_back_after_a_detour(wire: Wire, servers: Servers, tls: ssl.SSLContext) -> None:
    elsewhere = await servers.start(redirect(f"{wire.server.url}/collect"), tls=tls)
    wire.script(redirect(elsewhere.url), CONTENT)

    await wire.load()

    assert ["authorization" in request.headers for request in wire.requests] == [True, False]


async def test_content_moved_within_the_origin_is_fetched_with_the_key(wire: Wire) -> None:
    wire.script(redirect("/v2/content?index=0", 307), CONTENT)

    await wire.load()

    assert wire.requests[1].headers["authorization"] == f"Bearer {KEY}"
    assert wire.requests[1].target == "/v2/content?index=0"


@pytest.mark.parametrize(
    "location",
    [
        pytest.param("http://elsewhere.example/clip.mp4", id="plain-http"),
        pytest.param("//elsewhere.example/clip.mp4", id="plain-http-without-saying-so"),
        pytest.param("file:///etc/passwd", id="file"),
        pytest.param("ftp://elsewhere.example/", id="ftp"),
        pytest.param("https://", id="no-host"),
    ],
)
async def test_content_is_not_followed_anywhere_unsafe(wire: Wire, location: str) -> None:
    wire.script(redirect(location))

    with pytest.raises(DownloadError, match="not https"):
        await wire.load()

    assert len(wire.requests) == 1
    assert list(wire.part.parent.iterdir()) == []


async def test_content_that_is_redirected_in_circles_is_given_up(wire: Wire) -> None:
    wire.script(redirect("/again"))

    with pytest.raises(DownloadError, match="too many times"):
        await wire.load()


async def test_the_key_is_bound_to_its_origin_below_every_caller(wire: Wire, servers: Servers) -> None:
    elsewhere = await servers.start(answer({}))

    with pytest.raises(ConfigurationError, match="is not sent to"):
        async with wire.provider._transport.stream(f"{elsewhere.url}/videos", {}, keyed=True):
            pass

    assert elsewhere.connections == 0


async def test_an_ordinary_proxy_sees_no_key(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = await servers.start([read_request, send(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"), close])
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)

    async with OpenRouterProvider(KEY, base_url="https://name.invalid/api/v1") as provider:
        with pytest.raises(OpenRouterError):
            await provider.submit(REQUEST)

    assert proxy.requests[0].method == "CONNECT"
    assert SECRET not in repr(proxy.requests)
