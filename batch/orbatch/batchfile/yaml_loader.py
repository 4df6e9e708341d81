"""Reads a YAML file into values that remember their lines, within limits, and says plainly what it cannot read.

Scalars mean what they look like: only null, true, false and decimal numbers are anything but text, so 16:9,
2024-01-01, no and 007 are text, and 0.10 is exactly 0.10.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from orbatch.batchfile.errors import Report, did_you_mean, shown

MAX_BYTES = 5_000_000
MAX_DEPTH = 20
_TOO_DEEP = f"is nested more than {MAX_DEPTH} levels deep"
MAX_VALUES = 500_000  # values after every alias is followed, so that a few lines cannot stand for billions

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_WORDS: Mapping[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,30})")
_DECIMAL = re.compile(r"[-+]?([0-9]{1,30}\.[0-9]{0,30}|\.[0-9]{1,30}|[0-9]{1,30}(?=[eE]))([eE][-+]?[0-9]{1,2})?")
_SPECIAL = re.compile(r"(?:^|:\s|-\s)\s*[@%`*&!]")

Scalar = str | int | Decimal | bool | None


@dataclass(frozen=True, slots=True)
class Node:
    """A value and the line it stands on, from 1. ``text`` is a scalar as it was written; ``size`` counts the values
    inside and ``height`` its levels; ``key_lines`` has the line of each key of a mapping."""

    line: int
    value: Scalar | list[Node] | dict[str, Node]
    text: str = ""
    size: int = 1
    height: int = 0
    key_lines: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        """How a message shows what was found."""
        if isinstance(self.value, dict):
            return "a mapping (key: value)"
        if isinstance(self.value, list):
            return "a list"
        if self.value is None:
            return "nothing"
        return shown(self.value) if isinstance(self.value, str) else self.text or str(self.value)

    def plain(self) -> Any:
        """The value without lines, as JSON has it."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return float(self.value) if isinstance(self.value, Decimal) else self.value


