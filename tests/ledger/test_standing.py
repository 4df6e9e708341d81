"""What a plan was made from is kept only while every job that may still be sent stands as the plan has it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from orbatch.ledger import OpenField, PlanRecord
from orbatch.ledger.status import TRANSITIONS, Status
from orbatch.plan.estimate import PricedJob
from tests.ledger.books import Books, StubCatalog, batch_file, planned

S = Status
RECORD = PlanRecord(
    sources="sha256:3",
    prices="sha256:4",
    models={"video": ["a/one"]},
    left_open=(OpenField("a/one", "per_second", 1, None, "duration", "0.10", None),),
    digest="sha256:5",
)
NEVER_SENT_AGAIN = (S.DONE, S.LOST)
TAKES_ALL = (S.PENDING, S.REJECTED)
TAKES_THE_PRICE = (S.SUBMITTING, S.UNCERTAIN, S.FAILED, S.CANCELLED, S.EXPIRED)


def plan(books: Books, jobs: Iterable[PricedJob], record: PlanRecord = RECORD) -> PlanRecord | None:
    """What is kept of a plan of these jobs."""
    books.ledger.plans.write(batch_file(), StubCatalog(), jobs, lambda: record)
    return books.ledger.plans.record("cats")


def test_what_a_plan_was_made_from_comes_back_as_it_was(books: Books) -> None:
    assert books.ledger.plans.record("cats") is None
    assert plan(books, [planned("a")]) == RECORD
    assert plan(books, [planned("a")], replace(RECORD, digest="sha256:6")) == replace(RECORD, digest="sha256:6")
    assert plan(books, [planned("a")], replace(RECORD, sources=None)) is None
    assert plan(books, [planned("a")]) == RECORD
    books.plan([planned("a")])
    assert books.ledger.plans.record("cats") is None, "the last plan does not say what it was made from"


@pytest.mark.parametrize(
    ("change", "taken_by"),
    [
        pytest.param({}, tuple(Status), id="nothing"),
        pytest.param({"position": 7, "prompt_id": "new"}, tuple(Status), id="what every job takes"),
        pytest.param({"usd": "9.99"}, (*TAKES_ALL, *TAKES_THE_PRICE), id="worst case"),
        pytest.param({"low": "0.01"}, (*TAKES_ALL, *TAKES_THE_PRICE), id="least price"),
        pytest.param({"low": None}, (*TAKES_ALL, *TAKES_THE_PRICE), id="exact price"),
        pytest.param({"lines": ("another",)}, (*TAKES_ALL, *TAKES_THE_PRICE), id="price lines"),
        pytest.param({"path": "/new/cat.png"}, (*TAKES_ALL, *TAKES_THE_PRICE), id="path of a picture"),
        pytest.param({"stem": "new"}, TAKES_ALL, id="file name"),
    ],
)
@pytest.mark.parametrize("status", Status)
def test_a_plan_is_kept_where_its_jobs_have_taken_all_of_it(
    books: Books, status: Status, change: dict[str, Any], taken_by: tuple[Status, ...]
) -> None:
    old: dict[str, Any] = {"path": "/old/cat.png", "stem": "old", "prompt_id": "a", "low": "0.10"}
    first = planned("a", **old)
    [job_id] = books.job_ids(books.plan_and_claim([first, planned("b", position=2)]).id)[:1]
    books.bring_to(job_id, status)
    books.ledger.leases.release(1, books.holder)
    changed = planned("a", **old | change)
    kept = plan(books, [changed, planned("b", position=2)])
    assert (kept == RECORD) is (status in (*taken_by, *NEVER_SENT_AGAIN))


def test_only_what_ends_for_good_is_never_sent_again() -> None:
    assert {status for status in Status if not TRANSITIONS[status]} == set(NEVER_SENT_AGAIN)


def test_an_open_job_that_left_the_file_is_compared_when_it_comes_back(books: Books) -> None:
    [job_id] = books.job_ids(books.plan_and_claim([planned("a")]).id)
    books.bring_to(job_id, S.SUBMITTED)
    books.ledger.leases.release(1, books.holder)
    assert plan(books, [planned("b", usd="9.99")]) == RECORD
    assert plan(books, [planned("a", usd="9.99"), planned("b", usd="9.99")]) is None


def test_a_plan_is_renewed_only_while_it_is_the_last_one(books: Books) -> None:
    plan(books, [planned("a")])
    renew = books.ledger.plans.renew
    assert renew(batch_file(), StubCatalog(), RECORD) == books.ledger.plans.find("cats")
    plan(books, [planned("b")], replace(RECORD, digest="sha256:6"))  # by another process
    before = books.changes()
    assert renew(batch_file(), StubCatalog(), RECORD) is None
    assert renew(batch_file("dogs"), StubCatalog(), RECORD) is None
    assert books.changes() == before
    assert [row["prompt"] for row in books.ledger.reports.job_rows(1)] == ["b"]
