"""Reservations and charges: what is reserved, what is settled, and that no cap is ever passed by."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from orbatch.ledger import (
    Allowed,
    Caps,
    Charge,
    Filter,
    LeaseLost,
    Ledger,
    LedgerConflict,
    LedgerError,
    Refused,
    Reservation,
    Settlement,
    Status,
)
from orbatch.ledger.budget import decide
from tests.ledger.books import NO_CAPS, USD, Books, in_order, planned, video

FORTY_CENTS = 400_000_000
SEVENTY_CENTS = 700_000_000


def complete(
    books: Books, attempt_id: int, cost_nusd: int | None, caps: Caps = NO_CAPS, *, byok: bool = False
) -> Settlement:
    books.attempts.accept(attempt_id, f"remote-{attempt_id}")
    return books.attempts.end(attempt_id, Status.COMPLETED, Charge(cost_nusd, byok, f"gen-{attempt_id}"), caps)


def is_allowed(books: Books, job_id: str, caps: Caps, now: datetime | None = None) -> bool:
    return isinstance(books.try_to_reserve(job_id, caps, now=now), Reservation)


# -- reservation and settlement ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "left"),
    [
        pytest.param(Status.SUBMITTING, (0, FORTY_CENTS), id="the worst case is reserved before a submit"),
        pytest.param(Status.COMPLETED, (7, 0), id="it gives way to the charge"),
        pytest.param(Status.REJECTED, (0, 0), id="refused costs nothing"),
        pytest.param(Status.UNCERTAIN, (0, FORTY_CENTS), id="uncertain stays reserved"),
        pytest.param(Status.FAILED, (7, 0), id="failed counts with its charge"),
        pytest.param(Status.LOST, (7, 0), id="lost counts with its charge"),
    ],
)
def test_what_an_attempt_counts_for(books: Books, status: Status, left: tuple[int, int]) -> None:
    books.bring_to(books.one(), status, cost_nusd=7)
    assert books.reports.spend(1) == left


@pytest.mark.parametrize("status", [Status.DONE, Status.FAILED])
@pytest.mark.parametrize("by_hand", [False, True], ids=["reported", "by hand"])
def test_a_charge_that_is_not_known_leaves_the_reservation_until_it_is(
    books: Books, status: Status, by_hand: bool
) -> None:
    job_id = books.one()
    attempt_id = books.bring_to(job_id, status, cost_nusd=None) or 0
    assert books.reports.spend(1) == (0, FORTY_CENTS)
    [unsettled] = books.queries.unsettled()
    assert (unsettled.attempt and unsettled.attempt.generation_id) == f"gen-{attempt_id}"
    if by_hand:
        books.attempts.settle_manually(books.attempt(job_id), 5)
        assert books.queries.events(job_id)[-1].detail == "resolved: charge settled by hand"
    else:
        books.attempts.settle(attempt_id, Charge(5), NO_CAPS)
    assert (books.reports.spend(1), books.queries.unsettled()) == ((5, 0), [])


def test_a_settled_charge_is_never_replaced(books: Books) -> None:
    job_id = books.one()
    attempt_id = books.bring_to(job_id, Status.DONE, cost_nusd=5) or 0
    assert books.attempts.settle(attempt_id, Charge(9, True), NO_CAPS) == Settlement(5)
    with pytest.raises(LedgerConflict, match="settled already"):
        books.attempts.settle_manually(books.attempt(job_id), 9)
    assert (books.reports.spend(1), books.attempt(job_id).is_byok) == ((5, 0), False)


@pytest.mark.parametrize("status", [Status.SUBMITTING, Status.SUBMITTED, Status.UNCERTAIN])
def test_an_attempt_that_has_not_ended_cannot_be_settled(books: Books, status: Status) -> None:
    attempt_id = books.bring_to(books.one(), status) or 0
    with pytest.raises(LedgerConflict, match="has not ended"):
        books.attempts.settle(attempt_id, Charge(5), NO_CAPS)
    assert books.reports.spend(1) == (0, FORTY_CENTS)


def test_every_attempt_of_a_job_counts(books: Books) -> None:
    job_id = books.one()
    books.bring_to(job_id, Status.FAILED, cost_nusd=100)
    books.attempts.reopen([job_id], reset_attempts=False)
    books.bring_to(job_id, Status.DONE, cost_nusd=300)
    assert books.reports.spend(1) == (400, 0)
    [row] = books.reports.job_rows(1)
    assert (row["attempts"], row["cost_nusd"], row["cost_usd"]) == (2, 400, pytest.approx(4e-7))


def test_a_charge_to_the_users_own_provider_key_is_kept_apart_and_counts_at_its_worst_case(books: Books) -> None:
    first, second = books.plan_and_claim([planned("a"), planned("b", usd="0.00000002")])
    complete(books, books.reserve(first), 20_000, byok=True)
    assert books.reports.spend(1) == (0, 0)
    assert books.attempts.committed(1, "a/one").total == FORTY_CENTS
    assert not is_allowed(books, second, Caps(total=FORTY_CENTS + 10))
    total = books.reports.total(Filter())
    assert (total.charged_nusd, total.byok_fee_nusd, total.byok_attempts) == (0, 20_000, 1)


def test_a_job_without_an_upper_price_is_refused_under_a_cap_unless_an_amount_is_named(books: Books) -> None:
    job_id, other = books.one(usd=None), books.one(usd=None, name="other")
    refused = books.try_to_reserve(job_id, Caps(total=USD))
    assert isinstance(refused, Refused)
    assert "budget.unpriced" in refused.reason
    assert books.queries.job(job_id).wait_reason == refused.reason
    assert is_allowed(books, job_id, Caps(total=USD, unpriced=USD))
    books.reserve(other)  # without a cap it is sent, and named as unpriced
    assert (books.reports.spend(1), books.reports.spend(2)) == ((0, USD), (0, 0))
    assert books.reports.total(Filter()).unpriced_open == 1


def test_the_files_of_a_finished_attempt_are_replaced_without_touching_its_charge(books: Books) -> None:
    job_id = books.one()
    books.attempts.replace_outputs(books.bring_to(job_id, Status.DONE, cost_nusd=5) or 0, [video("/new.mp4", 2.5)])
    assert [output.path for output in books.queries.outputs(job_id)] == ["/new.mp4"]
    total = books.reports.total(Filter())
    assert (total.charged_nusd, total.seconds) == (5, 2.5)


@pytest.mark.parametrize(
    ("caps", "broken"),
    [
        pytest.param(NO_CAPS, None, id="no cap"),
        pytest.param(Caps(total=FORTY_CENTS + 1), None, id="used up is not broken"),
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
    first, second = books.several(2)
    assert complete(books, books.reserve(first), FORTY_CENTS + 1, caps) == Settlement(FORTY_CENTS + 1, 1, broken)
    assert books.reports.spend(1) == (FORTY_CENTS + 1, 0)
    # A charge of exactly its reservation is no overrun, even where a cap is broken already.
    assert complete(books, books.reserve(second), FORTY_CENTS, caps) == Settlement(FORTY_CENTS)


# -- caps -------------------------------------------------------------------------------------------------------------


def test_a_cap_of_one_job_counts_its_earlier_attempts(books: Books) -> None:
    caps = Caps(per_job=SEVENTY_CENTS)
    tried, _ = books.plan_and_claim(in_order(["tried", "new"]))
    books.bring_to(tried, Status.FAILED, cost_nusd=FORTY_CENTS)
    books.attempts.reopen([tried], reset_attempts=True)
    assert books.attempts.mark_over_budget(1, caps) == 1
    assert "budget.per_job_usd" in (books.queries.job(tried).wait_reason or "")
    refused = books.try_to_reserve(tried, caps)
    assert isinstance(refused, Refused)
    assert (refused.missing, books.status(tried)) == (USD // 10, Status.PENDING)


def test_the_cap_of_a_day_holds_over_all_batches_and_ends_with_the_day(books: Books) -> None:
    caps = Caps(per_day=SEVENTY_CENTS)
    evening, midnight = datetime(2026, 3, 1, 23, 59, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)
    first, second = books.several(2)
    assert is_allowed(books, first, caps, evening)
    assert not is_allowed(books, second, caps, evening)
    assert is_allowed(books, second, caps, midnight)


def test_the_cap_of_a_model_leaves_other_models_alone(books: Books) -> None:
    caps = Caps(per_model={"a/one": SEVENTY_CENTS})
    job_ids = books.plan_and_claim([planned("a"), planned("b"), planned("a", model="a/two")])
    assert [is_allowed(books, job_id, caps) for job_id in job_ids] == [True, False, True]


def test_a_submit_needs_the_lease(books: Books) -> None:
    job_id = books.one()
    books.leases.release(1, books.holder)
    with pytest.raises(LeaseLost):
        books.try_to_reserve(job_id)
    assert books.status(job_id) is Status.PENDING


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_processes_racing_for_the_last_budget_exactly_one_wins(
    books: Books, path: Path, order: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second begins while the first has decided and not committed: it must wait, and then see the reservation."""
    ids = books.several(2)
    caps = Caps(per_day=FORTY_CENTS)
    with Ledger.open(path) as other:
        for ledger in (books.ledger, other):
            ledger.database.rows("pragma busy_timeout = 0")
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
    assert books.attempts.committed(1, "a/one").day == FORTY_CENTS


