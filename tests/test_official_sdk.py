"""The official Python SDK runs against the simulator unchanged: what it takes for OpenRouter is OpenRouter enough."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from decimal import Decimal

import av
import pytest
from openrouter import OpenRouter, errors
from openrouter.components import ChatUserMessage
from PIL import Image

from orbatch_simulator import Fault, Simulator, SimulatorSettings, simulator_thread

KEY = "sk-or-v1-c0ffee0123456789"
FAST = SimulatorSettings(speed=1e6, generation_lag_s=0)


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with simulator_thread(FAST) as simulator:
        yield simulator


@pytest.fixture
def sdk(simulator: Simulator) -> Iterator[OpenRouter]:
    with OpenRouter(api_key=KEY, server_url=simulator.base_url) as sdk:
        yield sdk


def test_generate_poll_and_download(sdk: OpenRouter, simulator: Simulator) -> None:
    job = sdk.video_generation.generate(
        model="bytedance/seedance-2.0-mini", prompt="A cat playing", duration=4, resolution="480p", aspect_ratio="1:1"
    )
    assert (job.status, job.usage) == ("pending", None)
    done = sdk.video_generation.get_generation(job_id=job.id)
    assert done.status == "completed"
    assert done.usage is not None
    assert done.usage.cost == float(simulator.journal.charged)
    answer = sdk.video_generation.get_video_content(job_id=job.id)
    with av.open(io.BytesIO(answer.read()), "r") as clip:
        assert (clip.streams.video[0].width, clip.duration) == (480, 4 * av.time_base)
        assert clip.streams.audio
    assert (simulator.journal.accepted, simulator.journal.downloads) == (1, 1)


# The SDK's own model of the key has a field that the API calls obsolete.
@pytest.mark.filterwarnings(r"ignore:warning. \*\* DEPRECATED \*\*:DeprecationWarning")
def test_the_key_and_the_generation_are_readable(sdk: OpenRouter) -> None:
    job = sdk.video_generation.generate(model="google/veo-3.1-lite", prompt="A cat", duration=4, generate_audio=False)
    done = sdk.video_generation.get_generation(job_id=job.id)
    assert done.generation_id is not None
    assert sdk.generations.get_generation(id=done.generation_id).data.total_cost == 0.12
    assert Decimal(str(sdk.api_keys.get_current_key_metadata().data.usage)) == Decimal("0.12")


def test_a_text_is_streamed(sdk: OpenRouter, simulator: Simulator) -> None:
    asked = [ChatUserMessage(role="user", content="A cat")]
    with sdk.chat.send(model="openai/gpt-4o-mini", messages=asked, stream=True) as events:
        chunks = list(events)
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices).endswith("A cat")
    assert chunks[-1].usage is not None
    assert simulator.journal.accepted == 1


def test_refusals_are_its_own_errors(sdk: OpenRouter, simulator: Simulator) -> None:
    with pytest.raises(errors.BadRequestResponseError, match="does not support 5"):
        sdk.video_generation.generate(model="google/veo-3.1-lite", prompt="A cat", duration=5)
    with pytest.raises(errors.BadRequestResponseError, match="n: does not support 2"):
        sdk.images.generate(model="google/gemini-3-pro-image", prompt="A cat", n=2)
    with pytest.raises(errors.BadRequestResponseError, match="not a valid model ID"):
        sdk.chat.send(model="nobody/nothing", messages=[ChatUserMessage(role="user", content="x")])
    with pytest.raises(errors.NotFoundResponseError):
        sdk.video_generation.get_generation(job_id="gen-vid-none")
    simulator.set_faults(Fault("submit", status=429))
    with pytest.raises(errors.TooManyRequestsResponseError):
        sdk.video_generation.generate(model="google/veo-3.1-lite", prompt="A cat", duration=4)
    with (
        OpenRouter(api_key="wrong", server_url=simulator.base_url) as stranger,
        pytest.raises(errors.UnauthorizedResponseError),
    ):
        stranger.video_generation.get_generation(job_id="x")
    assert simulator.journal.accepted == 0


def test_images_come_from_the_image_call(sdk: OpenRouter, simulator: Simulator) -> None:
    answer = sdk.images.generate(
        model="bytedance-seed/seedream-4.5", prompt="A cat playing", n=2, resolution="1K", aspect_ratio="16:9"
    )
    sizes = []
    for item in answer.data:
        with Image.open(io.BytesIO(base64.b64decode(item.b64_json))) as image:
            sizes.append((image.format, image.size))
    assert sizes == [("PNG", (1365, 768))] * 2
    assert answer.usage is not None
    assert answer.usage.cost == float(simulator.journal.charged) == 0.08


async def test_videos_and_texts_from_async_code(simulator: Simulator) -> None:
    async with OpenRouter(api_key=KEY, server_url=simulator.base_url) as sdk:
        job = await sdk.video_generation.generate_async(model="google/veo-3.1-lite", prompt="A cat", duration=4)
        assert (await sdk.video_generation.get_generation_async(job_id=job.id)).status == "completed"
        content = await sdk.video_generation.get_video_content_async(job_id=job.id)
        assert (await content.aread())[4:8] == b"ftyp"
        answer = await sdk.chat.send_async(
            model="openai/gpt-4o-mini", messages=[ChatUserMessage(role="user", content="Say something")], max_tokens=50
        )
    assert answer.choices[0].message.content == "A simulated answer of openai/gpt-4o-mini to: Say something"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.cost == float(next(job.cost_usd for job in simulator.journal.ended() if job.kind == "text"))


def test_the_models_of_all_kinds_are_listed(sdk: OpenRouter) -> None:
    videos = {model.id: model for model in sdk.video_generation.list_videos_models().data}
    assert (len(videos), videos["google/veo-3.1"].supported_durations) == (30, [4, 6, 8])
    prices = videos["google/veo-3.1"].pricing_skus
    assert isinstance(prices, dict)
    assert prices["duration_seconds_with_audio_4k"] == "0.60"
    images = {model.id: model for model in sdk.images.list_models().data}
    assert images["openai/gpt-image-2"].supported_parameters["n"].type == "range"
    found = sdk.images.list_model_endpoints(author="google", slug="gemini-3-pro-image")
    assert [(each.provider_slug, each.pricing[1].cost_usd) for each in found.endpoints] == [
        ("google-vertex/global", 0.00012),
        ("google-ai-studio", 0.00012),
    ]
    page = sdk.models.list(limit=3)
    seen = []
    while page is not None:
        seen += page.result.data
        page = page.next()  # type: ignore[assignment]  # of a client that blocks it is not a coroutine
    assert len(seen) == 5
    assert {model.id: model.pricing.request for model in seen}["perplexity/sonar"] == "0.005"
