"""A ledger to test with: batches written by the real planning verb, and short cuts to every state of an attempt."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from orbatch.ledger import (
    ENDED_REMOTELY,
    AttemptRecord,
    BatchFile,
    BatchRecord,
    Caps,
    Charge,
    Holder,
    Ledger,
    OutputRecord,
    PlannedJob,
    Refused,
    Reservation,
    Status,
    utc_now,
)

ORIGIN = "https://openrouter.ai"
ACCOUNT = "key-1"
USD = 1_000_000_000  # nano-dollars
NO_CAPS = Caps()


@dataclass(frozen=True, slots=True)
class StubCatalog:
    """A catalog as the ledger keeps it."""

    digest: str = "sha256:1"
    source: str = ORIGIN
    captured_at: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def to_json(self) -> str:
        return "{}"


def planned(
    prompt: str,
    *,
    model: str = "a/one",
    usd: str | None = "0.40",
    low: str | None = None,
    position: int = 1,
    stem: str | None = None,
    lines: str = "per_second",
    path: str | None = None,
) -> PlannedJob:
    """A job that costs ``usd`` (None: unpriced). ``path``: a local input, which is not in the key."""
    body: dict[str, object] = {"model": model, "prompt": prompt, "duration": 5}
    if path:
        body["frame_images"] = [{"type": "image_url", "image_url": {"url": path}, "frame_type": "first_frame"}]
    price = None if usd is None else int(Decimal(usd) * USD)
    return PlannedJob(
        key="ob1:" + hashlib.sha256(f"{model} {prompt}".encode()).hexdigest(),
        position=position,
        kind="video",
        model=model,
        prompt_id=prompt,
        prompt=prompt,
        variables={},
        request=body,
        repeat=1,
        stem=stem or prompt,
        estimate_low_nusd=int(Decimal(low) * USD) if low else price,
        estimate_exact_nusd=None if low else price,
        estimate_high_nusd=price,
        price_lines=lines,
        price_why="said so",
    )


def in_order(prompts: Iterable[object], **settings: str) -> list[PlannedJob]:
    """Jobs of these prompts, in the order of the file."""
    return [planned(str(prompt), position=n, **settings) for n, prompt in enumerate(prompts)]


def batch_file(name: str = "cats") -> BatchFile:
    return BatchFile(name, Path("/batches") / f"{name}.yaml", "sha256:2", Path("/outputs") / name, ORIGIN)


def video(path: str = "/outputs/cat.mp4", seconds: float | None = 5.0) -> OutputRecord:
    return OutputRecord(path, 1000, "ab" * 32, "video/mp4", seconds, 1280, 720, 24.0, "h264", "aac")


@dataclass
class Books:
    """An open ledger with one claimed batch."""

    ledger: Ledger
    holder: Holder = field(default_factory=Holder.this_process)

    def __post_init__(self) -> None:
        ledger = self.ledger
        self.database, self.attempts, self.plans, self.leases = (
            ledger.database,
            ledger.attempts,
            ledger.plans,
            ledger.leases,
        )
        self.queries, self.reports, self.usage = ledger.queries, ledger.reports, ledger.usage

    def plan(self, jobs: Iterable[PlannedJob], name: str = "cats") -> BatchRecord:
        return self.plans.write(batch_file(name), StubCatalog(), jobs)

    def plan_and_claim(self, jobs: Iterable[PlannedJob], name: str = "cats") -> list[str]:
        """The ids of the jobs, in the order of the file."""
        batch = self.plan(jobs, name)
        self.leases.claim(batch.id, self.holder, utc_now())
        return self.job_ids(batch.id)

    def one(self, usd: str | None = "0.40", name: str = "cats") -> str:
        """The id of the only job of a new batch."""
        return self.plan_and_claim([planned(f"prompt of {name}", usd=usd)], name)[0]

    def several(self, count: int) -> list[str]:
        """The ids of as many jobs, each in a batch of its own."""
        return [self.one(name=f"batch-{number}") for number in range(count)]

    def job_ids(self, batch_id: int = 1) -> list[str]:
        query = "select id from jobs where batch_id = :batch_id order by position"
        return [row["id"] for row in self.database.rows(query, batch_id=batch_id)]

    def try_to_reserve(
        self, job_id: str, caps: Caps = NO_CAPS, *, now: datetime | None = None
    ) -> Reservation | Refused:
        return self.attempts.reserve(job_id, caps, owner=self.holder.owner, origin=ORIGIN, account=ACCOUNT, now=now)

    def reserve(self, job_id: str, caps: Caps = NO_CAPS) -> int:
        """The attempt's id."""
        reserved = self.try_to_reserve(job_id, caps)
        assert isinstance(reserved, Reservation)
        return reserved.attempt_id

    def bring_to(self, job_id: str, status: Status, cost_nusd: int | None = 0) -> int | None:
        """Lead a pending job to ``status``; the attempt's id. ``cost_nusd``: what is charged where something is."""
        if status is Status.PENDING:
            return None
        verbs, attempt_id = self.attempts, self.reserve(job_id)
        if status is Status.REJECTED:
            verbs.reject(attempt_id, "no such model")
        elif status in (Status.UNCERTAIN, Status.LOST):
            verbs.mark_uncertain(attempt_id, "the connection was cut")
            if status is Status.LOST:
                verbs.resolve_charged(self.attempt(job_id), cost_nusd or 0)
        elif status is not Status.SUBMITTING:
            verbs.accept(attempt_id, f"remote-{attempt_id}", f"gen-{attempt_id}")
            if status in ENDED_REMOTELY:
                verbs.end(attempt_id, status, Charge(cost_nusd), NO_CAPS, error="it ended so")
            elif status in (Status.COMPLETED, Status.DONE):
                verbs.end(attempt_id, Status.COMPLETED, Charge(cost_nusd), NO_CAPS)
            if status is Status.DONE:
                verbs.mark_done(attempt_id, [video(f"/outputs/{attempt_id}.mp4")])
        return attempt_id

    def status(self, job_id: str) -> Status:
        return self.queries.job(job_id).status

    def attempt(self, job_id: str, number: int = 0) -> AttemptRecord:
        """Attempt ``number``, counted from 1; 0: the newest."""
        return self.queries.attempts(job_id)[number - 1]

    def history(self, job_id: str) -> list[str]:
        return [f"{event.from_status} -> {event.to_status}" for event in self.queries.events(job_id)]

    def changes(self) -> int:
        """Rows that this connection has ever changed."""
        return int(self.database.rows("select total_changes()")[0][0])
