"""What every command shares: global and common options, output, questions, errors as sentences, exit codes."""

from __future__ import annotations

import contextlib
import difflib
import functools
import io
import json
import os
import re
import select
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import IntEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from orbatch.money import parse_usd as parse_amount

if TYPE_CHECKING:
    from orbatch.ledger import BatchRecord, JobRecord, Ledger

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


# Control characters, lone surrogates, line separators, and characters that change the direction of text.
_STEERING = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufff9-\ufffb]"
)


def printable(text: str) -> str:
    """Text from users and providers without the characters that could steer a terminal."""
    return _STEERING.sub("\N{REPLACEMENT CHARACTER}", text)


def json_text(value: object, indent: int | None = None) -> str:
    """JSON with escapes for the characters that it allows and a terminal would obey, such as U+009B."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, default=str)
    return _STEERING.sub(lambda found: json.dumps(found[0])[1:-1], text)


def parse_usd(text: str) -> Decimal:
    """An amount in USD from the command line, within the bounds of a batch file."""
    try:
        return parse_amount(text)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc


# Arguments and options that several commands have.
Batch = Annotated[str | None, typer.Argument(help="Batch name. Default: the most recent.")]
OneOrAll = Annotated[str | None, typer.Argument(help="Batch name. Default: the whole ledger.")]
Only = Annotated[str | None, typer.Option(help="Only jobs whose prompt id, model or job id matches, such as 'cat*'.")]
Prompt = Annotated[
    str | None, typer.Option("--prompt", help="Only this prompt: a pattern for its id, or part of its text.")
]
Model = Annotated[str | None, typer.Option("--model", help="Only this model: a pattern, or part of its name.")]
StatusOption = Annotated[
    str | None, typer.Option("--status", help="Only jobs with this status, such as failed; several with commas.")
]
Refresh = Annotated[bool, typer.Option("--refresh", help="Ignore the cached price list and fetch it again.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
Budget = Annotated[Decimal | None, typer.Option(parser=parse_usd, metavar="USD", help="Replaces budget.total_usd.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Buy also what another batch of the ledger has paid for.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]
Speed = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        max=10_000,
        help="Speed of the local simulator, as a multiple of real time. [default: 30 with --simulate, else 1]",
        show_default=False,
    ),
]


LEDGER_NAME = "orbatch.db"


@dataclass(frozen=True, slots=True)
class Session:
    """The global options of one call. ``db``: the ledger that ``--db`` or ORBATCH_DB names, None: it is looked for;
    ``db_named``: by ``--db``, which suggested commands must repeat. ``directory``: of the batch file, for commands that
    have one. ``command``: the call as it was typed."""

    db: Path | None
    json: bool
    quiet: bool
    log_file: Path | None
    simulate: bool
    db_named: bool = False
    verbose: bool = False
    directory: Path | None = None
    command: str = field(default_factory=lambda: shlex.join(["orbatch", *sys.argv[1:]]))

    def beside(self, config: Path) -> Session:
        """The same for a command about this batch file, by whatever name it is called."""
        return self if self.directory is not None else replace(self, directory=config.resolve().parent)

    @property
    def flags(self) -> str:
        """What a suggested command needs to find the same ledger from the current directory."""
        if (self.db is not None and not self.db_named) or _found_from_here(self._name, self.ledger_path):
            return " --simulate" if self.simulate else ""
        return self.flags_for(Path(relative_path(self.ledger_path)))

    def flags_for(self, ledger: Path) -> str:
        """What a suggested command needs to use this ledger."""
        base = ledger.with_name(ledger.name.removesuffix("-sim")) if self.simulate else ledger
        return f" --db {shlex.quote(str(base))}" + (" --simulate" if self.simulate else "")

    @property
    def _name(self) -> str:
        return LEDGER_NAME + ("-sim" if self.simulate else "")

    @property
    def ledger_path(self) -> Path:
        """Where the ledger is, or would be created: ``db``; or the nearest one in the batch file's directory and above;
        or, without a batch file, in the current directory and above, or else in the only directory below that has one.
        Simulated money has a ledger of its own beside the real one. Raises Failure where several are as near."""
        if self.db is not None:
            return self.db.with_name(self.db.name + "-sim") if self.simulate else self.db
        start = self.directory or Path.cwd()
        places = [start, *start.parents]
        if self.directory is None and not any((place / self._name).is_file() for place in places):
            places = _places_below(self._name) or places
        return next((path for place in places if (path := place / self._name).is_file()), places[0] / self._name)

    def open_ledger(self, *, create: bool = False) -> Ledger:
        """Says which one where it is not in the current directory. Raises LedgerError; the message points to the
        simulated ledger where only that exists."""
        from orbatch.ledger import Ledger, LedgerError

        path = self.ledger_path
        if path.absolute().parent != Path.cwd() and (create or path.exists()):
            self.say(f"Ledger: {relative_path(path)}")
        if not create and not path.exists():
            if self.simulate:
                raise LedgerError(f"{path} does not exist. `orbatch run --simulate` creates it.")
            simulated = path.with_name(path.name + "-sim")
            if simulated.exists():
                raise LedgerError(f"{path} does not exist, only {simulated.name}. To use that one, add --simulate.")
        return Ledger.open(path, create=create)

    def check_log_file(self) -> None:
        """Raises Failure now rather than after money was spent; also for a file that is no log of orbatch."""
        if self.log_file is None:
            return
        try:
            if self.log_file.is_file() and not _is_log(self.log_file):
                raise Failure(f"The log file {self.log_file} is not a log of orbatch, so nothing is appended to it.")
            open_private(self.log_file, "a").close()
        except OSError as exc:
            raise Failure(f"The log file {self.log_file} cannot be written: {exc.strerror}.") from exc

    def print(self, lines_of: Callable[[int | None], Iterable[str]]) -> None:
        """A table, to stdout: within the width of a terminal, whole in a pipe. ``lines_of`` lays it out for a width."""
        titles, *lines = lines_of(shutil.get_terminal_size().columns if sys.stdout.isatty() else None)
        typer.echo("\n".join([typer.style(titles, bold=True), *lines]))

    def result(self, text: str) -> None:
        """A result in words, to stdout."""
        typer.echo(printable(text))

    def say(self, text: str) -> None:
        """Progress or a remark, to stderr; nothing with --quiet."""
        if not self.quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        """What must be seen even with --quiet, to stderr."""
        typer.echo(printable(text), err=True)

    def data(self, value: object) -> None:
        """JSON, to stdout."""
        typer.echo(json_text(value, indent=2))


def relative_path(path: str | Path) -> str:
    """The shorter of the absolute path and the one from the current directory."""
    absolute = str(Path(path).absolute())
    with contextlib.suppress(ValueError):  # another drive
        return min(os.path.relpath(absolute), absolute, key=len)
    return absolute


def _places_below(name: str) -> list[Path]:
    """The direct subdirectory of the current one that has a ledger. Raises Failure for several."""
    found = sorted(path.parent for path in Path.cwd().glob(f"*/{name}"))
    if len(found) > 1:
        ledgers = ", ".join(relative_path(place / name) for place in found)
        raise Failure(f"There are several ledgers here: {ledgers}. Name one with --db.")
    return found


def _found_from_here(name: str, path: Path) -> bool:
    """Whether a command without a batch file finds this ledger."""
    try:
        return Session(None, False, True, None, name.endswith("-sim")).ledger_path.absolute() == path.absolute()
    except Failure:
        return False


def open_private(path: Path, mode: str) -> IO[str]:
    """A text file that only the user can read where it is made here: it holds prompts and amounts."""
    return open(path, mode, encoding="utf-8", newline="", opener=lambda name, flags: os.open(name, flags, 0o600))


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[IO[str]]:
    """A file that has its name only when it is whole. Check the name with ``check_new`` first."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open_private(part, "x") as file:
            yield file
        part.replace(path)
    except OSError as exc:
        if exc.filename == str(part):
            exc.filename = str(path)  # the one that the user knows
        raise
    finally:
        part.unlink(missing_ok=True)


