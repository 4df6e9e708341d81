"""The phases of a job, the one-call form, and what is refused before anything is sent."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orbatch_provider import OpenRouterProvider, VideoJob, VideoRequest, errors
from orbatch_provider.responses import JobEndedError
from tests.provider.conftest import KEY, Wire
from tests.provider.rawserver import answer, clip, read_request, reset

MODELS = {"data": [{"id": "alibaba/wan-2.6", "supported_durations": [5, 10], "pricing_skus": {"a": "0.1"}}]}
VIDEO = answer(clip(), content_type="video/mp4")


def job(status: str = "pending", **more: Any) -> dict[str, Any]:
    return {"id": "job-1", "polling_url": "https://elsewhere.example/poll", "status": status, **more}


DONE = job("completed", unsigned_urls=["https://elsewhere.example/1"], usage={"cost": 0.4, "is_byok": False})


async def test_a_video_in_one_call(wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    wire.script(answer(job(), 202), answer(job("in_progress")), answer(job("dreaming")), answer(DONE), VIDEO)

    settings: dict[str, Any] = {"duration": 5, "seed": 7, "provider": {"options": {}}}
    result = await wire.provider.generate_video(
        "a cat", "openrouter/alibaba/wan-2.6", poll_interval=0, extra={"novelty": 1}, **settings
    )
    await wire.provider.aclose()

    assert [request.target for request in wire.requests[:4]] == ["/videos", *["/videos/job-1"] * 3]
    sent = json.loads(wire.requests[0].body)
    assert sent == {"model": "alibaba/wan-2.6", "prompt": "a cat", "novelty": 1, **settings}
    assert result.cost_usd == 0.4
    assert result.job_id == "job-1"
    assert result.raw_response["status"] == "completed"
    (file,) = result.videos
    assert (file.filename, file.mime_type, file.size) == ("job-1.mp4", "video/mp4", 3000)
    assert file.url == f"{wire.server.url}/videos/job-1/content?index=0"
    assert file.get_bytes() == clip()
    assert file.save(file.path.parent / "deep" / "cat.mp4").read_bytes() == clip()
    assert [path.name for path in file.path.parent.glob("*.part")] == []


async def test_an_image_url_is_the_first_frame(wire: Wire) -> None:
    wire.script(answer({}, 400))
    first, last = (
        {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}, "frame_type": frame}
        for frame in ("first_frame", "last_frame")
    )

    with pytest.raises(errors.BadRequestError):
        await wire.provider.generate_video("a cat", "m/m", image_url="https://x.example/a.png", frame_images=[last])

    assert json.loads(wire.requests[0].body)["frame_images"] == [first, last]
    with pytest.raises(errors.ConfigurationError, match="two different first frames"):
        await wire.provider.generate_video("a cat", "m/m", image_url="https://x.example/b.png", frame_images=[first])
    assert len(wire.requests) == 1


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired"])
async def test_a_job_that_ends_without_a_result(wire: Wire, tmp_path: Path, status: str) -> None:
    wire.script(answer(job(), 202), answer(job(status, error="the provider said no")))

    with pytest.raises(JobEndedError, match=f"ended as {status}: the provider said no"):
        await wire.provider.generate_video("a cat", "m/m", poll_interval=0, directory=tmp_path)

    waited = await wire.provider.wait("job-1", poll_interval=0)
    assert waited.status == status
    with pytest.raises(JobEndedError):
        await wire.provider.fetch(waited, tmp_path)
    with pytest.raises(errors.DownloadError, match="job-1 is in_progress"):
        await wire.provider.fetch(VideoJob(id="job-1", status="in_progress"), tmp_path)


async def test_bad_polls_do_not_end_a_paid_job(wire: Wire) -> None:
    wire.script(answer({}, 500), answer("<html>", 200), [read_request, reset])
    wire.script(answer(b"", 503), answer({}, 429), answer(DONE))
    seen: list[str] = []

    done = await wire.provider.wait("job-1", poll_interval=0, on_poll=lambda job: seen.append(job.status))

    assert done.status == "completed"
    assert seen == ["completed"]


async def test_a_refused_key_ends_the_waiting(wire: Wire) -> None:
    wire.script(answer({}, 401))

    with pytest.raises(errors.AuthenticationError):
        await wire.provider.wait("job-1", poll_interval=0)


async def test_a_timeout_names_the_job_and_how_to_go_on(wire: Wire) -> None:
    wire.script(answer(job(), 202), answer(job("in_progress")))

    with pytest.raises(errors.JobTimeoutError, match=r"paid for.*provider\.wait\('job-1'\)") as caught:
        await wire.provider.generate_video("a cat", "m/m", poll_interval=30, timeout=0.05)

    assert (caught.value.job_id, caught.value.last_status) == ("job-1", "in_progress")
    assert len(wire.requests) == 2  # one submit, and one poll before giving up


async def test_a_timeout_during_an_outage_says_why(wire: Wire) -> None:
    wire.script(answer({}, 502))

    with pytest.raises(errors.JobTimeoutError) as caught:
        await wire.provider.wait("job-1", poll_interval=0, timeout=0)

    assert "502" in str(caught.value.__cause__)


async def test_an_error_after_the_submit_carries_the_job_id(wire: Wire) -> None:
    wire.script(answer(job(), 202), answer({}, 403))

    with pytest.raises(errors.PermissionDeniedError) as caught:
        await wire.provider.generate_video("a cat", "m/m", poll_interval=0)

    assert "job-1" in caught.value.__notes__[0]


async def test_every_output_is_fetched_and_renamed(wire: Wire, tmp_path: Path) -> None:
    wire.script(VIDEO)
    three = VideoJob.from_json(job("completed", unsigned_urls=["a", "b", "c"]))

    files = await wire.provider.fetch(three, tmp_path / "new", stem="cat")

    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["cat-1.mp4", "cat-2.mp4", "cat-3.mp4"]
    assert [file.url[-7:] for file in files] == ["index=0", "index=1", "index=2"]
    assert [request.target[-7:] for request in wire.requests] == ["index=0", "index=1", "index=2"]


@pytest.mark.parametrize("name", ["../../escape", "/etc/passwd", "a\0b", "..", "x" * 5000, "con/../../x"])
async def test_a_hostile_job_id_stays_in_the_folder(wire: Wire, tmp_path: Path, name: str) -> None:
    wire.script(VIDEO)

    (file,) = await wire.provider.fetch(VideoJob(id="job-1", status="completed"), tmp_path / "out", stem=name)

    assert file.path.parent == tmp_path / "out"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("job_id", "target"),
    [
        pytest.param("../key", "/videos/..%2Fkey", id="climbing"),
        pytest.param("a/b?c#d", "/videos/a%2Fb%3Fc%23d", id="separators"),
        pytest.param("ä b", "/videos/%C3%A4%20b", id="not-ascii"),
        pytest.param("%2e%2e", "/videos/%252e%252e", id="encoded-already"),
    ],
)
async def test_a_job_id_is_one_segment_of_the_path(wire: Wire, job_id: str, target: str) -> None:
    wire.script(answer(job() | {"id": job_id}))

    await wire.provider.poll(job_id)

    assert wire.requests[0].target == target


@pytest.mark.parametrize("job_id", ["", " ", ".", "..", "x" * 1000, "\ud800"])
async def test_what_is_no_job_id_is_not_sent(wire: Wire, job_id: str) -> None:
    with pytest.raises(errors.ConfigurationError, match="not a job id"):
        await wire.provider.poll(job_id)

    assert wire.server.connections == 0


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param({"prompt": "no model"}, id="no-model"),
        pytest.param({"model": "m/m", "seed": float("nan")}, id="not-a-number"),
        pytest.param({"model": "m/m", "extra": {1, 2}}, id="a-set"),
    ],
)
async def test_what_cannot_be_written_is_not_sent(wire: Wire, request_: dict[str, Any]) -> None:
    with pytest.raises(errors.ConfigurationError):
        await wire.provider.submit(request_)

    assert wire.server.connections == 0


async def test_the_app_is_named_on_keyed_calls_only(wire: Wire) -> None:
    wire.script(answer(MODELS), answer(job()))
    app: dict[str, Any] = {"referer": "https://app.example", "title": "My app", "categories": ["video", "art"]}

    async with OpenRouterProvider(KEY, base_url=wire.server.url, **app) as provider:
        await provider.catalog()
        await provider.poll("job-1")

    catalog, poll = wire.requests
    names = {"http-referer", "x-openrouter-title", "x-openrouter-categories"}
    assert not names & set(catalog.headers)
    assert [poll.headers[name] for name in sorted(names)] == ["https://app.example", "video,art", "My app"]


@pytest.mark.parametrize(
    "app",
    [
        pytest.param({"title": "My app\r\nX-Evil: 1"}, id="line-break"),
        pytest.param({"title": "Café"}, id="not-ascii"),
        pytest.param({"categories": ["a", "b", "c"]}, id="too-many-categories"),
    ],
)
def test_an_app_that_cannot_be_named_is_refused(app: dict[str, Any]) -> None:
    with pytest.raises(errors.ConfigurationError):
        OpenRouterProvider(KEY, **app)


async def test_a_request_is_checked_against_the_catalog_read_once_without_a_key(wire: Wire) -> None:
    wire.script(answer(MODELS))

    async with OpenRouterProvider(base_url=wire.server.url) as provider:
        (model,) = await provider.video_models()
        fits = await provider.check(VideoRequest("alibaba/wan-2.6", "a cat", duration=5))
        too_long = await provider.check({"model": "openrouter/alibaba/wan-2.6", "prompt": "a cat", "duration": 6})
        unknown = await provider.check({"model": "alibaba/wan-2-6", "prompt": "a cat"})
        misspelt = await provider.check({"model": "alibaba/wan-2.6", "prompt": "a cat", "durration": 5, "user": "me"})

    assert model.id == "alibaba/wan-2.6"
    assert fits == []
    assert (too_long[0].field, too_long[0].nearest) == ("duration", "5")
    assert (unknown[0].field, unknown[0].nearest) == ("model", "alibaba/wan-2.6")
    assert [str(problem) for problem in misspelt] == ["durration: is not a field of the API; nearest: duration"]
    assert len(wire.requests) == 1


async def test_the_key_and_a_generation_can_be_asked_for(wire: Wire) -> None:
    wire.script(
        answer({"data": {"label": "sk-or-v1-c0f...789", "limit_remaining": 3.5, "usage": 1}}),
        answer({"data": {"id": "gen/1", "total_cost": 0.25, "is_byok": False}}),
    )

    assert (await wire.provider.key()).limit_remaining == Decimal("3.5")
    assert (await wire.provider.generation("gen/1&x=y")).total_cost == Decimal("0.25")
    assert wire.requests[1].target.replace("/", "%2F").endswith("generation?id=gen%2F1%26x%3Dy")
