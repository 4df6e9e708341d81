"""Rules for the pictures, videos and sounds that a request starts from: the API's own form, and the short one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orbatch.batchfile.errors import Report
from orbatch.batchfile.rules import Choice, Link, Picture, Rule, Schema, refuse
from orbatch.batchfile.yaml_loader import Node

FRAMES = ("first_frame", "last_frame")
MEDIA = ("image_url", "video_url", "audio_url")

_VIDEO_ENDINGS = (".mp4", ".mov", ".webm", ".mkv", ".m4v")
_AUDIO_ENDINGS = (".mp3", ".wav", ".m4a", ".ogg", ".flac", ".aac")


@dataclass(frozen=True, slots=True)
class ApiMedia:
    """An item in the API's own form: ``{type: image_url, image_url: {url: ...}}``, and ``frame_type`` for a frame."""

    kinds: tuple[str, ...] = MEDIA
    is_frame: bool = False

    def read(self, node: Node, key: str, report: Report) -> dict[str, Any] | None:
        value = node.value
        kind = next((name for name in self.kinds if isinstance(value, dict) and _url(value, name)), None)
        url = _url(value, kind) if isinstance(value, dict) and kind else None
        if not isinstance(value, dict) or not kind or not url:
            refuse(node, key, report, " or ".join(f"{{type: {name}, {name}: {{url: ...}}}}" for name in self.kinds))
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

    kinds: tuple[str, ...] = MEDIA

    def read(self, node: Node, key: str, report: Report) -> dict[str, Any] | None:
        kind = "image_url"
        if isinstance(node.value, str) and node.value.startswith("https://"):
            path = node.value.split("?")[0].split("#")[0].lower()
            kind = "video_url" if path.endswith(_VIDEO_ENDINGS) else kind
            kind = "audio_url" if path.endswith(_AUDIO_ENDINGS) else kind
        if kind not in self.kinds:
            what = "a video" if kind == "video_url" else "a sound"
            report.add(node.line, key, f"is {what} by its ending; only pictures can be given here")
            return None
        url = Picture().read(node, key, report)
        return None if url is None else {"type": kind, kind: {"url": url}}

    def schema(self) -> Schema:
        return {"type": "string"}
