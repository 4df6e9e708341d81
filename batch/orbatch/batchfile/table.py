"""Rows with named columns as prompts: each column is a setting, the prompt, its id, its models or a variable."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from orbatch.batchfile.errors import Report, shown
from orbatch.batchfile.fields import ALL_KINDS, settings_fields
from orbatch.batchfile.items import PROMPT, PROMPT_FIELDS, PromptItem, prompt_item, variable_name_problem
from orbatch.batchfile.media import FRAMES
from orbatch.batchfile.sections import Field
from orbatch.batchfile.settings import normalised
from orbatch.batchfile.yaml_loader import Node, from_json, scalar
from orbatch_provider.requests import strip_prefix

ALIASES: Mapping[str, str] = {"text": "prompt", "model": "models"}

_TYPO = (
    0.87  # similarity above which a column is a misspelt setting rather than a variable: duratoin is, prompt_2 is not
)
# Columns of which a row needs one, unless there is a template for all rows.
_STARTS = frozenset({"prompt", *FRAMES, "image_url", "frame_images", "references", "input_references"})
_CACHED_ROWS = 1000


@cache
def _known_names(kinds: frozenset[str]) -> frozenset[str]:
    return frozenset(PROMPT_FIELDS) | ALIASES.keys() | settings_fields(kinds).keys()


def known_name(column: str, kinds: frozenset[str]) -> str | None:
    """The key that a column gives where jobs are of these kinds, or None for a variable: ``n`` is a setting only where
    pictures are made. Spreadsheets write ``ID`` and ``Prompt``."""
    name = column.strip().lower()
    return ALIASES.get(name, name) if name in _known_names(kinds) else None


@lru_cache(maxsize=1000)
def variable_name(column: str, kinds: frozenset[str]) -> tuple[str, str | None]:
    """The variable that a column gives, with ``_`` for blanks and dashes, and why it cannot be, or None.

    A name that looks like a misspelt setting is refused: the setting would be left out of every request without a word.
    """
    name = re.sub(r"[\s-]+", "_", column.strip())
    problem = variable_name_problem(name)
    if problem is None and (near := difflib.get_close_matches(name.lower(), _known_names(kinds), n=1, cutoff=_TYPO)):
        problem = f"column {shown(column)} looks like '{near[0]}'; write it so, or give it another name"
    return name, problem


class Table:
    """The columns of a csv or tsv file. Problems of the header are reported when it is made."""

    def __init__(
        self, header: Sequence[str], line: int, prompt: str | None, kinds: frozenset[str], report: Report
    ) -> None:
        self._report = report
        self._kinds = ALL_KINDS if any(known_name(column, kinds) == "kind" for column in header) else kinds
        self._default_prompt = prompt
        self._columns = len(header)
        self._own: dict[str, int] = {}  # id, prompt, models -> column
        self._settings: list[tuple[str, int, Field]] = []
        self._variables: list[tuple[str, int]] = []
        self._read: dict[tuple[str, ...], Mapping[str, Any]] = {}  # cells of the settings' columns -> settings
        self._unnamed = [at for at, column in enumerate(header) if not column.strip()]
        names = set()
        for at, column in enumerate(header):
            if at in self._unnamed:
                continue
            name = self._place(column, at, line)
            if name in names:
                report.add(line, "header", f"there are two columns for '{name}'; keep one of them")
            names.add(name)
        if prompt is None and not names & _STARTS:
            found = ", ".join(column.strip() for column in header)
            message = f"has no column 'prompt' (found: {shown(found)}); add one, or give prompts_from a prompt template"
            report.add(line, "header", message)

    def _place(self, column: str, at: int, line: int) -> str:
        name = known_name(column, self._kinds)
        settings = settings_fields(self._kinds)
        if name == "vars":
            self._report.add(line, "header", "a column 'vars' is not needed: every other column is a variable")
        elif name is not None and name in settings:
            self._settings.append((name, at, settings[name]))
        elif name is not None:
            self._own[name] = at
        else:
            name, problem = variable_name(column, self._kinds)
            if problem:
                self._report.add(line, "header", problem)
            self._variables.append((name, at))
        return str(name)

    def item(self, cells: Sequence[str], row: int, line: int, default_id: str) -> PromptItem | None:
        """The prompt of a row; None after reporting what is wrong with it."""
        key = f"row {row}"
        if len(cells) != self._columns or any(cells[at].strip() for at in self._unnamed):
            self._report.add(
                line, key, f"has {len(cells)} cells, the header has {self._named()}; quote cells that hold commas"
            )
            return None
        settings = self._settings_of(cells, line, key) if self._settings else {}
        if settings is None:
            return None
        own = {name: cells[at].strip() for name, at in self._own.items()}
        models = own.get("models")
        return PromptItem(
            id=own.get("id") or default_id,
            prompt=own.get("prompt") or self._default_prompt,
            variables={name: (cells[at].strip(),) for name, at in self._variables},
            models=_model_ids(models) if models else None,
            settings=settings,
            line=line,
            key=key,
            file=self._report.file,
        )

    def _settings_of(self, cells: Sequence[str], line: int, key: str) -> Mapping[str, Any] | None:
        """The settings of a row; None after reporting a problem. Rows repeat them, so each set is read once."""
        given = tuple([cells[at] for _, at, _ in self._settings])
        known = self._read.get(given)
        if known is not None:
            return known
        before = self._report.count
        values = {}
        for name, at, field in self._settings:
            if cell := cells[at].strip():
                node = _cell_node(cell, line)
                rule = field.rule
                values[name] = None if node.value is None else rule.read(node, f"{key}.{name}", self._report)
        settings = normalised(values, Node(line, None), key, self._report)
        if self._report.count != before:
            return None
        if len(self._read) >= _CACHED_ROWS:
            self._read.clear()
        self._read[given] = settings
        return settings

    def _named(self) -> str:
        return f"{self._columns}" if not self._unnamed else f"{self._columns - len(self._unnamed)} named columns"


def item_of_object(
    node: Node, row: int, prompt: str | None, kinds: frozenset[str], report: Report, default_id: str
) -> PromptItem | None:
    """The prompt of a JSON object: known keys as in the batch file, every other key a variable."""
    assert isinstance(node.value, dict)
    key = f"row {row}"
    before = report.count
    if any(known_name(column, kinds) == "kind" for column in node.value):
        kinds = ALL_KINDS
    known: dict[str, Node] = {}
    variables: dict[str, Node] = {}
    for column, child in node.value.items():
        name = known_name(column, kinds)
        if name is None:
            name, problem = variable_name(column, kinds)
            if problem:
                report.add(node.line, key, problem)
            variables[name] = child
        elif name in known:
            report.add(node.line, key, f"gives '{name}' twice")
        else:
            known[name] = child
    if variables:
        given = known.get("vars")
        more = given.value if given is not None and isinstance(given.value, dict) else {}
        known["vars"] = Node(node.line, variables | more)
    if prompt is not None:
        known.setdefault("prompt", Node(node.line, prompt))
    values = PROMPT.read(Node(node.line, known), key, report)
    return prompt_item(values, node, key, report, default_id) if values is not None and report.count == before else None


def _cell_node(cell: str, line: int) -> Node:
    if cell[0] in "[{":
        try:
            return from_json(json.loads(cell), line)
        except (ValueError, RecursionError):
            return Node(line, cell, cell)
    return Node(line, scalar(cell), cell)


def _model_ids(cell: str) -> frozenset[str]:
    return frozenset(strip_prefix(name) for name in re.split(r"[\s,;]+", cell) if name)
