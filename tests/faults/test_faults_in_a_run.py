"""The same faults in a whole run: how often the paid request really leaves, and what the next run makes of the rest."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

from orbatch.batchfile.models import LimitsConfig
from orbatch.ledger import LedgerError, utc_now
from orbatch.ledger.status import Status
from orbatch.runner.context import Clock, Provider, RunOptions
from orbatch.runner.runner import BatchRun, RunResult, Stop
from orbatch_provider.client import OpenRouterProvider
from orbatch_simulator import Fault, Simulator, SimulatorSettings
from tests.faults.faults import FAULTS
from tests.faults.workshop import KEY, NO_CAPS, PAID_CALLS, Healthy, Switch, Workshop, provider_at
from tests.provider.rawserver import Servers

FAST = Clock(1000)


async def run(workshop: Workshop, provider: Provider) -> RunResult:
    workshop.ledger.leases.release(workshop.batch.id, workshop.holder)
    options = RunOptions(LimitsConfig(), NO_CAPS, workshop.output_dir, 2.0, 1800.0)
    return await BatchRun(workshop.ledger, workshop.batch, provider, options, FAST, workshop.said.append).run()


@dataclass(frozen=True)
class Expected:
    """``sent``: how often the paid request left in all. ``stop``: why the run ended before its work was done."""

    sent: int
    ends: Status
    stop: Stop | None = None


ONE_FAULT = {
    ("submit", "400"): Expected(1, Status.REJECTED),
    ("submit", "401"): Expected(1, Status.PENDING, Stop.FAILED),
    ("submit", "402"): Expected(1, Status.PENDING, Stop.NO_CREDIT),
    ("submit", "403-budget"): Expected(1, Status.PENDING, Stop.NO_CREDIT),
    ("submit", "409"): Expected(1, Status.REJECTED),
    ("submit", "429"): Expected(2, Status.DONE),
    ("submit", "500"): Expected(1, Status.UNCERTAIN),
    ("submit", "503"): Expected(2, Status.DONE),
    ("submit", "cut-after"): Expected(1, Status.UNCERTAIN),
    ("submit", "no-id"): Expected(1, Status.UNCERTAIN),
    ("images", "500"): Expected(1, Status.UNCERTAIN),
    ("images", "502"): Expected(2, Status.DONE),
    ("images", "no-id"): Expected(1, Status.FAILED),
    ("text", "500-retryable"): Expected(2, Status.DONE),
    ("text", "502"): Expected(1, Status.UNCERTAIN),
    ("text", "no-id"): Expected(1, Status.FAILED),
}


@pytest.mark.parametrize(("call", "fault"), list(ONE_FAULT))
async def test_only_what_certainly_never_started_is_sent_again(
    tmp_path: Path, servers: Servers, call: str, fault: str
) -> None:
    expected = ONE_FAULT[call, fault]
    healthy = await servers.start(Healthy().script)
    ill = await servers.start(FAULTS[fault].steps[call])
    with Workshop.at(tmp_path, 1, PAID_CALLS[call]) as workshop:
        job = workshop.take()
        async with provider_at(ill) as broken, provider_at(healthy) as well:
            switch = Switch(broken, well, call, 1)
            result = await run(workshop, switch)
            assert (switch.calls, workshop.status(job), result.stop) == (expected.sent, expected.ends, expected.stop)

            again = await run(workshop, switch)  # the next run, with the provider well again

        assert workshop.status(job) is (Status.DONE if expected.ends is Status.PENDING else expected.ends)
        assert switch.calls == expected.sent + (expected.ends is Status.PENDING)
        assert again.stop is None


async def test_an_uncertain_job_that_the_user_finds_is_followed_and_downloaded(tmp_path: Path) -> None:
    lost_answer = Fault("submit", "cut_answer", accept=True, at_byte=0, times=1)
    settings = SimulatorSettings(speed=1000, render_median_s=4, clip_bytes=4000, faults=(lost_answer,))
    async with Simulator(settings) as simulator, OpenRouterProvider(KEY, base_url=simulator.base_url) as provider:
        with Workshop.at(tmp_path, jobs=1) as workshop:
            job = workshop.take()
            await run(workshop, provider)
            assert workshop.status(job) is Status.UNCERTAIN
            rise = workshop.ledger.usage.around(workshop.now(job)[1])
            assert rise is not None  # the key's usage was read before and after

            (accepted,) = simulator.journal.jobs.values()
            workshop.ledger.attempts.attach_remote_id(workshop.now(job)[1], accepted.id)
            await run(workshop, provider)

            assert workshop.status(job) is Status.DONE
            assert workshop.now(job)[1].cost_nusd == int(Decimal("0.12") * 10**9)
            assert len(simulator.journal.jobs) == 1


async def test_a_lease_is_released_also_where_the_place_in_the_receipts_cannot_be_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise LedgerError("The disk is full.")

    settings = SimulatorSettings(speed=1000, render_median_s=4, clip_bytes=4000)
    async with Simulator(settings) as simulator, OpenRouterProvider(KEY, base_url=simulator.base_url) as provider:
        with Workshop.at(tmp_path, jobs=1) as workshop:
            monkeypatch.setattr(workshop.ledger.receipts, "set_position", refuse)
            await run(workshop, provider)
            workshop.ledger.leases.check_free(workshop.batch.id, utc_now())


async def test_every_fault_of_a_read_is_survived_in_one_run(tmp_path: Path) -> None:
    faults = tuple(
        Fault(call, action, status=status, body=body, times=1, delay_s=0.0)
        for call, action, status, body in (
            ("poll", "answer", 404, "json"),
            ("poll", "answer", 500, "html"),
            ("poll", "answer", 200, "truncated"),
            ("poll", "cut", 500, "json"),
            ("poll", "cut_answer", 500, "json"),
            ("content", "answer", 404, "json"),
            ("content", "answer", 409, "json"),
            ("content", "answer", 200, "html"),
            ("content", "cut_answer", 500, "json"),
            ("generation", "answer", 500, "json"),
            ("key", "answer", 500, "json"),
        )
    )
    settings = SimulatorSettings(speed=1000, render_median_s=4, clip_bytes=4000, faults=faults)
    async with Simulator(settings) as simulator, OpenRouterProvider(KEY, base_url=simulator.base_url) as provider:
        with Workshop.at(tmp_path, jobs=3) as workshop:
            result = await run(workshop, provider)

            assert result.stop is None
            assert workshop.ledger.queries.counts(workshop.batch.id)[Status.DONE] == 3
            assert len(simulator.journal.jobs) == 3
            assert sorted(path.suffix for path in workshop.output_dir.glob("*.*")) == ["", ".mp4", ".mp4", ".mp4"]


@pytest.mark.parametrize("body", ["html", "empty", "text"])
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 429, 503])
async def test_what_a_gateway_answers_for_an_accepted_job_is_uncertain(tmp_path: Path, status: int, body: str) -> None:
    gateway = Fault("submit", "answer", accept=True, status=status, body=body, times=1)
    settings = SimulatorSettings(speed=1000, render_median_s=4, clip_bytes=4000, faults=(gateway,))
    async with Simulator(settings) as simulator, OpenRouterProvider(KEY, base_url=simulator.base_url) as provider:
        with Workshop.at(tmp_path, jobs=1) as workshop:
            job = workshop.take()
            await run(workshop, provider)
            await run(workshop, provider)

            assert workshop.status(job) is Status.UNCERTAIN
            assert len(simulator.journal.jobs) == 1  # not bought again


async def test_a_run_waits_for_the_in_flight_budget_of_its_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orbatch.runner.context.bounded_retry_after", lambda asked_s: asked_s / 1000)
    settings = SimulatorSettings(speed=1000, render_median_s=100, clip_bytes=4000, in_flight_usd=Decimal("0.12"))
    async with Simulator(settings) as simulator, OpenRouterProvider(KEY, base_url=simulator.base_url) as provider:
        with Workshop.at(tmp_path, jobs=6) as workshop:
            result = await run(workshop, provider)

            assert result.stop is None
            assert workshop.ledger.queries.counts(workshop.batch.id)[Status.DONE] == 6
            assert len(simulator.journal.jobs) == 6
            assert "in-flight budget" in workshop.text
