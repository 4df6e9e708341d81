"""Jobs with several attempts, of which only the newest is open; and answers that come late."""

from __future__ import annotations

import pytest

from orbatch.ledger import LedgerConflict
from orbatch.ledger.status import Status
from tests.ledger.books import ACCOUNT, ORIGIN, Books

S = Status


def statuses(books: Books, job_id: str) -> tuple[str, ...]:
    """Of the job, and of its attempts in their order."""
    return (books.status(job_id), *(attempt.status for attempt in books.ledger.queries.attempts(job_id)))


@pytest.mark.parametrize("status", [S.SUBMITTING, S.SUBMITTED, S.COMPLETED, S.UNCERTAIN])
def test_a_job_with_an_open_attempt_is_not_reserved_again(books: Books, status: Status) -> None:
    job_id = books.one()
    books.bring_to(job_id, status)
    with pytest.raises(LedgerConflict, match="not pending any more"):
        books.reserve(job_id)
    assert len(books.ledger.queries.attempts(job_id)) == 1


def test_the_file_itself_refuses_a_second_open_attempt_of_a_job(books: Books) -> None:
    job_id = books.one()
    books.bring_to(job_id, S.UNCERTAIN)
    with pytest.raises(LedgerConflict, match="UNIQUE"), books.ledger.database.write() as db:
        db.execute(
            "insert into attempts (job_id, batch_id, model, number, status, origin, account, day, price_lines, "
            "created_at) values (?, 1, 'a/one', 2, 'submitting', ?, ?, '2026-03-01', '', '')",
            (job_id, ORIGIN, ACCOUNT),
        )


def test_a_late_answer_to_an_attempt_that_the_user_resolved_is_refused(books: Books) -> None:
    job_id = books.one()
    attempt_id = books.bring_to(job_id, S.UNCERTAIN)
    assert attempt_id is not None
    books.ledger.attempts.resolve_not_charged(books.attempt(job_id))
    with pytest.raises(LedgerConflict):
        books.ledger.attempts.accept(attempt_id, "late")
    assert statuses(books, job_id) == (S.PENDING, "released")


def test_a_released_attempt_is_history_and_does_not_count(books: Books) -> None:
    job_id = books.one()
    books.ledger.attempts.release(books.reserve(job_id), "429: slow down")
    assert books.ledger.queries.job(job_id).wait_reason == "429: slow down"
    assert books.ledger.queries.attempts_made(job_id) == 0
    assert books.ledger.reports.spend(1) == (0, 0)
    [row] = books.ledger.reports.job_rows(1)
    assert (row["attempts"], row["cost_nusd"]) == (0, 0)
    assert books.history(job_id) == ["pending -> submitting", "submitting -> pending"]


def test_a_job_stands_for_its_newest_attempt_that_was_started(books: Books) -> None:
    job_id = books.one()
    first = books.bring_to(job_id, S.FAILED)
    books.ledger.attempts.reopen([job_id], reset_attempts=False)
    books.ledger.attempts.release(books.reserve(job_id), "429: slow down")
    found = books.ledger.queries.job(job_id).attempt
    assert found is not None
    assert (found.id, statuses(books, job_id)) == (first, (S.PENDING, S.FAILED, "released"))
