"""What may still be reserved, as a pure function: every cap alone, and the tightest of several."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbatch.ledger import Allowed, Caps, Committed, Refused, room
from orbatch.ledger.budget import broken_cap, decide
from tests.ledger.books import USD

NOTHING = Committed()


@pytest.mark.parametrize(
    ("caps", "committed", "missing"),
    [
        pytest.param(Caps(), Committed(total=99 * USD), 0, id="no cap"),
        pytest.param(Caps(total=USD), NOTHING, 0, id="exactly the cap"),
        pytest.param(Caps(total=USD - 1), NOTHING, 1, id="a nano-dollar above the cap"),
        pytest.param(Caps(total=2 * USD), Committed(total=USD + 1), 1, id="total is nearly used up"),
        pytest.param(Caps(per_job=2 * USD), Committed(job=USD + 2), 2, id="earlier attempts of the job count"),
        pytest.param(Caps(per_day=2 * USD), Committed(day=USD + 3), 3, id="other batches of the day count"),
        pytest.param(Caps(per_model={"a/one": 2 * USD}), Committed(model=USD + 4), 4, id="the model's own cap"),
        pytest.param(Caps(per_model={"a/two": 0}), Committed(model=USD), 0, id="another model's cap"),
        pytest.param(Caps(total=2 * USD), Committed(job=9 * USD, day=9 * USD, model=9 * USD), 0, id="other scopes"),
        pytest.param(Caps(total=0), Committed(total=5 * USD), 6 * USD, id="more is used than the cap"),
    ],
)
def test_a_job_of_one_dollar(caps: Caps, committed: Committed, missing: int) -> None:
    decision = decide("a/one", USD, caps, committed)
    if missing:
        assert isinstance(decision, Refused)
        assert decision.missing == missing
    else:
        assert decision == Allowed(USD)


def test_the_reason_names_the_cap_that_lacks_most_and_how_much() -> None:
    caps = Caps(total=10 * USD, per_day=5 * USD)
    decision = decide("a/one", USD, caps, Committed(total=int(9.5 * USD), day=int(4.25 * USD)))
    assert isinstance(decision, Refused)
    assert decision.reason == "needs up to 1.00 USD, budget.total_usd 10.00 has 0.50 USD left (0.50 USD missing)"


@pytest.mark.parametrize(
    ("caps", "amount"),
    [
        pytest.param(Caps(), None, id="no cap, nothing to reserve"),
        pytest.param(Caps(unpriced=5), 5, id="no cap, and an amount"),
        pytest.param(Caps(total=10, unpriced=5), 5, id="a cap, and an amount"),
        pytest.param(Caps(per_model={"a/two": 0}), None, id="another model's cap"),
    ],
)
def test_a_job_without_an_upper_price_reserves_the_amount_that_is_named(caps: Caps, amount: int | None) -> None:
    assert decide("a/one", None, caps, NOTHING) == Allowed(amount)


@pytest.mark.parametrize(
    "caps", [Caps(total=10), Caps(per_job=10), Caps(per_day=10), Caps(per_model={"a/one": 10})], ids=str
)
def test_a_job_without_an_upper_price_is_refused_under_any_cap(caps: Caps) -> None:
    decision = decide("a/one", None, caps, NOTHING)
    assert isinstance(decision, Refused)
    assert decision.missing is None
    assert "budget.unpriced" in decision.reason


AMOUNTS = st.integers(0, 10**13)
CAPS = st.builds(
    Caps,
    total=st.none() | AMOUNTS,
    per_job=st.none() | AMOUNTS,
    per_day=st.none() | AMOUNTS,
    per_model=st.dictionaries(st.sampled_from(["a/one", "a/two"]), AMOUNTS),
    unpriced=st.none() | AMOUNTS,
)
COMMITTED = st.builds(Committed, total=AMOUNTS, job=st.just(0), day=AMOUNTS, model=AMOUNTS)


@given(CAPS, COMMITTED, AMOUNTS)
def test_what_fits_in_the_room_is_what_is_allowed(caps: Caps, committed: Committed, amount: int) -> None:
    left = room("a/one", caps, committed)
    fits = left is None or amount <= left
    # Room is never below zero, so that a job that costs nothing still fits where a cap was passed.
    over = broken_cap("a/one", caps, committed) is not None
    assert isinstance(decide("a/one", amount, caps, committed), Allowed) is (fits and not over)
