"""``export``: in the order of the batch file, one job at a time, and harmless to a spreadsheet."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tracemalloc
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet
import pytest

from orbatch.export import COLUMNS, record_of
from tests.desk import Desk

MINI = "openai/gpt-4o-mini"
TEXTS = {
    "defaults": {"kind": "text", "max_tokens": 9, "system": "Be brief."},
    "models": [MINI],
    "prompts": [
        {"id": "first", "prompt": "say {{ word }}", "vars": {"word": "=1+1"}},
        {"id": "second", "prompt": "wait"},
    ],
}


@pytest.fixture
def ran(desk: Desk) -> Desk:
    """A desk with two texts, of which only the first was run; its text starts like a formula."""
    desk.run(desk.write("texts", **TEXTS), "--only", "first")
    _text_file(desk).write_text("=cmd()\nsecond line \u2026", "utf-8")
    return desk


def _text_file(desk: Desk) -> Path:
    return Path(desk.jobs()[0]["output_path"])


def test_a_line_holds_the_prompt_its_variables_the_text_the_cost_and_the_settings(ran: Desk) -> None:
    first, second = (json.loads(line) for line in ran.call("export", "--all").out.splitlines())
    assert list(first) == list(COLUMNS)
    path = f"outputs/texts/{_text_file(ran).name}"
    assert first | {"job_id": "", "cost_usd": 0.1, "bytes": 1, "sha256": ""} == {
        "job_id": "", "batch": "texts", "prompt_id": "first", "prompt": "say =1+1", "variables": {"word": "=1+1"},
        "seed": None, "model": MINI, "kind": "text", "status": "done", "repeat": 1, "cost_usd": 0.1,
        "output_path": path, "sha256": "", "mime_type": "text/plain", "bytes": 1, "width": None, "height": None,
        "fps": None, "seconds": None, "paths": [path], "text": "=cmd()\nsecond line \u2026",
        "settings": {"system": "Be brief.", "max_tokens": 9}, "error": None,
    }  # fmt: skip
    assert [second[name] for name in ("prompt_id", "status", "text", "cost_usd")] == ["second", "pending", None, None]


def test_only_done_jobs_are_exported_unless_others_are_asked_for(ran: Desk) -> None:
    exported = {
        options: [json.loads(line)["prompt_id"] for line in ran.call("export", *options).out.splitlines()]
        for options in ((), ("--all",), ("--status", "pending"))
    }
    assert exported == {(): ["first"], ("--all",): ["first", "second"], ("--status", "pending"): ["second"]}


def test_the_same_names_and_types_are_in_every_form(ran: Desk) -> None:
    [row] = [row for row in ran.jobs() if row["status"] == "done"]
    exported = json.loads(ran.call("export", "--absolute").out)
    shown = ran.call("show", row["job_id"], "--json").json
    both = [name for name in row if name in exported]
    assert {"job_id", "prompt_id", "variables", "seed", "cost_usd", "output_path", "bytes", "sha256"} <= set(both)
    assert [row[name] for name in both] == [exported[name] for name in both]
    names = [name for name in both if name in shown]
    assert [row[name] for name in names] == [shown[name] for name in names]


def test_a_table_is_harmless_to_a_spreadsheet_and_loses_nothing(ran: Desk) -> None:
    first, second = csv.DictReader(io.StringIO(ran.call("export", "--format", "csv", "--all").out))
    assert first["text"] == "'=cmd()\nsecond line \u2026"
    assert json.loads(first["variables"]) == {"word": "=1+1"}
    assert json.loads(first["settings"]) == {"system": "Be brief.", "max_tokens": 9}
    assert Decimal(first["cost_usd"]) == Decimal(str(ran.jobs()[0]["cost_usd"]))
    assert second["text"] == second["cost_usd"] == ""


def test_a_text_whose_file_is_missing_is_omitted_and_its_path_is_not(ran: Desk) -> None:
    file = _text_file(ran)
    file.unlink()
    first = json.loads(ran.call("export").out.splitlines()[0])
    assert (first["text"], first["paths"]) == (None, [f"outputs/texts/{file.name}"])


def test_a_file_is_replaced_whole(ran: Desk) -> None:
    ran.call("export", "texts", "-o", "results/a.jsonl")
    ran.call("export", "texts", "-o", "results/a.jsonl", "--force")
    target = ran.folder / "results" / "a.jsonl"
    [line] = target.read_text("utf-8").splitlines()
    assert (target.parent / json.loads(line)["output_path"]).is_file(), "the path is relative to the file"
    assert list(target.parent.iterdir()) == [target]


def test_the_suffix_chooses_the_format(ran: Desk) -> None:
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        ran.call("export", "-o", name)
    assert (ran.folder / "a.csv").read_text("utf-8").startswith("job_id,batch,")
    assert json.loads((ran.folder / "a.jsonl").read_text("utf-8"))["prompt_id"] == "first"
    ran.call("export", "-o", "b.csv", "--excel")
    assert (ran.folder / "b.csv").read_bytes().startswith(b"\xef\xbb\xbfjob_id,")
    table = pyarrow.parquet.read_table(ran.folder / "a.parquet")
    assert table.column_names == list(COLUMNS)
    [row] = table.to_pylist()
    assert (row["prompt_id"], row["repeat"], json.loads(row["variables"])) == ("first", 1, {"word": "=1+1"})
    assert row["cost_usd"] == ran.jobs()[0]["cost_usd"]
    assert "parquet cannot go to stdout" in ran.call("export", "--format", "parquet", code=2).err
    assert "--excel is for CSV" in ran.call("export", "--excel", code=2).err


def test_a_dataset_folder_has_the_files_and_a_line_for_each(desk: Desk) -> None:
    desk.run(desk.write(prompts=["a cat", "a dog"], seeds=[7]))
    desk.call("export", "--format", "huggingface", "-o", "dataset")
    folder = desk.folder / "dataset"
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text("utf-8").splitlines()]
    assert [(row["prompt"], row["seed"], row["width"], row["seconds"]) for row in rows] == [
        ("a cat", 7, 64, 1.0),
        ("a dog", 7, 64, 1.0),
    ]
    for row in rows:
        assert hashlib.sha256((folder / row["file_name"]).read_bytes()).hexdigest() == row["sha256"]
    again = desk.call("export", "--format", "huggingface", "-o", "dataset", code=2).err
    assert "dataset already exists" in again


def test_an_unknown_batch_is_refused_with_those_in_the_ledger(ran: Desk) -> None:
    assert "texts" in ran.call("export", "nosuch", code=2).err


def test_memory_does_not_grow_with_the_batch(desk: Desk) -> None:
    rows = "".join(f"cat {at} {'x' * 400}\n" for at in range(4000))
    (desk.folder / "p.csv").write_text(f"prompt\n{rows}")
    desk.call("plan", desk.write("texts", **TEXTS | {"prompts": None, "prompts_from": "p.csv"}))
    with desk.ledger() as ledger:
        tracemalloc.start()
        count = sum(1 for _ in map(record_of, ledger.reports.exported_jobs(1)))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert count == 4000
    assert peak < 800_000
