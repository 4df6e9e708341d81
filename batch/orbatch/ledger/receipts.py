"""The receipts of a ledger: its history as lines for a second record, and attempts brought back from such lines.

The form of a line is in docs/ledger.md, "Receipts"; the file is that of ``outputs.receipts``.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from orbatch.ledger.attempts import Attempts
from orbatch.ledger.budget import Caps
from orbatch.ledger.database import Database, LedgerError, timestamp, utc_now
from orbatch.ledger.plans import job_id
from orbatch.ledger.records import Charge, OutputRecord, columns_of
from orbatch.ledger.status import ENDED_REMOTELY, Status
from orbatch.ledger.transitions import add_event, insert_attempt

VERSION = 1
_CHUNK = 500  # keys per query
_STARTED_NOTHING = ("released", Status.REJECTED)
_NO_ID = frozenset({Status.SUBMITTING, Status.UNCERTAIN})
# What a second record must hold before anything else is done: an intent, an id, a result that was in the answer.
_URGENT = frozenset({Status.SUBMITTING, Status.SUBMITTED})

_FACTS = ("status", "remote_id", "generation_id", "cost_nusd", "is_byok", "error")
_INTENT = ("number", "origin", "account", "day", "reserved_nusd", "created_at")
_JOB_TEXT = "key kind model prompt_id prompt stem price_lines price_why".split()
_JOB_NUMBERS = "position repeat estimate_low_nusd estimate_exact_nusd estimate_high_nusd".split()
_JOB = [*_JOB_TEXT, *_JOB_NUMBERS]
_STEPS = f"""
select events.id as event_id, events.at, events.from_status, events.to_status, attempts.id as attempt_id,
  attempts.key as attempt,
  {", ".join(f"attempts.{name}" for name in (*_FACTS, *_INTENT))},
  {", ".join(f"jobs.{name} as job_{name}" for name in (*_JOB, "variables", "request"))},
  batches.name as batch, batches.config_path as config, batches.output_dir
from events join attempts on attempts.id = events.attempt_id join jobs on jobs.id = attempts.job_id
  join batches on batches.id = attempts.batch_id
where events.id > :after and attempts.batch_id = :batch_id order by events.id limit :limit
"""
_OUTPUT = columns_of(OutputRecord)
_NEW_BATCH = """
insert into batches (name, config_path, config_sha256, output_dir, origin, created_at, planned_at)
values (:batch, :config, '', :output_dir, :origin, :created_at, :created_at)
on conflict (name) do nothing
"""
_NEW_JOB = f"""
insert into jobs (id, batch_id, variables, request, status, created_at, {", ".join(_JOB)})
values (:id, :batch_id, :variables, :request, 'pending', :created_at, {", ".join(f":{name}" for name in _JOB)})
on conflict (batch_id, key) do nothing
"""
_FOUND = """
select id as job_id, batch_id, model, price_lines, estimate_low_nusd, estimate_exact_nusd, estimate_high_nusd, status,
  (select count(*) + 1 from attempts where job_id = jobs.id) as number
