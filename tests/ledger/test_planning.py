"""Writing a plan: the same file twice changes nothing, and what is paid for stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orbatch.ledger import BatchHeld, Caps, Filter, Ledger, LedgerConflict, PlannedJob, Status, utc_now
from tests.ledger.books import ORIGIN, Books, StubCatalog, batch_file, in_order, planned

S = Status
# An uncertain job may be sent again, and what is submitting while a batch is planned is uncertain soon.
OPEN_TO_NEWS = (S.PENDING, S.SUBMITTING, S.UNCERTAIN, S.REJECTED, S.FAILED, S.CANCELLED, S.EXPIRED)


def prompts(books: Books) -> list[str]:
    """Of the jobs that are shown."""
    return [row["prompt"] for row in books.reports.job_rows(1)]


def test_the_same_plan_again_changes_no_job(books: Books) -> None:
    jobs = in_order(range(50))
    books.plan(jobs)
    before = books.changes()
    books.plan(jobs)
    # The batch itself takes the time of the plan, and the keys that were seen are noted beside the file.
    in_a_temporary_table = 2 * len(jobs)
    assert books.changes() - before == 1 + in_a_temporary_table


@pytest.mark.parametrize("status", Status)
def test_price_and_request_follow_the_file_only_while_the_job_may_be_sent(books: Books, status: Status) -> None:
    [job_id] = books.plan_and_claim([planned("a", path="/old/cat.png")])
    books.bring_to(job_id, status)
    books.leases.release(1, books.holder)
    new = planned("a", usd="9.99", low="1", lines="another", path="/new/cat.png", stem="new", position=7)
    books.plan([new])
    job = books.queries.job(job_id)
    found = (job.estimate_high_nusd, job.estimate_low_nusd, job.price_lines, "/new/cat.png" in str(job.request))
    old = (400_000_000, 400_000_000, "per_second", False)
    assert found == ((9_990_000_000, 1_000_000_000, "another", True) if status in OPEN_TO_NEWS else old)
    assert (job.stem == "new") is (status in (S.PENDING, S.REJECTED))
    assert (job.position, job.status) == (7, status)
    # What a paid job does not take must not be tried again by every plan.
    with books.database.write() as db:
        db.execute("create temp trigger no_change before update on jobs begin select raise(abort, 'changed'); end")
    books.plan([new])


def test_a_job_that_left_the_file_is_retired_and_never_sent_and_comes_back_with_its_prompt(books: Books) -> None:
    [left, _] = books.plan_and_claim(in_order("ab"))
    books.leases.release(1, books.holder)
    books.plan_and_claim([planned("b")])
    assert (prompts(books), books.queries.counts(1).total) == (["b"], 1)
    with pytest.raises(LedgerConflict):
        books.reserve(left)
    found = books.queries.next_pending(1, "a/one", room_nusd=None, unpriced_nusd=None, limit=9)
    assert [job.prompt for job in found] == ["b"]
    books.leases.release(1, books.holder)
    books.plan(in_order("ab"))
    assert (prompts(books), books.queries.counts(1).total) == (["a", "b"], 2)


def test_a_retired_job_keeps_what_it_cost_and_is_still_shown(books: Books) -> None:
    [job_id] = books.plan_and_claim([planned("a")])
    books.bring_to(job_id, S.FAILED, cost_nusd=9)
    books.attempts.reopen([job_id], reset_attempts=False)
    books.leases.release(1, books.holder)
    books.plan([planned("b")])
    rows = {row["job_id"]: row for row in books.reports.job_rows(1)}
    assert (rows[job_id]["retired"], rows[job_id]["cost_nusd"]) == (1, 9)
    assert books.reports.spend(1) == (9, 0)
    groups, total = books.reports.report("prompt", Filter())
    assert [(row.key, row.jobs, row.charged_nusd) for row in groups] == [("a", 0, 9), ("b", 1, 0)]
    assert (total.jobs, total.charged_nusd) == (1, 9)


def test_a_reason_to_wait_is_forgotten_when_the_batch_is_planned_again(books: Books) -> None:
    books.plan([planned("a")])
    books.attempts.set_wait_reason(1, None, "no credit")
    books.plan([planned("a")])
    assert books.queries.wait_reasons(1) == []


def test_a_batch_that_is_run_is_not_planned_under_its_runner(books: Books) -> None:
    books.plan_and_claim([planned("a")])
    with pytest.raises(BatchHeld):
        books.plan([planned("b")])
    assert prompts(books) == ["a"]


def test_a_plan_that_breaks_off_leaves_the_ledger_as_it_was(books: Books) -> None:
    books.plan([planned("a")])

    def broken() -> Iterator[PlannedJob]:
        yield planned("b")
        raise ValueError("a problem")

    with pytest.raises(ValueError, match="a problem"):
        books.plan(broken())
    assert (prompts(books), books.queries.counts(1).total) == (["a"], 1)


def test_a_plan_in_the_making_keeps_no_runner_from_writing(books: Books, path: Path) -> None:
    running = books.one(name="running")

    def slow() -> Iterator[PlannedJob]:
        for number, job in enumerate(in_order(range(2500))):
            if number == 2400:  # behind two chunks that were written already
                with Ledger.open(path) as other:
                    other.database.rows("pragma busy_timeout = 0")
                    other.attempts.reserve(running, Caps(), owner=books.holder.owner, origin="o", account="a")
            yield job

    assert len(books.job_ids(books.plan(slow()).id)) == 2500
    assert books.queries.job(running).status is Status.SUBMITTING


def test_the_same_request_in_two_batches_is_two_jobs(books: Books) -> None:
    [first], [second] = books.plan_and_claim([planned("a")], "one"), books.plan_and_claim([planned("a")], "two")
    assert first.partition("-")[0] == second.partition("-")[0]
    assert first != second


def test_a_catalog_is_kept_once_and_each_batch_names_its_own(books: Books) -> None:
    for digest in ("sha256:1", "sha256:1", "sha256:2"):
        books.plans.write(batch_file(), replace(StubCatalog(), digest=digest), [planned("a")])
    assert books.database.count("from catalogs") == 2
    found = books.plans.find("cats")
    assert found is not None
    assert (found.catalog_digest, found.origin, books.plans.last_catalog("cats")) == ("sha256:2", ORIGIN, "{}")
    assert (books.plans.find("dogs"), books.plans.last_catalog("dogs")) == (None, None)


def test_the_totals_tell_what_is_still_to_be_submitted(books: Books) -> None:
    job_ids = books.plan_and_claim([*in_order(range(6), low="0.10"), planned("?", usd=None, position=9)])
    for job_id, status in zip(job_ids, (S.DONE, S.UNCERTAIN, S.SUBMITTED, S.FAILED), strict=False):
        books.bring_to(job_id, status)
    [part] = books.plans.totals_by_model(1)
    assert (part.jobs, part.to_submit, part.done, part.open, part.ended, part.unpriced) == (7, 3, 1, 2, 1, 1)
    assert (part.low_nusd, part.high_nusd, part.seconds) == (200_000_000, 800_000_000, 35)
    [of_one] = books.plans.totals_by_model(1, "5")
    assert (of_one.jobs, of_one.to_submit) == (1, 1)
    assert {(group.high_nusd, group.jobs) for group in books.plans.price_groups(1)} == {(400_000_000, 2), (None, 1)}


def test_batches_are_named_with_the_one_planned_last_first(books: Books) -> None:
    for name in ("cats", "dogs"):
        books.plan([planned("a")], name)
    with books.database.write() as db:
        db.execute("update batches set planned_at = ? where name = 'cats'", [utc_now().replace(year=2999).isoformat()])
    assert books.plans.names() == ["cats", "dogs"]
