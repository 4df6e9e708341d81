"""POST /images and its catalog: which requests are refused, which endpoint takes the others, and what they cost.

Written from the API's description and the endpoints' records only, not with ``check_image`` or
``orbatch_provider.pricing``, so that a mistake in one cannot hide in the other.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache, partial
from typing import Any

from aiohttp import web

from orbatch_provider.catalog import Capability, Catalog, ImageEndpoint, ImageModel, image_snapshot, output_tokens
from orbatch_simulator.clips import Still, paint
from orbatch_simulator.faults import Fault
from orbatch_simulator.middleware import (
    MEGAPIXEL,
    SIZE,
    UNKNOWN_PRICE_USD,
    Accept,
    Answer,
    api_call,
    check_fields,
    check_input,
    count_tokens,
    display_name,
    invalid,
    paid_call,
    respond,
    whole_nano,
)
from orbatch_simulator.state import RefusedError, State

RESOLUTIONS = ("512", "768", "1K", "1.5K", "2K", "4K")
ASPECT_RATIOS = (
    "1:1", "1:2", "1:4", "1:8", "2:1", "2:3", "2.35:1", "3:2", "3:4", "4:1", "4:3", "4:5", "5:2", "5:4", "5:7", "7:5",
    "8:1", "9:16", "16:9", "9:19.5", "19.5:9", "9:20", "20:9", "9:21", "21:9", "auto",
)  # fmt: skip
_ENUMS: Mapping[str, tuple[str, ...]] = {
    "resolution": RESOLUTIONS,
    "aspect_ratio": ASPECT_RATIOS,
    "quality": ("auto", "low", "medium", "high", "xhigh", "max"),
    "output_format": ("png", "jpeg", "webp", "svg"),
    "background": ("auto", "transparent", "opaque"),
}
_RANGES: Mapping[str, tuple[int, int]] = {"n": (1, 10), "output_compression": (0, 100)}
_TYPES: Mapping[str, str] = {
    **dict.fromkeys(("model", "prompt", "size", "user", "session_id", *_ENUMS), "a string"),
    **dict.fromkeys(("seed", *_RANGES), "an integer"),
    **dict.fromkeys(("provider", "trace"), "an object"),
    "stream": "a boolean",
    "input_references": "an array",
}

_SIDES = {"512": 512, "768": 768, "1k": 1024, "1.5k": 1536, "2k": 2048, "4k": 4096}  # of the square of each tier
_UNLISTED_TEXT_USD = Decimal("0.00000025")  # per prompt token if no line names it: the only rate ever seen on a bill
_REFERENCE_TOKENS = 258  # of one reference image
_UNDOCUMENTED_TOKENS = 1024  # of one output image of a model whose vendor documents nothing


# -- catalog


@cache
def image_examples() -> Catalog[ImageModel]:
    """The packaged image models with the fields that were not captured: an endpoint named after the model's author,
    and what the model accepts as the union over its endpoints."""
    packaged = image_snapshot()
    created = int(packaged.captured_at.timestamp())
    data = [_record(record, created) for record in packaged.records]
    return Catalog.from_json(ImageModel, {"data": data}, captured_at=packaged.captured_at, source=packaged.source)


def _record(record: Mapping[str, Any], created: int) -> dict[str, Any]:
    author, _, _ = record["id"].partition("/")
    usual = {"supports_streaming": False, "supported_parameters": {}}
    names = {"provider_name": display_name(author), "provider_slug": author, "provider_tag": author}
    endpoint = usual | names | {"allowed_passthrough_parameters": [], "pricing": []}
    return {
        "name": display_name(record["id"]),
        "description": "",
        "created": created,
        "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["image"]},
        **usual,
        **record,  # captured fields win over these
        "endpoints": [endpoint | dict(each) for each in record["endpoints"]],
    }


# -- rules


def check_form(body: object) -> Mapping[str, Any]:
    """The body, if its form is valid. Raises RefusedError 400. What a model supports is another question."""
    fields = check_fields(body, _TYPES, _ENUMS, _RANGES)
    if not fields.get("prompt"):
        raise invalid("prompt: required", "invalid_prompt")
    size = fields.get("size")
    if size is not None and not SIZE.fullmatch(size) and size not in RESOLUTIONS:
        raise invalid("size: must be a tier or WIDTHxHEIGHT in pixels")
    if size is not None and ("resolution" in fields or "aspect_ratio" in fields):
        raise invalid("size: conflicts with resolution or aspect_ratio")
    # JPEG has no alpha channel; of SVG the API says nothing.
    if fields.get("background") == "transparent" and fields.get("output_format", "png") not in ("png", "webp"):
        raise invalid("background: transparent needs output_format png or webp")
    if fields.get("stream"):
        raise invalid("stream: this endpoint does not support streaming")
    for item in fields.get("input_references", []):
        check_input("input_references", item, ("image_url",))
    for name in ("only", "order", "ignore"):
        slugs = fields.get("provider", {}).get(name)
        if slugs is not None and not (isinstance(slugs, list) and all(isinstance(slug, str) for slug in slugs)):
            raise invalid(f"provider.{name}: expected an array of strings")
    return fields


def choose_endpoint(body: Mapping[str, Any], model: ImageModel) -> ImageEndpoint:
    """The first endpoint that the preferences allow and that supports the request. Raises RefusedError: 404 if the
    preferences allow none, 400 with the first thing that the first allowed one does not support."""
    allowed = [endpoint for endpoint in model.endpoints if _is_allowed(endpoint, body.get("provider", {}))]
    if not allowed:
        raise RefusedError(404, f"No endpoints found for {model.id} that match the provider preferences")
    problems = [_first_problem(body, endpoint) for endpoint in allowed]
    for endpoint, problem in zip(allowed, problems, strict=True):
        if problem is None:
            return endpoint
    raise invalid(f"{problems[0]} (model {model.id})")


def _is_allowed(endpoint: ImageEndpoint, provider: Mapping[str, Any]) -> bool:
    def is_in(names: object) -> bool:
        # "google-vertex" also names "google-vertex/global".
        return isinstance(names, list) and any(
            endpoint.provider_slug == name or endpoint.provider_slug.startswith(f"{name}/") for name in names
        )

    if provider.get("only") and not is_in(provider["only"]):
        return False
    # `order` alone is a preference; the others remain as fallbacks.
    if provider.get("order") and provider.get("allow_fallbacks") is False and not is_in(provider["order"]):
        return False
    return not is_in(provider.get("ignore"))


def _first_problem(body: Mapping[str, Any], endpoint: ImageEndpoint) -> str | None:
    """None also for an endpoint of which nothing is known."""
    offered = endpoint.capabilities
    if offered is None:
        return None
    values: dict[str, Any] = {name: body[name] for name in (*_ENUMS, *_RANGES, "seed") if name in body}
    if values.get("n") == 1:  # what every endpoint does, even one without this field
        del values["n"]
    if body.get("input_references"):
        values["input_references"] = len(body["input_references"])
    if body.get("size") in RESOLUTIONS:
        values["resolution"] = body["size"]
    unsupported = (name for name, value in values.items() if not _fits(value, offered.get(name)))
    return next((f"{name}: does not support {values[name]!r}" for name in unsupported), None)


def _fits(value: Any, capability: Capability | None) -> bool:
    if capability is None:
        return False
    if capability.kind == "enum":
        return value in capability.values
    if capability.kind == "range":
        is_above = capability.low is None or value >= capability.low
        return is_above and (capability.high is None or value <= capability.high)
    return True


# -- charges


@dataclass(frozen=True, slots=True)
class ImageCharge:
    """What an accepted request means and costs at an endpoint.

    The service documents no defaults. The simulator's own: the 1K tier (else the lowest), a square (else the first
    ratio), medium quality.
    """

    body: Mapping[str, Any]
    endpoint: ImageEndpoint
    count: int
    width: int
    height: int
    tier: str
    quality: str
    prompt_tokens: int

    @classmethod
    def from_body(cls, body: Mapping[str, Any], endpoint: ImageEndpoint) -> ImageCharge:
        """From a request body that passed the rules."""
        width, height, tier = _shape(body, endpoint)
        quality = _chosen(body.get("quality")) or "medium"
        return cls(body, endpoint, body.get("n", 1), width, height, tier, quality, count_tokens(body["prompt"]))

    @property
    def tokens(self) -> int:
        """Tokens of one output image: the square's, whatever the shape."""
        row = {name.lower(): count for name, count in output_tokens().get(self.body["model"], {}).items()}
        return int(row.get(self.tier) or row.get(self.quality) or row.get("any") or _UNDOCUMENTED_TOKENS)

    @property
    def price(self) -> Decimal:
        """USD for all images.

        ``orbatch_provider.pricing`` weighs every line that may apply. Here one image of a known size and quality is
        made, and the one line that fits it is the price. Where the public rules leave a band, this takes an amount
        within it: tiers without a label in the order of the tiers, megapixels of 2^20.
        """
        lines = [line for line in self.endpoint.pricing if line["billable"] == "output_image"]
        if not lines:
            return whole_nano(UNKNOWN_PRICE_USD * self.count)
        line, inputs = self._line(lines), [line for line in self.endpoint.pricing if line not in lines]
        amount = _usd(line) * self._output_quantity(str(line["unit"]))
        amount += sum(_usd(other) * self._input_quantity(other) for other in inputs)
        if line["unit"] == "token" and not any(other["billable"] == "input_text" for other in inputs):
            amount += self.prompt_tokens * _UNLISTED_TEXT_USD
        return whole_nano(amount)

    def _line(self, lines: list[Mapping[str, Any]]) -> Mapping[str, Any]:
        labelled = {str(line["variant"]).lower(): line for line in lines if line.get("variant") is not None}
        for label in (f"{self.quality}_{self.tier}", self.tier, self.quality):
            if label in labelled:
                return labelled[label]
        plain = [line for line in lines if line.get("variant") is None]
        tiers = _tiers(self.endpoint)
        place = tiers.index(self.tier) if self.tier in tiers else 0
        return plain[min(place, len(plain) - 1)] if plain else lines[0]

    def _output_quantity(self, unit: str) -> Decimal:
        if unit == "request":
            return Decimal(1)
        each = {"image": Decimal(1), "megapixel": self.width * self.height / MEGAPIXEL}
        return each.get(unit, Decimal(self.tokens)) * self.count

    def _input_quantity(self, line: Mapping[str, Any]) -> Decimal:
        if line["billable"] == "input_text":
            return Decimal(self.prompt_tokens if line["unit"] == "token" else 1)
        if line["billable"] not in ("input_image", "input_reference"):
            return Decimal(0)  # an output line, already counted
        references = len(self.body.get("input_references") or ())
        if line["unit"] == "request":
            return Decimal(bool(references))
        return Decimal(references * (_REFERENCE_TOKENS if line["unit"] == "token" else 1))


