"""The way of a paid file to the ledger: outputs, parts, downloads that fail, and downloading again."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from orbatch.ledger import Status
from orbatch.outputs.files import why_unusable
from orbatch.runner.download import Downloader, accept_unplayable, redownload
from orbatch_provider import GoneError, NotFoundError, OutcomeUnknownError, VideoJob
from orbatch_provider.download import Entity, PartFile, source_of
from orbatch_provider.errors import BadRequestError, ServerError
from tests.faults.fakes import (
    CLIP_TAG,
    FakeProvider,
    download,
    files_of,
    names,
    part_of,
    serve_ranges,
    serve_whole,
)
from tests.faults.workshop import Switch, Workshop, clip, provider_at
from tests.provider.rawserver import Exchange, Servers, raw_answer, read_request


async def test_a_file_is_placed_measured_and_hashed_and_an_unrequested_length_is_a_warning(
    workshop: Workshop, provider: FakeProvider
) -> None:
    job, attempt = workshop.completed()

    await download(workshop, provider, job, attempt)

    assert workshop.status(job) is Status.DONE
    (record,) = files_of(workshop, job)
    assert (record.width, record.height, record.video_codec, record.mime_type) == (64, 64, "h264", "video/mp4")
    assert record.warning == "1.0 s long, 4 s were requested"
    assert record.warning in workshop.text
    assert names(workshop, job) == [".mp4"]


async def test_every_output_is_kept_and_one_that_fails_does_not_cost_the_others_a_download(
    workshop: Workshop, provider: FakeProvider
) -> None:
    job, attempt = workshop.completed()
    failures = [ServerError(502), ServerError(502)]
    provider.contents = lambda index: failures.pop() if index == 1 and failures else clip(str(index))

    await download(workshop, provider, job, attempt, files=3)

    assert provider.downloads == [0, 1, 1, 1, 2]
    assert workshop.status(job) is Status.DONE
    assert [Path(record.path).read_bytes() for record in files_of(workshop, job)] == [clip(str(n)) for n in range(3)]
    assert names(workshop, job) == ["-2.mp4", "-3.mp4", ".mp4"]


async def test_what_is_left_of_several_outputs_is_kept_and_a_job_is_lost_when_nothing_is(
    workshop: Workshop, provider: FakeProvider
) -> None:
    kept, lost = workshop.completed(), workshop.completed()
    provider.contents = lambda index: GoneError(410) if index == 1 else clip(str(index))
    await download(workshop, provider, *kept, files=3)
    provider.contents = lambda _: GoneError(410)
    await download(workshop, provider, *lost, files=2)

    assert (workshop.status(kept[0]), workshop.status(lost[0])) == (Status.DONE, Status.LOST)
    assert "of 3 outputs, 2 is gone" in (files_of(workshop, kept[0])[0].warning or "")
    assert workshop.shown(lost[0]).startswith("paid, but")


async def test_fewer_outputs_than_announced_end_with_what_there_is(workshop: Workshop, provider: FakeProvider) -> None:
    job, attempt = workshop.completed()
    provider.contents = lambda index: BadRequestError(400, "index out of range") if index == 1 else clip(str(index))

    await download(workshop, provider, job, attempt, files=3)

    assert workshop.status(job) is Status.DONE
    (record,) = files_of(workshop, job)
    assert "only 1 of the 3 outputs that were announced" in (record.warning or "")


async def test_a_job_whose_content_is_gone_is_lost_also_when_it_is_forgotten(
    workshop: Workshop, servers: Servers
) -> None:
    job, attempt = workshop.completed()
    server = await servers.start([read_request, forget])
    async with provider_at(server) as real:
        await download(workshop, Switch(real, real, "", 0), job, attempt)

    assert workshop.status(job) is Status.LOST


@pytest.mark.parametrize("honours_range", [True, False])
async def test_what_a_killed_run_left_is_resumed_where_the_server_can(
    workshop: Workshop,
    servers: Servers,
    honours_range: bool,
) -> None:
    job, attempt = workshop.completed()
    half = len(clip()) // 2
    server = await servers.start([read_request, serve_ranges if honours_range else serve_whole])
    url = f"{server.url}/videos/{attempt.remote_id}/content"
    leave_half(part_of(workshop, job, attempt), Entity(source_of(url), CLIP_TAG, len(clip())))
    async with provider_at(server) as real:
        await download(workshop, Switch(real, real, "", 0), job, attempt)

    assert server.requests[0].headers["range"] == f"bytes={half}-"
    assert workshop.status(job) is Status.DONE
    assert files_of(workshop, job)[0].sha256 == hashlib.sha256(clip()).hexdigest()


async def test_a_part_of_other_content_with_the_same_name_is_never_resumed(
    workshop: Workshop,
    servers: Servers,
) -> None:
    job, attempt = workshop.completed()
    other = part_of(workshop, job, replace(attempt, remote_id="another attempt, or another batch"))
    other.write_bytes(clip("other")[: len(clip()) // 2])
    server = await servers.start([read_request, serve_ranges])
    async with provider_at(server) as real:
        await download(workshop, Switch(real, real, "", 0), job, attempt)

    assert "range" not in server.requests[0].headers
    assert files_of(workshop, job)[0].sha256 == hashlib.sha256(clip()).hexdigest()
    other.unlink()


async def test_parts_of_recorded_files_and_parts_with_nothing_in_them_are_swept_in_every_directory(
    workshop: Workshop, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, attempt = workshop.completed()
    await download(workshop, provider, job, attempt)
    recorded, half = part_of(workshop, job, attempt), part_of(workshop, job, replace(attempt, remote_id="another"))
    recorded.hardlink_to(files_of(workshop, job)[0].path)
    half.write_bytes(b"half of it")
    empty = workshop.output_dir / "sub" / "cat.12345678.part"
    empty.parent.mkdir()
    empty.touch()
    with monkeypatch.context() as killed:  # in the middle of the check
        killed.setattr(Path, "unlink", lambda *_, **__: None)
        assert why_unusable(workshop.output_dir, ["cat"]) == ""
    probes = list(workshop.output_dir.glob("*.probe*"))

    Downloader(workshop.steps(provider).context).sweep_parts()

    assert [part.exists() for part in (recorded, half, empty)] == [False, True, False]
    assert probes
    assert not any(probe.exists() for probe in probes)
    half.unlink()


async def test_an_outage_of_an_hour_does_not_end_a_download(workshop: Workshop, provider: FakeProvider) -> None:
    job, attempt = workshop.completed()
    steps = workshop.steps(provider)
    clock = steps.context.clock
    provider.contents = lambda _: OutcomeUnknownError("cut off.") if clock.now() < 3600 else clip()

    await steps.download(job, attempt, VideoJob(attempt.remote_id or "", "completed"))

    assert workshop.status(job) is Status.DONE
    assert workshop.text.count("cut off") == 1
    assert len(provider.downloads) < 60


async def test_a_file_that_does_not_play_is_downloaded_again_and_kept_aside(
    workshop: Workshop, provider: FakeProvider
) -> None:
    job, attempt = workshop.completed()
    provider.contents = lambda _: clip()[:200] + b"\xff" * (len(clip()) - 200)
    await download(workshop, provider, job, attempt)

    assert workshop.status(job) is Status.COMPLETED
    assert len(provider.downloads) == 5
    (kept,) = workshop.output_dir.glob(f"{job.stem}*.unplayable")
    assert str(kept) in workshop.shown(job)

    provider.contents = lambda _: clip()
    await download(workshop, provider, job, attempt)
    assert names(workshop, job) == [".mp4"]


async def test_a_file_that_never_plays_can_be_accepted_as_it_is(workshop: Workshop, provider: FakeProvider) -> None:
    job, attempt = workshop.completed()
    assert accept_unplayable(workshop.ledger, workshop.output_dir, job, attempt) == []
    broken = clip()[:200] + b"\xff" * (len(clip()) - 200)
    provider.contents = lambda _: broken
    await download(workshop, provider, job, attempt)

    [record] = accept_unplayable(workshop.ledger, workshop.output_dir, job, attempt)

    assert workshop.status(job) is Status.DONE
    assert Path(record.path).read_bytes() == broken
    assert files_of(workshop, job) == [record]
    assert record.warning == "accepted although it does not decode"
    assert names(workshop, job) == [".mp4"], "nothing else is left"


async def test_nothing_is_downloaded_once_the_run_is_stopping(workshop: Workshop, provider: FakeProvider) -> None:
    job, attempt = workshop.completed()
    steps = workshop.steps(provider)
    steps.context.stop.set()

    await steps.download(job, attempt, None)

    assert provider.downloads == []
    assert workshop.status(job) is Status.COMPLETED


async def test_a_forgotten_job_is_still_downloaded(workshop: Workshop, provider: FakeProvider) -> None:
    job, attempt = workshop.completed()
    provider.polls = lambda: NotFoundError(404)

    await workshop.steps(provider).download(job, attempt, None)

    assert workshop.status(job) is Status.DONE


async def test_missing_and_changed_files_are_downloaded_again(workshop: Workshop, provider: FakeProvider) -> None:
    job, attempt = workshop.completed()
    provider.contents = lambda index: clip(str(index))
    await download(workshop, provider, job, attempt, files=3)
    first, second, third = (Path(record.path) for record in files_of(workshop, job))
    first.unlink()
    second.write_text("edited")

    count = await redownload(workshop.ledger, provider, workshop.now(job)[0])

    assert count == 2
    assert [Path(record.path) for record in files_of(workshop, job)] == [first, second, third]
    assert second.with_name(second.name + ".changed").read_text() == "edited"
    assert names(workshop, job) == ["-2.mp4", "-2.mp4.changed", "-3.mp4", ".mp4"]

    second.write_text("edited again")
    await redownload(workshop.ledger, provider, workshop.now(job)[0])
    assert second.with_name(second.name + ".changed").read_text() == "edited", "no edit is lost"
    assert second.with_name(second.name + ".changed-1").read_text() == "edited again"


async def forget(exchange: Exchange) -> None:
    assert exchange.request is not None
    exchange.writer.write(raw_answer({}, 410 if exchange.request.target.endswith("index=0") else 404))


def leave_half(part: Path, entity: Entity) -> None:
    file = PartFile(part)
    file.entity = entity
    file.write(clip()[: len(clip()) // 2])
    file.keep()
