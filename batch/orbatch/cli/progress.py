"""A run while it happens: a live view on a terminal, plain lines elsewhere, and the log file."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING

from orbatch.cli.session import Session, printable
from orbatch.cli.tables import amount, screen_counts
from orbatch.ledger import BatchRecord, Caps, Ledger
from orbatch.runner.context import Event

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from orbatch.runner.runner import BatchRun

REFRESHES_PER_SECOND = 4

_STYLES = {"info": "", "warning": "yellow", "error": "red"}


class Watcher:
    """Receives the progress of a run and shows it. ``console``: where the live view is; None for plain lines."""

    def __init__(self, session: Session, log: IO[str] | None, console: Console | None) -> None:
        self._session = session
        self._log = log
        self._console = console
        self._run: BatchRun | None = None

    def attach(self, run: BatchRun) -> None:
        """The run whose reason to wait is shown."""
        self._run = run

    @property
    def waiting(self) -> str | None:
        """Why nothing is being submitted at the moment."""
        return self._run.waiting if self._run is not None else None

    def on_event(self, event: Event) -> None:
        """Log and show one message; only warnings and errors with --quiet."""
        text = f"{event.job}: {event.text}" if event.job else event.text
        text = printable(text).replace("\n", " ")  # one line per message, or a log could be forged
        if self._log is not None:
            self._log.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {event.level} {text}\n")
            self._log.flush()  # a run that is killed leaves a whole log
        if self._session.quiet and event.level == "info":
            return
        if self._console is not None:
            self._console.print(text, style=_STYLES[event.level], soft_wrap=True)  # a path can be copied whole
        else:
            sys.stderr.write(f"{datetime.now(UTC).astimezone():%H:%M:%S} {text}\n")
            sys.stderr.flush()  # stderr of a pipe may be buffered

    def say(self, text: str) -> None:
        """A message of the command itself, which must be seen."""
        self.on_event(Event(text, level="warning"))


@contextlib.contextmanager
def watching(session: Session, ledger: Ledger, batch: BatchRecord, caps: Caps) -> Iterator[Watcher]:
    """A watcher for one run, with the live view where stderr is a terminal."""
    with contextlib.ExitStack() as stack:
        log = None
        if session.log_file is not None:
            # Appended to: the log of a resumed batch is one file.
            log = stack.enter_context(session.log_file.open("a", encoding="utf-8"))
        if session.quiet or not sys.stderr.isatty():  # a live view would fill a log with control characters
            yield Watcher(session, log, None)
            return
        from rich.console import Console

        console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        watcher = Watcher(session, log, console)
        stack.enter_context(_live_view(console, ledger, batch, caps, watcher))
        yield watcher


@contextlib.contextmanager
def _live_view(console: Console, ledger: Ledger, batch: BatchRecord, caps: Caps, watcher: Watcher) -> Iterator[None]:
    """The lines below the latest message, refreshed in the loop's own thread: the ledger's connection belongs to it."""
    from rich.live import Live

    def render() -> Text:
        return view_text(ledger, batch, caps, watcher.waiting)

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
