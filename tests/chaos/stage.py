"""A run in this process: a real ledger and a real runner, with a provider and a clock that the test writes itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from orbatch.batchfile.loader import load_config
from orbatch.ledger import BatchRecord, JobRecord, Ledger, Status
from orbatch.plan.catalogs import Catalogs
from orbatch.plan.plan import caps_from_config, make_plan
from orbatch.runner.context import Clock, Event, RunOptions
from orbatch.runner.runner import BatchRun, RunResult
from orbatch_provider import NotFoundError, PartFile, Usage, VideoJob, VideoRequest, snapshot
from orbatch_simulator.clips import TINY, render
from tests.faults.fakes import FakeProvider, received

ORIGIN = "http://127.0.0.1:1"
PRICE = Decimal("0.12")  # of every job of the stage: 4 s of google/veo-3.1-lite without sound
QUICK = 1000.0  # times real time
Happens = Callable[[str], Awaitable[None]] | None


class Actor(FakeProvider):
    """A provider that does as it should; a test sets what happens before an answer: ``actor.on_poll = ...``.

    ``submitted`` and ``polled`` are what it was asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.account, self.origin = "account-1", ORIGIN
        self.usage = NotFoundError(404, "not here", paid=False)
        self.generations = lambda _: NotFoundError(404, "not yet", paid=False)
        self.submitted: list[str] = []
        self.polled: list[str] = []
        self.on_submit: Happens = None
        self.on_poll: Happens = None
        self.on_receive: Happens = None

    async def submit(self, request: VideoRequest) -> VideoJob:
        prompt = str(request.prompt)
        self.submitted.append(prompt)
        job_id = f"job-{len(self.submitted)}"
        if self.on_submit is not None:
            await self.on_submit(prompt)
        return VideoJob(job_id, "pending")

    async def poll(self, job_id: str) -> VideoJob:
        self.polled.append(job_id)
        if self.on_poll is not None:
            await self.on_poll(job_id)
        return VideoJob(job_id, "completed", generation_id=f"gen-{job_id}", usage=Usage(PRICE))

    async def receive(self, job_id: str, index: int, part: Path) -> PartFile:
        if self.on_receive is not None:
            await self.on_receive(job_id)
        return received(part, render(TINY) + job_id.encode())


@dataclass
class Stage:
    """A planned batch and what it takes to run it."""

    ledger: Ledger
    batch: BatchRecord
    folder: Path
    options: RunOptions
    actor: Actor = field(default_factory=Actor)
    clock: Clock = field(default_factory=lambda: Clock(QUICK))
    said: list[Event] = field(default_factory=list)

    def run(self) -> BatchRun:
        return BatchRun(self.ledger, self.batch, self.actor, self.options, self.clock, self.said.append)

    async def play(self) -> RunResult:
        async with asyncio.timeout(30):
            return await self.run().run()

    @contextmanager
    def another_process(self) -> Iterator[Ledger]:
        """The same ledger, as somebody else has opened it."""
        self.ledger.commits.flush()  # a process of its own would wait for it; this one would wait for itself
        with Ledger.open(self.ledger.path) as ledger:
            yield ledger

    @property
    def jobs(self) -> list[JobRecord]:
        rows = self.ledger.reports.job_rows(self.batch.id, None, None)
        return [self.ledger.queries.job(row["job_id"]) for row in rows]

    @property
    def statuses(self) -> list[Status]:
        return [job.status for job in self.jobs]

    @property
    def text(self) -> str:
        return "\n".join(event.text for event in self.said)


@contextmanager
def staged(folder: Path, jobs: int = 1, *, in_flight: int = 16, submits_per_minute: int = 600) -> Iterator[Stage]:
    """``jobs`` jobs that are pending."""
    path = folder / "batch.yaml"
    batch = {
        "name": "stage",
        "output_dir": "out",
        "models": ["google/veo-3.1-lite"],
        "defaults": {"duration": 4, "resolution": "720p", "generate_audio": False},
        "prompts": [f"Cat number {n}" for n in range(jobs)],
        "limits": {"in_flight": in_flight, "submits_per_minute": submits_per_minute, "polls_per_second": 1000},
    }
    path.write_text(json.dumps(batch), "utf-8")  # JSON is YAML
    config = load_config(path)
    with Ledger.open(folder / "ledger.db") as ledger:
        catalog = Catalogs({"video": snapshot()}, "snapshot", f"read {datetime.now(UTC)}")
        plan = make_plan(ledger, config, catalog, ORIGIN)
        options = RunOptions(
            limits=config.limits,
            caps=caps_from_config(config.budget),
            output_dir=config.output_dir,
            poll_interval_s=30.0,
            poll_timeout_s=600.0,
        )
        yield Stage(ledger, plan.batch, folder, options)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what it waits for is in the ledger
        await asyncio.sleep(0.001)
