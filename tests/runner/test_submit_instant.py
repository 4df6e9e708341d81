"""Kinds whose result is in the answer: it is on disk and in place before the job is done, and no answer is lost."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orbatch.batchfile.loader import load_config
from orbatch.batchfile.models import LimitsConfig
from orbatch.ledger import BatchFile, Charge, Holder, JobRecord, Ledger, Reservation, utc_now
from orbatch.ledger.budget import Caps, Refused
from orbatch.ledger.status import Status
from orbatch.plan.catalogs import Catalogs
from orbatch.plan.estimate import planned_job, price_jobs
from orbatch.plan.jobs import expand
from orbatch.runner import results
from orbatch.runner.context import Clock, Event, RunContext, RunOptions, StopRun
from orbatch.runner.submit import Submitter
from orbatch_provider import ImagesResult, TextResult
from orbatch_provider.catalog import snapshot
from orbatch_provider.errors import (
    BadRequestError,
    NotSentError,
    OpenRouterError,
    OutcomeUnknownError,
    ServerError,
)
from orbatch_provider.image_stream import ImageFile
from orbatch_provider.requests import ImageRequest, TextRequest
from orbatch_provider.responses import UnusableResultError, Usage
from orbatch_simulator.images import image_examples
from orbatch_simulator.text import text_examples
from tests.faults.fakes import FakeProvider
from tests.images import painted

BATCH = """
name: made
output_dir: out
models:
  - {model: bytedance-seed/seedream-4.5, kind: image, resolution: 2K, n: 2}
  - {model: openai/gpt-4o-mini, kind: text, max_tokens: 100}
  - {model: anthropic/claude-haiku-4.5, kind: text, max_tokens: 100, response_format: json}
prompts: [a cat]
filename: "{{ kind }}-{{ position }}"
"""
PAID = Usage(Decimal("0.08"))
CENTS = Usage(Decimal("0.00005"))


class Service(FakeProvider):
    """Answers with ``says``: images in these colours, a text, or an error. ``before``: what happens meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.says: list[str] | str | Exception = ["red", "blue"]
        self.paid: Usage | None = PAID
        self.before: Callable[[], Any] = lambda: None
        self.calls = 0

    async def _arrived(self) -> None:
        self.calls += 1
        waiting = self.before()
        if waiting is not None:
            await waiting
        if isinstance(self.says, Exception):
            raise self.says

    async def create_images(self, request: ImageRequest, directory: Path, stem: str) -> ImagesResult:
        await self._arrived()
        files = []
        for index, color in enumerate(self.says if isinstance(self.says, list) else ()):
            part, content = directory / f"{stem}-{index}.part", painted(color)
            part.write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            files.append(ImageFile(part, "image/png", len(content), digest, 8, 6))
        return ImagesResult(tuple(files), request.image_count, self.paid, "gen-1", ("picture 3: it is empty",))

    async def complete_text(self, request: TextRequest) -> TextResult:
        await self._arrived()
        assert isinstance(self.says, str)
        return TextResult(self.says, "stop", self.paid, "gen-1")


class Bench:
    """A ledger with one job of each kind, and the step under test."""

    def __init__(self, folder: Path) -> None:
        path = folder / "b.yaml"
        path.write_text(BATCH)
        config = load_config(path)
        offers = Catalogs({"video": snapshot(), "image": image_examples(), "text": text_examples()})
        self.ledger = Ledger.open(folder / "ledger.db")
        file = BatchFile("made", path, "sha", folder / "out", "http://127.0.0.1")
        self.batch = self.ledger.plans.write(file, offers, map(planned_job, price_jobs(expand(config), offers)))
        self.holder = Holder.this_process()
        self.ledger.leases.claim(self.batch.id, self.holder, utc_now())
        self.out = folder / "out"
        self.service = Service()
        self.said: list[Event] = []
        self.blocked: dict[str, str] = {}
        self.attempts = 1

    def job(self, model: str = "bytedance-seed/seedream-4.5") -> JobRecord:
        [job] = self.ledger.queries.next_pending(self.batch.id, model, room_nusd=None, unpriced_nusd=None, limit=1)
        return job

    @property
    def text(self) -> JobRecord:
        return self.job("openai/gpt-4o-mini")

    @property
    def structured(self) -> JobRecord:
        return self.job("anthropic/claude-haiku-4.5")

    def reserve(self, job: JobRecord) -> Reservation:
        owner = self.holder.owner
        decision = self.ledger.attempts.reserve(
            job.id, Caps(), owner=owner, origin="http://127.0.0.1", account="account"
        )
        assert not isinstance(decision, Refused)
        return decision

    async def submit(self, job: JobRecord) -> JobRecord:
        options = RunOptions(LimitsConfig(), Caps(), self.out, 30.0, 60.0, self.attempts, frozenset({Status.FAILED}))
        blocked = self.blocked.__setitem__
        context = RunContext(self.ledger, self.service, options, Clock(1000.0), self.said.append, blocked)
        assert await Submitter(context).submit(job, self.reserve(job)) is None
        return self.ledger.queries.job(job.id)

    def history(self, job: JobRecord) -> list[str]:
        return [event.to_status for event in self.ledger.queries.events(job.id)]

    def charged(self) -> int:
        return self.ledger.reports.spend(self.batch.id)[0]

    def reserved(self) -> int:
        return self.ledger.reports.spend(self.batch.id)[1]

    def parts(self) -> list[Path]:
        return [path for path in self.out.rglob("*") if ".part" in path.name]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    with made.ledger:
        yield made


