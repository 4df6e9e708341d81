"""Which requests the service refuses, and with what.

Written from the API's description and the model's record alone, not with ``check_video``, so that a mistake in the
one cannot hide in the other. Fields that the API does not know are accepted and ignored, as unknown passthrough options
are. A list that the record gives as null refuses nothing, except where the field belongs to some models only (frames,
``upscale_factor``, ``creativity``).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any

from orbatch_provider.catalog import VideoModel
from orbatch_simulator.answers import RefusedError

RESOLUTIONS = ("360p", "480p", "720p", "768p", "1080p", "1K", "2K", "4K")
ASPECT_RATIOS = ("16:9", "9:16", "1:1", "4:3", "3:4", "3:2", "2:3", "21:9", "9:21")
FRAME_TYPES = ("first_frame", "last_frame")
REFERENCE_TYPES = ("image_url", "video_url", "audio_url")

MAX_SESSION_ID = 256  # characters
_SIZE = re.compile(r"[1-9][0-9]{1,4}x[1-9][0-9]{1,4}")
_IMAGE_DATA = re.compile(r"data:(image/(?:png|jpeg|webp|gif));base64,(.*)", re.DOTALL)
_IMAGE_BEGINNINGS = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/webp": b"RIFF",
    "image/gif": b"GIF8",
}


def is_of(kind: type | tuple[type, ...]) -> Callable[[object], bool]:
    # JSON's true and false are ints in Python, and no numbers in JSON.
    return lambda value: isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


_TYPES: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "model": ("a string", is_of(str)),
    "prompt": ("a string", is_of(str)),
    "duration": ("an integer", is_of(int)),
    "resolution": ("a string", is_of(str)),
    "aspect_ratio": ("a string", is_of(str)),
    "size": ("a string", is_of(str)),
    "frame_images": ("an array", is_of(list)),
    "input_references": ("an array", is_of(list)),
    "generate_audio": ("a boolean", is_of(bool)),
    "seed": ("an integer", is_of(int)),
    "previous_job_id": ("a string", is_of(str)),
    "upscale_factor": ("a number", is_of((int, float))),
    "creativity": ("an integer", is_of(int)),
    "provider": ("an object", is_of(dict)),
    "callback_url": ("a string", is_of(str)),
    "user": ("a string", is_of(str)),
    "session_id": ("a string", is_of(str)),
    "trace": ("an object", is_of(dict)),
}


def check_form(body: object) -> Mapping[str, Any]:
    """The body, when it has the right shape; raises RefusedError 400. What the model supports is another question."""
    if not isinstance(body, dict):
        raise invalid("The request body must be a JSON object")
    for name, value in body.items():
        if name in _TYPES and not _TYPES[name][1](value):
            raise invalid(f"{name}: expected {_TYPES[name][0]}")
    if not body.get("model"):
        raise invalid("model: required")
    _check_values(body)
    return body


def check_model(body: Mapping[str, Any], model: VideoModel, *, refuse_audio_off: bool = False) -> None:
    """Raises RefusedError 400 for the first thing that the model does not support."""
    _offered(body, "duration", model.durations, model)
    _offered(body, "resolution", model.resolutions, model)
    _offered(body, "aspect_ratio", model.aspect_ratios, model)
    _offered(body, "size", model.sizes, model)
    _offered(body, "creativity", model.creativity or (), model)
    for frame in body.get("frame_images", ()):
        if frame["frame_type"] not in (model.frame_types or ()):
            raise invalid(f"frame_images: {model.id} does not support {frame['frame_type']}")
    if "generate_audio" in body and model.generate_audio is not True and (body["generate_audio"] or refuse_audio_off):
        raise invalid(f"generate_audio: {model.id} does not support audio generation")
    if "seed" in body and model.seed is not True:
        raise invalid(f"seed: {model.id} does not support seed")
    factor = body.get("upscale_factor")
    if factor is not None:
        if model.upscale_min is None or model.upscale_max is None:
            raise invalid(f"upscale_factor: {model.id} is not an upscaler")
        if not model.upscale_min <= factor <= model.upscale_max:
            raise invalid(f"upscale_factor: must be between {model.upscale_min:g} and {model.upscale_max:g}")


def _offered(body: Mapping[str, Any], name: str, offered: tuple[object, ...] | None, model: VideoModel) -> None:
    if name in body and offered is not None and body[name] not in offered:
        words = ", ".join(str(value) for value in offered) or "nothing"
        raise invalid(f"{name}: {model.id} does not support {body[name]!r}; supported: {words}")


def _check_values(body: Mapping[str, Any]) -> None:
    if "duration" in body and body["duration"] < 1:
        raise invalid("duration: must be at least 1")
    if "resolution" in body and body["resolution"] not in RESOLUTIONS:
        raise invalid(f"resolution: must be one of {', '.join(RESOLUTIONS)}")
    if "aspect_ratio" in body and body["aspect_ratio"] not in ASPECT_RATIOS:
        raise invalid(f"aspect_ratio: must be one of {', '.join(ASPECT_RATIOS)}")
    if "size" in body and not _SIZE.fullmatch(body["size"]):
        raise invalid("size: must be WIDTHxHEIGHT in pixels")
    if "size" in body and ("resolution" in body or "aspect_ratio" in body):
        raise invalid("size: cannot be combined with resolution or aspect_ratio")
    if "upscale_factor" in body and body["upscale_factor"] <= 0:
        raise invalid("upscale_factor: must be above 0")
    if "callback_url" in body and not body["callback_url"].startswith("https://"):
        raise invalid("callback_url: must be an https URL")
    if len(body.get("session_id", "")) > MAX_SESSION_ID:
        raise invalid(f"session_id: at most {MAX_SESSION_ID} characters")
    _check_options(body.get("provider", {}))
    _check_frames(body.get("frame_images", []))
    for item in body.get("input_references", []):
        check_item("input_references", item, REFERENCE_TYPES)
    if not body.get("prompt") and not body.get("frame_images") and not body.get("input_references"):
        raise invalid("prompt: required", "invalid_prompt")


def _check_options(provider: Mapping[str, Any]) -> None:
    options = provider.get("options", {})
    if not isinstance(options, dict) or not all(isinstance(block, dict) for block in options.values()):
        raise invalid("provider.options: must map provider slugs to objects")


def _check_frames(frames: list[Any]) -> None:
    for item in frames:
        check_item("frame_images", item, ("image_url",))
        if item.get("frame_type") not in FRAME_TYPES:
            raise invalid(f"frame_images: frame_type must be one of {', '.join(FRAME_TYPES)}")
    types = [item["frame_type"] for item in frames]
    if len(set(types)) != len(types):
        raise invalid("frame_images: at most one frame of each frame_type")


def check_item(name: str, item: object, types: tuple[str, ...]) -> None:
    kind = item.get("type") if isinstance(item, dict) else None
    if not isinstance(item, dict) or kind not in types:
        raise invalid(f"{name}: every item needs a type: {', '.join(types)}")
    holder = item.get(kind)
    url = holder.get("url") if isinstance(holder, dict) else None
    if not isinstance(url, str) or not url:
        raise invalid(f"{name}: {kind}.url is required")
    if url.startswith("https://"):
        return
    if kind != "image_url" or not url.startswith("data:"):
        allowed = "an https URL or a base64 data URL" if kind == "image_url" else "an https URL"
        raise invalid(f"{name}: {kind}.url must be {allowed}", "invalid_image" if kind == "image_url" else None)
    _check_image_data(name, url)


def _check_image_data(name: str, url: str) -> None:
    match = _IMAGE_DATA.fullmatch(url)
    if match is None:
        raise invalid(f"{name}: the data URL must be a base64 PNG, JPEG, WebP or GIF", "unsupported_image_format")
    try:
        # The first bytes tell the format; the alphabet and padding of the rest are checked on the way.
        content = base64.b64decode(match[2], validate=True)
    except (binascii.Error, ValueError) as exc:
        raise invalid(f"{name}: the data URL is not valid base64", "invalid_image") from exc
    if not content.startswith(_IMAGE_BEGINNINGS[match[1]]):
        raise invalid(f"{name}: the data URL does not contain the {match[1]} it announces", "invalid_image")


def invalid(message: str, error_type: str | None = None) -> RefusedError:
    return RefusedError(400, message, error_type or "invalid_request")
