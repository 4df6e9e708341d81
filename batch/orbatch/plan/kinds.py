"""The kinds of job in one table: everything that differs between them, so that no other module asks for a kind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from orbatch_provider import (
    AnyModel,
    Catalog,
    Estimate,
    ImageModel,
    ImageRequest,
    Problem,
    TextModel,
    TextRequest,
    UnsetField,
    VideoModel,
    VideoRequest,
    check_image,
    check_text,
    check_video,
    estimate_image,
    estimate_text,
    estimate_video,
    image_snapshot,
    named_fields,
    snapshot,
    unset_fields,
)

AnyRequest = VideoRequest | ImageRequest | TextRequest


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of job. ``check``, ``estimate`` and ``unset_fields`` take a request of the kind and a model of its
    catalog.

    ``request``, ``model``: the classes of its bodies and catalog records. ``read_catalog`` takes a provider and the
    models in question (None: all). ``snapshot``: the packaged catalog, None where none is packaged. ``price_inputs``:
    what of a prompt may change the price or the check. ``is_synchronous``: the answer to the paid request holds the
    output, so there is nothing to poll. ``needs_prompt``: an input image is not enough to start from. ``submit``: the
    paid call of a provider, with the directory and the stem of the names for files that the answer holds.
    """

    name: str
    request: type[VideoRequest] | type[ImageRequest] | type[TextRequest]
    model: type[Any]
    read_catalog: Callable[[Any, Collection[str] | None], Awaitable[Catalog[AnyModel]]]
    snapshot: Callable[[], Catalog[AnyModel]] | None
    check: Callable[[Any, Any], list[Problem]]
    estimate: Callable[[Any, Any], Estimate]
    unset_fields: Callable[[Any, Any], tuple[UnsetField, ...]]
    price_inputs: Callable[[Any], object]
    submit: Callable[[Any, Any, Path, str], Awaitable[Any]]
    is_synchronous: bool = True
    needs_prompt: bool = True

    def requests_with(self, model: str, fields: Mapping[str, Any]) -> Callable[..., AnyRequest]:
        """Makes requests with these merged request fields of a batch file, given their ``prompt`` and ``seed``."""
        names = named_fields(self.request)
        named = {name: value for name, value in fields.items() if name in names}
        extra = {name: value for name, value in fields.items() if name not in names}
        return partial(self.request, model=model, extra=extra, **named)


def _unset_length(request: TextRequest, model: Any) -> tuple[UnsetField, ...]:
    """Without ``max_tokens`` nothing bounds the answer, and so its price."""
    price = estimate_text(request, model)
    if request.max_tokens is not None or price.high is not None:
        return ()
    return (UnsetField("max_tokens", price.low, None),)


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            name="video",
            request=VideoRequest,
            model=VideoModel,
            read_catalog=lambda provider, _models: provider.catalog(),
            snapshot=snapshot,
            check=check_video,
            estimate=estimate_video,
            unset_fields=unset_fields,
            price_inputs=lambda request: bool(request.prompt),  # a text to start from is required, its length is free
            submit=lambda provider, request, _directory, _stem: provider.submit(request),
            is_synchronous=False,  # POST /videos answers with an id to poll
            needs_prompt=False,  # a first frame is enough for some models
        ),
        Kind(
            name="image",
            request=ImageRequest,
            model=ImageModel,
            read_catalog=lambda provider, models: provider.image_catalog(models),
            snapshot=image_snapshot,
            check=check_image,
            estimate=estimate_image,
            unset_fields=lambda _request, _model: (),  # an image's price range covers what is not set
            # Some models charge for prompt tokens, of which a text has at most as many as bytes.
            price_inputs=lambda request: len((request.prompt or "").encode()),
            submit=lambda provider, request, directory, stem: provider.create_images(request, directory, stem),
        ),
        Kind(
            name="text",
            request=TextRequest,
            model=TextModel,
            read_catalog=lambda provider, _models: provider.text_catalog(),
            snapshot=None,  # hundreds of models whose prices change often: an old list would mislead
            check=check_text,
            estimate=estimate_text,
            unset_fields=_unset_length,
            price_inputs=lambda request: tuple(
                len(str(each.get("content")).encode()) for each in request.all_messages()
            ),
            submit=lambda provider, request, _directory, _stem: provider.complete_text(request),
        ),
    )
}


def request_of(kind: str, body: Mapping[str, Any]) -> AnyRequest:
    """The request of this kind with this JSON body."""
    return KINDS[kind].request.from_body(body)