async def test_images_are_in_place_before_the_job_is_done(bench: Bench) -> None:
    done = await bench.submit(bench.job())
    assert done.status is Status.DONE
    assert [(Path(each.path).name, each.width, each.height) for each in bench.ledger.queries.outputs(done.id)] == [
        ("image-1.png", 8, 6),
        ("image-1-2.png", 8, 6),
    ]
    assert [path.read_bytes() for path in (bench.out / "image-1.png", bench.out / "image-1-2.png")] == [
        painted("red"),
        painted("blue"),
    ]
    assert bench.history(done) == ["submitting", "done"]
    assert (bench.charged(), bench.reserved()) == (80_000_000, 0)
    assert bench.parts() == []


async def test_fewer_images_than_requested_are_recorded_and_reported(bench: Bench) -> None:
    bench.service.says = ["red"]
    done = await bench.submit(bench.job())
    [output] = bench.ledger.queries.outputs(done.id)
    assert output.warning == "1 of 2 images were returned; picture 3: it is empty"
    assert any("1 of 2 images were returned" in event.text for event in bench.said)


@pytest.mark.parametrize(
    ("kind", "text", "name", "mime_type"),
    [
        pytest.param("text", "A cat.\nIt purrs \u2026", "text-2.txt", "text/plain", id="text"),
        pytest.param("structured", '{"cat": 1}', "text-3.json", "application/json", id="JSON that was requested"),
    ],
)
async def test_a_text_is_a_file(bench: Bench, kind: str, text: str, name: str, mime_type: str) -> None:
    bench.service.says = text
    done = await bench.submit(getattr(bench, kind))
    [output] = bench.ledger.queries.outputs(done.id)
    assert (Path(output.path).name, output.mime_type) == (name, mime_type)
    assert Path(output.path).read_text("utf-8") == text


async def test_invalid_json_is_a_failed_job_with_its_cost_and_its_text_is_kept(bench: Bench) -> None:
    bench.service.says, bench.service.paid = "Sure! {broken" + "x" * 5000, CENTS
    failed = await bench.submit(bench.structured)
    assert failed.status is Status.FAILED
    assert bench.history(failed) == ["submitting", "submitted", "failed"]
    assert failed.error is not None
    assert "JSON was requested, and the answer is not JSON" in failed.error
    assert len(failed.error) < 700
    [kept] = bench.out.iterdir()
    assert str(kept) in failed.error
    assert kept.read_text() == bench.service.says
    assert (bench.charged(), bench.reserved()) == (50_000, 0)
    assert bench.ledger.queries.outputs(failed.id) == []


async def test_an_empty_text_is_a_failed_job_with_its_cost(bench: Bench) -> None:
    bench.service.says, bench.service.paid = " \n", CENTS
    failed = await bench.submit(bench.text)
    assert failed.status is Status.FAILED
    assert "holds no text" in str(failed.error)
    assert bench.charged() == 50_000


async def test_a_failed_answer_is_retried_as_often_as_the_batch_says(bench: Bench) -> None:
    bench.attempts = 2
    bench.service.says = "no json"
    job = bench.structured
    assert (await bench.submit(job)).status is Status.PENDING
    assert (await bench.submit(job)).status is Status.FAILED
    assert bench.charged() == 160_000_000


async def test_an_answer_without_an_image_is_a_failed_job_with_its_cost(bench: Bench) -> None:
    bench.service.says = UnusableResultError("The answer holds no picture that can be used: there was none", usage=PAID)
    failed = await bench.submit(bench.job())
    assert failed.status is Status.FAILED
    assert bench.charged() == 80_000_000


async def test_a_charge_that_is_not_known_yet_stays_reserved_until_it_is_settled(bench: Bench) -> None:
    bench.service.paid = Usage(None)
    job = bench.job()
    await bench.submit(job)
    [unsettled] = bench.ledger.queries.unsettled(bench.batch.id)
    assert unsettled.attempt is not None
    assert unsettled.attempt.generation_id == "gen-1"
    assert (bench.charged(), bench.reserved()) == (0, 80_000_000)
    bench.ledger.attempts.settle(unsettled.attempt.id, Charge(75_000_000), Caps())
    assert (bench.charged(), bench.reserved()) == (75_000_000, 0)


async def test_a_charge_above_the_reservation_is_written_down(bench: Bench) -> None:
    bench.service.paid = Usage(Decimal("0.50"))
    done = await bench.submit(bench.job())
    assert done.status is Status.DONE
    assert any("more than" in event.text for event in bench.said)


