"""Which generation of the account an uncertain attempt is, if any."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from orbatch.ledger import AttemptRecord, JobRecord, parse_timestamp, utc_now
from orbatch.runner.context import Clock
from orbatch.runner.lookup import Finding, is_due, look_up
from orbatch_provider import Generation, GenerationRow, GenerationRows, NotFoundError, OpenRouterError, VideoJob
from orbatch_provider.errors import InvalidResponseError, ServerError
from tests.faults.fakes import FakeProvider
from tests.faults.workshop import MODEL, Workshop


def uncertain(workshop: Workshop, count: int = 1) -> list[tuple[JobRecord, AttemptRecord]]:
    """Jobs whose submit had no answer."""
    jobs = [workshop.take() for _ in range(count)]
    for job in jobs:
        workshop.ledger.attempts.mark_uncertain(workshop.reserve(job).attempt_id, "no answer")
    return [workshop.now(job) for job in jobs]


def video_id(attempt: AttemptRecord, name: str = "a", late_s: int = 1) -> str:
    return f"gen-vid-{int(parse_timestamp(attempt.created_at).timestamp()) + late_s}-{name}"


def listing(provider: FakeProvider, *rows: GenerationRow, is_complete: bool = True, age_s: int = 0) -> None:
    """Let the account list these generations, and the provider have their jobs."""
    made = utc_now() - timedelta(seconds=age_s) if age_s else None

    def answer(users: Collection[str]) -> GenerationRows:
        return GenerationRows(tuple(row for row in rows if not users or row.user in users), is_complete, made)

    provider.rows = answer
    provider.polls = lambda: VideoJob("gen-vid-1-a", "completed")
    records = {row.id: Generation(row.id, row.cost, False, None, MODEL, row.user) for row in rows}
    provider.generations = lambda generation_id: records.get(generation_id, NotFoundError(404))


async def found(workshop: Workshop, provider: FakeProvider, *jobs: JobRecord, speed: float = 1) -> list[Finding]:
    return await look_up(workshop.ledger, provider, jobs, Clock(speed))


async def test_the_one_generation_that_carries_the_attempts_key_is_its_job(
    workshop: Workshop, provider: FakeProvider
) -> None:
    [(job, attempt), (other, _)] = uncertain(workshop, 2)
    own = video_id(attempt)
    listing(provider, GenerationRow(own, attempt.key, Decimal("0.12")))
    first, second = await found(workshop, provider, job, other)
    assert (first.remote_id, first.is_certain) == (own, True)
    assert first.text == f"the account lists {own} with its key, charged 0.12 USD"
    assert (second.remote_id, second.text) == (None, "the account lists no generation for it yet")


async def test_what_cannot_be_followed_is_said_and_not_taken(workshop: Workshop, provider: FakeProvider) -> None:
    [(job, attempt)] = uncertain(workshop)
    own = GenerationRow(video_id(attempt), attempt.key, Decimal("0.12"))
    listing(provider, own, GenerationRow(video_id(attempt, "b"), attempt.key, None))
    (finding,) = await found(workshop, provider, job)
    assert finding.remote_id is None
    assert finding.text == f"2 generations of the account carry its key: {own.id}, {video_id(attempt, 'b')}"

    listing(provider, own)
    provider.polls = lambda: NotFoundError(404)
    (finding,) = await found(workshop, provider, job)
    assert finding.remote_id is None
    assert finding.text.endswith("charged 0.12 USD; the provider does not have the job any more")

    provider.polls = lambda: ServerError(500)
    assert await found(workshop, provider, job) == []


async def test_a_picture_that_was_in_the_lost_answer_is_only_named(provider: FakeProvider, tmp_path: Path) -> None:
    with Workshop.at(tmp_path, 2, "image", ", n: 2") as workshop:
        [(job, attempt), (other, _)] = uncertain(workshop, 2)
        listing(provider, GenerationRow("gen-1-a", attempt.key, Decimal("0.08")))
        first, second = await found(workshop, provider, job, other)
    assert (first.remote_id, second.remote_id) == (None, None)
    assert first.text.endswith("gen-1-a with its key, charged 0.08 USD; what it made was in the lost response")
    assert second.text == "the account lists no generation for it yet"


async def test_a_list_that_is_not_whole_proves_nothing(workshop: Workshop, provider: FakeProvider) -> None:
    [(job, attempt)] = uncertain(workshop)
    listing(provider, GenerationRow(video_id(attempt), attempt.key, None), is_complete=False)
    with pytest.raises(InvalidResponseError):
        await found(workshop, provider, job)


@pytest.mark.parametrize(
    ("age_s", "speed", "says"), [(0, 1, "yet"), (0, 1e9, "probably never started"), (3600, 1e9, "yet")]
)
async def test_a_day_after_the_submit_an_unlisted_generation_was_probably_never_started(
    workshop: Workshop, provider: FakeProvider, age_s: int, speed: float, says: str
) -> None:
    [(job, _)] = uncertain(workshop)
    listing(provider, age_s=age_s)  # an old answer says nothing about now
    (finding,) = await found(workshop, provider, job, speed=speed)
    assert finding.text.endswith(says)


async def test_without_a_recorded_key_the_only_video_of_those_minutes_is_a_candidate(
    workshop: Workshop, provider: FakeProvider
) -> None:
    _, known = workshop.submitted()
    [(job, attempt)] = uncertain(workshop)
    likely = video_id(attempt)
    known_row = GenerationRow(known.remote_id or "", "", None)
    others = [
        GenerationRow(video_id(attempt, "early", -600), "", None),
        GenerationRow(video_id(attempt, "late", 3600), "", None),
        GenerationRow(video_id(attempt, "foreign"), "another program", None),
        GenerationRow("gen-1795794073-text", "", None),
    ]
    listing(provider, known_row, *others, GenerationRow(likely, "", Decimal("0.12")))
    (finding,) = await found(workshop, provider, job)
    assert (finding.remote_id, finding.is_certain) == (likely, False)
    assert finding.text.startswith(f"it may be {likely}, the one video of {MODEL} from those minutes")

    provider.polls = lambda: NotFoundError(404)
    (finding,) = await found(workshop, provider, job)
    assert finding.remote_id is None

    provider.generations = lambda id_: Generation(id_, None, False, None, "another/model")
    (finding,) = await found(workshop, provider, job)
    assert finding.text == "the account lists no generation for it yet"


async def test_a_record_may_hold_the_key_that_the_list_lacks(workshop: Workshop, provider: FakeProvider) -> None:
    [(job, attempt)] = uncertain(workshop)
    listing(provider, GenerationRow(video_id(attempt), "", Decimal("0.12")))
    provider.generations = lambda id_: Generation(id_, Decimal("0.12"), False, None, MODEL, attempt.key)
    (finding,) = await found(workshop, provider, job)
    assert (finding.remote_id, finding.is_certain) == (video_id(attempt), True)


@pytest.mark.parametrize("count", [2, 30])
async def test_of_several_candidates_none_is_taken(workshop: Workshop, provider: FakeProvider, count: int) -> None:
    [(job, attempt)] = uncertain(workshop)
    listing(provider, *(GenerationRow(video_id(attempt, f"x{number}"), "", None) for number in range(count)))
    (finding,) = await found(workshop, provider, job)
    assert finding.remote_id is None
    assert finding.text.startswith("it may be one of gen-vid-" if count == 2 else "the account lists too many")


async def test_one_candidate_of_two_jobs_is_taken_for_neither(workshop: Workshop, provider: FakeProvider) -> None:
    [(job, attempt), (other, _)] = uncertain(workshop, 2)
    listing(provider, GenerationRow(video_id(attempt), "", None))
    assert [finding.remote_id for finding in await found(workshop, provider, job, other)] == [None, None]


async def test_jobs_of_another_key_or_longer_ago_than_a_query_reaches_are_left_alone(
    workshop: Workshop, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    [(job, _)] = uncertain(workshop)
    provider.account = "another"
    assert await found(workshop, provider, job) == []
    provider.account = "account"
    monkeypatch.setattr("orbatch.runner.lookup.utc_now", lambda: utc_now() + timedelta(days=31))
    assert await found(workshop, provider, job) == []


def test_a_job_is_due_when_its_generation_would_be_listed(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    [(job, _)] = uncertain(workshop)
    assert not is_due(job, 60, Clock())
    monkeypatch.setattr("orbatch.runner.lookup.utc_now", lambda: utc_now() + timedelta(seconds=661))
    assert is_due(job, 60, Clock())
    assert not is_due(job, 120, Clock())
    assert not is_due(job, None, Clock())
    assert is_due(job, None, Clock(speed=2))


async def test_an_unreadable_list_is_an_error(workshop: Workshop, provider: FakeProvider) -> None:
    [(job, _)] = uncertain(workshop)
    provider.rows = lambda _: ServerError(500)
    with pytest.raises(OpenRouterError):
        await found(workshop, provider, job)
