"""POST /images and its catalog: real images, strict refusals, charges, and faults before and after the payment."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from orbatch_provider.catalog import ImageModel, check_image
from orbatch_provider.client import OpenRouterProvider
from orbatch_provider.pricing import estimate_image
from orbatch_provider.requests import ImageRequest
from orbatch_simulator import Fault, SimulatorSettings
from orbatch_simulator.images import ImageCharge, choose_endpoint, image_examples
from tests.simulator.conftest import HOUR, KEY, Caller, Open, Reply

REQUEST = {"model": "bytedance-seed/seedream-4.5", "prompt": "A cat playing with yarn"}  # 0.04 USD each
RIVERFLOW, FLUX = "sourceful/riverflow-v2.5-pro", "black-forest-labs/flux.2-pro"
GEMINI = "google/gemini-3.1-flash-image"
REFERENCE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


async def generate(caller: Caller, **changes: Any) -> Reply:
    return await caller.post("/images", REQUEST, changes)


def images(reply: Reply) -> list[bytes]:
    return [base64.b64decode(item["b64_json"]) for item in reply.json["data"]]


@pytest.mark.parametrize(
    ("model", "fields", "kind", "size"),
    [
        pytest.param(RIVERFLOW, {}, "PNG", (1024, 1024), id="png"),
        pytest.param(RIVERFLOW, {"output_format": "webp"}, "WEBP", (1024, 1024), id="webp"),
        pytest.param(FLUX, {"output_format": "jpeg"}, "JPEG", (1024, 1024), id="jpeg"),
        pytest.param(FLUX, {"size": "640x360"}, "PNG", (640, 360), id="pixels"),
        pytest.param("bytedance-seed/seedream-4.5", {"size": "2K"}, "PNG", (2048, 2048), id="tier"),
        pytest.param(GEMINI, {"resolution": "512", "aspect_ratio": "16:9"}, "PNG", (683, 384), id="ratio"),
    ],
)
async def test_an_image_is_real_and_of_the_requested_format_and_size(
    caller: Caller, model: str, fields: Mapping[str, Any], kind: str, size: tuple[int, int]
) -> None:
    reply = await generate(caller, model=model, **fields)
    assert reply.status == 200, reply.body
    with Image.open(io.BytesIO(images(reply)[0])) as image:
        image.load()
        assert (image.format, image.size) == (kind, size)
        assert len(image.convert("RGB").getcolors(1 << 24) or ()) > 10  # words are drawn on it
    assert reply.json["data"][0]["media_type"] == f"image/{kind.lower()}"


async def test_an_svg_holds_the_prompt_and_the_model_as_text(caller: Caller) -> None:
    reply = await generate(caller, model="meta/muse-image", output_format="svg", prompt="<cat> & \x07 dog")
    text = images(reply)[0].decode()
    assert "&lt;cat&gt; &amp;   dog" in text
    assert "meta/muse-image" in text


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp", "svg"])
async def test_no_two_images_are_alike(caller: Caller, output_format: str) -> None:
    request = {"model": "black-forest-labs/flux.2-klein-4b", "size": "64x64", "output_format": output_format, "n": 2}
    seen = images(await generate(caller, **request)) + images(await generate(caller, **request))
    assert len(set(seen)) == 4


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        pytest.param({"prompt": None}, 400, "prompt: required", id="no prompt"),
        pytest.param({"model": None}, 400, "model: required", id="no model"),
        pytest.param({"model": "nobody/nothing"}, 404, "not a valid image model", id="unknown model"),
        pytest.param({"model": "google/veo-3.1"}, 404, "not a valid image model", id="a video model"),
        pytest.param({"n": 11}, 400, "n: must be from 1 to 10", id="too many"),
        pytest.param({"n": "2"}, 400, "n: expected an integer", id="no number"),
        pytest.param({"resolution": "3K"}, 400, "resolution: must be one of", id="no tier"),
        pytest.param({"resolution": "768"}, 400, "resolution: does not support '768'", id="a tier of others"),
        pytest.param({"size": "768"}, 400, "resolution: does not support '768'", id="a tier of others as size"),
        pytest.param({"size": "huge"}, 400, "size: must be a tier", id="no size"),
        pytest.param({"size": "2K", "resolution": "4K"}, 400, "size: conflicts", id="size and resolution"),
        pytest.param({"quality": "high"}, 400, "quality: does not support 'high'", id="an absent parameter"),
        pytest.param({"background": "transparent", "output_format": "jpeg"}, 400, "needs output_format", id="jpeg"),
        pytest.param({"stream": True}, 400, "does not support streaming", id="stream"),
        pytest.param({"input_references": [REFERENCE] * 15}, 400, "input_references: does not", id="references"),
        pytest.param({"input_references": [{"type": "video_url"}]}, 400, "needs a type: image_url", id="a video"),
        pytest.param({"provider": {"only": ["elsewhere"]}}, 404, "No endpoints found", id="nobody left"),
        pytest.param({"provider": {"only": "openai"}}, 400, "expected an array of strings", id="no list"),
    ],
)
async def test_what_is_not_supported_is_refused_and_not_charged(
    caller: Caller, fields: Mapping[str, Any], status: int, words: str
) -> None:
    reply = await generate(caller, **fields)
    assert reply.status == status
    assert words in reply.json["error"]["message"]
    assert caller.simulator.journal.accepted == 0
    assert caller.simulator.journal.refused[status] == 1


@pytest.mark.parametrize(
    ("model", "fields", "usd"),
    [
        pytest.param("bytedance-seed/seedream-4.5", {"n": 4}, "0.16", id="per image"),
        pytest.param("qwen/qwen-image-3-pro", {"resolution": "2K"}, "0.075", id="by label"),
        pytest.param(RIVERFLOW, {"resolution": "4K"}, "0.17", id="by place where labels are missing"),
        pytest.param("x-ai/grok-imagine-image-quality", {"input_references": [REFERENCE]}, "0.06", id="a reference"),
        pytest.param(FLUX, {"size": "2048x1024"}, "0.06", id="per megapixel"),
        pytest.param("google/gemini-3-pro-image", {"resolution": "2K"}, "0.1344015", id="per token"),
        pytest.param("openai/gpt-image-2", {"quality": "high"}, "0.21075", id="tokens by quality"),
        pytest.param("krea/krea-2-large", {}, "0.1", id="no price: never free"),
    ],
)
async def test_the_charge_follows_the_price_lines(
    caller: Caller, model: str, fields: Mapping[str, Any], usd: str
) -> None:
    reply = await generate(caller, model=model, **fields)
    assert caller.simulator.journal.charged == Decimal(usd)
    assert Decimal(str(reply.json["usage"]["cost"])) == Decimal(usd)


CHOICES: Mapping[str, tuple[Any, ...]] = {
    "n": (None, 3),
    "resolution": (None, "1K", "4K"),
    "quality": (None, "low"),
    "size": (None, "1600x900"),
    "input_references": (None, [REFERENCE, REFERENCE]),
    "prompt": ("A cat", "Ü" * 300),
}


@pytest.mark.parametrize("model", image_examples().models.values(), ids=lambda model: model.id)
def test_the_check_lets_pass_what_the_rules_do_and_the_estimate_bounds_the_charge(model: ImageModel) -> None:
    for values in product(*CHOICES.values()):
        body = {name: value for name, value in zip(CHOICES, values, strict=True) if value is not None}
        if "size" in body and "resolution" in body:
            continue
        body = {"model": model.id, **body}
        request = ImageRequest.from_body(body)
        if check_image(request, model):
            with pytest.raises(Exception, match="does not support"):
                choose_endpoint(body, model)
            continue
        endpoint = choose_endpoint(body, model)
        charged = ImageCharge.from_body(body, endpoint).price
        estimate, tolerance = estimate_image(request, model), Decimal("1e-9")
        assert estimate.low is None or estimate.low - tolerance <= charged, (body, estimate)
        assert estimate.high is None or charged <= estimate.high + tolerance, (body, estimate)


async def test_the_catalog_names_every_model_and_its_endpoints(caller: Caller) -> None:
    listed = (await caller.get("/images/models", key=None))["data"]
    assert len(listed) == 20
    path = next(item["endpoints"] for item in listed if item["id"] == "google/gemini-3-pro-image")
    found = await caller.get(path.removeprefix("/api/v1"), key=None)
    assert found["id"] == "google/gemini-3-pro-image"
    assert [each["provider_slug"] for each in found["endpoints"]] == ["google-vertex/global", "google-ai-studio"]
    assert (await caller.call("GET", "/images/models/no/body/endpoints", key=None)).status == 404


async def test_limits_hold_for_images_as_for_videos(open_simulator: Open) -> None:
    caller = await open_simulator(SimulatorSettings(credit_usd=Decimal("0.07"), submits_per_minute=2))
    assert [(await generate(caller)).status for _ in range(3)] == [200, 402, 429]
    assert caller.simulator.journal.accepted == 1


async def test_one_image_fewer_is_charged_accordingly(caller: Caller) -> None:
    caller.simulator.set_faults(Fault("images", "fewer", times=2))
    reply = await generate(caller, n=3)
    assert (len(reply.json["data"]), reply.json["usage"]["cost"]) == (2, 0.08)
    reply = await generate(caller)
    assert (reply.json["data"], reply.json["usage"]["cost"]) == ([], 0)


async def test_an_image_is_no_video_job(caller: Caller) -> None:
    await generate(caller)
    for path in ("", "/content"):
        assert (await caller.call("GET", f"/videos/{caller.only_job().id}{path}")).status == 404


async def test_the_provider_gets_its_images_and_pays_what_the_journal_says(caller: Caller, tmp_path: Path) -> None:
    async with OpenRouterProvider(KEY, base_url=caller.simulator.base_url) as provider:
        result = await provider.generate_image("A cat", REQUEST["model"], n=2, directory=tmp_path)
        assert (await provider.image_catalog()).models == image_examples().models
    journal = await caller.journal()
    (job,) = journal["jobs"]
    assert (job["kind"], job["status"], job["cost_usd"]) == ("image", "completed", "0.08")
    assert result.usage is not None
    assert result.usage.cost == Decimal(journal["charged"]) == Decimal("0.08")
    digests = [hashlib.sha256(file.get_bytes()).hexdigest() for file in result.images]
    assert [each["sha256"] for each in job["outputs"]] == digests
    caller.clock.advance(HOUR)
    found = (await caller.get(f"/generation?id={job['generation_id']}"))["data"]
    assert (found["api_type"], found["total_cost"], found["num_media_completion"]) == ("image", 0.08, 1)
