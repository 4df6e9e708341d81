"""``run``: plan, ask, drive, account."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import typer

from orbatch.cli.connecting import Connection, connected
from orbatch.cli.live import Watcher, watching
from orbatch.cli.outcome import show_outcome
from orbatch.cli.planning import credit, plan_lines, plan_table, planned
from orbatch.cli.session import Failure, Session
from orbatch.config import BatchConfig
from orbatch.driver import Terms
from orbatch.exits import Exit, exit_code
from orbatch.ledger import BatchRecord, Ledger
from orbatch.lifecycle import Status
from orbatch.pace import Pace
from orbatch.preparing import Plan, caps_of, check_against_file, is_loopback, read_plan_file
from orbatch.runner import BatchRun, Options, RunResult


@dataclass(frozen=True, slots=True)
class RunArguments:
    """What the command line says about a run."""

    simulate: bool
    dry_run: bool
    yes: bool
    budget: Decimal | None
    in_flight: int | None
    only: str | None
    fail_fast: bool
    refresh: bool
    speed: float | None


def run_batch(session: Session, path: Path, arguments: RunArguments) -> None:
    code = asyncio.run(_run(session, path, arguments))
    if code:
        raise typer.Exit(code)


async def _run(session: Session, path: Path, arguments: RunArguments) -> Exit:
    plan_in_file = read_plan_file(path)
    config_path = path if plan_in_file is None else Path(plan_in_file["config"])
    async with connected(session, simulate=arguments.simulate, speed=arguments.speed) as connection:
        _check_speed(connection, arguments)
        with session.open_ledger(simulate=arguments.simulate, create=True) as ledger:
            plan = await planned(
                session, ledger, connection, config_path, only=arguments.only, refresh=arguments.refresh
            )
            if plan_in_file is not None:
                check_against_file(plan, plan_in_file)
            caps = caps_of(plan.config.budget, arguments.budget)
            session.say("\n".join(plan_lines(plan, caps, await credit(connection))))
            if arguments.dry_run:
                session.print(plan_table(plan))
                return Exit.DONE
            connection.provider.require_key()
            _ask(plan, connection, arguments)
            options = options_of(plan.config, arguments)
            result = await drive(session, ledger, plan.batch, connection, options)
            counts = ledger.queries.counts(plan.batch.id, arguments.only)
            uncertain = ledger.queries.uncertain(plan.batch.id)
            show_outcome(session, ledger, plan.batch, result, counts, path, simulate=arguments.simulate)
            return exit_code(result, counts, len(uncertain))


def _check_speed(connection: Connection, arguments: RunArguments) -> None:
    if arguments.speed not in (None, 1.0) and not is_loopback(connection.provider.origin):
        raise Failure("--speed is for a simulator on this machine; the real API runs in real time.")


def _ask(plan: Plan, connection: Connection, arguments: RunArguments) -> None:
    """Real money is spent only with a yes."""
    if connection.simulated or arguments.yes or not plan.to_send:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Failure("There is no terminal to ask on. Look at the plan above and pass --yes to spend the money.")
    if not typer.confirm("Go ahead?", err=True):
        raise Failure("Nothing was sent.", Exit.DONE)


def options_of(config: BatchConfig, arguments: RunArguments) -> Options:
    """The batch file's terms, with the command line's in their place where it gives any."""
    limits = config.limits if arguments.in_flight is None else replace(config.limits, in_flight=arguments.in_flight)
    terms = Terms(
        caps=caps_of(config.budget, arguments.budget),
        output_dir=config.output_dir,
        poll_interval_s=config.polling.interval,
        poll_timeout_s=config.polling.timeout,
        attempts=config.retries.attempts,
        retry_on=frozenset(Status(status) for status in config.retries.on),
    )
    return Options(
        limits=limits,
        terms=terms,
        only=arguments.only,
        fail_fast=arguments.fail_fast,
        resubmit_uncertain=config.uncertain == "resubmit",
    )


async def drive(
    session: Session, ledger: Ledger, batch: BatchRecord, connection: Connection, options: Options
) -> RunResult:
    """Run the batch under a live view, with signals handled."""
    with watching(session, ledger, batch, options.terms.caps) as watcher:
        run = BatchRun(ledger, batch, connection.provider, options, Pace(connection.speed), watcher.notify)
        watcher.attend(run)
        with _stopping(run, watcher):
            return await run.run()


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

    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    previous = {}
    for number in (getattr(signal, name) for name in names):
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
        for name in names:
            number = getattr(signal, name)
            if number in previous:
                signal.signal(number, previous[number])
            else:
                loop.remove_signal_handler(number)
