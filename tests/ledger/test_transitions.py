"""Every verb from every state: what the lifecycle allows happens and is recorded, anything else changes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from orbatch.ledger import Charge, Ledger, LedgerConflict, LedgerError
from orbatch.ledger.status import TRANSITIONS, Status
from tests.ledger.books import NO_CAPS, Books, video

S = Status
ENDED = (S.FAILED, S.CANCELLED, S.EXPIRED)
Verb = Callable[[Books, str, int], object]


def _complete(books: Books, job_id: str, attempt_id: int) -> object:
    return books.ledger.attempts.end(attempt_id, Status.COMPLETED, Charge(1), NO_CAPS)


def _end(status: Status) -> Verb:
    return lambda books, job_id, attempt_id: books.ledger.attempts.end(
        attempt_id, status, Charge(1), NO_CAPS, error="so"
    )


# Each verb with what it makes of every state that it may leave.
VERBS: dict[str, tuple[Verb, dict[Status, Status]]] = {
    "reserve": (lambda books, job_id, _: books.reserve(job_id), {S.PENDING: S.SUBMITTING}),
    "accept": (
        lambda books, _, attempt_id: books.ledger.attempts.accept(attempt_id, f"late-{attempt_id}"),
        {S.SUBMITTING: S.SUBMITTED, S.UNCERTAIN: S.SUBMITTED},
    ),
    "reject": (
        lambda books, _, attempt_id: books.ledger.attempts.reject(attempt_id, "no"),
        {S.SUBMITTING: S.REJECTED, S.UNCERTAIN: S.REJECTED},
    ),
    "release": (
        lambda books, _, attempt_id: books.ledger.attempts.release(attempt_id, "busy"),
        {S.SUBMITTING: S.PENDING, S.UNCERTAIN: S.PENDING},
    ),
    "doubt": (
        lambda books, _, attempt_id: books.ledger.attempts.mark_uncertain(attempt_id, "cut"),
        {S.SUBMITTING: S.UNCERTAIN},
    ),
    "complete": (_complete, {S.SUBMITTED: S.COMPLETED}),
    **{f"end as {status}": (_end(status), {S.SUBMITTED: status}) for status in ENDED},
    "finish": (
        lambda books, _, attempt_id: books.ledger.attempts.mark_done(attempt_id, [video()]),
        {S.COMPLETED: S.DONE},
    ),
    "lose": (lambda books, _, attempt_id: books.ledger.attempts.mark_lost(attempt_id, "gone"), {S.COMPLETED: S.LOST}),
    "answer": (
        lambda books, _, attempt_id: books.ledger.attempts.end_answered(
            attempt_id, Status.DONE, Charge(1), NO_CAPS, outputs=[video()]
        ),
        {S.SUBMITTING: S.DONE, S.UNCERTAIN: S.DONE},
    ),
    "answer with nothing": (
        lambda books, _, attempt_id: books.ledger.attempts.end_answered(
            attempt_id, Status.FAILED, Charge(1), NO_CAPS, error="empty"
        ),
        {S.SUBMITTING: S.FAILED, S.UNCERTAIN: S.FAILED},
    ),
    "answer that is lost": (
        lambda books, _, attempt_id: books.ledger.attempts.end_answered(
            attempt_id, Status.LOST, Charge(1), NO_CAPS, error="disk"
        ),
        {S.SUBMITTING: S.LOST, S.UNCERTAIN: S.LOST},
    ),
    "resolve as found": (
        lambda books, job_id, _: books.ledger.attempts.attach_remote_id(books.attempt(job_id), "remote"),
        {S.UNCERTAIN: S.SUBMITTED},
    ),
    "resolve as not charged": (
        lambda books, job_id, _: books.ledger.attempts.resolve_not_charged(books.attempt(job_id)),
        {S.UNCERTAIN: S.PENDING},
    ),
    "resolve as charged": (
        lambda books, job_id, _: books.ledger.attempts.resolve_charged(books.attempt(job_id), 1),
        {S.UNCERTAIN: S.LOST},
    ),
    "replace the files": (
        lambda books, _, attempt_id: books.ledger.attempts.replace_outputs(attempt_id, [video()]),
        {S.DONE: S.DONE},
    ),
}


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_leaves_only_the_states_it_names(books: Books, name: str) -> None:
    verb, steps = VERBS[name]
    for status in Status:
        job_id = books.one(name=f"batch-{status}")
        attempt_id = books.bring_to(job_id, status)
        if attempt_id is None and status not in steps:
            continue  # it has no attempt that could be moved
        before, history = books.ledger.queries.job(job_id), books.history(job_id)
        if status in steps:
            verb(books, job_id, attempt_id or 0)
            assert books.status(job_id) is steps[status], status
            assert_history_is_lawful(books, job_id)
            assert len(books.history(job_id)) > len(history)
        else:
            with pytest.raises(LedgerConflict):
                verb(books, job_id, attempt_id or 0)
            assert books.ledger.queries.job(job_id) == before
            assert books.history(job_id) == history


def assert_history_is_lawful(books: Books, job_id: str) -> None:
    steps = [tuple(map(Status, step.split(" -> "))) for step in books.history(job_id)]
    assert steps[0][0] is S.PENDING
    assert steps[-1][1] is books.status(job_id)
    for (old, new), (then, _) in zip(steps, [*steps[1:], (steps[-1][1], None)], strict=True):
        assert new is then
        assert new in TRANSITIONS[old] or old is new


def test_only_what_ended_or_was_refused_is_reopened(books: Books) -> None:
    for status in Status:
        job_id = books.one(name=f"batch-{status}")
        books.bring_to(job_id, status)
        reopened = books.ledger.attempts.reopen([job_id], reset_attempts=False)
        if status in (*ENDED, S.REJECTED):
            assert (reopened, books.status(job_id)) == (1, S.PENDING)
        else:
            assert (reopened, books.status(job_id)) == (0, status)


def test_every_transition_of_the_table_is_made_by_some_verb() -> None:
    made = {(old, new) for _, steps in VERBS.values() for old, new in steps.items()}
    made |= {(status, S.PENDING) for status in (*ENDED, S.REJECTED)}  # by reopen
    allowed = {(old, new) for old, following in TRANSITIONS.items() for new in following}
    assert allowed <= made


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        pytest.param("update events set detail = 'x'", "append-only", id="an event is changed"),
        pytest.param("delete from events", "append-only", id="an event is deleted"),
        pytest.param("delete from attempts", "may have been paid for", id="an attempt is deleted"),
        pytest.param("update attempts set day = '2020-01-01'", "does not change", id="an attempt changes its day"),
        pytest.param("update attempts set cost_nusd = -1, settled = 1", "CHECK", id="a charge below zero"),
        pytest.param("update attempts set settled = 1", "CHECK", id="settled without a charge"),
        pytest.param("update attempts set cost_nusd = 1", "CHECK", id="a charge that is not settled"),
        pytest.param("update attempts set cost_nusd = 0.4, settled = 1", "REAL", id="a charge that is a float"),
        pytest.param("update jobs set status = 'finished'", "CHECK", id="a status that there is not"),
        pytest.param("delete from jobs", "FOREIGN KEY", id="a job with attempts is deleted"),
    ],
)
def test_the_file_itself_refuses(books: Books, statement: str, why: str) -> None:
    books.reserve(books.one())
    with pytest.raises(LedgerConflict, match=why), books.ledger.database.write() as db:
        db.execute(statement)


def test_an_id_that_another_job_has_is_refused_and_the_attempt_stays_uncertain(books: Books) -> None:
    first, second = books.one(name="one"), books.one(name="two")
    books.bring_to(first, S.SUBMITTED)
    remote_id = books.attempt(first).remote_id
    assert remote_id is not None
    books.bring_to(second, S.UNCERTAIN)
    with pytest.raises(LedgerConflict, match=f"already belongs to job {re.escape(first)}"):
        books.ledger.attempts.attach_remote_id(books.attempt(second), remote_id)
    assert books.status(second) is S.UNCERTAIN


def test_an_id_that_is_given_twice_by_the_provider_is_refused(books: Books) -> None:
    first, second = books.one(name="one"), books.one(name="two")
    books.ledger.attempts.accept(books.reserve(first), "twice")
    attempt_id = books.reserve(second)
    with pytest.raises(LedgerConflict):
        books.ledger.attempts.accept(attempt_id, "twice")
    assert books.status(second) is S.SUBMITTING


def test_a_job_that_there_is_not_is_named(books: Books) -> None:
    with pytest.raises(LedgerError, match="no job nowhere"):
        books.ledger.attempts.add_event("nowhere", None, "text")


def test_a_note_is_shown_beside_the_job_and_stays_in_its_history(books: Books) -> None:
    job_id = books.one()
    attempt_id = books.bring_to(job_id, S.COMPLETED)
    books.ledger.attempts.add_event(job_id, attempt_id, "the disk is full")
    assert (books.status(job_id), books.ledger.queries.job(job_id).error) == (S.COMPLETED, "the disk is full")
    assert books.ledger.queries.events(job_id)[-1].detail == "the disk is full"


def test_what_a_dead_run_left_becomes_uncertain_with_its_reservation(books: Books) -> None:
    job_id, other = books.one(), books.one(name="other")
    books.reserve(job_id)
    books.reserve(other)
    assert books.ledger.attempts.recover_interrupted(1) == [job_id]
    assert (books.status(job_id), books.status(other)) == (S.UNCERTAIN, S.SUBMITTING)
    assert books.attempt(job_id).reserved_nusd == 400_000_000
    assert not books.attempt(job_id).settled
    assert books.ledger.attempts.recover_interrupted(1) == []


def test_a_reopened_job_forgets_its_attempts_only_when_the_user_asked_for_it(books: Books) -> None:
    job_id = books.one()
    for forgive, pluralize in ((False, 1), (True, 0)):
        books.bring_to(job_id, S.FAILED)
        assert books.ledger.queries.attempts_made(job_id) == pluralize + (0 if not forgive else 2)
        books.ledger.attempts.reopen([job_id], reset_attempts=forgive)
    assert books.ledger.queries.attempts_made(job_id) == 0


def test_what_a_step_has_written_is_on_disk_before_the_verb_returns(path: Path) -> None:
    with Ledger.open(path) as ledger, ledger.database.read() as db:
        assert db.execute("pragma journal_mode").fetchone()[0] == "wal"
        assert db.execute("pragma synchronous").fetchone()[0] == 2
        assert db.execute("pragma foreign_keys").fetchone()[0] == 1
