"""What every command shares: the global options, the ledger that they mean, output, and questions."""

from __future__ import annotations

import difflib
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from orbatch.cli.errors import ExitCode, Failure
from orbatch.cli.files import is_log, open_private, relative_path
from orbatch.cli.streams import json_text, printable

if TYPE_CHECKING:
    from orbatch.ledger import BatchRecord, JobRecord, Ledger

LEDGER_NAME = "orbatch.db"


@dataclass(frozen=True, slots=True)
class Session:
    """The global options of one call. ``db``: the ledger that ``--db`` or ORBATCH_DB names, None: it is looked for;
    ``db_named``: by ``--db``, which suggested commands must repeat. ``directory``: of the batch file, for commands that
    have one. ``title``: what the user calls it, in place of the name of the batch. ``command``: the call as typed."""

    db: Path | None
    json: bool
    quiet: bool
    log_file: Path | None
    simulate: bool
    db_named: bool = False
    verbose: bool = False
    directory: Path | None = None
    title: str = ""
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
            if self.log_file.is_file() and not is_log(self.log_file):
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
