"""Problems of a batch file and its prompt files, collected so that a user sees all of them together."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from orbatch_provider.errors import redact

MAX_PROBLEMS = 100  # more are usually the same mistake again
_QUOTED = 60  # characters of a value that a message repeats


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """``file`` as the user named it; ``line`` from 1, None if none is to blame; ``key``: such as ``prompts[2].id``."""

    file: str
    line: int | None
    key: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file  # editors and terminals link file:line
        return f"{where}: {self.key}: {self.message}" if self.key else f"{where}: {self.message}"


class ConfigError(Exception):
    """The batch file cannot be used. ``problems`` holds everything that is wrong with it; nothing was submitted."""

    def __init__(self, problems: Iterable[ConfigProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class UnreadableError(Exception):
    """A file cannot be read beyond ``line`` (None: at all), so there is nothing more to check in it."""

    def __init__(self, line: int | None, message: str) -> None:
        self.line = line
        super().__init__(message)


class Report:
    """Collects the problems of one file."""

    def __init__(self, file: str | Path, problems: dict[ConfigProblem, None] | None = None) -> None:
        self.file = str(file)
        # A dict keeps their order, and a problem that many jobs have is reported once.
        self._problems: dict[ConfigProblem, None] = {} if problems is None else problems

    @cached_property
    def base(self) -> Path:
        """Where relative paths in the file start."""
        return Path(self.file).parent

    def add(self, line: int | None, key: str, message: str) -> None:
        """Record a problem. Raises ConfigError at the MAX_PROBLEMS-th."""
        self._problems.setdefault(ConfigProblem(self.file, line, key, message))
        if len(self._problems) >= MAX_PROBLEMS:
            closing = ConfigProblem(self.file, None, "", f"stopped after {MAX_PROBLEMS} problems; there may be more")
            raise ConfigError([*self._problems, closing])

    def about(self, file: str | Path) -> Report:
        """A report on another file that collects into the same list."""
        return Report(file, self._problems)

    @property
    def count(self) -> int:
        """Problems so far, of all files; compare before and after a check to see whether it found any."""
        return len(self._problems)

    def raise_any(self) -> None:
        """Raises ConfigError if there are problems: by file in the order of discovery, then by line."""
        if self._problems:
            files = list(dict.fromkeys(problem.file for problem in self._problems))
            raise ConfigError(sorted(self._problems, key=lambda each: (files.index(each.file), each.line or 0)))


def quoted(value: object) -> str:
    """A value as a message repeats it: short, on one line, without secrets; text in quotes."""
    text = redact(str(value))
    text = text if len(text) <= _QUOTED else text[: _QUOTED - 1] + "…"
    return f"'{text}'" if isinstance(value, str) else text


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """``; did you mean 'duration'?`` for the nearest known word, or an empty text. ``cutoff``: difflib's similarity."""
    by_case = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), by_case, n=1, cutoff=cutoff)
    return f"; did you mean '{by_case[close[0]]}'?" if close else ""
