"""A paid job is polled until the provider is done with it: outages, refusals, charges and retries."""

from __future__ import annotations

import itertools
from decimal import Decimal

from orbatch.ledger import Caps, Status
from orbatch.runner.context import OUTAGE_LIMIT_S
from orbatch.runner.poll_schedule import MAX_BACKOFF_S, MIN_POLL_INTERVAL_S
from orbatch_provider import OutcomeUnknownError, Usage, VideoJob
from orbatch_provider.errors import InvalidResponseError
from tests.faults.fakes import FakeProvider
from tests.faults.workshop import MODEL, Workshop

UNKNOWN = OutcomeUnknownError("cut off")


async def test_an_outage_of_an_hour_is_waited_out_reported_and_not_held_against_the_job(
    workshop: Workshop, provider: FakeProvider
) -> None:
    job, attempt = workshop.submitted()
    steps = workshop.steps(provider, timeout_s=600)
    clock = steps.context.clock
    provider.polls = lambda: UNKNOWN if clock.now() < 3600 else VideoJob(attempt.remote_id or "", "completed")

    assert await steps.poll(job, attempt) is not None

    assert workshop.status(job) is Status.COMPLETED
    assert workshop.text.count("provider unreachable") == 1
    assert "provider reachable again" in workshop.text


async def test_an_outage_without_end_leaves_the_job_for_the_next_run(
    workshop: Workshop, provider: FakeProvider
) -> None:
    job, attempt = workshop.submitted()
    steps = workshop.steps(provider, timeout_s=600)
    provider.polls = lambda: UNKNOWN

    assert await steps.poll(job, attempt) is None

    assert workshop.status(job) is Status.SUBMITTED
    assert OUTAGE_LIMIT_S < steps.context.clock.now() < 1.1 * OUTAGE_LIMIT_S


async def test_polls_that_are_answered_wrongly_are_reported_once_and_become_rare(
    workshop: Workshop, provider: FakeProvider
) -> None:
    job, attempt = workshop.submitted()
    steps = workshop.steps(provider, timeout_s=36_000)
    clock, asked = steps.context.clock, list[float]()

    def answer() -> VideoJob | Exception:
        asked.append(clock.now())
        right = VideoJob(attempt.remote_id or "", "completed")
        return right if len(asked) > 12 else InvalidResponseError("The response is empty")

    provider.polls = answer
    assert await steps.poll(job, attempt) is not None

    assert workshop.status(job) is Status.COMPLETED
    assert workshop.text.count("5 polls in a row have failed, polling less often: The response is empty") == 1
    assert workshop.text.count("The response is empty") == 2  # once at first, once at the fifth
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked[5:])]
    assert min(pauses) >= 0.75 * MAX_BACKOFF_S


async def test_a_failed_job_is_tried_again_as_often_as_allowed(workshop: Workshop, provider: FakeProvider) -> None:
    job, attempt = workshop.submitted()
    failed = VideoJob(attempt.remote_id or "", "failed", error="moderation", usage=Usage(Decimal("0.03")))
    provider.polls = lambda: failed
    steps = workshop.steps(provider, attempts=2, retry_on=frozenset({Status.FAILED}))

    assert await steps.poll(job, attempt) is None
    assert workshop.status(job) is Status.PENDING
    assert workshop.now(job)[1].cost_nusd == 30_000_000

    workshop.ledger.attempts.accept(workshop.reserve(job).attempt_id, f"second-{job.id}")
    job, attempt = workshop.now(job)
    assert await steps.poll(job, attempt) is None
    assert workshop.status(job) is Status.FAILED


async def test_a_charge_that_is_no_amount_is_unknown_reported_once_and_ends_the_job(
    workshop: Workshop, provider: FakeProvider
) -> None:
    job, attempt = workshop.submitted()
    body = {"id": attempt.remote_id, "status": "completed", "usage": {"cost": {"total_cost": 0.4}}}
    provider.polls = lambda: VideoJob.from_json(body)

    assert await workshop.steps(provider).poll(job, attempt) is not None

    job, attempt = workshop.now(job)
    assert (job.status, attempt.cost_nusd, attempt.settled) == (Status.COMPLETED, None, False)
    assert workshop.text.count("charge unknown: the provider reported \"{'total_cost': 0.4}\"") == 1


async def test_a_charge_that_breaks_a_cap_blocks_the_model(workshop: Workshop, provider: FakeProvider) -> None:
    job, attempt = workshop.submitted()
    dear = VideoJob(attempt.remote_id or "", "completed", usage=Usage(Decimal(99)))
    provider.polls = lambda: dear
    steps = workshop.steps(provider, caps=Caps(total=1_000_000_000))

    await steps.poll(job, attempt)

    assert "USD more than the 0.12 USD reserved" in workshop.text
    assert list(workshop.blocked) == [MODEL]


async def test_nothing_the_provider_says_of_a_job_steers_a_terminal_or_fills_a_ledger(
    workshop: Workshop, provider: FakeProvider
) -> None:
    job, attempt = workshop.submitted()
    hostile = "\x1b[2J" + "x" * 100_000
    states = [VideoJob(attempt.remote_id or "", hostile), VideoJob(attempt.remote_id or "", "failed", error=hostile)]
    provider.polls = lambda: states.pop(0)

    await workshop.steps(provider).poll(job, attempt)

    shown = workshop.shown(job) + workshop.text.replace("\n", "")
    assert shown.isprintable()
    assert len(shown) < 2000


async def test_a_job_of_a_run_that_was_just_stopped_is_polled_as_soon_as_is_polite(
    workshop: Workshop, provider: FakeProvider
) -> None:
    job, attempt = workshop.submitted()
    steps = workshop.steps(provider)
    clock = steps.context.clock
    polled_at: list[float] = []

    def poll() -> VideoJob:
        polled_at.append(clock.now())
        return VideoJob(attempt.remote_id or "", "completed")

    provider.polls = poll
    began = clock.now()

    await steps.poll(job, attempt, resumed=True)

    assert polled_at[0] - began <= MIN_POLL_INTERVAL_S
