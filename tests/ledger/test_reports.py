"""Reports: every figure is the sum of the attempts, to the nano-dollar, whatever happened."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from orbatch.ledger import (
    GROUPINGS,
    Caps,
    Charge,
    Filter,
    Ledger,
    LedgerConflict,
    LedgerError,
    Refused,
    ReportRow,
    Status,
    reports,
)
from orbatch.ledger.database import Database, prepare
from orbatch.ledger.reports import BILLS_NEEDED
from orbatch.ledger.schema import COUNTED
from tests.ledger.books import NO_CAPS, USD, Books, in_order, planned, video

S = Status
PRICE = 400_000_000  # of a job, if nothing else is said


def total(books: Books, which: Filter | None = None) -> ReportRow:
    return books.reports.total(which or Filter())


@pytest.fixture
def mixed(books: Books) -> Books:
    """Two batches, two models, and an attempt in every state; the charges are powers of two."""
    states = [status for status in Status if status is not S.PENDING]
    for name in ("one", "two"):
        jobs = [planned(f"{status} {name}", model=f"a/{name}", position=n) for n, status in enumerate(states)]
        for number, (job_id, status) in enumerate(zip(books.plan_and_claim(jobs, name), states, strict=True)):
            books.bring_to(job_id, status, cost_nusd=2**number * (1 if name == "one" else 2**20))
    return books


@pytest.mark.parametrize("by", GROUPINGS)
def test_the_groups_add_up_to_the_total(mixed: Books, by: str) -> None:
    rows, whole = mixed.reports.report(by, Filter())  # type: ignore[arg-type] # parametrised by its values
    for name in ("charged_nusd", "reserved_nusd", "attempts", "uncertain_nusd", "failed_charged_nusd", "billed_nusd"):
        assert sum(getattr(row, name) for row in rows) == getattr(whole, name) == getattr(total(mixed), name) > 0
    assert whole.jobs == 20
    assert sum(row.done for row in rows) == whole.done == 2


def test_a_report_of_one_batch_leaves_the_others_out(mixed: Books) -> None:
    one, two = total(mixed, Filter(1)), total(mixed, Filter(2))
    assert (one.jobs, two.jobs) == (10, 10)
    assert two.charged_nusd == one.charged_nusd << 20
    assert [row.key for row in mixed.reports.report("batch", Filter(2))[0]] == ["two"]
    assert [row.key for row in mixed.reports.report("model", Filter())[0]] == [
        "a/two",
        "a/one",
    ]  # the most expensive first
    assert mixed.reports.spend(1) == (one.charged_nusd, one.reserved_nusd)


def test_a_report_by_status_says_what_failures_cost(mixed: Books) -> None:
    rows = {row.key: row for row in mixed.reports.report("status", Filter(1))[0]}
    assert rows[S.FAILED].charged_nusd == rows[S.FAILED].failed_charged_nusd > 0
    assert (rows[S.UNCERTAIN].uncertain, rows[S.UNCERTAIN].reserved_nusd) == (1, PRICE)
    assert (rows[S.DONE].failed_charged_nusd, rows[S.DONE].jobs) == (0, 1)
    assert rows[S.REJECTED].attempts == 0


def test_a_report_of_days_counts_each_job_where_it_was_sent_first(books: Books) -> None:
    for day, job_id in zip((1, 1, 2), books.plan_and_claim(in_order(range(3))), strict=True):
        books.try_to_reserve(job_id, now=datetime(2026, 3, day, tzinfo=UTC))
    rows, whole = books.reports.report("day", Filter())
    assert [(row.key[-2:], row.jobs, row.reserved_nusd) for row in rows] == [("01", 2, 2 * PRICE), ("02", 1, PRICE)]
    assert whole.jobs == 3
    first, second, third = ("2026-03-01", "2026-03-02", "2026-03-03")
    for which, expected in (
        *((Filter(since=second), 1), (Filter(until=first), 2), (Filter(since=first, until=second), 3)),
        *((Filter(since=third), 0), (Filter(2, since=first), 0)),
    ):
        assert (total(books, which).jobs, total(books, which).attempts) == (expected, expected)
        assert sum(row.jobs for row in books.reports.report("prompt", which)[0]) == expected


def test_a_finished_second_costs_what_those_cost_whose_charge_is_known(books: Books) -> None:
    for job_id, cost, byok in zip(books.several(3), (USD, None, 7), (False, False, True), strict=True):
        attempt_id = books.reserve(job_id)
        books.attempts.accept(attempt_id, f"remote-{attempt_id}")
        books.attempts.end(attempt_id, Status.COMPLETED, Charge(cost, byok), NO_CAPS)
        books.attempts.mark_done(attempt_id, [video(seconds=2.5), video("/outputs/second.mp4", 1.5)])
    assert (total(books).seconds, total(books).nusd_per_second) == (12.0, USD // 4)
    assert ReportRow("nothing").nusd_per_second is None


def test_estimates_are_compared_only_with_bills_of_the_same_shape(books: Books) -> None:
    bills = {}
    for number, lines in enumerate(["per_second"] * BILLS_NEEDED + ["per_token"]):
        [job_id] = books.plan_and_claim([planned("a", usd="0.40", lines=lines)], f"batch-{number}")
        books.bring_to(job_id, S.DONE, cost_nusd=100_000_000)
        bills = books.reports.bills(["a/one", "a/two"])
        assert bool(bills) is (number + 1 >= BILLS_NEEDED)
    assert list(bills) == [("a/one", "per_second")]
    found = bills["a/one", "per_second"]
    assert (found.count, found.estimated_nusd, found.charged_nusd) == (3, 3 * PRICE, 3 * PRICE // 4)


def test_rows_of_jobs_come_in_the_order_of_the_file_and_by_status(books: Books) -> None:
    ids = books.plan_and_claim(in_order("dacb"))
    for job_id in (ids[3], ids[0]):
        books.bring_to(job_id, S.FAILED, cost_nusd=3)
    rows = list(books.reports.job_rows(1, "failed"))
    assert [row["prompt"] for row in rows] == ["d", "b"]
    assert [row["prompt"] for row in books.reports.job_rows(limit=3)] == ["d", "a", "c"]
    shown = [rows[0][name] for name in ("error", "attempts", "batch", "estimate_high_usd")]
    assert shown == ["it ended so", 1, "cats", 0.4]
    assert list(books.reports.job_rows(99)) == []


def test_rows_and_total_are_of_one_moment_while_a_run_writes(
    books: Books, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = books.plan_and_claim(in_order("ab"))
    books.bring_to(first, S.DONE, cost_nusd=1)
    with Ledger.open(path) as reader:
        count = reports._job_counts

        def after_another_wrote(*arguments: object) -> object:
            books.bring_to(second, S.DONE, cost_nusd=1)
            monkeypatch.undo()
            return count(*arguments)  # type: ignore[arg-type] # passed through as they came

        monkeypatch.setattr(reports, "_job_counts", after_another_wrote)
        [row], whole = reader.reports.report("model", Filter())
        assert (row.charged_nusd, row.done, whole.charged_nusd, whole.done) == (1, 1, 1, 1)
        assert total(Books(reader)).charged_nusd == 2


# -- any sequence of steps --------------------------------------------------------------------------------------------

BATCHES, JOBS = ("cats", "dogs"), 3
ATTEMPTS = st.integers(1, 12)
COSTS = st.one_of(st.none(), st.integers(0, 2 * USD))
CAPS = Caps(total=2 * USD, per_job=USD, unpriced=USD // 2)


class AnyHistory(RuleBasedStateMachine):
    """Verbs in any order: refused or not, the kept sum equals that over the attempts, and no cap is passed by a
    reservation."""

    def __init__(self) -> None:
        super().__init__()
        connection = sqlite3.connect(":memory:", isolation_level=None)
        prepare(connection, Path("memory"))
        self.books = Books(Ledger(Database(Path("memory"), connection)))

    @initialize()
    def plan(self) -> None:
        for name in BATCHES:
            prices = ("0.40", "0.000000001", None)
            self.books.plan_and_claim([planned(f"{n}", usd=usd, position=n) for n, usd in enumerate(prices)], name)

    def teardown(self) -> None:
        self.books.ledger.close()

    @rule(batch=st.integers(1, 2), index=st.integers(0, JOBS - 1))
    def reserve(self, batch: int, index: int) -> None:
        job_id = self.books.job_ids(batch)[index]
        try:
            decision = self.books.try_to_reserve(job_id, CAPS)
        except LedgerConflict:
            return
        if not isinstance(decision, Refused):
            assert self.books.attempts.committed(batch, "a/one").total <= 2 * USD

    @rule(which=ATTEMPTS, verb=st.sampled_from(["accept", "reject", "release", "mark_uncertain", "mark_lost"]))
    def step(self, which: int, verb: str) -> None:
        self.attempted(verb, which, f"remote-{which}")  # to all but one of them a reason

    @rule(which=ATTEMPTS, cost=COSTS, byok=st.booleans(), end=st.sampled_from([S.COMPLETED, S.FAILED, S.EXPIRED]))
    def end(self, which: int, cost: int | None, byok: bool, end: Status) -> None:
        self.attempted("end", which, end, Charge(cost, byok), CAPS)

    @rule(which=ATTEMPTS, cost=COSTS, byok=st.booleans())
    def answer(self, which: int, cost: int | None, byok: bool) -> None:
        self.attempted("end_answered", which, S.DONE, Charge(cost, byok), CAPS, outputs=[video(seconds=None)])

    @rule(which=ATTEMPTS, seconds=st.floats(0, 60))
    def finish(self, which: int, seconds: float) -> None:
        self.attempted("mark_done", which, [video(seconds=seconds)])

    @rule(which=ATTEMPTS, cost=st.integers(0, 2 * USD), byok=st.booleans())
    def settle(self, which: int, cost: int, byok: bool) -> None:
        self.attempted("settle", which, Charge(cost, byok), CAPS)

    @rule(which=st.integers(0, 5), cost=st.integers(0, 2 * USD), found=st.sampled_from(["found", "free", "charged"]))
    def resolve(self, which: int, cost: int, found: str) -> None:
        verbs = self.books.attempts
        uncertain = [job.attempt for job in self.books.queries.uncertain() if job.attempt is not None]
        for attempt in uncertain[which : which + 1]:
            if found == "found":
                verbs.attach_remote_id(attempt, f"found-{attempt.id}")
            elif found == "free":
                verbs.resolve_not_charged(attempt)
            else:
                verbs.resolve_charged(attempt, cost)

    @rule(batch=st.integers(1, 2), forgive=st.booleans())
    def reopen(self, batch: int, forgive: bool) -> None:
        self.books.attempts.reopen(self.books.job_ids(batch), reset_attempts=forgive)

    def attempted(self, verb: str, *arguments: object, **named: object) -> None:
        with contextlib.suppress(LedgerError):
            getattr(self.books.attempts, verb)(*arguments, **named)

    @invariant()
    def the_kept_sum_is_the_sum_of_the_attempts(self) -> None:
        rows, by = self.books.database.rows, "group by batch_id, model, day order by batch_id, model, day"
        kept = rows(f"select batch_id, model, day, sum(committed_nusd) from committed {by}")  # noqa: S608
        summed = rows(f"select batch_id, model, day, sum({COUNTED}) from attempts {by}")  # noqa: S608
        [(plain,)] = rows("select coalesce(sum(cost_nusd), 0) from attempts where settled = 1 and is_byok = 0")
        assert [tuple(row) for row in kept] == [tuple(row) for row in summed]
        assert total(self.books).charged_nusd == plain == sum(self.books.reports.spend(n)[0] for n in (1, 2))

    @invariant()
    def a_job_is_open_exactly_while_an_attempt_may_be_paid_for(self) -> None:
        """Above all: a job that may be sent without asking has no attempt that may have been accepted."""
        open_and_pending = self.books.database.count(
            "from jobs join attempts on job_id = jobs.id where jobs.status = 'pending' "
            "and attempts.status in ('submitting', 'submitted', 'completed', 'uncertain')"
        )
        assert open_and_pending == 0


AnyHistory.TestCase.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAnyHistory = AnyHistory.TestCase
