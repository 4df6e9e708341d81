"""One request from the command line, with all the safety of a batch: kinds, takes, where the files go."""

from __future__ import annotations

from pathlib import Path

from orbatch_simulator import Fault
from tests.conftest import Open
from tests.desk import LITE, Desk

CAT = ("generate", "A cat", "-m", LITE, "--duration", 4, "--resolution", "720p", "--no-audio", "--yes")
IMAGE_MODEL = "google/gemini-3.1-flash-image"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def test_a_video_is_bought_once_and_has_the_name_that_was_asked_for(desk: Desk) -> None:
    said = desk.call(*CAT, "-o", "cat.mp4", "--speed", desk.speed)
    assert "cat.mp4: 1 of 1 done. Spent 0.12 USD" in said.out
    assert "generate-" not in said.text, "the user knows no batch"
    desk.call(*CAT, "-o", "other.mp4", "--speed", desk.speed)
    assert desk.accepted() == 1
    assert (desk.folder / "cat.mp4").read_bytes() == (desk.folder / "other.mp4").read_bytes()


def test_several_takes_are_numbered_or_go_into_a_directory(desk: Desk) -> None:
    desk.call(*CAT, "-o", "cat.mp4", "-n", 2, "--speed", desk.speed)
    assert {"cat-1.mp4", "cat-2.mp4"} <= set(names(desk.folder))
    (desk.folder / "cats").mkdir()
    desk.call(*CAT, "-o", "cats", "-n", 3, "--speed", desk.speed)
    assert len(names(desk.folder / "cats")) == 3
    assert desk.accepted() == 3, "two were there"
    (desk.folder / "cat-1.mp4").write_bytes(b"mine")
    assert "cat-1.mp4 already exists" in desk.call(*CAT, "-o", "cat.mp4", "-n", 2, code=2).err


def test_the_name_of_the_file_says_which_kind_it_is(desk: Desk) -> None:
    desk.call("generate", "A cat", "-m", IMAGE_MODEL, "-o", "cat.png", "--yes", "--speed", desk.speed)
    assert (desk.folder / "cat.png").read_bytes().startswith(b"\x89PNG")
    assert desk.jobs()[0]["kind"] == "image"


def test_a_misspelt_model_is_guessed_and_buys_nothing(desk: Desk) -> None:
    refused = desk.call("generate", "A cat", "-m", "google/veo-3.1-lit", "-o", "cat.mp4", "--yes", code=2).err
    assert f"nearest: {LITE}" in refused
    assert desk.accepted() == 0


def test_a_job_that_fails_says_why_and_leaves_no_file(open_desk: Open) -> None:
    desk = open_desk()
    desk.simulator.set_faults(Fault("job", "failed", message="no cats today"))
    said = desk.call(*CAT, "-o", "cat.mp4", "--speed", desk.speed, code=3)
    assert "no cats today" in said.err
    assert not (desk.folder / "cat.mp4").exists()
