"""The API key shows up nowhere: no repr, log, error, traceback with locals, pickle or result."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from orbatch_provider import OpenRouterProvider, generate_image, generate_text, generate_video
from orbatch_provider.errors import ConfigurationError, OpenRouterError
from orbatch_provider.http.credentials import ApiKey
from tests.images import answer_with, painted
from tests.provider.conftest import CALLS, KEY, REQUEST, SECRET, Call, Wire
from tests.provider.rawserver import (
    Exchange,
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

JOB = {"id": "job-1", "status": "completed"}
ONE_CALL: dict[str, Call] = {
    "generate_video": lambda provider, _: provider.generate_video("a cat", "m/m", timeout=0),
    "generate_image": lambda provider, _: provider.generate_image("a cat", "m/m"),
    "generate_text": lambda provider, _: provider.generate_text("a cat", "m/m"),
}
WITH_KEY = {name: call for name, call in (CALLS | ONE_CALL).items() if name != "models"}
BLOCKING: dict[str, Callable[..., object]] = {
    call.__name__: partial(call, "a cat", "m/m") for call in (generate_video, generate_image, generate_text)
}


def sent_key(exchange: Exchange) -> str:
    assert exchange.request is not None
    return exchange.request.headers["authorization"]


async def echo(exchange: Exchange) -> None:
    """Answer 400 with all that was sent, in the body and in a header."""
    sent = sent_key(exchange)
    exchange.writer.write(raw_answer({"error": {"code": 400, "message": sent}}, 400, headers={"X-Sent": sent}))


async def echo_as_garbage(exchange: Exchange) -> None:
    exchange.writer.write(f"{sent_key(exchange)} what?\r\n\r\n".encode())


async def redirect_with_key(exchange: Exchange) -> None:
    location = f"http://elsewhere.example/{sent_key(exchange).split()[-1]}"
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
@pytest.mark.parametrize("call", WITH_KEY)
async def test_no_error_shows_the_key_not_even_with_locals(
    hasty: Wire, tmp_path: Path, caplog: pytest.LogCaptureFixture, call: str, script: list[Step]
) -> None:
    caplog.set_level(logging.DEBUG)
    hasty.script(script)

    with pytest.raises(OpenRouterError) as caught:
        await WITH_KEY[call](hasty.provider, tmp_path)

    assert SECRET not in everything_said(caught.value)
    assert SECRET not in caplog.text
    assert hasty.requests[0].headers["authorization"] == f"Bearer {KEY}"  # it was there to be leaked


async def test_an_interrupted_call_does_not_show_the_key(hasty: Wire) -> None:
    arrived = asyncio.Event()

    async def tell(_: Exchange) -> None:
        arrived.set()

    hasty.script([read_request, tell, stall])
    task = asyncio.create_task(hasty.provider.submit(REQUEST))
    await arrived.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError) as caught:
        await task

    assert SECRET not in everything_said(caught.value)


async def test_a_refused_connection_does_not_show_the_key(wire: Wire, servers: Servers) -> None:
    await servers.stop()

    with pytest.raises(OpenRouterError) as caught:
        await wire.provider.submit(REQUEST)

    assert SECRET not in everything_said(caught.value)


async def test_what_the_provider_echoes_is_not_in_the_result(wire: Wire, tmp_path: Path) -> None:
    wire.script(
        answer({**JOB, "prompt": f"Bearer {KEY}"}),
        answer(answer_with(painted(), echo=KEY)),
        answer({"id": KEY, "choices": [{"x": KEY}]}),
    )

    job = await wire.provider.poll("job-1")
    images = await wire.provider.create_images(REQUEST, tmp_path, "x")
    text = await wire.provider.complete_text(REQUEST)

    assert SECRET not in repr([job, job.raw, images, images.raw, text, text.raw])


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
async def test_without_a_key_nothing_is_sent(wire: Wire, tmp_path: Path, key: str | None) -> None:
    wire.script(answer(JOB))

    async with OpenRouterProvider(key, base_url=wire.server.url) as provider:
        for name, call in WITH_KEY.items():
            missing = "OPENROUTER_MANAGEMENT_KEY" if name == "analytics" else "OPENROUTER_API_KEY"
            with pytest.raises(ConfigurationError, match=missing):
                await call(provider, tmp_path)

    assert wire.server.connections == 0


def test_the_key_of_the_environment_is_used_and_stripped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", f" {KEY}\n")

    assert ApiKey.read(None).reveal() == KEY
    assert ApiKey.read("other").reveal() == "other"


GATEWAY_KEY = "gateway_TOPSECRET.token~1234/5678"  # not of the form of OpenRouter's keys
ESCAPED = "".join(f"\\u{ord(char):04x}" for char in GATEWAY_KEY)


@pytest.mark.parametrize(
    ("echoed", "shown"),
    [
        pytest.param(GATEWAY_KEY, "[redacted key]", id="plain"),
        pytest.param(f"a {GATEWAY_KEY[:12]} b", "a [redacted key] b", id="beginning"),
        pytest.param(f"{GATEWAY_KEY[9:25]}, {GATEWAY_KEY[12:]}", "[redacted key], [redacted key]", id="parts"),
        pytest.param(ESCAPED, "[redacted key]", id="escaped"),
        pytest.param(ESCAPED.replace("\\", "\\\\"), "[redacted key]", id="escaped twice"),
        pytest.param(GATEWAY_KEY[:9] + ESCAPED[54:], "[redacted key]", id="half escaped"),
        pytest.param(GATEWAY_KEY.replace("/", "\\/"), "[redacted key]", id="slash escaped"),
        pytest.param("\\u0067 TOPSECRET", "\\u0067 TOPSECRET", id="nothing of it"),
    ],
)
def test_the_key_is_hidden_plain_escaped_and_in_parts(echoed: str, shown: str) -> None:
    key = ApiKey(GATEWAY_KEY)

    assert key.hide(echoed) == shown
    assert key.hide_bytes(echoed.encode()) == shown.encode()


def test_zeros_of_a_key_are_no_secret() -> None:
    key = ApiKey("sk-or-v1-" + "0" * 40)

    assert key.hide("0.00000000000000000000 of sk-or-v1-" + "0" * 40) == "0.00000000000000000000 of [redacted key]"
    assert ApiKey("").hide("all of it") == "all of it"
    assert ApiKey("aaaaaaaaaaaaaaaa").hide("aaaaaaaaaaaaaaaa") == "[redacted key]"


@pytest.mark.parametrize("name", sorted(WITH_KEY.keys() & CALLS.keys()))
@pytest.mark.parametrize("status", [200, 400])
async def test_a_key_of_a_gateway_that_is_echoed_as_escapes_is_in_no_error(wire: Wire, name: str, status: int) -> None:
    body = '{"error": {"code": 400, "message": "Invalid key ' + ESCAPED + '"}}'
    wire.script(answer(body, status))

    async with OpenRouterProvider(GATEWAY_KEY, management_key=GATEWAY_KEY, base_url=wire.server.url) as provider:
        with pytest.raises(OpenRouterError) as caught:
            await CALLS[name](provider, wire.part.parent)

    assert "Invalid key [redacted key]" in str(caught.value)


async def test_a_key_that_is_echoed_as_content_is_in_no_error(wire: Wire) -> None:
    wire.script(answer(GATEWAY_KEY * 9, content_type="video/mp4"))

    async with OpenRouterProvider(GATEWAY_KEY, management_key=GATEWAY_KEY, base_url=wire.server.url) as provider:
        with pytest.raises(OpenRouterError) as caught:
            await provider.download("job-1", 0, wire.part)

    assert "TOPSECRET" not in str(caught.value)
