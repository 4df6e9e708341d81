"""YAML -> plain dicts and lists that know the line of each key and item, within limits.

Only null, true, false and decimal numbers are anything but text, so 16:9, 2024-01-01, no and 007 are text and 0.10 is
exactly 0.10. Built from PyYAML's events: its nodes have resolved anchors and duplicates before either can be refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml
from yaml import events

from orbatch.batchfile.errors import Report, UnreadableError, did_you_mean, quoted

MAX_BYTES = 5_000_000  # events of a larger file take longer than anyone waits for a check
MAX_DEPTH = 20
MAX_VALUES = 500_000  # with every alias followed, so that a few lines cannot stand for billions
_TOO_DEEP = f"is nested more than {MAX_DEPTH} levels deep"

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where libyaml was there to build with
_WORDS: Mapping[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
# At most 30 digits: Python refuses to convert very long ones, and no setting needs them.
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,30})")
_DECIMAL = re.compile(r"[-+]?([0-9]{1,30}\.[0-9]{0,30}|\.[0-9]{1,30}|[0-9]{1,30}(?=[eE]))([eE][-+]?[0-9]{1,2})?")
_SPECIAL = re.compile(r"(?:^|:\s|-\s)\s*[@%`*&!]")

Scalar = str | int | Decimal | bool | None


class Map(dict[str, Any]):
    """A mapping. ``line``: where it begins; ``lines``: of its keys; ``size`` and ``height``: of everything in it."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int] = {}
        self.size = self.height = 1


class Seq(list[Any]):
    """A list, with the same attributes; ``lines``: of its items."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: list[int] = []
        self.size = self.height = 1


def lines_of(value: object) -> Mapping[str, int]:
    """The line of each key of a mapping; empty for anything else."""
    return value.lines if isinstance(value, Map) else {}


def scalar(text: str) -> Scalar:
    """What an unquoted scalar stands for."""
    if text in _WORDS:
        return _WORDS[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    return Decimal(text) if _DECIMAL.fullmatch(text) else text


def load_yaml(path: Path, report: Report) -> tuple[Any, str]:
    """The document in ``path`` and the SHA-256 of its bytes. Raises UnreadableError; reports keys given twice."""
    content = _read(path)
    text = ""
    try:
        text = content.decode("utf-8-sig")
        return _Builder(text, report).document(), hashlib.sha256(content).hexdigest()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UnreadableError(line, "is not UTF-8 text; save it as UTF-8") from error
    except yaml.YAMLError as error:
        raise UnreadableError(*_explained(error, text)) from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)  # a limit instead of stat: /dev/zero has no size
    except FileNotFoundError as error:
        others = [other.name for other in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        advice = did_you_mean(path.name, others) or "; `orbatch init` writes one"
        raise UnreadableError(None, f"there is no such file{advice}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        # Windows answers "permission denied" for a directory.
        message = "is a directory; name a file in it" if path.is_dir() else f"cannot be read: {reason}"
        raise UnreadableError(None, message) from error
    if len(content) > MAX_BYTES:
        limit = f"is larger than {MAX_BYTES // 1_000_000} MB"
        remedy = "keep many prompts in a CSV or JSON Lines file and name it in prompts_from"
        raise UnreadableError(None, f"{limit}; {remedy}")
    return content


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1 if event.start_mark else 1


class _Builder:
    """Builds from parser events, so that depth, size and duplicate keys are checked before anything is built."""

    def __init__(self, text: str, report: Report) -> None:
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=_LOADER))
        self._report = report
        self._anchors: dict[str, Any] = {}

    def document(self) -> Any:
        next(self._events)  # the start of the stream
        is_empty = isinstance(next(self._events), events.StreamEndEvent)
        root = None if is_empty else self._value(next(self._events), 0)
        if root is None:
            raise UnreadableError(1, "is empty; `orbatch init` writes a file to start from")
        next(self._events)  # the end of the document
        following = next(self._events)
        if isinstance(following, events.DocumentStartEvent):
            raise UnreadableError(_line(following), "a second document begins here (---); keep one batch per file")
        return root

    def _value(self, event: Any, depth: int) -> Any:
        line = _line(event)
        if isinstance(event, events.AliasEvent):
            if event.anchor not in self._anchors:
                raise UnreadableError(line, f"*{event.anchor} refers to nothing above it")
            value = self._anchors[event.anchor]
            if depth + getattr(value, "height", 0) > MAX_DEPTH:
                raise UnreadableError(line, _TOO_DEEP)
            return value
        if depth > MAX_DEPTH:
            raise UnreadableError(line, _TOO_DEEP)
        if event.tag not in (None, "!", "tag:yaml.org,2002:str"):  # a tag such as !!python/name could run code
            raise UnreadableError(line, f"the tag {quoted(event.tag)} is not allowed; write the plain value")
        if isinstance(event, events.MappingStartEvent):
            value = self._mapping(Map(line), depth)
        elif isinstance(event, events.SequenceStartEvent):
            value = self._sequence(Seq(line), depth)
        else:
            is_unquoted = event.implicit[0] and not event.style
            value = scalar(event.value) if is_unquoted else event.value
        if event.anchor:
            self._anchors[event.anchor] = value  # only now, so that nothing contains itself
        return value

    def _sequence(self, items: Seq, depth: int) -> Seq:
        while not isinstance(event := next(self._events), events.SequenceEndEvent):
            value = self._value(event, depth + 1)
            _measure(items, value, _line(event))
            items.append(value)
            items.lines.append(_line(event))
        return items

    def _mapping(self, values: Map, depth: int) -> Map:
        while not isinstance(key := next(self._events), events.MappingEndEvent):
            line = _line(key)
            if not isinstance(key, events.ScalarEvent):
                raise UnreadableError(line, "a key must be a word; text that begins with { or [ needs quotes")
            value = self._value(next(self._events), depth + 1)
            _measure(values, value, line)
            if key.value in values:
                first = values.lines[key.value]
                self._report.add(line, key.value, f"this key is here twice, first on line {first}; keep one of them")
            else:
                values[key.value] = value
                values.lines[key.value] = line
        return values


def _measure(holder: Map | Seq, child: Any, line: int) -> None:
    """Adds a child to the size and height of what holds it; an alias counts with all that it stands for."""
    holder.size += getattr(child, "size", 1)
    holder.height = max(holder.height, 1 + getattr(child, "height", 0))
    if holder.size > MAX_VALUES:
        raise UnreadableError(line, f"contains more than {MAX_VALUES:,} values once its aliases (*name) are followed")


def _explained(error: yaml.YAMLError, text: str) -> tuple[int, str]:
    """Line and message for a syntax error, with the remedy for the usual causes."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        line = text.encode()[: getattr(error, "position", 0)].count(b"\n") + 1
        return line, "contains a control character that YAML does not allow; remove it"
    line = int(mark.line) + 1
    lines = text.splitlines()
    content = lines[line - 1] if line <= len(lines) else ""
    if "\t" in content[: len(content) - len(content.lstrip())]:
        return line, "a tab is used for indentation; YAML needs spaces"
    cause = str(getattr(error, "problem", None) or "cannot be read here")
    if "nesting depth" in cause:  # libyaml looks ahead, and some versions meet a limit of their own before ours
        return line, _TOO_DEEP
    remedy = ""
    if "{{" in content:
        remedy = "; put text that contains {{ ... }} in quotes"
    elif "mapping values" in cause:
        remedy = "; put text that contains a colon and a space in quotes"
    elif _SPECIAL.search(content):
        remedy = "; put text that begins with a special character in quotes"
    return line, f"is not valid YAML: {cause}{remedy}"
