"""What the shell offers at the Tab key: batches, jobs, prompts, models and statuses of the ledgers nearby.

Nothing here prints or raises: a shell that completes must never show an error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from orbatch.cli.session import Session

if TYPE_CHECKING:
    from orbatch.ledger import Ledger

MOST_OFFERED = 200


def batches(incomplete: str) -> list[str]:
    """Names of batches that begin so."""
    return _matching(incomplete, lambda ledger: ledger.plans.names())


def jobs(incomplete: str) -> list[str]:
    """Ids of jobs that begin so."""
    return _matching(incomplete, lambda ledger: _column(ledger, "job_id"))


def prompts(incomplete: str) -> list[str]:
    """Prompt ids that begin so."""
    return _matching(incomplete, lambda ledger: _column(ledger, "prompt_id"))


def models(incomplete: str) -> list[str]:
    """Models of jobs that begin so."""
    return _matching(incomplete, lambda ledger: _column(ledger, "model"))


def statuses(incomplete: str) -> list[str]:
    """Statuses that begin so; behind a comma, another one."""
    from orbatch.ledger import Status

    *before, last = incomplete.split(",")
    return [",".join([*before, status]) for status in (*Status, "running") if status.startswith(last)]


def faults(incomplete: str) -> list[str]:
    """Named faults of the simulator that begin so."""
    from orbatch_simulator import NAMED

    return [name for name in NAMED if name.startswith(incomplete)]


def _column(ledger: Ledger, name: str) -> Iterator[str]:
    return (row[name] for row in ledger.reports.job_rows(columns=[name]))


def _matching(incomplete: str, values: Callable[[Ledger], Iterable[str]]) -> list[str]:
    found: dict[str, None] = {}
    for ledger in _ledgers():
        for value in values(ledger):
            if value.startswith(incomplete):
                found[value] = None
            if len(found) == MOST_OFFERED:
                return list(found)
    return list(found)


def _ledgers() -> Iterator[Ledger]:
    """The ledger of the current directory, and the simulator's beside it."""
    from orbatch.ledger import Ledger

    db = os.environ.get("ORBATCH_DB")
    for simulate in (False, True):
        session = Session(Path(db) if db else None, json=False, quiet=True, log_file=None, simulate=simulate)
        try:
            with Ledger.open(session.ledger_path, create=False) as ledger:
                yield ledger
        except Exception:  # noqa: BLE001, S112 - no ledger, or one that cannot be read: nothing to offer
            continue
