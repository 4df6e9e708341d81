"""One runner per batch: who may take a lease, and when."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orbatch.ledger import LEASE_S, BatchHeld, Holder, LeaseLost, Ledger
from orbatch.ledger.leases import host_identity, is_provably_dead
from tests.ledger.books import Books, planned

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ANOTHER_HOST = "elsewhere 1234 pid:[1]"


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def holder(owner: str = "other", host: str | None = None, pid: int | None = None) -> Holder:
    return Holder(owner, host or host_identity(), pid or os.getpid())


@pytest.fixture
def batch_id(books: Books) -> int:
    return books.plan([planned("a")]).id


@pytest.fixture(scope="session")
def dead_pid() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


def test_a_batch_that_is_run_is_refused_with_who_and_how_long(books: Books, batch_id: int, path: Path) -> None:
    books.leases.claim(batch_id, holder(), NOW)
    # Another process sees the same lease.
    with (
        Ledger.open(path) as other,
        pytest.raises(BatchHeld, match=rf"cats is being run by process {os.getpid()}.*in 60 s"),
    ):
        other.leases.claim(batch_id, books.holder, NOW)


def test_the_holder_may_claim_again_and_others_when_it_has_released(books: Books, batch_id: int) -> None:
    books.leases.claim(batch_id, holder(), NOW)
    books.leases.claim(batch_id, holder(), NOW)
    books.leases.release(batch_id, holder("a third one"))  # not its to release
    with pytest.raises(BatchHeld):
        books.leases.claim(batch_id, books.holder, NOW)
    books.leases.release(batch_id, holder())
    books.leases.claim(batch_id, books.holder, NOW)


@pytest.mark.parametrize(
    ("host", "dead", "after_s", "taken"),
    [
        pytest.param(None, False, LEASE_S - 0.001, False, id="alive, before the expiry"),
        pytest.param(None, False, LEASE_S, True, id="alive and silent, at the expiry"),
        pytest.param(None, True, 0, True, id="dead, on this host"),
        pytest.param(ANOTHER_HOST, True, 0, False, id="a dead process id, but of another host"),
        pytest.param(ANOTHER_HOST, True, LEASE_S, True, id="another host, at the expiry"),
    ],
)
def test_a_lease_is_taken_over_at_its_expiry_or_on_proof_of_death(
    books: Books, batch_id: int, dead_pid: int, host: str | None, dead: bool, after_s: float, taken: bool
) -> None:
    books.leases.claim(batch_id, holder(host=host, pid=dead_pid if dead else None), NOW)
    if taken:
        books.leases.claim(batch_id, books.holder, later(after_s))
        with pytest.raises(LeaseLost):
            books.leases.renew(batch_id, holder(), later(after_s))
    else:
        with pytest.raises(BatchHeld):
            books.leases.claim(batch_id, books.holder, later(after_s))


@pytest.mark.parametrize("part", [0, 1, 2], ids=["host name", "boot", "process namespace"])
def test_a_death_is_proven_only_where_the_process_ids_are_the_same_ones(dead_pid: int, part: int) -> None:
    parts = host_identity().split()
    assert is_provably_dead(host_identity(), dead_pid) is ("-" not in parts)
    for other in ("another", "-"):
        parts[part] = other
        assert not is_provably_dead(" ".join(parts), dead_pid)


def test_who_lives_or_cannot_be_told_apart_is_not_provably_dead(dead_pid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_provably_dead(host_identity(), os.getpid())
    assert not is_provably_dead(host_identity(), 1)  # perhaps another user's, which only the refusal tells
    monkeypatch.setattr("orbatch.ledger.leases.host_identity", lambda: "mac - -")  # no means to tell boots apart
    assert not is_provably_dead("mac - -", dead_pid)


def test_a_renewed_lease_lasts_from_the_heartbeat_on(books: Books, batch_id: int) -> None:
    books.leases.claim(batch_id, holder(), NOW)
    books.leases.renew(batch_id, holder(), later(1000))  # silent for long, but nobody wanted the batch
    with pytest.raises(BatchHeld):
        books.leases.claim(batch_id, books.holder, later(1050))


def test_other_batches_that_are_run_now_are_counted(books: Books, batch_id: int) -> None:
    second, third = (books.plan([planned("a")], name).id for name in ("dogs", "birds"))
    books.leases.claim(second, holder("b"), NOW)
    books.leases.claim(third, holder("c"), later(-LEASE_S))
    assert [books.leases.other_runners(batch, NOW) for batch in (batch_id, second)] == [1, 0]


def test_every_process_has_an_owner_name_of_its_own() -> None:
    one, two = Holder.this_process(), Holder.this_process()
    assert (one.owner != two.owner, one.host, one.pid) == (True, two.host, two.pid)


def test_a_lease_from_a_clock_in_the_future_ends_like_any_other(books: Books, batch_id: int) -> None:
    books.leases.claim(batch_id, holder(host=ANOTHER_HOST), NOW + timedelta(days=3650))
    with pytest.raises(BatchHeld):
        books.leases.claim(batch_id, books.holder, NOW)
    books.leases.claim(batch_id, books.holder, later(LEASE_S + 1))
