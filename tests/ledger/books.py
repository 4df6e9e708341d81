"""A ledger to test with: batches written by the real planning verb, and short cuts to every state of an attempt."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from orbatch.ledger import (
    AttemptRecord,
    BatchFile,
    BatchRecord,
    Charge,
    Holder,
    Ledger,
    OutputRecord,
    PlannedJob,
    Reservation,
    utc_now,
)
from orbatch.ledger.budget import Caps, Refused
from orbatch.ledger.status import Status

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
    prompt_id: str | None = None,
    stem: str | None = None,
    duration: int = 5,
    lines: Sequence[str] = ("per_second",),
    path: str | None = None,
) -> PlannedJob:
    """A job that costs ``usd`` (None: unpriced). ``path``: a local input, which is not in the key."""
    body: dict[str, object] = {"model": model, "prompt": prompt, "duration": duration}
    if path:
        frame = {"type": "image_url", "image_url": {"url": path}, "frame_type": "first_frame"}
        body["frame_images"] = [frame]
    name = prompt_id or prompt
    price = None if usd is None else int(Decimal(usd) * USD)
    return PlannedJob(
        key="ob1:" + hashlib.sha256(f"{model} {prompt} {duration}".encode()).hexdigest(),
        position=position,
        kind="video",
        model=model,
        prompt_id=name,
        prompt=prompt,
        variables={},
        request=body,
        repeat=1,
        stem=stem or name,
        estimate_low_nusd=int(Decimal(low) * USD) if low else price,
        estimate_exact_nusd=None if low else price,
        estimate_high_nusd=price,
        price_lines=" ".join(lines),
        price_why="said so",
    )


def batch_file(name: str = "cats", origin: str = ORIGIN) -> BatchFile:
    return BatchFile(name, Path("/batches") / f"{name}.yaml", "sha256:2", Path("/outputs") / name, origin)


def video(path: str = "/outputs/cat.mp4", seconds: float | None = 5.0) -> OutputRecord:
    return OutputRecord(path, 1000, "ab" * 32, "video/mp4", seconds, 1280, 720, 24.0, "h264", "aac")


@dataclass
class Books:
    """An open ledger with one claimed batch."""

    ledger: Ledger
    holder: Holder = field(default_factory=Holder.this_process)

    def plan(self, jobs: Iterable[PlannedJob], name: str = "cats") -> BatchRecord:
        return self.ledger.plans.write(batch_file(name), StubCatalog(), jobs)

    def plan_and_claim(self, jobs: Iterable[PlannedJob], name: str = "cats") -> BatchRecord:
        batch = self.plan(jobs, name)
        self.ledger.leases.claim(batch.id, self.holder, utc_now())
        return batch

    def one(self, usd: str | None = "0.40", name: str = "cats") -> str:
        """The id of the only job of a new batch."""
        batch = self.plan_and_claim([planned(f"prompt of {name}", usd=usd)], name)
        return self.job_ids(batch.id)[0]

    def job_ids(self, batch_id: int = 1) -> list[str]:
        with self.ledger.database.read() as db:
            return [
                row[0] for row in db.execute("select id from jobs where batch_id = ? order by position", [batch_id])
            ]

    def try_to_reserve(
        self, job_id: str, caps: Caps = NO_CAPS, *, now: datetime | None = None
    ) -> Reservation | Refused:
        return self.ledger.attempts.reserve(
            job_id, caps, owner=self.holder.owner, origin=ORIGIN, account=ACCOUNT, now=now
        )

    def reserve(self, job_id: str, caps: Caps = NO_CAPS) -> int:
        """The attempt's id."""
        reserved = self.try_to_reserve(job_id, caps)
        assert isinstance(reserved, Reservation)
        return reserved.attempt_id

    def bring_to(self, job_id: str, status: Status, cost_nusd: int | None = 0) -> int | None:
        """Lead a pending job to ``status``; the attempt's id. ``cost_nusd``: what is charged where something is."""
        if status is Status.PENDING:
            return None
        ledger = self.ledger
        attempt_id = self.reserve(job_id)
        if status is Status.REJECTED:
            ledger.attempts.reject(attempt_id, "no such model")
        elif status in (Status.UNCERTAIN, Status.LOST):
            ledger.attempts.mark_uncertain(attempt_id, "the connection was cut")
            if status is Status.LOST:
                ledger.attempts.resolve_charged(self.attempt(job_id), cost_nusd or 0)
        elif status is not Status.SUBMITTING:
            ledger.attempts.accept(attempt_id, f"remote-{attempt_id}", f"gen-{attempt_id}")
            self._follow(attempt_id, status, cost_nusd)
        return attempt_id

    def _follow(self, attempt_id: int, status: Status, cost_nusd: int | None) -> None:
        if status in (Status.FAILED, Status.CANCELLED, Status.EXPIRED):
            self.ledger.attempts.end(attempt_id, status, Charge(cost_nusd), NO_CAPS, error="it ended so")
        elif status in (Status.COMPLETED, Status.DONE):
            self.ledger.attempts.end(attempt_id, Status.COMPLETED, Charge(cost_nusd), NO_CAPS)
            if status is Status.DONE:
                self.ledger.attempts.mark_done(attempt_id, [video(f"/outputs/{attempt_id}.mp4")])

    def status(self, job_id: str) -> Status:
        return self.ledger.queries.job(job_id).status

    def attempt(self, job_id: str, number: int = -1) -> AttemptRecord:
        """Attempt ``number``, counted from 1; or the newest."""
        return self.ledger.queries.attempts(job_id)[number if number < 0 else number - 1]

    def history(self, job_id: str) -> list[str]:
        return [f"{event.from_status} -> {event.to_status}" for event in self.ledger.queries.events(job_id)]

    def changes(self) -> int:
        """Rows that this connection has ever changed."""
        with self.ledger.database.read() as db:
            return int(db.execute("select total_changes()").fetchone()[0])