def _shape(body: Mapping[str, Any], endpoint: ImageEndpoint) -> tuple[int, int, str]:
    """Width and height in pixels, and the tier."""
    size = str(body.get("size") or "").lower()
    if "x" in size:
        width, _, height = size.partition("x")
        pixels = int(width) * int(height)
        return int(width), int(height), min(_SIDES, key=lambda tier: abs(math.log(pixels / _SIDES[tier] ** 2)))
    tiers = _tiers(endpoint) or ["1k"]
    tier = size or str(body.get("resolution") or "").lower() or ("1k" if "1k" in tiers else tiers[0])
    ratio = _chosen(body.get("aspect_ratio"))
    if ratio is None:
        offered = [name for name in _values(endpoint, "aspect_ratio") if name != "auto"]
        ratio = offered[0] if offered and "1:1" not in offered else "1:1"
    wide, _, high = ratio.partition(":")
    stretch = math.sqrt(float(wide) / float(high))  # a tier fixes the area, not a side
    return round(_SIDES[tier] * stretch), round(_SIDES[tier] / stretch), tier


def _tiers(endpoint: ImageEndpoint) -> list[str]:
    return sorted((name.lower() for name in _values(endpoint, "resolution")), key=lambda name: _SIDES.get(name, 0))


def _values(endpoint: ImageEndpoint, name: str) -> tuple[str, ...]:
    capability = (endpoint.capabilities or {}).get(name)
    return capability.values if capability is not None else ()


