"""The JSON Schema of a batch file for editors, and the tables of docs/batch-file.md, from the models that check it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic import TypeAdapter

from orbatch.batchfile.explain import Schema, flat, json_schema, name_of, words_of
from orbatch.batchfile.models import BATCH, ModelEntry, PromptEntry, PromptFileEntry
from orbatch.batchfile.settings import KINDS

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
        "anyOf": [{"required": ["prompts"]}, {"required": ["prompts_from"]}],  # a rule that no single key can state
    }


def reference() -> str:
    """The tables of all keys, as Markdown."""
    root = json_schema(BATCH)
    settings = root["$defs"]["Settings"]["properties"]
    tables: list[tuple[str, Schema, Schema]] = [("Top level", root, root)]
    for kind, model in KINDS.items():
        schema = json_schema(TypeAdapter(model))
        tables.append((f"Settings of {kind} jobs", schema, schema))
    for name, entry in (("models", ModelEntry), ("prompts", PromptEntry)):
        schema = json_schema(TypeAdapter(entry))
        own = {key: field for key, field in schema["properties"].items() if key not in settings}
        tables.append((f"An item of `{name}`, besides settings", schema | {"properties": own}, schema))
    schema = json_schema(TypeAdapter(PromptFileEntry))
    tables.append(("`prompts_from` as a mapping", schema, schema))
    tables += [(f"`{name}`", next(flat(root, [root["properties"][name]])), root) for name in _SECTIONS]
    return "\n\n".join(_table(*table) for table in tables)


def _table(title: str, schema: Schema, root: Schema) -> str:
    required = schema.get("required", ())
    rows = [
        f"| `{name}` | {_values(field, root)} | {_default(name, field, required)} | {field.get('description', '')} |"
        for name, field in schema["properties"].items()
    ]
    return "\n".join([f"### {title}", "", "| Key | Value | Default | Meaning |", "|---|---|---|---|", *rows])


def _values(field: Schema, root: Schema) -> str:
    forms = [", ".join(f"`{word}`" for word in words_of(each)) or name_of(each) for each in flat(root, [field])]
    return " or ".join(dict.fromkeys(filter(None, forms)))


def _default(name: str, field: Schema, required: Collection[str]) -> str:
    if name in required:
        return "required"
    default = field.get("default")
    if (not default and default != 0) or isinstance(default, dict):
        return ""
    return ", ".join(f"`{word}`" for word in (default if isinstance(default, list) else [default]))
