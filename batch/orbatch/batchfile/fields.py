"""The request fields of each kind of job: what may stand in `defaults`, at a model and at a prompt. A kind is a table
of fields; where several kinds have a field of one name, any of their values may stand there, and the kind of the job
decides later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from orbatch.batchfile.errors import Report
from orbatch.batchfile.media import ApiMedia, ShortReference
from orbatch.batchfile.rules import Choice, Flag, Json, Link, Number, Picture, Rule, Schema, Text, Whole, refuse
from orbatch.batchfile.sections import Field, ListOf
from orbatch.batchfile.yaml_loader import Node

SEED = Whole(-(2**63), 2**63 - 1, " of 64 bits")
RESOLUTIONS = ("360p", "480p", "720p", "768p", "1080p", "1K", "2K", "4K")
ASPECT_RATIOS = ("16:9", "9:16", "1:1", "4:3", "3:4", "3:2", "2:3", "21:9", "9:21")
IMAGE_RESOLUTIONS = ("512", "768", "1K", "1.5K", "2K", "4K")
IMAGE_ASPECT_RATIOS = (
    *("1:1", "1:2", "1:4", "1:8", "2:1", "2:3", "2.35:1", "3:2", "3:4", "4:1", "4:3", "4:5", "5:2", "5:4", "5:7"),
    *("7:5", "8:1", "9:16", "16:9", "9:19.5", "19.5:9", "9:20", "20:9", "9:21", "21:9", "auto"),
)

# Fields that never reach the model: who asks, and where to report. Changing them buys nothing new.
OBSERVABILITY = frozenset({"user", "session_id", "trace", "callback_url"})


@dataclass(frozen=True, slots=True)
class AnyOf:
    """What one of several rules takes; the last one speaks when none does."""

    rules: tuple[Rule, ...]

    def read(self, node: Node, key: str, report: Report) -> Any:
        for rule in self.rules[:-1]:
            attempt = Report(report.file, report.base)
            value = rule.read(node, key, attempt)
            if not attempt.count:
                return value
        return self.rules[-1].read(node, key, report)

    def schema(self) -> Schema:
        return {"anyOf": [rule.schema() for rule in self.rules]}


_FORMAT_WORDS = {"text": "text", "json": "json_object"}
_FORMAT_TYPES = ("text", "json_object", "json_schema")


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """``text``, ``json``, or the API's own form with a JSON Schema."""

    def read(self, node: Node, key: str, report: Report) -> dict[str, Any] | None:
        if isinstance(node.value, str) and node.value in _FORMAT_WORDS:
            return {"type": _FORMAT_WORDS[node.value]}
        given = node.plain() if isinstance(node.value, dict) else {}
        schema = given.get("json_schema")
        if given.get("type") not in _FORMAT_TYPES or (given["type"] == "json_schema") != isinstance(schema, dict):
            refuse(node, key, report, "text, json, or {type: json_schema, json_schema: {name: NAME, schema: {...}}}")
        elif isinstance(schema, dict) and not (isinstance(schema.get("name"), str) and _is_mapping(schema, "schema")):
            report.add(node.line, f"{key}.json_schema", "needs a name (text) and a schema (a mapping)")
        else:
            return given
        return None

    def schema(self) -> Schema:
        return {"anyOf": [{"enum": list(_FORMAT_WORDS)}, {"type": "object", "required": ["type"]}]}


def _is_mapping(holder: Mapping[str, Any], name: str) -> bool:
    return isinstance(holder.get(name), dict)


def _own(rule: Rule, doc: str) -> Field:
    return Field(rule, doc, nullable=True)


_SEED = _own(SEED, "for results that can be made again, as far as the model can")
_DOWNSCALE = _own(
    Whole(16, 16_384), "longest side in pixels that a local picture is sent with; a larger one is made smaller first"
)
_RECORDS: Mapping[str, Field] = {
    "user": _own(Text("text"), "name of the end user, for OpenRouter's records"),
    "session_id": _own(Text("text of at most 256 characters", most=256), "groups requests in OpenRouter's activity"),
    "trace": _own(Json(), "labels for observability: trace_id, trace_name, span_name, ..."),
}

VIDEO_FIELDS: Mapping[str, Field] = {
    "duration": _own(Whole(1, 3600), "length in whole seconds, one that the model offers"),
    "resolution": _own(Choice(RESOLUTIONS), "resolution class, one that the model offers"),
    "aspect_ratio": _own(Choice(ASPECT_RATIOS), "width to height; quotes are not needed"),
    "size": _own(
        Text("WIDTHxHEIGHT in pixels, such as 1280x720", r"[1-9][0-9]{1,4}x[1-9][0-9]{1,4}"),
        "exact size, instead of resolution and aspect_ratio",
    ),
    "generate_audio": _own(Flag(), "sound; models that can make sound do so, and charge for it, unless this is false"),
    "seed": _SEED,
    "first_frame": _own(Picture(), "picture to start from: https URL or local PNG, JPEG or WebP file"),
    "last_frame": _own(Picture(), "picture to end on, likewise"),
    "image_url": _own(Picture(), "another name for first_frame"),
    "frame_images": _own(ListOf(ApiMedia(("image_url",), is_frame=True), most=2), "frames in the API's own form"),
    "references": _own(
        ListOf(ShortReference(), most=50, single=True),
        "pictures (https URL or local file), videos and sounds (https URL only) to go by",
    ),
    "input_references": _own(ListOf(ApiMedia(), most=50), "references in the API's own form"),
    "downscale": _DOWNSCALE,
    "previous_job_id": _own(Text("a job id"), "completed job to edit or extend, of the same model"),
    "upscale_factor": _own(Number(above=0), "for upscaling models"),
    "creativity": _own(Whole(0), "for upscaling models: 0 is precise, 1 is creative"),
    "provider": _own(Json(), "options that only one provider knows: {options: {SLUG: {NAME: value}}}"),
    **_RECORDS,
    "callback_url": _own(Link(), "is called when a job ends"),
}

