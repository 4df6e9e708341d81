"""A run while it happens: a live view on a terminal, plain lines elsewhere, the log file, and what signals do."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from orbatch.cli import stop_signals
from orbatch.cli.errors import ExitCode, Failure
from orbatch.cli.files import open_private
from orbatch.cli.provider import Connection
from orbatch.cli.session import Session
from orbatch.cli.streams import printable
from orbatch.cli.tables import (
    SCREEN,
    Table,
    amount,
    clock_text,
    jobs_are,
    pluralize,
    screen_counts,
    shortened,
    table,
)
from orbatch.ledger import BatchRecord, Ledger, ModelProgress, Status
from orbatch.runner import BatchRun, Clock, Event, RunOptions, RunResult

if TYPE_CHECKING:
    from rich.console import Console

REFRESH_S = 0.25
RENDER_SHARE = 0.05  # of the time may go into drawing; a ledger of 100,000 jobs takes longer to count
SUMMARY_EVERY_S = 60.0  # between two summaries where there is no terminal
BAR_LENGTH = 20  # characters
LINES_BESIDE_MODELS = 6  # of a terminal: title, total, money, reason to wait, and two lines of messages

_STYLES = {"failed": "red", "warning": "yellow", "error": "red"}
_MARKS = {"done": ("✓", "green"), "failed": ("✗", "red")}


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
        log = EventLog(session, options.output_dir, file, console)
        stack.callback(log.close)
        batch_run = BatchRun(ledger, batch, connection.provider, options, Clock(connection.speed), log.show)
        progress = Progress(ledger, batch, batch_run)
        if console is not None:
            stack.enter_context(_live_view(console, progress))
        else:
            stack.enter_context(_beside(_summaries(progress, log)))
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

    session: Session
    output_dir: Path
    file: IO[str] | None
    console: Console | None

    def show(self, event: Event) -> None:
        """Log and show one message: details with --verbose alone, only warnings and errors with --quiet."""
        text = printable(self._text(event)).replace("\n", " ")  # one line per message, or a log could be forged
        is_shown = event.level not in ("detail", "done", "info") if self.session.quiet else event.level != "detail"
        if is_shown or self.session.verbose:
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

    def _text(self, event: Event) -> str:
        if event.level == "done":
            path = os.path.relpath(event.path, self.output_dir)
            return f"{event.job} · {event.text} · {path}"
        return f"{event.job}: {event.text}" if event.job else event.text

    def _print(self, text: str, level: str) -> None:
        mark, style = _MARKS.get(level, ("", ""))
        if self.console is not None:
            from rich.text import Text

            if level == "done":  # the whole path is in the log and in `jobs`
                text = shortened(text, self.console.width - 2)
            line = Text.assemble((f"{mark} " if mark else "", style), (text, _STYLES.get(level, "")))
            self.console.print(line, soft_wrap=True)  # a path can be copied whole
        else:
            line_text = f"{mark} {text}" if mark else text
            sys.stderr.write(f"{datetime.now(UTC).astimezone():%H:%M:%S} {line_text}\n")
            sys.stderr.flush()  # stderr of a pipe may be buffered


class Progress:
    """Where a run stands, by the ledger's figures, so that it is true after a restart, too."""

    def __init__(self, ledger: Ledger, batch: BatchRecord, batch_run: BatchRun) -> None:
        self._ledger = ledger
        self._batch = batch
        self._run = batch_run
        self._began = time.monotonic()

    def lines(self, width: int, height: int) -> list[str]:
        """One line per model and the total below a title; time and money; why nothing is submitted at the moment."""
        models = self._ledger.queries.progress(self._batch.id)
        waiting = [f"Waiting: {printable(self._run.waiting)}"] if self._run.waiting else []
        title, _, *rows = progress_table(models, height - LINES_BESIDE_MODELS).lines(width)
        return [title, *rows, f"{self._time(models)} {self._money()}", *waiting]

    def summary(self) -> str:
        """The same in one line."""
        models = self._ledger.queries.progress(self._batch.id)
        total = _row("total", models)
        counts = [f"{total[word]} {word}" for word in SCREEN if word == "done" or total[word] != "0"]
        return f"{', '.join(counts)}. {self._time(models)} {self._money()}"

    def _time(self, models: Sequence[ModelProgress]) -> str:
        left_s = self._run.seconds_left(models)
        left = f", about {clock_text(left_s)} left" if left_s else ""
        return f"{clock_text(time.monotonic() - self._began)} elapsed{left}."

    def _money(self) -> str:
        charged, reserved = self._ledger.reports.spend(self._batch.id)
        total = self._run.options.caps.total  # now: `orbatch set` may change it
        cap = "" if total is None else f" of {amount(total)} USD"
        return f"{amount(charged)} USD spent, {amount(reserved)} reserved{cap}."


