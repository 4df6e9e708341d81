"""Exported results: in the order of the batch file, one at a time, and harmless to a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orbatch.batchfile.loader import load_config
from orbatch.cli.app import app
from orbatch.export import COLUMNS, record_of
from orbatch.ledger import BatchFile, Charge, Holder, Ledger, OutputRecord, utc_now
from orbatch.ledger.budget import Caps, Refused
from orbatch.ledger.status import Status
from orbatch.plan.catalogs import Catalogs
from orbatch.plan.estimate import price_jobs
from orbatch.plan.jobs import expand
from orbatch_provider.catalog import snapshot
from orbatch_simulator.images import image_examples
from orbatch_simulator.text import text_examples

OFFERS = Catalogs({"video": snapshot(), "image": image_examples(), "text": text_examples()})


def planned(folder: Path, batch: str) -> Path:
    """A ledger with this batch, nothing of it run."""
    path = folder / "b.yaml"
    path.write_text(batch, "utf-8")
    config = load_config(path)
    with Ledger.open(folder / "ledger.db") as ledger:
        file = BatchFile(config.name, path, "sha", folder / "out", "http://127.0.0.1")
        ledger.plans.write(file, OFFERS, price_jobs(expand(config), OFFERS))
    return folder / "ledger.db"


def finish(db: Path, text: str, folder: Path) -> None:
    """The first pending job has brought this text."""
    with Ledger.open(db) as ledger:
        batch = ledger.plans.find("texts")
        assert batch is not None
        holder = Holder.this_process()
        ledger.leases.claim(batch.id, holder, utc_now())
        [job] = ledger.queries.next_pending(batch.id, "openai/gpt-4o-mini", room_nusd=None, unpriced_nusd=None, limit=1)
        decision = ledger.attempts.reserve(job.id, Caps(), owner=holder.owner, origin="http://127.0.0.1", account="a")
        assert not isinstance(decision, Refused)
        path = folder / f"{job.prompt_id}.txt"
        path.write_text(text, "utf-8")
        record = OutputRecord(str(path), len(text), "0" * 64, "text/plain")
        ledger.attempts.end_answered(decision.attempt_id, Status.DONE, Charge(21_000), Caps(), outputs=[record])
        ledger.leases.release(batch.id, holder)


TEXTS = """
name: texts
defaults: {kind: text, max_tokens: 9, system: Be brief.}
models: [openai/gpt-4o-mini]
prompts:
  - {id: first, prompt: "say {{ word }}", vars: {word: "=1+1"}}
  - {id: second, prompt: "wait"}
"""


def export(db: Path, *more: str) -> str:
    result = CliRunner().invoke(app, ["--db", str(db), "export", *more])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_line_holds_the_prompt_its_variables_the_text_the_cost_and_the_settings(tmp_path: Path) -> None:
    db = planned(tmp_path, TEXTS)
    finish(db, "=cmd()\nsecond line \u2026", tmp_path)
    first, second = (json.loads(line) for line in export(db).splitlines())
    assert list(first) == list(COLUMNS)
    assert {
        name: first[name] for name in ("prompt_id", "prompt", "variables", "model", "kind", "status", "cost_usd")
    } == {
        "prompt_id": "first",
        "prompt": "say =1+1",
        "variables": {"word": "=1+1"},
        "model": "openai/gpt-4o-mini",
        "kind": "text",
        "status": "done",
        "cost_usd": "0.000021",
    }
    assert first["text"] == "=cmd()\nsecond line \u2026"
    assert first["paths"] == [str(tmp_path / "first.txt")]
    assert first["settings"] == {"system": "Be brief.", "max_tokens": 9}
    assert (second["prompt_id"], second["status"], second["text"], second["cost_usd"]) == (
        "second",
        "pending",
        None,
        None,
    )


def test_a_table_is_harmless_to_a_spreadsheet_and_loses_nothing(tmp_path: Path) -> None:
    db = planned(tmp_path, TEXTS)
    finish(db, "=cmd()\nsecond line", tmp_path)
    first, second = csv.DictReader(io.StringIO(export(db, "--format", "csv")))
    assert first["text"] == "'=cmd()\nsecond line"
    assert json.loads(first["settings"]) == {"system": "Be brief.", "max_tokens": 9}
    assert second["text"] == second["cost_usd"] == ""


def test_a_text_whose_file_has_gone_is_left_out_and_its_path_is_not(tmp_path: Path) -> None:
    db = planned(tmp_path, TEXTS)
    finish(db, "gone", tmp_path)
    (tmp_path / "first.txt").unlink()
    first = json.loads(export(db).splitlines()[0])
    assert (first["text"], first["paths"]) == (None, [str(tmp_path / "first.txt")])


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    db = planned(tmp_path, TEXTS)
    target = tmp_path / "results" / "a.jsonl"
    export(db, "texts", "-o", str(target))
    export(db, "texts", "-o", str(target))
    assert len(target.read_text("utf-8").splitlines()) == 2
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("name", ["nosuch"])
def test_an_unknown_batch_is_refused_with_those_there_are(tmp_path: Path, name: str) -> None:
    result = CliRunner().invoke(app, ["--db", str(planned(tmp_path, TEXTS)), "export", name])
    assert result.exit_code != 0
    assert "texts" in result.output


def test_memory_does_not_grow_with_the_batch(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("prompt\n" + "".join(f"cat {at} {'x' * 400}\n" for at in range(4000)))
    head = "name: texts\ndefaults: {kind: text, max_tokens: 9}\nmodels: [openai/gpt-4o-mini]\nprompts_from: p.csv\n"
    with Ledger.open(planned(tmp_path, head)) as ledger:
        batch = ledger.plans.find("texts")
        assert batch is not None
        tracemalloc.start()
        count = sum(1 for _ in map(record_of, ledger.reports.exported_jobs(batch.id)))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert count == 4000
    assert peak < 500_000
