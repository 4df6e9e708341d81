"""``run``: plan, confirm, drive, summarise."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from orbatch.batchfile.models import BatchConfig
from orbatch.cli.plan import PlanView, make_view, plan_lines, show_plan
from orbatch.cli.progress import Watcher, watching
from orbatch.cli.provider import Connection, connect
from orbatch.cli.report import report_table, row_data
from orbatch.cli.resolve import retry_hint, uncertain_data, uncertain_lines
from orbatch.cli.session import Budget, ExitCode, Failure, Only, Refresh, Session, Speed, Yes, confirm
from orbatch.cli.tables import SCREEN, amount, jobs_are, pluralize, screen_counts
from orbatch.ledger import BatchRecord, Counts, Filter, Ledger, Status
from orbatch.plan.plan import Plan, caps_from_config, is_loopback
from orbatch.plan.plan_file import check_against_file, read_plan_file
from orbatch.runner.context import Clock, RunOptions
from orbatch.runner.runner import BatchRun, RunResult, Stop
from orbatch_provider.errors import ConfigurationError

JOBS_SHOWN = 10  # failed jobs that the summary names, of each status


def run(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="The batch file (YAML), or a plan written by `plan -o`.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    yes: Yes = False,
    budget: Budget = None,
    in_flight: Annotated[int | None, typer.Option(min=1, help="Jobs at a time. Replaces limits.in_flight.")] = None,
    only: Only = None,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Submit nothing more after the first failure.")
    ] = False,
    refresh: Refresh = False,
    speed: Speed = None,
) -> None:
    """Run or resume a batch.

    Finished jobs are kept, submitted jobs are polled and downloaded, and everything else is submitted. Ctrl-C stops it;
    the same command resumes. Exit codes: 0 everything done, 1 orbatch or the provider failed, 2 bad usage or batch
    file, 3 some jobs have no output, 4 stopped by budget or credit, 5 uncertain jobs need `resolve`, 130 interrupted.
    """
    session: Session = context.obj
    session.check_log_file()  # before the plan, and so before any money
    file = read_plan_file(config)  # None for a batch file
    if file is not None:
        if only not in (None, file.only):
            raise Failure("The plan file says which jobs to run. Omit --only, or make another plan with it.")
        config, only, budget = Path(file.config), file.only, file.budget_usd if budget is None else budget

    async def execute() -> ExitCode:
        async with connect(session, speed=speed) as connection:
            if speed not in (None, 1.0) and not is_loopback(connection.provider.origin):
                raise Failure("--speed is for a simulator on this machine. The real API runs in real time.")
            with session.open_ledger(create=True) as ledger:
                view = await make_view(session, ledger, connection, config, only=only, budget=budget, refresh=refresh)
                if file is not None:  # the plan was made again and must be the same
                    check_against_file(view.plan, file, simulated=session.simulate)
                if dry_run:
                    show_plan(session, view)
                    return ExitCode.DONE
                _confirm_plan(session, ledger, connection, view, yes=yes)
                options = run_options(view.plan.config, budget, in_flight, only=only, fail_fast=fail_fast)
                batch = view.plan.batch
                result = await drive(session, ledger, batch, connection, options)
                show_summary(session, ledger, batch, result)
                uncertain = len(ledger.queries.uncertain(batch.id))  # of the whole batch, whatever --only chose
                return exit_code(result, ledger.queries.counts(batch.id, only), uncertain)

    code = asyncio.run(execute())
    if code:
        raise typer.Exit(code)


def _confirm_plan(session: Session, ledger: Ledger, connection: Connection, view: PlanView, *, yes: bool) -> None:
    """Show the plan. Real money is spent only after a yes, and only on the plan that was shown."""
    plan = view.plan
    must_ask = bool(plan.total.to_submit) and not (session.simulate or yes)
    for line in plan_lines(view, session.flags):
        (session.warn if must_ask else session.say)(line)  # --quiet must not hide what is asked about
    try:
        connection.provider.require_key()
    except ConfigurationError as exc:
        raise Failure(f"{exc} Nothing was submitted; --simulate needs no key.") from exc
    if not must_ask:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Failure("No terminal to confirm on. Review the plan above and pass --yes to run it.")
    if not confirm(f"Submit {pluralize(plan.total.to_submit, 'job')} for {_at_most(plan)}?"):
        raise Failure("Nothing was submitted.", ExitCode.DONE)
    if ledger.plans.find(plan.batch.name) != plan.batch:  # minutes may have passed at the question
        raise Failure(
            f"Batch {plan.batch.name} was re-planned by another process. Nothing was submitted; run the command again."
        )


def _at_most(plan: Plan) -> str:
    more = f" and {plan.total.unpriced} without an upper price" if plan.total.unpriced else ""
    return f"up to {amount(plan.total.high_nusd)} USD{more}"


def run_options(
    config: BatchConfig, budget: Decimal | None, in_flight: int | None, *, only: str | None, fail_fast: bool
) -> RunOptions:
    """The settings of the batch file; the command line wins where it gives one."""
    limits = config.limits if in_flight is None else replace(config.limits, in_flight=in_flight)
    return RunOptions(
        limits=limits,
        caps=caps_from_config(config.budget, budget),
        output_dir=config.output_dir,
        poll_interval_s=config.polling.interval,
        poll_timeout_s=config.polling.timeout,
        attempts=config.retries.attempts,
        retry_on=frozenset(Status(status) for status in config.retries.on),
        only=only,
        fail_fast=fail_fast,
    )


async def drive(
    session: Session, ledger: Ledger, batch: BatchRecord, connection: Connection, options: RunOptions
) -> RunResult:
    """Run the batch under a live view, with signals handled."""
    with watching(session, ledger, batch, options.caps) as watcher:
        batch_run = BatchRun(ledger, batch, connection.provider, options, Clock(connection.speed), watcher.on_event)
        watcher.attach(batch_run)
        with _stopping(session, ledger, batch, batch_run, watcher), _objects_frozen():
            return await batch_run.run()


@contextlib.contextmanager
def _objects_frozen() -> Iterator[None]:
    """Keep what exists now, modules and all, out of garbage collection, which otherwise took a twentieth of the time
    of a run of many jobs."""
    gc.collect()  # first, or what is garbage now would be kept, too
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextlib.contextmanager
def _stopping(
    session: Session, ledger: Ledger, batch: BatchRecord, batch_run: BatchRun, watcher: Watcher
) -> Iterator[None]:
    """The first signal lets requests in progress finish, the second one ends the run immediately."""
    loop = asyncio.get_running_loop()
    main = asyncio.current_task()
    assert main is not None  # for the type checker: this runs in a task
    signals = 0

    def on_signal() -> None:
        nonlocal signals
        signals += 1
        if signals > 1:  # open submits become uncertain in their own cleanup
            main.cancel()
            return
        batch_run.interrupt()
        submitting = ledger.queries.counts(batch.id)[Status.SUBMITTING]
        if submitting:
            after, cost = f" after {pluralize(submitting, 'request')} in progress", "; their jobs become uncertain"
        else:
            after, cost = "", ""
        watcher.say(f"Stopping{after}. Press Ctrl-C again to stop immediately{cost}.")

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # Under nohup a run continues after its terminal is closed.
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
        if signals < 2:
            raise  # not by the user
        raise Failure(_stopped_text(session, ledger, batch), ExitCode.INTERRUPTED) from None
    finally:
        for number in numbers:
            if number in previous:
                signal.signal(number, previous[number])
            else:
                loop.remove_signal_handler(number)


def _stopped_text(session: Session, ledger: Ledger, batch: BatchRecord) -> str:
    jobs = ledger.queries.uncertain(batch.id)
    reserved = sum(job.attempt.reserved_nusd or 0 for job in jobs if job.attempt is not None)
    unknown = f" {jobs_are(len(jobs))} uncertain ({amount(reserved)} USD): see `orbatch status`." if jobs else ""
    return f"Stopped.{unknown}\nTo resume: {session.command}"


def show_summary(session: Session, ledger: Ledger, batch: BatchRecord, result: RunResult) -> None:
    """Print how the run ended; with --json as one object."""
    counts = ledger.queries.counts(batch.id)
    if session.json:
        session.data(_summary_data(session, ledger, batch, result, counts))
        return
    rows, total = ledger.reports.report("model", Filter(batch.id))  # of one moment
    if counts.total > 1:  # `generate` has one job
        session.print(report_table("model", rows, total))
    words = screen_counts(counts)
    parts = [f"{words.pop('done')} of {counts.total} done", *(f"{jobs} {word}" for word, jobs in words.items() if jobs)]
    files = f" Files: {batch.output_dir}" if counts[Status.DONE] else ""
    session.result(
        f"{batch.name}: {', '.join(parts)}. Spent {amount(total.charged_nusd)} USD, "
        f"reserved {amount(total.reserved_nusd)} USD.{files}"
    )
    for line in _attention_lines(ledger, batch, result, counts, session.flags):
        session.warn(line)
    if result.stop is not None or words["running"]:
        session.warn(f"To resume: {session.command}")


def _attention_lines(
    ledger: Ledger, batch: BatchRecord, result: RunResult, counts: Counts, flags: str
) -> Iterator[str]:
    """What the user should know or do, each line only where it is the case."""
    if result.stop is Stop.INTERRUPTED:
        paid = [
            f"{jobs_are(counts[status])} {state}"
            for status, state in (
                (Status.SUBMITTED, "still running at the provider"),
                (Status.COMPLETED, "not downloaded"),
            )
            if counts[status]
        ]
        yield f"Interrupted. {' and '.join(paid)}; the next run downloads them." if paid else "Interrupted."
    elif result.stop is not None:
        yield result.message if result.message.startswith("Stopped") else f"Stopped: {result.message}"
    for model, reason in result.blocked.items():
        yield f"Submitting stopped for {model}: {reason}"
    # Jobs that stay open have a reason, too, such as a poll timeout.
    for status in (*SCREEN["failed"], Status.SUBMITTED, Status.COMPLETED):
        rows = [row for row in ledger.reports.job_rows(batch.id, status, JOBS_SHOWN) if row["error"]]
        for row in rows:
            yield f"{row['prompt_id']} {row['model']} ({row['job_id']}) {status}: {row['error']}"
        if counts[status] > JOBS_SHOWN and rows:
            command = f"orbatch jobs {batch.name} --status {status}{flags}"
            yield f"... and {counts[status] - JOBS_SHOWN} more {status}: {command}"
    yield from retry_hint(batch.name, counts, flags)
    if result.over_budget:
        for reason, jobs in ledger.queries.wait_reasons(batch.id):
            yield f"{pluralize(jobs, 'job')} not submitted: {reason}"
    yield from uncertain_lines(ledger, batch.id, flags)


def _summary_data(
    session: Session, ledger: Ledger, batch: BatchRecord, result: RunResult, counts: Counts
) -> dict[str, Any]:
    return {
        "batch": batch.name,
        "simulated": session.simulate,
        "stopped": None if result.stop is None else result.stop.value,
        "message": result.message,
        "over_budget": result.over_budget,
        "blocked": dict(result.blocked),
        "output_dir": batch.output_dir,
        "jobs": dict(counts.by_status),
        "total": row_data(ledger.reports.total(Filter(batch.id))),
        "holds": [{"reason": reason, "jobs": jobs} for reason, jobs in ledger.queries.wait_reasons(batch.id)],
        "uncertain": uncertain_data(ledger, batch.id),
    }


def exit_code(result: RunResult, counts: Counts, uncertain: int) -> ExitCode:
    """The most urgent outcome of a run: uncertain jobs need a person before a budget does."""
    if result.stop is Stop.INTERRUPTED:
        return ExitCode.INTERRUPTED
    if result.stop is Stop.FAILED:
        return ExitCode.FAILED
    if uncertain:
        return ExitCode.UNCERTAIN
    if result.stop is Stop.NO_CREDIT or result.over_budget:
        return ExitCode.BUDGET
    # Open jobs are paid for, but this run gave up waiting for them.
    without_output = (*SCREEN["failed"], Status.SUBMITTED, Status.COMPLETED)
    if result.stop is Stop.FAIL_FAST or any(counts[status] for status in without_output):
        return ExitCode.NO_OUTPUT
    return ExitCode.DONE
