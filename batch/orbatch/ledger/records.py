"""What the ledger hands out and takes in: frozen values, no rows. Amounts are nano-dollars, times ISO 8601 in UTC."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from orbatch.ledger.database import LedgerError
from orbatch.ledger.schema import LATEST_ATTEMPT
from orbatch.ledger.status import Status
from orbatch.money import to_nano
from orbatch_provider.responses import Usage

_VALUE_SHOWN = 24  # characters of a variable; some hold whole prompts


@dataclass(frozen=True, slots=True)
class _Job:
    """What a plan and the ledger say of a job. ``request``: the body that is submitted. Estimates None: not known."""

    key: str
    position: int
    kind: str
    model: str
    prompt_id: str
    prompt: str
    variables: Mapping[str, Any]
    request: Mapping[str, Any]
    repeat: int
    stem: str
    estimate_low_nusd: int | None
    estimate_exact_nusd: int | None
    estimate_high_nusd: int | None
    price_lines: str
    price_why: str


@dataclass(frozen=True, slots=True)
class PlannedJob(_Job):
    """A job as a plan has it."""


@dataclass(frozen=True, slots=True)
class JobRecord(_Job):
    """A job with its latest attempt, which is all a runner needs to drive it."""

    id: str
    batch_id: int
    status: Status
    retired: bool
    wait_reason: str | None
    error: str | None
    attempt: AttemptRecord | None

    @property
    def seconds(self) -> int | None:
        """Requested length of the video, in seconds."""
        duration = self.request.get("duration")
        return duration if isinstance(duration, int) else None

    @property
    def variant(self) -> str:
        """What tells it from the other jobs of its prompt and model."""
        return variant_text(self.variables, self.request.get("seed"))


def job_label(prompt_id: str, variant: str, model: str) -> str:
    """A job for people: ``beach (orange, noon, seed 7) · veo-3.1-lite``."""
    name = model.rpartition("/")[2]
    return f"{prompt_id} ({variant}) · {name}" if variant else f"{prompt_id} · {name}"


def variant_text(variables: Mapping[str, Any], seed: object) -> str:
    """``orange, noon, seed 7``: the values of the prompt's variables, cut where they are long, and the seed, if any."""
    texts = [" ".join(str(value).split()) for value in variables.values()]
    shown = [text if len(text) <= _VALUE_SHOWN else f"{text[: _VALUE_SHOWN - 1]}…" for text in texts]
    return ", ".join(shown if seed is None else [*shown, f"seed {seed}"])


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One paid request, or one that may have been paid. ``key``: unique over all ledgers; the request carried it."""

    id: int
    job_id: str
    number: int
    key: str
    status: str
    account: str
    reserved_nusd: int | None
    settled: bool = False
    cost_nusd: int | None = None
    is_byok: bool = False
    remote_id: str | None = None
    generation_id: str | None = None
    error: str | None = None
    created_at: str = ""
    submitted_at: str | None = None
    completed_at: str | None = None


@dataclass(frozen=True, slots=True)
class OutputRecord:
    """A verified file of a job, as it was measured when it was placed. ``seconds`` and ``fps`` are the file's own."""

    path: str
    bytes: int
    sha256: str
    mime_type: str
    seconds: float | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    video_codec: str | None = None
    audio_codec: str | None = None
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class BatchFile:
    """What the ledger keeps of a batch file. ``origin``: the API its jobs are submitted to."""

    name: str
    config_path: Path
    config_sha256: str
    output_dir: Path
    origin: str


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """A batch as it was planned last."""

    id: int
    name: str
    config_path: str
    output_dir: str
    origin: str
    catalog_digest: str | None
    planned_at: str


