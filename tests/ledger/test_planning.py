"""Writing a plan: the same file twice changes nothing, and what is paid for stays as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orbatch.ledger import BatchHeld, LedgerConflict, utc_now
from orbatch.ledger.status import Status
from tests.ledger.books import ORIGIN, Books, StubCatalog, batch_file, planned

S = Status
# An uncertain job may be sent again, and what is submitting while a batch is planned is uncertain soon.
OPEN_TO_NEWS = (S.PENDING, S.SUBMITTING, S.UNCERTAIN, S.REJECTED, S.FAILED, S.CANCELLED, S.EXPIRED)


def column(books: Books, name: str) -> list[object]:
    with books.ledger.database.read() as db:
        return [row[0] for row in db.execute(f"select {name} from jobs order by position")]  # noqa: S608 - a test's own


def test_the_same_plan_again_changes_no_job(books: Books) -> None:
    jobs = [planned(str(number), position=number) for number in range(50)]
    books.plan(jobs)
    before = books.changes()
    books.plan(jobs)
    # The batch itself takes the time of the plan, and the keys that were seen are noted beside the file.
    in_a_temporary_table = 2 * len(jobs)
    assert books.changes() - before == 1 + in_a_temporary_table


@pytest.mark.parametrize("status", Status)
def test_the_same_plan_again_changes_no_job_in_any_state_when_only_prices_moved_before(
    books: Books, status: Status
) -> None:
    """A price that a paid job does not take must not be tried anew by every plan."""
    [job_id] = books.job_ids(books.plan_and_claim([planned("a")]).id)
    books.bring_to(job_id, status)
    books.ledger.leases.release(1, books.holder)
    dearer = [planned("a", usd="9.99", stem="new")]
    books.plan(dearer)
    with books.ledger.database.write() as db:
        db.execute("create temp trigger no_change before update on jobs begin select raise(abort, 'changed'); end")
    books.plan(dearer)


@pytest.mark.parametrize("status", Status)
def test_price_and_request_follow_the_file_only_while_the_job_may_be_sent(books: Books, status: Status) -> None:
    [job_id] = books.job_ids(books.plan_and_claim([planned("a", path="/old/cat.png")]).id)
    books.bring_to(job_id, status)
    books.ledger.leases.release(1, books.holder)
    books.plan([planned("a", usd="9.99", low="1", lines=["another"], path="/new/cat.png", stem="new", position=7)])
    job = books.ledger.queries.job(job_id)
    follows = status in OPEN_TO_NEWS
    assert (job.estimate_high_nusd == 9_990_000_000) is follows
    assert (job.estimate_low_nusd == 1_000_000_000) is follows
    assert (job.price_lines == "another") is follows
    assert ("/new/cat.png" in str(job.request)) is follows
    assert (job.stem == "new") is (status in (S.PENDING, S.REJECTED))
    assert job.position == 7
    assert job.status is status


def test_a_job_that_left_the_file_is_retired_and_comes_back_with_its_prompt(books: Books) -> None:
    books.plan([planned("a"), planned("b", position=2)])
    books.plan([planned("b")])
    assert column(books, "retired") == [0, 1] or column(books, "retired") == [1, 0]
    assert [row["prompt"] for row in books.ledger.reports.job_rows(1)] == ["b"]
    assert books.ledger.queries.counts(1).retired == 1
    books.plan([planned("a"), planned("b", position=2)])
    assert column(books, "retired") == [0, 0]


def test_a_retired_job_is_never_sent(books: Books) -> None:
    batch = books.plan([planned("a")])
    [job_id] = books.job_ids(batch.id)
    books.plan_and_claim([planned("b")])
    with pytest.raises(LedgerConflict):
        books.reserve(job_id)
    assert job_id not in [
        job.id for job in books.ledger.queries.next_pending(1, "a/one", room_nusd=None, unpriced_nusd=None, limit=9)
    ]


def test_a_retired_job_keeps_what_it_cost_and_is_still_shown(books: Books) -> None:
    [job_id] = books.job_ids(books.plan_and_claim([planned("a")]).id)
    books.bring_to(job_id, S.FAILED, cost_nusd=9)
    books.ledger.attempts.reopen([job_id], reset_attempts=False)
    books.ledger.leases.release(1, books.holder)
    books.plan([planned("b")])
    rows = {row["job_id"]: row for row in books.ledger.reports.job_rows(1)}
    assert (rows[job_id]["retired"], rows[job_id]["cost_nusd"]) == (1, 9)
    assert books.ledger.reports.spend(1) == (9, 0)


def test_a_reason_to_wait_is_forgotten_when_the_batch_is_planned_anew(books: Books) -> None:
    books.plan([planned("a")])
    books.ledger.attempts.set_wait_reason(1, None, "no credit")
    books.plan([planned("a")])
    assert books.ledger.queries.wait_reasons(1) == []


def test_a_batch_that_is_run_is_not_planned_under_its_runner(books: Books) -> None:
    books.plan_and_claim([planned("a")])
    with pytest.raises(BatchHeld):
        books.plan([planned("b")])
    assert [row["prompt"] for row in books.ledger.reports.job_rows(1)] == ["a"]


def test_a_plan_that_breaks_off_leaves_the_ledger_as_it_was(books: Books) -> None:
    books.plan([planned("a")])

    def broken() -> object:
        yield planned("b")
        raise ValueError("a problem")

    with pytest.raises(ValueError, match="a problem"):
        books.plan(broken())  # type: ignore[arg-type] # a generator of jobs
    assert [row["prompt"] for row in books.ledger.reports.job_rows(1)] == ["a"]
    assert books.ledger.queries.counts(1).retired == 0


def test_the_same_request_in_two_batches_is_two_jobs(books: Books) -> None:
    first, second = books.one(name="one"), books.job_ids(books.plan([planned("prompt of one")], "two").id)[0]
    assert first.partition("-")[0] == second.partition("-")[0]
    assert first != second


def test_a_catalog_is_kept_once_and_each_batch_names_its_own(books: Books) -> None:
    for digest in ("sha256:1", "sha256:1", "sha256:2"):
        books.ledger.plans.write(batch_file(), replace(StubCatalog(), digest=digest), [planned("a")])
    with books.ledger.database.read() as db:
        assert db.execute("select count(*) from catalogs").fetchone()[0] == 2
    found = books.ledger.plans.find("cats")
    assert found is not None
    assert (found.catalog_digest, found.origin) == ("sha256:2", ORIGIN)
    assert books.ledger.plans.find("dogs") is None
    assert books.ledger.plans.last_catalog("dogs") is None


def test_the_outlook_tells_what_is_still_to_be_bought(books: Books) -> None:
    books.plan_and_claim(
        [planned(str(number), position=number, low="0.10") for number in range(6)]
        + [planned("?", usd=None, position=9)]
    )
    states = (S.DONE, S.UNCERTAIN, S.SUBMITTED, S.FAILED)
    for job_id, status in zip(books.job_ids(), states, strict=False):
        books.bring_to(job_id, status)
    [part] = books.ledger.plans.totals_by_model(1)
    assert (part.jobs, part.to_submit, part.done, part.open, part.ended, part.unpriced) == (7, 3, 1, 2, 1, 1)
    assert (part.low_nusd, part.high_nusd, part.seconds) == (200_000_000, 800_000_000, 35)
    [of_one] = books.ledger.plans.totals_by_model(1, "5")
    assert (of_one.jobs, of_one.to_submit) == (1, 1)
    shapes = {(shape.high_nusd, shape.jobs) for shape in books.ledger.plans.price_groups(1)}
    assert shapes == {(400_000_000, 2), (None, 1)}


def test_batches_are_named_with_the_one_planned_last_first(books: Books) -> None:
    for name in ("cats", "dogs"):
        books.plan([planned("a")], name)
    with books.ledger.database.write() as db:
        db.execute("update batches set planned_at = ? where name = 'cats'", [utc_now().replace(year=2999).isoformat()])
    assert books.ledger.plans.names() == ["cats", "dogs"]
