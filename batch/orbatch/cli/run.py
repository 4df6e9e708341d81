"""``run``: plan, confirm, drive, summarize, and the exit code. ``collect``: the same without a plan or submits."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from orbatch.batchfile.loader import load_config
from orbatch.batchfile.models import LimitsConfig, PollingConfig
from orbatch.cli import completion
from orbatch.cli.errors import ExitCode, Failure, foreseen
from orbatch.cli.options import DEFAULT_FILE, Budget, Fresh, Only, Refresh, Speed, Yes
from orbatch.cli.plan import PlanView, check_output_dir, effective, make_view, plan_lines, show_plan, take_over
from orbatch.cli.progress import drive
from orbatch.cli.provider import Connection, connect
from orbatch.cli.report import show_summary, summary_data
from orbatch.cli.session import Session, confirm, find_batch
from orbatch.cli.streams import outlive_readers
from orbatch.cli.tables import SCREEN, amount, jobs_are, pluralize
from orbatch.ledger import PAID_AND_OPEN, BatchHeld, BatchRecord, Caps, Counts, Ledger, LedgerError, Status
from orbatch.outputs.receipts import receipts_path
from orbatch.plan import Plan, check_against_file, is_loopback, read_plan_file
from orbatch.runner import RunOptions, RunResult, Stop

# The first of them that any of several batches ended with is the code of the command.
_MOST_URGENT = (
    ExitCode.INTERRUPTED,
    ExitCode.FAILED,
    ExitCode.UNCERTAIN,
    ExitCode.BUDGET,
    ExitCode.NO_OUTPUT,
    ExitCode.DONE,
)


def run(
    context: typer.Context,
    config: Annotated[
        Path, typer.Argument(help="The batch file (YAML), or a plan written by `plan -o`.")
    ] = DEFAULT_FILE,
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
    fresh: Fresh = False,
    speed: Speed = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="With --simulate: what goes wrong, such as lost-answer (docs/faults.md). Repeatable.",
            autocompletion=completion.faults,
        ),
    ] = None,
) -> None:
    """Run or resume a batch.

    Finished jobs are kept, submitted jobs are polled and downloaded, and everything else is submitted. Ctrl-C stops it;
    the same command resumes. Exit codes: 0 everything done, 1 orbatch or the provider failed, 2 bad usage or batch
    file, 3 some jobs have no output, 4 stopped by budget or credit, 5 uncertain jobs need `resolve`, 130 interrupted or
    declined.
    """
    session: Session = context.obj
    outlive_readers()
    session.check_log_file()  # before the plan, and so before any money
    file = read_plan_file(config)  # None for a batch file
    if file is not None:
        if only not in (None, file.only):
            raise Failure("The plan file says which jobs to run. Omit --only, or make another plan with it.")
        config, only, budget = Path(file.config), file.only, file.budget_usd if budget is None else budget
    session = session.beside(config)

    async def execute() -> ExitCode:
        async with connect(session, speed=speed, faults=fault or ()) as connection:
            _check_speed(connection, speed)
            with session.open_ledger(create=True) as ledger:
                try:
                    view = await make_view(
                        session, ledger, connection, config, only=only, budget=budget, refresh=refresh, fresh=fresh
                    )
                    if file is not None:  # the plan was made again and must be the same
                        check_against_file(view.plan, file, simulated=session.simulate)
                    if not dry_run:
                        check_output_dir(ledger, view.plan)
                except LedgerError:  # without the ledger nothing can be collected; another run collects its own
                    raise
                except Exception as exc:  # whatever is wrong with the plan, paid outputs expire at the provider
                    await _collect_despite(session, ledger, connection, config, exc, only_tell=dry_run)
                    raise
                if dry_run:
                    show_plan(session, view)
                    return ExitCode.DONE
                _confirm_plan(session, ledger, connection, view, yes=yes)
                batch, options = view.plan.batch, _options(ledger, view, budget, in_flight)
                options = replace(options, fail_fast=fail_fast, fresh=fresh)
                result = await drive(session, ledger, batch, connection, options)
                show_summary(session, ledger, batch, result)
                uncertain = len(ledger.queries.uncertain(batch.id))  # of the whole batch, whatever --only chose
                return exit_code(result, ledger.queries.counts(batch.id, only), uncertain)

    code = asyncio.run(execute())
    if code:
        raise typer.Exit(code)


def collect(
    context: typer.Context,
    batch: Annotated[
        str | None, typer.Argument(help="Batch name, or a directory of outputs. Default: the whole ledger.")
    ] = None,
    speed: Speed = None,
) -> None:
    """Poll and download what is paid for.

    Needs only the ledger: no batch file, no price list and no input files. With a directory of outputs, its receipts
    are read first, so that a ledger that was lost is made again. Submits nothing. Exit codes as for `run`.
    """
    session: Session = context.obj
    session.check_log_file()
    directory = Path(batch).absolute() if batch is not None and receipts_path(Path(batch)).is_file() else None

    async def execute() -> ExitCode:
        with session.open_ledger(create=directory is not None) as ledger:
            # A named batch also when nothing of it is open: charges that were not known yet are settled.
            if directory is not None:
                elsewhere = take_over(session, ledger, directory).elsewhere
                for other in sorted(set(elsewhere.values())):
                    jobs = jobs_are(sum(path == other for path in elsewhere.values()))
                    command = f"orbatch collect{session.flags_for(other)}"
                    session.warn(f"{jobs} in ledger {other} and not taken over. `{command}` collects there.")
                chosen = [each for each in ledger.plans.batches() if Path(each.output_dir) == directory]
            else:
                chosen = [find_batch(ledger, batch)] if batch is not None else _with_open_jobs(ledger)
            if not chosen:
                session.data([]) if session.json else session.result("No paid job is open.")
                return ExitCode.DONE
            async with connect(session, speed=speed) as connection:
                _check_speed(connection, speed)
                connection.require_key()
                return await _collect_all(
                    session, ledger, connection, chosen, as_list=batch is None or directory is not None
                )

    code = asyncio.run(execute())
    if code:
        raise typer.Exit(code)


async def _collect_all(
    session: Session, ledger: Ledger, connection: Connection, batches: list[BatchRecord], *, as_list: bool
) -> ExitCode:
    """One batch after the other; one that cannot be collected keeps none of the others from it."""
    codes, data = set[ExitCode](), list[dict[str, Any]]()
    for batch in batches:
        try:
            result = await _collect(session, ledger, connection, batch)
        except (BatchHeld, Failure) as exc:
            if not as_list or getattr(exc, "code", None) == ExitCode.INTERRUPTED:
                raise
            session.warn(str(exc))
            codes.add(ExitCode.FAILED)
            continue
        if session.json:
            data.append(summary_data(session, ledger, batch, result))
        else:
            show_summary(session, ledger, batch, result)
        codes.add(exit_code(result, ledger.queries.counts(batch.id), len(ledger.queries.uncertain(batch.id))))
        if result.stop is Stop.INTERRUPTED:
            break
    if session.json:
        session.data(data if as_list else data[0])
    return next(code for code in _MOST_URGENT if code in codes)


async def _collect(session: Session, ledger: Ledger, connection: Connection, batch: BatchRecord) -> RunResult:
    """Poll and download the open jobs of a batch. Raises BatchHeld while it is being run, and Failure for jobs of the
    simulator at the real API, or the other way round."""
    if is_loopback(batch.origin) != is_loopback(connection.provider.origin):
        raise Failure(
            f"The jobs of {batch.name} are at {batch.origin}, not at {connection.provider.origin}. "
            "Set OPENROUTER_BASE_URL to it."
        )
    polling = PollingConfig()
    options = RunOptions(
        limits=LimitsConfig(),
        caps=Caps(),
        output_dir=Path(batch.output_dir),
        poll_interval_s=polling.interval,
        poll_timeout_s=polling.timeout,
        submits=False,
    )
    return await drive(session, ledger, batch, connection, options)


def _with_open_jobs(ledger: Ledger) -> list[BatchRecord]:
    return [batch for batch in ledger.plans.batches() if ledger.queries.open_attempts(batch.id)]


async def _collect_despite(
    session: Session, ledger: Ledger, connection: Connection, path: Path, error: Exception, *, only_tell: bool
) -> None:
    """Before a plan that failed ends the command: collect the paid jobs of its batch. ``only_tell``: only say that
    there are some. Raises Failure in place of ``error`` where that was shown here, with the same exit code."""
    batches = [batch for batch in _with_open_jobs(ledger) if _is_of_file(batch, path)]
    if not batches:
        return
    message, code = foreseen(error)
    if message is not None:
        session.warn(message)  # now, since collecting may take a while
    for batch in batches:
        _say_open(session, ledger, batch)
    if not only_tell:
        for batch in batches:
            try:
                connection.require_key()
                result = await _collect(session, ledger, connection, batch)
            except (Failure, LedgerError) as exc:
                if getattr(exc, "code", None) == ExitCode.INTERRUPTED:
                    raise
                session.warn(str(exc))
                continue
            _say_open(session, ledger, batch)
            if result.stop is Stop.INTERRUPTED:
                break
    if message is not None:
        raise Failure("The plan failed, for the reason above.", code) from error


def _is_of_file(batch: BatchRecord, path: Path) -> bool:
    """Whether a batch was planned from this file, by its path, or by its name where the file can be read."""
    if Path(batch.config_path) == path.absolute():
        return True
    try:
        return load_config(path).name == batch.name
    except Exception:  # noqa: BLE001 - the file may be broken in any way, and was reported already
        return False


def _say_open(session: Session, ledger: Ledger, batch: BatchRecord) -> None:
    """How many paid jobs are open, and the command that downloads them."""
    jobs = len(ledger.queries.open_attempts(batch.id))
    if jobs:
        them = "it" if jobs == 1 else "them"
        command = f"orbatch collect {batch.name}{session.flags}"
        session.warn(f"{batch.name}: {pluralize(jobs, 'paid job')} open. `{command}` downloads {them}.")
    else:
        session.warn(f"{batch.name}: every paid job is collected.")


def _check_speed(connection: Connection, speed: float | None) -> None:
    if speed not in (None, 1.0) and not is_loopback(connection.provider.origin):
        raise Failure("--speed is for a simulator on this machine. The real API runs in real time.")


def _confirm_plan(session: Session, ledger: Ledger, connection: Connection, view: PlanView, *, yes: bool) -> None:
    """Show the plan. Real money is spent only after a yes, and only on the plan that was shown."""
    plan, total = view.plan, view.plan.total
    must_ask = bool(total.to_submit) and not (session.simulate or yes)
    for line in plan_lines(view, session):
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


def _options(ledger: Ledger, view: PlanView, budget: Decimal | None, in_flight: int | None) -> RunOptions:
    """The settings of the batch file, or of `orbatch set`, also while the question was open; the command line wins
    where it gives one."""
    caps, limits = effective(ledger, view.plan, budget)
    return run_options(view.plan, caps, limits if in_flight is None else replace(limits, in_flight=in_flight))


def run_options(plan: Plan, caps: Caps, limits: LimitsConfig) -> RunOptions:
    """The settings of the batch file, under these caps and limits."""
    config = plan.config
    return RunOptions(
        limits=limits,
        caps=caps,
        output_dir=config.output_dir,
        poll_interval_s=config.polling.interval,
        poll_timeout_s=config.polling.timeout,
        attempts=config.retries.attempts,
        retry_on=frozenset(map(Status, config.retries.on)),
        only=plan.only,
    )


def exit_code(result: RunResult, counts: Counts, uncertain: int) -> ExitCode:
    """The most urgent outcome of a run: uncertain jobs need a person before a budget does."""
    if result.stop is Stop.INTERRUPTED:
        return ExitCode.INTERRUPTED
    if result.stop in (Stop.FAILED, Stop.LEDGER_MOVED):
        return ExitCode.FAILED
    if uncertain:
        return ExitCode.UNCERTAIN
    if result.stop is Stop.NO_CREDIT or result.over_budget:
        return ExitCode.BUDGET
    # Open jobs are paid for, but this run gave up waiting for them.
    without_output = (*SCREEN["failed"], *PAID_AND_OPEN)
    if result.stop is Stop.FAIL_FAST or result.held or any(counts[status] for status in without_output):
        return ExitCode.NO_OUTPUT
    return ExitCode.DONE
