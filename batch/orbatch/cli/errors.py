"""How a command ends: exit codes, and every foreseeable error as a sentence."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable
from enum import IntEnum
from typing import ParamSpec

import typer

from orbatch.cli.streams import printable, silence

P = ParamSpec("P")


class ExitCode(IntEnum):
    """What the exit code of every command means; ``run`` chooses among them in ``run.exit_code``."""

    DONE = 0  # everything done
    FAILED = 1  # orbatch or the provider failed
    USAGE = 2  # bad usage or batch file, nothing submitted
    NO_OUTPUT = 3  # some jobs have no output
    BUDGET = 4  # stopped by budget or credit
    UNCERTAIN = 5  # uncertain jobs need `resolve`
    INTERRUPTED = 130  # interrupted (the same command resumes), or the confirmation was declined


class Failure(Exception):
    """Ends a command with a message and an exit code."""

    def __init__(self, message: str, code: int = ExitCode.USAGE) -> None:
        self.code = code
        super().__init__(message)


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Every foreseeable error ends in a message on stderr and a documented exit code, never in a traceback."""

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()  # a full disk is an error of the command, not of the interpreter's exit
        except Failure as exc:
            _exit(str(exc), exc.code)
        except (KeyboardInterrupt, EOFError, typer.Abort):
            _exit("Interrupted.", ExitCode.INTERRUPTED)
        except BrokenPipeError:
            # The reader is gone (`orbatch jobs | head`), which is no error.
            silence(sys.stdout)
            silence(sys.stderr)
            raise SystemExit(ExitCode.DONE) from None
        except Exception as exc:
            message, code = foreseen(exc)
            if message is None:
                raise
            _exit(message, code)

    return wrapper


# A message says what happened, and then what to type; the second sentence begins with one of these.
_HINT = re.compile(
    r"(?<=[.?!]) (?=(?:Add|Check|Choose|Close|Create|Did you mean|Free|Give|If|Make|Name|Omit|Pass|Put|Raise|Restore"
    r"|Retry|Review|Run|Set|To|Use|Wait|Write|`orbatch)\b)"
)


def _rendered(message: str, code: int) -> str:
    """``error: ...`` and ``hint: ...``, in two lines; an interruption is no error."""
    if code == ExitCode.INTERRUPTED:
        return message
    happened, *hint = _HINT.split(message, maxsplit=1)
    is_terminal = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    error = typer.style("error:", fg="red", bold=True) if is_terminal else "error:"
    return "\n".join([f"{error} {happened}", *(f"hint:  {text}" for text in hint)])


def _exit(message: str, code: int) -> None:
    for stream, text in ((sys.stdout, ""), (sys.stderr, f"{_rendered(printable(message), code)}\n")):
        try:
            stream.write(text)
            stream.flush()
        except OSError:  # the exit code is true even where the message cannot be shown
            silence(stream)
    raise typer.Exit(code)


def foreseen(error: Exception) -> tuple[str | None, ExitCode]:
    """The message and exit code of an error that is not a defect of orbatch; None for any other."""
    from orbatch.ledger import LedgerError, NoSuchJob
    from orbatch_provider import ConfigurationError, OpenRouterError

    if isinstance(error, (ConfigurationError, NoSuchJob)):
        return str(error), ExitCode.USAGE
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}.", ExitCode.FAILED
    if isinstance(error, (LedgerError, OpenRouterError, OSError)):
        return str(error), ExitCode.FAILED
    from orbatch.batchfile.errors import ConfigError  # only now: the plan takes half a second
    from orbatch.plan import PlanError

    if isinstance(error, ConfigError):
        return f"{error}\nNothing was submitted.", ExitCode.USAGE
    return (str(error), ExitCode.USAGE) if isinstance(error, PlanError) else (None, ExitCode.FAILED)
