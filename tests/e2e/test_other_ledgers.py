"""What another record knows is not bought again: the ledger of another place, the receipts, the output files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Open
from tests.desk import LITE, Desk

PROMPTS = [f"cat {number}" for number in range(12)]


@pytest.fixture
def bought(desk: Desk) -> Desk:
    """A desk whose batch ``films`` is done."""
    desk.run(desk.write())
    assert desk.accepted() == 3
    return desk


def outputs(desk: Desk) -> Path:
    return desk.folder / "outputs" / "films"


def receipts(desk: Desk) -> Path:
    return outputs(desk) / ".orbatch" / "receipts.jsonl"


def lose_ledger(desk: Desk) -> None:
    for path in desk.folder.glob("orbatch.db*"):
        path.unlink()


@pytest.mark.parametrize("lost", ["nothing", "a file", "every file"])
def test_a_lost_ledger_is_made_again_from_the_receipts(bought: Desk, lost: str) -> None:
    before = bought.call("report", "--json").json["total"]
    lose_ledger(bought)
    for path in sorted(outputs(bought).glob("*.mp4"))[: {"nothing": 0, "a file": 1, "every file": 3}[lost]]:
        path.unlink()
    assert "Took over 3 attempts from outputs/films/.orbatch/receipts.jsonl" in bought.run("films.yaml").err
    assert bought.accepted() == 3
    assert bought.call("report", "--json").json["total"] == before
    assert len(list(outputs(bought).glob("*.mp4"))) == 3
    assert "Took over" not in bought.run("films.yaml").err, "they are taken over once"


def test_an_old_backup_learns_what_was_bought_since(bought: Desk) -> None:
    bought.call("backup", "old.db")
    bought.run(bought.write(prompts=["a cat", "a dog", "a cow", "a bee", "a fox"]))
    lose_ledger(bought)
    shutil.copy(bought.folder / "old.db", bought.db)
    bought.run("films.yaml")
    assert bought.accepted() == 5


def test_receipts_that_were_removed_are_written_again(bought: Desk) -> None:
    shutil.rmtree(receipts(bought).parent)
    bought.run(bought.write(prompts=["a cat", "a dog", "a cow", "a bee"]))
    assert bought.accepted() == 4
    assert receipts(bought).stat().st_mode & 0o077 == 0
    lose_ledger(bought)
    bought.run("films.yaml")
    assert bought.accepted() == 4


def test_another_ledger_that_has_paid_is_named(bought: Desk) -> None:
    for command in ("run", "plan"):
        refused = bought.call(command, "films.yaml", code=2, ORBATCH_DB=str(bought.folder / "new.db"))
        assert "3 jobs are already paid for in ledger" in refused.err
        assert f"orbatch run films.yaml --db {bought.db}" in refused.err
    assert bought.accepted() == 3


def test_output_files_that_no_record_knows_are_not_bought_again(bought: Desk) -> None:
    lose_ledger(bought)
    shutil.rmtree(receipts(bought).parent)
    refused = bought.run("films.yaml", code=2)
    assert "3 output files of this batch already exist but are not in ledger" in refused.err
    assert "--db OTHER" in refused.err
    assert bought.accepted() == 3
    bought.run(bought.write(output_dir="outputs/again"))
    assert bought.accepted() == 6


def test_only_the_files_of_jobs_to_submit_count(bought: Desk) -> None:
    for name in ("notes.txt", "another.mp4"):
        (outputs(bought) / name).write_bytes(b"mine")
    assert "nothing to submit" in bought.call("plan", "films.yaml").out
    bought.run(bought.write(prompts=["a cat", "a dog", "a cow", "a bee"]))
    assert bought.accepted() == 4


def test_a_file_that_the_ledger_knows_from_an_earlier_prompt_is_no_reason_to_refuse(desk: Desk) -> None:
    desk.run(desk.write(filename="{{ prompt_id }}", prompts=[{"id": "one", "prompt": "a cat"}]))
    changed = desk.write(filename="{{ prompt_id }}", prompts=[{"id": "one", "prompt": "a dog"}])
    assert "1 job to submit" in desk.call("plan", changed).out


# -- killed, and one record is gone


def killed(desk: Desk) -> None:
    """A run that is killed when some of its jobs are accepted."""
    path = desk.write(prompts=PROMPTS, limits={"in_flight": 4, "submits_per_minute": 6000})
    with desk.running(path) as process:
        desk.until(lambda: desk.accepted() >= 5)
        process.process.kill()
        process.process.wait()


@pytest.mark.parametrize("lost", ["orbatch.db*", "orbatch.db-*", "outputs/films/.orbatch/receipts.jsonl"])
def test_after_a_kill_either_record_is_enough(open_desk: Open, lost: str) -> None:
    desk = open_desk(render_median_s=20.0)
    killed(desk)
    for path in desk.folder.glob(lost):
        path.unlink()
    desk.run("films.yaml", code=None)
    assert desk.simulator.journal.duplicates == 0
    assert len(desk.jobs("--status", "done")) + len(desk.jobs("--status", "uncertain")) == len(PROMPTS)


def test_a_line_that_was_cut_off_is_no_obstacle(bought: Desk) -> None:
    with receipts(bought).open("a", encoding="utf-8") as file:
        file.write('{"v": 1, "attempt": "cut')
    bought.run(bought.write(prompts=["a cat", "a dog", "a cow", "a bee"]))
    lose_ledger(bought)
    bought.run("films.yaml")
    assert bought.accepted() == 4


# -- the ledger goes while it is used


def remove(ledger: Path) -> None:
    for path in ledger.parent.glob(f"{ledger.name}*"):
        path.unlink()


def rename(ledger: Path) -> None:
    ledger.rename(ledger.with_name("renamed.db"))


def replace(ledger: Path) -> None:
    other = ledger.with_name("other.db")
    other.write_bytes(b"")
    other.replace(ledger)


@pytest.mark.parametrize("lose", [remove, rename, replace])
def test_a_ledger_that_goes_during_a_run_stops_submits_and_nothing_is_bought_twice(
    open_desk: Open, lose: Callable[[Path], None]
) -> None:
    desk = open_desk(render_median_s=5.0)
    limits = {"in_flight": 2, "submits_per_minute": 6000, "polls_per_second": 200}
    path = desk.write(prompts=PROMPTS, limits=limits)
    with desk.started("run", path, "--yes", "--speed", 200) as process:
        desk.until(lambda: desk.accepted() >= 3)
        lose(desk.db)
        ended = process.finish(1)
    assert "was moved, removed or replaced while it was in use" in ended.err
    before = desk.accepted()
    assert before < len(PROMPTS)
    desk.run(path, code=None)
    assert desk.simulator.journal.duplicates == 0
    assert desk.accepted() == len(PROMPTS)
    assert len(desk.jobs("--status", "done")) == len(PROMPTS)


def test_a_ledger_with_two_names_is_not_used(bought: Desk) -> None:
    os.link(bought.db, bought.folder / "second.db")
    refused = bought.run("films.yaml", code=1, ORBATCH_DB=str(bought.folder / "second.db"))
    assert "has 2 names (hard links)" in refused.err
    assert bought.accepted() == 3


def test_receipts_that_are_removed_during_a_run_are_written_again_whole(open_desk: Open) -> None:
    desk = open_desk(render_median_s=5.0)
    limits = {"in_flight": 2, "submits_per_minute": 6000, "polls_per_second": 200}
    path = desk.write(prompts=PROMPTS, limits=limits)
    with desk.started("run", path, "--yes", "--speed", 200) as process:
        desk.until(lambda: desk.accepted() >= 5, "some submits")
        shutil.rmtree(receipts(desk).parent)
        process.finish(0)
    lose_ledger(desk)
    for file in outputs(desk).glob("*.mp4"):
        file.unlink()
    desk.run(path)
    assert desk.accepted() == len(PROMPTS)
    assert len(list(outputs(desk).glob("*.mp4"))) == len(PROMPTS)


def test_collect_of_a_directory_leaves_to_another_ledger_what_that_has_paid_for(bought: Desk) -> None:
    (bought.folder / "other").mkdir()
    told = bought.call("collect", outputs(bought), ORBATCH_DB=str(bought.folder / "other" / "orbatch.db"))
    assert f"3 jobs are in ledger {bought.db} and not taken over." in told.err
    assert f"`orbatch collect --db {bought.db}` collects there." in told.err


# -- the receipts cannot be used


def test_without_receipts_nothing_is_submitted(desk: Desk) -> None:
    outputs(desk).mkdir(parents=True)
    receipts(desk).parent.write_text("a file is in its place")
    stopped = desk.run(desk.write(), code=1)
    assert f"The receipts {receipts(desk)} cannot be written" in stopped.err
    assert desk.accepted() == 0


@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param({"v": 2}, "was written by a newer orbatch", id="newer"),
        pytest.param({"v": 1, "status": "done"}, "has a line that is not a receipt", id="no receipt"),
    ],
)
def test_receipts_that_cannot_be_understood_stop_before_anything_is_bought(
    desk: Desk, line: dict[str, object], words: str
) -> None:
    receipts(desk).parent.mkdir(parents=True)
    receipts(desk).write_text(json.dumps(line) + "\n")
    assert words in desk.run(desk.write(), code=1).err
    assert desk.accepted() == 0


def test_collect_makes_a_ledger_from_a_directory_of_outputs(open_desk: Open) -> None:
    desk = open_desk(render_s={LITE: 30.0})
    path = desk.write()
    with desk.running(path) as process:
        desk.until(lambda: receipts(desk).exists() and receipts(desk).read_text().count('"submitted"') == 3)
        process.process.kill()
        process.process.wait()
    lose_ledger(desk)
    path.unlink()
    moved = desk.folder / "moved"
    outputs(desk).rename(moved)
    desk.call("collect", moved, "--speed", desk.speed)
    assert len(list(moved.glob("*.mp4"))) == 3
    assert desk.call("report", "--json").json["total"]["cost_usd"] == 0.36
