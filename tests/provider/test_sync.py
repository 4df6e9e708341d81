"""The one-call forms: their keywords, their blocking twins, and one provider in several event loops."""

from __future__ import annotations

import asyncio
import inspect
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, get_type_hints

import httpx
import pytest
import respx

import orbatch
import orbatch_provider
from orbatch_provider import OpenRouterProvider, VideoJob, client, requests
from orbatch_provider.client import run_in_thread
from orbatch_provider.errors import OutcomeUnknownError
from orbatch_simulator import SimulatorSettings, simulator_thread
from tests.provider.conftest import REQUEST, Mocked
from tests.provider.rawserver import clip

KEY = "sk-or-v1-c0ffee0123456789"  # the simulator knows no other form
KINDS = ["image", "text", "video"]
VIDEO: dict[str, Any] = {"duration": 4, "resolution": "720p", "generate_audio": False}


def service(request: httpx.Request) -> httpx.Response:
    """Of one job that is completed at once."""
    if request.url.path.endswith("content"):
        return httpx.Response(200, headers={"content-type": "video/mp4"}, content=clip())
    started = request.method == "POST"
    return httpx.Response(
        202 if started else 200, json={"id": "job-1", "status": "pending" if started else "completed"}
    )


def test_every_kind_in_one_blocking_call(tmp_path: Path) -> None:
    with simulator_thread(SimulatorSettings(speed=1000)) as simulator:
        where: Any = {"api_key": KEY, "base_url": simulator.base_url}
        image = orbatch.generate_image("A cat", "openrouter/recraft/recraft-v4", n=2, directory=tmp_path, **where)
        text = orbatch_provider.generate_text("Hi", "openai/gpt-4o-mini", max_tokens=5, **where)
        assert sorted(file.path for file in image.images) == sorted(tmp_path.iterdir())
        video = orbatch.generate_video(
            "a cat", "google/veo-3.1-lite", poll_interval=0.01, directory=tmp_path, **VIDEO, **where
        )
    assert (text.text, text.files) == ("A simulated answer o", [])
    assert video.videos[0].path.parent == tmp_path
    assert (image.cost_usd, video.cost_usd) == (0.08, 0.12)  # 2 images, 4 s without audio
    assert text.usage is not None
    assert simulator.journal.charged == Decimal("0.20") + (text.usage.cost or 0)


async def test_in_an_event_loop_as_of_a_notebook_they_work_in_a_thread(tmp_path: Path) -> None:
    with simulator_thread(SimulatorSettings(speed=400)) as simulator:
        text = orbatch_provider.generate_text(
            "Hi", "openai/gpt-4o-mini", max_tokens=5, api_key=KEY, base_url=simulator.base_url
        )
        with pytest.raises(orbatch_provider.OpenRouterError):
            orbatch.generate_video("a cat", "no/such", api_key=KEY, base_url=simulator.base_url, directory=tmp_path)
    assert text.text == "A simulated answer o"


@pytest.mark.parametrize("kind", KINDS)
def test_the_keywords_are_the_fields_of_the_request(kind: str) -> None:
    fields = requests.named_fields(getattr(requests, f"{kind.title()}Request"))
    options = set(get_type_hints(getattr(requests, f"{kind.title()}Options")))
    method = inspect.signature(getattr(OpenRouterProvider, f"generate_{kind}")).parameters
    twin = inspect.signature(getattr(orbatch_provider, f"generate_{kind}")).parameters
    others = {"extra", "directory", "poll_interval", "timeout", "on_poll", "image_urls", "image_config"}
    assert {"prompt", "model", *options - others} == set(fields)
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
async def test_an_unknown_keyword_is_refused_before_anything_is_sent(
    mocked: Mocked, kind: str, typo: str, hint: str
) -> None:
    with pytest.raises(TypeError, match=hint.replace("?", r"\?")):
        await getattr(mocked.provider, f"generate_{kind}")("a cat", "a/b", **{typo: 5})


def test_httpx_transports_and_respx_can_stand_in_for_the_whole_service(tmp_path: Path) -> None:
    async def generate(**options: Any) -> bytes:
        async with OpenRouterProvider(KEY, **options) as provider:
            result = await provider.generate_video("a cat", "m/m", poll_interval=0, directory=tmp_path)
            return result.videos[0].get_bytes()

    assert asyncio.run(generate(transport=httpx.MockTransport(service))) == clip()
    with respx.mock(using="httpx") as router:
        router.route().mock(side_effect=service)
        assert asyncio.run(generate()) == clip()


