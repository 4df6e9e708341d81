"""Prompts from a file beside the batch file: csv, tsv, jsonl, txt or yaml, one row at a time.

A row becomes the mapping that a prompt of the batch file is, and passes the same models. A row that cannot be used is
reported with its number, and the next ones are read. Only yaml is read whole, so memory does not grow with the rows.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import heapq
import json
import re
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache
from itertools import chain, count, islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from pydantic import ValidationError

from orbatch.batchfile.errors import Report, UnreadableError, did_you_mean, quoted
from orbatch.batchfile.explain import REMOVED_SETTINGS, explain, found
from orbatch.batchfile.models import PROMPT, PROMPT_KEYS, SETTINGS, PromptFile, PromptFileEntry, PromptItem
from orbatch.batchfile.settings import ALL_KINDS, FIELDS
from orbatch.batchfile.types import variable_name
from orbatch.batchfile.yaml_loader import MAX_DEPTH, Seq, load_yaml, scalar
from orbatch_provider.requests import strip_prefix

_INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060\u00ad"  # characters that hide in the header of a copied table
_SEPARATOR = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_SPREADSHEET_ERRORS = frozenset(
    {
        "#REF!",
        "#N/A",
        "#VALUE!",
        "#NAME?",
        "#DIV/0!",
        "#NULL!",
        "#NUM!",
        "#SPILL!",
        "#CALC!",
        "#GETTING_DATA",
        "#ERROR!",
    }
)
_ROUNDED = re.compile(r"-?\d(\.\d+)?E\+\d+")  # as a spreadsheet shows a long number, without its last digits
_TSV_LINES_AHEAD = 50  # in which a quote may be closed
MAX_LINE = 1_000_000  # characters; a file of one endless line must not fill the memory
_FORMATS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".txt": "txt"}
_FORMATS |= {".yaml": "yaml", ".yml": "yaml"}
_ALIASES = {"text": "prompt", "model": "models"}  # what data sets and spreadsheets call them
_CHECKED_ROWS = 1000  # settings that a table remembers by the text of their cells
_TYPO = 0.87  # similarity above which a column is a misspelt setting rather than a variable
# Columns of which a row needs one, unless there is a template for all rows.
_STARTS = frozenset({"prompt", "first_frame", "last_frame", "frame_images", "references", "input_references"})


def find_prompt_file(
    entry: PromptFileEntry, kinds: frozenset[str], line: int, report: Report, *, is_template: bool = True
) -> PromptFile | None:
    """The file that ``prompts_from`` names; None after reporting that it cannot be read.

    The problems of its header and first row are reported, too, so that they come with those of the batch file.
    """
    path = report.base / Path(entry.file).expanduser()
    if path.suffix.lower() not in _FORMATS:
        known = ", ".join(_FORMATS)
        report.add(line, "prompts_from", f"'{entry.file}' has an unknown extension; allowed: {known}")
        return None
    if not path.is_file():
        others = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        near = did_you_mean(path.name, others)
        report.add(line, "prompts_from", f"file '{entry.file}' was not found next to the batch file{near}")
        return None
    source = PromptFile(path, entry, kinds, is_template)
    before = report.count
    start = replace(source, take=entry.model_copy(update={"limit": 1, "sample": None}))
    if next(read_prompts(start, report), None) is None and report.count == before:
        report.about(path).add(None, "", "contains no prompts")
    return source


def read_prompts(source: PromptFile, report: Report, before: int = 0) -> Iterator[PromptItem]:
    """The prompts of a file; rows without an id are p1, p2, ... by number, counted on from ``before``."""
    report = report.about(source.path)
    try:
        make = _maker(source, report)
        for number, record in _taken(source, report):
            item = make(record, f"p{before + number}")
            if item is not None:
                yield item
    except UnreadableError as error:
        report.add(error.line, "", str(error))


# -- which rows --------------------------------------------------------------------------------------------------------


class _Record(NamedTuple):
    """A row. ``row`` as a spreadsheet counts, header included; ``line``: where it begins."""

    row: int
    line: int
    content: Any


_Make = Callable[[_Record, str], PromptItem | None]


def _taken(source: PromptFile, report: Report) -> Iterator[tuple[int, _Record]]:
    """The rows to use, each with its number in the file, in the order of the file."""
    take = source.take

    def window() -> Iterator[tuple[int, _Record]]:
        return islice(enumerate(_records(source, report), 1), take.limit)

    def rank(record: _Record) -> bytes:
        return hashlib.sha256(f"{take.seed}\0{record.content!r}".encode(errors="replace")).digest()

    if take.sample is None:
        return window()
    # The rows with the smallest hash: almost the same ones when rows are added. A new choice would be bought again.
    ranked = heapq.nsmallest(take.sample, ((rank(record), number) for number, record in window()))
    chosen = {number for _, number in ranked}
    return (numbered for numbered in window() if numbered[0] in chosen)


# -- reading -----------------------------------------------------------------------------------------------------------


def _format(source: PromptFile) -> str:
    return _FORMATS[source.path.suffix.lower()]


def _records(source: PromptFile, report: Report) -> Iterator[_Record]:
    """All rows but the header, without blank ones."""
    form = _format(source)
    if form == "yaml":
        rows, _ = load_yaml(source.path, report)
        if not isinstance(rows, Seq):
            message = f"found {found(rows)}; allowed: a list of prompts (lines that begin with '- ')"
            raise UnreadableError(getattr(rows, "line", 1), message)
        yield from map(_Record, count(1), rows.lines, rows)
        return
    with _opened(source) as file:
        if form in ("csv", "tsv"):
            yield from islice(_table_records(file, form), 1, None)
            return
        for line, text in enumerate(map(str.strip, _lines(file)), 1):
            if text:
                yield _Record(line, line, text)


def _table_records(file: IO[str], form: str) -> Iterator[_Record]:
    lines = _lines(file)
    first = next(lines, "").lstrip(_INVISIBLE)  # a second byte order mark, which hides a quote
    skipped = 0
    if named := _SEPARATOR.fullmatch(first):  # for Excel, and no header
        first, skipped = next(lines, ""), 1
    if form == "tsv":
        for row, line, cells in _tsv_rows(chain([first], lines)):
            if any(map(str.strip, cells)):
                yield _Record(row + skipped, line + skipped, cells)
        return
    # Spreadsheets write ; where the comma is the decimal sign.
    delimiter = named[1] if named else ";" if "," not in first and ";" in first else ","
    reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    row = begin = skipped
    try:
        for row, cells in enumerate(reader, 1 + skipped):
            if any(map(str.strip, cells)):
                yield _Record(row, begin + 1, cells)
            begin = reader.line_num + skipped  # a quoted cell may contain line breaks
    except csv.Error as error:
        is_open = "end of data" in str(error) or "field larger" in str(error)
        why = f"a quote is opened and not closed within {csv.field_size_limit():,} characters" if is_open else error
        raise UnreadableError(begin + 1, f"row {row + 1} cannot be read: {why}") from error


def _tsv_rows(lines: Iterator[str]) -> Iterator[tuple[int, int, list[str]]]:
    """Row, line and cells. A quote is a letter, unless it opens a cell and is closed at the end of one: in this line,
    or, with as many cells as the header has, in one of the next."""
    ahead: deque[str] = deque()
    columns, number = 0, 0
    for row in count(1):
        line = ahead.popleft() if ahead else next(lines, None)
        if line is None:
            return
        begin, cells = number + 1, line.rstrip("\r\n").split("\t")
        number += 1
        if '"' in line:
            parsed = _quoted_cells([line])
            if parsed is not None and len(parsed) == (columns or len(parsed)):
                cells = parsed
            elif columns and _opens(cells):
                more, parsed = _closed_below(line, ahead, lines, columns)
                cells = parsed or cells
                number += more
        columns = columns or len(cells)
        yield row, begin, cells


def _closed_below(line: str, ahead: deque[str], lines: Iterator[str], columns: int) -> tuple[int, list[str] | None]:
    """How many more lines a record takes that this line begins, and its cells; 0 and None where no quote is closed."""
    for more in range(1, _TSV_LINES_AHEAD):
        if len(ahead) < more:
            following = next(lines, None)
            if following is None:
                break
            ahead.append(following)
        parsed = _quoted_cells([line, *islice(ahead, more)])
        if parsed is not None and len(parsed) == columns:
            for _ in range(more):
                ahead.popleft()
            return more, parsed
    return 0, None


def _opens(cells: list[str]) -> bool:
    return cells[-1].startswith('"') or any(cell.startswith('"') and cell.count('"') % 2 for cell in cells)


def _quoted_cells(lines: list[str]) -> list[str] | None:
    """The cells of one record as csv reads them; None where it cannot."""
    try:
        rows = list(csv.reader(lines, delimiter="\t", strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


def _opened(source: PromptFile) -> IO[str]:
    try:
        # surrogateescape: bytes that are not UTF-8 are found by _lines, which knows the number of the line.
        return source.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    except OSError as error:
        raise UnreadableError(None, f"cannot be read: {error.strerror}") from error


def _lines(file: IO[str]) -> Iterator[str]:
    number = 0
    while line := file.readline(MAX_LINE):
        number += 1
        if len(line) >= MAX_LINE:
            raise UnreadableError(number, f"is longer than {MAX_LINE:,} characters")
        if not line.isascii():  # the quick check first: encoding every line costs a tenth of the whole
            try:
                line.encode()
            except UnicodeEncodeError:
                raise UnreadableError(number, "is not UTF-8 text; save it as UTF-8") from None
        if "\0" in line:
            raise UnreadableError(number, "contains a NUL character; save it as plain UTF-8 text")
        yield line


# -- from a row to a prompt --------------------------------------------------------------------------------------------


def _maker(source: PromptFile, report: Report) -> _Make:
    """What turns a row of this format into a prompt, given the id for one without its own."""
    form = _format(source)
    if form in ("csv", "tsv"):
        with _opened(source) as file:
            header = next(_table_records(file, form), _Record(1, 1, []))
        columns = [cell.strip(f"{_INVISIBLE} \t\r\n") for cell in header.content]
        return _Table(columns, header.line, source, report).item
    if form == "jsonl":
        return lambda record, default_id: _json_item(record, source, report, default_id)
    if form == "txt":  # a line is text, even one that is a number
        return lambda record, default_id: PromptItem.of(
            record.content, default_id, record.line, f"row {record.row}", report.file, is_template=source.is_template
        )
    return lambda record, default_id: _item(
        record.content, f"prompts[{record.row}]", record.line, source, report, default_id
    )


def _item(entry: Any, key: str, line: int, source: PromptFile, report: Report, default_id: str) -> PromptItem | None:
    try:
        entry = PROMPT.validate_python(entry, context=report.base)
    except ValidationError as error:
        explain(error, PROMPT, entry, report, line=line, prefix=key)
        return None
    return PromptItem.of(entry, default_id, line, key, report.file, is_template=source.is_template)


def _json_item(record: _Record, source: PromptFile, report: Report, default_id: str) -> PromptItem | None:
    key = f"row {record.row}"
    try:
        value = _JSON.decode(record.content)
        _check_depth(value)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        report.add(record.line, key, f"is not valid JSON: {reason}")
        return None
    if isinstance(value, dict):
        value = _entry_of(value, source, key, record.line, report)
    elif not isinstance(value, str):
        report.add(record.line, key, f"found {found(value)}; allowed: an object, or a text in quotes")
        return None
    return None if value is None else _item(value, key, record.line, source, report, default_id)


def _entry_of(row: dict[str, Any], source: PromptFile, key: str, line: int, report: Report) -> dict[str, Any] | None:
    """Known keys as in the batch file, every other key a variable."""
    before = report.count
    kinds = _kinds_of_columns(row, source)
    entry: dict[str, Any] = {}
    variables: dict[str, Any] = {}
    for column, value in row.items():
        name, is_variable, wrong = _column(column, kinds)
        if wrong:
            report.add(line, key, wrong)
        elif is_variable:
            variables[name] = value
        elif name in entry:
            report.add(line, key, f"gives '{name}' twice")
        else:
            entry[name] = value
    own = entry.get("vars") or {}
    if variables and isinstance(own, dict):  # anything else is refused as vars
        entry["vars"] = variables | own
    if source.take.prompt is not None:
        entry.setdefault("prompt", source.take.prompt)
    return entry if report.count == before else None


class _Table:
    """The columns of a csv or tsv file: each is a setting, the prompt, its id, its models or a variable."""

    def __init__(self, header: Sequence[str], line: int, source: PromptFile, report: Report) -> None:
        self._report = report
        self._prompt = source.take.prompt
        self._is_template = source.is_template
        self._kinds = _kinds_of_columns(header, source)
        self._columns = len(header)
        self._unnamed = [at for at, column in enumerate(header) if not column.strip()]
        self._own: dict[str, int] = {}
        self._settings: list[tuple[str, int]] = []
        self._variables: list[tuple[str, int]] = []
        self._checked: dict[tuple[str, ...], dict[str, Any]] = {}  # cells of the settings' columns -> settings
        names: set[str] = set()
        for at, column in enumerate(header):
            if at not in self._unnamed:
                name = self._place(column, at, line)
                if name in names:
                    report.add(line, "header", f"there are two columns for '{name}'; keep one of them")
                names.add(name)
        if self._prompt is None and not names & _STARTS:
            columns = quoted(", ".join(column.strip() for column in header))
            message = f"has no column 'prompt' (found: {columns}); add one, or give prompts_from a prompt template"
            report.add(line, "header", message)

    def _place(self, column: str, at: int, line: int) -> str:
        name, is_variable, wrong = _column(column, self._kinds)
        if name == "vars" and not is_variable:
            wrong = "a column 'vars' is not needed: every other column is a variable"
        if wrong:
            self._report.add(line, "header", wrong)
        if is_variable:
            self._variables.append((name, at))
        elif name in PROMPT_KEYS:
            self._own[name] = at
        else:
            self._settings.append((name, at))
        return name

    def item(self, record: _Record, default_id: str) -> PromptItem | None:
        """The prompt of a row; None after reporting why there is none."""
        cells, key = record.content, f"row {record.row}"
        if broken := next((cell for cell in cells if cell[:1] == "#" and cell.strip() in _SPREADSHEET_ERRORS), None):
            message = f"has the spreadsheet error {broken.strip()}; correct its formula, or empty the cell"
            self._report.add(record.line, key, message)
            return None
        if len(cells) != self._columns or any(cells[at].strip() for at in self._unnamed):
            named = f"{self._columns - len(self._unnamed)} named columns" if self._unnamed else self._columns
            message = f"has {len(cells)} cells, the header has {named}; quote cells that contain commas"
            self._report.add(record.line, key, message)
            return None
        settings = self._settings_of(cells, record.line, key)
        if settings is None:
            return None
        own = {name: cells[at].strip() for name, at in self._own.items()}
        return PromptItem(
            id=own.get("id") or default_id,
            prompt=own.get("prompt") or self._prompt,
            variables={name: (cells[at].strip(),) for name, at in self._variables},
            models=_models(own["models"]) if own.get("models") else None,
            settings=settings,
            line=record.line,
            key=key,
            file=self._report.file,
            is_template=self._is_template,
        )

    def _settings_of(self, cells: Sequence[str], line: int, key: str) -> dict[str, Any] | None:
        # Rows repeat their settings: each set is checked once and shared, by which jobs recognise it (6 times as fast).
        given = tuple([cells[at] for _, at in self._settings])
        known = self._checked.get(given)
        if known is not None:
            return known
        entry = {name: _cell(text) for name, at in self._settings if (text := cells[at].strip())}
        try:
            settings = SETTINGS.validate_python(entry, context=self._report.base).given()
        except ValidationError as error:
            explain(error, SETTINGS, entry, self._report, line=line, prefix=key)
            return None
        if len(self._checked) >= _CHECKED_ROWS:
            self._checked.clear()
        self._checked[given] = settings
        return settings


def _models(cell: str) -> frozenset[str]:
    return frozenset(strip_prefix(model) for model in re.split(r"[\s,;]+", cell) if model)


def _cell(text: str) -> Any:
    """A cell of a setting: JSON for lists and mappings, else as YAML reads it unquoted."""
    if text[0] in "[{":
        try:
            return json.loads(text, parse_float=Decimal)
        except (ValueError, RecursionError):
            return text
    return text if _ROUNDED.fullmatch(text) else scalar(text)


class _Column(NamedTuple):
    """What a column gives: the key of that name, or a variable. ``wrong``: why it can be neither."""

    name: str
    is_variable: bool
    wrong: str = ""


def _kinds_of_columns(columns: Collection[str], source: PromptFile) -> frozenset[str]:
    """The kinds whose settings count as columns: with a column ``kind``, all of them."""
    return ALL_KINDS if any(column.strip().lower() == "kind" for column in columns) else source.kinds


@lru_cache(maxsize=1000)
def _column(column: str, kinds: frozenset[str]) -> _Column:
    """``n`` is a setting only where images are made. Spreadsheets write ``ID`` and ``Prompt``.

    A name close to a setting's is refused: the misspelt setting would be missing from every request, silently.
    """
    known = _names(kinds)
    name = column.strip().lower()
    if name in known:
        return _Column(_ALIASES.get(name, name), False)
    name = re.sub(r"[\s-]+", "_", column.strip())
    if removed := REMOVED_SETTINGS.get(name.lower()):
        return _Column(name, True, f"column {quoted(column)} {removed}")
    try:
        variable_name(name)
    except ValueError as error:
        return _Column(name, True, str(error))
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=_TYPO)
    wrong = f"column {quoted(column)} looks like '{near[0]}'; correct it, or give it another name" if near else ""
    return _Column(name, True, wrong)


@lru_cache
def _names(kinds: frozenset[str]) -> frozenset[str]:
    return PROMPT_KEYS | _ALIASES.keys() | {name for kind in kinds for name in FIELDS[kind]}


def _check_depth(value: Any, depth: int = 0) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_depth(child, depth + 1)


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not a JSON number")


_JSON = json.JSONDecoder(parse_float=Decimal, parse_constant=_no_constant)  # Decimal: 0.10 stays as it was written
