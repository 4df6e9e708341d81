"""What a run and its user ask of the ledger; and that no question reads the whole of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from orbatch.ledger import LedgerError, utc_now
from orbatch.ledger.queries import NoSuchJob
from orbatch.ledger.status import Status
from tests.ledger.books import ACCOUNT, Books, planned

S = Status


def test_the_next_jobs_come_in_the_order_of_the_file_as_far_as_they_fit(books: Books) -> None:
    prices = {"a": "3", "b": "1", "c": None, "d": "2"}
    books.plan_and_claim([planned(name, usd=usd, position=n) for n, (name, usd) in enumerate(prices.items())])

    def next_prompts(
        room_usd: int | None, unpriced_usd: int | None = None, only: str | None = None, limit: int = 9
    ) -> str:
        found = books.ledger.queries.next_pending(
            1,
            "a/one",
            room_nusd=None if room_usd is None else room_usd * 10**9,
            unpriced_nusd=None if unpriced_usd is None else unpriced_usd * 10**9,
            limit=limit,
            only=only,
        )
        return "".join(job.prompt for job in found)

    assert next_prompts(None) == "abcd"
    assert next_prompts(2) == "bd"
    assert next_prompts(2, 2) == "bcd"
    assert next_prompts(0) == ""
    assert next_prompts(None, limit=2) == "ab"
    assert next_prompts(None, only="[bc]") == "bc"
    assert books.ledger.queries.pending_models(1) == ["a/one"]
    assert books.ledger.queries.pending_models(1, "z*") == []


def test_pending_models_are_those_with_jobs_to_send(books: Books) -> None:
    jobs = [planned(f"{model} {n}", model=model) for model in ("z/last", "a/first", "m/middle") for n in range(2)]
    books.plan_and_claim(jobs)
    for job in books.ledger.queries.next_pending(1, "m/middle", room_nusd=None, unpriced_nusd=None, limit=9):
        books.bring_to(job.id, S.DONE)
    assert books.ledger.queries.pending_models(1) == ["a/first", "z/last"]


def test_a_job_is_found_by_the_beginning_of_its_id_or_of_its_remote_id(books: Books) -> None:
    job_id, other = books.one(name="one"), books.one(name="two")
    books.ledger.attempts.accept(books.reserve(job_id), "vid_abcdef")
    find = books.ledger.queries.find_job
    assert find(job_id[:10]).id == find(job_id).id == find("vid_abc").id == job_id
    for prefix in ("nothing", "%", "*"):
        with pytest.raises(NoSuchJob, match="No job"):
            find(prefix)
    with pytest.raises(NoSuchJob, match=f"several jobs: .*{other}"):
        find("")
    with pytest.raises(LedgerError, match="no job nowhere"):
        books.ledger.queries.job("nowhere")


def test_jobs_are_counted_by_status_without_those_that_left_unsent(books: Books) -> None:
    books.plan_and_claim([planned(name, position=n) for n, name in enumerate("abcd")])
    for job_id in books.job_ids()[:2]:
        books.bring_to(job_id, S.DONE)
    books.ledger.leases.release(1, books.holder)
    books.plan([planned("b"), planned("c")])
    counts = books.ledger.queries.counts(1)
    assert (counts[S.DONE], counts[S.PENDING], counts[S.FAILED], counts.retired, counts.total) == (2, 1, 0, 2, 3)
    assert books.ledger.queries.counts(1, "c").total == 1


def test_ended_jobs_are_found_for_a_retry_in_the_order_of_the_file(books: Books) -> None:
    books.plan_and_claim([planned(name, position=n) for n, name in enumerate("abcd")])
    ids = books.job_ids()
    for job_id, status in zip(ids, (S.EXPIRED, S.FAILED, S.DONE, S.FAILED), strict=True):
        books.bring_to(job_id, status)
    assert books.ledger.queries.reopenable(1, [S.FAILED]) == [ids[1], ids[3]]
    assert books.ledger.queries.reopenable(1, [S.FAILED, S.EXPIRED], "a") == [ids[0]]


def test_durations_are_those_of_results_not_of_failures(books: Books) -> None:
    for number, status in enumerate((S.DONE, S.FAILED, S.COMPLETED, S.SUBMITTED)):
        books.bring_to(books.one(name=f"batch-{number}"), status)
    assert [(model, seconds) for model, seconds, _ in books.ledger.queries.durations()] == [("a/one", 5)] * 2
    assert len(books.ledger.queries.durations(limit=1)) == 1


def test_recent_submits_are_counted_over_all_batches_and_by_model(books: Books) -> None:
    books.bring_to(books.one(name="one"), S.DONE)
    books.reserve(books.one(name="two"))
    queries, minute_ago = books.ledger.queries, utc_now() - timedelta(seconds=60)
    assert queries.recent_submits(minute_ago, None) == queries.recent_submits(minute_ago, "a/one") == 2
    assert queries.recent_submits(minute_ago, "a/two") == 0
    assert queries.recent_submits(utc_now() + timedelta(seconds=1), None) == 0


def test_attempts_in_flight_elsewhere_count_only_while_their_batch_is_run(books: Books) -> None:
    books.one(name="mine")
    for number, status in enumerate((S.SUBMITTING, S.SUBMITTED, S.COMPLETED, S.UNCERTAIN, S.DONE)):
        books.bring_to(books.one(name=f"batch-{number}"), status)
    elsewhere = books.ledger.queries.in_flight_elsewhere
    assert (elsewhere(1, None, utc_now()), elsewhere(1, "a/one", utc_now()), elsewhere(1, "a/two", utc_now())) == (
        2,
        2,
        0,
    )
    assert elsewhere(2, None, utc_now()) == 1
    assert elsewhere(1, None, utc_now() + timedelta(hours=1)) == 0


def test_files_are_listed_with_their_jobs(books: Books) -> None:
    job_id = books.one()
    attempt_id = books.bring_to(job_id, S.DONE)
    queries = books.ledger.queries
    assert [(owner, output.path) for owner, output in queries.placed_files(1)] == [
        (job_id, f"/outputs/{attempt_id}.mp4")
    ]
    assert queries.path_owner(f"/outputs/{attempt_id}.mp4") == job_id
    assert queries.path_owner("/outputs/unknown.mp4") is None
    assert list(queries.placed_files(2)) == []
    assert queries.variables(job_id) == {}


# -- evidence ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rise", "billed", "unexplained"),
    [
        pytest.param(0, 0, 0, id="usage did not rise"),
        pytest.param(400, 0, 400, id="it rose"),
        pytest.param(400, 400, 0, id="it rose by what another job cost"),
        pytest.param(300, 400, 0, id="it lags behind what is billed"),
    ],
)
def test_the_keys_usage_hints_at_what_became_of_an_uncertain_attempt(
    books: Books, rise: int, billed: int, unexplained: int
) -> None:
    evidence, now = books.ledger.usage, utc_now()
    doubtful, other = books.one(name="one"), books.one(name="two")
    evidence.record(ACCOUNT, 1000, now - timedelta(minutes=5))
    evidence.record("another key", 0, now - timedelta(minutes=1))
    books.bring_to(doubtful, S.UNCERTAIN)
    assert evidence.around(books.attempt(doubtful)) is None  # nothing was read since
    books.bring_to(other, S.DONE, cost_nusd=billed)
    evidence.record(ACCOUNT, 1000 + rise, now + timedelta(minutes=5))
    found = evidence.around(books.attempt(doubtful))
    assert found is not None
    assert (found.rise_nusd, found.explained_nusd, found.unexplained_nusd) == (rise, billed, unexplained)
    assert datetime.fromisoformat(found.read_at) > now > datetime.fromisoformat(found.before_at)


# -- scale ------------------------------------------------------------------------------------------------------------

QUESTIONS: dict[str, Callable[[Books, str], object]] = {
    "open attempts": lambda books, _: books.ledger.queries.open_attempts(1),
    "uncertain": lambda books, _: books.ledger.queries.uncertain(),
    "uncertain of a batch": lambda books, _: books.ledger.queries.uncertain(1),
    "unsettled": lambda books, _: books.ledger.queries.unsettled(),
    "in flight elsewhere": lambda books, _: books.ledger.queries.in_flight_elsewhere(1, "a/one", utc_now()),
    "recent submits": lambda books, _: books.ledger.queries.recent_submits(utc_now(), "a/one"),
    "interrupted": lambda books, _: books.ledger.attempts.recover_interrupted(1),
    "committed": lambda books, _: books.ledger.attempts.committed(1, "a/one"),
    "next pending": lambda books, _: books.ledger.queries.next_pending(1, "m", room_nusd=1, unpriced_nusd=1, limit=1),
    "pending models": lambda books, _: books.ledger.queries.pending_models(1),
    "reasons to wait": lambda books, _: books.ledger.queries.wait_reasons(1),
    "jobs of a status": lambda books, _: list(books.ledger.reports.job_rows(None, "failed")),
    "reopenable": lambda books, _: books.ledger.queries.reopenable(1, [S.FAILED]),
    "find a job": lambda books, job_id: books.ledger.queries.find_job(job_id[:9]),
    "attempts of a job": lambda books, job_id: books.ledger.queries.attempts(job_id),
    "spent": lambda books, _: books.ledger.reports.spend(1),
    "evidence": lambda books, job_id: books.ledger.usage.around(books.attempt(job_id)),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_finds_its_rows_by_an_index(books: Books, question: str) -> None:
    job_id = books.one()
    books.ledger.usage.record(ACCOUNT, 0, datetime(2020, 1, 1, tzinfo=UTC))
    books.bring_to(job_id, S.DONE)
    books.ledger.usage.record(ACCOUNT, 0, utc_now() + timedelta(minutes=1))
    statements: list[str] = []
    with books.ledger.database.read() as db:
        db.set_trace_callback(statements.append)
        QUESTIONS[question](books, job_id)
        db.set_trace_callback(None)
        for statement in statements:
            if statement.lstrip().startswith("select"):
                plan = [row["detail"] for row in db.execute(f"explain query plan {statement}")]
                large = [line for line in plan if line.startswith(("SCAN jobs", "SCAN attempts", "SCAN latest"))]
                assert [line for line in large if "COVERING INDEX" not in line] == [], statement
