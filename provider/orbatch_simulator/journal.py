"""The simulator's record of accepted jobs and complete downloads, in memory and in an append-only JSON Lines file.

Each line is flushed before the answer that it stands for is sent, and the file is replayed at the start, so a simulator
that was killed resumes with the same jobs, charges and counts. API keys are never recorded: a key is known by the start
of its hash.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO


@dataclass(frozen=True, slots=True)
class ServedOutput:
    """An output that was served completely; ``downloads`` counts complete ones only."""

    sha256: str
    bytes: int
    downloads: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """An accepted job. Everything that will happen to it is decided and recorded when it is accepted.

    ``accepted_at`` in Unix seconds; it ends ``render_s`` simulated seconds later. ``ends_as``: completed, failed,
    cancelled, expired or never_ends. ``cost_usd``: what is charged at its end; ``list_usd``: its list price.
    ``submit_count``: how often this very body had been accepted by then. ``withheld``: the answer with the id, images
    or text was not sent.
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
    render_s: float = 0
    ends_as: str = "completed"
    cost_usd: Decimal
    list_usd: Decimal
    reports_cost: bool
    reports_usage: bool = True
    is_byok: bool = False
    withheld: bool
    error: str | None = None
    kind: str = "video"  # or image, text: these end when they are accepted

    @property
    def usage(self) -> dict[str, Any]:
        """The cost as answers report it."""
        return {"cost": self.cost_usd if self.reports_cost else None, "is_byok": self.is_byok}


@dataclass(slots=True)
class Journal:
    """``served``: job id -> output index -> ServedOutput; ``refused``: HTTP status -> refused paid calls (in memory
    only); ``bodies``: fingerprint of a request body -> how often it was accepted; ``committed``: USD of all accepted
    jobs, running ones included; ``committed_by``: the same by owner."""

    path: Path | None
    status_of: Callable[[Job], str]
    jobs: dict[str, Job] = field(default_factory=dict)  # by id
    served: dict[str, dict[int, ServedOutput]] = field(default_factory=dict)
    bodies: Counter[str] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)
    committed: Decimal = Decimal(0)
    committed_by: defaultdict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    by_generation: dict[str, Job] = field(default_factory=dict)
    _file: TextIO | None = field(default=None, repr=False)

    def open(self) -> None:
        """Replay the file, then append to it. Raises ValueError if the file is not a journal."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._replay(self.path)
        self._file = self.path.open("a", encoding="utf-8")

    def close(self) -> None:
        """Stop appending; what is in memory stays readable."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def accepted(self) -> int:
        """Number of accepted jobs."""
        return len(self.jobs)

    @property
    def charged(self) -> Decimal:
        """USD of all jobs that have ended; a job is charged at its end."""
        return sum((job.cost_usd for job in self.ended()), Decimal(0))

    @property
    def duplicates(self) -> int:
        """Acceptances of a body that had been accepted before under the same key. ``bodies`` has the counts, for
        batches that repeat a request on purpose."""
        return self.accepted - len(self.bodies)

    @property
    def downloads(self) -> int:
        """Number of complete downloads."""
        # Copies here and below: tests read from other threads while the server adds to these.
        return sum(output.downloads for outputs in list(self.served.values()) for output in list(outputs.values()))

    def ended(self) -> Iterator[Job]:
        """Jobs that are over, however they ended."""
        return (job for job in list(self.jobs.values()) if self.status_of(job) not in ("pending", "in_progress"))

    def outputs(self, job_id: str) -> dict[int, ServedOutput]:
        """The outputs of a job that were served, by index."""
        return self.served.get(job_id, {})

    def accept(self, job: Job) -> None:
        """Record a job; it is on disk when this returns."""
        # On disk first: a kill in between must not leave an answer without a record.
        self._write({"event": "accepted", **asdict(job)})
        self._add(job)

    def serve(self, job_id: str, index: int, sha256: str, size: int) -> None:
        """Record a complete download of an output."""
        self._write({"event": "served", "id": job_id, "index": index, "sha256": sha256, "bytes": size})
        self._count(job_id, index, sha256, size)

    def summary(self) -> dict[str, Any]:
        """As JSON for observers in other processes; amounts as decimal strings."""
        return {
            "accepted": self.accepted,
            "charged": _plain(self.charged),
            "committed": _plain(self.committed),
            "duplicates": self.duplicates,
            "downloads": self.downloads,
            "jobs": [self._entry(job) for job in list(self.jobs.values())],
        }

    def _entry(self, job: Job) -> dict[str, Any]:
        status = self.status_of(job)
        amounts = {"cost_usd": _plain(job.cost_usd), "list_usd": _plain(job.list_usd)}
        outputs = [{"index": index, **asdict(output)} for index, output in sorted(self.outputs(job.id).items())]
        return asdict(job) | amounts | {"status": status, "outputs": outputs}

    def _add(self, job: Job) -> None:
        self.jobs[job.id] = job
        self.by_generation[job.generation_id] = job
        self.bodies[job.fingerprint] += 1
        self.committed += job.cost_usd
        self.committed_by[job.owner] += job.cost_usd

    def _count(self, job_id: str, index: int, sha256: str, size: int) -> None:
        outputs = self.served.setdefault(job_id, {})
        known = outputs.get(index)
        outputs[index] = ServedOutput(sha256, size, known.downloads + 1 if known else 1)

    def _write(self, event: Mapping[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(event, default=str) + "\n")
            self._file.flush()  # survives a kill of this process, which is what rehearsals do; not a power cut

    def _replay(self, path: Path) -> None:
        content = path.read_bytes()
        # A last line without its end was cut off by a kill, so its answer was never sent.
        complete = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(complete.splitlines(), 1):
            try:
                self._apply(json.loads(line))
            except (ValueError, TypeError, KeyError) as exc:
                raise ValueError(f"{path} is not a simulator journal (line {number})") from exc
        if len(complete) < len(content):
            with path.open("r+b") as file:
                file.truncate(len(complete))

    def _apply(self, event: dict[str, Any]) -> None:
        match event.pop("event"):
            case "accepted":
                event |= {name: Decimal(event[name]) for name in ("cost_usd", "list_usd")}
                known = [item.name for item in fields(Job)]
                self._add(Job(**{name: event[name] for name in known if name in event}))  # older files have more fields
            case "served":
                self._count(event["id"], event["index"], event["sha256"], event["bytes"])
            case other:
                raise ValueError(f"unknown event {other}")


def fingerprint(owner: str, body: Mapping[str, Any]) -> str:
    """Identify a request: equal for the same key and JSON content, whatever the order of the fields and their
    ``user``, which says for whom something is made and not what."""
    # With the owner: the same request under another key is not a duplicate.
    made = {name: value for name, value in body.items() if name != "user"}
    canonical = json.dumps([owner, made], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _plain(amount: Decimal) -> str:
    return f"{amount:f}"  # never 1E-7
