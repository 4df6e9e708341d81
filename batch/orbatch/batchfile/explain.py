"""pydantic's errors as problems: where, what was found, what is allowed, and the nearest of it.

What is allowed is read from the JSON Schema of the type that refused, so that check, editor and reference agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from orbatch.batchfile.errors import Report, did_you_mean, quoted
from orbatch.batchfile.settings import Settings
from orbatch.batchfile.types import UNSENDABLE_TEXT

Schema = Mapping[str, Any]
_TYPES = {
    "boolean": "true, false",
    "object": "a mapping (key: value)",
    "array": "a list (lines that begin with '- ')",
    "string": "text",
}
REMOVED_SETTINGS = {"image_url": "was removed; use first_frame"}
# Messages for unknown keys, by HOLDER.KEY or KEY; the holder of a key at the top has no name.
_HINTS = {
    **{
        f".{name}": "is a setting of jobs; put it under defaults, a model or a prompt" for name in Settings.model_fields
    },
    ".prompt": "is a setting of one prompt; put it in the list under prompts",
    ".model": "is a setting of one model; put it in the list under models",
    ".api_key": "does not belong in a batch file; set the environment variable OPENROUTER_API_KEY",
    ".uncertain": "was removed, because `resubmit` could pay for a job twice. Delete this line; to submit an uncertain "
    "job again on purpose: `orbatch resolve JOB --not-charged`, then `orbatch run`",
    "prompts.text": "unknown key; did you mean 'prompt'?",
    "prompts.model": "unknown key; did you mean 'models'?",
    "prompts_from.offset": "was removed; delete the rows that are not wanted, or take a part with limit or sample",
    **REMOVED_SETTINGS,
}
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")  # pydantic's names for models and for dataclasses


class _Untitled(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        return False  # only our own titles, which say what is allowed

    def dict_schema(self, schema: Any) -> Any:
        described = super().dict_schema(schema)
        title = self.generate_inner(schema["values_schema"]).get("title") if "values_schema" in schema else None
        for values in [described.get("additionalProperties"), *described.get("patternProperties", {}).values()]:
            if title is not None and isinstance(values, dict):
                values["title"] = title  # pydantic takes it away
        return described


@cache
def json_schema(adapter: TypeAdapter[Any]) -> dict[str, Any]:
    """The JSON Schema of what ``adapter`` reads."""
    return adapter.json_schema(schema_generator=_Untitled)


def explain(
    error: ValidationError,
    adapter: TypeAdapter[Any],
    value: Any,
    report: Report,
    *,
    line: int | None = None,
    prefix: str = "",
) -> None:
    """Reports each key that was refused, once.

    ``value`` is what was validated; ``line`` and ``prefix`` are those of a row, which knows no lines itself.
    """
    schema = json_schema(adapter)
    reported: set[str] = set()
    for each in error.errors(include_url=False):
        place = _Place(schema, value, each["loc"], line, prefix)
        name = str(each["loc"][-1]) if each["loc"] else ""
        if each["type"] == "missing" and not place.is_whole:
            described = next(iter(_at(schema, [*place.path, name])), {})
            place.key = f"{place.key}.{name}".lstrip(".")
            message = f"is missing: {described.get('description', 'it is required')}"
        elif each["type"] in _UNKNOWN and not place.is_whole:
            message = _unknown_key(name, schema, place.path[:-1], "prompts" if prefix else "")
        else:
            message = _message(each, place.value, list(flat(schema, _at(schema, place.path))))
        if place.key not in reported:  # the members of a union each refuse a value
            reported.add(place.key)
            report.add(place.line, place.key, message)


def refused_settings(
    error: ValidationError, adapter: TypeAdapter[Any], settings: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """The settings that are refused, each with the reason, empty for one that the kind does not have.

    ``adapter``: of a union that ``kind`` tells apart.
    """
    schema = json_schema(adapter)
    own = schema["$defs"][schema["discriminator"]["mapping"][settings["kind"]].rpartition("/")[2]]
    for each in error.errors(include_url=False):
        name = str(each["loc"][1])  # behind the name of the union's member
        described = own["properties"].get(name)
        yield name, "" if described is None else _message(each, settings[name], list(flat(schema, [described])))


def _unknown_key(name: str, schema: Schema, holder: Sequence[str | int], section: str) -> str:
    section = next((part for part in reversed(holder) if isinstance(part, str)), section)
    known = dict.fromkeys(key for each in flat(schema, _at(schema, holder)) for key in each.get("properties", ()))
    near = did_you_mean(name, known) or f"; allowed: {', '.join(known)}"
    return _HINTS.get(f"{section}.{name}") or _HINTS.get(name) or f"unknown key{near}"


class _Place:
    """The value that an error is about: the way to it, its dotted key and its line.

    ``is_whole``: the way ends early, at a value that is described as a whole.
    """

    def __init__(self, schema: Schema, value: Any, loc: Sequence[str | int], line: int | None, prefix: str) -> None:
        self.value = value
        self.key = prefix
        self.line = default_line = getattr(value, "line", line)
        self.path: list[str | int] = []
        self.is_whole = False
        for part in loc:
            if any(each.keys() == {"title"} for each in flat(schema, _at(schema, self.path))):
                self.is_whole = True
                return
            self._enter(part, default_line)

    def _enter(self, part: str | int, default_line: int | None) -> None:
        container = self.value
        if isinstance(container, dict) and part in container:
            self.key = f"{self.key}.{part}".lstrip(".")
        elif isinstance(container, list) and isinstance(part, int) and part < len(container):
            self.key = f"{self.key}[{part + 1}]"
        else:
            return  # a name of pydantic's own, such as the member of a union
        lines = getattr(container, "lines", None)
        self.line = lines[part] if lines is not None else default_line
        self.value = container[part]
        self.path.append(part)


def _message(error: Any, value: Any, alternatives: Sequence[Schema]) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":  # raised by our own validators, as a sentence
        return str(context["error"])
    if kind == "string_unicode":
        return UNSENDABLE_TEXT
    if kind in ("too_long", "too_short"):
        limit = f"at most {context['max_length']:,}" if kind == "too_long" else f"at least {context['min_length']:,}"
        return f"has {context['actual_length']} items; allowed: {limit}"
    if kind == "string_too_long":
        return f"has {len(value):,} characters; allowed: at most {context['max_length']:,}"
    if value is not None and not isinstance(value, (dict, list)):
        # Who wrote one value is not helped by the forms of a mapping.
        alternatives = [each for each in alternatives if each.get("type") not in ("object", "array")] or alternatives
    words = [word for each in alternatives for word in each.get("enum", ())]
    near = did_you_mean(value, words, cutoff=0.8) if isinstance(value, str) else ""
    if not alternatives:  # a form of schema that this module does not know: pydantic's own words
        return f"found {found(value)}: {error['msg']}"
    is_text = all(each.get("type") == "string" for each in alternatives)
    is_scalar = value is not None and not isinstance(value, (str, dict, list))
    quotes = "; put it in quotes if text is meant" if is_text and is_scalar and not words else ""
    return f"found {found(value)}; allowed: {_allowed(alternatives)}{quotes}{near}"


def found(value: Any) -> str:
    """A value as a message names it: as it was written, or what it is."""
    if isinstance(value, dict):
        return "a mapping (key: value)"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:f}" if isinstance(value, Decimal) else quoted(value)


def _allowed(alternatives: Sequence[Schema]) -> str:
    words = ", ".join(dict.fromkeys(word for each in alternatives for word in words_of(each)))
    names = dict.fromkeys(name_of(each) for each in alternatives if not words_of(each))
    return ", or ".join(filter(None, [words, *names]))


def words_of(schema: Schema) -> list[str]:
    """The words that a schema allows; none for one that is not a list of words."""
    words = schema.get("enum", [schema["const"]] if "const" in schema else ())
    return [str(word).lower() if isinstance(word, bool) else str(word) for word in words]


def name_of(schema: Schema) -> str:
    """What a schema allows, in words: its title if it is a single value, or its type and bounds."""
    if "title" in schema and "properties" not in schema:
        return str(schema["title"])
    kind = schema.get("type", "")
    if kind in ("integer", "number"):
        return ("a whole number" if kind == "integer" else "a number") + _bounds(schema)
    if kind == "object" and "properties" in schema:
        return f"a mapping with keys such as {', '.join(list(schema['properties'])[:4])}"
    return _TYPES.get(kind, "")


def _bounds(schema: Schema) -> str:
    # pydantic writes whole bounds of a float as 3600.0, and :g alone would write 1000000 as 1e+06.
    bounds = (schema.get(word) for word in ("minimum", "maximum", "exclusiveMinimum"))
    least, most, above = (f"{number:g}" if isinstance(number, float) else number for number in bounds)
    low = f" above {above}" if above is not None else "" if least is None else f" of at least {least}"
    if most is None:
        return low
    return f"{low}, at most {most}" if least is None else f" from {least} to {most}"


def _at(root: Schema, path: Sequence[str | int]) -> list[Schema]:
    """The schemas of what is at ``path``, as they are referred to."""
    places: list[Schema] = [root]
    for part in path:
        places = [child for each in flat(root, places) for child in _step(each, part)]
    return places


def _step(schema: Schema, part: str | int) -> Iterator[Schema]:
    if isinstance(part, int):
        if isinstance(schema.get("items"), Mapping):
            yield schema["items"]
    elif part in schema.get("properties", {}):
        yield schema["properties"][part]
    elif isinstance(schema.get("additionalProperties"), Mapping):
        yield schema["additionalProperties"]
    else:  # what pydantic makes of a mapping whose keys have a pattern, such as model ids
        yield from schema.get("patternProperties", {}).values()


def flat(root: Schema, schemas: Sequence[Schema]) -> Iterator[Schema]:
    """The alternatives behind references and unions, without null."""
    for schema in schemas:
        if "$ref" in schema:
            yield from flat(root, [root["$defs"][schema["$ref"].rpartition("/")[2]]])
        elif "anyOf" in schema or "oneOf" in schema:
            # A title on the union speaks for all of its members.
            members = flat(root, schema.get("anyOf") or schema["oneOf"])
            yield from [{"title": schema["title"]}] if "title" in schema else members
        elif schema.get("type") != "null":
            yield schema