@dataclass(frozen=True, slots=True)
class Charge:
    """What an answer says of its cost. ``cost_nusd`` None: not known yet, the reservation stands until
    ``generation_id`` tells. ``unreadable``: what the answer has in place of an amount."""

    cost_nusd: int | None = None
    is_byok: bool = False
    generation_id: str | None = None
    unreadable: str = ""

    @classmethod
    def of(cls, usage: Usage | None, generation_id: str | None) -> Self:
        """The charge in an answer's ``usage``; None: the answer has none yet."""
        if usage is None:
            return cls(generation_id=generation_id)
        cost_nusd = None if usage.cost is None else to_nano(usage.cost)
        return cls(cost_nusd, usage.is_byok, generation_id, usage.unreadable_cost)

    def columns(self, at: str) -> dict[str, Any]:
        """Of the attempt, as far as they are known."""
        known: dict[str, Any] = {"is_byok": int(self.is_byok)}
        if self.generation_id is not None:
            known["generation_id"] = self.generation_id
        if self.cost_nusd is not None:
            known |= {"cost_nusd": self.cost_nusd, "settled": 1, "settled_at": at}
        return known


@dataclass(frozen=True, slots=True)
class Reservation:
    """The intent is durable: the request may now leave. ``amount_nusd`` None: unpriced, and no cap asked for one.
    ``key``: of the attempt, random, so that it is the same attempt in every record."""

    attempt_id: int
    number: int
    amount_nusd: int | None
    key: str = ""


@dataclass(frozen=True, slots=True)
class ReusableJob:
    """A finished job of another batch that made the very request of ``pending_id``, and what was charged for it."""

    pending_id: str
    stem: str
    job_id: str
    batch: str
    attempt_id: int
    cost_nusd: int | None


@dataclass(frozen=True, slots=True)
class Settlement:
    """A charge against its reservation. ``overrun_nusd``: how far it lies above what was reserved, 0 if it does not.
    ``cap_exceeded``: the cap that the charge broke, if any."""

    cost_nusd: int | None
    overrun_nusd: int = 0
    cap_exceeded: str | None = None


def columns_of(record: type) -> list[str]:
    """The columns that a record of the ledger is read from: its fields, which are named after them."""
    return [field.name for field in fields(record)]


_JOB_COLUMNS = [name for name in columns_of(JobRecord) if name != "attempt"]
_ATTEMPT_COLUMNS = columns_of(AttemptRecord)
_COLUMNS = ", ".join(
    [f"jobs.{name}" for name in _JOB_COLUMNS] + [f"latest.{name} as attempt_{name}" for name in _ATTEMPT_COLUMNS]
)

SELECT_JOB = f"""
select {_COLUMNS}
from jobs left join attempts latest on latest.id =
  {LATEST_ATTEMPT}
"""

# The same, with each attempt of a job in place of its latest.
SELECT_ATTEMPT = f"""
select {_COLUMNS}
from jobs join attempts latest on latest.job_id = jobs.id
"""

SELECT_ATTEMPT_ALONE = f"select {', '.join(_ATTEMPT_COLUMNS)} from attempts"


def attempt_from_row(row: sqlite3.Row, prefix: str = "") -> AttemptRecord:
    """A row with the columns of an attempt as a value; ``prefix``: of their names."""
    values = {name: row[prefix + name] for name in _ATTEMPT_COLUMNS}
    values["settled"], values["is_byok"] = bool(values["settled"]), bool(values["is_byok"])
    return AttemptRecord(**values)


def parse_json(text: str) -> Any:
    """JSON from a column. Raises LedgerError for what a damaged page has in its place."""
    try:
        return json.loads(text)
    except (ValueError, TypeError) as exc:
        raise LedgerError(
            f"The ledger is damaged: a row has {text[:20]!r} in place of JSON. Restore a backup."
        ) from exc


def job_from_row(row: sqlite3.Row) -> JobRecord:
    """A row of SELECT_JOB as a value."""
    attempt = None if row["attempt_id"] is None else attempt_from_row(row, "attempt_")
    values = {name: row[name] for name in _JOB_COLUMNS}
    values["variables"], values["request"] = parse_json(values["variables"]), parse_json(values["request"])
    values["status"] = Status(values["status"])
    values["retired"] = bool(values["retired"])
    return JobRecord(**values, attempt=attempt)
