"""``run``: plan, ask, drive, account."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import typer

from orbatch.batchfile.models import BatchConfig
from orbatch.cli.exit_codes import Exit, exit_code
from orbatch.cli.plan import Means, plan_data, plan_lines, plan_table, planned
from orbatch.cli.progress import Watcher, watching
from orbatch.cli.provider import Connection, connected
from orbatch.cli.report import report_table, row_data
from orbatch.cli.resolve import uncertain_data, uncertain_lines
from orbatch.cli.session import Failure, Session, confirmed
from orbatch.cli.tables import amount, pluralize
from orbatch.ledger import BatchRecord, Counts, Filter, Ledger
from orbatch.ledger.status import Status
from orbatch.plan.plan import Plan, caps_from_config, is_loopback
from orbatch.plan.plan_file import PlanFile, check_against_file, read_plan_file
from orbatch.runner.context import Clock, RunOptions
from orbatch.runner.runner import BatchRun, RunResult, Stop
from orbatch_provider.errors import ConfigurationError

SHOWN = 10  # ended jobs that are named one by one
_WITHOUT_RESULT = (Status.REJECTED, Status.FAILED, Status.CANCELLED, Status.EXPIRED, Status.LOST)


def show_outcome(session: Session, ledger: Ledger, batch: BatchRecord, result: RunResult, *, simulate: bool) -> None:
    """Print how the run ended; with --json as one object."""
    counts = ledger.queries.counts(batch.id)
    total = ledger.reports.total(Filter(batch.id))
    if session.json:
        session.data(_data(ledger, batch, result, counts, simulate=simulate))
        return
    if counts.total > 1:
        session.print(report_table("model", ledger.reports.rows("model", Filter(batch.id)), total))
    open_jobs = counts[Status.SUBMITTED] + counts[Status.COMPLETED] + counts[Status.SUBMITTING]
    session.result(
        f"{batch.name}: {', '.join(_standing(counts, open_jobs))}. Spent {amount(total.charged_nusd)} USD, "
        f"reserved {amount(total.reserved_nusd)} USD. Files: {batch.output_dir}"
    )
    for line in _what_needs_the_user(ledger, batch, result, counts, session.flags(simulate=simulate)):
        session.warn(line)
    if result.stop is not None or open_jobs:
        session.warn(f"Run the same command to go on: {session.command}")


def _standing(counts: Counts, open_jobs: int) -> list[str]:
    """Where the jobs stand; what there is none of is left out, but for the first."""
    ended = sum(counts[status] for status in _WITHOUT_RESULT)
    parts = [
        (open_jobs, "paid for and not finished"),
        (counts[Status.PENDING], "not sent"),
        (ended, "without a result"),
        (counts[Status.UNCERTAIN], "uncertain"),
    ]
    return [f"{counts[Status.DONE]} of {counts.total} done", *(f"{number} {what}" for number, what in parts if number)]


def _what_needs_the_user(
    ledger: Ledger, batch: BatchRecord, result: RunResult, counts: Counts, flags: str
) -> list[str]:
    lines = []
    if result.stop is Stop.INTERRUPTED:
        lines.append("Interrupted. Jobs in flight go on at the provider; they are paid for and will be collected.")
    elif result.stop is not None:
        lines.append(result.message if result.message.startswith("Stopped") else f"Stopped: {result.message}")
    lines += [f"Not submitted further: {reason}" for reason in result.blocked.values()]
    lines += _ended_lines(ledger, batch, counts, flags)
    if result.over_budget:
        lines += [f"{pluralize(jobs, 'job')} not sent: {reason}" for reason, jobs in ledger.queries.holds(batch.id)]
    return lines + uncertain_lines(ledger, batch.id, flags)


def _ended_lines(ledger: Ledger, batch: BatchRecord, counts: Counts, flags: str) -> list[str]:
    lines = []
    for status in (*_WITHOUT_RESULT, Status.SUBMITTED, Status.COMPLETED):
        rows = [row for row in ledger.reports.job_rows(batch.id, status, SHOWN) if row["error"]]
        lines += [f"{row['prompt_id']} {row['model']} ({row['job_id']}) {status}: {row['error']}" for row in rows]
        if counts[status] > SHOWN and rows:
            more = f"orbatch jobs {batch.name} --status {status}{flags}"
            lines.append(f"... and {counts[status] - SHOWN} more {status}: {more}")
    retryable = [status for status in _WITHOUT_RESULT if counts[status] and status is not Status.LOST]
    if retryable:
        chosen = "" if retryable == [Status.FAILED] else f" --status {','.join(retryable)}"
        lines.append(f"To buy these again: orbatch retry {batch.name}{chosen}{flags}, then run.")
    return lines


def _data(ledger: Ledger, batch: BatchRecord, result: RunResult, counts: Counts, *, simulate: bool) -> dict[str, Any]:
    return {
        "batch": batch.name,
        "simulated": simulate,
        "stopped": None if result.stop is None else result.stop.value,
        "message": result.message,
        "over_budget": result.over_budget,
        "blocked": dict(result.blocked),
        "output_dir": batch.output_dir,
        "jobs": dict(counts.by_status),
        "total": row_data(ledger.reports.total(Filter(batch.id))),
        "holds": [{"reason": reason, "jobs": jobs} for reason, jobs in ledger.queries.holds(batch.id)],
        "uncertain": uncertain_data(ledger, batch.id),
    }


@dataclass(frozen=True, slots=True)
class RunArguments:
    """What the command line says about a run."""

    simulate: bool = False
    dry_run: bool = False
    yes: bool = False
    budget: Decimal | None = None
    in_flight: int | None = None
    only: str | None = None
    fail_fast: bool = False
    refresh: bool = False
    speed: float | None = None


def run_batch(session: Session, path: Path, arguments: RunArguments) -> None:
    code = asyncio.run(_run(session, path, arguments))
    if code:
        raise typer.Exit(code)


async def _run(session: Session, path: Path, arguments: RunArguments) -> Exit:
    session.check_log_file()
    file = read_plan_file(path)
    if file is not None:
        arguments = _as_in_file(arguments, file)
        path = Path(file.config)
    async with connected(session, simulate=arguments.simulate, speed=arguments.speed) as connection:
        _check_speed(connection, arguments)
        with session.open_ledger(simulate=arguments.simulate, create=True) as ledger:
            means = await planned(
                session,
                ledger,
                connection,
                path,
                only=arguments.only,
                budget=arguments.budget,
                refresh=arguments.refresh,
            )
            plan = means.plan
            if file is not None:
                check_against_file(plan, file, simulated=arguments.simulate)
            if arguments.dry_run:
                _show_dry(session, means)
                return Exit.DONE
            asks = not (connection.simulated or arguments.yes) and plan.to_submit > 0
            for line in plan_lines(means):
                (session.warn if asks else session.say)(line)
            _require_key(connection)
            if asks:
                _ask(ledger, plan)
            result = await drive(session, ledger, plan.batch, connection, options_of(plan.config, arguments))
            counts = ledger.queries.counts(plan.batch.id, arguments.only)
            uncertain = ledger.queries.uncertain(plan.batch.id)
            show_outcome(session, ledger, plan.batch, result, simulate=arguments.simulate)
            return exit_code(result, counts, len(uncertain))


def _as_in_file(arguments: RunArguments, file: PlanFile) -> RunArguments:
    """What the plan was made with holds: exactly that is executed."""
    if arguments.only is not None and arguments.only != file.only:
        raise Failure("The plan says which jobs to run; leave out --only, or make another plan with it.")
    budget = file.budget_usd if arguments.budget is None else arguments.budget
    return replace(arguments, only=file.only, budget=budget)


def _check_speed(connection: Connection, arguments: RunArguments) -> None:
    if arguments.speed not in (None, 1.0) and not is_loopback(connection.provider.origin):
        raise Failure("--speed is for a simulator on this machine; the real API runs in real time.")


def _show_dry(session: Session, means: Means) -> None:
    if session.json:
        session.data(plan_data(means))
        return
    session.print(plan_table(means.plan))
    for line in plan_lines(means):
        session.result(line)


def _require_key(connection: Connection) -> None:
    try:
        connection.provider.require_key()
    except ConfigurationError as exc:
        raise Failure(f"{exc} Nothing was sent; `--simulate` rehearses without a key.") from exc


def _ask(ledger: Ledger, plan: Plan) -> None:
    """Real money is spent only with a yes, and only on the plan that was shown."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Failure("There is no terminal to ask on. Look at the plan above and pass --yes to spend the money.")
    if not confirmed("Go ahead?"):
        raise Failure("Nothing was sent.", Exit.DONE)
    if ledger.plans.find(plan.batch.name) != plan.batch:
        raise Failure(f"Batch {plan.batch.name} was planned anew meanwhile. Nothing was sent; run it again.")


