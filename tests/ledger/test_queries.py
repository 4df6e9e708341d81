"""What a run and its user ask of the ledger; and that no question reads the whole of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from orbatch.ledger import LedgerError, NoSuchJob, Selection, Status, utc_now
from tests.ledger.books import ACCOUNT, USD, Books, in_order, planned

S = Status


@pytest.mark.parametrize(
    ("room", "unpriced", "only", "limit", "found"),
    [
        pytest.param(None, None, None, 9, "abcd", id="no cap"),
        pytest.param(2, None, None, 9, "bd", id="what fits"),
        pytest.param(2, 2, None, 9, "bcd", id="an amount for the unpriced"),
        pytest.param(0, None, None, 9, "", id="no room"),
        pytest.param(None, None, None, 2, "ab", id="no more than wanted"),
        pytest.param(None, None, "[bc]", 9, "bc", id="only some"),
    ],
)
def test_the_next_jobs_come_in_the_order_of_the_file_as_far_as_they_fit(
    books: Books, room: int | None, unpriced: int | None, only: str | None, limit: int, found: str
) -> None:
    prices = {"a": "3", "b": "1", "c": None, "d": "2"}
    books.plan_and_claim([planned(name, usd=usd, position=n) for n, (name, usd) in enumerate(prices.items())])
    jobs = books.queries.next_pending(
        1,
        "a/one",
        room_nusd=None if room is None else room * USD,
        unpriced_nusd=None if unpriced is None else unpriced * USD,
        limit=limit,
        only=only,
    )
    assert "".join(job.prompt for job in jobs) == found


def test_pending_models_are_those_with_jobs_to_submit(books: Books) -> None:
    models = ("z/last", "a/first", "m/middle")
    job_ids = books.plan_and_claim(planned(model, model=model, position=n) for n, model in enumerate(models))
    books.bring_to(job_ids[2], S.DONE)
    assert books.queries.pending_models(1) == ["a/first", "z/last"]
    assert books.queries.pending_models(1, "z*") == ["z/last"]


def test_a_job_is_found_by_the_beginning_of_its_id_or_of_its_remote_id(books: Books) -> None:
    job_id, other = books.several(2)
    books.attempts.accept(books.reserve(job_id), "vid_abcdef")
    find = books.queries.find_job
    assert find(job_id[:10]).id == find(job_id).id == find("vid_abc").id == job_id
    for prefix in ("nothing", "%", "*"):
        with pytest.raises(NoSuchJob, match="No job"):
            find(prefix)
    with pytest.raises(NoSuchJob, match=f"several jobs: .*{other}"):
        find("")
    with pytest.raises(LedgerError, match="no job nowhere"):
        books.queries.job("nowhere")


def test_jobs_are_counted_by_status_and_those_that_left_the_file_apart(books: Books) -> None:
    for job_id in books.plan_and_claim(in_order("abcd"))[:2]:
        books.bring_to(job_id, S.DONE)
    books.leases.release(1, books.holder)
    books.plan(in_order("bc"))
    counts = books.queries.counts(1)
    assert (counts[S.DONE], counts[S.PENDING], counts[S.FAILED], counts.retired, counts.total) == (
        1,
        1,
        0,
        {S.DONE: 1},
        2,
    )
    assert books.queries.counts(1, "c").total == 1


def test_ended_jobs_are_found_for_a_retry_in_the_order_of_the_file(books: Books) -> None:
    ids = books.plan_and_claim(in_order("abcd"))
    for job_id, status in zip(ids, (S.EXPIRED, S.FAILED, S.DONE, S.FAILED), strict=True):
        books.bring_to(job_id, status)
    assert books.queries.reopenable(1, Selection(statuses=(S.FAILED,))) == [ids[1], ids[3]]
    assert books.queries.reopenable(1, Selection("a", statuses=(S.FAILED, S.EXPIRED))) == [ids[0]]


def test_durations_are_those_of_results_not_of_failures(books: Books) -> None:
    for job_id, status in zip(books.several(4), (S.DONE, S.FAILED, S.COMPLETED, S.SUBMITTED), strict=True):
        books.bring_to(job_id, status)
    assert [(model, seconds) for model, seconds, _ in books.queries.durations()] == [("a/one", 5)] * 2
    assert len(books.queries.durations(limit=1)) == 1


def test_recent_submits_are_counted_over_all_batches_and_by_model(books: Books) -> None:
    for job_id in books.several(2):
        books.reserve(job_id)
    minute_ago, soon = utc_now() - timedelta(seconds=60), utc_now() + timedelta(seconds=1)
    asked = [(minute_ago, None), (minute_ago, "a/one"), (minute_ago, "a/two"), (soon, None)]
    assert [books.queries.recent_submits(*question) for question in asked] == [2, 2, 0, 0]


def test_attempts_in_flight_elsewhere_count_only_while_their_batch_is_run(books: Books) -> None:
    states = (S.PENDING, S.SUBMITTING, S.SUBMITTED, S.COMPLETED, S.UNCERTAIN, S.DONE)
    for job_id, status in zip(books.several(6), states, strict=True):
        books.bring_to(job_id, status)
    now = utc_now()
    asked = [(1, None, now), (1, "a/one", now), (1, "a/two", now), (2, None, now), (1, None, now + timedelta(hours=1))]
    assert [books.queries.in_flight_elsewhere(*question) for question in asked] == [2, 2, 0, 1, 0]


def test_files_are_listed_with_their_jobs(books: Books) -> None:
    job_id = books.one()
    path = f"/outputs/{books.bring_to(job_id, S.DONE)}.mp4"
    assert [(owner, output.path) for owner, output in books.queries.placed_files(1)] == [(job_id, path)]
    assert (books.queries.path_owner(path), books.queries.path_owner("/outputs/unknown.mp4")) == (job_id, None)
    assert books.queries.placed_files(2) == []


@pytest.mark.parametrize(
    ("rise", "charged", "unexplained"),
    [
        pytest.param(0, 0, 0, id="usage did not rise"),
        pytest.param(400, 0, 400, id="it rose"),
        pytest.param(400, 400, 0, id="it rose by what another job cost"),
        pytest.param(300, 400, 0, id="it lags behind what is charged"),
    ],
)
def test_the_keys_usage_hints_at_what_became_of_an_uncertain_attempt(
    books: Books, rise: int, charged: int, unexplained: int
) -> None:
    now, minutes = utc_now(), timedelta(minutes=5)
    doubtful, other = books.several(2)
    books.usage.record(ACCOUNT, 1000, now - minutes)
    books.usage.record("another key", 0, now)
    books.bring_to(doubtful, S.UNCERTAIN)
    assert books.usage.around(books.attempt(doubtful)) is None  # nothing was read since
    books.bring_to(other, S.DONE, cost_nusd=charged)
    books.usage.record(ACCOUNT, 1000 + rise, now + minutes)
    found = books.usage.around(books.attempt(doubtful))
    assert found is not None
    assert (found.rise_nusd, found.explained_nusd, found.unexplained_nusd) == (rise, charged, unexplained)
    assert datetime.fromisoformat(found.read_at) > now > datetime.fromisoformat(found.before_at)


QUESTIONS: dict[str, Callable[[Books, str], object]] = {
    "open attempts": lambda books, _: books.queries.open_attempts(1),
    "uncertain": lambda books, _: books.queries.uncertain(),
    "uncertain of a batch": lambda books, _: books.queries.uncertain(1),
    "unsettled": lambda books, _: books.queries.unsettled(),
    "in flight elsewhere": lambda books, _: books.queries.in_flight_elsewhere(1, "a/one", utc_now()),
    "recent submits": lambda books, _: books.queries.recent_submits(utc_now(), "a/one"),
    "interrupted": lambda books, _: books.attempts.recover_interrupted(1),
    "committed": lambda books, _: books.attempts.committed(1, "a/one"),
    "next pending": lambda books, _: books.queries.next_pending(1, "m", room_nusd=1, unpriced_nusd=1, limit=1),
    "pending models": lambda books, _: books.queries.pending_models(1),
    "reasons to wait": lambda books, _: books.queries.wait_reasons(1),
    "jobs of a status": lambda books, _: list(books.reports.job_rows(None, "failed")),
    "reopenable": lambda books, _: books.queries.reopenable(1, Selection(statuses=(S.FAILED,))),
    "find a job": lambda books, job_id: books.queries.find_job(job_id[:9]),
    "attempts of a job": lambda books, job_id: books.queries.attempts(job_id),
    "spent": lambda books, _: books.reports.spend(1),
    "usage": lambda books, job_id: books.usage.around(books.attempt(job_id)),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_finds_its_rows_by_an_index(books: Books, question: str) -> None:
    job_id = books.one()
    books.usage.record(ACCOUNT, 0, datetime(2020, 1, 1, tzinfo=UTC))
    books.bring_to(job_id, S.DONE)
    books.usage.record(ACCOUNT, 0, utc_now() + timedelta(minutes=1))
    statements: list[str] = []
    with books.database.read() as db:
        db.set_trace_callback(statements.append)
        QUESTIONS[question](books, job_id)
        db.set_trace_callback(None)
        for statement in statements:
            if statement.lstrip().startswith("select"):
                plan = [row["detail"] for row in db.execute(f"explain query plan {statement}")]
                scans = ("SCAN jobs", "SCAN attempts", "SCAN latest", "SCAN earlier", "SCAN later")
                large = [line for line in plan if line.startswith(scans) and "COVERING INDEX" not in line]
                assert large == [], statement
