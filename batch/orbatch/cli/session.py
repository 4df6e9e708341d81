"""What every command shares: the global options, where output goes, and how faults become sentences and exit codes."""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from orbatch.ledger import BatchRecord, JobRecord, Ledger

P = ParamSpec("P")

# The exit codes that need no import; orbatch.exits documents all of them.
FAILED, USAGE = 1, 2


class Failure(Exception):
    """Ends a command with a message and an exit code."""

    def __init__(self, message: str, code: int = USAGE) -> None:
        self.code = code
        super().__init__(message)


# Control characters, lone surrogates, line separators, and what turns the direction of writing.
_STEERING = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufff9-\ufffb]"
)


def printable(text: str) -> str:
    """Text from users and providers without the characters that could steer a terminal."""
    return _STEERING.sub("\N{REPLACEMENT CHARACTER}", text)


@dataclass(frozen=True, slots=True)
class Session:
    """The global options of one call. ``db_named``: the ledger was named by ``--db``, which commands that are
    suggested must repeat. ``command``: the call as it was typed."""

    db: Path
    json: bool
    quiet: bool
    log_file: Path | None
    db_named: bool = False
    command: str = field(default_factory=lambda: shlex.join(["orbatch", *sys.argv[1:]]))

    def flags(self, *, simulate: bool) -> str:
        """What a suggested command needs to find the same ledger."""
        db = f" --db {shlex.quote(str(self.db))}" if self.db_named else ""
        return db + (" --simulate" if simulate else "")

    def ledger_path(self, *, simulate: bool) -> Path:
        """Play money has a ledger of its own beside the real one."""
        return self.db.with_name(self.db.name + "-sim") if simulate else self.db

    def open_ledger(self, *, simulate: bool, create: bool = False) -> Ledger:
        """Raises LedgerError; the message points to the simulated ledger where only that exists."""
        from orbatch.ledger import Ledger, LedgerError

        path = self.ledger_path(simulate=simulate)
        if not create and not path.exists():
            if simulate:
                raise LedgerError(f"There is no simulated ledger at {path}; `orbatch run --simulate` makes one.")
            if self.ledger_path(simulate=True).exists():
                raise LedgerError(
                    f"There is no ledger at {path}, only the simulated one: add --simulate to look at {path.name}-sim."
                )
        return Ledger.open(path, create=create)

    def check_log_file(self) -> None:
        """Raises Failure now rather than after money was spent."""
        if self.log_file is not None:
            try:
                self.log_file.open("a", encoding="utf-8").close()
            except OSError as exc:
                raise Failure(f"The log file {self.log_file} cannot be written: {exc.strerror}.") from exc

    def print(self, renderable: RenderableType) -> None:
        """A result, to stdout."""
        if isinstance(renderable, str):
            typer.echo(renderable)
        else:
            _console(sys.stdout).print(renderable)

    def result(self, text: str) -> None:
        """A result in words, to stdout."""
        typer.echo(printable(text))

    def say(self, text: str) -> None:
        """Something for the person at the terminal, to stderr; nowhere with --quiet."""
        if not self.quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        """Something that must be seen, to stderr."""
        typer.echo(printable(text), err=True)

    def data(self, value: object) -> None:
        """JSON, to stdout."""
        typer.echo(_json_text(value))


def _json_text(value: object) -> str:
    """Readable JSON. What JSON lets through and a terminal would obey, such as U+009B, is escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
    return _STEERING.sub(lambda found: json.dumps(found[0])[1:-1], text)


def _console(file: Any) -> Console:
    from rich.console import Console

    class Pipe(Console):
        def on_broken_pipe(self) -> None:
            """The reader has gone: for ``guarded`` to handle. The console's own way is to fail."""
            raise BrokenPipeError

    console = Pipe(file=file, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        # Piped tables keep their columns whatever the width of some terminal.
        console.width = 200
    return console


def confirmed(question: str) -> bool:
    """Ask at the terminal. Raises Failure for Ctrl-C and for the end of the input."""
    # An event loop's own handler would only note a Ctrl-C and go on waiting for the answer.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        raise Failure("Interrupted; nothing was done.", 130) from None
    finally:
        signal.signal(signal.SIGINT, before)


def find_batch(ledger: Ledger, name: str | None) -> BatchRecord:
    """The batch of this name, or the one planned last. Raises Failure with the names there are."""
    names = ledger.plans.names()
    found = ledger.plans.find(name if name is not None else names[0]) if names or name else None
    if found is None:
        import difflib

        near = difflib.get_close_matches(name or "", names, n=1)
        there_are = f" There are: {', '.join(names)}." if names else ""
        guess = f" Did you mean {near[0]}?" if near else ""
        missing = "no batch yet" if not names else f"no batch {name}"
        raise Failure(f"{ledger.path} has {missing}.{guess}{there_are}")
    return found


def find_job(ledger: Ledger, prefix: str) -> JobRecord:
    """The job whose id or remote id begins so. Raises Failure for none or several."""
    from orbatch.ledger import NoSuchJob

    if not prefix:
        raise Failure("Name a job by the beginning of its id; `orbatch jobs` lists them.")
    try:
        return ledger.queries.find_job(prefix)
    except NoSuchJob as exc:
        raise Failure(str(exc)) from None


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Every foreseeable fault ends in a message on stderr and a documented exit code, never in a traceback."""

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except Failure as exc:
            _end(str(exc), exc.code)
        except (KeyboardInterrupt, EOFError, typer.Abort):
            _end("Interrupted.", 130)
        except BrokenPipeError:
            # The reader of our output has gone (`orbatch jobs | head`); nothing is wrong.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is flushed at the exit
            raise SystemExit(0) from None
        except Exception as exc:
            message, code = _foreseen(exc)
            if message is None:
                raise
            _end(message, code)

    return wrapper


def _foreseen(error: Exception) -> tuple[str | None, int]:
    from orbatch.batchfile.errors import ConfigError
    from orbatch.ledger import LedgerError
    from orbatch.plan.plan import PlanError, PlanProblems
    from orbatch_provider.errors import ConfigurationError, OpenRouterError

    if isinstance(error, ConfigError):
        return "\n".join(str(problem) for problem in error.problems) + "\nNothing was sent.", USAGE
    if isinstance(error, PlanProblems):
        lines = []
        for group in error.problems:
            more = f" and {group.count - len(group.jobs)} more" if group.count > len(group.jobs) else ""
            text = group.text if group.model in group.text else f"{group.model}: {group.text}"
            lines.append(f"{text}\n    in {', '.join(group.jobs)}{more}")
        return "\n".join(lines) + f"\n{error}.", USAGE
    if isinstance(error, (PlanError, ConfigurationError)):
        return str(error), USAGE
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}.", FAILED
    if isinstance(error, (LedgerError, OpenRouterError, OSError)):
        return str(error), FAILED
    return None, FAILED


def _end(message: str, code: int) -> None:
    typer.echo(printable(message), err=True)
    raise typer.Exit(code)
