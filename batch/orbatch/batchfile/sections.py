"""Rules for lists and mappings, and the keys of a mapping with what is said about each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any

from orbatch.batchfile.errors import Report, did_you_mean, shown
from orbatch.batchfile.rules import Rule, Schema, refuse
from orbatch.batchfile.yaml_loader import Node
from orbatch_provider.requests import strip_prefix


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list; ``single`` lets one value stand for a list of it, ``distinct`` refuses repetition."""

    item: Rule
    least: int = 1
    most: int = 100_000
    single: bool = False
    distinct: bool = False

    def read(self, node: Node, key: str, report: Report) -> list[Any] | None:
        if not isinstance(node.value, list):
            if self.single and node.value is not None:
                return [self.item.read(node, key, report)]
            refuse(node, key, report, "a list (lines that begin with '- ')")
            return None
        if not self.least <= len(node.value) <= self.most:
            report.add(node.line, key, f"has {len(node.value)} items; allowed: {self.least} to {self.most:,}")
        values = [self.item.read(child, f"{key}[{at}]", report) for at, child in enumerate(node.value, 1)]
        if self.distinct:
            seen: set[Any] = set()
            for at, value in enumerate(values):
                if value is not None and value in seen:
                    report.add(node.value[at].line, f"{key}[{at + 1}]", f"{shown(value)} is in the list twice")
                seen.add(value)
        return values

    def schema(self) -> Schema:
        schema: Schema = {"type": "array", "items": self.item.schema()} | ({"minItems": 1} if self.least else {})
        return {"anyOf": [self.item.schema(), schema]} if self.single else schema


@dataclass(frozen=True, slots=True)
class MapOf:
    """A mapping from model ids to values."""

    value: Rule

    def read(self, node: Node, key: str, report: Report) -> dict[str, Any] | None:
        if not isinstance(node.value, dict):
            refuse(node, key, report, "a mapping (model: value)")
            return None
        values = {}
        for name, child in node.value.items():
            values[strip_prefix(name)] = self.value.read(child, f"{key}.{name}", report)
        return values

    def schema(self) -> Schema:
        return {"type": "object", "additionalProperties": self.value.schema()}


@dataclass(frozen=True, slots=True)
class Field:
    """A key of a section: its rule and what to say about it. ``default`` is for the reader; ``nullable``: null means
    something else than leaving it out."""

    rule: Rule
    doc: str
    default: Any = None
    required: bool = False
    nullable: bool = False

    def schema(self) -> Schema:
        schema = self.rule.schema()
        if self.nullable:
            schema = {"anyOf": [schema, {"type": "null"}]}
        default = {} if self.default is None else {"default": self.default}
        return schema | {"description": self.doc} | default


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping with known keys. ``build`` makes its value from what was read, keys left out being left out;
    ``hints`` answer keys that belong elsewhere."""

    fields: Mapping[str, Field]
    build: Callable[..., Any] = dict
    hints: Mapping[str, str] = field(default_factory=dict)

    def read(self, node: Node, key: str, report: Report) -> Any:
        before = report.count
        values = self.read_keys(node, key, report)
        return self.build(**values) if report.count == before else None

    def read_keys(self, node: Node, key: str, report: Report) -> dict[str, Any]:
        """The values of the keys that are there; None for one that was reported."""
        if not isinstance(node.value, dict):
            refuse(node, key, report, f"a mapping with keys such as {', '.join(list(self.fields)[:4])}")
            return {}
        values = {}
        for name, child in node.value.items():
            at = f"{key}.{name}" if key else name
            known = self.fields.get(name)
            if known is None:
                hint = self.hints.get(name) or f"unknown key{did_you_mean(name, self.fields) or self._known()}"
                report.add(node.key_lines.get(name, child.line), at, hint)
            elif child.value is not None:
                values[name] = known.rule.read(child, at, report)
            elif known.nullable:
                values[name] = None
        for name, known in self.fields.items():
            if known.required and name not in values:
                report.add(node.line, f"{key}.{name}" if key else name, f"is missing: {known.doc}")
        return values

    def _known(self) -> str:
        return f"; allowed: {', '.join(self.fields)}"

    def schema(self) -> Schema:
        required = [name for name, known in self.fields.items() if known.required]
        return {
            "type": "object",
            "additionalProperties": False,
            "properties": {name: known.schema() for name, known in self.fields.items()},
        } | ({"required": required} if required else {})


def key(rule: Rule, doc: str, default: Any = None) -> dict[str, Field]:
    """Metadata that makes a dataclass field a key of the batch file; ``default`` as written there."""
    return {"key": Field(rule, doc, default)}


def section_of(cls: type[Any]) -> Section:
    """The section whose keys are the fields of ``cls``, which is built from it."""
    keys = {}
    for each in fields(cls):
        known: Field = each.metadata["key"]
        default = known.default if known.default is not None or each.default is MISSING else each.default
        keys[each.name] = replace(known, default=default)
    return Section(keys, build=cls)
