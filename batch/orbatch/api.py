"""``plan`` and ``run`` from Python: the same plan, ledger and safety as on the command line, with values as results.

Both block, also in a notebook, whose event loop they leave alone. Nothing is printed; what the command line would warn
of is in ``warnings``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

from orbatch.cli.plan import check_output_dir, effective, make_view, plan_data
from orbatch.cli.provider import connect
from orbatch.cli.run import run_options
from orbatch.cli.session import Session
from orbatch.export import record_of
from orbatch.money import from_nano
from orbatch.runner import BatchRun, Clock, Event
from orbatch_provider.client import run_in_thread  # the ledger belongs to the thread that opens it


@dataclass(frozen=True, slots=True)
class BatchResult:
    """How a run ended. ``records``: one per job of the batch file, with the columns of ``orbatch export --all`` and
    absolute paths. ``spent_usd``: charged for the batch so far, exact. ``stopped``: why it stopped before it had done
    all it could, None if it did not; ``message`` says more."""

    batch: str
    records: list[dict[str, Any]]
    spent_usd: Decimal
    stopped: str | None
    message: str
    warnings: list[str]

    @property
    def done(self) -> list[dict[str, Any]]:
        """The records of the jobs that are done."""
        return [record for record in self.records if record["status"] == "done"]

    def to_pandas(self) -> Any:
        """The records as a DataFrame. Raises ImportError without pandas."""
        return import_module("pandas").DataFrame(self.records)  # the user's own; orbatch does without


@dataclass(frozen=True, slots=True)
class _Session(Session):
    """The command line's session, which keeps what it would print."""

    messages: list[str] = field(default_factory=list)

    def warn(self, text: str) -> None:
        self.messages.append(text)


def plan_batch(
    path: str | Path, *, only: str | None = None, budget_usd: Decimal | None = None, simulate: bool = False
) -> Mapping[str, Any]:
    """Check and price every job of a batch file, as ``orbatch plan --json``; spends nothing.

    Raises ConfigError, PlanError, LedgerError, and Failure for what the command line refuses.
    """
    session = _session(path, simulate=simulate)

    async def make() -> Mapping[str, Any]:
        async with connect(session, with_journal=False) as connection:
            with session.open_ledger(create=True) as ledger:
                view = await make_view(
                    session, ledger, connection, Path(path), only=only, budget=budget_usd, refresh=False, fresh=False
                )
                return plan_data(view)

    return run_in_thread(make())


def run_batch(
    path: str | Path,
    *,
    only: str | None = None,
    budget_usd: Decimal | None = None,
    simulate: bool = False,
    speed: float | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> BatchResult:
    """Run or resume a batch file, as ``orbatch run --yes``. ``budget_usd`` replaces ``budget.total_usd``; ``on_event``
    is called with each Event, in the thread that runs the batch.

    Raises ConfigError, PlanError, LedgerError, and Failure for what the command line refuses, before anything is spent.
    An interruption leaves what is paid for in the ledger; the next call resumes.
    """
    session = _session(path, simulate=simulate)

    async def run() -> BatchResult:
        async with connect(session, speed=speed) as connection:
            with session.open_ledger(create=True) as ledger:
                view = await make_view(
                    session, ledger, connection, Path(path), only=only, budget=budget_usd, refresh=False, fresh=False
                )
                check_output_dir(ledger, view.plan)
                connection.require_key()
                batch = view.plan.batch
                caps, limits = effective(ledger, view.plan, budget_usd)
                options = run_options(view.plan, caps, limits)
                events = on_event or (lambda _: None)
                result = await BatchRun(
                    ledger, batch, connection.provider, options, Clock(connection.speed), events
                ).run()
                spent, _ = ledger.reports.spend(batch.id)
                return BatchResult(
                    batch.name,
                    [record_of(job) for job in ledger.reports.exported_jobs(batch.id)],
                    from_nano(spent),
                    None if result.stop is None else result.stop.value,
                    result.message,
                    session.messages,
                )

    return run_in_thread(run())


def _session(path: str | Path, *, simulate: bool) -> _Session:
    return _Session(
        None, json=True, quiet=True, log_file=None, simulate=simulate, directory=Path(path).resolve().parent
    )
