"""A batch file that is edited after a run: what is new is shown, what left it is counted apart and moved on request."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.desk import Desk


@pytest.fixture
def edited(desk: Desk) -> tuple[Desk, Path]:
    """Four jobs are done; then one of the two prompts is changed, and another one comes."""
    path = desk.write(
        prompts=[{"id": "dawn", "prompt": "a harbour"}, {"id": "market", "prompt": "a market"}], seeds=[1, 2]
    )
    desk.run(path)
    prompts = [("dawn", "a harbour"), ("market", "the market"), ("storm", "a storm")]
    desk.write(prompts=[{"id": name, "prompt": text} for name, text in prompts], seeds=[1, 2])
    return desk, path


def test_a_plan_shows_what_is_new_and_what_changed(edited: tuple[Desk, Path]) -> None:
    desk, path = edited
    lines = desk.call("plan", path).out.splitlines()
    assert "+ market        1     2  0.24  changed; 2 earlier jobs kept" in lines
    assert "+ storm         1     2  0.24  new" in lines
    assert not any(line.startswith("+ dawn") for line in lines)
    assert "2 files of earlier prompts are among the outputs. `orbatch clean films` moves them to retired/." in lines
    assert [part["prompt_id"] for part in desk.call("plan", path, "--json").json["to_submit"]] == ["market", "storm"]


def test_a_plan_of_many_prompts_names_the_first_and_counts_the_others(desk: Desk) -> None:
    desk.run(desk.write(prompts=["first"]))
    plan = desk.call("plan", desk.write(prompts=["first", *(f"prompt {number}" for number in range(30))])).out
    assert "+ p21" in plan
    assert "+ p22" not in plan
    assert "+ 10 more prompts" in plan


def test_jobs_that_left_the_file_are_counted_apart(edited: tuple[Desk, Path]) -> None:
    desk, path = edited
    run = desk.run(path)
    assert "films: 6 of 6 done, 2 from earlier prompts. Spent 0.96 USD" in run.out
    [row] = desk.call("report", "--json").json["rows"]
    assert (row["jobs"], row["done"], row["cost_usd"]) == (6, 6, 0.96)
    assert desk.call("status", "--json").json["batches"][0]["retired"] == {"done": 2}


def test_their_files_are_moved_aside_and_found_again(edited: tuple[Desk, Path]) -> None:
    desk, path = edited
    desk.run(path)
    outputs = desk.folder / "outputs" / "films"
    assert desk.call("clean", "--yes").out == "films: 2 files of earlier prompts moved to outputs/films/retired.\n"
    assert (len(list(outputs.glob("*.mp4"))), len(list((outputs / "retired").glob("market-*.mp4")))) == (6, 2)
    assert "8 files checked, 0 missing or changed" in desk.call("verify").out
    assert desk.call("clean", "--yes").out == "films: 0 files of earlier prompts moved.\n"
    assert "earlier prompts are" not in desk.call("plan", path).out
    desk.write(prompts=[{"id": "market", "prompt": "a market"}], seeds=[1, 2])
    assert "2 of 2 done" in desk.run(path).out, "the prompt came back, and its files are known"
    assert desk.accepted() == 8


def test_a_file_that_was_changed_is_not_moved(edited: tuple[Desk, Path]) -> None:
    desk, path = edited
    desk.run(path)
    old = next(Path(job["output_path"]) for job in desk.jobs() if job["retired"])
    old.write_bytes(b"an edit of the user")
    cleaned = desk.call("clean", "--yes")
    assert "1 file of earlier prompts moved" in cleaned.out
    assert f"{old}: the file has changed. It stays where it is." in cleaned.err
    assert old.read_bytes() == b"an edit of the user"


def test_clean_asks_first(edited: tuple[Desk, Path]) -> None:
    desk, path = edited
    desk.run(path)
    assert "No terminal to confirm on" in desk.call("clean", code=2).err
    assert not (desk.folder / "outputs" / "films" / "retired").exists()


def test_results_are_found_by_prompt_model_and_status(edited: tuple[Desk, Path]) -> None:
    desk, path = edited
    desk.call("plan", path)
    assert len(desk.jobs("--prompt", "market")) == 4
    assert len(desk.jobs("--prompt", "THE market", "--status", "pending")) == 2
    assert len(desk.jobs("--status", "done,pending", "--model", "veo", "--only", "dawn")) == 2
    assert desk.jobs("--model", "wan") == []
    assert desk.call("jobs", "--model", "wan").out == "There is no such job.\n"
    assert "running is not a" not in desk.call("jobs", "--status", "running").text
    assert "Did you mean done?" in desk.call("jobs", "--status", "don", code=2).err
    assert desk.call("report", "--prompt", "dawn", "--json").json["total"]["cost_usd"] == 0.24
    assert len(desk.call("export", "--prompt", "dawn").out.splitlines()) == 2
    assert desk.call("show", "--prompt", "dawn").out.count("prompt    dawn: a harbour") == 2
    assert "2 files checked" in desk.call("verify", "--prompt", "dawn").out
    assert "has no failed jobs that match dawn" in desk.call("retry", "--prompt", "dawn").out
    assert "Give the first characters of a job id" in desk.call("show", code=2).err


def test_path_prints_the_files_of_a_prompt_for_other_programs(edited: tuple[Desk, Path]) -> None:
    desk, _ = edited
    paths = desk.call("path", "dawn").out.splitlines()
    assert [path.rpartition("-")[0] for path in paths] == [
        f"outputs/films/dawn-veo-3.1-lite-s{seed}" for seed in (1, 2)
    ]
    assert all((desk.folder / path).is_file() for path in paths)
    assert desk.call("path", "dawn", "--json").json == paths
    assert "No finished job matches storm" in desk.call("path", "storm", code=3).err
