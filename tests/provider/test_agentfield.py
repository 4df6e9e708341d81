"""The calls and results that code written for agentfield's OpenRouterProvider uses, on ours. What is different on
purpose is listed in docs/coming-from-agentfield.md."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from orbatch_provider import OpenRouterProvider, errors
from orbatch_provider.responses import FileOutput, JobEndedError, MultimodalResponse
from tests.images import answer_with, painted
from tests.provider.conftest import KEY, Wire
from tests.provider.rawserver import Step, answer, clip

VIDEO = answer(clip(), content_type="video/mp4")
Result = MultimodalResponse


def job(status: str = "pending", **fields: Any) -> Mapping[str, Any]:
    return {"id": "job-abc123", "status": status, "polling_url": "https://elsewhere.example/1"} | fields


DONE = job("completed", unsigned_urls=["https://elsewhere.example/1"], usage={"cost": 0.25, "total_tokens": 0})


async def made(wire: Wire, tmp_path: Path, *polls: Mapping[str, Any], **options: Any) -> Result:
    wire.script(answer(job(), 202), *(answer(poll) for poll in polls or (DONE,)), VIDEO)
    return await wire.provider.generate_video(
        "a dog", "openrouter/google/veo-2.0-generate-001", poll_interval=0, directory=tmp_path, **options
    )


RESULTS: dict[str, Callable[[Result], object]] = {
    "files": lambda r: len(r.files) == 1,
    "files is a list": lambda r: isinstance([*r.files, None], list) and type(r.files) is list,
    "cost_usd == 0.25": lambda r: r.cost_usd == 0.25,
    "cost_usd + 1.5": lambda r: r.cost_usd + 1.5 == 1.75,  # type: ignore[operator]
    "total += cost_usd": lambda r: sum([r.cost_usd or 0], 0.0) == 0.25,
    "format cost_usd": lambda r: f"{r.cost_usd:.2f}" == "0.25",
    "json.dumps cost_usd": lambda r: json.dumps({"cost": r.cost_usd}) == '{"cost": 0.25}',
    "json.dumps raw_response": lambda r: json.loads(json.dumps(r.raw_response))["usage"]["cost"] == 0.25,
    "raw_response fields": lambda r: r.raw_response["id"] == "job-abc123",
    "has_files": lambda r: r.has_files,
    "has_videos": lambda r: r.has_videos and r.videos[0].mime_type == "video/mp4",
    "has_images": lambda r: r.has_images is False,
    "has_audio, audio": lambda r: r.has_audio is False and r.audio is None,
    "is_multimodal": lambda r: r.is_multimodal,
    "text is the prompt": lambda r: r.text == "a dog" == str(r),
    "repr": lambda r: "videos=1" in repr(r),
    "url is the content URL": lambda r: r.videos[0].url.endswith("/videos/job-abc123/content?index=0"),
    "data is base64": lambda r: base64.b64decode(r.videos[0].data) == clip(),
    "get_bytes": lambda r: r.files[0].get_bytes() == clip(),
    "cost of the file": lambda r: r.videos[0].cost_usd == 0.25,
    "model_dump": lambda r: json.loads(json.dumps(r.files[0].model_dump()))["mime_type"] == "video/mp4",
    "filename": lambda r: r.files[0].filename == "job-abc123.mp4",
    "usage as a dictionary": lambda r: r.usage is not None and r.usage.get("total_tokens", 0) == 0,
    "usage has the cost": lambda r: r.usage is not None and dict(r.usage)["cost"] == 0.25,
    "a player in a notebook": lambda r: "<video controls" in r._repr_html_() and "0.25 USD" in r._repr_html_(),
}


@pytest.mark.parametrize("name", RESULTS)
async def test_a_result_has_what_is_read_from_it(wire: Wire, tmp_path: Path, name: str) -> None:
    assert RESULTS[name](await made(wire, tmp_path))


async def test_results_are_saved_one_by_one_and_all(wire: Wire, tmp_path: Path) -> None:
    result = await made(wire, tmp_path)
    assert Path(result.files[0].save(str(tmp_path / "dog_beach.mp4"))).read_bytes() == clip()
    saved = result.save_all(tmp_path / "all")
    assert {name: Path(path).read_bytes() for name, path in saved.items()} == {"video_0": clip()}


def test_a_result_can_be_made_by_hand() -> None:
    result = MultimodalResponse(text="t")
    assert (result.videos, result.images, result.files, result.cost_usd, str(result)) == ([], [], [], None, "t")


@pytest.mark.parametrize(
    "polls",
    [
        pytest.param((job("in_progress"), DONE), id="pending, then completed"),
        pytest.param((job("completed", usage={"cost": 0.25}),), id="completed without URLs"),
    ],
)
async def test_polls(wire: Wire, tmp_path: Path, polls: tuple[Mapping[str, Any], ...]) -> None:
    result = await made(wire, tmp_path, *polls)
    assert result.cost_usd == 0.25
    assert {request.target for request in wire.requests[1 : 1 + len(polls)]} == {"/videos/job-abc123"}


@pytest.mark.parametrize("status", [500, 502, 503, 429])
async def test_a_poll_that_fails_once_does_not_give_up_a_paid_job(wire: Wire, tmp_path: Path, status: int) -> None:
    wire.script(answer(job(), 202), answer({"error": {"code": status, "message": "x"}}, status), answer(DONE), VIDEO)
    assert (await wire.provider.generate_video("a dog", poll_interval=0, directory=tmp_path)).has_videos


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired"])
async def test_an_end_without_a_result_is_a_runtime_error_with_the_reason(wire: Wire, status: str) -> None:
    wire.script(answer(job(), 202), answer(job(status, error="content policy violation")))
    with pytest.raises(RuntimeError, match="content policy violation") as caught:
        await wire.provider.generate_video("a dog", "google/veo-2.0-generate-001", poll_interval=0)
    assert isinstance(caught.value, JobEndedError)


async def test_waiting_too_long_is_a_timeout_error(wire: Wire) -> None:
    wire.script(answer(job(), 202), answer(job()))
    with pytest.raises(TimeoutError, match=r"timed out.*do not submit it again"):
        await wire.provider.generate_video("a dog", "google/veo-2.0-generate-001", poll_interval=0, timeout=0)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "Bad request"),
        (401, "Invalid API key"),
        (402, "Insufficient credits"),
        (429, "Rate limited"),
        (500, "OpenRouter server error"),
    ],
)
async def test_a_refused_submit_is_a_runtime_error_with_these_words_and_those_of_the_server(
    wire: Wire, status: int, words: str
) -> None:
    wire.script(answer({"error": {"code": status, "message": "the very words"}}, status))
    with pytest.raises(RuntimeError, match=f"^{words}.*the very words"):
        await wire.provider.generate_video("a dog", "google/veo-2.0-generate-001")
    assert len(wire.requests) == 1


async def test_without_a_key_it_is_a_value_error_that_names_the_variable() -> None:
    with pytest.raises(ValueError, match="API key required: OPENROUTER_API_KEY"):
        await OpenRouterProvider().generate_video("a dog")


def body_of(wire: Wire) -> dict[str, Any]:
    sent: dict[str, Any] = json.loads(wire.requests[0].body)
    return sent


FRAME = {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}, "frame_type": "first_frame"}
BODIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the prefix of the model": ({"model": "openrouter/google/veo-3.1"}, {"model": "google/veo-3.1"}),
    "no model": ({}, {"model": "google/veo-3.1-lite"}),
    "image_url": ({"image_url": "https://x.example/a.png"}, {"frame_images": [FRAME]}),
    "image_url and the same frame": (
        {"image_url": "https://x.example/a.png", "frame_images": [FRAME]},
        {"frame_images": [FRAME]},
    ),
    "frames and references as they are": (
        {
            "frame_images": [FRAME],
            "input_references": [{"type": "image_url", "image_url": {"url": "https://x.y/b.png"}}],
        },
        {
            "frame_images": [FRAME],
            "input_references": [{"type": "image_url", "image_url": {"url": "https://x.y/b.png"}}],
        },
    ),
    "extra is merged": ({"extra": {"provider": {"order": ["x"]}}}, {"provider": {"order": ["x"]}}),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_video_request_says_what_was_asked(wire: Wire, name: str) -> None:
    given, expected = BODIES[name]
    wire.script(answer({"error": {"code": 400, "message": "no"}}, 400))
    with pytest.raises(errors.BadRequestError):
        await wire.provider.generate_video("a dog", **given)
    assert body_of(wire) | expected == body_of(wire)


async def test_two_different_first_frames_are_an_error_before_anything_is_sent(wire: Wire) -> None:
    with pytest.raises(ValueError, match="two different first frames"):
        await wire.provider.generate_video("a dog", image_url="https://x.example/b.png", frame_images=[FRAME])
    assert wire.requests == []


@pytest.mark.parametrize("keyword", ["resoluton", "negative_prompt"])
async def test_an_unknown_keyword_is_refused_before_anything_is_bought(wire: Wire, keyword: str) -> None:
    with pytest.raises(TypeError, match=keyword):
        await wire.provider.generate_video("a dog", **{keyword: "x"})  # type: ignore[arg-type]
    assert wire.requests == []


IMAGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "no model": ({}, {"model": "google/gemini-3.1-flash-image"}),
    "image_urls": (
        {"image_urls": ["https://x.y/a.png"]},
        {"input_references": [{"type": "image_url", "image_url": {"url": "https://x.y/a.png"}}]},
    ),
    "image_config": ({"image_config": {"aspect_ratio": "9:16"}}, {"aspect_ratio": "9:16"}),
    "extra": ({"extra": {"seed": 7}}, {"seed": 7}),
}


@pytest.mark.parametrize("name", IMAGES)
async def test_an_image_request_says_what_was_asked(wire: Wire, tmp_path: Path, name: str) -> None:
    given, expected = IMAGES[name]
    wire.script(answer(answer_with(painted())))
    result = await wire.provider.generate_image("a dog", directory=tmp_path, **given)
    assert body_of(wire) | expected == body_of(wire)
    assert result.has_images
    assert base64.b64decode(result.images[0].b64_json) == painted()
    assert result.cost_usd == 0.04
    assert "<img" in result._repr_html_()
    assert result.images[0].save(str(tmp_path / "x.jpg")).is_file()


async def test_an_image_request_that_fails_is_sent_exactly_once(wire: Wire) -> None:
    wire.script(answer({"error": {"code": 500, "message": "boom"}}, 500))
    with pytest.raises(RuntimeError, match="boom"):
        await wire.provider.generate_image("a dog")
    assert len(wire.requests) == 1


async def test_a_page_of_json_is_not_saved_as_a_video(wire: Wire, tmp_path: Path) -> None:
    page: list[Step] = answer({"error": "not ready"})
    wire.script(answer(job(), 202), answer(DONE), page)
    with pytest.raises(RuntimeError):
        await wire.provider.generate_video("a dog", poll_interval=0, directory=tmp_path)
    assert not list(tmp_path.glob("*.mp4"))


async def test_the_key_goes_to_the_api_and_to_nobody_else(wire: Wire, tmp_path: Path) -> None:
    result = await made(wire, tmp_path)
    assert {dict(request.headers).get("authorization") for request in wire.requests} == {f"Bearer {KEY}"}
    assert "elsewhere" not in result.files[0].url


async def test_every_poll_is_reported(wire: Wire, tmp_path: Path) -> None:
    seen: list[str] = []
    await made(wire, tmp_path, job("in_progress"), DONE, on_poll=lambda state: seen.append(state.status))
    assert seen == ["in_progress", "completed"]


def test_the_provider_says_what_it_is() -> None:
    assert OpenRouterProvider.name == "openrouter"
    assert {"video", "image"} <= set(OpenRouterProvider.supported_modalities)


def test_the_key_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    made_before = OpenRouterProvider()
    monkeypatch.setenv("OPENROUTER_API_KEY", KEY)
    OpenRouterProvider().require_key()
    made_before.require_key()


async def test_three_calls_at_once_share_a_provider(wire: Wire) -> None:
    wire.script(answer({"error": {"code": 400, "message": "no"}}, 400))
    calls = [wire.provider.submit({"model": "a/b", "prompt": str(number)}) for number in range(3)]
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(each) for each in found] == [errors.BadRequestError] * 3


def test_a_file_that_is_large_is_named_in_a_notebook(tmp_path: Path) -> None:
    file = FileOutput("", tmp_path / "x.mp4", "video/mp4", "x.mp4", 10**9)
    assert file._repr_html_() == f"<code>{tmp_path / 'x.mp4'}</code>"