def options_of(config: BatchConfig, arguments: RunArguments) -> RunOptions:
    """The batch file's options, with the command line's in their place where it gives any."""
    limits = config.limits if arguments.in_flight is None else replace(config.limits, in_flight=arguments.in_flight)
    return RunOptions(
        limits=limits,
        caps=caps_from_config(config.budget, arguments.budget),
        output_dir=config.output_dir,
        poll_interval_s=config.polling.interval,
        poll_timeout_s=config.polling.timeout,
        attempts=config.retries.attempts,
        retry_on=frozenset(Status(status) for status in config.retries.on),
        only=arguments.only,
        fail_fast=arguments.fail_fast,
    )


async def drive(
    session: Session, ledger: Ledger, batch: BatchRecord, connection: Connection, options: RunOptions
) -> RunResult:
    """Run the batch under a live view, with signals handled."""
    with watching(session, ledger, batch, options.caps) as watcher:
        run = BatchRun(ledger, batch, connection.provider, options, Clock(connection.speed), watcher.notify)
        watcher.attend(run)
        with _stopping(run, watcher), _long_lived():
            return await run.run()


@contextlib.contextmanager
def _long_lived() -> Iterator[None]:
    """What is there when a run begins, modules and all, stays until it ends. To look through it for garbage again and
    again took a twentieth of the time of a run of many jobs."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextlib.contextmanager
def _stopping(run: BatchRun, watcher: Watcher) -> Iterator[None]:
    """The first signal lets requests in the air finish, the second one ends the run at once."""
    loop = asyncio.get_running_loop()
    main = asyncio.current_task()
    assert main is not None
    seen = 0

    def on_signal() -> None:
        nonlocal seen
        seen += 1
        if seen == 1:
            run.interrupt()
            watcher.say("Stopping: requests in the air are let finish. Press Ctrl-C again to stop at once.")
        else:
            main.cancel()

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # Under nohup a terminal that goes away is meant to be ignored.
    numbers = [n for n in numbers if n == signal.SIGINT or signal.getsignal(n) is not signal.SIG_IGN]
    previous = {}
    for number in numbers:
        try:
            loop.add_signal_handler(number, on_signal)
        except NotImplementedError:  # Windows
            previous[number] = signal.signal(number, lambda *_: loop.call_soon_threadsafe(on_signal))
    try:
        yield
    except asyncio.CancelledError:
        if seen < 2:
            raise
        raise Failure(
            "Stopped. Run the same command to go on; jobs that were being submitted are uncertain.", 130
        ) from None
    finally:
        for number in numbers:
            if number in previous:
                signal.signal(number, previous[number])
            else:
                loop.remove_signal_handler(number)
