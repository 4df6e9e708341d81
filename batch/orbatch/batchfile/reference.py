"""The batch file described from its rules: as JSON Schema for editors, and as the tables of the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orbatch.batchfile.fields import KIND, KINDS, settings_fields
from orbatch.batchfile.items import MODEL_FIELDS, PROMPT_FIELDS
from orbatch.batchfile.models import BATCH, BATCH_FIELDS
from orbatch.batchfile.rows import FILE_FIELDS
from orbatch.batchfile.sections import Field

SECTIONS = ("budget", "limits", "polling", "retries")


def config_schema() -> dict[str, Any]:
    """The JSON Schema of a batch file (draft 2020-12). What a model supports is not part of it: ``plan`` asks that."""
    described = BATCH.schema()
    settings = {name: field.schema() for name, field in settings_fields().items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "orbatch batch file",
        "description": "A batch of generation jobs: prompts x models x settings, with a budget.",
        **_with_references(described, settings),
        "anyOf": [{"required": ["prompts"]}, {"required": ["prompts_from"]}],
        "$defs": settings,
    }


def _with_references(schema: Any, settings: Mapping[str, Any]) -> Any:
    """``schema`` with every request field, which stands in several places, replaced by a reference."""
    if isinstance(schema, list):
        return [_with_references(item, settings) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {"$ref": f"#/$defs/{key}"} if settings.get(key) == value else _with_references(value, settings)
        for key, value in schema.items()
    }


def reference() -> str:
    """The tables of docs/batch-file.md, as Markdown."""
    parts = [
        ("Top level", BATCH_FIELDS),
        ("Request fields", {"kind": KIND}),
        *((f"Request fields of {kind} jobs", fields) for kind, fields in KINDS.items()),
        ("An item of `models`", MODEL_FIELDS),
        ("An item of `prompts`", PROMPT_FIELDS),
        ("`prompts_from` as a mapping", FILE_FIELDS),
        *((f"`{name}`", BATCH_FIELDS[name].rule.fields) for name in SECTIONS),  # type: ignore[attr-defined]  # sections
    ]
    return "\n\n".join(_table(title, fields) for title, fields in parts)


def _table(title: str, fields: Mapping[str, Field]) -> str:
    rows = [f"| `{name}` | {_form(field)} | {_default(field)} | {_cell(field.doc)} |" for name, field in fields.items()]
    return "\n".join([f"### {title}", "", "| Key | Value | Default | Meaning |", "|---|---|---|---|", *rows])


def _form(field: Field) -> str:
    schema = field.rule.schema()
    if "anyOf" in schema:
        kinds = dict.fromkeys(_kind(each) for each in schema["anyOf"])
        return " or ".join(kinds)
    return _kind(schema)


def _kind(schema: Mapping[str, Any]) -> str:
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema["enum"])
    kind = schema.get("type", "text")
    if isinstance(kind, list) or kind == "string":
        return "https URL" if schema.get("pattern") == "^https://" else "text"
    word = {"integer": "whole number", "number": "number", "boolean": "`true`, `false`", "array": "list"}.get(
        kind, "mapping"
    )
    least = schema.get("minimum")
    return f"{word} ≥ {least}" if least is not None else word


def _default(field: Field) -> str:
    if field.required:
        return "required"
    if field.default is None:
        return ""
    words = field.default if isinstance(field.default, list) else [field.default]
    return ", ".join(f"`{word}`" for word in words)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
