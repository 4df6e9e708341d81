from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbatch.money import format_usd, from_nano, parse_usd, to_nano, to_nano_up_to


@pytest.mark.parametrize(
    ("amount", "charge", "at_most"),
    [
        ("0", 0, 0),
        ("0.40", 400_000_000, 400_000_000),
        ("0.000000001", 1, 1),
        ("0.0000000004", 0, 1),
        ("0.0000000005", 0, 1),  # half to even
        ("0.0000000015", 2, 2),
        ("0.0000000011", 1, 2),
        ("1E-30", 0, 1),
        ("1000000", 10**15, 10**15),
        ("1E+30", 10**39, 10**39),
    ],
)
def test_usd_become_nano_dollars(amount: str, charge: int, at_most: int) -> None:
    assert (to_nano(Decimal(amount)), to_nano_up_to(Decimal(amount))) == (charge, at_most)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0.00"),
        (400_000_000, "0.40"),
        (70_893_200, "0.0708932"),
        (1, "0.000000001"),
        (10**18, "1000000000.00"),
        (10**39, "1" + "0" * 30 + ".00"),
        (1_500_000_000, "1.50"),
        (None, "?"),
    ],
)
def test_an_amount_is_shown_with_cents_and_every_digit_that_is_there(amount: int | None, text: str) -> None:
    assert format_usd(amount) == text


@pytest.mark.parametrize("text", ["0", "2.50", "1000000", "0.000000001", "5E+1", "1.0000000000"])
def test_an_amount_is_read_within_the_bounds_of_a_batch_file(text: str) -> None:
    assert parse_usd(text) == Decimal(text)


def test_an_unknown_amount_is_shown_as_the_caller_says() -> None:
    assert format_usd(None, "an unknown amount of") == "an unknown amount of"


@given(st.integers(0, 2**63 - 1))
def test_nano_dollars_survive_the_way_to_usd_and_back(amount: int) -> None:
    assert to_nano(from_nano(amount)) == to_nano_up_to(from_nano(amount)) == amount
    assert Decimal(format_usd(amount)) == from_nano(amount)


@given(st.decimals(0, 10**6, allow_nan=False, places=15))
def test_a_reservation_is_never_below_its_estimate_and_less_than_a_nano_dollar_above(amount: Decimal) -> None:
    assert 0 <= from_nano(to_nano_up_to(amount)) - amount < Decimal("1e-9")
    assert to_nano(amount) <= to_nano_up_to(amount)