def check_new(path: Path, example: str, *, force: bool | None = None) -> None:
    """Raises Failure for a path that must not be written: a directory; a file that exists, without ``force`` (None: the
    command has no such option); and with it, what may be a batch file, a ledger or its receipts."""
    if path.is_dir():
        raise Failure(f"{path} is a directory. Name the file to write, such as {path / example}.")
    if not os.path.lexists(path):
        return
    if not force:
        replace_it = "" if force is None else ", or pass --force to replace it"
        raise Failure(f"{path} already exists. Choose another name{replace_it}.")
    if path.suffix in (".yaml", ".yml") or path.parent.name == ".orbatch" or _is_database(path):
        raise Failure(f"{path} may be a batch file, a ledger or its receipts, so --force does not replace it.")


def _is_database(path: Path) -> bool:
    """Whether it is an SQLite file, or one that belongs to one."""
    beside = [path.with_name(path.name.removesuffix(suffix)) for suffix in ("-wal", "-shm", "-journal")]
    try:
        return any(_begins_with(name, b"SQLite format 3\0") for name in {path, *beside} if name.is_file())
    except OSError:
        return True  # what cannot be read is not replaced


def _begins_with(path: Path, start: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(start)) == start


_LOG_LINE = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ [a-z]+ ")


def _is_log(path: Path) -> bool:
    with path.open("rb") as file:
        beginning = file.read(64)
    return not beginning or _LOG_LINE.match(beginning) is not None


