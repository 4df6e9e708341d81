"""What is wrong with a batch file or its prompt files, collected so that a user sees all of it at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from orbatch_provider.errors import redact

# Beyond this many, the rest is usually the same mistake again.
MAX_PROBLEMS = 100
_SHOWN = 60  # characters of a found value that a message repeats


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One problem. ``file`` as the user named it; ``line`` from 1, None where no line is to blame; ``key`` is the
    dotted path to the value, such as ``defaults.duration`` or ``prompts[2].id``, and may be empty."""

    file: str
    line: int | None
    key: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.key}: {self.message}" if self.key else f"{where}: {self.message}"


class ConfigError(Exception):
    """The batch cannot be read as it stands. ``problems`` holds every problem found; nothing was spent."""

    def __init__(self, problems: Iterable[ConfigProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Report:
    """Collects the problems of one file; ``base`` is the folder that its relative paths start from."""

    def __init__(self, file: str, base: Path, problems: dict[ConfigProblem, None] | None = None) -> None:
        self.file = file
        self.base = base
        # A dict for its order: a problem that comes up for each of many jobs is told once.
        self._problems: dict[ConfigProblem, None] = {} if problems is None else problems

    def add(self, line: int | None, key: str, message: str) -> None:
        """Notes a problem; raises ConfigError when there are too many to go on."""
        self._problems.setdefault(ConfigProblem(self.file, line, key, message))
        if len(self._problems) >= MAX_PROBLEMS:
            closing = ConfigProblem(self.file, None, "", f"stopped after {MAX_PROBLEMS} problems; there may be more")
            raise ConfigError([*self._problems, closing])

    def about(self, file: str, base: Path) -> Report:
        """A report on another file that collects into the same list."""
        return Report(file, base, self._problems)

    @property
    def count(self) -> int:
        return len(self._problems)

    def raise_any(self) -> None:
        """Raises ConfigError when there is a problem."""
        if self._problems:
            files = list(dict.fromkeys(problem.file for problem in self._problems))
            raise ConfigError(sorted(self._problems, key=lambda each: (files.index(each.file), each.line or 0)))


def shown(value: object) -> str:
    """A found value as a message repeats it: short, on one line, without secrets."""
    text = redact(str(value))
    text = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    return f"'{text}'" if isinstance(value, str) else text


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """``; did you mean 'duration'?``, or nothing when no known word is near."""
    by_case = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), by_case, n=1, cutoff=cutoff)
    return f"; did you mean '{by_case[close[0]]}'?" if close else ""
