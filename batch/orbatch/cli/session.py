"""What every command shares: the global options, where output goes, and how faults become sentences and exit codes."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from orbatch.ledger import BatchRecord, Ledger

P = ParamSpec("P")

# The exit codes that need no import; orbatch.exits documents all of them.
FAILED, USAGE = 1, 2


class Failure(Exception):
    """Ends a command with a message and an exit code."""

    def __init__(self, message: str, code: int = USAGE) -> None:
        self.code = code
        super().__init__(message)


def printable(text: str) -> str:
    """Text from users and providers without the control characters that could steer a terminal."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


@dataclass(frozen=True, slots=True)
class Session:
    """The global options of one call."""

    db: Path
    json: bool
    quiet: bool
    log_file: Path | None

    def ledger_path(self, *, simulate: bool) -> Path:
        """Play money has a ledger of its own beside the real one."""
        return self.db.with_name(self.db.name + "-sim") if simulate else self.db

    def open_ledger(self, *, simulate: bool, create: bool = False) -> Ledger:
        """Raises LedgerError; the message points to the simulated ledger where only that exists."""
        from orbatch.ledger import Ledger, LedgerError

        path = self.ledger_path(simulate=simulate)
        if not create and not simulate and not path.exists() and self.ledger_path(simulate=True).exists():
            raise LedgerError(
                f"There is no ledger at {path}, only the simulated one: add --simulate to look at {path.name}-sim."
            )
        return Ledger.open(path, create=create)

    def print(self, renderable: RenderableType) -> None:
        """A result, to stdout."""
        _console(sys.stdout).print(renderable, soft_wrap=isinstance(renderable, str))

    def say(self, text: str) -> None:
        """Something for the person at the terminal: stderr with --json, nowhere with --quiet."""
        if not self.quiet:
            typer.echo(printable(text), err=self.json)

    def warn(self, text: str) -> None:
        typer.echo(printable(text), err=True)

    def data(self, value: object) -> None:
        """JSON, to stdout."""
        typer.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def _console(file: Any) -> Console:
    from rich.console import Console

    console = Console(file=file, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        # Piped tables keep their columns whatever the width of some terminal.
        console.width = 200
    return console


def find_batch(ledger: Ledger, name: str | None) -> BatchRecord:
    """The batch of this name, or the one planned last. Raises Failure with the names there are."""
    names = ledger.plans.names()
    found = ledger.plans.find(name if name is not None else names[0]) if names or name else None
    if found is None:
        import difflib

        near = difflib.get_close_matches(name or "", names, n=1)
        there_are = f" There are: {', '.join(names)}." if names else " It has no batch yet."
        guess = f" Did you mean {near[0]}?" if near else ""
        raise Failure(f"{ledger.path} has no batch {name}.{there_are}{guess}" if name else f"{ledger.path}:{there_are}")
    return found


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Every foreseeable fault ends in a message on stderr and a documented exit code, never in a traceback."""

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except Failure as exc:
            _end(str(exc), exc.code)
        except (KeyboardInterrupt, EOFError):
            _end("Interrupted.", 130)
        except BrokenPipeError:
            # The reader of our output has gone (`orbatch jobs | head`); nothing is wrong.
            sys.stderr.close()
            raise SystemExit(0) from None
        except Exception as exc:
            message, code = _foreseen(exc)
            if message is None:
                raise
            _end(message, code)

    return wrapper


def _foreseen(error: Exception) -> tuple[str | None, int]:
    from orbatch.config import ConfigError
    from orbatch.ledger import LedgerError
    from orbatch.preparing import PlanError, PlanProblems
    from orbatch_provider.errors import ConfigurationError, OpenRouterError

    if isinstance(error, ConfigError):
        return "\n".join(str(problem) for problem in error.problems) + "\nNothing was sent.", USAGE
    if isinstance(error, PlanProblems):
        lines = [
            f"{group.model}: {group.text}\n    in {', '.join(group.jobs)}"
            + (f" and {group.count - len(group.jobs)} more" if group.count > len(group.jobs) else "")
            for group in error.problems
        ]
        return "\n".join(lines) + f"\n{error}.", USAGE
    if isinstance(error, (PlanError, ConfigurationError)):
        return str(error), USAGE
    if isinstance(error, (LedgerError, OpenRouterError, OSError)):
        return str(error), FAILED
    return None, FAILED


def _end(message: str, code: int) -> None:
    typer.echo(printable(message), err=True)
    raise typer.Exit(code)