from jobs where batch_id = :batch_id and key = :key
"""


class Line(NamedTuple):
    """One step of an attempt. ``event_id``: of its row of history; ``is_urgent``: nothing may go on before it is on
    disk."""

    event_id: int
    is_urgent: bool
    text: str


@dataclass(slots=True)
class Receipt:
    """What the lines about one attempt say together. ``intent``: its first line, with the job; {} where only later
    lines were read. ``outputs``: with paths below the output directory."""

    key: str
    intent: Mapping[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    outputs: list[OutputRecord] = field(default_factory=list)

    @property
    def status(self) -> str:
        """Where the attempt stood at its last line, as in ``attempts.status``."""
        return str(self.facts.get("status"))

    @property
    def job_key(self) -> str:
        """The key of its job; "" where the first line was not read."""
        return str(self.intent["job"]["key"]) if self.intent else ""

    @property
    def may_be_paid(self) -> bool:
        """Whether the provider may have started it."""
        return self.status not in _STARTED_NOTHING

    def add(self, line: Mapping[str, Any]) -> None:
        """Take in a later line. Raises KeyError, TypeError and ValueError for one that is not ours."""
        if "job" in line:
            self.intent = line
        self.facts |= {name: line[name] for name in _FACTS if line.get(name) is not None}
        self.outputs = [OutputRecord(**each) for each in line["outputs"]] if "outputs" in line else self.outputs


class Receipts:
    """The verbs between a ledger and its receipts."""

    def __init__(self, database: Database, attempts: Attempts) -> None:
        self._database = database
        self._attempts = attempts

    # -- out ----------------------------------------------------------------------------------------------------------

    def lines(self, batch_id: int, after: int, limit: int = 1000) -> list[Line]:
        """The history of a batch behind event ``after``, oldest first; none when there is no more."""
        rows = self._database.rows(_STEPS, batch_id=batch_id, after=after, limit=limit)
        return [Line(row["event_id"], row["to_status"] in _URGENT, self._text(row)) for row in rows]

    def _text(self, row: sqlite3.Row) -> str:
        line = {"v": VERSION, "at": row["at"], "attempt": row["attempt"]}
        line |= {name: row[name] for name in _FACTS if row[name] is not None}
        if row["to_status"] == Status.DONE:
            line["outputs"] = self._outputs(row["attempt_id"], Path(row["output_dir"]))
        if row["from_status"] != Status.PENDING:  # its first line has all that its job is made from
            return json.dumps(line)
        line |= {"batch": row["batch"], "config": row["config"], "output_dir": row["output_dir"]}
        line |= {"ledger": str(self._database.path.absolute())} | {name: row[name] for name in _INTENT}
        job = json.dumps({name: row[f"job_{name}"] for name in _JOB})
        # Both are JSON already; to read a long prompt's request only to write it again would cost as much as the rest.
        job = f'{job[:-1]}, "variables": {row["job_variables"]}, "request": {row["job_request"]}}}'
        return f'{json.dumps(line)[:-1]}, "job": {job}}}'

    def _outputs(self, attempt_id: int, directory: Path) -> list[dict[str, Any]]:
        query = f"select {', '.join(_OUTPUT)} from outputs where attempt_id = :id order by number"
        rows = [dict(row) for row in self._database.rows(query, id=attempt_id)]
        for row in rows:
            with contextlib.suppress(ValueError):  # a file that was placed before the directory was changed
                row["path"] = str(Path(row["path"]).relative_to(directory))
        return rows

    def position(self, batch_id: int) -> tuple[int, int]:
        """(bytes of the receipts that the ledger has read, last event that is in the receipts)."""
        query = "select receipts_read, receipts_written from batches where id = :id"
        row = self._database.row(query, id=batch_id)
        return (0, 0) if row is None else (row["receipts_read"], row["receipts_written"])

    def set_position(self, batch_id: int, read: int, written: int) -> None:
        """Remember what ``position`` returns."""
        with self._database.write() as db:
            values = {"id": batch_id, "read": read, "written": written}
            db.execute("update batches set receipts_read = :read, receipts_written = :written where id = :id", values)

    # -- back ---------------------------------------------------------------------------------------------------------

    def missing(self, receipts: Iterable[Receipt]) -> Iterator[tuple[Receipt, int | None, str]]:
        """Those that know more than this ledger, with its attempt and the attempt's status; None where it has none."""
        remaining = iter(receipts)
        while chunk := list(islice(remaining, _CHUNK)):
            known = {row["key"]: row for row in _rows_of(self._database, [receipt.key for receipt in chunk])}
            for receipt in chunk:
                row = known.get(receipt.key)
                if row is None and receipt.may_be_paid and receipt.intent:
                    yield receipt, None, ""
                elif row is not None and _is_behind(row["status"], row["remote_id"], receipt):
                    yield receipt, row["id"], row["status"]

    def adopt(self, receipt: Receipt, attempt_id: int | None, status: str, outputs: Sequence[OutputRecord]) -> None:
        """Write what a receipt knows into the ledger, which has the attempt as ``status``, or has none of it.

        ``outputs``: its files, with absolute paths, where they are all in place. An attempt without an answer becomes
        uncertain; one whose files are not there is downloaded again.
        """
        if attempt_id is None:
            attempt_id, status = self._insert(receipt), Status.SUBMITTING
            if attempt_id is None:
                return
        facts, verbs = receipt.facts, self._attempts
        charge = Charge(facts.get("cost_nusd"), bool(facts.get("is_byok")), facts.get("generation_id"))
        ended, error = receipt.status, facts.get("error")
        if status in _NO_ID:
            if remote_id := facts.get("remote_id"):
                verbs.accept(attempt_id, remote_id, facts.get("generation_id"))
                status = Status.SUBMITTED
            elif ended in (Status.DONE, Status.FAILED, Status.LOST):  # the result was in the answer
                has_files = ended != Status.DONE or bool(outputs)
                answered = Status(ended) if has_files else Status.LOST
                text = error if has_files else "paid, and its files are gone"
                verbs.end_answered(attempt_id, answered, charge, Caps(), error=text, outputs=outputs)
                return
            elif ended == Status.REJECTED:
                verbs.reject(attempt_id, error or "refused")
            elif not receipt.may_be_paid:
                verbs.release(attempt_id, error or "it never left")
            elif status == Status.SUBMITTING:
                verbs.mark_uncertain(attempt_id, "adopted from the receipts, which have no answer to it")
                return
        if status == Status.SUBMITTED and ended in {Status.COMPLETED, Status.DONE, Status.LOST} | ENDED_REMOTELY:
            status = Status(ended) if ended in ENDED_REMOTELY else Status.COMPLETED
            verbs.end(attempt_id, status, charge, Caps(), error=error)
        if status == Status.COMPLETED and ended == Status.LOST:
            verbs.mark_lost(attempt_id, error or "paid, and lost")
        elif status == Status.COMPLETED and ended == Status.DONE and outputs:
            verbs.mark_done(attempt_id, outputs)

    def _insert(self, receipt: Receipt) -> int | None:
        """The intent of an attempt that the ledger does not have, with its job and its batch. None where the job has
        another open attempt: this one is lost then, and its reservation stands."""
        intent, job = receipt.intent, receipt.intent["job"]
        at = timestamp(utc_now())
        with self._database.write() as db:
            db.execute(
                _NEW_BATCH, {name: intent[name] for name in ("batch", "config", "output_dir", "origin", "created_at")}
            )
            batch_id = int(db.execute("select id from batches where name = :batch", intent).fetchone()["id"])
            values = {name: job[name] for name in _JOB} | {"id": job_id(job["key"], batch_id), "batch_id": batch_id}
            texts = {name: json.dumps(job[name], ensure_ascii=False) for name in ("variables", "request")}
            db.execute(_NEW_JOB, values | texts | {"created_at": intent["created_at"]})
            columns = dict(db.execute(_FOUND, {"batch_id": batch_id, "key": job["key"]}).fetchone())
            old = Status(columns["status"])
            is_free = old in ENDED_REMOTELY | {Status.PENDING, Status.REJECTED, Status.LOST}
            columns |= {name: intent[name] for name in ("origin", "account", "day", "reserved_nusd", "created_at")}
            columns |= {"key": receipt.key, "status": Status.SUBMITTING if is_free else Status.LOST}
            attempt_id = insert_attempt(db, columns)
            if is_free:
                db.execute("update jobs set status = 'submitting' where id = :job_id", {"job_id": columns["job_id"]})
            new = Status.SUBMITTING if is_free else old
            add_event(db, columns["job_id"], attempt_id, at, "adopted from the receipts", old, new)
        return attempt_id if is_free else None


