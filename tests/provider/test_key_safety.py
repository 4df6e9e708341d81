"""The API key shows up nowhere: no repr, log, error, traceback with locals, pickle or result."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from orbatch_provider.client import OpenRouterProvider
from orbatch_provider.errors import ConfigurationError, OpenRouterError
from orbatch_provider.http.credentials import ApiKey
from orbatch_provider.sync import generate_image, generate_text, generate_video
from tests.provider.paintings import answer_with, painted
from tests.provider.rawserver import (
    Exchange,
    RawServer,
    Servers,
    Step,
    answer,
    close,
    raw_answer,
    read_request,
    reset,
    send,
    stall,
)

SECRET = "c0ffee0123456789c0ffee"
KEY = f"plain-{SECRET}"  # a form that no pattern recognises, so that only knowing the key can hide it
REQUEST = {"model": "m/m", "prompt": "a cat"}
JOB = {"id": "job-1", "status": "completed"}


@pytest.fixture
async def keyed(raw_server: RawServer) -> AsyncIterator[OpenRouterProvider]:
    provider = OpenRouterProvider(KEY, base_url=raw_server.url, submit_timeout_s=0.2, read_timeout_s=0.2)
    async with provider:
        yield provider


async def echo(exchange: Exchange) -> None:
    """Answer 400 with all that was sent, in the body and in a header."""
    assert exchange.request is not None
    sent = exchange.request.headers["authorization"]
    exchange.writer.write(raw_answer({"error": {"code": 400, "message": sent}}, 400, headers={"X-Sent": sent}))


async def echo_as_garbage(exchange: Exchange) -> None:
    assert exchange.request is not None
    exchange.writer.write(f"{exchange.request.headers['authorization']} what?\r\n\r\n".encode())


async def redirect_with_key(exchange: Exchange) -> None:
    assert exchange.request is not None
    location = f"http://elsewhere.example/{exchange.request.headers['authorization'].split()[-1]}"
    exchange.writer.write(raw_answer(b"", 302, headers={"Location": location}))


FAULTS: list[object] = [
    pytest.param(answer({}, 401), id="refused"),
    pytest.param(answer({}, 500), id="failed"),
    pytest.param([read_request, echo], id="echoed"),
    pytest.param([read_request, echo_as_garbage, close], id="echoed-as-garbage"),
    pytest.param([read_request, redirect_with_key], id="redirected-with-the-key"),
    pytest.param(answer(b"<html>", 200), id="no-json"),
    pytest.param([read_request, send(b"nonsense\r\n\r\n"), close], id="no-http"),
    pytest.param([read_request, reset], id="cut"),
    pytest.param([read_request, send(raw_answer(b"{", 200, length=99)), reset], id="cut-in-the-answer"),
    pytest.param([read_request, stall], id="timed-out"),
]

BLOCKING: dict[str, Callable[..., object]] = {
    call.__name__: partial(call, "a cat", "m/m") for call in (generate_video, generate_image, generate_text)
}
Call = Callable[[OpenRouterProvider, Path], Awaitable[object]]
CALLS: list[object] = [
    pytest.param(lambda provider, _: provider.submit(REQUEST), id="submit"),
    pytest.param(lambda provider, _: provider.poll("job-1"), id="poll"),
    pytest.param(lambda provider, folder: provider.download("job-1", 0, folder / "clip.part"), id="content"),
    pytest.param(lambda provider, _: provider.generate_video("a cat", "m/m", timeout=0), id="generate"),
    pytest.param(lambda provider, folder: provider.create_images(REQUEST, folder, "x"), id="images"),
    pytest.param(lambda provider, _: provider.complete_text(REQUEST), id="text"),
]


def everything_said(error: BaseException) -> str:
    """All that a logger could print of an error: causes, contexts, notes, and the locals of every frame."""
    seen, todo, said = set(), [error], []
    while todo:
        current = todo.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        todo += [cause for cause in (current.__cause__, current.__context__) if cause is not None]
        shown = traceback.TracebackException.from_exception(current, capture_locals=True)
        said += [repr(current), str(current), repr(vars(current)), *shown.format()]
    return "\n".join(said)


@pytest.mark.parametrize("script", FAULTS)
@pytest.mark.parametrize("call", CALLS)
async def test_no_error_shows_the_key_not_even_with_locals(
    raw_server: RawServer,
    keyed: OpenRouterProvider,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    call: Call,
    script: list[Step],
) -> None:
    caplog.set_level(logging.DEBUG)
    raw_server.script(script)

    with pytest.raises(OpenRouterError) as caught:
        await call(keyed, tmp_path)

    assert SECRET not in everything_said(caught.value)
    assert SECRET not in caplog.text
    assert raw_server.requests[0].headers["authorization"] == f"Bearer {KEY}"  # it was there to be leaked


async def test_an_interrupted_call_does_not_show_the_key(raw_server: RawServer, keyed: OpenRouterProvider) -> None:
    arrived = asyncio.Event()

    async def tell(_: Exchange) -> None:
        arrived.set()

    raw_server.script([read_request, tell, stall])
    task = asyncio.create_task(keyed.submit(REQUEST))
    await arrived.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError) as caught:
        await task

    assert SECRET not in everything_said(caught.value)


async def test_a_refused_connection_does_not_show_the_key(servers: Servers) -> None:
    server = await servers.start(answer({}))
    await servers.stop()

    async with OpenRouterProvider(KEY, base_url=server.url) as provider:
        with pytest.raises(OpenRouterError) as caught:
            await provider.submit(REQUEST)

    assert SECRET not in everything_said(caught.value)


async def test_what_the_provider_echoes_is_not_in_the_result(raw_server: RawServer, keyed: OpenRouterProvider) -> None:
    raw_server.script(answer({**JOB, "prompt": f"Bearer {KEY}"}))

    job = await keyed.poll("job-1")

    assert SECRET not in repr(job) + repr(job.raw)


async def test_what_comes_with_pictures_and_texts_does_not_show_the_key_either(
    raw_server: RawServer, keyed: OpenRouterProvider, tmp_path: Path
) -> None:
    raw_server.script(answer(answer_with(painted(), echo=KEY)), answer({"id": KEY, "choices": [{"x": KEY}]}))

    images = await keyed.create_images(REQUEST, tmp_path, "x")
    text = await keyed.complete_text(REQUEST)

    assert SECRET not in repr([images, images.raw, text, text.raw])


def test_no_repr_shows_the_key() -> None:
    provider = OpenRouterProvider(KEY)
    parts = [
        provider,
        vars(provider),
        *vars(provider).values(),
        vars(provider._transport),
        ApiKey(KEY),
        str(ApiKey(KEY)),
    ]

    assert all(SECRET not in repr(part) for part in parts)


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy])
def test_the_key_is_not_pickled_or_copied(take: Callable[[object], object]) -> None:
    with pytest.raises(TypeError, match="not pickled") as caught:
        take(ApiKey(KEY))

    assert SECRET not in everything_said(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(f"{KEY}\nX-Evil: 1", id="line-break"),
        pytest.param(f"{KEY}é", id="not-ascii"),
        pytest.param(f"{KEY} {KEY}", id="two-keys"),
        pytest.param(f"{KEY}\x07", id="control-character"),
    ],
)
@pytest.mark.parametrize("way", ["argument", "environment", *BLOCKING])
def test_an_unusable_key_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch, way: str, key: str) -> None:
    if way == "environment":
        monkeypatch.setenv("OPENROUTER_API_KEY", key)

    error = refusal_of(way, key)

    assert "Copy it again" in str(error)
    frames = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    ours = [frame for frame in frames if "orbatch_provider" in frame.filename]
    assert ours
    assert all(SECRET not in str(frame.locals) for frame in ours)
    assert SECRET not in str(error)


def refusal_of(way: str, key: str) -> ConfigurationError:
    def use() -> None:
        if way in BLOCKING:
            BLOCKING[way](api_key=key)
        else:
            OpenRouterProvider(key if way == "argument" else None)

    with pytest.raises(ConfigurationError) as caught:
        use()
    return caught.value


@pytest.mark.parametrize("key", [None, "", "  "])
async def test_without_a_key_nothing_is_sent(raw_server: RawServer, tmp_path: Path, key: str | None) -> None:
    raw_server.script(answer(JOB))
    calls: list[Callable[[OpenRouterProvider], Awaitable[object]]] = [
        lambda provider: provider.submit(REQUEST),
        lambda provider: provider.generate_video("a cat", "m/m"),
        lambda provider: provider.generate_image("a cat", "m/m"),
        lambda provider: provider.create_images(REQUEST, tmp_path, "x"),
        lambda provider: provider.generate_text("a cat", "m/m"),
        lambda provider: provider.complete_text(REQUEST),
        lambda provider: provider.poll("job-1"),
        lambda provider: provider.download("job-1", 0, tmp_path / "clip.part"),
        lambda provider: provider.key(),
        lambda provider: provider.generation("gen-1"),
    ]

    async with OpenRouterProvider(key, base_url=raw_server.url) as provider:
        for call in calls:
            with pytest.raises(ConfigurationError, match="OPENROUTER_API_KEY"):
                await call(provider)

    assert raw_server.connections == 0


def test_the_key_of_the_environment_is_used_and_stripped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", f" {KEY}\n")

    assert ApiKey.read(None).reveal() == KEY
    assert ApiKey.read("other").reveal() == "other"
