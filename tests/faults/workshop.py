"""A ledger full of jobs, a provider that is well, one that is not, and a run's clock that does not wait."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from orbatch.batchfile.loader import load_config
from orbatch.batchfile.models import LimitsConfig
from orbatch.ledger import (
    AttemptRecord,
    BatchRecord,
    Caps,
    Charge,
    Holder,
    JobRecord,
    Ledger,
    Refused,
    Reservation,
    Status,
    utc_now,
)
from orbatch.plan.catalogs import Catalogs
from orbatch.plan.plan import make_plan
from orbatch.runner.context import Clock, Event, Provider, RunContext, RunOptions
from orbatch.runner.download import Downloader
from orbatch.runner.limits import Limits
from orbatch.runner.poll import Poller
from orbatch.runner.submit import Submitter
from orbatch_provider import (
    Catalog,
    Generation,
    GenerationRows,
    ImageRequest,
    ImagesResult,
    KeyInfo,
    OpenRouterProvider,
    PartFile,
    TextRequest,
    TextResult,
    VideoJob,
    VideoModel,
    VideoRequest,
    snapshot,
)
from orbatch_simulator.clips import TINY, payload
from orbatch_simulator.images import image_examples
from orbatch_simulator.text import text_examples
from tests.images import painted
from tests.provider.rawserver import Exchange, RawServer, Step, raw_answer, read_request

KEY = "sk-or-v1-c0ffee0123456789"
MODEL = "google/veo-3.1-lite"
# What each kind of job is made with, and the call that pays for it.
SETTINGS = {
    "video": (MODEL, "duration: 4, resolution: 720p, aspect_ratio: '16:9', generate_audio: false"),
    "image": ("bytedance-seed/seedream-4.5", "resolution: 2K"),
    "text": ("openai/gpt-4o-mini", "max_tokens: 100"),
}
PAID_CALLS = {"submit": "video", "images": "image", "text": "text"}
CALLS = (*PAID_CALLS, "poll", "content", "models", "key", "generation")
CHARGE = "0.12"
NO_CAPS = Caps()


@cache
def clip(label: str = "a") -> bytes:
    """A real clip of one second."""
    content = payload(TINY, label)
    return b"".join(content.chunks())


def call_of(method: str, target: str) -> str:
    """Which of CALLS a request is."""
    path = urlsplit(target).path
    if method == "POST":
        return {"images": "images", "completions": "text"}.get(path.rsplit("/", 1)[-1], "submit")
    if path.endswith("/content"):
        return "content"
    return {"models": "models", "key": "key", "generation": "generation"}.get(path.rsplit("/", 1)[-1], "poll")


def job_of(target: str) -> str:
    """The job id in the path of a poll or a download."""
    return urlsplit(target).path.removesuffix("/content").rsplit("/", 1)[-1]


def pictures(*data: object) -> dict[str, object]:
    """The body of an answer to an image request, which says what it cost."""
    return {"created": 1, "data": data, "usage": {"cost": 0.04}}


def words(*choices: object) -> dict[str, object]:
    """The body of an answer to a text request, which says what it cost."""
    return {"id": "gen-1", "choices": choices, "usage": {"cost": 0.00005}}


@dataclass
class Healthy:
    """Answers every call as the service does when all is well; counts the calls, and the jobs it has accepted."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CALLS, 0))
    status: str = "completed"
    usage: str = "1.00"

    async def step(self, exchange: Exchange) -> None:
        await read_request(exchange)
        assert exchange.request is not None
        call = call_of(exchange.request.method, exchange.request.target)
        self.counts[call] += 1
        exchange.writer.write(self.answer(call, exchange.request.target))
        await exchange.writer.drain()

    def answer(self, call: str, target: str) -> bytes:
        match call:
            case "submit":
                job = f"job-{id(self)}-{self.counts['submit']}"
                return raw_answer({"id": job, "status": "pending", "polling_url": f"/videos/{job}"}, 202)
            case "images":
                return raw_answer(
                    pictures({"b64_json": base64.b64encode(painted()).decode(), "media_type": "image/png"})
                )
            case "text":
                return raw_answer(words({"message": {"content": "A cat."}, "finish_reason": "stop"}))
            case "poll":
                job = job_of(target)
                body = f'{{"id": "{job}", "status": "{self.status}", "generation_id": "gen-1", '
                return raw_answer(body + f'"usage": {{"cost": {CHARGE}, "is_byok": false}}}}')
            case "content":
                return raw_answer(clip(), content_type="video/mp4")
            case "models":
                return raw_answer(json.dumps({"data": snapshot().records}, default=str))
            case "key":
                return raw_answer(f'{{"data": {{"label": "k", "usage": {self.usage}, "limit": null}}}}')
        return raw_answer(f'{{"data": {{"id": "gen-1", "total_cost": {CHARGE}, "is_byok": false}}}}')

    @property
    def script(self) -> list[Step]:
        return [self.step]


