"""The JSON Schema of a batch file for editors, and the tables of docs/batch-file.md, from the models that check it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic import TypeAdapter

from orbatch.batchfile.explain import Schema, flat, json_schema, name_of, words_of
from orbatch.batchfile.models import BATCH, ModelEntry, PicksEntry, PromptEntry, PromptFileEntry
from orbatch.batchfile.settings import COMMON_SETTINGS, KINDS

_SECTIONS = ("budget", "limits", "polling", "retries")


def config_schema() -> dict[str, Any]:
    """The JSON Schema of a batch file (draft 2020-12). What a model supports is not in it: ``plan`` checks that."""
    schema = json_schema(BATCH)
    definitions = schema["$defs"]
    settings = definitions["Settings"]["properties"]
    for entry in ("ModelEntry", "PromptEntry"):  # their settings by reference, which makes the file a third as long
        own = definitions[entry]["properties"].items()
        properties = {
            name: {"$ref": f"#/$defs/Settings/properties/{name}"} if field == settings.get(name) else field
            for name, field in own
        }
        definitions = definitions | {entry: definitions[entry] | {"properties": properties}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "$defs": definitions,
        "title": "orbatch batch file",
        "description": "A batch of generation jobs: prompts x models x settings, with a budget.",
        "anyOf": [
            {"required": ["prompts"]},
            {"required": ["prompts_from"]},
            {"required": ["from"]},
        ],  # a rule that no single key can state
    }


def reference() -> str:
    """The tables of all keys, as Markdown."""
    root = json_schema(BATCH)
    settings = root["$defs"]["Settings"]["properties"]
    parts: list[tuple[str, Schema]] = [("Top level", root)]
    for kind, model in KINDS.items():
        parts.append((f"Settings of {kind} jobs", _schema(model)))
    for name, entry in (("models", ModelEntry), ("prompts", PromptEntry)):
        schema = _schema(entry)
        own = {key: field for key, field in schema["properties"].items() if key not in settings}
        parts.append((f"An item of `{name}`, besides settings", schema | {"properties": own}))
    parts.append(("`prompts_from` as a mapping", _schema(PromptFileEntry)))
    parts.append(("`from`", _schema(PicksEntry)))
    for name in _SECTIONS:
        [section] = flat(root, [root["properties"][name]])
        parts.append((f"`{name}`", {**section, "$defs": root["$defs"]}))
    return "\n\n".join(_table(*part) for part in parts)


def _schema(model: type) -> dict[str, Any]:
    return json_schema(TypeAdapter(model))


def _table(title: str, schema: Schema) -> str:
    required = schema.get("required", ())
    fields = schema["properties"]
    # The settings of all kinds last: pydantic lists those of a base first.
    names = sorted(fields, key=COMMON_SETTINGS.__contains__) if fields.keys() > COMMON_SETTINGS else fields
    rows = [
        f"| `{name}` | {_values(fields[name], schema)} | {_default(name, fields[name], required)} "
        f"| {fields[name].get('description', '')} |"
        for name in names
    ]
    return "\n".join([f"### {title}", "", "| Key | Value | Default | Meaning |", "|---|---|---|---|", *rows])


def _values(field: Schema, root: Schema) -> str:
    return " or ".join(dict.fromkeys(filter(None, (_value(each) for each in flat(root, [field])))))


def _value(schema: Schema) -> str:
    words = ", ".join(f"`{word}`" for word in words_of(schema))
    short = {"array": "list", "object": "mapping", "boolean": "`true`, `false`"}.get(schema.get("type", ""))
    return words or short or name_of(schema)


def _default(name: str, field: Schema, required: Collection[str]) -> str:
    default = field.get("default")
    if name in required:
        return "required"
    if default in (None, "", [], {}) or isinstance(default, dict):
        return ""
    words = default if isinstance(default, list) else [str(default).lower() if isinstance(default, bool) else default]
    return ", ".join(f"`{word}`" for word in words)