def scalar(text: str) -> Scalar:
    """What an unquoted scalar stands for."""
    if text in _WORDS:
        return _WORDS[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    return Decimal(text) if _DECIMAL.fullmatch(text) else text


def from_json(value: Any, line: int, depth: int = 0) -> Node:
    """A value parsed from one line of JSON, with that line for all of it; raises ValueError when it is too deep."""
    if depth > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        return Node(line, {key: from_json(child, line, depth + 1) for key, child in value.items()})
    if isinstance(value, list):
        return Node(line, [from_json(child, line, depth + 1) for child in value])
    return Node(line, value, text=str(value))


def read_yaml(path: Path, report: Report) -> tuple[Node, str] | None:
    """The document in ``path`` and the SHA-256 of its bytes; None after reporting why it cannot be used."""
    content = read_limited(path, report)
    if content is None:
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        report.add(line, "", "is not UTF-8 text; save it as UTF-8")
        return None
    try:
        root = _Reader(_events(text), report).document()
    except _UnreadableError as error:
        report.add(error.line, "", str(error))
        return None
    except yaml.YAMLError as error:
        report.add(*_explain(error, text))
        return None
    return root, hashlib.sha256(content).hexdigest()


def read_limited(path: Path, report: Report) -> bytes | None:
    """The bytes of a file that is read whole, at most MAX_BYTES; None after reporting why not."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        others = [other.name for other in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        report.add(None, "", f"there is no such file{did_you_mean(path.name, others)}")
    except IsADirectoryError:
        report.add(None, "", "is a folder; name a file in it")
    except (OSError, ValueError) as error:
        is_folder = path.is_dir()  # Windows answers "permission denied" for a folder
        reason = error.strerror if isinstance(error, OSError) else str(error)
        report.add(None, "", "is a folder; name a file in it" if is_folder else f"cannot be read: {reason}")
    else:
        if len(content) <= MAX_BYTES:
            return content
        limit = f"is larger than {MAX_BYTES // 1_000_000} MB"
        report.add(None, "", f"{limit}; keep many prompts in a CSV or JSON Lines file and name it in prompts_from")
    return None


class _UnreadableError(Exception):
    """The document cannot be read on from ``line``."""

    def __init__(self, line: int, message: str) -> None:
        self.line = line
        super().__init__(message)


def _events(text: str) -> Iterator[Event]:
    return iter(yaml.parse(text, Loader=_LOADER))


def _line(event: Event) -> int:
    return int(event.start_mark.line) + 1 if event.start_mark else 1


class _Reader:
    """Builds nodes from parser events, so that depth, size and duplicate keys are checked before anything is built."""

    def __init__(self, events: Iterator[Event], report: Report) -> None:
        self._events = events
        self._report = report
        self._anchors: dict[str, Node] = {}

    def document(self) -> Node:
        next(self._events)  # the start of the stream
        start = next(self._events)
        if isinstance(start, StreamEndEvent):
            raise _UnreadableError(1, "is empty; `orbatch init` writes a file to start from")
        root = self._node(next(self._events), 0)
        next(self._events)  # the end of the document
        following = next(self._events)
        if isinstance(following, DocumentStartEvent):
            raise _UnreadableError(_line(following), "a second document begins here (---); keep one batch per file")
        return root

    def _node(self, event: Event, depth: int) -> Node:
        if isinstance(event, AliasEvent):
            return self._alias(event, depth)
        if depth > MAX_DEPTH:
            raise _UnreadableError(_line(event), _TOO_DEEP)
        assert isinstance(event, NodeEvent)
        tag = getattr(event, "tag", None)
        if tag is not None and tag not in ("!", "tag:yaml.org,2002:str"):
            raise _UnreadableError(_line(event), f"the tag {shown(tag)} is not allowed; write the plain value")
        if isinstance(event, MappingStartEvent):
            node = self._mapping(event, depth)
        elif isinstance(event, SequenceStartEvent):
            node = self._sequence(event, depth)
        else:
            assert isinstance(event, ScalarEvent)
            is_plain = event.implicit[0] and not event.style
            node = Node(_line(event), scalar(event.value) if is_plain else event.value, event.value)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: AliasEvent, depth: int) -> Node:
        target = self._anchors.get(event.anchor or "")
        if target is None:
            raise _UnreadableError(_line(event), f"*{event.anchor} refers to nothing above it")
        if depth + target.height > MAX_DEPTH:
            raise _UnreadableError(_line(event), _TOO_DEEP)
        return target

    def _sequence(self, start: Event, depth: int) -> Node:
        items: list[Node] = []
        size = 1
        while not isinstance(event := next(self._events), SequenceEndEvent):
            items.append(self._node(event, depth + 1))
            size = _grown(size, items[-1])
        return Node(_line(start), items, size=size, height=_height(items))

    def _mapping(self, start: Event, depth: int) -> Node:
        values: dict[str, Node] = {}
        lines: dict[str, int] = {}
        size = 1
        while not isinstance(event := next(self._events), MappingEndEvent):
            if not isinstance(event, ScalarEvent):
                raise _UnreadableError(_line(event), "a key must be a word; text that begins with { or [ needs quotes")
            child = self._node(next(self._events), depth + 1)
            size = _grown(size, child)
            if event.value in values:
                message = f"this key is here twice, first on line {lines[event.value]}; keep one of them"
                self._report.add(_line(event), event.value, message)
                continue
            values[event.value] = child
            lines[event.value] = _line(event)
        return Node(_line(start), values, size=size, height=_height(values.values()), key_lines=lines)


def _height(children: Iterable[Node]) -> int:
    return 1 + max((child.height for child in children), default=0)


def _grown(size: int, child: Node) -> int:
    size += child.size
    if size > MAX_VALUES:
        raise _UnreadableError(
            child.line, f"holds more than {MAX_VALUES:,} values once its aliases (*name) are followed"
        )
    return size


def _explain(error: yaml.YAMLError, text: str) -> tuple[int | None, str, str]:
    """Line, key and sentence for a syntax error, with the remedy where the cause is a usual one."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        position = getattr(error, "position", 0)
        line = text.encode()[:position].count(b"\n") + 1
        return line, "", "holds a control character that YAML does not allow; remove it"
    line = int(mark.line) + 1
    lines = text.splitlines()
    content = lines[line - 1] if line <= len(lines) else ""
    indent = content[: len(content) - len(content.lstrip())]
    if "\t" in indent:
        return line, "", "a tab is used for indentation; YAML needs spaces"
    problem = str(getattr(error, "problem", None) or "it cannot be read here")
    if "nesting depth" in problem:  # libyaml looks ahead, and some versions meet a limit of their own before ours
        return line, "", _TOO_DEEP
    remedy = ""
    if "{{" in content:
        remedy = "; put text that holds {{ ... }} in quotes"
    elif "mapping values" in problem:
        remedy = "; put text that holds a colon and a space in quotes"
    elif _SPECIAL.search(content):
        remedy = "; put text that begins with a special character in quotes"
    return line, "", f"is not valid YAML: {problem}{remedy}"