class Switch:
    """A provider of which one call goes to the ``ill`` one ``times`` times, and everything else to the healthy one."""

    def __init__(self, ill: OpenRouterProvider, healthy: OpenRouterProvider, call: str, times: float) -> None:
        self.healthy = healthy
        self.account, self.origin = healthy.account, healthy.origin
        self.lists_generations = healthy.lists_generations
        self.calls = 0
        self._ill, self._call, self._left = ill, call, times

    def _for(self, call: str) -> OpenRouterProvider:
        if call != self._call:
            return self.healthy
        self.calls += 1
        self._left -= 1
        return self._ill if self._left >= 0 else self.healthy

    async def submit(self, request: VideoRequest) -> VideoJob:
        return await self._for("submit").submit(request)

    async def create_images(self, request: ImageRequest, directory: Path, stem: str) -> ImagesResult:
        return await self._for("images").create_images(request, directory, stem)

    async def complete_text(self, request: TextRequest) -> TextResult:
        return await self._for("text").complete_text(request)

    async def poll(self, job_id: str) -> VideoJob:
        return await self._for("poll").poll(job_id)

    async def receive(self, job_id: str, index: int, part: Path) -> PartFile:
        return await self._for("content").receive(job_id, index, part)

    async def catalog(self) -> Catalog[VideoModel]:
        return await self._for("models").catalog()

    async def key(self) -> KeyInfo:
        return await self._for("key").key()

    async def generation(self, generation_id: str) -> Generation:
        return await self._for("generation").generation(generation_id)

    async def generations_between(self, start: datetime, end: datetime, users: Collection[str] = ()) -> GenerationRows:
        return await self._for("analytics").generations_between(start, end, users)


class InstantClock(Clock):
    """Waiting takes no time: the run's clock moves by what is waited for, and by nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def now(self) -> float:
        return self._now

    def real(self, seconds: float) -> float:
        self._now += seconds
        return 0.0


class Steps:
    """The steps of a run, on one context."""

    def __init__(self, context: RunContext) -> None:
        self.context = context
        self.submit = Submitter(context).submit
        self.poll = Poller(context).poll_until_ended
        self.download = Downloader(context).download


class Workshop:
    """A ledger with a batch of many equal jobs, each taken once, and the steps of a run for them."""

    def __init__(self, folder: Path, jobs: int = 900, kind: str = "video", more_settings: str = "") -> None:
        self.folder = folder
        model, settings = SETTINGS[kind]
        config = folder / "batch.yaml"
        config.write_text(
            f"name: faults\noutput_dir: out\nmodels: [{model}]\nprompts: [a cat]\nrepeat: {jobs}\n"
            f"defaults: {{kind: {kind}, {settings}{more_settings}}}\n"
        )
        self.ledger = Ledger.open(folder / "ledger.db")
        loaded = Catalogs({"video": snapshot(), "image": image_examples(), "text": text_examples()})
        self.batch: BatchRecord = make_plan(self.ledger, load_config(config), loaded, "http://127.0.0.1").batch
        self.holder = Holder.this_process()
        self.ledger.leases.claim(self.batch.id, self.holder, utc_now())
        self._free = self.ledger.queries.next_pending(
            self.batch.id, model, room_nusd=None, unpriced_nusd=None, limit=jobs
        )
        self.said: list[Event] = []
        self.blocked: dict[str, str] = {}

    @classmethod
    @contextmanager
    def at(cls, folder: Path, jobs: int = 900, kind: str = "video", more_settings: str = "") -> Iterator[Self]:
        made = cls(folder, jobs, kind, more_settings)
        with made.ledger:
            yield made

    @property
    def output_dir(self) -> Path:
        return self.folder / "out"

    @property
    def text(self) -> str:
        return "\n".join(f"{progress.level} {progress.job}: {progress.text}" for progress in self.said)

    def steps(
        self,
        provider: Provider,
        *,
        caps: Caps = NO_CAPS,
        attempts: int = 1,
        retry_on: frozenset[Status] = frozenset(),
        timeout_s: float = 1800.0,
    ) -> Steps:
        self.said, self.blocked = [], {}
        options = RunOptions(LimitsConfig(), caps, self.output_dir, 30.0, timeout_s, attempts, retry_on)
        blocked = self.blocked.__setitem__
        context = RunContext(self.ledger, provider, options, InstantClock(), self.said.append, blocked)
        context.limits = Limits(LimitsConfig(), speed=100_000)
        return Steps(context)

    def take(self) -> JobRecord:
        """A pending job that no other test has had."""
        return self._free.pop()

    def reserve(self, job: JobRecord) -> Reservation:
        owner = self.holder.owner
        reservation = self.ledger.attempts.reserve(
            job.id, NO_CAPS, owner=owner, origin="http://127.0.0.1", account="account"
        )
        assert not isinstance(reservation, Refused)
        return reservation

    def submitted(self) -> tuple[JobRecord, AttemptRecord]:
        """A job that was accepted."""
        job = self.take()
        self.ledger.attempts.accept(self.reserve(job).attempt_id, f"job-{job.id}", "gen-1")
        return self.now(job)

    def completed(self) -> tuple[JobRecord, AttemptRecord]:
        """A job whose charge is recorded, and whose file is still to come."""
        job, attempt = self.submitted()
        self.ledger.attempts.end(attempt.id, Status.COMPLETED, Charge(120_000_000), NO_CAPS)
        return self.now(job)

    def now(self, job: JobRecord) -> tuple[JobRecord, AttemptRecord]:
        fresh = self.ledger.queries.job(job.id)
        assert fresh.attempt is not None
        return fresh, fresh.attempt

    @property
    def spend(self) -> tuple[int, int]:
        """(charged, reserved), in nano-dollars."""
        return self.ledger.reports.spend(self.batch.id)

    def status(self, job: JobRecord) -> Status:
        return self.ledger.queries.job(job.id).status

    def shown(self, job: JobRecord) -> str:
        """What stands beside the job in every report."""
        fresh = self.ledger.queries.job(job.id)
        return f"{fresh.error or ''} {fresh.wait_reason or ''}"


def provider_at(server: RawServer | str, *, patience_s: float = 20.0) -> OpenRouterProvider:
    """``patience_s``: for every answer."""
    url = server if isinstance(server, str) else server.url
    return OpenRouterProvider(KEY, base_url=url, submit_timeout_s=patience_s, read_timeout_s=patience_s)


async def briefly() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)
