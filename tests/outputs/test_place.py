"""Disks that refuse a paid file, files in its way, crashes around its placing: the job stays completed, and the next
run goes on."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from orbatch.ledger import AttemptRecord, JobRecord, LedgerError, Status
from tests.faults.fakes import FakeProvider, download, files_of, forbid_links, names, place_of, serve_ranges
from tests.faults.workshop import Switch, Workshop, clip, provider_at
from tests.provider.rawserver import Servers, read_request


async def test_a_disk_that_is_full_at_the_last_moment_leaves_the_job_completed(
    workshop: Workshop, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, attempt = workshop.completed()
    server = await servers.start([read_request, serve_ranges])
    async with provider_at(server) as real:
        with monkeypatch.context() as disk:
            disk.setattr(os, "fsync", full_disk)
            await download(workshop, Switch(real, real, "", 0), job, attempt)

        assert workshop.status(job) is Status.COMPLETED
        assert f"{workshop.output_dir / job.stem} could not be written (No space left on device)" in workshop.shown(job)

        await download(workshop, Switch(real, real, "", 0), job, attempt)
    assert workshop.status(job) is Status.DONE
    assert names(workshop, job) == [".mp4"]


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(OSError(errno.ENOSPC, "No space left on device"), id="full, and it does not say where"),
        pytest.param(OSError(errno.EROFS, "Read-only file system", "/media/x"), id="read-only"),
        pytest.param(PermissionError(errno.EACCES, "Permission denied", "/media/x"), id="not ours"),
        pytest.param(OSError(errno.EIO, "Input/output error"), id="dying"),
    ],
)
async def test_a_disk_that_refuses_is_named_and_the_next_run_goes_on(
    workshop: Workshop, provider: FakeProvider, error: OSError
) -> None:
    job, attempt = workshop.completed()
    provider.contents = lambda _: error
    await download(workshop, provider, job, attempt)

    assert workshop.status(job) is Status.COMPLETED
    shown = workshop.shown(job)
    assert str(error.filename or workshop.output_dir / job.stem) in shown
    assert str(error.strerror) in shown
    assert "run the same command to resume" in workshop.text

    provider.contents = lambda _: clip()
    await download(workshop, provider, job, attempt)
    assert workshop.status(job) is Status.DONE


@pytest.mark.parametrize("is_deleted", [True, False], ids=["deleted during the download", "a file is there"])
async def test_an_output_folder_that_is_gone_is_named_and_made_by_the_next_run(
    tmp_path: Path, provider: FakeProvider, is_deleted: bool
) -> None:
    def delete(_: int) -> bytes:
        shutil.rmtree(tmp_path / "out")
        return clip()

    with Workshop.at(tmp_path, jobs=1) as workshop:
        job, attempt = workshop.completed()
        if is_deleted:
            provider.contents = delete
        else:
            workshop.output_dir.write_text("not a folder")
        await download(workshop, provider, job, attempt)
        assert workshop.status(job) is Status.COMPLETED
        assert str(workshop.output_dir) in workshop.shown(job)

        if not is_deleted:
            assert workshop.output_dir.read_text() == "not a folder"
            workshop.output_dir.unlink()
        provider.contents = lambda _: clip()
        await download(workshop, provider, job, attempt)
        assert workshop.status(job) is Status.DONE


async def test_a_name_that_the_disk_refuses_leaves_the_job_completed(
    workshop: Workshop, provider: FakeProvider
) -> None:
    job, attempt = workshop.completed()

    await download(workshop, provider, replace(job, stem="x" * 300), attempt)

    assert workshop.status(job) is Status.COMPLETED
    assert "File name too long" in workshop.shown(job)
    assert "x" * 300 in workshop.shown(job)


@pytest.fixture(params=[True, False], ids=["with links", "without links"])
def has_links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if not request.param:
        forbid_links(monkeypatch)
    return bool(request.param)


@pytest.mark.parametrize("refused", [errno.EINVAL, errno.EACCES, errno.ENOTSUP])
async def test_a_file_system_that_can_neither_link_nor_sync_a_folder_gets_the_file(
    workshop: Workshop, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, refused: int
) -> None:
    sync = os.fsync

    def refuse_link(*_: object, **__: object) -> None:
        raise OSError(refused, os.strerror(refused))

    def sync_files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            refuse_link()
        sync(descriptor)

    monkeypatch.setattr(os, "link", refuse_link)
    monkeypatch.setattr(os, "fsync", sync_files_only)
    job, attempt = workshop.completed()
    await download(workshop, provider, job, attempt)
    assert workshop.status(job) is Status.DONE
    assert names(workshop, job) == [".mp4"]


async def test_a_folder_that_fails_to_sync_is_not_taken_for_durable(
    workshop: Workshop, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    job, attempt = workshop.completed()
    await download(workshop, provider, job, attempt)
    assert workshop.status(job) is Status.COMPLETED


async def test_a_file_in_the_way_is_left_alone(workshop: Workshop, provider: FakeProvider, has_links: bool) -> None:
    job, attempt = workshop.completed()
    place = place_of(workshop, job)
    place.parent.mkdir(exist_ok=True)
    place.write_text("somebody's diary")
    await download(workshop, provider, job, attempt)

    assert place.read_text() == "somebody's diary"
    assert workshop.status(job) is Status.COMPLETED
    assert f"{place} already exists and is not from this job. Move it" in workshop.shown(job)

    place.unlink()
    await download(workshop, provider, job, attempt)
    assert workshop.status(job) is Status.DONE
    assert names(workshop, job) == [".mp4"]


async def test_a_file_that_was_placed_and_not_recorded_is_recognised(
    workshop: Workshop, provider: FakeProvider, has_links: bool
) -> None:
    job, attempt = workshop.completed()
    await crash_before_recording(workshop, provider, job, attempt)
    assert workshop.status(job) is Status.COMPLETED
    assert place_of(workshop, job).exists()

    await download(workshop, provider, job, attempt)

    assert workshop.status(job) is Status.DONE
    assert names(workshop, job) == [".mp4"]
    assert len(files_of(workshop, job)) == 1
    assert len(provider.downloads) == (1 if has_links else 2)  # without links nothing proves that it is ours but bytes


async def test_a_placed_file_that_was_damaged_before_it_was_recorded_is_not_taken(
    workshop: Workshop, provider: FakeProvider
) -> None:
    job, attempt = workshop.completed()
    await crash_before_recording(workshop, provider, job, attempt)
    place_of(workshop, job).write_bytes(b"\0" * 1000)

    await download(workshop, provider, job, attempt)

    assert workshop.status(job) is Status.COMPLETED
    assert "is not from this job" in workshop.shown(job)


def full_disk(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


async def crash_before_recording(
    workshop: Workshop, provider: FakeProvider, job: JobRecord, attempt: AttemptRecord
) -> None:
    def full(*_: object) -> None:
        raise LedgerError("The disk of the ledger is full.")

    with pytest.MonkeyPatch.context() as crash:
        crash.setattr(workshop.ledger.attempts, "mark_done", full)
        with pytest.raises(LedgerError):
            await download(workshop, provider, job, attempt)
