"""Every verb from every state: what the lifecycle allows happens and is recorded, anything else changes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from orbatch.ledger import (
    ENDED_REMOTELY,
    PAID_AND_OPEN,
    TRANSITIONS,
    Charge,
    Ledger,
    LedgerConflict,
    LedgerError,
    Status,
)
from tests.ledger.books import NO_CAPS, Books, video

S = Status


# -- the table --------------------------------------------------------------------------------------------------------


def test_the_table_is_the_promised_one() -> None:
    """A change here is a change of what users are promised: docs/lifecycle.md goes with it."""
    assert {str(old): {str(new) for new in following} for old, following in TRANSITIONS.items()} == {
        "pending": {"submitting"},
        "submitting": {"submitted", "rejected", "pending", "uncertain", "done"},
        "submitted": {"completed", "failed", "cancelled", "expired", "lost"},
        "completed": {"done", "lost"},
        "done": set(),
        "rejected": {"pending"},
        "failed": {"pending"},
        "cancelled": {"pending"},
        "expired": {"pending"},
        "uncertain": {"submitted", "pending", "rejected", "lost"},
        "lost": {"pending"},
    }


@pytest.mark.parametrize("status", sorted({*PAID_AND_OPEN, S.DONE}))
def test_what_was_accepted_is_never_sent_again_before_it_has_ended_without_a_result(status: Status) -> None:
    """The money rule in one line: from there, pending is reached only through what the provider ended or no longer
    has."""
    ended = {*ENDED_REMOTELY, S.LOST}
    reached = {status}
    while more := {new for old in reached for new in TRANSITIONS[old] if new not in ended} - reached:
        reached |= more
    assert S.PENDING not in reached


# -- the verbs --------------------------------------------------------------------------------------------------------

Verb = Callable[[Books, str, int], object]


def end(status: Status) -> Verb:
    return lambda books, _, attempt_id: books.attempts.end(attempt_id, status, Charge(1), NO_CAPS, error="so")


def answer(status: Status) -> Verb:
    result = {"outputs": [video()]} if status is S.DONE else {"error": "so"}
    return lambda books, _, attempt_id: books.attempts.end_answered(attempt_id, status, Charge(1), NO_CAPS, **result)


# Each verb with the states that it may leave, and what it makes of them.
VERBS: dict[str, tuple[Verb, str, Status]] = {
    "reserve": (lambda b, job, _: b.reserve(job), "pending", S.SUBMITTING),
    "accept": (lambda b, _, n: b.attempts.accept(n, f"late-{n}"), "submitting uncertain", S.SUBMITTED),
    "reject": (lambda b, _, n: b.attempts.reject(n, "no"), "submitting uncertain", S.REJECTED),
    "release": (lambda b, _, n: b.attempts.release(n, "busy"), "submitting uncertain", S.PENDING),
    "mark uncertain": (lambda b, _, n: b.attempts.mark_uncertain(n, "cut"), "submitting", S.UNCERTAIN),
    **{f"end as {status}": (end(status), "submitted", status) for status in (S.COMPLETED, *sorted(ENDED_REMOTELY))},
    "mark done": (lambda b, _, n: b.attempts.mark_done(n, [video()]), "completed", S.DONE),
    "mark lost": (lambda b, _, n: b.attempts.mark_lost(n, "gone"), "completed", S.LOST),
    "give up": (lambda b, job, _: b.attempts.give_up(b.attempt(job)), "submitted completed", S.LOST),
    **{
        f"answer as {enters}": (answer(enters), "submitting uncertain", enters) for enters in (S.DONE, S.FAILED, S.LOST)
    },
    "found": (lambda b, job, _: b.attempts.attach_remote_id(b.attempt(job), "r"), "uncertain", S.SUBMITTED),
    "not charged": (lambda b, job, _: b.attempts.resolve_not_charged(b.attempt(job)), "uncertain", S.PENDING),
    "charged": (lambda b, job, _: b.attempts.resolve_charged(b.attempt(job), 1), "uncertain", S.LOST),
    "replace the files": (lambda b, _, n: b.attempts.replace_outputs(n, [video()]), "done", S.DONE),
}
REOPENABLE = {*ENDED_REMOTELY, S.REJECTED, S.LOST}


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_leaves_only_the_states_it_names(books: Books, name: str) -> None:
    verb, leaves, enters = VERBS[name]
    for status in Status:
        job_id = books.one(name=f"batch-{status}")
        attempt_id = books.bring_to(job_id, status)
        if attempt_id is None and status not in leaves.split():
            continue  # it has no attempt that could be moved
        before, history = books.queries.job(job_id), books.history(job_id)
        if status in leaves.split():
            verb(books, job_id, attempt_id or 0)
            assert books.status(job_id) is enters, status
            assert_history_is_lawful(books, job_id)
            assert len(books.history(job_id)) > len(history)
        else:
            with pytest.raises(LedgerConflict):
                verb(books, job_id, attempt_id or 0)
            assert (books.queries.job(job_id), books.history(job_id)) == (before, history)


def assert_history_is_lawful(books: Books, job_id: str) -> None:
    steps = [tuple(map(Status, step.split(" -> "))) for step in books.history(job_id)]
    assert (steps[0][0], steps[-1][1]) == (S.PENDING, books.status(job_id))
    assert [new for _, new in steps[:-1]] == [old for old, _ in steps[1:]]
    assert all(new in TRANSITIONS[old] or old is new for old, new in steps)


@pytest.mark.parametrize("status", Status)
def test_only_what_ended_or_was_refused_is_reopened(books: Books, status: Status) -> None:
    job_id = books.one()
    books.bring_to(job_id, status)
    reopened = books.attempts.reopen([job_id], reset_attempts=False)
    assert (reopened, books.status(job_id)) == ((1, S.PENDING) if status in REOPENABLE else (0, status))


def test_every_transition_of_the_table_is_made_by_some_verb() -> None:
    made = {(S(old), enters) for _, leaves, enters in VERBS.values() for old in leaves.split()}
    made |= {(status, S.PENDING) for status in REOPENABLE}
    assert {(old, new) for old, following in TRANSITIONS.items() for new in following} <= made


# -- several attempts of a job ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [S.SUBMITTING, S.SUBMITTED, S.COMPLETED, S.UNCERTAIN])
def test_a_job_with_an_open_attempt_is_not_reserved_again(books: Books, status: Status) -> None:
    job_id = books.one()
    books.bring_to(job_id, status)
    with pytest.raises(LedgerConflict, match="not pending any more"):
        books.reserve(job_id)
    assert len(books.queries.attempts(job_id)) == 1


def test_a_late_answer_to_an_attempt_that_the_user_resolved_is_refused(books: Books) -> None:
    job_id = books.one()
    attempt_id = books.bring_to(job_id, S.UNCERTAIN) or 0
    books.attempts.resolve_not_charged(books.attempt(job_id))
    with pytest.raises(LedgerConflict):
        books.attempts.accept(attempt_id, "late")
    assert (books.status(job_id), books.attempt(job_id).status) == (S.PENDING, "released")


def test_a_released_attempt_is_history_and_does_not_count(books: Books) -> None:
    job_id = books.one()
    first = books.bring_to(job_id, S.FAILED)
    books.attempts.reopen([job_id], reset_attempts=True)
    books.attempts.release(books.reserve(job_id), "429: slow down")
    job = books.queries.job(job_id)
    assert (job.status, job.wait_reason, books.attempt(job_id).status) == (S.PENDING, "429: slow down", "released")
    assert job.attempt == books.attempt(job_id, 1)  # a job stands for its newest attempt that was started
    assert books.queries.attempts_made(job_id) == 0
    assert books.reports.spend(1) == (0, 0)
    [row] = books.reports.job_rows(1)
    assert (row["attempts"], row["cost_nusd"], row["remote_id"]) == (1, 0, f"remote-{first}")
    assert books.history(job_id)[-2:] == ["pending -> submitting", "submitting -> pending"]


def test_a_reopened_job_forgets_its_attempts_only_when_the_user_asked_for_it(books: Books) -> None:
    job_id = books.one()
    for reset, made in ((False, 1), (True, 2)):
        books.bring_to(job_id, S.FAILED)
        assert books.queries.attempts_made(job_id) == made
        books.attempts.reopen([job_id], reset_attempts=reset)
    assert books.queries.attempts_made(job_id) == 0


def test_what_a_dead_run_left_becomes_uncertain_with_its_reservation(books: Books) -> None:
    job_id, other = books.one(), books.one(name="other")
    books.reserve(job_id)
    books.reserve(other)
    assert books.attempts.recover_interrupted(1) == [job_id]
    assert (books.status(job_id), books.status(other)) == (S.UNCERTAIN, S.SUBMITTING)
    assert (books.attempt(job_id).reserved_nusd, books.attempt(job_id).settled) == (400_000_000, False)
    assert books.attempts.recover_interrupted(1) == []


# -- what the file itself keeps ---------------------------------------------------------------------------------------


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
        pytest.param("delete from jobs", "may have been paid for", id="a job with attempts is deleted"),
        pytest.param(
            "insert into attempts (job_id, batch_id, model, number, status, origin, account, day, price_lines, "
            "created_at, key) select id, 1, '', 2, 'submitting', '', '', '', '', '', 'k' from jobs",
            "UNIQUE",
            id="a second open attempt of a job",
        ),
    ],
)
def test_the_file_itself_refuses(books: Books, statement: str, why: str) -> None:
    books.reserve(books.one())
    with pytest.raises(LedgerConflict, match=why), books.database.write() as db:
        db.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "update attempts set cost_nusd = 1",
        "update attempts set cost_nusd = null, settled = 0",
        "update attempts set remote_id = null",
        "update outputs set sha256 = 'x'",
    ],
)
def test_what_was_charged_and_measured_cannot_be_changed_by_any_program(books: Books, statement: str) -> None:
    books.bring_to(books.one(), S.DONE, cost_nusd=5)
    with pytest.raises(LedgerConflict, match="not change"), books.database.write() as db:
        db.execute(statement)


def test_a_remote_id_that_another_job_has_is_refused(books: Books) -> None:
    first, uncertain, submitting = (books.one(name=name) for name in ("one", "two", "three"))
    books.attempts.accept(books.reserve(first), "twice")
    books.bring_to(uncertain, S.UNCERTAIN)
    with pytest.raises(LedgerConflict, match=f"already belongs to job {re.escape(first)}"):
        books.attempts.attach_remote_id(books.attempt(uncertain), "twice")
    attempt_id = books.reserve(submitting)
    with pytest.raises(LedgerConflict):
        books.attempts.accept(attempt_id, "twice")
    assert (books.status(uncertain), books.status(submitting)) == (S.UNCERTAIN, S.SUBMITTING)


def test_a_note_is_shown_beside_the_job_and_stays_in_its_history(books: Books) -> None:
    job_id = books.one()
    books.attempts.add_event(job_id, books.bring_to(job_id, S.COMPLETED), "the disk is full")
    assert (books.status(job_id), books.queries.job(job_id).error) == (S.COMPLETED, "the disk is full")
    assert books.queries.events(job_id)[-1].detail == "the disk is full"
    with pytest.raises(LedgerError, match="no job nowhere"):
        books.attempts.add_event("nowhere", None, "text")


def test_what_a_step_has_written_is_on_disk_before_the_verb_returns(path: Path) -> None:
    with Ledger.open(path) as ledger, ledger.database.read() as db:
        pragmas = [
            db.execute(f"pragma {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert pragmas == ["wal", 2, 1]
