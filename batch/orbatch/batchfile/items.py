"""Models and prompts as they stand in a batch: a text or an item with settings of its own."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from orbatch.batchfile.errors import Report, did_you_mean, shown
from orbatch.batchfile.fields import settings_fields
from orbatch.batchfile.rules import UNSENDABLE, Schema, Template, Text, refuse
from orbatch.batchfile.sections import Field, ListOf, Section
from orbatch.batchfile.settings import check_beside_kind, normalised
from orbatch.batchfile.templates import KEYWORDS, TemplateError, template
from orbatch.batchfile.yaml_loader import Node
from orbatch_provider.requests import strip_prefix

MAX_COMBINATIONS = 10_000  # of one prompt's variables

_VARIABLE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_MODEL_TEXT = Text(
    "a model id such as alibaba/wan-2.6", r"(openrouter/)?[A-Za-z0-9_.~-]+/[A-Za-z0-9_.:-]+", most=200, numbers=False
)


@dataclass(frozen=True, slots=True)
class ModelItem:
    """A model of the batch with the settings it has of its own."""

    model: str
    settings: Mapping[str, Any]
    line: int


@dataclass(frozen=True, slots=True)
class PromptItem:
    """A prompt of the batch. ``prompt`` is a template, None for a request that starts from a picture alone.

    ``variables``: the values of each, in order. ``models``: None for all of the batch. ``key`` and ``line`` say where
    it stands in ``file``, for problems that show only later.
    """

    id: str
    prompt: str | None
    variables: Mapping[str, tuple[Any, ...]]
    models: frozenset[str] | None
    settings: Mapping[str, Any]
    line: int
    key: str
    file: str

    def combinations(self) -> Iterator[dict[str, Any]]:
        """Every combination of the variables; one empty one when there are none."""
        for values in itertools.product(*self.variables.values()):
            yield dict(zip(self.variables, values, strict=True))


@dataclass(frozen=True, slots=True)
class ModelId:
    """``author/model``, with or without ``openrouter/``."""

    def read(self, node: Node, key: str, report: Report) -> str | None:
        text = _MODEL_TEXT.read(node, key, report)
        return None if text is None else strip_prefix(text)

    def schema(self) -> Schema:
        return {"type": "string"}


@dataclass(frozen=True, slots=True)
class Variables:
    """Names with a value or a list of values each."""

    def read(self, node: Node, key: str, report: Report) -> dict[str, tuple[Any, ...]] | None:
        if not isinstance(node.value, dict):
            refuse(node, key, report, "a mapping (name: value, or name: [value, value])")
            return None
        values = {name: self._values(child, f"{key}.{name}", report) for name, child in node.value.items()}
        for name in values:
            if problem := variable_name_problem(name):
                report.add(node.key_lines.get(name, node.line), f"{key}.{name}", problem)
        count = math.prod(map(len, values.values()))
        if count > MAX_COMBINATIONS:
            report.add(node.line, key, f"makes {count:,} combinations; allowed: at most {MAX_COMBINATIONS:,}")
        return values

    def _values(self, node: Node, key: str, report: Report) -> tuple[Any, ...]:
        children = node.value if isinstance(node.value, list) else [node]
        if not children:
            report.add(node.line, key, "is an empty list, which would leave no prompt at all")
        return tuple(self._value(child, key, report) for child in children)

    def _value(self, node: Node, key: str, report: Report) -> Any:
        if node.value is None or isinstance(node.value, (dict, list)):
            refuse(node, key, report, "text, a number, true or false, or a list of these")
        return float(node.value) if isinstance(node.value, Decimal) else node.value

    def schema(self) -> Schema:
        return {"type": "object"}


def variable_name_problem(name: str) -> str | None:
    """Why ``name`` cannot be used in a template, or None."""
    if _VARIABLE_NAME.fullmatch(name) and name.lower() not in KEYWORDS:
        return None
    return f"{shown(name)} cannot be a variable; allowed: letters, digits and _, beginning with a letter"


MODEL_FIELDS: Mapping[str, Field] = {"model": Field(ModelId(), "model id", required=True)}
PROMPT_FIELDS: Mapping[str, Field] = {
    "id": Field(
        Text("a text of one line, at most 200 characters", r"[^\x00-\x1f\x7f]{1,200}"),
        "name of the prompt in file names and reports, p1, p2, ... by position without it",
    ),
    "prompt": Field(
        Template(), "text, a template if the prompt has variables; may be left out where a picture is the start"
    ),
    "vars": Field(Variables(), "variables of the template: a value or a list each; every combination is a job"),
    "models": Field(ListOf(ModelId(), single=True), "only these of the batch's models"),
}

_SETTINGS = Section(settings_fields())
_MODEL = Section({**MODEL_FIELDS, **settings_fields()})
PROMPT = Section(
    {**PROMPT_FIELDS, **settings_fields()},
    hints={"text": "unknown key; did you mean 'prompt'?", "model": "unknown key; did you mean 'models'?"},
)


@dataclass(frozen=True, slots=True)
class SettingsRule:
    """Request fields alone."""

    def read(self, node: Node, key: str, report: Report) -> dict[str, Any] | None:
        values = _SETTINGS.read(node, key, report)
        return None if values is None else normalised(values, node, key, report)

    def schema(self) -> Schema:
        return _SETTINGS.schema()


@dataclass(frozen=True, slots=True)
class ModelRule:
    """A model id, or a mapping with ``model`` and request fields."""

    def read(self, node: Node, key: str, report: Report) -> ModelItem | None:
        if not isinstance(node.value, dict):
            model = ModelId().read(node, key, report)
            return None if model is None else ModelItem(model, {}, node.line)
        values = _MODEL.read(node, key, report)
        if values is None:
            return None
        model = values.pop("model")
        check_beside_kind(values, node, key, report)
        return ModelItem(model, normalised(values, node, key, report), node.line)

    def schema(self) -> Schema:
        return {"anyOf": [ModelId().schema(), _MODEL.schema()]}


@dataclass(frozen=True, slots=True)
class PromptRule:
    """A text, or a mapping with ``prompt``, ``id``, ``vars``, ``models`` and request fields. The id is empty where none
    is given, unless there is a ``default_id``."""

    default_id: str = ""

    def read(self, node: Node, key: str, report: Report) -> PromptItem | None:
        if not isinstance(node.value, dict):
            text = Template().read(node, key, report)
            return (
                None if text is None else PromptItem(self.default_id, text, {}, None, {}, node.line, key, report.file)
            )
        values = PROMPT.read(node, key, report)
        return None if values is None else prompt_item(values, node, key, report, self.default_id)

    def schema(self) -> Schema:
        return {"anyOf": [{"type": "string"}, PROMPT.schema()]}


def prompt_item(values: dict[str, Any], node: Node, key: str, report: Report, default_id: str) -> PromptItem:
    """The item for the values of a mapping; takes what is no setting out of ``values``."""
    own = {name: values.pop(name, None) for name in PROMPT_FIELDS}
    check_beside_kind(values, node, key, report)
    return PromptItem(
        id=own["id"] or default_id,
        prompt=own["prompt"],
        variables=own["vars"] or {},
        models=None if own["models"] is None else frozenset(own["models"]),
        settings=normalised(values, node, key, report),
        line=node.line,
        key=key,
        file=report.file,
    )


def numbered(items: Iterable[PromptItem | None]) -> tuple[PromptItem | None, ...]:
    """``items`` with an id each: p1, p2, ... by position where none was given."""
    return tuple(replace(item, id=f"p{at}") if item and not item.id else item for at, item in enumerate(items, 1))


def check_models(item: PromptItem, known: Collection[str], report: Report) -> None:
    """Reports models of a prompt that are not among the batch's."""
    for model in sorted((item.models or frozenset()) - set(known)):
        hint = did_you_mean(model, known) or f"; allowed: {', '.join(known)}"
        report.add(item.line, f"{item.key}.models", f"{shown(model)} is not among the batch's models{hint}")


def rendered(item: PromptItem, variables: Mapping[str, Any]) -> str | None:
    """The prompt with ``variables`` put in; raises TemplateError when it cannot be."""
    if item.prompt is None:
        return None
    text = template(item.prompt)(variables)
    if not text.strip():
        raise TemplateError("comes out empty")
    if UNSENDABLE.search(text):
        raise TemplateError("holds a character that cannot be sent (NUL, or half of a surrogate pair)")
    return text
