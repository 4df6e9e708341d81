"""The kinds of job in one table, so that nothing else asks which kind it has before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from orbatch_provider.catalog import Problem, check, check_image, check_text
from orbatch_provider.pricing import (
    Estimate,
    UnsetField,
    estimate_image,
    estimate_text,
    estimate_video,
    unset_fields,
)
from orbatch_provider.requests import ImageRequest, TextRequest, VideoRequest, named_fields

AnyRequest = VideoRequest | ImageRequest | TextRequest


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of job. ``check``, ``estimate`` and ``left_open`` take a request of the kind and a model of its catalog.

    ``request``: its body, as a value. ``weight``: what of its prompt may change the price or the check. ``at_once``:
    the paid result is in the answer to the request itself, so there is nothing to poll. ``needs_prompt``: a picture
    alone is nothing to start from.
    """

    name: str
    request: type[VideoRequest] | type[ImageRequest] | type[TextRequest]
    check: Callable[[Any, Any], list[Problem]]
    estimate: Callable[[Any, Any], Estimate]
    left_open: Callable[[Any, Any], tuple[UnsetField, ...]]
    weight: Callable[[Any], object]
    at_once: bool = True
    needs_prompt: bool = True

    def request_of(self, model: str, prompt: str | None, seed: int | None, fields: Mapping[str, Any]) -> AnyRequest:
        """The request for merged request fields of a batch file."""
        names = _NAMES[self.name]
        named = {name: value for name, value in fields.items() if name in names}
        extra = {name: value for name, value in fields.items() if name not in names}
        make: Callable[..., AnyRequest] = self.request
        return make(model=model, prompt=prompt, seed=seed, extra=extra, **named)


def _nothing_open(_request: ImageRequest, _model: object) -> tuple[UnsetField, ...]:
    # What an image request leaves out is in its price range already.
    return ()


def _open_length(request: TextRequest, model: Any) -> tuple[UnsetField, ...]:
    """Without ``max_tokens`` nothing bounds the answer, and so its price."""
    price = estimate_text(request, model)
    if request.max_tokens is not None or price.high is not None:
        return ()
    return (UnsetField("max_tokens", price.low, None),)


def _has_prompt(request: VideoRequest) -> object:
    return bool(request.prompt)


def _prompt_bytes(request: ImageRequest) -> object:
    return len((request.prompt or "").encode())


def _message_bytes(request: TextRequest) -> object:
    return tuple(len(str(message.get("content")).encode()) for message in request.all_messages())


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "video", VideoRequest, check, estimate_video, unset_fields, _has_prompt, at_once=False, needs_prompt=False
        ),
        Kind("image", ImageRequest, check_image, estimate_image, _nothing_open, _prompt_bytes),
        Kind("text", TextRequest, check_text, estimate_text, _open_length, _message_bytes),
    )
}

_NAMES = {kind.name: frozenset(named_fields(kind.request)) for kind in KINDS.values()}


def request_of(kind: str, body: Mapping[str, Any]) -> AnyRequest:
    """The request of this kind with this JSON body."""
    return KINDS[kind].request.from_body(body)
