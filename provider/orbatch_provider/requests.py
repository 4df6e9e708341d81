"""Request bodies. The ``openrouter/`` prefix of a model is stripped here and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from orbatch_provider.errors import ConfigurationError

MODEL_PREFIX = "openrouter/"

Mode = Literal["text", "image", "reference"]


def strip_prefix(model: str) -> str:
    """``openrouter/alibaba/wan-2.6`` is the model ``alibaba/wan-2.6``; ``openrouter/auto`` keeps its name."""
    rest = model.removeprefix(MODEL_PREFIX)
    return rest if "/" in rest else model


@dataclass(frozen=True, slots=True)
class VideoRequest:
    """The body of ``POST /videos``. None means "not sent"; ``extra`` holds fields this class does not name.

    ``duration`` in seconds; ``size`` as ``WxH`` pixels; ``frame_images`` and ``input_references`` in the API's own
    form. Whether the model supports the values is a question for ``catalog.check``.
    """

    model: str
    prompt: str | None = None
    duration: int | None = None
    resolution: str | None = None
    aspect_ratio: str | None = None
    size: str | None = None
    frame_images: Sequence[Mapping[str, Any]] | None = None
    input_references: Sequence[Mapping[str, Any]] | None = None
    generate_audio: bool | None = None
    seed: int | None = None
    previous_job_id: str | None = None
    upscale_factor: float | int | None = None
    creativity: int | None = None
    provider: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", strip_prefix(self.model))

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> VideoRequest:
        """The request with this JSON body; ``request.body()`` gives the body back."""
        named = {name: body[name] for name in NAMED_FIELDS if name in body}
        return cls(**named, extra={name: value for name, value in body.items() if name not in NAMED_FIELDS})

    @classmethod
    def of(cls, request: VideoRequest | Mapping[str, Any]) -> VideoRequest:
        """The request itself, or the one with this JSON body. Raises ConfigurationError when it names no model."""
        if isinstance(request, VideoRequest):
            return request
        if not isinstance(request.get("model"), str) or not request["model"]:
            raise ConfigurationError("The request names no model. Nothing was sent.")
        return cls.from_body(request)

    def to_json(self) -> bytes:
        """The body as it is sent. Raises ConfigurationError for values that JSON does not have."""
        try:
            return json.dumps(self.body(), allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as exc:
            raise ConfigurationError(f"The request cannot be written as JSON ({exc}). Nothing was sent.") from None

    def body(self) -> dict[str, Any]:
        """The JSON body: every field that was given, in the order of the class, then the extra ones."""
        body = {name: getattr(self, name) for name in NAMED_FIELDS}
        return {name: value for name, value in (body | dict(self.extra)).items() if value is not None}

    @property
    def mode(self) -> Mode:
        """What the model starts from; frames win over references, as in the API."""
        if self.frame_images:
            return "image"
        return "reference" if self.input_references else "text"

    def count_references(self, kind: Literal["image_url", "video_url", "audio_url"]) -> int:
        return sum(1 for item in self.input_references or () if item.get("type") == kind)


# In the order of the class, which is the order of a body.
NAMED_FIELDS = tuple(f.name for f in fields(VideoRequest) if f.name != "extra")


def first_frame(url: str) -> dict[str, Any]:
    """``image_url``, the short form for a first frame, as an item of ``frame_images``."""
    return {"type": "image_url", "image_url": {"url": url}, "frame_type": "first_frame"}


def with_first_frame(
    image_url: str | None, frame_images: Sequence[Mapping[str, Any]] | None
) -> Sequence[Mapping[str, Any]] | None:
    """``frame_images`` with ``image_url`` as first frame. Raises ConfigurationError when there is one already."""
    if image_url is None:
        return frame_images
    if any(frame.get("frame_type") == "first_frame" for frame in frame_images or ()):
        raise ConfigurationError("image_url and frame_images both give a first frame; leave one out.")
    return [first_frame(image_url), *(frame_images or ())]
