"""Jobs with several attempts that may all have been accepted: `uncertain: resubmit` and answers that come late."""

from __future__ import annotations

import pytest

from orbatch.ledger import Charge, LedgerConflict
from orbatch.ledger.budget import Caps, Refused
from orbatch.ledger.status import Status
from tests.ledger.books import NO_CAPS, Books, video

S = Status


@pytest.fixture
def twice(books: Books) -> tuple[str, int, int]:
    """A job whose first attempt is uncertain and whose second is on its way: (job, first attempt, second attempt)."""
    job_id = books.one()
    first = books.bring_to(job_id, S.UNCERTAIN)
    assert first is not None
    return job_id, first, books.reserve(job_id, resubmit=True)


def complete(books: Books, attempt_id: int, cost_nusd: int = 1) -> None:
    books.ledger.attempts.end(attempt_id, Status.COMPLETED, Charge(cost_nusd), NO_CAPS)


def statuses(books: Books, job_id: str) -> tuple[str, ...]:
    """Of the job, and of its attempts in their order."""
    return (books.status(job_id), *(attempt.status for attempt in books.ledger.queries.attempts(job_id)))


def test_both_attempts_count_at_their_worst_case(books: Books, twice: tuple[str, int, int]) -> None:
    assert books.ledger.reports.spend(1) == (0, 800_000_000)
    assert [job.attempt and job.attempt.id for job in books.ledger.queries.uncertain()] == [twice[1]]


def test_an_uncertain_job_is_sent_again_only_under_the_caps(books: Books) -> None:
    job_id = books.one()
    books.bring_to(job_id, S.UNCERTAIN)
    assert isinstance(books.try_to_reserve(job_id, Caps(per_job=400_000_000), resubmit=True), Refused)
    assert books.status(job_id) is S.UNCERTAIN


def test_a_late_answer_to_the_first_attempt_leaves_the_job_with_the_second(
    books: Books, twice: tuple[str, int, int]
) -> None:
    job_id, first, second = twice
    books.ledger.attempts.accept(first, "late")
    assert statuses(books, job_id) == (S.SUBMITTING, S.SUBMITTED, S.SUBMITTING)
    books.ledger.attempts.accept(second, "soon")
    assert statuses(books, job_id) == (S.SUBMITTED, S.SUBMITTED, S.SUBMITTED)
    assert [job.attempt and job.attempt.id for job in books.ledger.queries.open_attempts(1)] == [first, second]


def test_the_first_attempt_ends_without_ending_the_job(books: Books, twice: tuple[str, int, int]) -> None:
    job_id, first, second = twice
    books.ledger.attempts.accept(first, "late")
    books.ledger.attempts.accept(second, "soon")
    complete(books, first)
    books.ledger.attempts.mark_done(first, [video("/outputs/cat-attempt1.mp4")])
    assert statuses(books, job_id) == (S.SUBMITTED, S.DONE, S.SUBMITTED)
    with books.ledger.database.read() as db:
        assert db.execute("select done_at from jobs").fetchone()[0] is None
    complete(books, second, 2)
    books.ledger.attempts.mark_done(second, [video("/outputs/cat.mp4")])
    [row] = books.ledger.reports.job_rows(1)
    assert (row["status"], row["cost_nusd"], row["output_path"]) == (S.DONE, 3, "/outputs/cat.mp4")
    assert row["remote_id"] == "soon"


@pytest.mark.parametrize("never", ["release", "reject", "resolve"])
@pytest.mark.parametrize("first_is", [S.UNCERTAIN, S.SUBMITTED, S.COMPLETED, S.DONE])
def test_when_the_second_attempt_never_started_the_job_stands_where_the_first_one_stands(
    books: Books, twice: tuple[str, int, int], first_is: Status, never: str
) -> None:
    """Never pending: that would send it a third time although the first may be paid for."""
    job_id, first, second = twice
    if first_is is not S.UNCERTAIN:
        books.ledger.attempts.accept(first, "late")
    if first_is in (S.COMPLETED, S.DONE):
        complete(books, first)
    if first_is is S.DONE:
        books.ledger.attempts.mark_done(first, [video()])
    if never == "release":
        books.ledger.attempts.release(second, "busy")
    elif never == "reject":
        books.ledger.attempts.reject(second, "no")
    else:
        books.ledger.attempts.mark_uncertain(second, "cut")
        books.ledger.attempts.resolve_not_charged(books.attempt(job_id))
    assert statuses(books, job_id)[:2] == (first_is, first_is)
    with books.ledger.database.read() as db:
        is_done = db.execute("select done_at is not null from jobs").fetchone()[0]
    assert bool(is_done) is (first_is is S.DONE)
    if first_is is S.SUBMITTED:
        assert books.ledger.queries.job(job_id).attempt == books.attempt(job_id, 1)


def test_a_late_refusal_of_the_first_attempt_leaves_the_second(books: Books, twice: tuple[str, int, int]) -> None:
    job_id, first, _ = twice
    books.ledger.attempts.reject(first, "no such model")
    assert statuses(books, job_id) == (S.SUBMITTING, S.REJECTED, S.SUBMITTING)
    assert books.ledger.reports.spend(1) == (0, 400_000_000)


def test_a_failed_job_is_not_opened_again_while_another_attempt_may_be_paid_for(
    books: Books, twice: tuple[str, int, int]
) -> None:
    job_id, first, second = twice
    books.ledger.attempts.accept(second, "soon")
    books.ledger.attempts.end(second, S.FAILED, Charge(0), NO_CAPS, error="it failed")
    assert books.ledger.attempts.reopen([job_id], reset_attempts=True) == 0
    books.ledger.attempts.reject(first, "no")
    assert books.ledger.attempts.reopen([job_id], reset_attempts=True) == 1


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
    assert books.ledger.queries.job(job_id).hold == "429: slow down"
    assert books.ledger.queries.attempts_made(job_id) == 0
    assert books.ledger.reports.spend(1) == (0, 0)
    [row] = books.ledger.reports.job_rows(1)
    assert (row["attempts"], row["cost_nusd"]) == (0, 0)
    assert books.history(job_id) == ["pending -> submitting", "submitting -> pending"]
