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
    ("high", "caps", "committed", "expected"),
    [
        pytest.param(USD, Caps(), Committed(total=99 * USD), Allowed(USD), id="no cap"),
        pytest.param(USD, Caps(total=USD), NOTHING, Allowed(USD), id="exactly the cap"),
        pytest.param(USD, Caps(total=USD - 1), NOTHING, 1, id="a nano-dollar above the cap"),
        pytest.param(USD, Caps(total=2 * USD), Committed(total=USD + 1), 1, id="total is nearly used up"),
        pytest.param(USD, Caps(per_job=2 * USD), Committed(job=USD + 2), 2, id="earlier attempts of the job count"),
        pytest.param(USD, Caps(per_day=2 * USD), Committed(day=USD + 3), 3, id="other batches of the day count"),
        pytest.param(USD, Caps(per_model={"a/one": 2 * USD}), Committed(model=USD + 4), 4, id="the model's own cap"),
        pytest.param(USD, Caps(per_model={"a/two": 0}), Committed(model=USD), Allowed(USD), id="another model's cap"),
        pytest.param(
            USD, Caps(total=2 * USD), Committed(0, 9 * USD, 9 * USD, 9 * USD), Allowed(USD), id="other scopes"
        ),
        pytest.param(USD, Caps(total=0), Committed(total=5 * USD), 6 * USD, id="more is used than the cap"),
        pytest.param(None, Caps(), NOTHING, Allowed(None), id="unpriced, no cap"),
        pytest.param(None, Caps(unpriced=5), NOTHING, Allowed(5), id="unpriced, no cap, and an amount"),
        pytest.param(None, Caps(total=10, unpriced=5), NOTHING, Allowed(5), id="unpriced, a cap, and an amount"),
        pytest.param(None, Caps(per_model={"a/two": 0}), NOTHING, Allowed(None), id="unpriced, another model's cap"),
        pytest.param(None, Caps(total=10), NOTHING, None, id="unpriced, a cap in total"),
        pytest.param(None, Caps(per_job=10), NOTHING, None, id="unpriced, a cap per job"),
        pytest.param(None, Caps(per_day=10), NOTHING, None, id="unpriced, a cap per day"),
        pytest.param(None, Caps(per_model={"a/one": 10}), NOTHING, None, id="unpriced, a cap of its model"),
    ],
)
def test_a_job_is_allowed_what_fits_or_refused_with_what_is_missing(
    high: int | None, caps: Caps, committed: Committed, expected: Allowed | int | None
) -> None:
    decision = decide("a/one", high, caps, committed)
    if isinstance(decision, Refused):
        assert decision.missing == expected
        assert ("budget.unpriced" in decision.reason) is (expected is None)
    else:
        assert decision == expected


def test_the_reason_names_the_cap_that_lacks_most_and_how_much() -> None:
    caps = Caps(total=10 * USD, per_day=5 * USD)
    decision = decide("a/one", USD, caps, Committed(total=int(9.5 * USD), day=int(4.25 * USD)))
    assert isinstance(decision, Refused)
    assert decision.reason == "needs up to 1.00 USD, budget.total_usd 10.00 has 0.50 USD left (0.50 USD missing)"


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