def _is_behind(status: str, remote_id: str | None, receipt: Receipt) -> bool:
    """Whether an attempt of the ledger stands before where its receipt has seen it."""
    if status in _NO_ID:
        # What the user says of an uncertain job is in the ledger, so it stands.
        return receipt.status not in _NO_ID and (receipt.may_be_paid or status == Status.SUBMITTING)
    same_id = remote_id == receipt.facts.get("remote_id")  # another one was typed by the user, who knows better
    if status == Status.SUBMITTED:
        return same_id and receipt.status != Status.SUBMITTED and receipt.status not in _NO_ID
    return status == Status.COMPLETED and receipt.status in (Status.DONE, Status.LOST)


def _rows_of(database: Database, keys: Sequence[str]) -> list[sqlite3.Row]:
    names = {f"key_{number}": key for number, key in enumerate(keys)}
    marks = ", ".join(f":{name}" for name in names)
    return database.rows(f"select id, key, status, remote_id from attempts where key in ({marks})", **names)


def held_elsewhere(path: Path, keys: Sequence[str]) -> set[str]:
    """Which of these attempts another ledger has; none where the file is no ledger, or cannot be read."""
    found: set[str] = set()
    with contextlib.suppress(sqlite3.Error, LedgerError, OSError):
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        with contextlib.closing(connection):
            connection.row_factory = sqlite3.Row
            database = Database(path, connection)
            for start in range(0, len(keys), _CHUNK):
                found |= {row["key"] for row in _rows_of(database, keys[start : start + _CHUNK])}
    return found
