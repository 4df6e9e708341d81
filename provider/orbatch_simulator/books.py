"""The simulator's books: every accepted job of any kind and every download, in memory and in an append-only journal.

A line is written and flushed before the answer it stands for is given, and the journal is replayed at the start, so
that a simulator that is killed goes on with the same jobs, charges and counts. A last line that was cut off is dropped:
its answer was never given. API keys are not in the books; a key is known by the beginning of its hash.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Served:
    """One output as it was first served completely; ``downloads`` counts complete ones."""

    sha256: str
    bytes: int
    downloads: int = 1


@dataclass(frozen=True, slots=True)
class Job:
    """One accepted job. All that will happen to it is decided, and on record, when it is accepted.

    ``accepted_at`` in Unix seconds; ``queue_s`` and ``render_s`` in simulated seconds (the render ends ``queue_s +
    render_s`` after the acceptance). ``ends_as``: completed, failed, cancelled, expired or never_ends. ``cost_usd``:
    what is charged when it ends; ``list_usd``: the price of its order. ``submit_count``: which acceptance of this very
    body it was. ``withheld``: the answer with the id, pictures or text was not given.
    """

    id: str
    generation_id: str
    owner: str
    model: str
    prompt: str
    body: Mapping[str, Any]
    fingerprint: str
    submit_count: int
    accepted_at: float
    queue_s: float
    render_s: float
    ends_as: str
    cost_usd: Decimal
    list_usd: Decimal
    reports_cost: bool
    reports_usage: bool
    is_byok: bool
    withheld: bool
    error: str | None = None
    kind: str = "video"  # or image, text: these end when they are accepted


Status = Callable[[Job], str]


@dataclass(slots=True)
class Books:
    """``jobs``: id -> Job; ``served``: job id -> output index -> Served; ``refused``: HTTP status -> submits refused
    (in memory only); ``bodies``: fingerprint of a request body -> how often it was accepted; ``ordered``: USD of all
    accepted jobs, running ones included; ``ordered_by``: the same by owner."""

    path: Path | None
    status_of: Status
    jobs: dict[str, Job] = field(default_factory=dict)
    served: dict[str, dict[int, Served]] = field(default_factory=dict)
    bodies: Counter[str] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)
    ordered: Decimal = Decimal(0)
    ordered_by: defaultdict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    _by_generation: dict[str, Job] = field(default_factory=dict, repr=False)
    _journal: Any = field(default=None, repr=False)

    def open(self) -> None:
        """Replay the journal and go on writing it. Raises ValueError when the file is something else."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._replay(self.path)
        self._journal = self.path.open("a", encoding="utf-8")

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    @property
    def accepted(self) -> int:
        return len(self.jobs)

    @property
    def charged(self) -> Decimal:
        """USD of all jobs that have ended; a job is charged at its end."""
        return sum((job.cost_usd for job in self.ended()), Decimal(0))

    @property
    def duplicates(self) -> int:
        """Acceptances of a body that had been accepted before under the same key; ``bodies`` has the counts, for
        batches that mean to order the same thing several times."""
        return self.accepted - len(self.bodies)

    @property
    def downloads(self) -> int:
        return sum(served.downloads for outputs in list(self.served.values()) for served in list(outputs.values()))

    def ended(self) -> Iterator[Job]:
        # A copy: the books are read from other threads while jobs come in.
        return (job for job in list(self.jobs.values()) if self.status_of(job) not in ("pending", "in_progress"))

    def of_generation(self, generation_id: str) -> Job | None:
        return self._by_generation.get(generation_id)

    def outputs(self, job_id: str) -> dict[int, Served]:
        """The outputs of a job that were served, by index."""
        return self.served.get(job_id, {})

    def accept(self, job: Job) -> None:
        self._write({"event": "accepted", **asdict(job)})
        self._add(job)

    def serve(self, job_id: str, index: int, sha256: str, size: int) -> None:
        self._write({"event": "served", "id": job_id, "index": index, "sha256": sha256, "bytes": size})
        self._count(job_id, index, sha256, size)

    def reset(self) -> None:
        """Forget everything; the journal says so and keeps what it had."""
        self._write({"event": "reset"})
        self._clear()
        self.refused.clear()

    def summary(self) -> dict[str, Any]:
        """The books as JSON; amounts as decimal strings."""
        return {
            "accepted": self.accepted,
            "charged": _plain(self.charged),
            "ordered": _plain(self.ordered),
            "duplicates": self.duplicates,
            "downloads": self.downloads,
            "refused": {str(status): count for status, count in sorted(self.refused.items())},
            "bodies": dict(self.bodies),
            "jobs": [self._entry(job) for job in list(self.jobs.values())],
        }

    def _entry(self, job: Job) -> dict[str, Any]:
        status = self.status_of(job)
        amounts = {"cost_usd": _plain(job.cost_usd), "list_usd": _plain(job.list_usd)}
        outputs = [{"index": index, **asdict(served)} for index, served in sorted(self.outputs(job.id).items())]
        return asdict(job) | amounts | {"status": status, "outputs": outputs}

    def _add(self, job: Job) -> None:
        self.jobs[job.id] = job
        self._by_generation[job.generation_id] = job
        self.bodies[job.fingerprint] += 1
        self.ordered += job.cost_usd
        self.ordered_by[job.owner] += job.cost_usd

    def _count(self, job_id: str, index: int, sha256: str, size: int) -> None:
        outputs = self.served.setdefault(job_id, {})
        known = outputs.get(index)
        outputs[index] = Served(sha256, size, known.downloads + 1 if known else 1)

    def _clear(self) -> None:
        self.jobs.clear()
        self.served.clear()
        self.bodies.clear()
        self._by_generation.clear()
        self.ordered = Decimal(0)
        self.ordered_by.clear()

    def _write(self, event: Mapping[str, Any]) -> None:
        if self._journal is not None:
            self._journal.write(json.dumps(event, default=str) + "\n")
            self._journal.flush()

    def _replay(self, path: Path) -> None:
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                self._apply(json.loads(line))
            except (ValueError, TypeError, KeyError) as exc:
                raise ValueError(f"{path} is not a simulator's journal (line {number})") from exc
        if len(whole) < len(content):
            with path.open("r+b") as journal:
                journal.truncate(len(whole))

    def _apply(self, event: dict[str, Any]) -> None:
        match event.pop("event"):
            case "accepted":
                amounts = {name: Decimal(event[name]) for name in ("cost_usd", "list_usd")}
                self._add(Job(**event | amounts))
            case "served":
                self._count(event["id"], event["index"], event["sha256"], event["bytes"])
            case "reset":
                self._clear()
            case other:
                raise ValueError(f"unknown event {other}")


def fingerprint(owner: str, body: Mapping[str, Any]) -> str:
    """Names a request body: the same for the same key and JSON content, whatever the order of its fields."""
    canonical = json.dumps([owner, body], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _plain(amount: Decimal) -> str:
    return f"{amount:f}"
