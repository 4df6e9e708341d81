"""Downloads: what is in the bytes, and how they are sent."""

from __future__ import annotations

import hashlib
import io
from decimal import Decimal

import av
import pytest
from av.container import InputContainer

from orbatch_simulator import Fault, SimulatorSettings
from orbatch_simulator.clips import Clip, payload, render
from tests.simulator.conftest import HOUR, Caller, Open

SMALL = {"model": "bytedance/seedance-2.0-mini", "resolution": "480p", "aspect_ratio": "9:16"}


def opened(content: bytes) -> InputContainer:
    return av.open(io.BytesIO(content), "r")


def clip(prompt: str = "A cat", *, seconds: str = "2", audio: bool = True) -> Clip:
    return Clip("some/model", prompt, Decimal(seconds), 320, 180, audio)


def frames(content: bytes) -> list[bytes]:
    with opened(content) as container:
        return [bytes(frame.planes[0]) for frame in container.decode(video=0)]


def test_a_clip_is_h264_of_the_requested_length_and_size_with_audio() -> None:
    with opened(render(clip())) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.width, video.height) == ("h264", 320, 180)
        assert audio.codec_context.name == "aac"
        assert container.duration == 2 * av.time_base
    with opened(render(clip(audio=False))) as silent:
        assert not silent.streams.audio


def test_prompt_and_movement_can_be_seen() -> None:
    cat, dog = frames(render(clip("A cat"))), frames(render(clip("A dog in the rain")))
    assert cat[0] != dog[0]
    assert cat[0] != cat[-1]
    assert len(cat) == 16


@pytest.mark.parametrize("prompt", ["", "word " * 2000, "x" * 5000, "日本語 \x00\n\t émoji 🐈", "half \ud83d"])
def test_any_prompt_can_be_drawn(prompt: str) -> None:
    assert render(clip(prompt, seconds="1", audio=False))


def test_a_4k_clip_is_one_too() -> None:
    large = Clip("some/model", "A cat", Decimal(4), 3840, 2160, audio=False)
    with opened(render(large)) as container:
        assert (container.streams.video[0].width, container.duration) == (3840, 4 * av.time_base)


def test_the_same_job_gives_the_same_bytes_and_another_job_others() -> None:
    first = payload(clip(), "job-1/0")
    render.cache_clear()
    assert payload(clip(), "job-1/0") == first
    assert payload(clip(), "job-2/0").sha256() != first.sha256()


def test_a_padded_payload_has_its_length_and_still_plays() -> None:
    padded = payload(clip(), "job-1/0", 1_000_000)
    content = b"".join(padded.chunks())
    assert len(content) == padded.size == 1_000_000
    assert hashlib.sha256(content).hexdigest() == padded.sha256()
    assert b"".join(padded.chunks(5, 900_000)) == content[5:900_000]
    assert len(frames(content)) == 16


async def test_a_download_is_chunked_without_length_and_ignores_range(caller: Caller) -> None:
    job_id = await caller.finish(**SMALL)
    reply = await caller.call("GET", f"/videos/{job_id}/content?index=0", headers={"Range": "bytes=100-"})
    assert (reply.status, reply.headers["Content-Type"]) == (200, "video/mp4")
    assert reply.headers["Transfer-Encoding"] == "chunked"
    assert not any(name in reply.headers for name in ("Content-Length", "Accept-Ranges", "ETag"))
    with opened(reply.body) as container:
        video = container.streams.video[0]
        assert (video.width, video.height, container.duration) == (480, 854, 4 * av.time_base)


async def test_the_journal_knows_the_hash_of_every_output_and_counts_complete_downloads(open_simulator: Open) -> None:
    caller = await open_simulator(SimulatorSettings(outputs=2))
    job_id = await caller.finish(**SMALL)
    bodies = [(await caller.call("GET", f"/videos/{job_id}/content?index={index}")).body for index in (0, 1, 1)]
    assert bodies[1] == bodies[2]
    served = caller.simulator.journal.outputs(job_id)
    assert [served[index].sha256 for index in (0, 1)] == [hashlib.sha256(body).hexdigest() for body in bodies[:2]]
    assert (served[0].downloads, served[1].downloads, caller.simulator.journal.downloads) == (1, 2, 3)
    assert (await caller.journal())["jobs"][0]["outputs"][0]["bytes"] == len(bodies[0])


async def test_ranges_and_lengths_can_be_turned_on(open_simulator: Open) -> None:
    caller = await open_simulator(SimulatorSettings(ranges=True, clip_bytes=100_000))
    path = f"/videos/{await caller.finish()}/content"
    whole = await caller.call("GET", path)
    tag = whole.headers["ETag"]
    assert (whole.status, whole.headers["Content-Length"]) == (200, "100000")
    for requested, start, stop in (("70000-", 70_000, 100_000), ("10-19", 10, 20), ("-5", 99_995, 100_000)):
        part = await caller.call("GET", path, headers={"Range": f"bytes={requested}", "If-Range": tag})
        assert (part.status, part.body) == (206, whole.body[start:stop])
        assert part.headers["Content-Range"] == f"bytes {start}-{stop - 1}/100000"
    changed = await caller.call("GET", path, headers={"Range": "bytes=5-", "If-Range": '"other"'})
    assert (changed.status, len(changed.body)) == (200, 100_000)
    assert (await caller.call("GET", path, headers={"Range": "bytes=100000-"})).status == 416


async def test_content_is_refused_while_there_is_none(caller: Caller) -> None:
    path = f"/videos/{await caller.start()}/content"
    assert (await caller.call("GET", path)).status == 409
    caller.clock.advance(HOUR)
    for index, status in (("1", 400), ("x", 400), ("-1", 400), ("9" * 5000, 400)):
        assert (await caller.call("GET", f"{path}?index={index}")).status == status
    caller.simulator.set_faults(Fault("job", "failed"))
    assert (await caller.call("GET", f"/videos/{await caller.finish()}/content")).status == 404