@pytest.mark.parametrize(("spoiled", "allowed"), [(False, 2), (True, 10)], ids=["as it is", "without reservations"])
def test_a_cap_holds_because_of_the_reservation(
    books: Books, spoiled: bool, allowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second case shows that the first would fail without it."""
    job_ids = books.plan_and_claim(in_order(range(10)))
    if spoiled:
        monkeypatch.setattr("orbatch.ledger.transitions.add_committed", lambda *_: None)
    assert sum(is_allowed(books, job_id, Caps(total=USD)) for job_id in job_ids) == allowed


# -- what does not fit ------------------------------------------------------------------------------------------------


def test_jobs_that_no_cap_has_room_for_are_counted_with_what_is_missing(books: Books) -> None:
    prices = {"cheap": "0.10", "expensive": "5", "expensive too": "5", "?": None}
    books.plan_and_claim([planned(name, usd=usd) for name, usd in prices.items()])
    caps = Caps(total=USD)
    assert books.attempts.mark_over_budget(1, caps) == 3
    reasons = dict(books.queries.wait_reasons(1))
    assert reasons.pop("needs up to 5.00 USD, budget.total_usd 1.00 has 1.00 USD left (4.00 USD missing)") == 2
    assert "budget.unpriced" in next(iter(reasons))
    before = books.changes()
    assert books.attempts.mark_over_budget(1, caps) == 3
    assert books.changes() == before
    assert books.attempts.mark_over_budget(1, caps, "expensive t*") == 1


def test_without_caps_nothing_waits_and_what_was_said_stays(books: Books) -> None:
    books.plan_and_claim(in_order("ab"))
    books.attempts.set_wait_reason(1, "a/one", "a/one is blocked")
    books.attempts.set_wait_reason(1, None, "no credit")
    assert books.attempts.mark_over_budget(1, NO_CAPS) == 0
    assert books.queries.wait_reasons(1) == [("a/one is blocked", 2)]


def test_jobs_of_many_prices_are_decided_in_one_pass(books: Books) -> None:
    """As many statements for hundreds of prices as for one."""
    books.plan_and_claim(planned(str(n), usd=f"{n}.01", position=n) for n in range(1, 300))
    with books.database.read() as db:
        statements: list[str] = []
        db.set_trace_callback(statements.append)
        assert books.attempts.mark_over_budget(1, Caps(total=0)) == 299
        db.set_trace_callback(None)
    assert sum(text.lstrip().lower().startswith("select") for text in statements) < 10
