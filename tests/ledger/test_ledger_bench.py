"""The ledger that the bench fills is one that orbatch itself could have written."""

from __future__ import annotations

from pathlib import Path

from bench.ledger import MODELS, fill, time_planning
from orbatch.ledger import Filter, Status
from tests.ledger.books import Books


def test_the_bench_fills_a_ledger_that_adds_up(books: Books) -> None:
    fill(books.ledger, 1000)
    counts = books.queries.counts(1)
    assert (counts.total, counts[Status.FAILED], counts[Status.PENDING]) == (1000, 10, 10)
    rows, total = books.reports.report("model", Filter())
    assert {row.key for row in rows} == set(MODELS)
    questions = ("select sum(cost_nusd) from attempts", "pragma foreign_key_check", "pragma integrity_check")
    found = [[tuple(row) for row in books.database.rows(question)] for question in questions]
    assert found == [[(total.charged_nusd,)], [], [("ok",)]]
    [row] = books.reports.job_rows(limit=1)
    assert row["output_path"] or row["error"] or row["status"] == Status.DONE


def test_the_bench_plans(tmp_path: Path) -> None:
    assert len(time_planning(tmp_path, 20, runs=1)) == 3
