"""The official Python SDK runs against the simulator unchanged: what it takes for OpenRouter is OpenRouter enough."""

from __future__ import annotations

import io
from collections.abc import Iterator
from decimal import Decimal

import av
import pytest
from openrouter import OpenRouter, errors

from orbatch_provider.simulator import Fault, Simulator, SimulatorSettings, simulator_thread

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
    assert done.usage.cost == float(simulator.books.charged)
    answer = sdk.video_generation.get_video_content(job_id=job.id)
    with av.open(io.BytesIO(answer.read()), "r") as clip:
        assert (clip.streams.video[0].width, clip.duration) == (480, 4 * av.time_base)
        assert clip.streams.audio
    assert (simulator.books.accepted, simulator.books.downloads) == (1, 1)


async def test_the_same_from_async_code(simulator: Simulator) -> None:
    async with OpenRouter(api_key=KEY, server_url=simulator.base_url) as sdk:
        job = await sdk.video_generation.generate_async(model="google/veo-3.1-lite", prompt="A cat", duration=4)
        assert (await sdk.video_generation.get_generation_async(job_id=job.id)).status == "completed"
        answer = await sdk.video_generation.get_video_content_async(job_id=job.id)
        assert (await answer.aread())[4:8] == b"ftyp"


def test_list_models(sdk: OpenRouter) -> None:
    models = {model.id: model for model in sdk.video_generation.list_videos_models().data}
    assert len(models) == 30
    veo = models["google/veo-3.1"]
    assert veo.supported_durations == [4, 6, 8]
    assert isinstance(veo.pricing_skus, dict)
    assert veo.pricing_skus["duration_seconds_with_audio_4k"] == "0.60"


# The SDK's own model of the key has a field that the API calls obsolete.
@pytest.mark.filterwarnings(r"ignore:warning. \*\* DEPRECATED \*\*:DeprecationWarning")
def test_the_key_and_the_generation_are_readable(sdk: OpenRouter) -> None:
    job = sdk.video_generation.generate(model="google/veo-3.1-lite", prompt="A cat", duration=4, generate_audio=False)
    done = sdk.video_generation.get_generation(job_id=job.id)
    assert done.generation_id is not None
    assert sdk.generations.get_generation(id=done.generation_id).data.total_cost == 0.12
    assert Decimal(str(sdk.api_keys.get_current_key_metadata().data.usage)) == Decimal("0.12")


def test_refusals_are_its_own_errors(sdk: OpenRouter, simulator: Simulator) -> None:
    with pytest.raises(errors.BadRequestResponseError, match="does not support 5"):
        sdk.video_generation.generate(model="google/veo-3.1-lite", prompt="A cat", duration=5)
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
    assert simulator.books.accepted == 0
