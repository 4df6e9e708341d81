"""The jobs of a batch with their results, one at a time, in the order of the batch file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orbatch.ledger.store import Ledger

_JOBS = """
select id as job_id, prompt_id, prompt, variables, model, kind, status, request, repeat, coalesce(error, hold) as error,
  (select sum(cost_nusd) from attempts where job_id = jobs.id) as cost_nusd,
  (select json_group_array(path) from
    (select path from outputs where job_id = jobs.id order by attempt_id, number)) as paths
from jobs where batch_id = ? and retired = 0 order by position
"""


@dataclass(frozen=True, slots=True)
class ExportedJob:
    """``cost_nusd``: over all attempts, None while nothing is known. ``paths``: of its files, the first one first."""

    job_id: str
    prompt_id: str
    prompt: str
    variables: Mapping[str, Any]
    model: str
    kind: str
    status: str
    request: Mapping[str, Any]
    repeat: int
    error: str | None
    cost_nusd: int | None
    paths: tuple[str, ...]


def exported_jobs(ledger: Ledger, batch_id: int) -> Iterator[ExportedJob]:
    """The jobs of the batch file; those whose prompt has left it are not among them."""
    with ledger.reading() as db:
        for row in db.execute(_JOBS, (batch_id,)):
            values = dict(row)
            for name in ("variables", "request", "paths"):
                values[name] = json.loads(values[name])
            yield ExportedJob(**values | {"paths": tuple(values["paths"])})
