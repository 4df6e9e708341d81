"""What is refused, with which status, and that nothing is accepted or charged for it."""

from __future__ import annotations

import base64
from decimal import Decimal
from typing import Any

import pytest

from orbatch_simulator import SimulatorSettings
from tests.simulator.conftest import KEY, REQUEST, Caller, Open

PNG = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(16)).decode()
HAILUO = "minimax/hailuo-2.3"  # 6 or 10 s, 1080p, 16:9, no audio, no seed, first frame only
KLING = "kwaivgi/kling-video-o1"
AUDIO = "data:audio/mp3;base64,AA=="


def frame(url: str = "https://example.com/a.png", frame_type: str = "first_frame") -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}, "frame_type": frame_type}


def reference(kind: str, url: str) -> dict[str, Any]:
    return {"type": kind, kind: {"url": url}}


def hailuo(**fields: Any) -> dict[str, Any]:
    return {"model": HAILUO, "duration": 6, "resolution": "1080p", "generate_audio": None, **fields}


ERROR_TYPES = {"invalid_request", "invalid_prompt", "invalid_image", "unsupported_image_format"}
REFUSED = [
    pytest.param({"duration": 5}, "duration", id="a duration between those offered"),
    pytest.param({"duration": 0}, "duration", id="no seconds"),
    pytest.param({"duration": "4"}, "duration", id="a duration as text"),
    pytest.param({"duration": True}, "duration", id="a boolean for a number"),
    pytest.param({"duration": 4.0}, "duration", id="a float for an integer"),
    pytest.param({"resolution": "4K"}, "resolution", id="a resolution the model lacks"),
    pytest.param({"resolution": "720P"}, "resolution", id="a resolution in the wrong case"),
    pytest.param({"model": "google/veo-3.1", "resolution": "4k"}, "resolution", id="4k for 4K"),
    pytest.param({"aspect_ratio": "1:1"}, "aspect_ratio", id="a ratio the model lacks"),
    pytest.param({"aspect_ratio": "16/9"}, "aspect_ratio", id="not a ratio"),
    pytest.param({"resolution": None, "size": "640x640"}, "size", id="a size the model lacks"),
    pytest.param({"resolution": None, "size": "1280*720"}, "size", id="not a size"),
    pytest.param({"size": "1280x720"}, "size", id="size with resolution"),
    pytest.param({"resolution": None, "aspect_ratio": "16:9", "size": "1280x720"}, "size", id="size with ratio"),
    pytest.param(hailuo(generate_audio=True), "generate_audio", id="audio from a silent model"),
    pytest.param({"generate_audio": "no"}, "generate_audio", id="audio as text"),
    pytest.param(hailuo(seed=1), "seed", id="a seed where there is none"),
    pytest.param({"model": KLING, "duration": 5, "seed": 1}, "seed", id="a seed where it says false"),
    pytest.param({"seed": 1.5}, "seed", id="a seed that is not an integer"),
    pytest.param(hailuo(frame_images=[frame(frame_type="last_frame")]), "frame_images", id="a last frame"),
    pytest.param({"frame_images": [frame(), frame()]}, "frame_images", id="two first frames"),
    pytest.param({"frame_images": [frame(frame_type="middle")]}, "frame_images", id="an unknown frame type"),
    pytest.param({"frame_images": frame()}, "frame_images", id="a frame that is not a list"),
    pytest.param({"frame_images": [{"type": "image_url"}]}, "frame_images", id="a frame without an image"),
    pytest.param({"frame_images": [frame("cat.png")]}, "frame_images", id="a local path"),
    pytest.param({"frame_images": [frame("file:///tmp/cat.png")]}, "frame_images", id="a file URL"),
    pytest.param({"frame_images": [frame("http://example.com/a.png")]}, "frame_images", id="plain http"),
    pytest.param({"frame_images": [frame("data:image/png;base64,???")]}, "frame_images", id="bad base64"),
    pytest.param({"frame_images": [frame("data:image/png;base64,R0lGODlh")]}, "frame_images", id="a GIF named PNG"),
    pytest.param({"frame_images": [frame("data:text/html;base64,PGI+")]}, "frame_images", id="HTML as an image"),
    pytest.param({"input_references": [reference("video_url", PNG)]}, "input_references", id="a video as data"),
    pytest.param({"input_references": [reference("audio_url", AUDIO)]}, "input_references", id="audio as data"),
    pytest.param({"input_references": [{"type": "pdf_url"}]}, "input_references", id="an unknown reference"),
    pytest.param({"prompt": None}, "prompt", id="neither prompt nor image"),
    pytest.param({"prompt": ""}, "prompt", id="an empty prompt"),
    pytest.param({"prompt": 7}, "prompt", id="a prompt that is not a string"),
    pytest.param({"model": ""}, "model", id="an empty model"),
    pytest.param({"upscale_factor": 2}, "upscale_factor", id="upscaling by a generator"),
    pytest.param({"creativity": 1}, "creativity", id="creativity of a generator"),
    pytest.param({"provider": {"options": {"google": "x"}}}, "provider", id="options that are not an object"),
    pytest.param({"callback_url": "http://example.com"}, "callback_url", id="a callback without https"),
    pytest.param({"session_id": "x" * 257}, "session_id", id="a long session id"),
]


