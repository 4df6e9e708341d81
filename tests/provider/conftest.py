"""Providers of a raw server or of a mocked service, in an environment that holds no key and no proxy."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import respx

from orbatch_provider import OpenRouterProvider
from orbatch_provider.catalog import VideoModel, snapshot
from orbatch_provider.download import Download
from orbatch_provider.http.connections import proxy_for, tls_context
from tests.provider.rawserver import RawServer, Request, Servers, Step, certificate_for

SECRET = "c0ffee0123456789c0ffee"
KEY = f"plain-{SECRET}"  # a form that no pattern recognises, so that only knowing the key can hide it
REQUEST = {"model": "m/m", "prompt": "a cat"}

MORNING = datetime(2026, 11, 25, 10, 0, 0, 500_000, UTC)

Call = Callable[[OpenRouterProvider, Path], Awaitable[object]]
READS: dict[str, Call] = {
    "poll": lambda provider, _: provider.poll("job-1"),
    "content": lambda provider, folder: provider.download("job-1", 0, folder / "clip.part"),
    "models": lambda provider, _: provider.catalog(),
    "key": lambda provider, _: provider.key(),
    "generation": lambda provider, _: provider.generation("gen-1"),
    "analytics": lambda provider, _: provider.generations_between(MORNING, MORNING, {"key-1"}),
}
PAID: dict[str, Call] = {
    "video": lambda provider, _: provider.submit(REQUEST),
    "image": lambda provider, folder: provider.create_images(REQUEST, folder, "x"),
    "text": lambda provider, _: provider.complete_text(REQUEST),
}
CALLS = PAID | READS  # every single request of a provider, by name; none may leave a file when it fails


@dataclass(frozen=True)
class Wire:
    """A provider and the raw server it talks to; ``part``: where a download goes."""

    server: RawServer
    provider: OpenRouterProvider
    part: Path

    @property
    def requests(self) -> list[Request]:
        return self.server.requests

    def script(self, *scripts: list[Step]) -> None:
        self.server.script(*scripts)

    async def load(self) -> Download:
        return await self.provider.download("job-1", 0, self.part)


def model_named(name: str) -> VideoModel:
    """A model of the packaged snapshot."""
    model = snapshot().find(name)
    assert model is not None
    return model


@dataclass(frozen=True)
class Mocked:
    """A provider of a service that is mocked below the HTTP library; ``folder``: where its files go."""

    router: respx.MockRouter
    provider: OpenRouterProvider
    folder: Path

    async def call(self, name: str) -> object:
        """One of CALLS."""
        return await CALLS[name](self.provider, self.folder)


@pytest.fixture
async def servers() -> AsyncIterator[Servers]:
    started = Servers()
    yield started
    await started.stop()


@pytest.fixture
async def wire(servers: Servers, tmp_path: Path) -> AsyncIterator[Wire]:
    """A server without a script yet: ``wire.script([...], [...])``."""
    server = await servers.start()
    async with OpenRouterProvider(KEY, management_key=KEY, base_url=server.url) as provider:
        yield Wire(server, provider, tmp_path / "clip.part")


@pytest.fixture
async def hasty(wire: Wire) -> AsyncIterator[Wire]:
    """A wire whose provider waits 0.2 s for an answer."""
    async with OpenRouterProvider(
        KEY, management_key=KEY, base_url=wire.server.url, submit_timeout_s=0.2, read_timeout_s=0.2
    ) as provider:
        yield replace(wire, provider=provider)


@pytest.fixture
async def mocked(tmp_path: Path) -> AsyncIterator[Mocked]:
    with respx.mock(using="httpx", assert_all_called=False) as router:
        async with OpenRouterProvider(KEY, management_key=KEY) as provider:
            yield Mocked(router, provider, tmp_path)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (
        "OPENROUTER_API_KEY",
        "OPENROUTER_MANAGEMENT_KEY",
        "OPENROUTER_BASE_URL",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    proxy_for.cache_clear()
    yield
    proxy_for.cache_clear()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    return certificate_for("IP:127.0.0.1", tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    return context


@pytest.fixture
def trusted(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    tls_context.cache_clear()
    yield
    tls_context.cache_clear()
