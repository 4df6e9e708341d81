"""The table of transitions, walked completely."""

from __future__ import annotations

import pytest

from orbatch.ledger.status import ENDED_REMOTELY, PAID_AND_OPEN, TRANSITIONS, Status

S = Status


def test_the_table_is_the_promised_one() -> None:
    """A change here is a change of what users are promised: docs/lifecycle.md goes with it."""
    assert {str(old): {str(new) for new in following} for old, following in TRANSITIONS.items()} == {
        "pending": {"submitting"},
        "submitting": {"submitted", "rejected", "pending", "uncertain", "done"},
        "submitted": {"completed", "failed", "cancelled", "expired"},
        "completed": {"done", "lost"},
        "done": set(),
        "rejected": {"pending"},
        "failed": {"pending"},
        "cancelled": {"pending"},
        "expired": {"pending"},
        "uncertain": {"submitted", "pending", "rejected", "lost"},
        "lost": set(),
    }


@pytest.mark.parametrize("status", Status)
def test_every_state_is_reached_and_has_its_place_in_the_table(status: Status) -> None:
    reached = {S.PENDING}
    while more := {new for old in reached for new in TRANSITIONS[old]} - reached:
        reached |= more
    assert status in reached


@pytest.mark.parametrize("status", sorted({*PAID_AND_OPEN, S.DONE, S.LOST}))
def test_what_was_accepted_is_never_sent_again_before_it_has_ended_without_a_result(status: Status) -> None:
    """The money rule in one line: from there, pending is reached only through what the provider ended."""
    without_ends = {status}
    while more := {new for old in without_ends for new in TRANSITIONS[old] if new not in ENDED_REMOTELY} - without_ends:
        without_ends |= more
    assert S.PENDING not in without_ends


def test_only_a_submit_in_the_air_or_a_persons_word_leads_back_to_pending() -> None:
    back = {old for old, following in TRANSITIONS.items() if S.PENDING in following}
    assert back == {S.SUBMITTING, S.UNCERTAIN, S.REJECTED, *ENDED_REMOTELY}