@pytest.mark.parametrize(("changes", "named"), REFUSED)
async def test_an_unsupported_request_is_refused_with_400_and_names_the_field(
    caller: Caller, changes: dict[str, Any], named: str
) -> None:
    reply = await caller.submit(**changes)
    assert reply.status == 400
    error = reply.json["error"]
    assert error["code"] == 400
    assert error["message"].startswith(named)
    assert error["metadata"]["error_type"] in ERROR_TYPES
    assert (caller.simulator.journal.accepted, caller.simulator.journal.refused) == (0, {400: 1})


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="a plain request"),
        pytest.param({"duration": None, "resolution": None, "generate_audio": None}, id="nothing but a prompt"),
        pytest.param({"resolution": None, "size": "1280x720"}, id="only a size"),
        pytest.param({"prompt": None, "frame_images": [frame()]}, id="an image without a prompt"),
        pytest.param({"frame_images": [frame(PNG)]}, id="an image as a data URL"),
        pytest.param({"frame_images": [frame(), frame(frame_type="last_frame")]}, id="first and last frame"),
        pytest.param({"input_references": [reference("video_url", "https://example.com/a.mp4")]}, id="a reference"),
        pytest.param({"provider": {"options": {"google": {"unheardOf": 1}}}}, id="an unknown passthrough option"),
        pytest.param({"fps": 24, "quality": "high"}, id="fields the API does not know"),
        pytest.param({"user": "u", "session_id": "s", "trace": {"trace_id": "t"}, "seed": 3}, id="the other fields"),
        pytest.param(hailuo(generate_audio=False), id="audio off on a silent model"),
    ],
)
async def test_a_supported_request_is_accepted(caller: Caller, changes: dict[str, Any]) -> None:
    assert (await caller.submit(**changes)).status == 202
    assert caller.simulator.journal.accepted == 1


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"upscale_factor": 2, "creativity": 0}, 202),
        ({}, 202),
        ({"upscale_factor": 4}, 400),
        ({"upscale_factor": 0}, 400),
    ],
)
async def test_an_upscaler_takes_what_belongs_to_it(caller: Caller, changes: dict[str, Any], status: int) -> None:
    video = [reference("video_url", "https://example.com/a.mp4")]
    request = {"model": "black-forest-labs/flux-video-upscale", "prompt": None, "input_references": video, **changes}
    reply = await caller.submit(**request, duration=None, resolution=None, generate_audio=None)
    assert reply.status == status
    assert status == 202 or reply.json["error"]["message"] == "upscale_factor: must be between 1.5 and 3"


async def test_audio_off_can_be_refused_too_where_a_model_has_no_audio(open_simulator: Open) -> None:
    caller = await open_simulator(SimulatorSettings(refuse_audio_off=True))
    assert (await caller.submit(**hailuo(generate_audio=False))).status == 400


@pytest.mark.parametrize("model", ["google/veo-9", "openrouter/google/veo-3.1-lite", "GOOGLE/veo-3.1-lite"])
async def test_an_unknown_model_is_refused_with_404_and_named(caller: Caller, model: str) -> None:
    reply = await caller.submit(model=model)
    assert (reply.status, reply.json["error"]["code"]) == (404, 404)
    assert model in reply.json["error"]["message"]


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'"x"', b"null", b"\xff\xfe"])
async def test_a_body_that_is_no_json_object_is_refused_with_400(caller: Caller, text: bytes) -> None:
    assert (await caller.call("POST", "/videos", data=text)).status == 400


