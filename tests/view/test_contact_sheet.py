"""A batch as one picture, or one video, for a mail."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from PIL import Image

from orbatch.view import contact_sheet
from orbatch_simulator import Fault
from tests.conftest import Open
from tests.desk import HORSE, LITE, Desk

PAPER = (251, 251, 250)


@pytest.fixture
def ran(open_desk: Open) -> Desk:
    """Three of four clips are there; they are real ones."""
    desk = open_desk(clip_bytes=None)
    desk.simulator.set_faults(Fault("job", "failed", prompt_contains="dog", model=HORSE, message="no dogs today"))
    desk.run(desk.write(models=[LITE, HORSE], prompts=["a cat", "a dog"]), code=3)
    return desk


def pick_one(desk: Desk) -> None:
    with desk.ledger() as ledger:
        job = next(job for job in ledger.reports.exported_jobs(1) if job.status == "done")
        ledger.reviews.add(job.job_id, "me", "mark", "pick")


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def test_a_picture_has_every_output_in_its_place(ran: Desk) -> None:
    assert "Created sheet.png with 3 outputs." in ran.call("view", "films", "--contact-sheet", "sheet.png").err
    with Image.open(ran.folder / "sheet.png") as sheet:
        middles = [
            sheet.getpixel((280 + across * 336 + 300, 84 + down * 222 + 10)) for down in (0, 1) for across in (0, 1)
        ]
    assert middles[3] == PAPER, "the failed one is a frame with its reason"
    assert PAPER not in middles[:3]
    assert "already exists" in ran.call("view", "films", "--contact-sheet", "sheet.png", code=2).err
    ran.call("view", "films", "--contact-sheet", "sheet.png", "--force")


def test_only_what_is_picked(ran: Desk) -> None:
    nothing = ran.call("view", "films", "--contact-sheet", "sheet.jpg", "--select", "picked", code=2).err
    assert "films: nothing is picked." in nothing
    pick_one(ran)
    ran.call("view", "films", "--contact-sheet", "picked.jpg", "--select", "picked")
    ran.call("view", "films", "--contact-sheet", "all.jpg")
    (width, height), (most_wide, most_high) = (size_of(ran.folder / f"{name}.jpg") for name in ("picked", "all"))
    assert width < most_wide
    assert height < most_high


def test_a_video_shows_all_clips_in_motion(ran: Desk) -> None:
    ran.call("view", "films", "--contact-sheet", "sheet.mp4")
    with av.open(str(ran.folder / "sheet.mp4")) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]  # type: ignore[no-untyped-call]  # of PyAV
    assert len(frames) == 4 * contact_sheet.FRAMES_PER_S
    # A bar at the lower edge of a clip of the simulator grows with its time.
    at = (280 + 200, 84 + 178)
    assert frames[2].getpixel(at) != frames[-2].getpixel(at)


def test_what_cannot_be_written_is_said(ran: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "sheet.gif has no suffix" in ran.call("view", "films", "--contact-sheet", "sheet.gif", code=2).err
    monkeypatch.setattr(contact_sheet, "MOST_CLIPS", 2)
    assert "3 clips are too many for one video" in ran.call("view", "films", "--contact-sheet", "a.mp4", code=2).err
    monkeypatch.setattr(contact_sheet, "MOST_PIXELS", 400)
    assert "do not fit one picture" in ran.call("view", "films", "--contact-sheet", "a.jpg", code=2).err
    assert not [*ran.folder.glob("*.jpg"), *ran.folder.glob("*.mp4"), *ran.folder.glob(".a*")]
