"""A run while it happens: a live view on a terminal, plain lines elsewhere, the log file, and what signals do."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING

from orbatch.cli.provider import Connection
from orbatch.cli.session import ExitCode, Failure, Session, open_private, printable
from orbatch.cli.tables import amount, jobs_are, pluralize, screen_counts
from orbatch.ledger import BatchRecord, Caps, Ledger
from orbatch.runner import BatchRun, Clock, Event, RunOptions, RunResult

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

REFRESHES_PER_SECOND = 4

_STYLES = {"info": "", "warning": "yellow", "error": "red"}


async def drive(
    session: Session, ledger: Ledger, batch: BatchRecord, connection: Connection, options: RunOptions
) -> RunResult:
    """Run the batch under a live view where stderr is a terminal, with signals handled."""
    with contextlib.ExitStack() as stack:
        # Appended to: the log of a resumed batch is one file.
        file = None if session.log_file is None else open_private(session.log_file, "a")
        console = None
        if sys.stderr.isatty() and not session.quiet:  # elsewhere it would fill a log with control characters
            from rich.console import Console

            console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        log = EventLog(session.quiet, file, console)
        stack.callback(log.close)
        batch_run = BatchRun(ledger, batch, connection.provider, options, Clock(connection.speed), log.show)
        if console is not None:
            view = _live_view(console, lambda: view_text(ledger, batch, options.caps, batch_run.waiting))
            stack.enter_context(view)
        stack.enter_context(_stopping(session, ledger, batch, batch_run, log))
        # What exists now, modules and all, stays out of garbage collection, which otherwise took a twentieth of the
        # time of a run of many jobs.
        gc.collect()  # first, or what is garbage now would be kept, too
        gc.freeze()
        stack.callback(gc.unfreeze)
        return await batch_run.run()


@dataclass(slots=True)
class EventLog:
    """Where the messages of a run go: stderr, through the console of the live view, if any, and the log file. ``file``
    is None after its first failure, such as a full disk: no log is worth a paid job."""

    quiet: bool
    file: IO[str] | None
    console: Console | None

    def show(self, event: Event) -> None:
        """Log and show one message; only warnings and errors with --quiet."""
        text = f"{event.job}: {event.text}" if event.job else event.text
        text = printable(text).replace("\n", " ")  # one line per message, or a log could be forged
        if not (self.quiet and event.level == "info"):
            self._print(text, event.level)  # before the log, which may be on a full disk with the ledger
        if self.file is None:
            return
        try:
            self.file.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {event.level} {text}\n")
            self.file.flush()  # a run that is killed leaves a whole log
        except OSError as exc:
            name = self.file.name
            self.close()
            self._print(
                f"The log file {name} cannot be written: {exc.strerror}. The run continues without it.", "warning"
            )

    def close(self) -> None:
        """Close the log file, whatever the disk says."""
        file, self.file = self.file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()

    def _print(self, text: str, level: str) -> None:
        if self.console is not None:
            self.console.print(text, style=_STYLES[level], soft_wrap=True)  # a path can be copied whole
        else:
            sys.stderr.write(f"{datetime.now(UTC).astimezone():%H:%M:%S} {text}\n")
            sys.stderr.flush()  # stderr of a pipe may be buffered


@contextlib.contextmanager
def _live_view(console: Console, render: Callable[[], Text]) -> Iterator[None]:
    """The lines below the latest message, refreshed in the loop's own thread: the ledger's connection belongs to it."""
    from rich.live import Live

    async def refresh() -> None:
        while True:
            live.refresh()
            await asyncio.sleep(1 / REFRESHES_PER_SECOND)

    with Live(console=console, get_renderable=render, auto_refresh=False, transient=True) as live:
        task = asyncio.get_running_loop().create_task(refresh())
        try:
            yield
        finally:
            task.cancel()


def view_text(ledger: Ledger, batch: BatchRecord, caps: Caps, waiting: str | None) -> Text:
    """Jobs by status, what they cost, and the reason to wait, by the ledger's figures."""
    from rich.text import Text

    counts = ledger.queries.counts(batch.id)
    charged, reserved = ledger.reports.spend(batch.id)  # from the ledger, so it is true after a restart, too
    words = screen_counts(counts)
    parts = [
        f"{words['done']} of {counts.total} done",
        *(f"{words[word]} {word}" for word in ("running", "pending", "failed")),
    ]
    if words["uncertain"]:
        parts.append(f"{words['uncertain']} uncertain")
    cap = "" if caps.total is None else f" of {amount(caps.total)}"
    lines = [" · ".join(parts), f"{amount(charged)} USD spent, {amount(reserved)} reserved{cap}"]
    if waiting:
        lines.append(f"waiting: {printable(waiting)}")
    return Text("\n".join(lines), style="bold")


@contextlib.contextmanager
def _stopping(
    session: Session, ledger: Ledger, batch: BatchRecord, batch_run: BatchRun, log: EventLog
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
        log.show(Event(_stopping_text(ledger, batch), level="warning"))

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # Under nohup a run continues after its terminal is closed.
    numbers = [n for n in numbers if n == signal.SIGINT or signal.getsignal(n) is not signal.SIG_IGN]
    previous = {}
    for number in numbers:
        try:
            previous[number] = signal.getsignal(number)
            loop.add_signal_handler(number, on_signal)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(on_signal))
    try:
        yield
    except asyncio.CancelledError:
        if signals < 2:
            raise  # not by the user
        raise Failure(_stopped_text(session, ledger, batch), ExitCode.INTERRUPTED) from None
    finally:
        for number in numbers:
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(number)
            signal.signal(number, previous[number])


def _stopping_text(ledger: Ledger, batch: BatchRecord) -> str:
    """What the first signal waits for, and what a second one would cost."""
    submitting, reserved_nusd = ledger.queries.submitting(batch.id)
    if not submitting:
        return "Stopping. Press Ctrl-C again to exit now."
    those = "that job" if submitting == 1 else f"those {submitting} jobs"
    return (
        f"Stopping after {pluralize(submitting, 'request')} in progress. Press Ctrl-C again to exit now: {those} "
        f"({amount(reserved_nusd)} USD) would need `orbatch resolve`."
    )


def _stopped_text(session: Session, ledger: Ledger, batch: BatchRecord) -> str:
    jobs = ledger.queries.uncertain(batch.id)
    reserved = sum(job.attempt.reserved_nusd or 0 for job in jobs if job.attempt is not None)
    see = f"see `orbatch status{session.flags}`"
    unknown = f" {jobs_are(len(jobs))} uncertain ({amount(reserved)} USD): {see}." if jobs else ""
    return f"Stopped.{unknown}\nTo resume: {session.command}"
