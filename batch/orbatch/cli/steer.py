"""``stop`` and ``set``: end a run in another terminal, or give it other caps and limits, through the ledger."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated

import typer

from orbatch.cli import completion
from orbatch.cli.errors import Failure
from orbatch.cli.options import Batch
from orbatch.cli.session import Session, find_batch
from orbatch.cli.tables import pluralize
from orbatch.ledger import PAID_AND_OPEN, STOP, BatchRecord, Ledger, parse_timestamp, utc_now

_LOOK_EVERY_S = 0.2
Reason = Annotated[str | None, typer.Option("--reason", help="Why, for the record.")]


def stop(context: typer.Context, batch: Batch = None, reason: Reason = None) -> None:
    """Stop a run in another terminal.

    As Ctrl-C there does: requests in progress are finished, nothing more is submitted, and the next run resumes. Waits
    until the run has ended.
    """
    session: Session = context.obj
    with session.open_ledger() as ledger:
        found = _running(ledger) if batch is None else find_batch(ledger, batch)
        holder = ledger.leases.holder(found.id, utc_now())
        if holder is None:
            raise Failure(f"{found.name} is not running.")
        ledger.controls.add(found.id, {STOP: None}, reason)
        session.say(f"Stopping {found.name} ({holder}).")
        while ledger.leases.holder(found.id, utc_now()) == holder:
            time.sleep(_LOOK_EVERY_S)
        counts = ledger.queries.counts(found.id)
        running = sum(counts[status] for status in PAID_AND_OPEN)
    if session.json:
        session.data({"batch": found.name, "stopped": holder, "running": running})
    else:
        jobs = f" {pluralize(running, 'job')} still running at the provider; the next run downloads the output."
        session.result(f"{found.name} has stopped.{jobs if running else ''}")


def _running(ledger: Ledger) -> BatchRecord:
    """The batch that is being run, where there is one. Raises Failure for none, and for several."""
    now = utc_now()
    running = [batch for batch in ledger.plans.batches() if ledger.leases.holder(batch.id, now) is not None]
    if len(running) != 1:
        names = ", ".join(batch.name for batch in running)
        raise Failure(f"Several batches are running: {names}. Name one." if running else "No batch is running.")
    return running[0]


def set(  # noqa: A001 - the command's name
    context: typer.Context,
    batch: Annotated[str, typer.Argument(help="Batch name.", autocompletion=completion.batches)],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE...", help="Such as budget.total_usd=0.50 limits.in_flight=2."),
    ] = None,
    reason: Reason = None,
    reset: Annotated[bool, typer.Option("--reset", help="Return to the settings of the batch file.")] = False,
) -> None:
    """Change caps and limits of a batch, also while it runs.

    A run follows within a second: a lower cap stops submits immediately. The settings hold, and are shown by
    `status`, until the batch file is edited or `--reset`.
    """
    session: Session = context.obj
    given = _parsed(settings or [])
    if not given and not reset:
        raise Failure("Give settings such as budget.total_usd=0.50, or --reset.")
    with session.open_ledger() as ledger:
        found = find_batch(ledger, batch)
        cleared = dict.fromkeys((control.setting for control in ledger.controls.holding(found.id)) if reset else ())
        ledger.controls.add(found.id, {**cleared, **given}, reason)
        holder = ledger.leases.holder(found.id, utc_now())
        lines = list(control_lines(ledger, found))
    if session.json:
        session.data({"batch": found.name, "set": given, "reset": list(cleared), "running": holder})
        return
    for line in lines or [f"{found.name}: the settings of the batch file hold."]:
        session.result(line)
    session.say(f"The run in progress ({holder}) follows within a second." if holder else "The next run follows.")


def _parsed(settings: list[str]) -> dict[str, str]:
    """Settings by name. Raises Failure for one that is not allowed, before anything is recorded."""
    from orbatch.batchfile.models import LimitsConfig  # not above: `stop` needs no pydantic
    from orbatch.ledger import Caps
    from orbatch.plan import overridden

    given = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals:
            raise Failure(f"{text} has no value. Write it as {name}=VALUE.")
        given[name.strip()] = value.strip()
    try:
        overridden(Caps(), LimitsConfig(), given)
    except ValueError as exc:
        raise Failure(str(exc)) from exc
    return given


def control_lines(ledger: Ledger, batch: BatchRecord) -> Iterator[str]:
    """The settings that hold in place of those of the batch file, with time and reason."""
    for control in ledger.controls.holding(batch.id):
        why = f" ({control.reason})" if control.reason else ""
        at = parse_timestamp(control.at).astimezone()
        yield f"{batch.name}: {control.setting} is {control.value}, set at {at:%Y-%m-%d %H:%M}{why}."
