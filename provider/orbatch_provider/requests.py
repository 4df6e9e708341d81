"""Request bodies. The ``openrouter/`` prefix of a model is stripped here and nowhere else."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self, TypedDict, cast

from orbatch_provider.errors import ConfigurationError

MODEL_PREFIX = "openrouter/"

Mode = Literal["text", "image", "reference"]


def strip_prefix(model: str) -> str:
    """``openrouter/alibaba/wan-2.6`` is the model ``alibaba/wan-2.6``; ``openrouter/auto`` keeps its name."""
    rest = model.removeprefix(MODEL_PREFIX)  # LiteLLM and others put it before every model
    return rest if "/" in rest else model


class Request:
    """What the request bodies have in common. None means "not sent"; ``extra`` holds fields the class does not name."""

    __slots__ = ()
    model: str
    extra: Mapping[str, Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", strip_prefix(self.model))  # frozen, so in the way of dataclasses

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """The request with this JSON body; ``request.body()`` returns the same body."""
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

    @classmethod
    def from_keywords(cls, prompt: str | None, model: str, keywords: CallOptions, known: Collection[str]) -> Self:
        """The request of a call's keyword arguments. Raises TypeError for one that is not ``known``, with the nearest:
        a typo in a paid request must not be sent."""
        for keyword in keywords:
            if keyword not in known:
                close = difflib.get_close_matches(keyword, known, n=1)
                hint = f", did you mean {close[0]!r}?" if close else "."
                raise TypeError(f"Unknown argument {keyword!r}{hint} Pass other fields of the API in extra={{...}}.")
        named = {name: value for name, value in keywords.items() if name in named_fields(cls)}
        # Later keys win: what is named in the call cannot be overwritten by ``extra``.
        return cls.of({**(keywords.get("extra") or {}), **named, "prompt": prompt, "model": model})

    def to_json(self) -> bytes:
        """The body as it is sent. Raises ConfigurationError for values that JSON does not have."""
        try:
            return json.dumps(self.body(), allow_nan=False).encode()  # NaN is Python's, not JSON
        except (TypeError, ValueError, RecursionError) as exc:
            raise ConfigurationError(f"The request cannot be written as JSON ({exc}). Nothing was sent.") from None

    def body(self) -> dict[str, Any]:
        """The JSON body: every field that was given, in the order of the class, then the extra ones."""
        body = {name: getattr(self, name) for name in named_fields(type(self))} | dict(self.extra)
        return {name: value for name, value in body.items() if value is not None}


def named_fields(kind: type[Request]) -> tuple[str, ...]:
    """The fields that a class of requests names, in the order of its body."""
    return tuple(kind.__slots__[:-1])  # a slotted dataclass lists its fields there, and ``extra`` is the last one


class CallOptions(TypedDict, total=False):
    """Keyword arguments of every ``generate_*``. ``extra``: body fields that the request does not name."""

    extra: Mapping[str, Any] | None


class VideoOptions(CallOptions, total=False):
    """Keyword arguments of ``generate_video``: the fields of VideoRequest, and what happens after the submit."""

    directory: str | Path | None
    poll_interval: float
    timeout: float
    on_poll: Callable[[Any], None] | None
    duration: int | None
    resolution: str | None
    aspect_ratio: str | None
    size: str | None
    frame_images: Sequence[Mapping[str, Any]] | None
    input_references: Sequence[Mapping[str, Any]] | None
    generate_audio: bool | None
    seed: int | None
    previous_job_id: str | None
    upscale_factor: float | int | None
    creativity: int | None
    provider: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class VideoRequest(Request):
    """The body of ``POST /videos``.

    ``duration`` in seconds; ``size`` as ``WxH`` pixels; ``frame_images`` and ``input_references`` in the API's own
    form. Whether the model supports the values is checked by ``catalog.check_video``.
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

    def with_first_frame(self, image_url: str | None) -> VideoRequest:
        """This request starting from ``image_url``. Raises ConfigurationError when it has another first frame."""
        if image_url is None:
            return self
        frames = self.frame_images or ()
        first = [frame for frame in frames if frame.get("frame_type") == "first_frame"]
        if any(frame.get("image_url") != {"url": image_url} for frame in first):
            raise ConfigurationError("image_url and frame_images set two different first frames; remove one.")
        if first:
            return self
        return replace(self, frame_images=[first_frame(image_url), *frames])

    def count_references(self, kind: Literal["image_url", "video_url", "audio_url"]) -> int:
        """How many of ``input_references`` are of this type."""
        return sum(1 for item in self.input_references or () if item.get("type") == kind)


class ImageOptions(CallOptions, total=False):
    """Keyword arguments of ``generate_image``: the fields of ImageRequest, and where the files are put."""

    directory: str | Path | None
    n: int | None
    size: str | None
    resolution: str | None
    aspect_ratio: str | None
    quality: str | None
    output_format: str | None
    output_compression: int | None
    background: str | None
    seed: int | None
    input_references: Sequence[Mapping[str, Any]] | None
    provider: Mapping[str, Any] | None
    image_urls: Sequence[str] | None
    image_config: Mapping[str, Any] | None


def image_options(options: ImageOptions) -> ImageOptions:
    """The same with the API's own fields in place of two short forms: ``image_urls`` are references, and
    ``image_config`` holds fields such as ``aspect_ratio``."""
    named: dict[str, Any] = dict(options)
    urls, config = named.pop("image_urls", None), named.pop("image_config", None)
    if urls:
        named["input_references"] = [
            *(named.get("input_references") or ()),
            *({"type": "image_url", "image_url": {"url": url}} for url in urls),
        ]
    if config:
        known = {"image_size": "resolution"}
        named = {known.get(name, name): value for name, value in config.items()} | named
    return cast(ImageOptions, named)  # unknown names are refused where a request is made


@dataclass(frozen=True, slots=True)
class ImageRequest(Request):
    """The body of ``POST /images``.

    ``n``: images requested, of which fewer may come. ``size``: a tier such as ``2K``, or ``WxH`` pixels;
    ``output_compression`` in percent; ``input_references`` in the API's own form. Whether the model supports the
    values is checked by ``catalog.check_image``.
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
    def image_count(self) -> int:
        """How many images are requested; the API's default is one."""
        return self.n if isinstance(self.n, int) and self.n > 0 else 1


class TextOptions(CallOptions, total=False):
    """Keyword arguments of ``generate_text``: the fields of TextRequest."""

    system: str | None
    messages: Sequence[Mapping[str, Any]] | None
    max_tokens: int | None
    temperature: float | None
    response_format: Mapping[str, Any] | None
    seed: int | None
    provider: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class TextRequest(Request):
    """The body of ``POST /chat/completions``: one prompt, or whole ``messages`` in the API's own form.

    ``system`` and ``prompt`` become messages around ``messages``. ``max_tokens``: of the completion, reasoning
    included; without it nothing bounds the price.
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
        """Whether the response's text was requested as JSON."""
        kind = self.response_format.get("type") if isinstance(self.response_format, Mapping) else None
        return kind in {"json_object", "json_schema"}


# The first four fields are sent in another form.
_TEXT_SHORT_FORMS = frozenset({"model", "prompt", "system", "messages"})


def first_frame(url: str) -> dict[str, Any]:
    """``image_url``, the short form for a first frame, as an item of ``frame_images``."""
    return {"type": "image_url", "image_url": {"url": url}, "frame_type": "first_frame"}
