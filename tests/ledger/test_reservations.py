"""Reservations and charges: what is reserved, what is settled, and that no cap is ever passed by."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orbatch.ledger import Charge, Filter, LeaseLost, Ledger, LedgerConflict, LedgerError, Reservation, Settlement
from orbatch.ledger.budget import Allowed, Caps, Refused, decide
from orbatch.ledger.status import Status
from tests.ledger.books import NO_CAPS, USD, Books, planned, video

FORTY_CENTS = 400_000_000


def spend(books: Books, batch_id: int = 1) -> tuple[int, int]:
    """(charged, reserved)"""
    return books.ledger.reports.spend(batch_id)


def complete(
    books: Books, attempt_id: int, cost_nusd: int | None, caps: Caps = NO_CAPS, *, byok: bool = False
) -> Settlement:
    books.ledger.attempts.accept(attempt_id, f"remote-{attempt_id}")
    return books.ledger.attempts.end(attempt_id, Status.COMPLETED, Charge(cost_nusd, byok, f"gen-{attempt_id}"), caps)


# -- reservation and settlement ---------------------------------------------------------------------------------------


def test_the_worst_case_is_reserved_before_a_submit_and_gives_way_to_the_charge(books: Books) -> None:
    attempt_id = books.reserve(books.one("0.40"))
    assert spend(books) == (0, FORTY_CENTS)
    complete(books, attempt_id, 350_000_000)
    assert spend(books) == (350_000_000, 0)


@pytest.mark.parametrize(
    ("status", "left"),
    [
        pytest.param(Status.REJECTED, (0, 0), id="refused costs nothing"),
        pytest.param(Status.UNCERTAIN, (0, FORTY_CENTS), id="uncertain stays reserved"),
        pytest.param(Status.FAILED, (7, 0), id="failed counts with its charge"),
        pytest.param(Status.LOST, (7, 0), id="lost counts with its charge"),
    ],
)
def test_what_an_attempt_counts_for(books: Books, status: Status, left: tuple[int, int]) -> None:
    books.bring_to(books.one(), status, cost_nusd=7)
    assert spend(books) == left


@pytest.mark.parametrize("status", [Status.DONE, Status.FAILED])
def test_a_charge_that_is_not_known_leaves_the_reservation_until_it_is(books: Books, status: Status) -> None:
    attempt_id = books.bring_to(books.one(), status, cost_nusd=None)
    assert attempt_id is not None
    assert spend(books) == (0, FORTY_CENTS)
    [unsettled] = books.ledger.queries.unsettled()
    assert (unsettled.attempt and unsettled.attempt.generation_id) == f"gen-{attempt_id}"
    books.ledger.attempts.settle(attempt_id, Charge(5), NO_CAPS)
    assert spend(books) == (5, 0)
    assert books.ledger.queries.unsettled() == []


def test_a_settled_charge_is_never_replaced(books: Books) -> None:
    job_id = books.one()
    attempt_id = books.bring_to(job_id, Status.DONE, cost_nusd=5)
    assert attempt_id is not None
    assert books.ledger.attempts.settle(attempt_id, Charge(9, True), NO_CAPS) == Settlement(5)
    with pytest.raises(LedgerConflict, match="settled already"):
        books.ledger.attempts.settle_manually(books.attempt(job_id), 9)
    assert spend(books) == (5, 0)
    assert not books.attempt(job_id).is_byok


@pytest.mark.parametrize("status", [Status.SUBMITTING, Status.SUBMITTED, Status.UNCERTAIN])
def test_an_attempt_that_has_not_ended_cannot_be_settled(books: Books, status: Status) -> None:
    attempt_id = books.bring_to(books.one(), status)
    assert attempt_id is not None
    with pytest.raises(LedgerConflict, match="has not ended"):
        books.ledger.attempts.settle(attempt_id, Charge(5), NO_CAPS)
    assert spend(books) == (0, FORTY_CENTS)


def test_the_users_word_settles_a_charge_that_was_never_reported(books: Books) -> None:
    job_id = books.one()
    books.bring_to(job_id, Status.FAILED, cost_nusd=None)
    books.ledger.attempts.settle_manually(books.attempt(job_id), 3)
    assert spend(books) == (3, 0)
    assert books.ledger.queries.events(job_id)[-1].detail == "resolved: charge settled by hand"


def test_every_attempt_of_a_job_counts(books: Books) -> None:
    job_id = books.one()
    books.bring_to(job_id, Status.FAILED, cost_nusd=100)
    books.ledger.attempts.reopen([job_id], reset_attempts=False)
    books.bring_to(job_id, Status.DONE, cost_nusd=300)
    assert spend(books) == (400, 0)
    [row] = books.ledger.reports.job_rows(1)
    assert (row["attempts"], row["cost_nusd"], row["cost_usd"]) == (2, 400, pytest.approx(4e-7))


def test_a_charge_to_the_users_own_provider_key_is_kept_apart_and_counts_at_its_worst_case(books: Books) -> None:
    caps = Caps(total=FORTY_CENTS + 10)
    books.plan_and_claim([planned("a"), planned("b", usd="0.00000002")])
    first, second = books.job_ids()
    complete(books, books.reserve(first), 20_000, byok=True)
    assert spend(books) == (0, 0)
    assert books.ledger.attempts.committed(1, "a/one").total == FORTY_CENTS
    assert isinstance(books.try_to_reserve(second, caps), Refused)
    total = books.ledger.reports.total(Filter())
    assert (total.charged_nusd, total.byok_fee_nusd, total.byok_attempts) == (0, 20_000, 1)


def test_a_job_without_an_upper_price_is_refused_under_a_cap_unless_an_amount_is_named(books: Books) -> None:
    job_id = books.one(usd=None)
    refused = books.try_to_reserve(job_id, Caps(total=USD))
    assert isinstance(refused, Refused)
    assert "budget.unpriced" in refused.reason
    assert books.ledger.queries.job(job_id).wait_reason == refused.reason
    reserved = books.try_to_reserve(job_id, Caps(total=USD, unpriced=USD))
    assert isinstance(reserved, Reservation)
    assert spend(books) == (0, USD)


def test_without_a_cap_a_job_without_an_upper_price_is_sent_and_named_as_unpriced(books: Books) -> None:
    books.reserve(books.one(usd=None))
    assert spend(books) == (0, 0)
    assert books.ledger.reports.total(Filter()).unpriced_open == 1


# -- overruns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caps", "broken"),
    [
        pytest.param(NO_CAPS, None, id="no cap"),
        pytest.param(Caps(total=USD), None, id="the cap had room for it"),
        pytest.param(Caps(total=FORTY_CENTS), "budget.total_usd", id="total"),
        pytest.param(Caps(per_job=FORTY_CENTS), "budget.per_job_usd", id="job"),
        pytest.param(Caps(per_day=FORTY_CENTS), "budget.per_day_usd", id="day"),
        pytest.param(Caps(per_model={"a/one": FORTY_CENTS}), "budget.per_model_usd of a/one", id="model"),
        pytest.param(Caps(per_model={"another": 0}), None, id="another model's cap"),
    ],
)
def test_a_charge_above_its_reservation_is_recorded_and_names_the_cap_it_broke(
    books: Books, caps: Caps, broken: str | None
) -> None:
    settlement = complete(books, books.reserve(books.one()), FORTY_CENTS + 1, caps)
    assert settlement == Settlement(FORTY_CENTS + 1, 1, broken)
    assert spend(books) == (FORTY_CENTS + 1, 0)


def test_a_charge_of_exactly_its_reservation_is_no_overrun(books: Books) -> None:
    assert complete(books, books.reserve(books.one()), FORTY_CENTS, Caps(total=0)) == Settlement(FORTY_CENTS)


# -- caps -------------------------------------------------------------------------------------------------------------


def test_a_cap_of_one_job_counts_its_earlier_attempts(books: Books) -> None:
    caps = Caps(per_job=int(0.7 * USD))
    job_id = books.one()
    books.bring_to(job_id, Status.FAILED, cost_nusd=FORTY_CENTS)
    books.ledger.attempts.reopen([job_id], reset_attempts=True)
    refused = books.try_to_reserve(job_id, caps)
    assert isinstance(refused, Refused)
    assert (refused.missing, books.status(job_id)) == (int(0.1 * USD), Status.PENDING)


def test_the_cap_of_a_day_holds_over_all_batches_and_ends_with_the_day(books: Books) -> None:
    caps = Caps(per_day=int(0.7 * USD))
    evening, midnight = datetime(2026, 3, 1, 23, 59, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)
    first, second = books.one(name="one"), books.one(name="two")
    assert isinstance(books.try_to_reserve(first, caps, now=evening), Reservation)
    assert isinstance(books.try_to_reserve(second, caps, now=evening), Refused)
    assert isinstance(books.try_to_reserve(second, caps, now=midnight), Reservation)


def test_the_cap_of_a_model_leaves_other_models_alone(books: Books) -> None:
    caps = Caps(per_model={"a/one": int(0.7 * USD)})
    books.plan_and_claim([planned("a"), planned("b"), planned("a", model="a/two")])
    first, second, other = books.job_ids()
    assert isinstance(books.try_to_reserve(first, caps), Reservation)
    assert isinstance(books.try_to_reserve(second, caps), Refused)
    assert isinstance(books.try_to_reserve(other, caps), Reservation)


def test_a_submit_needs_the_lease(books: Books) -> None:
    job_id = books.one()
    books.ledger.leases.release(1, books.holder)
    with pytest.raises(LeaseLost):
        books.try_to_reserve(job_id)
    assert books.status(job_id) is Status.PENDING


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_processes_racing_for_the_last_budget_exactly_one_wins(
    books: Books, path: Path, order: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second begins while the first has decided and not committed: it must wait, and then see the reservation."""
    ids = [books.one(name="one"), books.one(name="two")]
    caps = Caps(per_day=FORTY_CENTS)
    results: list[Reservation | Refused] = []
    with Ledger.open(path) as other:
        for ledger in (books.ledger, other):
            with ledger.database.read() as db:
                db.execute("pragma busy_timeout = 0")
        books_of = [books, Books(other, books.holder)]
        first, second = (books_of[index] for index in order)

        def decide_slowly(*arguments: object) -> Allowed | Refused:
            monkeypatch.undo()
            with pytest.raises(LedgerError, match="locked"):
                second.try_to_reserve(ids[order[1]], caps)
            return decide(*arguments)  # type: ignore[arg-type] # passed through as they came

        monkeypatch.setattr("orbatch.ledger.attempts.decide", decide_slowly)
        results = [first.try_to_reserve(ids[order[0]], caps), second.try_to_reserve(ids[order[1]], caps)]
    assert [type(result) for result in results] == [Reservation, Refused]
    assert books.ledger.attempts.committed(1, "a/one").day == FORTY_CENTS


