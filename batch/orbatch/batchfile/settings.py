"""Settings in one form for each thing, and how they become request fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orbatch.batchfile.errors import Report
from orbatch.batchfile.fields import DEFAULT_KIND, KINDS, foreign, foreign_message
from orbatch.batchfile.media import FRAMES
from orbatch.batchfile.yaml_loader import Node
from orbatch_provider.inputs import DOWNSCALE, is_local, url_of

# Two ways to say the same thing, of which the settings keep one.
_FORMS = frozenset({"image_url", "frame_images", "references"})
_PICTURES = ("frame_images", "input_references")


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


def check_beside_kind(values: Mapping[str, Any], node: Node, key: str, report: Report) -> None:
    """Reports settings beside a ``kind`` that does not have them."""
    if values.get("kind") is not None:
        for name in foreign(values, values["kind"]):
            report.add(node.key_lines.get(name, node.line), f"{key}.{name}", foreign_message(name, values["kind"]))


def _use_one(settings: dict[str, Any], names: tuple[str, str], node: Node, key: str, report: Report) -> None:
    if all(name in settings for name in names):
        first, second = names
        report.add(
            node.key_lines.get(first, node.line), f"{key}.{first}", f"is given as {second} as well; use one of them"
        )


def kind_of(*levels: Mapping[str, Any]) -> str:
    """The kind of a job with these settings, the last level first."""
    return str(next((level["kind"] for level in reversed(levels) if level.get("kind") is not None), DEFAULT_KIND))


def merged(kind: str, defaults: Mapping[str, Any], *levels: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a job of this kind. What the defaults say for other kinds is not for it."""
    own = {name: value for name, value in defaults.items() if name in KINDS[kind]}
    for level in levels:
        own |= level
    return own


@dataclass(frozen=True, slots=True)
class Body:
    """Merged settings, ready to become requests that differ in model, prompt and seed. ``fields``: as in the API."""

    fields: Mapping[str, Any]

    @property
    def has_input(self) -> bool:
        """Whether the request starts from something else than a prompt."""
        return not self.fields.keys().isdisjoint(_PICTURES)


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
    downscale = given.pop(DOWNSCALE, None)
    if downscale is not None:
        for name in _PICTURES:
            if name in given:
                given[name] = [_downscaled(item, downscale) for item in given[name]]
    return Body(given)


def _downscaled(item: Mapping[str, Any], longest: int) -> Mapping[str, Any]:
    """An item that says how large its picture may be sent; what is not here, nobody can make smaller."""
    url = url_of(item)
    return dict(item) | {"image_url": {"url": url, DOWNSCALE: longest}} if url is not None and is_local(url) else item
