"""A batch that was planned before and has not changed: its jobs stand, and a job that was open takes a new price."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from orbatch.batchfile.loader import load_config
from orbatch.ledger import BatchHeld, Charge, Filter, Holder, Ledger, Reservation, utc_now
from orbatch.ledger.budget import Caps, Refused
from orbatch.ledger.status import Status
from orbatch.plan.catalogs import LoadedCatalog
from orbatch.plan.jobs import models_by_kind
from orbatch.plan.plan import Plan, models_to_price, prepare
from tests.ledger.books import NO_CAPS, Books
from tests.replanning.shop import LITE, PRICE, PROMPTS, WAN, Shop, changed_by, dearer, rows


def told(plan: Plan) -> tuple[object, ...]:
    """All that a plan says, but when it was made."""
    batch = replace(plan.batch, planned_at="")
    return (batch, plan.outlook, plan.shapes, plan.left_open, plan.price_changes, plan.expected_nusd, plan.digest)


# -- nothing has changed ----------------------------------------------------------------------------------------------


def test_an_unchanged_batch_is_planned_without_writing_or_looking_up_any_of_its_jobs(
    ledger: Ledger, shop: Shop
) -> None:
    shop.plan(ledger)
    before = rows(ledger, "*")
    only_the_batch = 1
    assert changed_by(ledger, lambda: shop.plan(ledger)) == only_the_batch
    assert rows(ledger, "*") == before


@pytest.mark.parametrize("only", [None, "p1", "p[12]", LITE], ids=str)
def test_an_unchanged_plan_says_what_the_first_one_said(ledger: Ledger, shop: Shop, only: str | None) -> None:
    shop.write(
        models=[LITE, WAN],
        defaults={"duration": 4, "resolution": "720p"},
        # What these leave to chance differs, although they cost the same.
        prompts=["a", {"prompt": "b", "models": [WAN], "provider": {"options": {"alibaba": {"audio": "b.mp3"}}}}],
    )
    first, second = shop.plan(ledger, only), shop.plan(ledger, only)
    assert told(second) == told(first)
    assert first.left_open
    assert second.batch.planned_at >= first.batch.planned_at


def test_jobs_that_moved_on_meanwhile_stay_where_they_are_and_are_counted(ledger: Ledger, shop: Shop) -> None:
    books = _claimed(ledger, shop)
    states = [status for status in Status if status is not Status.PENDING]
    for job_id, status in zip(books.job_ids(), states, strict=False):
        books.bring_to(job_id, status)
    ledger.leases.release(1, books.holder)
    before = rows(ledger, "*")
    plan = shop.plan(ledger)
    assert rows(ledger, "*") == before
    assert (plan.to_send, plan.paid, plan.high_nusd) == (41 - len(states), 5, (41 - len(states)) * PRICE)
    assert changed_by(ledger, lambda: shop.plan(ledger)) == 1


def test_a_change_that_no_job_depends_on_is_planned_once_and_then_stands(ledger: Ledger, shop: Shop) -> None:
    digest = shop.plan(ledger).digest
    shop.write(budget={"total_usd": 3})
    assert changed_by(ledger, lambda: shop.plan(ledger)) > len(PROMPTS)
    assert changed_by(ledger, lambda: shop.plan(ledger)) == 1
    shop.catalog = dearer(2, WAN)
    plan = shop.plan(ledger)
    assert (plan.digest, plan.price_changes) == (digest, [])
    assert plan.batch.catalog_digest == shop.catalog.digest, "the catalog it was planned with is kept all the same"


def test_another_origin_or_output_folder_is_taken_over_at_once(ledger: Ledger, shop: Shop) -> None:
    shop.plan(ledger)
    config = replace(load_config(shop.file), output_dir=shop.folder / "elsewhere")
    plan = prepare(ledger, config, LoadedCatalog(shop.catalog, "live", ""), "https://eu.openrouter.ai")
    assert (plan.batch.origin, plan.batch.output_dir) == ("https://eu.openrouter.ai", str(shop.folder / "elsewhere"))


def test_a_batch_that_is_being_run_is_not_planned_even_if_it_is_unchanged(ledger: Ledger, shop: Shop) -> None:
    planned_at = shop.plan(ledger).batch.planned_at
    ledger.leases.claim(1, Holder.this_process(), utc_now())
    with pytest.raises(BatchHeld, match="is being run by process"):
        shop.plan(ledger)
    found = ledger.plans.find("cats")
    assert found is not None
    assert found.planned_at == planned_at


def test_a_reason_to_wait_is_forgotten_when_an_unchanged_batch_is_planned(ledger: Ledger, shop: Shop) -> None:
    shop.plan(ledger)
    ledger.attempts.set_wait_reason(1, None, "no credit")
    shop.plan(ledger)
    assert ledger.queries.holds(1) == []


def test_which_catalogs_are_needed_is_known_without_the_prompts_until_they_change(ledger: Ledger, shop: Shop) -> None:
    assert models_to_price(ledger, load_config(shop.file)) == {"video": {LITE}}
    shop.plan(ledger)
    assert models_to_price(ledger, load_config(shop.file)) == {"video": [LITE]}
    shop.prompts.write_text("prompt,kind\na cat,image\n")
    shop.write(defaults={})
    config = load_config(shop.file)
    assert models_to_price(ledger, config) == models_by_kind(config) == {"video": {LITE}, "image": {LITE}}


# -- prices that rise while jobs are open -----------------------------------------------------------------------------


def _claimed(ledger: Ledger, shop: Shop) -> Books:
    books = Books(ledger)
    shop.plan(ledger)
    ledger.leases.claim(1, books.holder, utc_now())
    return books


def _fails(books: Books, job_id: str, attempt_id: int) -> None:
    books.ledger.attempts.end(attempt_id, Status.FAILED, Charge(0), NO_CAPS, error="it failed")
    books.ledger.attempts.reopen([job_id], reset_attempts=True)


def _is_refused_late(books: Books, job_id: str, attempt_id: int) -> None:
    books.ledger.attempts.reject(attempt_id, "no such model")
    books.ledger.attempts.reopen([job_id], reset_attempts=True)


def _never_left(books: Books, job_id: str, attempt_id: int) -> None:
    books.ledger.attempts.release(attempt_id, "503")


def _was_not_charged(books: Books, job_id: str, attempt_id: int) -> None:
    books.ledger.attempts.resolve_not_charged(books.attempt(job_id))


def _is_found_and_fails(books: Books, job_id: str, attempt_id: int) -> None:
    books.ledger.attempts.attach_remote_id(books.attempt(job_id), "found")
    _fails(books, job_id, attempt_id)


@pytest.mark.parametrize(
    ("status", "comes_back"),
    [
        pytest.param(Status.SUBMITTED, _fails, id="submitted, then failed"),
        pytest.param(Status.SUBMITTING, _never_left, id="submitting, then never sent"),
        pytest.param(Status.SUBMITTING, _is_refused_late, id="submitting, then refused"),
        pytest.param(Status.UNCERTAIN, _was_not_charged, id="uncertain, then not charged"),
        pytest.param(Status.UNCERTAIN, _is_refused_late, id="uncertain, then refused"),
        pytest.param(Status.UNCERTAIN, _is_found_and_fails, id="uncertain, then found and failed"),
    ],
)
def test_a_job_that_was_open_when_prices_rose_reserves_the_new_price_when_it_is_sent_again(
    ledger: Ledger, shop: Shop, status: Status, comes_back: Callable[[Books, str, int], None]
) -> None:
    books = _claimed(ledger, shop)
    job_id = books.job_ids()[0]
    attempt_id = books.bring_to(job_id, status)
    assert attempt_id is not None
    ledger.leases.release(1, books.holder)
    shop.catalog = dearer(2)
    for _ in range(2):  # the second of them finds nothing changed, and an accepted job still at its old price
        shop.plan(ledger)
        accepted = status is Status.SUBMITTED
        assert ledger.queries.job(job_id).estimate_high_nusd == (PRICE if accepted else 2 * PRICE)
    comes_back(books, job_id, attempt_id)
    shop.plan(ledger)
    ledger.leases.claim(1, books.holder, utc_now())
    reservation = books.try_to_reserve(job_id)
    assert isinstance(reservation, Reservation)
    assert reservation.amount_nusd == 2 * PRICE
    ledger.leases.release(1, books.holder)
    shop.plan(ledger)
    assert changed_by(ledger, lambda: shop.plan(ledger)) == 1, "now every job stands as it is planned"


# An answer that was lost in the run before, or with it: then the job becomes uncertain only after the plan.
_MAY_BE_ACCEPTED = pytest.mark.parametrize("left", [Status.UNCERTAIN, Status.SUBMITTING])


@_MAY_BE_ACCEPTED
def test_a_job_that_is_bought_once_more_while_uncertain_reserves_what_it_costs_now(
    ledger: Ledger, shop: Shop, left: Status
) -> None:
    books = _claimed(ledger, shop)
    job_id = books.job_ids()[0]
    books.bring_to(job_id, left)
    ledger.leases.release(1, books.holder)
    shop.catalog = dearer(2)
    shop.plan(ledger)
    ledger.leases.claim(1, books.holder, utc_now())
    ledger.attempts.recover_interrupted(1)
    refused = books.try_to_reserve(job_id, Caps(total=3 * PRICE - 1), resubmit=True)
    assert isinstance(refused, Refused), "the cap has room for the old price only"
    assert refused.missing == 1
    assert ledger.reports.spend(1) == (0, PRICE)
    reservation = books.try_to_reserve(job_id, Caps(total=3 * PRICE), resubmit=True)
    assert isinstance(reservation, Reservation)
    assert reservation.amount_nusd == 2 * PRICE
    assert [attempt.reserved_nusd for attempt in ledger.queries.attempts(job_id)] == [PRICE, 2 * PRICE]
    assert ledger.reports.spend(1) == (0, 3 * PRICE)


def _accepted_late(books: Books, job_id: str, attempt_id: int) -> None:
    books.ledger.attempts.accept(attempt_id, "late")


def _found(books: Books, job_id: str, attempt_id: int) -> None:
    books.ledger.attempts.attach_remote_id(books.attempt(job_id), "found")


@_MAY_BE_ACCEPTED
@pytest.mark.parametrize("turns_out", [_accepted_late, _found])
def test_an_attempt_that_was_accepted_after_all_is_held_to_the_price_and_the_name_it_was_sent_at(
    ledger: Ledger, shop: Shop, turns_out: Callable[[Books, str, int], None], left: Status
) -> None:
    books = _claimed(ledger, shop)
    job_id = books.job_ids()[0]
    attempt_id = books.bring_to(job_id, left)
    assert attempt_id is not None
    stem = ledger.queries.job(job_id).stem
    ledger.leases.release(1, books.holder)
    before = _of_attempts(ledger)
    shop.catalog = dearer(2)
    shop.write(filename="{{ index }}-new")
    shop.plan(ledger)
    assert _of_attempts(ledger) == before
    ledger.attempts.recover_interrupted(1)
    turns_out(books, job_id, attempt_id)
    job = ledger.queries.job(job_id)
    assert (job.status, job.stem) == (Status.SUBMITTED, stem)
    settled = ledger.attempts.end(attempt_id, Status.COMPLETED, Charge(PRICE + 1), Caps(total=PRICE))
    assert (settled.overrun_nusd, settled.cap_exceeded) == (1, "budget.total_usd")
    [model] = ledger.reports.rows("model", Filter(1))
    assert (model.charged_nusd, model.reserved_nusd, model.estimated_nusd) == (PRICE + 1, 0, PRICE)


def _of_attempts(ledger: Ledger) -> list[list[tuple[object, ...]]]:
    """All that is kept of the attempts, and every sum over them."""
    with ledger.database.read() as db:
        return [[tuple(row) for row in db.execute(f"select * from {table}")] for table in ("attempts", "spend")]  # noqa: S608 - a test's own


def test_a_paid_job_at_an_old_price_holds_up_nothing_once_it_is_done(ledger: Ledger, shop: Shop) -> None:
    books = _claimed(ledger, shop)
    attempt_id = books.bring_to(books.job_ids()[0], Status.COMPLETED)
    assert attempt_id is not None
    ledger.leases.release(1, books.holder)
    shop.catalog = dearer(2)
    shop.plan(ledger)
    assert changed_by(ledger, lambda: shop.plan(ledger)) > len(PROMPTS)
    ledger.attempts.mark_done(attempt_id, [])
    shop.plan(ledger)
    assert changed_by(ledger, lambda: shop.plan(ledger)) == 1