@pytest.mark.parametrize(
    ("kind", "error", "status"),
    [
        pytest.param("image", NotSentError("no route"), Status.PENDING, id="never left"),
        pytest.param("image", ServerError(502, "x", kind="image"), Status.PENDING, id="image 502: not billed"),
        pytest.param("image", BadRequestError(400, "no", kind="image"), Status.REJECTED, id="refused"),
        pytest.param("image", ServerError(500, "oops", kind="image"), Status.UNCERTAIN, id="image 500"),
        pytest.param("image", OutcomeUnknownError("cut off"), Status.UNCERTAIN, id="cut off"),
        pytest.param("text", ServerError(502, "x", kind="text"), Status.UNCERTAIN, id="text 502"),
        pytest.param("text", ServerError(502, kind="text", retryable=True), Status.PENDING, id="retryable 502"),
        pytest.param("text", ServerError(500, kind="text", retryable=False), Status.UNCERTAIN, id="final text 500"),
    ],
)
async def test_each_refusal_leaves_the_job_where_its_money_is(
    bench: Bench, kind: str, error: OpenRouterError, status: Status
) -> None:
    bench.service.says = error
    job = await bench.submit(bench.text if kind == "text" else bench.job())
    assert job.status is status
    assert bench.reserved() == (job.estimate_high_nusd if status is Status.UNCERTAIN else 0)


async def test_nothing_is_submitted_where_nothing_can_be_written(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.out.write_text("a file where the folder should be")
    job = bench.job()
    with pytest.raises(StopRun, match="was not submitted, because its output cannot be saved"):
        await bench.submit(job)
    assert bench.service.calls == 0
    assert bench.job().status is Status.PENDING
    assert bench.reserved() == 0


async def test_nothing_is_submitted_when_the_disk_is_nearly_full(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "FREE_BYTES", 10**18)
    with pytest.raises(StopRun, match="MB are free on the disk"):
        await bench.submit(bench.job())
    assert bench.service.calls == 0


async def test_a_file_in_the_way_is_left_alone_and_the_result_gets_another_name(bench: Bench) -> None:
    bench.out.mkdir()
    (bench.out / "image-1.png").write_bytes(b"somebody else's")
    done = await bench.submit(bench.job())
    assert done.status is Status.DONE
    first, _ = bench.ledger.queries.outputs(done.id)
    assert Path(first.path).name == "image-1-attempt1.png"
    assert first.warning == "another file has the name image-1.png"
    assert (bench.out / "image-1.png").read_bytes() == b"somebody else's"


async def test_a_result_that_cannot_be_placed_is_lost_with_its_cost_and_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("orbatch.runner.results.place", full)
    lost = await bench.submit(bench.job())
    assert lost.status is Status.LOST
    assert bench.history(lost) == ["submitting", "submitted", "completed", "lost"]
    [*parts] = bench.parts()
    assert any(str(part) in str(lost.error) for part in parts)
    assert (bench.charged(), bench.reserved()) == (80_000_000, 0)


async def test_stopped_while_the_request_is_on_its_way_the_job_is_uncertain(bench: Bench) -> None:
    sent, never = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        sent.set()
        await never.wait()

    bench.service.before = hang
    job = bench.job()
    task = asyncio.create_task(bench.submit(job))
    await sent.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert bench.ledger.queries.job(job.id).status is Status.UNCERTAIN
    assert bench.reserved() == 80_000_000


async def test_stopped_after_the_answer_the_result_is_kept_all_the_same(bench: Bench) -> None:
    job = bench.job()
    task = asyncio.create_task(bench.submit(job))

    def stop_soon() -> None:
        asyncio.get_running_loop().call_soon(task.cancel)

    bench.service.before = stop_soon
    await asyncio.gather(task, return_exceptions=True)
    status = bench.ledger.queries.job(job.id).status
    assert status is Status.DONE
    assert bench.charged() == 80_000_000


async def test_an_answer_that_comes_late_ends_an_uncertain_attempt(bench: Bench) -> None:
    job = bench.job()
    attempt_id = bench.reserve(job).attempt_id
    bench.ledger.attempts.mark_uncertain(attempt_id, "another runner thought so")
    bench.ledger.attempts.end_answered(attempt_id, Status.DONE, Charge(80_000_000), Caps(), outputs=[])
    assert bench.ledger.queries.job(job.id).status is Status.DONE
    assert bench.history(job) == ["submitting", "uncertain", "submitted", "completed", "done"]


async def test_what_an_earlier_attempt_left_is_never_written_over(bench: Bench) -> None:
    bench.service.says = OutcomeUnknownError("cut off")
    job = bench.job()
    await bench.submit(job)
    leftover = bench.out / "answer-0123.part"
    leftover.write_bytes(b"perhaps paid for")
    uncertain = bench.ledger.queries.job(job.id)
    assert uncertain.attempt is not None
    bench.ledger.attempts.resolve_not_charged(uncertain.attempt)
    bench.service.says = ["green"]
    assert (await bench.submit(job)).status is Status.DONE
    assert leftover.read_bytes() == b"perhaps paid for"
