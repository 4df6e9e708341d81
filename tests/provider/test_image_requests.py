"""An image request before it is sent: its body, what a model refuses, and what it will cost wherever it is routed."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from orbatch_provider.catalog import Catalog, ImageModel, check_image, image_snapshot
from orbatch_provider.pricing import Hints, estimate_image
from orbatch_provider.requests import ImageRequest
from tests.provider.conftest import Mocked

BASE = "https://openrouter.ai/api/v1"
GEMINI = "google/gemini-3-pro-image"
GPT = "openai/gpt-image-2"
REFERENCE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


def wanted(model: str, **fields: Any) -> tuple[ImageRequest, ImageModel]:
    found = image_snapshot().find(model)
    assert found is not None
    return ImageRequest.from_body({"model": model, "prompt": "a cat playing", **fields}), found


def test_a_body_comes_back_as_it_was_with_the_prefix_taken_off() -> None:
    body = {"model": "a/b", "prompt": "p", "n": 2, "background": "opaque", "steps": 30, "provider": {"only": ["x"]}}
    assert ImageRequest.from_body(body | {"model": "openrouter/a/b"}).body() == body


PROBLEMS: dict[str, Any] = {
    "no prompt": (GPT, {"prompt": ""}, "prompt: is required"),
    "n": (GPT, {"n": 11}, "n: is not a number of images; allowed: 1 to 10"),
    "n of the model": (GEMINI, {"n": 2}, "n: MODEL does not offer 2; allowed: 1 to 1; nearest: 1"),
    "resolution": (
        GEMINI,
        {"resolution": "8K"},
        "resolution: MODEL does not offer 8K; allowed: 1K, 2K, 4K; nearest: 4K",
    ),
    "tier as size": (GEMINI, {"size": "768"}, "size: MODEL does not offer 768; allowed: 1K, 2K, 4K; nearest: 1K"),
    "quality": (
        GPT,
        {"quality": "hi"},
        "quality: MODEL does not offer hi; allowed: auto, high, low, medium; nearest: high",
    ),
    "seed": (GPT, {"seed": 1}, "seed: MODEL has no such option; remove it"),
    "transparent": (
        "sourceful/riverflow-v2.5-pro",
        {"background": "transparent", "output_format": "jpeg"},
        "output_format: jpeg has no transparent background; allowed: png, webp; nearest: png",
    ),
    "size and ratio": (
        GEMINI,
        {"size": "2K", "aspect_ratio": "1:1"},
        "size: send either size, or resolution and aspect_ratio, not both",
    ),
    "references": (
        "microsoft/mai-image-2.5-pro",
        {"input_references": [REFERENCE, REFERENCE]},
        "input_references: MODEL does not offer 2; allowed: 0 to 1; nearest: 1",
    ),
    "video reference": (
        GEMINI,
        {"input_references": [{"type": "video_url"}]},
        "input_references: video_url is not an image; allowed: image_url; nearest: image_url",
    ),
    "stream": (GPT, {"stream": True}, "stream: streamed answers are not supported; remove it"),
    "compression": (GPT, {"output_compression": 101}, "output_compression: is not a percentage; allowed: 0 to 100"),
    "passthrough": (
        GPT,
        {"provider": {"options": {"openai": {"moderatio": "low"}}}},
        "provider.options.openai.moderatio: MODEL would ignore it; allowed: moderation; nearest: moderation",
    ),
    "no endpoint left": (
        GEMINI,
        {"provider": {"only": ["azure"]}},
        "provider: no endpoint of MODEL is left; allowed: google-vertex/global, google-ai-studio",
    ),
}


@pytest.mark.parametrize(("model", "fields", "problem"), PROBLEMS.values(), ids=PROBLEMS)
def test_what_a_model_does_not_support_is_a_problem(model: str, fields: Mapping[str, Any], problem: str) -> None:
    assert [str(each) for each in check_image(*wanted(model, **fields))] == [problem.replace("MODEL", model)]


SUPPORTED: dict[str, Any] = {
    "one image is what all make": ("krea/krea-2-large", {"n": 1, "seed": 7, "aspect_ratio": "4:5"}),
    "pixels": ("black-forest-labs/flux.2-pro", {"size": "1024x768"}),
    "a model of which nothing is known": ("meta/muse-image", {"resolution": "4K", "seed": 1}),
    "all regions of one": (GEMINI, {"provider": {"only": ["google-vertex"]}}),
}


@pytest.mark.parametrize(("model", "fields"), SUPPORTED.values(), ids=SUPPORTED)
def test_what_a_model_supports_is_none(model: str, fields: Mapping[str, Any]) -> None:
    assert check_image(*wanted(model, **fields)) == []


def endpoint(slug: str, usd: str, **parameters: Any) -> dict[str, Any]:
    return {
        "provider_slug": slug,
        "supported_parameters": {"n": {"type": "range", "min": 1, "max": 4}, **parameters},
        "pricing": [{"billable": "output_image", "unit": "image", "cost_usd": usd}],
    }


SEVERAL = ImageModel.from_json(
    {
        "id": "a/several",
        "supported_parameters": {"seed": {"type": "boolean"}},
        "endpoints": [
            endpoint("cheap", "0.02"),
            endpoint("dear/eu", "0.08", seed={"type": "boolean"}),
            endpoint("dear/us", "0.06", seed={"type": "boolean"}),
        ],
    }
)


ROUTINGS: dict[str, Any] = {
    "free routing": (None, "0.04", None, "0.16"),
    "pinned": ({"only": ["cheap"]}, "0.04", "0.04", "0.04"),
    "regions of one": ({"only": ["Dear"]}, "0.12", None, "0.16"),
    "ignored": ({"ignore": ["dear/eu"]}, "0.04", None, "0.12"),
    "order with fallbacks": ({"order": ["dear/us"]}, "0.04", None, "0.16"),
    "order without": ({"order": ["dear/us"], "allow_fallbacks": False}, "0.12", "0.12", "0.12"),
    "nobody left": ({"only": ["nobody"]}, None, None, None),
}


@pytest.mark.parametrize(("provider", "low", "exact", "high"), ROUTINGS.values(), ids=ROUTINGS)
def test_the_price_is_that_of_the_endpoints_that_the_routing_leaves(
    provider: Mapping[str, Any] | None, low: str | None, exact: str | None, high: str | None
) -> None:
    found = estimate_image(ImageRequest("a/several", "p", n=2, provider=provider), SEVERAL)
    assert [found.low, found.exact, found.high] == [None if x is None else Decimal(x) for x in (low, exact, high)]
    assert found.why


def test_a_request_has_to_fit_one_of_the_endpoints_it_may_go_to() -> None:
    assert check_image(ImageRequest("a/several", "p", seed=1), SEVERAL) == []
    pinned = ImageRequest("a/several", "p", seed=1, provider={"only": ["cheap"]})
    assert [each.field for each in check_image(pinned, SEVERAL)] == ["seed"]


def test_an_endpoint_without_a_name_cannot_be_ruled_out() -> None:
    found = estimate_image(*wanted("recraft/recraft-v4", provider={"only": ["somebody"]}))
    assert found.exact == Decimal("0.04")


BY_TOKEN: dict[str, Any] = {
    "by tier": ("google/gemini-3.1-flash-image", {"resolution": "4K"}, "0.1512", "0.151265"),
    "no tier: all of them": ("google/gemini-3.1-flash-image", {}, "0.04482", "0.151265"),
    "the square": ("openai/gpt-image-1", {"quality": "medium", "aspect_ratio": "1:1"}, "0.04224", "0.042305"),
    "perhaps no square": ("openai/gpt-image-1", {"quality": "medium"}, "0.02112", "0.063425"),
    "one number for all": ("microsoft/mai-image-2.5-pro", {}, "0.110592", "0.110657"),
}


@pytest.mark.parametrize(("model", "fields", "low", "high"), BY_TOKEN.values(), ids=BY_TOKEN)
def test_images_billed_by_the_token_have_the_tokens_their_vendor_documents(
    model: str, fields: Mapping[str, Any], low: str, high: str
) -> None:
    found = estimate_image(*wanted(model, **fields))
    assert (found.low, found.high) == (Decimal(low), Decimal(high))


def test_tokens_that_are_known_better_are_used_instead() -> None:
    request, model = wanted(GPT, quality="high")
    found = estimate_image(request, model, Hints(output_tokens_per_image=7024, prompt_tokens=100))
    assert found.low == found.exact == found.high == Decimal("0.21122")


@pytest.mark.parametrize("model", ["openai/gpt-image-1-mini", "krea/krea-2-large", "black-forest-labs/flux.2-max"])
def test_an_image_whose_price_is_not_known_is_unpriced_and_never_free(model: str) -> None:
    assert estimate_image(*wanted(model)).is_unpriced


async def test_the_catalog_is_read_without_a_key_and_joined_with_the_endpoints(mocked: Mocked) -> None:
    listed = {"id": "a/one", "name": "One", "endpoints": "/api/v1/images/models/a/one/endpoints"}
    mocked.router.get(f"{BASE}/images/models").respond(json={"data": [listed, {"id": "a/gone"}, {"id": "a/two"}, {}]})
    one = mocked.router.get(f"{BASE}/images/models/a/one/endpoints").respond(
        json={"id": "a/one", "endpoints": [endpoint("x", "0.03")]}
    )
    mocked.router.get(f"{BASE}/images/models/a/gone/endpoints").respond(404)

    catalog = await mocked.provider.image_catalog(only=["openrouter/a/one", "a/gone"])

    assert [(model.id, len(model.endpoints)) for model in catalog.models.values()] == [
        ("a/one", 1),
        ("a/gone", 0),
        ("a/two", 0),
    ]
    assert catalog.models["a/one"].endpoints[0].provider_slug == "x"
    assert "authorization" not in one.calls[0].request.headers
    assert catalog.nearest("a/onee") == "a/one"
    assert Catalog.from_text(ImageModel, catalog.to_json()) == catalog


async def test_the_provider_checks_an_image_request_by_the_catalog_of_images(mocked: Mocked) -> None:
    mocked.router.get(f"{BASE}/images/models").respond(json={"data": [{"id": "a/one"}]})
    mocked.router.get(f"{BASE}/images/models/a/one/endpoints").respond(json={"endpoints": [endpoint("x", "0.03")]})
    assert await mocked.provider.check(ImageRequest("a/one", "p")) == []
    assert [each.field for each in await mocked.provider.check(ImageRequest("a/one", "p", seed=1))] == ["seed"]
    assert [each.nearest for each in await mocked.provider.check(ImageRequest("a/ona", "p"))] == ["a/one"]
    assert mocked.router.calls.call_count == 2  # read once
