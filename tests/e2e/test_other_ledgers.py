"""What another ledger knows is not bought again."""

from __future__ import annotations

import pytest

from tests.desk import Desk


@pytest.fixture
def bought(desk: Desk) -> Desk:
    """A desk whose batch ``films`` is done."""
    desk.run(desk.write())
    assert desk.accepted() == 3
    return desk


@pytest.mark.parametrize(
    "command", [("run", "films.yaml", "--yes"), ("plan", "films.yaml")], ids=lambda words: words[0]
)
def test_outputs_that_the_ledger_does_not_know_are_not_bought_again(bought: Desk, command: tuple[str, ...]) -> None:
    refused = bought.call(*command, code=2, ORBATCH_DB=str(bought.folder / "new.db"))
    assert "3 output files of this batch already exist but are not in ledger" in refused.err
    assert "Nothing was submitted." in refused.err
    assert f"--db {bought.db}" in refused.err, "the ledger that lies beside the batch file is named"
    assert bought.accepted() == 3


def test_a_lost_ledger_buys_nothing_twice_and_another_directory_buys_on_purpose(bought: Desk) -> None:
    for path in bought.folder.glob("orbatch.db*"):
        path.unlink()
    assert "--db OTHER" in bought.run("films.yaml", code=2).err
    assert bought.accepted() == 3
    bought.run(bought.write(output_dir="outputs/again"))
    assert bought.accepted() == 6


def test_only_the_files_of_jobs_to_submit_count(bought: Desk) -> None:
    output_dir = bought.folder / "outputs" / "films"
    for name in ("notes.txt", "another.mp4"):
        (output_dir / name).write_bytes(b"mine")
    assert "nothing to submit" in bought.call("plan", "films.yaml").out
    bought.run(bought.write(prompts=["a cat", "a dog", "a cow", "a bee"]))
    assert bought.accepted() == 4


def test_a_file_that_the_ledger_knows_from_an_earlier_prompt_is_no_reason_to_refuse(desk: Desk) -> None:
    desk.run(desk.write(filename="{{ prompt_id }}", prompts=[{"id": "one", "prompt": "a cat"}]))
    changed = desk.write(filename="{{ prompt_id }}", prompts=[{"id": "one", "prompt": "a dog"}])
    assert "1 job to submit" in desk.call("plan", changed).out
