"""Compares the ledger and the files on disk with the simulator's journal. Reads plain SQL, not the product's verbs."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

NANO = 1_000_000_000
Journal = Mapping[str, Any]


@dataclass(frozen=True)
class Audit:
    """What an audit found. ``duplicates``: orders of the same job beyond the first. ``lost``: accepted jobs that the
    ledger does not know, or whose right file is not on disk. ``mismatches``: everything else that does not agree."""

    duplicates: int
    lost: tuple[str, ...]
    mismatches: tuple[str, ...]

    @classmethod
    def of(cls, ledger: Path, output_dir: Path, journal: Journal) -> Self:
        with closing(_open(ledger)) as db:
            return cls(
                journal["duplicates"],
                tuple(_lost(db, journal)),
                (*_money(db, journal), *_states(db), *_leftovers(db, output_dir)),
            )

    @property
    def findings(self) -> list[str]:
        return [*(f"{self.duplicates} duplicates",) * bool(self.duplicates), *self.lost, *self.mismatches]


def unknown_jobs(ledger: Path, journal: Journal) -> list[tuple[str, str | None]]:
    """Every uncertain job with the remote id that the journal has for it, None where nothing was ever accepted."""
    with closing(_open(ledger)) as db:
        uncertain = db.execute(
            "select jobs.id, prompt, jobs.model from attempts join jobs on jobs.id = job_id "
            "where attempts.status = 'uncertain' order by attempts.id"
        ).fetchall()
        return [(row["id"], _remote_id(_unrecorded(db, journal), row)) for row in uncertain]


def unaccounted(ledger: Path, journal: Journal) -> list[str]:
    """Accepted jobs that have neither an attempt with their id nor an attempt of unknown fate: what must never be, at
    any instant."""
    with closing(_open(ledger)) as db:
        open_fates = Counter(
            (row["prompt"], row["model"])
            for row in db.execute(
                "select prompt, jobs.model from attempts join jobs on jobs.id = job_id "
                "where attempts.status in ('uncertain', 'submitting')"
            )
        )
        missing = Counter((job["prompt"], job["model"]) for job in _unrecorded(db, journal))
    return [
        f"{count} of {job} were accepted, and the ledger does not know" for job, count in (missing - open_fates).items()
    ]


def ids(ledger: Path) -> set[str]:
    """The remote ids that the ledger knows."""
    with closing(_open(ledger)) as db:
        return {row[0] for row in db.execute("select remote_id from attempts where remote_id is not null")}


def statuses(ledger: Path) -> Counter[str]:
    with closing(_open(ledger)) as db:
        return Counter(row[0] for row in db.execute("select status from jobs"))


def _open(ledger: Path) -> sqlite3.Connection:
    db = sqlite3.connect(ledger, timeout=30)
    db.row_factory = sqlite3.Row
    return db


def _unrecorded(db: sqlite3.Connection, journal: Journal) -> list[Mapping[str, Any]]:
    known = {row[0] for row in db.execute("select remote_id from attempts where remote_id is not null")}
    return [job for job in journal["jobs"] if job["id"] not in known]


def _remote_id(candidates: list[Mapping[str, Any]], row: sqlite3.Row) -> str | None:
    return next(
        (job["id"] for job in candidates if (job["prompt"], job["model"]) == (row["prompt"], row["model"])), None
    )


def _lost(db: sqlite3.Connection, journal: Journal) -> Iterator[str]:
    files = defaultdict(list)
    for row in db.execute(
        "select remote_id, path, sha256, bytes, prompt, jobs.model from outputs "
        "join attempts on attempts.id = attempt_id join jobs on jobs.id = outputs.job_id"
    ):
        files[row["remote_id"]].append(row)
    for job in journal["jobs"]:
        if not files[job["id"]]:
            yield f"{job['id']} was accepted, and the ledger has no file of it"
        for row in files[job["id"]]:
            path = Path(row["path"])
            digest = sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
            served = {output["sha256"] for output in job["outputs"]}
            if {digest} != served or row["sha256"] != digest:
                yield f"{path} is {digest}; the ledger says {row['sha256']}, the provider served {served}"
            if (row["prompt"], row["model"]) != (job["prompt"], job["model"]):
                yield f"{path} shows {job['prompt']}, and {row['prompt']} was ordered"


def _money(db: sqlite3.Connection, journal: Journal) -> Iterator[str]:
    attempts = {
        row["remote_id"]: row["cost_nusd"]
        for row in db.execute("select remote_id, cost_nusd from attempts where remote_id is not null")
    }
    costs = {job["id"]: int(Decimal(job["cost_usd"]) * NANO) for job in journal["jobs"]}
    if attempts != costs:
        yield f"charged by attempt: the ledger says {attempts}, the journal says {costs}"
    (charged,) = db.execute("select coalesce(sum(cost_nusd), 0) from attempts").fetchone()
    if charged != int(Decimal(journal["charged"]) * NANO):
        yield f"{charged} nano-dollars charged in the ledger, {journal['charged']} USD in the journal"
    sums = db.execute(
        "select batch_id, model, day, sum(coalesce(cost_nusd, reserved_nusd, 0)) from attempts group by 1, 2, 3"
    )
    committed = db.execute("select batch_id, model, day, committed_nusd from committed")
    if {tuple(row) for row in sums} != {tuple(row) for row in committed}:
        yield "the sums that caps are checked against are not those of the attempts"
    (reserved,) = db.execute("select coalesce(sum(reserved_nusd), 0) from attempts where settled = 0").fetchone()
    if reserved:
        yield f"{reserved} nano-dollars are still reserved"


def _states(db: sqlite3.Connection) -> Iterator[str]:
    for row in db.execute("select id, status, error from jobs where status <> 'done'"):
        yield f"job {row['id']} is {row['status']}: {row['error']}"
    for row in db.execute("select id, status from attempts where status not in ('done', 'released')"):
        yield f"attempt {row['id']} is {row['status']}"
    if db.execute("select count(*) from batches where lease_owner is not null").fetchone()[0]:
        yield "a lease was left behind"


def _leftovers(db: sqlite3.Connection, output_dir: Path) -> Iterator[str]:
    known = {row[0] for row in db.execute("select path from outputs")}
    for path in output_dir.rglob("*"):
        if path.is_file() and str(path) not in known and path.parent.name != ".orbatch":
            yield f"{path} was left behind"