IMAGE_FIELDS: Mapping[str, Field] = {
    "n": _own(Whole(1, 10), "pictures for one request, numbered from 2 in their names; fewer may come"),
    "resolution": _own(Choice(IMAGE_RESOLUTIONS), "size class, one that the model offers"),
    "aspect_ratio": _own(Choice(IMAGE_ASPECT_RATIOS), "width to height; quotes are not needed"),
    "size": _own(
        Text(
            "a class such as 2K, or WIDTHxHEIGHT in pixels", r"512|768|1K|1\.5K|2K|4K|[1-9][0-9]{1,4}x[1-9][0-9]{1,4}"
        ),
        "exact size, instead of resolution and aspect_ratio",
    ),
    "quality": _own(Choice(("auto", "low", "medium", "high", "xhigh", "max")), "dearer when it is higher"),
    "output_format": _own(Choice(("png", "jpeg", "webp", "svg")), "file format, as far as the model can"),
    "background": _own(Choice(("auto", "transparent", "opaque")), "transparent needs png or webp"),
    "output_compression": _own(Whole(0, 100), "for jpeg and webp"),
    "seed": _SEED,
    "references": _own(
        ListOf(ShortReference(("image_url",)), most=50, single=True), "pictures to go by: https URLs or local files"
    ),
    "input_references": _own(ListOf(ApiMedia(("image_url",)), most=50), "references in the API's own form"),
    "downscale": _DOWNSCALE,
    "provider": _own(
        Json(), "routing and options: {only: [SLUG], options: {SLUG: {NAME: value}}}; only fixes the price"
    ),
    **_RECORDS,
}

TEXT_FIELDS: Mapping[str, Field] = {
    "system": _own(Text("text", numbers=False), "instructions before the prompt"),
    "max_tokens": _own(Whole(1, 10_000_000), "longest answer in tokens; without it there is no upper price"),
    "temperature": _own(Number(least=0, most=2), "0 is the most predictable"),
    "top_p": _own(Number(above=0, most=1), "share of the likeliest words to choose from"),
    "stop": _own(ListOf(Text("text", blank=True), most=4, single=True), "texts that end the answer"),
    "seed": _SEED,
    "response_format": _own(
        ResponseFormat(), "text, json, or a JSON Schema in the API's own form; json makes .json files"
    ),
    "provider": _own(Json(), "routing: {only: [SLUG], order: [SLUG], ...}"),
    **_RECORDS,
}

DEFAULT_KIND = "video"
KINDS: Mapping[str, Mapping[str, Field]] = {"video": VIDEO_FIELDS, "image": IMAGE_FIELDS, "text": TEXT_FIELDS}
KIND = Field(Choice(tuple(KINDS)), "what is generated: video if nothing is said", default=DEFAULT_KIND)


ALL_KINDS = frozenset(KINDS)


@cache
def settings_fields(kinds: frozenset[str] = ALL_KINDS) -> Mapping[str, Field]:
    """Every request field of these kinds, and ``kind`` itself."""
    tables = [table for kind, table in KINDS.items() if kind in kinds]
    names = dict.fromkeys(name for table in tables for name in table)
    return {"kind": KIND} | {name: _merged([table[name] for table in tables if name in table]) for name in names}


def _merged(fields: list[Field]) -> Field:
    """One field for all the kinds that have it; the first kind's rule speaks when no value fits."""
    rules = list(dict.fromkeys(field.rule for field in reversed(fields)))
    if len(rules) == 1:
        return fields[0]
    choices = [rule for rule in reversed(rules) if isinstance(rule, Choice)]
    rule: Rule = AnyOf(tuple(rules))
    if len(choices) == len(rules):
        rule = Choice(tuple(dict.fromkeys(word for choice in choices for word in choice.words)))
    return _own(rule, "; or ".join(dict.fromkeys(field.doc for field in fields)))


def kinds_with(name: str) -> list[str]:
    """The kinds of job that have a field of this name."""
    return [kind for kind, table in KINDS.items() if name in table]


def foreign(names: Iterable[str], kind: str) -> list[str]:
    """The settings among ``names`` that a job of this kind does not have."""
    return [name for name in names if name != "kind" and name not in KINDS[kind]]


def foreign_message(name: str, kind: str) -> str:
    """Why a setting cannot stand where it does."""
    return f"is a setting of {' and '.join(kinds_with(name))} jobs, and this is for {kind}"
