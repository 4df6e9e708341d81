"""The one-call forms: their keywords, their blocking twins, and one provider in several event loops."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, get_type_hints

import httpx
import pytest
import respx

import orbatch
import orbatch_provider
from orbatch_provider import OpenRouterProvider, requests
from orbatch_provider.errors import OutcomeUnknownError
from orbatch_simulator import SimulatorSettings, simulator_thread
from tests.provider.rawserver import clip

KEY = "sk-or-v1-c0ffee0123456789"
KINDS = ["image", "text", "video"]
BASE = "https://openrouter.ai/api/v1"


def job(status: str) -> Mapping[str, str]:
    return {"id": "job-1", "status": status}


def test_every_kind_in_one_blocking_call(tmp_path: Path) -> None:
    with simulator_thread() as simulator:
        where: Any = {"api_key": KEY, "base_url": simulator.base_url}
        image = orbatch.generate_image("A cat", "openrouter/recraft/recraft-v4", n=2, directory=tmp_path, **where)
        text = orbatch_provider.generate_text("Hi", "openai/gpt-4o-mini", max_tokens=5, **where)
        assert image.cost_usd == Decimal("0.08")
        assert sorted(file.path for file in image.images) == sorted(tmp_path.iterdir())
        assert (text.text, text.files) == ("A simulated answer o", ())
        assert simulator.journal.charged == Decimal("0.08") + (text.cost_usd or 0)
    with respx.mock(base_url=BASE, using="httpx") as router:
        submit = router.post("/videos").respond(202, json=job("pending"))
        router.get("/videos/job-1").respond(200, json=job("completed"))
        router.get("/videos/job-1/content").respond(200, headers={"content-type": "video/mp4"}, content=clip())
        video = orbatch.generate_video("a cat", "m/m", api_key=KEY, duration=5, poll_interval=0, directory=tmp_path)
    assert video.videos[0].get_bytes() == clip()
    assert json.loads(submit.calls.last.request.content)["duration"] == 5


@pytest.mark.parametrize("kind", KINDS)
async def test_in_an_event_loop_the_blocking_calls_name_the_method_to_await(kind: str) -> None:
    with pytest.raises(RuntimeError, match=rf"await provider\.generate_{kind}\("):
        getattr(orbatch, f"generate_{kind}")("A cat", "a/b", api_key=KEY)


@pytest.mark.parametrize("kind", KINDS)
def test_the_keywords_are_the_fields_of_the_request(kind: str) -> None:
    fields = requests.named_fields(getattr(requests, f"{kind.title()}Request"))
    options = set(get_type_hints(getattr(requests, f"{kind.title()}Options")))
    method = inspect.signature(getattr(OpenRouterProvider, f"generate_{kind}")).parameters
    twin = inspect.signature(getattr(orbatch_provider, f"generate_{kind}")).parameters
    assert {"prompt", "model", *options - {"extra", "directory", "poll_interval", "timeout"}} == set(fields)
    assert [name for name in twin if name not in {"api_key", "base_url"}] == list(method)[1:]


@pytest.mark.parametrize(
    ("kind", "typo", "hint"),
    [
        pytest.param("video", "durration", "did you mean 'duration'?", id="of a field"),
        pytest.param("video", "poll_intervall", "did you mean 'poll_interval'?", id="of an option"),
        pytest.param("image", "qualty", "did you mean 'quality'?", id="of an image"),
        pytest.param("text", "max_token", "did you mean 'max_tokens'?", id="of a text"),
        pytest.param("text", "zzz", r"extra=\{\.\.\.\}", id="nothing near"),
    ],
)
async def test_an_unknown_keyword_is_refused_before_anything_is_sent(kind: str, typo: str, hint: str) -> None:
    with respx.mock(using="httpx"):
        async with OpenRouterProvider(KEY) as provider:
            with pytest.raises(TypeError, match=hint.replace("?", r"\?")):
                await getattr(provider, f"generate_{kind}")("a cat", "a/b", **{typo: 5})


def service(request: httpx.Request) -> httpx.Response:
    if request.method == "POST":
        return httpx.Response(202, json=job("pending"))
    if request.url.path.endswith("content"):
        return httpx.Response(200, headers={"content-type": "video/mp4"}, content=clip())
    return httpx.Response(200, json=job("completed"))


def test_a_transport_of_httpx_can_replace_the_network(tmp_path: Path) -> None:
    async def generate() -> bytes:
        async with OpenRouterProvider(KEY, transport=httpx.MockTransport(service)) as provider:
            result = await provider.generate_video("a cat", "m/m", poll_interval=0, directory=tmp_path)
            return result.videos[0].get_bytes()

    assert asyncio.run(generate()) == clip()


def test_a_provider_works_in_one_event_loop_after_another(tmp_path: Path) -> None:
    with simulator_thread(SimulatorSettings(speed=1000)) as simulator:
        provider = OpenRouterProvider(KEY, base_url=simulator.base_url)
        request = {"model": "google/veo-3.1-lite", "prompt": "a cat", "duration": 4, "resolution": "720p"}
        first, second = [asyncio.run(provider.submit(request)) for _ in range(2)]
        assert first.id != second.id
        for submitted in (first, second):
            assert asyncio.run(provider.poll(submitted.id)).id == submitted.id
        for _ in range(2):
            result = asyncio.run(
                provider.generate_video(
                    "a cat",
                    "google/veo-3.1-lite",
                    duration=4,
                    resolution="720p",
                    poll_interval=0.01,
                    directory=tmp_path,
                )
            )
            assert result.videos[0].size > 0
        asyncio.run(provider.aclose())


def test_a_read_that_waits_for_a_connection_works_in_the_second_loop_too() -> None:
    async def polls(provider: OpenRouterProvider) -> int:
        return len(await asyncio.gather(*(provider.poll("job-1") for _ in range(300))))

    with respx.mock(using="httpx") as router:
        router.get().respond(200, json=job("pending"))
        provider = OpenRouterProvider(KEY)
        assert [asyncio.run(polls(provider)) for _ in range(2)] == [300, 300]


def test_an_error_in_the_second_loop_says_what_happened_there() -> None:
    provider = OpenRouterProvider(KEY, transport=httpx.MockTransport(service))
    asyncio.run(provider.submit({"model": "a/b", "prompt": "x"}))
    with respx.mock(using="httpx") as router:
        router.post().mock(side_effect=httpx.ReadError("cut"))
        with pytest.raises(OutcomeUnknownError, match="ReadError: cut"):
            asyncio.run(provider.submit({"model": "a/b", "prompt": "x"}))
