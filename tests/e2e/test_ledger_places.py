"""Where the ledger is: the same batch file is the same batch, from whatever directory it is run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.desk import Desk


@pytest.fixture
def project(desk: Desk) -> Desk:
    """A desk whose batch file is in ``films/``, and that names no ledger."""
    del desk.env["ORBATCH_DB"]
    (desk.folder / "films").mkdir()
    desk.write().rename(desk.folder / "films" / "films.yaml")
    return desk


@contextlib.contextmanager
def inside(desk: Desk, name: str) -> Iterator[None]:
    outer = desk.folder
    desk.folder = outer / name
    desk.folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        desk.folder = outer


def ledgers(desk: Desk) -> list[str]:
    return sorted(str(path.relative_to(desk.folder)) for path in desk.folder.rglob("orbatch.db"))


def test_a_batch_file_has_one_ledger_wherever_it_is_called_from(project: Desk) -> None:
    project.run("films/films.yaml")
    with inside(project, "films"):
        assert "nothing to submit" in project.run("films.yaml").err
    with inside(project, "elsewhere"):
        said = project.run("../films/films.yaml").err
        assert "nothing to submit" in said
        assert f"Ledger: {Path('..', 'films', 'orbatch.db')}" in said
    link = project.folder / "link.yaml"
    link.symlink_to("films/films.yaml")
    project.run(link.name, code=None)
    assert project.accepted() == 3
    assert ledgers(project) == ["films/orbatch.db"]


def test_a_ledger_above_the_batch_file_is_used(project: Desk) -> None:
    project.run(project.write(name="first"))
    project.run("films/films.yaml")
    assert ledgers(project) == ["orbatch.db"]


@pytest.mark.parametrize("place", [".", "films", "films/outputs/films"])
def test_commands_without_a_batch_file_find_it_and_say_where_it_is(project: Desk, place: str) -> None:
    project.run("films/films.yaml")
    with inside(project, place):
        shown = project.call("status")
    assert "3/3" in shown.out
    assert ("Ledger: " in shown.err) == (place != "films")


def test_several_ledgers_below_are_named_and_none_is_guessed(project: Desk) -> None:
    project.run("films/films.yaml")
    other = project.folder / "other"
    other.mkdir()
    project.write(name="second").rename(other / "second.yaml")
    project.run("other/second.yaml")
    refused = project.call("status", code=2).err
    assert "There are several ledgers here: films/orbatch.db, other/orbatch.db.\nhint:  Name one with --db." in refused
    assert "3/3" in project.call("status", "--db", "other/orbatch.db").out


def test_a_suggested_command_names_the_ledger_where_it_would_not_be_found(project: Desk) -> None:
    """From a directory that has nothing to do with the batch."""
    with inside(project, "elsewhere"):
        plan = project.call("plan", "../films/films.yaml", "-o", "approved.json").err
        assert "orbatch run approved.json --db ../films/orbatch.db" in plan
    assert "--db" not in project.call("plan", "films/films.yaml", "-o", "approved.json").err


def test_a_video_of_generate_has_its_ledger_beside_it(project: Desk) -> None:
    command = ("generate", "A cat", "-m", "google/veo-3.1-lite", "--duration", 4, "--resolution", "720p", "--no-audio")
    with inside(project, "elsewhere"):
        for _ in range(2):
            project.call(*command, "-o", "../takes/cat.mp4", "--yes", "--speed", project.speed)
    assert ledgers(project) == ["takes/orbatch.db"]
    assert project.accepted() == 1