def test_a_provider_works_in_one_event_loop_after_another(tmp_path: Path) -> None:
    with simulator_thread(SimulatorSettings(speed=1000)) as simulator:
        provider = OpenRouterProvider(KEY, base_url=simulator.base_url)
        request = {"model": "google/veo-3.1-lite", "prompt": "a cat", **VIDEO}
        first, second = [asyncio.run(provider.submit(request)) for _ in range(2)]
        assert first.id != second.id
        for submitted in (first, second):
            assert asyncio.run(provider.poll(submitted.id)).id == submitted.id
            done = asyncio.run(provider.wait(submitted.id, poll_interval=0.01))
            (file,) = asyncio.run(provider.fetch(done, tmp_path))
            assert file.size > 0
        asyncio.run(provider.aclose())


def test_a_read_that_waits_for_a_connection_works_in_the_second_loop_too() -> None:
    async def polls(provider: OpenRouterProvider) -> int:
        return len(await asyncio.gather(*(provider.poll("job-1") for _ in range(300))))

    with respx.mock(using="httpx") as router:
        router.route().mock(side_effect=service)
        provider = OpenRouterProvider(KEY)
        assert [asyncio.run(polls(provider)) for _ in range(2)] == [300, 300]


def test_an_error_in_the_second_loop_says_what_happened_there() -> None:
    provider = OpenRouterProvider(KEY, transport=httpx.MockTransport(service))
    asyncio.run(provider.submit(REQUEST))
    with respx.mock(using="httpx") as router:
        router.post().mock(side_effect=httpx.ReadError("cut"))
        with pytest.raises(OutcomeUnknownError, match="ReadError: cut"):
            asyncio.run(provider.submit(REQUEST))


def interrupt_main() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@contextmanager
def notebook() -> Iterator[None]:
    """SIGINT as a notebook has it; inside the test, as the runner of its loop takes over the handler before."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


async def test_an_interruption_before_the_call_has_started_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    started, noticed, run = [], threading.Event(), asyncio.run

    def run_late(call: Coroutine[Any, Any, None]) -> None:
        interrupt_main()
        noticed.wait()
        run(call)

    async def call() -> None:
        started.append(True)

    monkeypatch.setattr(client, "Event", lambda: noticed)
    monkeypatch.setattr("orbatch_provider.client.asyncio.run", run_late)
    with notebook(), pytest.raises(KeyboardInterrupt):
        run_in_thread(call())
    assert started == []


async def test_a_second_interruption_ends_the_wait_and_says_what_is_open() -> None:
    let_go = threading.Event()

    async def call() -> None:
        try:
            interrupt_main()
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            interrupt_main()
            let_go.wait()
            raise

    with notebook(), pytest.raises(KeyboardInterrupt) as caught:
        run_in_thread(call())
    let_go.set()
    assert [note for note in caught.value.__notes__ if "may be paid for" in note]


def notes_of_interrupted_call(directory: Path, on_poll: Callable[[VideoJob], None]) -> list[str]:
    """What a call says that ``on_poll`` interrupts."""
    with simulator_thread(SimulatorSettings(speed=1)) as simulator, pytest.raises(KeyboardInterrupt) as caught:
        orbatch.generate_video(
            "a cat",
            api_key=KEY,
            base_url=simulator.base_url,
            directory=directory,
            poll_interval=0.01,
            on_poll=on_poll,
            **VIDEO,
        )
    return caught.value.__notes__


async def test_an_interruption_in_a_notebook_names_the_job_that_is_paid_for(tmp_path: Path) -> None:
    seen: list[str] = []

    def interrupt_once(job: VideoJob) -> None:
        if not seen:
            interrupt_main()
        seen.append(job.id)

    with notebook():
        notes = notes_of_interrupted_call(tmp_path, interrupt_once)
    assert [note for note in notes if seen[0] in note and "is paid for" in note]


async def test_an_interruption_by_a_callback_names_the_job_once(tmp_path: Path) -> None:
    def interrupt(_: VideoJob) -> None:
        raise KeyboardInterrupt

    notes = notes_of_interrupted_call(tmp_path, interrupt)
    assert ["is paid for" in note for note in notes] == [True]