def confirm(question: str, declined: str) -> None:
    """Ask at the terminal. Raises Failure for a no (with ``declined``), for Ctrl-C, and where there is no terminal."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Failure("No terminal to confirm on. Review what is shown above and pass --yes.")
    try:
        if not typer.confirm(question, err=True):
            raise Failure(declined, ExitCode.INTERRUPTED)
    except typer.Abort:
        raise Failure("Interrupted; nothing was done.", ExitCode.INTERRUPTED) from None


def did_you_mean(word: str, known: list[str]) -> str:
    """A sentence with the nearest known word, or nothing."""
    near = difflib.get_close_matches(word, known, n=1)
    return f" Did you mean {near[0]}?" if near else ""


def find_batch(ledger: Ledger, name: str | None) -> BatchRecord:
    """The batch of this name; None: the one planned last. Raises Failure with the names in the ledger."""
    names = ledger.plans.names()
    found = ledger.plans.find(name if name is not None else names[0]) if names or name else None
    if found is None:
        if not names:
            raise Failure(f"{ledger.path} has no batch yet.")
        raise Failure(
            f"{ledger.path} has no batch {name}.{did_you_mean(name or '', names)} It has: {', '.join(names)}."
        )
    return found


def find_job(ledger: Ledger, prefix: str) -> JobRecord:
    """The job whose id or remote id starts with ``prefix``. Raises NoSuchJob for none or several."""
    if not prefix:
        raise Failure("Give the first characters of a job id. `orbatch jobs` lists them.")
    return ledger.queries.find_job(prefix)


class _Outlived(io.FileIO):
    """A standard stream that swallows what nobody can read any more: a broken pipe, a full disk, a lost terminal."""

    def write(self, data: Any) -> int:
        """Write, or from the first failure on write nothing; never raises OSError."""
        try:
            while (written := super().write(data)) is None:  # a full pipe that does not block, such as of Node.js
                select.select([], [self], [])
        except OSError:
            _silence(self)
            return memoryview(data).nbytes
        return written


def outlive_readers() -> None:
    """From now on no failure to print ends the command: for those that spend or record, whose exit code must be true
    whether anybody reads along or not."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        below = getattr(stream, "buffer", None)
        # A test's stream has no file below it, and the console of Windows is none.
        if not isinstance(below, (io.BufferedWriter, io.FileIO)) or (os.name == "nt" and stream.isatty()):
            continue
        try:
            stream.flush()
        except OSError:
            _silence(stream)
        raw = _Outlived(stream.fileno(), "w", closefd=False)
        binary: Any = raw if isinstance(below, io.FileIO) else io.BufferedWriter(raw)  # the former: PYTHONUNBUFFERED
        lines = {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
        setattr(sys, name, io.TextIOWrapper(binary, stream.encoding, stream.errors, **lines))


def _silence(stream: IO[Any] | io.FileIO) -> None:
    """Send the rest of a stream nowhere, or what is buffered would fail again at the exit."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


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
            _silence(sys.stdout)
            _silence(sys.stderr)
            raise SystemExit(ExitCode.DONE) from None
        except Exception as exc:
            message, code = foreseen(exc)
            if message is None:
                raise
            _exit(message, code)

    return wrapper


def _exit(message: str, code: int) -> None:
    for stream, text in ((sys.stdout, ""), (sys.stderr, f"{printable(message)}\n")):
        try:
            stream.write(text)
            stream.flush()
        except OSError:  # the exit code is true even where the message cannot be shown
            _silence(stream)
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
