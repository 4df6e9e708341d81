"""The image and text models that the simulator offers beside the packaged video models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

from orbatch_provider.catalog import Catalog, ImageModel, TextModel, image_snapshot


@cache
def image_examples() -> Catalog[ImageModel]:
    """The packaged image models, with the fields filled in that were not captured: an endpoint that is named for the
    model's author, and what the model takes by the union over its endpoints."""
    snapshot = image_snapshot()
    data = [_image(record) for record in snapshot.records]
    return Catalog.from_json(ImageModel, {"data": data}, captured_at=snapshot.captured_at, source=snapshot.source)


@cache
def text_examples() -> Catalog[TextModel]:
    """The simulator's own examples. Their prices are play money: a real batch is priced by the live catalog."""
    body = json.loads(files("orbatch_provider").joinpath("data/text-models.json").read_text("utf-8"))
    captured_at = datetime.fromisoformat(body["captured_at"]).astimezone(UTC)
    return Catalog.from_json(TextModel, body, captured_at=captured_at, source="simulator")


def _image(record: Mapping[str, Any]) -> dict[str, Any]:
    author, _, slug = str(record["id"]).partition("/")
    endpoint = {
        "provider_name": _title(author),
        "provider_slug": author,
        "provider_tag": author,
        "supports_streaming": False,
        "supported_parameters": {},
        "allowed_passthrough_parameters": [],
        "pricing": [],
    }
    return {
        "name": f"{_title(author)}: {_title(slug)}",
        "description": "",
        "created": int(image_snapshot().captured_at.timestamp()),
        "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["image"]},
        "supported_parameters": {},
        "supports_streaming": False,
        **record,
        "endpoints": [endpoint | dict(each) for each in record["endpoints"]],
    }


def _title(slug: str) -> str:
    return " ".join(word.capitalize() for word in slug.split("-"))
