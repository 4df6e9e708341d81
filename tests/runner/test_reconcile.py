"""Charges that come late, and readings of the key's usage."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from orbatch.ledger import Caps, Charge, JobRecord, Status
from orbatch.runner.reconcile import SettleResult, reconcile, record_usage
from orbatch_provider import Generation, KeyInfo, NotFoundError, NotSentError, OpenRouterError
from orbatch_provider.errors import BadRequestError, ServerError
from tests.faults.fakes import FakeProvider
from tests.faults.workshop import MODEL, NO_CAPS, Workshop


def unsettled(workshop: Workshop, count: int = 1) -> list[JobRecord]:
    """Completed jobs whose charge the provider did not say."""
    jobs = []
    for _ in range(count):
        job, attempt = workshop.submitted()
        workshop.ledger.attempts.end(attempt.id, Status.COMPLETED, Charge(None, False, f"gen-{attempt.id}"), NO_CAPS)
        jobs.append(workshop.now(job)[0])
    return jobs


def costing(usd: str | None) -> Generation:
    return Generation("", None if usd is None else Decimal(usd), is_byok=False, upstream_inference_cost=None)


async def test_a_charge_that_came_late_takes_the_place_of_the_reservation(
    workshop: Workshop, provider: FakeProvider
) -> None:
    (job,) = unsettled(workshop)
    before = workshop.ledger.attempts.committed(workshop.batch.id, MODEL).total
    provider.generations = lambda _: costing("0.05")

    assert await reconcile(workshop.ledger, provider, [job], NO_CAPS) == SettleResult(1, 0, {})

    assert workshop.now(job)[1].cost_nusd == 50_000_000
    assert before - workshop.ledger.attempts.committed(workshop.batch.id, MODEL).total == 70_000_000


@pytest.mark.parametrize("failure", [NotFoundError(404), BadRequestError(400)], ids=["too early", "refused"])
async def test_one_charge_that_is_not_known_yet_does_not_hold_up_the_others(
    workshop: Workshop, provider: FakeProvider, failure: OpenRouterError
) -> None:
    jobs = unsettled(workshop, 3)
    answers: list[Generation | Exception] = [failure, costing(None), costing("0.05")]
    provider.generations = lambda _: answers.pop(0)

    assert await reconcile(workshop.ledger, provider, jobs, NO_CAPS) == SettleResult(1, 2, {})
    assert [workshop.now(job)[1].settled for job in jobs] == [False, False, True]


@pytest.mark.parametrize("failure", [NotSentError("down"), ServerError(500)], ids=["unreachable", "failing"])
async def test_an_outage_is_met_once_and_not_for_every_charge(
    workshop: Workshop, provider: FakeProvider, failure: OpenRouterError
) -> None:
    jobs = unsettled(workshop, 3)
    asked: list[str] = []

    def fail(generation_id: str) -> OpenRouterError:
        asked.append(generation_id)
        return failure

    provider.generations = fail

    assert await reconcile(workshop.ledger, provider, jobs, NO_CAPS) == SettleResult(0, 3, {})
    assert len(asked) == 1


async def test_an_answer_about_another_generation_settles_nothing(workshop: Workshop, provider: FakeProvider) -> None:
    (job,) = unsettled(workshop)
    provider.generations = lambda _: Generation("gen-of-another", Decimal(1), False, None)

    await reconcile(workshop.ledger, provider, [job], NO_CAPS)

    assert not workshop.now(job)[1].settled


async def test_a_late_charge_above_its_reservation_is_noted_and_names_the_cap_it_breaks(
    workshop: Workshop, provider: FakeProvider
) -> None:
    (job,) = unsettled(workshop)
    provider.generations = lambda _: costing("7")

    result = await reconcile(workshop.ledger, provider, [job], Caps(per_job=1_000_000_000))

    assert "charged 7.00 USD, 6.88 USD more than the 0.12 USD reserved" in workshop.shown(job)
    assert list(result.broken) == [MODEL]
    assert "its price is not what was estimated" in result.broken[MODEL]


@pytest.mark.parametrize(
    "usage",
    [
        pytest.param(KeyInfo("", None, None, None, None), id="not said"),
        pytest.param(KeyInfo("", Decimal("1E+40"), None, None, None), id="not an amount"),
        pytest.param(KeyInfo("", Decimal("-1E+9999999"), None, None, None), id="beyond every number"),
        pytest.param(ServerError(500), id="not answered"),
    ],
)
async def test_usage_that_cannot_be_read_is_no_evidence_and_no_error(
    workshop: Workshop, provider: FakeProvider, usage: KeyInfo | Exception
) -> None:
    provider.usage, provider.account = usage, f"account of {usage}"

    await record_usage(workshop.ledger, provider)

    assert readings(workshop, provider.account) == []


async def test_a_reading_that_does_not_come_holds_up_no_submit(
    workshop: Workshop, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never() -> KeyInfo:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr("orbatch.runner.reconcile.USAGE_TIMEOUT_S", 0.01)
    monkeypatch.setattr(provider, "key", never)

    async with asyncio.timeout(5):
        await record_usage(workshop.ledger, provider)


async def test_usage_is_kept_with_its_account_and_time(workshop: Workshop, provider: FakeProvider) -> None:
    provider.account, provider.usage = "mine", KeyInfo("", Decimal("1.5"), None, None, None)

    await record_usage(workshop.ledger, provider)

    assert readings(workshop, "mine") == [1_500_000_000]


def readings(workshop: Workshop, account: str) -> list[int]:
    with workshop.ledger.database.read() as db:
        rows = db.execute("select usage_nusd from usage_readings where account = ?", (account,)).fetchall()
    return [row[0] for row in rows]
