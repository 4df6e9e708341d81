"""The request fields of each kind of job: what may stand in `defaults`, at a model and at a prompt, and how it becomes
a request. A kind is a table of fields and a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from orbatch.batchfile.problems import Report
from orbatch.batchfile.rules import Choice, Flag, Json, Link, Number, Picture, Rule, Schema, Text, Whole, refuse
from orbatch.batchfile.sections import Field, ListOf
from orbatch.batchfile.yamlfile import Node
from orbatch_provider.requests import NAMED_FIELDS, VideoRequest

SEED = Whole(-(2**63), 2**63 - 1, " of 64 bits")
RESOLUTIONS = ("360p", "480p", "720p", "768p", "1080p", "1K", "2K", "4K")
ASPECT_RATIOS = ("16:9", "9:16", "1:1", "4:3", "3:4", "3:2", "2:3", "21:9", "9:21")
FRAMES = ("first_frame", "last_frame")
MEDIA = ("image_url", "video_url", "audio_url")

# Fields that never reach the model: who asks, and where to report. Changing them buys nothing new.
OBSERVABILITY = frozenset({"user", "session_id", "trace", "callback_url"})

# Two ways to say the same thing, of which the settings keep one.
_FORMS = frozenset({"image_url", "frame_images", "references"})
_VIDEO_ENDINGS = (".mp4", ".mov", ".webm", ".mkv", ".m4v")
_AUDIO_ENDINGS = (".mp3", ".wav", ".m4a", ".ogg", ".flac", ".aac")


@dataclass(frozen=True, slots=True)
class ApiMedia:
    """An item in the API's own form: ``{type: image_url, image_url: {url: ...}}``, and ``frame_type`` for a frame."""

    is_frame: bool = False

    def read(self, node: Node, key: str, report: Report) -> dict[str, Any] | None:
        value = node.value
        kinds = MEDIA[:1] if self.is_frame else MEDIA
        kind = next((name for name in kinds if isinstance(value, dict) and _url(value, name)), None)
        url = _url(value, kind) if isinstance(value, dict) and kind else None
        if not isinstance(value, dict) or not kind or not url:
            refuse(node, key, report, " or ".join(f"{{type: {name}, {name}: {{url: ...}}}}" for name in kinds))
            return None
        extra = set(value) - {"type", kind} - ({"frame_type"} if self.is_frame else set())
        if extra:
            report.add(node.line, key, f"unknown key '{min(extra)}'")
        rule: Rule = Picture() if kind == "image_url" else Link("; providers fetch videos and sounds themselves")
        item: dict[str, Any] = {"type": kind, kind: {"url": rule.read(url, f"{key}.{kind}.url", report)}}
        if self.is_frame:
            frame_type = value.get("frame_type", Node(node.line, None))
            item["frame_type"] = Choice(FRAMES).read(frame_type, f"{key}.frame_type", report)
        return item

    def schema(self) -> Schema:
        return {"type": "object", "required": ["type", "frame_type"] if self.is_frame else ["type"]}


def _url(item: dict[str, Node], kind: str) -> Node | None:
    """The URL of an item of this type; None when it is of another, or has none."""
    holder = item[kind].value if kind in item and "type" in item and item["type"].value == kind else None
    return holder.get("url") if isinstance(holder, dict) else None


@dataclass(frozen=True, slots=True)
class ShortReference:
    """A reference by its URL or path alone; the ending of a URL tells a video or a sound from a picture."""

    def read(self, node: Node, key: str, report: Report) -> dict[str, Any] | None:
        kind = "image_url"
        if isinstance(node.value, str) and node.value.startswith("https://"):
            path = node.value.split("?")[0].split("#")[0].lower()
            kind = "video_url" if path.endswith(_VIDEO_ENDINGS) else kind
            kind = "audio_url" if path.endswith(_AUDIO_ENDINGS) else kind
        url = Picture().read(node, key, report)
        return None if url is None else {"type": kind, kind: {"url": url}}

    def schema(self) -> Schema:
        return {"type": "string"}


def _own(rule: Rule, doc: str) -> Field:
    return Field(rule, doc, nullable=True)


