"""Prompts from a file beside the batch file: csv, tsv, jsonl, txt or yaml.

Rows are read one at a time, so that the length of a file does not matter; only yaml is read whole. A row that cannot
be used is reported with its number, and the others are read on.
"""

from __future__ import annotations

import csv
import hashlib
import heapq
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from orbatch.batchfile.errors import Report, did_you_mean
from orbatch.batchfile.fields import ALL_KINDS
from orbatch.batchfile.items import PromptItem, PromptRule
from orbatch.batchfile.rules import Schema, Template, Text, Whole
from orbatch.batchfile.sections import Field, Section
from orbatch.batchfile.table import Table, item_of_object
from orbatch.batchfile.yaml_loader import Node, from_json, read_yaml

MAX_LINE = 1_000_000  # characters

_FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "txt",
    ".yaml": "yaml",
    ".yml": "yaml",
}


@dataclass(frozen=True, slots=True)
class PromptFile:
    """Which rows of which file are prompts. ``file`` as the user sees it; ``prompt``: the template of rows without a
    text of their own. Of the rows after ``offset``, at most ``limit`` are taken, and of those ``sample`` by chance.
    ``kinds``: what rows that say nothing may be, which decides whether a column is a setting or a variable."""

    path: Path
    file: str
    prompt: str | None = None
    limit: int | None = None
    offset: int = 0
    sample: int | None = None
    seed: int = 0
    kinds: frozenset[str] = ALL_KINDS

    @property
    def format(self) -> str:
        return _FORMATS[self.path.suffix.lower()]


FILE_FIELDS = {
    "file": Field(Text("a path", most=1000), "path of the file, relative to the batch file", required=True),
    "prompt": Field(Template(), "template for rows that have no prompt of their own; their columns are its variables"),
    "limit": Field(Whole(1), "take at most this many rows"),
    "offset": Field(Whole(0), "pass over this many rows first", default=0),
    "sample": Field(Whole(1, 1_000_000), "of the rows taken, use this many, chosen by chance"),
    "seed": Field(Whole(), "another number makes another sample; the same number always the same one", default=0),
}


_FILE = Section(FILE_FIELDS)


@dataclass(frozen=True, slots=True)
class PromptFileRule:
    """A path, or a mapping with ``file`` and which rows of it to take."""

    def read(self, node: Node, key: str, report: Report) -> PromptFile | None:
        is_mapping = isinstance(node.value, dict)
        values = _FILE.read(node if is_mapping else Node(node.line, {"file": node}), key, report)
        if values is None:
            return None
        name = values.pop("file")
        path = report.base / Path(name).expanduser()
        if path.suffix.lower() not in _FORMATS:
            report.add(node.line, key, f"'{name}' is of no known format; allowed: {', '.join(_FORMATS)}")
        elif not path.is_file():
            others = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
            report.add(
                node.line, key, f"there is no file '{name}' beside the batch file{did_you_mean(path.name, others)}"
            )
        else:
            return PromptFile(path, str(path), **values)
        return None

    def schema(self) -> Schema:
        return {"anyOf": [{"type": "string"}, _FILE.schema()]}


def read_prompts(source: PromptFile, report: Report, before: int = 0) -> Iterator[PromptItem]:
    """The prompts of a file, one at a time; bad rows are reported and passed over.

    Ids are p1, p2, ... by row where a row has none, pluralize on from ``before``, whichever rows are taken.
    """
    report = report.about(source.file, source.path.parent)
    try:
        make = _maker(source, report)
        for number, record in _taken(source, report):
            item = make(record, f"p{before + number}")
            if item is not None:
                yield item
    except _UnreadableError as error:
        report.add(error.line, "", str(error))


class _Record(NamedTuple):
    """A row as it stands in the file. ``row`` as a spreadsheet counts, header included; ``line``: where it begins."""

    row: int
    line: int
    content: Any


class _UnreadableError(Exception):
    """The file cannot be read on from ``line``."""

    def __init__(self, line: int | None, message: str) -> None:
        self.line = line
        super().__init__(message)


def _taken(source: PromptFile, report: Report) -> Iterator[tuple[int, _Record]]:
    """The rows to use, each with its number in the file, in the order of the file.

    A sample is the rows with the smallest hash, so that it stays almost the same when rows are added: a new choice
    would be bought again.
    """

    def window() -> Iterator[tuple[int, _Record]]:
        end = None if source.limit is None else source.offset + source.limit
        return islice(enumerate(_records(source, report), 1), source.offset, end)

    if source.sample is None:
        yield from window()
        return
    ranked = heapq.nsmallest(source.sample, ((_rank(source.seed, record), number) for number, record in window()))
    chosen = {number for _, number in ranked}
    yield from (numbered for numbered in window() if numbered[0] in chosen)


def _rank(seed: int, record: _Record) -> bytes:
    return hashlib.sha256(f"{seed}\0{record.content!r}".encode(errors="replace")).digest()


