"""Kinds whose result is in the answer: it is on disk and in place before the job is done, and no answer is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orbatch.ledger import Caps, Charge, JobRecord, Status
from orbatch.runner import results
from orbatch.runner.context import StopRun
from orbatch_provider import NotSentError, OpenRouterError, OutcomeUnknownError, UnusableResultError, Usage
from orbatch_provider.errors import ServerError
from tests.faults.fakes import FakeProvider, files_of, names
from tests.faults.workshop import Workshop
from tests.images import painted

TEXT = ("text", "")
JSON = ("text", ", response_format: json")
CENTS = Usage(Decimal("0.00005"))
HIGH = 80_000_000  # nano-dollars reserved for the two images of a job
FULL = OSError(28, "No space left on device")


@pytest.fixture
def workshop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workshop]:
    """Two images a job, or what the test names."""
    with Workshop.at(tmp_path, 2, *getattr(request, "param", ("image", ", n: 2"))) as made:
        yield made


async def submit(workshop: Workshop, provider: FakeProvider, answer: Any, **options: Any) -> JobRecord:
    job = workshop.take()
    provider.answer(answer)
    await workshop.steps(provider, **options).submit(job, workshop.reserve(job))
    return workshop.now(job)[0]


def history(workshop: Workshop, job: JobRecord) -> list[str]:
    return [event.to_status for event in workshop.ledger.queries.events(job.id)]


async def test_images_are_in_place_before_the_job_is_done(workshop: Workshop, provider: FakeProvider) -> None:
    done = await submit(workshop, provider, ["red", "blue"])

    assert done.status is Status.DONE
    assert [(each.width, each.height) for each in files_of(workshop, done)] == [(8, 6), (8, 6)]
    first, second = (workshop.output_dir / f"{done.stem}{end}.png" for end in ("", "-2"))
    assert (first.read_bytes(), second.read_bytes()) == (painted("red"), painted("blue"))
    assert history(workshop, done) == ["submitting", "done"]
    assert workshop.spend == (80_000_000, 0)
    assert sorted(workshop.output_dir.iterdir()) == sorted([first, second])  # no part is left


async def test_fewer_images_than_requested_are_recorded_and_reported(
    workshop: Workshop, provider: FakeProvider
) -> None:
    done = await submit(workshop, provider, ["red"])

    [output] = files_of(workshop, done)
    assert output.warning == "1 of 2 images were returned; picture 3: it is empty"
    assert output.warning in workshop.text


@pytest.mark.parametrize(
    ("workshop", "text", "suffix", "mime_type"),
    [
        pytest.param(TEXT, "A cat.\nIt purrs \u2026", ".txt", "text/plain", id="text"),
        pytest.param(JSON, '{"cat": 1}', ".json", "application/json", id="JSON that was requested"),
    ],
    indirect=["workshop"],
)
async def test_a_text_is_a_file(
    workshop: Workshop, provider: FakeProvider, text: str, suffix: str, mime_type: str
) -> None:
    done = await submit(workshop, provider, text)

    [output] = files_of(workshop, done)
    assert (Path(output.path).name, output.mime_type) == (f"{done.stem}{suffix}", mime_type)
    assert Path(output.path).read_text("utf-8") == text


@pytest.mark.parametrize("workshop", [JSON], indirect=True)
async def test_invalid_json_is_a_failed_job_with_its_cost_and_its_text_is_kept(
    workshop: Workshop, provider: FakeProvider
) -> None:
    text, provider.paid = "Sure! {broken" + "x" * 5000, CENTS
    failed = await submit(workshop, provider, text)

    assert failed.status is Status.FAILED
    assert history(workshop, failed) == ["submitting", "submitted", "failed"]
    assert failed.error is not None
    assert "JSON was requested, and the answer is not JSON" in failed.error
    assert len(failed.error) < 700
    [kept] = workshop.output_dir.iterdir()
    assert str(kept) in failed.error
    assert kept.read_text() == text
    assert workshop.spend == (50_000, 0)
    assert files_of(workshop, failed) == []


@pytest.mark.parametrize(
    ("workshop", "answer", "error"),
    [
        pytest.param(TEXT, " \n", "holds no text", id="empty text"),
        pytest.param(
            ("image", ""),
            UnusableResultError("The answer holds no picture", usage=CENTS),
            "no picture",
            id="no image",
        ),
    ],
    indirect=["workshop"],
)
async def test_an_answer_without_a_result_is_a_failed_job_with_its_cost(
    workshop: Workshop, provider: FakeProvider, answer: Any, error: str
) -> None:
    provider.paid = CENTS
    failed = await submit(workshop, provider, answer)

    assert failed.status is Status.FAILED
    assert error in (failed.error or "")
    assert workshop.spend == (50_000, 0)


@pytest.mark.parametrize("workshop", [JSON], indirect=True)
async def test_a_failed_answer_is_retried_as_often_as_the_batch_says(
    workshop: Workshop, provider: FakeProvider
) -> None:
    job = workshop.take()
    steps = workshop.steps(provider, attempts=2, retry_on=frozenset({Status.FAILED}))
    provider.answer("no json")
    statuses = []
    for _ in range(2):
        await steps.submit(job, workshop.reserve(job))
        statuses.append(workshop.status(job))

    assert statuses == [Status.PENDING, Status.FAILED]
    assert workshop.spend[0] == 160_000_000


async def test_a_charge_that_is_not_known_yet_stays_reserved_until_it_is_settled(
    workshop: Workshop, provider: FakeProvider
) -> None:
    provider.paid = Usage(None)
    await submit(workshop, provider, ["red", "blue"])

    [unsettled] = workshop.ledger.queries.unsettled(workshop.batch.id)
    assert unsettled.attempt is not None
    assert unsettled.attempt.generation_id == "gen-1"
    assert workshop.spend == (0, HIGH)
    workshop.ledger.attempts.settle(unsettled.attempt.id, Charge(75_000_000), Caps())
    assert workshop.spend == (75_000_000, 0)


async def test_a_charge_above_the_reservation_is_written_down(workshop: Workshop, provider: FakeProvider) -> None:
    provider.paid = Usage(Decimal("0.50"))
    assert (await submit(workshop, provider, ["red", "blue"])).status is Status.DONE
    assert "more than" in workshop.text


@pytest.mark.parametrize(
    ("workshop", "error", "status"),
    [
        pytest.param(("image", ""), NotSentError("no route"), Status.PENDING, id="never left"),
        pytest.param(("image", ""), OutcomeUnknownError("cut off"), Status.UNCERTAIN, id="cut off"),
        pytest.param(TEXT, ServerError(500, kind="text", retryable=False), Status.UNCERTAIN, id="final text 500"),
    ],
    indirect=["workshop"],
)
async def test_what_is_uncertain_stays_reserved_and_what_never_started_does_not(
    workshop: Workshop, provider: FakeProvider, error: OpenRouterError, status: Status
) -> None:
    job = await submit(workshop, provider, error)
    assert job.status is status
    assert workshop.spend == (0, job.estimate_high_nusd if status is Status.UNCERTAIN else 0)


@pytest.mark.parametrize("is_full", [True, False], ids=["disk nearly full", "directory is a file"])
async def test_nothing_is_submitted_where_nothing_can_be_written(
    workshop: Workshop, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, is_full: bool
) -> None:
    if is_full:
        monkeypatch.setattr(results, "FREE_BYTES", 10**18)
    else:
        workshop.output_dir.write_text("a file where the folder should be")
    job = workshop.take()
    with pytest.raises(StopRun, match="its output cannot be saved in .*" + "MB are free on the disk" * is_full):
        await workshop.steps(provider).submit(job, workshop.reserve(job))

    assert not provider.asked.is_set()
    assert workshop.status(job) is Status.PENDING
    assert "its output cannot be saved" in workshop.shown(job)
    assert workshop.spend == (0, 0)


async def test_a_file_in_the_way_is_left_alone_and_the_result_gets_another_name(
    workshop: Workshop, provider: FakeProvider
) -> None:
    job = workshop.take()
    taken = workshop.output_dir / f"{job.stem}.png"
    workshop.output_dir.mkdir()
    taken.write_bytes(b"somebody else's")
    provider.answer(["red", "blue"])
    await workshop.steps(provider).submit(job, workshop.reserve(job))

    assert workshop.status(job) is Status.DONE
    first, _ = files_of(workshop, job)
    assert Path(first.path).name == f"{job.stem}-attempt1.png"
    assert first.warning == f"another file has the name {taken.name}"
    assert taken.read_bytes() == b"somebody else's"


async def test_a_result_that_cannot_be_placed_is_lost_with_its_cost_and_named(
    workshop: Workshop, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise FULL

    monkeypatch.setattr("orbatch.runner.results.place", full)
    lost = await submit(workshop, provider, ["red", "blue"])

    assert lost.status is Status.LOST
    assert history(workshop, lost) == ["submitting", "submitted", "completed", "lost"]
    assert any(str(part) in str(lost.error) for part in workshop.output_dir.glob("*.part*"))
    assert workshop.spend == (80_000_000, 0)


@pytest.mark.parametrize("is_answered", [True, False])
async def test_stopped_after_the_answer_the_result_is_kept_and_before_it_the_job_is_uncertain(
    workshop: Workshop, provider: FakeProvider, is_answered: bool
) -> None:
    job = workshop.take()
    task = asyncio.create_task(workshop.steps(provider).submit(job, workshop.reserve(job)))
    await provider.asked.wait()
    if is_answered:
        provider.answer(["red", "blue"])
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert workshop.status(job) is (Status.DONE if is_answered else Status.UNCERTAIN)
    assert workshop.spend == ((80_000_000, 0) if is_answered else (0, HIGH))


async def test_what_an_earlier_attempt_left_is_never_written_over(workshop: Workshop, provider: FakeProvider) -> None:
    job = await submit(workshop, provider, OutcomeUnknownError("cut off"))
    leftover = workshop.output_dir / "answer-0123.part"
    leftover.write_bytes(b"perhaps paid for")
    workshop.ledger.attempts.resolve_not_charged(workshop.now(job)[1])
    provider.answer(["green"])
    await workshop.steps(provider).submit(job, workshop.reserve(job))

    assert workshop.status(job) is Status.DONE
    assert leftover.read_bytes() == b"perhaps paid for"
    assert names(workshop, job) == [".png"]