def progress_table(models: Sequence[ModelProgress], most: int) -> Table:
    """A row per model, at most ``most`` of them, those with work to do first; and their total."""
    shown = list(models)
    if len(models) > max(most, 1):
        shown.sort(key=lambda part: (part.counts[Status.PENDING] > 0) + 2 * _is_running(part), reverse=True)
        shown, others = shown[: max(most, 1)], shown[max(most, 1) :]
        rows = [_row(part.model, [part]) for part in shown] + [_row(f"{len(others)} other models", others)]
    else:
        rows = [_row(part.model, [part]) for part in shown]
    if len(models) != 1:  # a total of one row would repeat it
        rows.append(_row("total", models))
    words = [word for word in SCREEN if word != "done"]
    columns = {title: itemgetter(title) for title in ("model", "progress", "done", *words, "spent USD")}
    always = ("progress", "done", "running", "spent USD")
    return table(rows, columns, numbers=["done", *words, "spent USD"], flexible=["model"], always=always)


def _row(name: str, models: Sequence[ModelProgress]) -> dict[str, str]:
    counts: Counter[str] = Counter()
    for part in models:
        counts.update(screen_counts(part.counts))
    jobs = counts.total()
    filled = BAR_LENGTH * counts["done"] // jobs if jobs else 0
    return {word: str(counts[word]) for word in SCREEN} | {
        "model": name.rpartition("/")[2],
        "progress": "█" * filled + "░" * (BAR_LENGTH - filled),
        "done": f"{counts['done']}/{jobs}",
        "spent USD": amount(sum(part.charged_nusd for part in models)),
    }


def _is_running(part: ModelProgress) -> bool:
    return any(part.counts[status] for status in SCREEN["running"])


@contextlib.contextmanager
def _live_view(console: Console, progress: Progress) -> Iterator[None]:
    """The lines below the latest message, refreshed in the loop's own thread: the ledger's connection belongs to it."""
    from rich.live import Live
    from rich.text import Text

    def render() -> Text:
        lines = progress.lines(console.width, console.height)
        text = Text("\n".join(shortened(line, console.width) for line in lines), no_wrap=True)
        text.stylize("dim", 0, len(lines[0]))
        text.highlight_regex("█+", "green")
        return text

    async def refresh() -> None:
        while True:
            began = time.monotonic()
            live.refresh()
            await asyncio.sleep(max(REFRESH_S, (time.monotonic() - began) / RENDER_SHARE))

    with Live(console=console, get_renderable=render, auto_refresh=False, transient=True) as live, _beside(refresh()):
        yield


async def _summaries(progress: Progress, log: EventLog) -> None:
    while True:
        await asyncio.sleep(SUMMARY_EVERY_S)
        log.show(Event(progress.summary()))


@contextlib.contextmanager
def _beside(work: Coroutine[Any, Any, None]) -> Iterator[None]:
    """Work that goes on while the run does, and ends with it."""
    task = asyncio.get_running_loop().create_task(work)
    try:
        yield
    finally:
        task.cancel()


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

    numbers = stop_signals()
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