def _chosen(value: object) -> str | None:
    return str(value).lower() if value not in (None, "", "auto") else None  # "auto" decides nothing


def _usd(line: Mapping[str, Any]) -> Decimal:
    return Decimal(str(line["cost_usd"]))  # by its text: a float would bring its error


# -- routes


def _check(state: State, owner: str, raw: object) -> tuple[Decimal, Accept]:
    body = check_form(raw)
    model = state.image_catalog.models.get(body["model"])
    if model is None:
        raise RefusedError(404, f"{body['model']} is not a valid image model ID")
    endpoint = choose_endpoint(body, model)
    return ImageCharge.from_body(body, endpoint).price, partial(_accept, state, owner, body, endpoint)


async def _accept(
    state: State, owner: str, body: Mapping[str, Any], endpoint: ImageEndpoint, answer_fault: Fault | None
) -> Answer:
    charge = ImageCharge.from_body(body, endpoint)
    if answer_fault is not None and answer_fault.action == "fewer":
        charge = replace(charge, count=charge.count - 1)
    job = state.accept(owner, body, charge.price, answer_fault, kind="image", prompt=body["prompt"])
    name = body.get("output_format", "png")
    mime_type = "image/svg+xml" if name == "svg" else f"image/{name}"
    transparent = body.get("background") == "transparent"
    still = Still(job.model, job.prompt, charge.width, charge.height, mime_type, transparent)
    images = [await asyncio.to_thread(paint, still, f"{job.id}/{index}") for index in range(charge.count)]
    # The answer is the download; what is withheld was never downloaded.
    for index, image in enumerate(images if not job.withheld else ()):
        state.journal.serve(job.id, index, hashlib.sha256(image).hexdigest(), len(image))
    read, written = charge.prompt_tokens, charge.tokens * charge.count
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written} | job.usage
    data = [{"b64_json": base64.b64encode(each).decode(), "media_type": mime_type} for each in images]
    return Answer(200, {"created": int(job.accepted_at), "data": data, "usage": usage})


@api_call("models", needs_key=False)
async def models(request: web.Request, state: State, _: str) -> web.StreamResponse:
    """GET /images/models: the records, each with the path of its endpoints instead of the endpoints."""
    data = [
        {**record, "endpoints": f"/api/v1/images/models/{record['id']}/endpoints"}
        for record in state.image_catalog.records
    ]
    return await respond(request, state, "models", lambda: Answer(200, {"data": data}))


@api_call("models", needs_key=False)
async def endpoints(request: web.Request, state: State, _: str) -> web.StreamResponse:
    """GET /images/models/{author}/{slug}/endpoints."""
    model = f"{request.match_info['author']}/{request.match_info['slug']}"
    found = {record["id"]: record["endpoints"] for record in state.image_catalog.records}
    if model not in found:
        raise RefusedError(404, f"{model} is not a valid image model ID")
    return await respond(request, state, "models", lambda: Answer(200, {"id": model, "endpoints": found[model]}))


ROUTES = [
    web.post("/api/v1/images", paid_call("images", _check)),
    web.get("/api/v1/images/models", models),
    web.get("/api/v1/images/models/{author}/{slug}/endpoints", endpoints),
]