def _records(source: PromptFile, report: Report) -> Iterator[_Record]:
    """All rows but the header, blank ones left out."""
    if source.format == "yaml":
        yield from _yaml_records(source, report)
        return
    with _opened(source) as file:
        if source.format in ("csv", "tsv"):
            yield from islice(_table_records(file, source), 1, None)
            return
        has_comments = source.format == "txt"
        for line, text in enumerate(_lines(file), 1):
            text = text.strip()
            if text and not (has_comments and text.startswith("#")):
                yield _Record(line, line, text)


def _yaml_records(source: PromptFile, report: Report) -> Iterator[_Record]:
    loaded = read_yaml(source.path, report)
    if loaded is None:
        return
    root = loaded[0]
    if not isinstance(root.value, list):
        report.add(root.line, "", f"found {root}; allowed: a list of prompts (lines that begin with '- ')")
        return
    for at, node in enumerate(root.value, 1):
        yield _Record(at, node.line, node)


def _table_records(file: IO[str], source: PromptFile) -> Iterator[_Record]:
    lines = _lines(file)
    first = next(lines, "")
    delimiter = "\t" if source.format == "tsv" else ","
    if source.format == "csv" and "," not in first and ";" in first:
        delimiter = ";"  # what spreadsheets write where the comma is the decimal sign

    def all_lines() -> Iterator[str]:
        yield first
        yield from lines

    reader = csv.reader(all_lines(), delimiter=delimiter, strict=True)
    row = begin = 0
    try:
        for row, cells in enumerate(reader, 1):
            if any(map(str.strip, cells)):
                yield _Record(row, begin + 1, cells)
            begin = reader.line_num
    except csv.Error as error:
        is_open = "end of data" in str(error) or "field larger" in str(error)
        why = f"a quote is opened and not closed within {csv.field_size_limit():,} characters" if is_open else error
        raise _UnreadableError(begin + 1, f"row {row + 1} cannot be read: {why}") from error


def _opened(source: PromptFile) -> IO[str]:
    try:
        # surrogateescape: bytes that are no UTF-8 are found with the number of their line.
        return source.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    except OSError as error:
        raise _UnreadableError(None, f"cannot be read: {error.strerror}") from error


def _lines(file: IO[str]) -> Iterator[str]:
    number = 0
    while line := file.readline(MAX_LINE):
        number += 1
        if len(line) >= MAX_LINE:
            raise _UnreadableError(number, f"is longer than {MAX_LINE:,} characters")
        if not line.isascii():
            try:
                line.encode()
            except UnicodeEncodeError:
                raise _UnreadableError(number, "is not UTF-8 text; save it as UTF-8") from None
        if "\0" in line:
            raise _UnreadableError(number, "holds a NUL character; save it as plain UTF-8 text")
        yield line


def check_start(source: PromptFile, report: Report) -> None:
    """Reports what the first rows give away, so that it comes together with the problems of the batch file."""
    about = report.about(source.file, source.path.parent)
    before = report.count
    try:
        make = _maker(source, about)
        first = next(_records(source, about), None)
        if report.count != before:
            return
        if first is None:
            about.add(None, "", "holds no prompts")
        else:
            make(first, "p1")
    except _UnreadableError as error:
        about.add(error.line, "", str(error))


def _maker(source: PromptFile, report: Report) -> Callable[[_Record, str], PromptItem | None]:
    """What turns a row of this format into a prompt, given the id for one without its own."""
    match source.format:
        case "csv" | "tsv":
            with _opened(source) as file:
                header = next(_table_records(file, source), _Record(1, 1, []))
            table = Table(header.content, header.line, source.prompt, source.kinds, report)
            return lambda record, default_id: table.item(record.content, record.row, record.line, default_id)
        case "jsonl":
            return lambda record, default_id: _json_item(record, source, report, default_id)
        case "txt":
            return lambda record, default_id: PromptItem(
                default_id, record.content, {}, None, {}, record.line, f"row {record.row}", report.file
            )
        case _:
            return lambda record, default_id: PromptRule(default_id).read(
                record.content, f"prompts[{record.row}]", report
            )


def _json_item(record: _Record, source: PromptFile, report: Report, default_id: str) -> PromptItem | None:
    key = f"row {record.row}"
    try:
        value = _JSON.decode(record.content)
        node = from_json(value, record.line)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        report.add(record.line, key, f"is not valid JSON: {reason}")
        return None
    if isinstance(value, dict):
        return item_of_object(node, record.row, source.prompt, source.kinds, report, default_id)
    if isinstance(value, str):
        return PromptRule(default_id).read(node, key, report)
    report.add(record.line, key, f"found {node}; allowed: an object, or a text in quotes")
    return None


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON number")


_JSON = json.JSONDecoder(parse_float=Decimal, parse_constant=_no_constant)
