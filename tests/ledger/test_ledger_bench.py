"""The ledger that the bench fills is one that orbatch itself could have written."""

from __future__ import annotations

from pathlib import Path

from bench.ledger import MODELS, fill, time_planning
from orbatch.ledger import Filter
from orbatch.ledger.status import Status
from tests.ledger.books import Books


def test_the_bench_fills_a_ledger_that_adds_up(books: Books) -> None:
    fill(books.ledger, 1000)
    counts = books.ledger.queries.counts(1)
    assert (counts.total, counts[Status.FAILED], counts[Status.PENDING]) == (1000, 10, 10)
    rows, total = books.ledger.reports.report("model", Filter())
    assert {row.key for row in rows} == set(MODELS)
    with books.ledger.database.read() as db:
        assert db.execute("select sum(cost_nusd) from attempts").fetchone()[0] == total.charged_nusd
        assert db.execute("pragma foreign_key_check").fetchall() == []
        assert db.execute("pragma integrity_check").fetchone()[0] == "ok"
    [row] = books.ledger.reports.job_rows(limit=1)
    assert row["output_path"] or row["error"] or row["status"] == Status.DONE


def test_the_bench_plans(tmp_path: Path) -> None:
    assert len(time_planning(tmp_path, 20, runs=1)) == 3
