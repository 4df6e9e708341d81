"""A run as it happens: a live view on a terminal, plain lines elsewhere, and the log file.

Its figures come from the ledger.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING

from orbatch.cli.session import Session, printable
from orbatch.cli.tables import amount
from orbatch.ledger import BatchRecord, Ledger
from orbatch.ledger.budget import Caps
from orbatch.ledger.status import Status
from orbatch.runner.context import Event

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from orbatch.runner.runner import BatchRun

REFRESHES_PER_SECOND = 4

_STYLES = {"info": "", "warning": "yellow", "error": "red"}


class Watcher:
    """Receives progress and shows it. ``live`` None: plain lines."""

    def __init__(self, session: Session, log: IO[str] | None) -> None:
        self._session = session
        self._log = log
        self._run: BatchRun | None = None
        self.live: Live | None = None
        self.console: Console | None = None

    def attend(self, run: BatchRun) -> None:
        """The run whose reason to wait is shown."""
        self._run = run

    @property
    def waiting(self) -> str | None:
        return self._run.waiting if self._run is not None else None

    def notify(self, progress: Event) -> None:
        text = f"{progress.job}: {progress.text}" if progress.job else progress.text
        text = printable(text).replace("\n", " ")
        if self._log is not None:
            self._log.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {progress.level} {text}\n")
            self._log.flush()
        if self._session.quiet and progress.level == "info":
            return
        if self.console is not None:
            self.console.print(text, style=_STYLES[progress.level], soft_wrap=True)
        else:
            sys.stderr.write(f"{datetime.now(UTC).astimezone():%H:%M:%S} {text}\n")
            sys.stderr.flush()

    def say(self, text: str) -> None:
        self.notify(Event(text, level="warning"))


@contextlib.contextmanager
def watching(session: Session, ledger: Ledger, batch: BatchRecord, caps: Caps) -> Iterator[Watcher]:
    """A watcher for one run, with the live view where stderr is a terminal."""
    with contextlib.ExitStack() as stack:
        log = None
        if session.log_file is not None:
            log = stack.enter_context(session.log_file.open("a", encoding="utf-8"))
        watcher = Watcher(session, log)
        if sys.stderr.isatty() and not session.quiet:
            from rich.console import Console
            from rich.live import Live

            watcher.console = Console(stderr=True, highlight=False, markup=False, emoji=False)
            view = _View(ledger, batch, caps, watcher)
            watcher.live = stack.enter_context(
                Live(
                    console=watcher.console,
                    get_renderable=view.render,
                    refresh_per_second=REFRESHES_PER_SECOND,
                    auto_refresh=False,
                    transient=True,
                )
            )
            stack.enter_context(_refreshing(watcher.live))
        yield watcher


@contextlib.contextmanager
def _refreshing(live: Live) -> Iterator[None]:
    """Refresh from the loop's own thread: the ledger's connection belongs to it."""
    import asyncio

    async def refresh() -> None:
        while True:
            live.refresh()
            await asyncio.sleep(1 / REFRESHES_PER_SECOND)

    task = asyncio.get_running_loop().create_task(refresh())
    try:
        yield
    finally:
        task.cancel()


class _View:
    """The lines below what happened last: where the jobs stand, what it costs, why it waits."""

    def __init__(self, ledger: Ledger, batch: BatchRecord, caps: Caps, watcher: Watcher) -> None:
        self._ledger = ledger
        self._batch = batch
        self._caps = caps
        self._watcher = watcher

    def render(self) -> Text:
        from rich.text import Text

        counts = self._ledger.queries.counts(self._batch.id)
        charged, reserved = self._ledger.reports.spend(self._batch.id)
        running = counts[Status.SUBMITTING] + counts[Status.SUBMITTED]
        failed = sum(counts[status] for status in (Status.FAILED, Status.CANCELLED, Status.EXPIRED, Status.REJECTED))
        parts = [
            f"{counts[Status.DONE]} of {counts.total} done",
            f"{running} running",
            f"{counts[Status.COMPLETED]} to download",
            f"{counts[Status.PENDING]} waiting",
            f"{failed} failed",
        ]
        if counts[Status.UNCERTAIN]:
            parts.append(f"{counts[Status.UNCERTAIN]} uncertain")
        of = "" if self._caps.total is None else f" of {amount(self._caps.total)}"
        money = f"{amount(charged)} USD spent, {amount(reserved)} reserved{of}"
        lines = [" · ".join(parts), money]
        if self._watcher.waiting:
            lines.append(f"waiting: {printable(self._watcher.waiting)}")
        return Text("\n".join(lines), style="bold")