async def test_a_large_body_is_refused_with_413(open_simulator: Open) -> None:
    caller = await open_simulator(SimulatorSettings(max_body_bytes=10_000))
    reply = await caller.submit(prompt="x" * 20_000)
    assert (reply.status, reply.json["error"]["metadata"]["error_type"]) == (413, "payload_too_large")


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="no header"),
        pytest.param({"Authorization": "Bearer"}, id="no key"),
        pytest.param({"Authorization": "Bearer hf_123"}, id="another service's key"),
        pytest.param({"Authorization": KEY}, id="no scheme"),
        pytest.param({"Authorization": f"Basic {KEY}"}, id="another scheme"),
    ],
)
async def test_a_call_without_a_key_is_refused_with_401(caller: Caller, headers: dict[str, str]) -> None:
    job_id = await caller.finish()
    calls = [("POST", "/videos"), ("GET", "/key"), ("GET", f"/videos/{job_id}"), ("GET", f"/videos/{job_id}/content")]
    for method, path in calls:
        reply = await caller.call(method, path, key=None, headers=headers, json=dict(REQUEST))
        assert (reply.status, reply.json["error"]["code"]) == (401, 401), path


async def test_only_listed_keys_are_known_when_there_is_a_list(open_simulator: Open) -> None:
    caller = await open_simulator(SimulatorSettings(api_keys=frozenset({"sk-or-v1-mine"})))
    assert (await caller.submit()).status == 401
    assert (await caller.call("POST", "/videos", key="sk-or-v1-mine", json=dict(REQUEST))).status == 202
    assert "sk-or" not in repr(caller.simulator.state.settings)


async def test_another_key_does_not_see_the_job(caller: Caller) -> None:
    job_id = await caller.finish()
    for path in (f"/videos/{job_id}", f"/videos/{job_id}/content"):
        assert (await caller.call("GET", path, key="sk-or-v1-another")).status == 404


@pytest.mark.parametrize(("limit", "status"), [("credit_usd", 402), ("key_limit_usd", 402), ("budget_usd", 403)])
async def test_a_job_beyond_the_money_is_refused(open_simulator: Open, limit: str, status: int) -> None:
    limits: Any = {limit: Decimal("0.30")}
    caller = await open_simulator(SimulatorSettings(**limits))
    replies = [await caller.submit(prompt=str(n)) for n in range(4)]
    assert [reply.status for reply in replies] == [202, 202, status, status]
    assert caller.simulator.journal.committed == Decimal("0.24")


async def test_more_submits_than_the_rate_allows_are_refused_with_429_until_the_minute_is_over(
    open_simulator: Open,
) -> None:
    caller = await open_simulator(SimulatorSettings(submits_per_minute=2))
    replies = [await caller.submit(prompt=str(n)) for n in range(3)]
    assert [reply.status for reply in replies] == [202, 202, 429]
    assert (replies[2].headers["Retry-After"], replies[2].headers["X-RateLimit-Limit"]) == ("60", "2")
    assert "X-RateLimit-Limit" not in replies[1].headers
    caller.clock.advance(60)
    assert (await caller.submit()).status == 202


async def test_a_continuation_needs_a_completed_job_of_the_same_model(caller: Caller) -> None:
    flux = {"model": "black-forest-labs/flux-3-video", "duration": 5}
    before = await caller.start(**flux)
    assert (await caller.submit(**flux, previous_job_id=before)).status == 400
    caller.clock.advance(10_000)
    assert (await caller.submit(**flux, previous_job_id=before)).status == 202
    assert (await caller.submit(previous_job_id=before)).status == 400
    assert (await caller.submit(**flux, previous_job_id="gen-vid-none")).status == 404


async def test_unknown_paths_and_methods_are_refused_in_the_same_envelope(caller: Caller) -> None:
    for method, path, status in (("GET", "/nothing", 404), ("DELETE", "/videos/x", 405), ("GET", "/videos", 405)):
        reply = await caller.call(method, path)
        assert (reply.status, reply.json["error"]["code"]) == (status, status)
        assert ("Allow" in reply.headers) is (status == 405)


async def test_a_list_of_models_is_filtered_by_what_they_make(caller: Caller) -> None:
    assert (await caller.get("/models?output_modalities=text"))["data"]
    assert (await caller.get("/models?output_modalities=video"))["data"] == []