def _reserve_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orbatch.ledger.attempts.add_committed", lambda *_: None)


@pytest.mark.parametrize("spoil", [None, _reserve_nothing], ids=["as it is", "without reservations"])
def test_a_cap_holds_because_of_the_reservation(
    books: Books, spoil: Callable[[pytest.MonkeyPatch], None] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second case shows that the first would fail without it."""
    books.plan_and_claim(planned(str(number), position=number) for number in range(10))
    if spoil is not None:
        spoil(monkeypatch)
    caps = Caps(total=USD)
    sent = [isinstance(books.try_to_reserve(job_id, caps), Reservation) for job_id in books.job_ids()]
    assert sum(sent) == (2 if spoil is None else 10)


# -- what does not fit ------------------------------------------------------------------------------------------------


def test_jobs_that_no_cap_has_room_for_are_counted_with_what_is_missing(books: Books) -> None:
    jobs = [
        planned("cheap", usd="0.10"),
        planned("dear", usd="5"),
        planned("dear too", usd="5"),
        planned("?", usd=None),
    ]
    books.plan_and_claim(jobs)
    assert books.ledger.attempts.mark_over_budget(1, Caps(total=USD)) == 3
    holds = dict(books.ledger.queries.wait_reasons(1))
    assert holds.pop("needs up to 5.00 USD, budget.total_usd 1.00 has 1.00 USD left (4.00 USD missing)") == 2
    assert "budget.unpriced" in next(iter(holds))
    before = books.changes()
    assert books.ledger.attempts.mark_over_budget(1, Caps(total=USD)) == 3
    assert books.changes() == before


def test_a_job_whose_earlier_attempts_used_up_its_own_cap_is_counted_too(books: Books) -> None:
    caps = Caps(per_job=int(0.7 * USD))
    books.plan_and_claim([planned("tried"), planned("new")])
    tried, _ = books.job_ids()
    books.bring_to(tried, Status.FAILED, cost_nusd=FORTY_CENTS)
    books.ledger.attempts.reopen([tried], reset_attempts=True)
    assert books.ledger.attempts.mark_over_budget(1, caps) == 1
    assert "budget.per_job_usd" in (books.ledger.queries.job(tried).wait_reason or "")


def test_only_the_wanted_jobs_are_counted(books: Books) -> None:
    books.plan_and_claim([planned("cat"), planned("dog")])
    assert books.ledger.attempts.mark_over_budget(1, Caps(total=0), "ca*") == 1


def test_without_caps_nothing_is_held_and_what_was_said_stays(books: Books) -> None:
    books.plan_and_claim([planned("a"), planned("b")])
    books.ledger.attempts.set_wait_reason(1, "a/one", "a/one is blocked")
    books.ledger.attempts.set_wait_reason(1, None, "no credit")
    assert books.ledger.attempts.mark_over_budget(1, NO_CAPS) == 0
    assert books.ledger.queries.wait_reasons(1) == [("a/one is blocked", 2)]


def test_jobs_of_many_prices_are_decided_in_one_pass(books: Books) -> None:
    """As many statements for a thousand prices as for one: two of them, whatever their number."""
    books.plan_and_claim(planned(str(n), usd=f"{n}.01", position=n) for n in range(1, 300))
    with books.ledger.database.read() as db:
        statements: list[str] = []
        db.set_trace_callback(statements.append)
        assert books.ledger.attempts.mark_over_budget(1, Caps(total=0)) == 299
        db.set_trace_callback(None)
    assert sum(text.lstrip().lower().startswith("select") for text in statements) < 10


def test_the_files_of_a_finished_attempt_are_replaced_without_touching_its_charge(books: Books) -> None:
    attempt_id = books.bring_to(books.one(), Status.DONE, cost_nusd=5)
    assert attempt_id is not None
    books.ledger.attempts.replace_outputs(attempt_id, [video("/outputs/new.mp4", 2.5)])
    assert [output.path for output in books.ledger.queries.outputs(books.job_ids()[0])] == ["/outputs/new.mp4"]
    total = books.ledger.reports.total(Filter())
    assert (total.charged_nusd, total.seconds) == (5, 2.5)
