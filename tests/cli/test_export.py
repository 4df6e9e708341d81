"""``export``: in the order of the batch file, one job at a time, and harmless to a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from pathlib import Path

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
    first, second = (json.loads(line) for line in ran.call("export").out.splitlines())
    assert list(first) == list(COLUMNS)
    assert first | {"job_id": "", "cost_usd": "0.1"} == {
        "job_id": "", "prompt_id": "first", "prompt": "say =1+1", "variables": {"word": "=1+1"}, "model": MINI,
        "kind": "text", "status": "done", "text": "=cmd()\nsecond line \u2026", "paths": [str(_text_file(ran))],
        "cost_usd": "0.1", "settings": {"system": "Be brief.", "max_tokens": 9}, "repeat": 1, "error": None,
    }  # fmt: skip
    assert float(first["cost_usd"]) == ran.jobs()[0]["cost_usd"]
    assert [second[name] for name in ("prompt_id", "status", "text", "cost_usd")] == ["second", "pending", None, None]


def test_a_table_is_harmless_to_a_spreadsheet_and_loses_nothing(ran: Desk) -> None:
    first, second = csv.DictReader(io.StringIO(ran.call("export", "--format", "csv").out))
    assert first["text"] == "'=cmd()\nsecond line \u2026"
    assert json.loads(first["variables"]) == {"word": "=1+1"}
    assert json.loads(first["settings"]) == {"system": "Be brief.", "max_tokens": 9}
    assert second["text"] == second["cost_usd"] == ""


def test_a_text_whose_file_is_missing_is_omitted_and_its_path_is_not(ran: Desk) -> None:
    file = _text_file(ran)
    file.unlink()
    first = json.loads(ran.call("export").out.splitlines()[0])
    assert (first["text"], first["paths"]) == (None, [str(file)])


def test_a_file_is_replaced_whole(ran: Desk) -> None:
    ran.call("export", "texts", "-o", "results/a.jsonl")
    ran.call("export", "texts", "-o", "results/a.jsonl", "--force")
    target = ran.folder / "results" / "a.jsonl"
    assert len(target.read_text("utf-8").splitlines()) == 2
    assert list(target.parent.iterdir()) == [target]


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
    assert peak < 500_000
