"""What the API offers: its catalogs, read now. They need no key, and none is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from orbatch_provider.answers import read_json
from orbatch_provider.catalog import Catalog, ImageCatalog, TextCatalog
from orbatch_provider.errors import InvalidResponseError, NotFoundError
from orbatch_provider.requests import strip_prefix
from orbatch_provider.transport import Transport

ENDPOINTS_AT_ONCE = 8  # reads of endpoint records at a time


async def read_videos(transport: Transport) -> Catalog:
    """``GET /videos/models``."""
    body = await _models(transport, "/videos/models")
    try:
        return Catalog.from_json(body, captured_at=datetime.now(UTC), source=transport.base_url)
    except (TypeError, ValueError) as exc:
        raise _unreadable(exc) from None


async def read_images(transport: Transport, only: Collection[str] | None) -> ImageCatalog:
    """``GET /images/models``, and for each model, or each of ``only``, the records of its endpoints."""
    body = await _models(transport, "/images/models")
    wanted = None if only is None else {strip_prefix(model) for model in only}
    slots = asyncio.Semaphore(ENDPOINTS_AT_ONCE)

    async def joined(item: Mapping[str, Any]) -> Mapping[str, Any]:
        model = str(item["id"])
        async with slots:
            is_wanted = wanted is None or model in wanted
            return {**item, "endpoints": await _endpoints(transport, model) if is_wanted else []}

    named = (item for item in body["data"] if isinstance(item, Mapping) and item.get("id"))
    data = await asyncio.gather(*map(joined, named))
    try:
        return ImageCatalog.from_json({"data": data}, captured_at=datetime.now(UTC), source=transport.base_url)
    except (TypeError, ValueError) as exc:
        raise _unreadable(exc) from None


async def read_texts(transport: Transport) -> TextCatalog:
    """``GET /models``, which lists the models that write text, all at once where no page is asked for."""
    body = await _models(transport, "/models")
    try:
        return TextCatalog.from_json(body, captured_at=datetime.now(UTC), source=transport.base_url)
    except (TypeError, ValueError) as exc:
        raise _unreadable(exc) from None


async def _models(transport: Transport, path: str) -> Mapping[str, Any]:
    body = read_json(await transport.read(path, keyed=False))
    if not isinstance(body, Mapping) or not isinstance(body.get("data"), list):
        raise InvalidResponseError("The catalog has no list of models", detail=repr(body))
    return body


async def _endpoints(transport: Transport, model: str) -> list[Any]:
    """The records of a model's endpoints; none for a model that has just gone."""
    try:
        body = read_json(await transport.read(f"/images/models/{quote(model)}/endpoints", keyed=False))
    except NotFoundError:
        return []
    endpoints = body.get("endpoints") if isinstance(body, Mapping) else None
    if not isinstance(endpoints, list):
        raise InvalidResponseError(f"The endpoints of {model} are no list", detail=repr(body))
    return endpoints


def _unreadable(exc: Exception) -> InvalidResponseError:
    return InvalidResponseError(f"The catalog cannot be read ({exc})")
