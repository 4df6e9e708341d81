"""``run``: plan, confirm, drive, summarize, and the exit code."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from orbatch.cli.plan import PlanView, make_view, plan_lines, show_plan
from orbatch.cli.progress import drive
from orbatch.cli.provider import Connection, connect
from orbatch.cli.report import show_summary
from orbatch.cli.session import Budget, ExitCode, Failure, Only, Refresh, Session, Speed, Yes, confirm
from orbatch.cli.tables import SCREEN, amount, pluralize
from orbatch.ledger import PAID_AND_OPEN, Counts, Ledger, Status
from orbatch.plan import check_against_file, is_loopback, read_plan_file
from orbatch.runner import RunOptions, RunResult, Stop


def run(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="The batch file (YAML), or a plan written by `plan -o`.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    yes: Yes = False,
    budget: Budget = None,
    in_flight: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Jobs at a time. Replaces limits.in_flight.")
    ] = None,
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
    file, 3 some jobs have no output, 4 stopped by budget or credit, 5 uncertain jobs need `resolve`, 130 interrupted or
    declined.
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
                batch, options = view.plan.batch, _options(view, in_flight, fail_fast=fail_fast)
                result = await drive(session, ledger, batch, connection, options)
                show_summary(session, ledger, batch, result)
                uncertain = len(ledger.queries.uncertain(batch.id))  # of the whole batch, whatever --only chose
                return exit_code(result, ledger.queries.counts(batch.id, only), uncertain)

    code = asyncio.run(execute())
    if code:
        raise typer.Exit(code)


def _confirm_plan(session: Session, ledger: Ledger, connection: Connection, view: PlanView, *, yes: bool) -> None:
    """Show the plan. Real money is spent only after a yes, and only on the plan that was shown."""
    plan, total = view.plan, view.plan.total
    must_ask = bool(total.to_submit) and not (session.simulate or yes)
    for line in plan_lines(view, session.flags):
        (session.warn if must_ask else session.say)(line)  # --quiet must not hide what is asked about
    connection.require_key()
    if not must_ask:
        return
    more = f" and {total.unpriced} without an upper price" if total.unpriced else ""
    cost = f"up to {amount(total.high_nusd)} USD{more}"
    confirm(f"Submit {pluralize(total.to_submit, 'job')} for {cost}?", "Nothing was submitted.")
    if ledger.plans.find(plan.batch.name) != plan.batch:  # minutes may have passed at the question
        raise Failure(
            f"Batch {plan.batch.name} was re-planned by another process. Nothing was submitted; run the command again."
        )


def _options(view: PlanView, in_flight: int | None, *, fail_fast: bool) -> RunOptions:
    """The settings of the batch file; the command line wins where it gives one."""
    config = view.plan.config
    return RunOptions(
        limits=config.limits if in_flight is None else replace(config.limits, in_flight=in_flight),
        caps=view.caps,
        output_dir=config.output_dir,
        poll_interval_s=config.polling.interval,
        poll_timeout_s=config.polling.timeout,
        attempts=config.retries.attempts,
        retry_on=frozenset(map(Status, config.retries.on)),
        only=view.plan.only,
        fail_fast=fail_fast,
    )


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
    without_output = (*SCREEN["failed"], *PAID_AND_OPEN)
    if result.stop is Stop.FAIL_FAST or any(counts[status] for status in without_output):
        return ExitCode.NO_OUTPUT
    return ExitCode.DONE
