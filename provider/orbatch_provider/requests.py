"""Request bodies. The ``openrouter/`` prefix of a model is stripped here and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

from orbatch_provider.errors import ConfigurationError

MODEL_PREFIX = "openrouter/"

Mode = Literal["text", "image", "reference"]


def strip_prefix(model: str) -> str:
    """``openrouter/alibaba/wan-2.6`` is the model ``alibaba/wan-2.6``; ``openrouter/auto`` keeps its name."""
    rest = model.removeprefix(MODEL_PREFIX)
    return rest if "/" in rest else model


class Request:
    """What the request bodies have in common. None means "not sent"; ``extra`` holds fields the class does not name."""

    __slots__ = ()
    model: str
    extra: Mapping[str, Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", strip_prefix(self.model))

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """The request with this JSON body; ``request.body()`` gives the body back."""
        names = named_fields(cls)
        make: Callable[..., Self] = cls
        named = {name: body[name] for name in names if name in body}
        return make(**named, extra={name: value for name, value in body.items() if name not in names})

    @classmethod
    def of(cls, request: Self | Mapping[str, Any]) -> Self:
        """The request itself, or the one with this JSON body. Raises ConfigurationError when it names no model."""
        if isinstance(request, cls):
            return request
        if not isinstance(request, Mapping) or not isinstance(request.get("model"), str) or not request["model"]:
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
        body = {name: getattr(self, name) for name in named_fields(type(self))}
        if self.extra:
            body |= self.extra
        return {name: value for name, value in body.items() if value is not None}


_named_fields: dict[object, tuple[str, ...]] = {}  # by class; each is asked for with every body


def named_fields(kind: Any) -> tuple[str, ...]:
    """The fields that a class of requests names, in the order of its body."""
    names = _named_fields.get(kind)
    if names is None:
        names = _named_fields[kind] = tuple(item.name for item in fields(kind) if item.name != "extra")
    return names


@dataclass(frozen=True, slots=True)
class VideoRequest(Request):
    """The body of ``POST /videos``.

    ``duration`` in seconds; ``size`` as ``WxH`` pixels; ``frame_images`` and ``input_references`` in the API's own
    form. Whether the model supports the values is a question for ``catalog.check_video``.
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

    @property
    def mode(self) -> Mode:
        """What the model starts from; frames win over references, as in the API."""
        if self.frame_images:
            return "image"
        return "reference" if self.input_references else "text"

    def count_references(self, kind: Literal["image_url", "video_url", "audio_url"]) -> int:
        return sum(1 for item in self.input_references or () if item.get("type") == kind)


# In the order of the class, which is the order of a body.
NAMED_FIELDS = named_fields(VideoRequest)


@dataclass(frozen=True, slots=True)
class ImageRequest(Request):
    """The body of ``POST /images``.

    ``n``: pictures asked for, an upper bound of those that come. ``size``: a tier such as ``2K``, or ``WxH`` pixels;
    ``output_compression`` in percent; ``input_references`` in the API's own form. Whether the model supports the
    values is a question for ``catalog.check_image``.
    """

    model: str
    prompt: str | None = None
    n: int | None = None
    size: str | None = None
    resolution: str | None = None
    aspect_ratio: str | None = None
    quality: str | None = None
    output_format: str | None = None
    output_compression: int | None = None
    background: str | None = None
    seed: int | None = None
    input_references: Sequence[Mapping[str, Any]] | None = None
    provider: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def asked(self) -> int:
        """How many pictures were asked for."""
        return self.n if isinstance(self.n, int) and self.n > 0 else 1


@dataclass(frozen=True, slots=True)
class TextRequest(Request):
    """The body of ``POST /chat/completions``: one prompt, or whole ``messages`` in the API's own form.

    ``system`` and ``prompt`` become the messages unless ``messages`` is given. ``max_tokens``: of the completion, with
    all its reasoning; without it nothing bounds the price.
    """

    model: str
    prompt: str | None = None
    system: str | None = None
    messages: Sequence[Mapping[str, Any]] | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    response_format: Mapping[str, Any] | None = None
    seed: int | None = None
    provider: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """The JSON body, in which ``system`` and ``prompt`` are messages."""
        rest = {name: getattr(self, name) for name in named_fields(TextRequest) if name not in _TEXT_SHORT_FORMS}
        body = {"model": self.model, "messages": self.all_messages()} | rest | dict(self.extra)
        return {name: value for name, value in body.items() if value is not None}

    def all_messages(self) -> list[Mapping[str, Any]]:
        """``messages``, with ``system`` before and ``prompt`` after them."""
        first = [] if self.system is None else [{"role": "system", "content": self.system}]
        last = [] if self.prompt is None else [{"role": "user", "content": self.prompt}]
        return [*first, *(self.messages or ()), *last]

    @property
    def wants_json(self) -> bool:
        """Whether the answer's text was asked to be JSON."""
        kind = self.response_format.get("type") if isinstance(self.response_format, Mapping) else None
        return kind in {"json_object", "json_schema"}


_TEXT_SHORT_FORMS = frozenset({"model", "prompt", "system", "messages"})


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