VIDEO_FIELDS: Mapping[str, Field] = {
    "duration": _own(Whole(1, 3600), "length in whole seconds, one that the model offers"),
    "resolution": _own(Choice(RESOLUTIONS), "resolution class, one that the model offers"),
    "aspect_ratio": _own(Choice(ASPECT_RATIOS), "width to height; quotes are not needed"),
    "size": _own(
        Text("WIDTHxHEIGHT in pixels, such as 1280x720", r"[1-9][0-9]{1,4}x[1-9][0-9]{1,4}"),
        "exact size, instead of resolution and aspect_ratio",
    ),
    "generate_audio": _own(Flag(), "sound; models that can make sound do so, and charge for it, unless this is false"),
    "seed": _own(SEED, "for results that can be made again, as far as the model can"),
    "first_frame": _own(Picture(), "picture to start from: https URL or local PNG, JPEG or WebP file"),
    "last_frame": _own(Picture(), "picture to end on, likewise"),
    "image_url": _own(Picture(), "another name for first_frame"),
    "frame_images": _own(ListOf(ApiMedia(is_frame=True), most=2), "frames in the API's own form"),
    "references": _own(
        ListOf(ShortReference(), most=50, single=True),
        "pictures (https URL or local file), videos and sounds (https URL only) to go by",
    ),
    "input_references": _own(ListOf(ApiMedia(), most=50), "references in the API's own form"),
    "previous_job_id": _own(Text("a job id"), "completed job to edit or extend, of the same model"),
    "upscale_factor": _own(Number(above=0), "for upscaling models"),
    "creativity": _own(Whole(0), "for upscaling models: 0 is precise, 1 is creative"),
    "provider": _own(Json(), "options that only one provider knows: {options: {SLUG: {NAME: value}}}"),
    "user": _own(Text("text"), "name of the end user, for OpenRouter's records"),
    "session_id": _own(Text("text of at most 256 characters", most=256), "groups requests in OpenRouter's activity"),
    "trace": _own(Json(), "labels for observability: trace_id, trace_name, span_name, ..."),
    "callback_url": _own(Link(), "is called when a job ends"),
}

DEFAULT_KIND = "video"
KINDS: Mapping[str, Mapping[str, Field]] = {"video": VIDEO_FIELDS}
KIND = Field(Choice(tuple(KINDS)), "what is generated", default=DEFAULT_KIND)


def settings_fields() -> dict[str, Field]:
    """Every request field of every kind, and ``kind`` itself."""
    return {"kind": KIND} | {name: known for table in KINDS.values() for name, known in table.items()}


def normalised(values: Mapping[str, Any], node: Node, key: str, report: Report) -> dict[str, Any]:
    """Settings with one form for each thing, so that a later level replaces what an earlier one gave in another form:
    ``first_frame`` and ``last_frame`` for frames, ``input_references`` for references."""
    if not _FORMS & values.keys():
        return dict(values)
    settings = dict(values)
    _use_one(settings, ("image_url", "first_frame"), node, key, report)
    _use_one(settings, ("references", "input_references"), node, key, report)
    for frame in FRAMES:
        _use_one(settings, ("frame_images", frame), node, key, report)
    if "image_url" in settings:
        settings["first_frame"] = settings.pop("image_url")
    if "references" in settings:
        settings["input_references"] = settings.pop("references")
    if "frame_images" in settings:
        frames = settings.pop("frame_images") or []
        settings |= dict.fromkeys(FRAMES) | {item["frame_type"]: item["image_url"]["url"] for item in frames if item}
        if len({item["frame_type"] for item in frames if item}) < len(frames):
            report.add(node.line, f"{key}.frame_images", "only one first_frame and one last_frame can be sent")
    return settings


def _use_one(settings: dict[str, Any], names: tuple[str, str], node: Node, key: str, report: Report) -> None:
    if all(name in settings for name in names):
        first, second = names
        report.add(
            node.key_lines.get(first, node.line), f"{key}.{first}", f"is given as {second} as well; use one of them"
        )


@dataclass(frozen=True, slots=True)
class Body:
    """Merged settings, ready to become requests that differ in model, prompt and seed."""

    named: Mapping[str, Any]
    extra: Mapping[str, Any]

    @property
    def has_input(self) -> bool:
        """Whether the request starts from something else than a prompt."""
        return "frame_images" in self.named or "input_references" in self.named

    def as_json(self) -> dict[str, Any]:
        """All of it as it would stand in a request body."""
        return {**self.named, **self.extra}


def body_of(settings: Mapping[str, Any]) -> Body:
    """The request fields for merged, normalised settings; null ones are not sent."""
    given = {name: value for name, value in settings.items() if value is not None and name != "kind"}
    frames = [
        {"type": "image_url", "image_url": {"url": given.pop(frame)}, "frame_type": frame}
        for frame in FRAMES
        if frame in given
    ]
    if frames:
        given["frame_images"] = frames
    named = {name: value for name, value in given.items() if name in NAMED_FIELDS}
    return Body(named, {name: value for name, value in given.items() if name not in NAMED_FIELDS})


def video_request(model: str, prompt: str | None, seed: int | None, body: Body) -> VideoRequest:
    return VideoRequest(model, prompt, seed=seed, extra=body.extra, **body.named)


REQUESTS: Mapping[str, Callable[[str, str | None, int | None, Body], VideoRequest]] = {"video": video_request}
