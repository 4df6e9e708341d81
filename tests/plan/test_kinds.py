"""Batches of images and texts, and batches that mix kinds: which settings go where, and what each kind of job costs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orbatch.batchfile.errors import ConfigError
from orbatch.batchfile.loader import load_config
from orbatch.batchfile.settings import FIELDS
from orbatch.plan.catalogs import Catalogs
from orbatch.plan.estimate import PricedJob, price_jobs
from orbatch.plan.jobs import job_key, models_by_kind
from orbatch.plan.kinds import KINDS, request_of
from orbatch_provider.catalog import Catalog, ImageModel, TextModel, snapshot
from orbatch_simulator.images import image_examples
from orbatch_simulator.text import text_examples
from tests.images import painted
from tests.plan.conftest import Jobs

OFFERS = Catalogs({"video": snapshot(), "image": image_examples(), "text": text_examples()})
MIXED = """
name: x
models:
  - google/veo-3.1-lite
  - {model: bytedance-seed/seedream-4.5, kind: image}
  - {model: openai/gpt-4o-mini, kind: text}
prompts: [a cat]
"""


def with_defaults(settings: str) -> str:
    return f"name: x\ndefaults: {{{settings}}}\nmodels: [a/b]\nprompts: [a]\n"


def problems(jobs: Jobs, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        jobs(text)
    return [f"{each.line}: {each.key}: {each.message}" for each in caught.value.problems]


def test_every_kind_has_its_fields_and_its_behaviour() -> None:
    assert FIELDS.keys() == KINDS.keys() == {"video", "image", "text"}
    assert [kind.is_synchronous for kind in KINDS.values()] == [False, True, True]


USER = {"role": "user", "content": "a"}
ALL_OF_AN_IMAGE = """n: 4, size: 2K, quality: high, output_format: webp, background: transparent, user: me, seed: 7,
    output_compression: 80, provider: {only: [openai]}, references: ['https://a.b/c.png']"""
ALL_OF_A_TEXT = """system: Be brief., max_tokens: 100, temperature: 0.5, top_p: 0.9, stop: ["\\n", END], seed: 7,
    response_format: json, provider: {order: [azure]}"""
SCHEMA = {"name": "a", "schema": {"type": "object"}}


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        pytest.param(
            f"kind: image, {ALL_OF_AN_IMAGE}",
            {
                "n": 4,
                "size": "2K",
                "quality": "high",
                "output_format": "webp",
                "background": "transparent",
                "user": "me",
                "seed": 7,
                "output_compression": 80,
                "provider": {"only": ["openai"]},
                "input_references": [{"type": "image_url", "image_url": {"url": "https://a.b/c.png"}}],
            },
            id="every field of an image",
        ),
        pytest.param(
            f"kind: text, {ALL_OF_A_TEXT}",
            {
                "messages": [{"role": "system", "content": "Be brief."}, USER],
                "max_tokens": 100,
                "temperature": 0.5,
                "top_p": 0.9,
                "stop": ["\n", "END"],
                "seed": 7,
                "response_format": {"type": "json_object"},
                "provider": {"order": ["azure"]},
            },
            id="every field of a text",
        ),
        *(
            pytest.param(f"kind: image, resolution: {name}", {"resolution": name}, id=f"{name} without quotes")
            for name in ("512", "768", "1K", "1.5K", "2K", "4K")
        ),
        pytest.param("kind: text, response_format: text", {"response_format": {"type": "text"}}, id="text in short"),
        pytest.param(
            f"kind: text, response_format: {{type: json_schema, json_schema: {json.dumps(SCHEMA)}}}",
            {"response_format": {"type": "json_schema", "json_schema": SCHEMA}},
            id="a schema",
        ),
    ],
)
def test_settings_reach_the_request(jobs: Jobs, settings: str, sent: Mapping[str, Any]) -> None:
    [job] = jobs(with_defaults(settings))
    start: Mapping[str, Any] = {"prompt": "a"} if job.kind == "image" else {"messages": [USER]}
    assert job.body == job.request.body() == {"model": "a/b", **start, **sent}
    assert job.prompt == "a"
    # The ledger keeps the body, from which a later run makes the request again.
    assert job_key(request_of(job.kind, job.body), job.repeat, job.kind) == job.key


@pytest.mark.parametrize(
    ("defaults", "reason"),
    [
        pytest.param("kind: image, n: 11", "a whole number from 1 to 10", id="too many images"),
        pytest.param("kind: image, quality: best", "allowed: auto, low, medium, high, xhigh, max", id="quality"),
        pytest.param("kind: image, output_format: gif", "allowed: png, jpeg, webp, svg", id="format"),
        pytest.param("kind: text, temperature: 3", "a number from 0 to 2", id="temperature"),
        pytest.param("kind: text, max_tokens: 0", "a whole number from 1", id="max_tokens"),
        pytest.param("kind: text, stop: [a, b, c, d, e]", "has 5 items; allowed: at most 4", id="stop"),
        pytest.param("kind: text, response_format: xml", "allowed: text, json, or {type: json_schema", id="words"),
        pytest.param("kind: text, response_format: {type: json_schema}", "or {type: json_schema", id="no schema"),
        pytest.param(
            "kind: text, response_format: {type: json_schema, json_schema: {name: a}}",
            "or {type: json_schema, json_schema: {name: NAME, schema: {...}}}",
            id="half a schema",
        ),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(jobs: Jobs, defaults: str, reason: str) -> None:
    [problem] = problems(jobs, with_defaults(defaults))
    assert problem.startswith("2: defaults.")
    assert reason in problem


def test_a_mixed_batch_leaves_defaults_of_one_kind_out_of_the_requests_of_another(jobs: Jobs) -> None:
    video, image, text = jobs(MIXED + "defaults: {duration: 4, n: 2, max_tokens: 9, seed: 7, aspect_ratio: 16:9}\n")
    assert [type(job.request) for job in (video, image, text)] == [kind.request for kind in KINDS.values()]
    assert video.body.keys() == {"model", "prompt", "duration", "seed", "aspect_ratio"}
    assert image.body.keys() == {"model", "prompt", "n", "seed", "aspect_ratio"}
    assert text.body.keys() == {"model", "messages", "max_tokens", "seed"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "defaults:\n  duration: 4\n  max_tokens: 9\nmodels: [a/b]\nprompts: [a]",
            "4: defaults.max_tokens: is a setting of text jobs, and this batch has only video jobs",
            id="a default that no job can use",
        ),
        pytest.param(
            "models:\n  - model: a/b\n    kind: image\n    duration: 4\nprompts: [a]",
            "5: models[1].duration: is a setting of video jobs, and this is for image",
            id="beside the kind of a model",
        ),
        pytest.param(
            "models:\n  - {model: a/b, max_tokens: 4}\nprompts: [a]",
            "3: models[1].max_tokens: is a setting of text jobs, and this is for video (a/b)",
            id="at a model",
        ),
        pytest.param(
            "defaults: {kind: text}\nmodels: [a/b]\nprompts:\n  - {prompt: a, n: 2}",
            "5: prompts[1].n: is a setting of image jobs, and this is for text (a/b)",
            id="at a prompt",
        ),
        pytest.param(
            "models: [{model: a/b, kind: image}]\nprompts:\n  - {prompt: a, kind: text}",
            "4: prompts[1].kind: is text, but a/b is here for image; name the models of the prompt in models",
            id="a prompt of one kind with a model of another",
        ),
        pytest.param(
            "defaults: {kind: image}\nmodels: [a/b]\nprompts:\n  - {first_frame: 'https://a.b/c.png'}",
            "5: prompts[1].first_frame: is a setting of video jobs, and this is for image (a/b)",
            id="a frame for an image",
        ),
        pytest.param(
            "defaults: {kind: image}\nmodels: [a/b]\nprompts:\n  - {references: 'https://a.b/c.png'}",
            "5: prompts[1].prompt: is missing: give a text",
            id="an image without a prompt",
        ),
    ],
)
def test_settings_of_another_kind_are_an_error_with_their_line(jobs: Jobs, text: str, expected: str) -> None:
    assert problems(jobs, f"name: x\n{text}\n") == [expected]


def test_a_column_is_a_setting_only_of_the_kinds_that_the_rows_may_be(jobs: Jobs, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("prompt,n,system\nA {{ system }} cat,2,small\n")
    head = "name: x\nprompts_from: p.csv\nmodels:"
    [video] = jobs(f"{head} [a/b]\n")
    assert video.prompt == "A small cat"
    (tmp_path / "p.csv").write_text("prompt,n\nA cat,2\n")
    [image] = jobs(f"{head} [{{model: a/b, kind: image}}]\n")
    assert image.body["n"] == 2
    (tmp_path / "p.csv").write_text("prompt,kind,models,max_tokens,n\nA cat,text,a/c,9,\nA dog,image,a/b,,3\n")
    text, image = jobs(f"{head} [a/b, a/c]\n")
    assert (text.kind, text.body["max_tokens"]) == ("text", 9)
    assert (image.kind, image.body["n"]) == ("image", 3)
    config = load_config(tmp_path / "b.yaml")
    assert models_by_kind(config) == {"text": {"a/c"}, "image": {"a/b"}}


def test_the_same_words_for_another_kind_are_another_job(jobs: Jobs) -> None:
    keys = {
        job.key for kind in KINDS for job in jobs(f"name: x\nmodels: [{{model: a/b, kind: {kind}}}]\nprompts: [a]\n")
    }
    assert len(keys) == 3


def test_a_local_reference_counts_by_content_and_by_the_size_it_is_sent_with(jobs: Jobs, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(painted())
    head = "name: x\nmodels: [{model: a/b, kind: image}]\nprompts: [{prompt: a, references: a.png"

    def key(more: str) -> str:
        [job] = jobs(f"{head}{more}}}]\n")
        assert job.key == job_key(request_of("image", job.body), 1, "image")
        return job.key

    assert len({key(""), key(", downscale: 100"), key(", downscale: 200")}) == 3


# -- plan -------------------------------------------------------------------------------------------------------------


def planned(jobs: Jobs, text: str, offers: Catalogs = OFFERS) -> list[PricedJob]:
    return list(price_jobs(jobs(text), offers))


def test_each_kind_is_priced_by_its_own_catalog(jobs: Jobs) -> None:
    video, image, text = planned(
        jobs, MIXED + "defaults: {duration: 4, generate_audio: false, max_tokens: 100, n: 3}\n"
    )
    assert [each.problems for each in (video, image, text)] == [(), (), ()]
    assert image.estimate.high == Decimal("0.12")
    assert text.estimate.high is not None
    assert Decimal("0.00006") < text.estimate.high < Decimal("0.0001")


def test_the_price_of_a_text_grows_with_its_prompt(jobs: Jobs) -> None:
    long, short = planned(
        jobs,
        f"name: x\ndefaults: {{kind: text, max_tokens: 9}}\nmodels: [openai/gpt-4o-mini]\nprompts: [{'a' * 900}, b]\n",
    )
    assert long.estimate.high is not None
    assert short.estimate.high is not None
    assert long.estimate.high - short.estimate.high == 899 * Decimal("0.00000015")


def test_without_max_tokens_a_text_has_no_upper_price_and_the_plan_says_why(jobs: Jobs) -> None:
    [job] = planned(jobs, "name: x\nmodels: [{model: openai/gpt-4o-mini, kind: text}]\nprompts: [a]\n")
    assert job.bounds_nusd[2] is None
    assert "max_tokens" in job.estimate.why
    assert [left.field for left in job.unset] == ["max_tokens"]


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ("model: bytedance-seed/seedream-4.5, kind: image, aspect_ratio: '8:1'", "aspect_ratio: "),
        ("model: perplexity/sonar, kind: text, response_format: json", "response_format: "),
        ("model: openai/gpt-4o-mini", "it makes text: set kind: text"),
        ("model: openai/gpt-4o-mimi, kind: text", "nearest: openai/gpt-4o-mini"),
    ],
    ids=["an image", "a text", "a model of another kind", "a misspelt model"],
)
def test_what_a_model_does_not_support_is_found_by_the_plan(jobs: Jobs, model: str, problem: str) -> None:
    [job] = planned(jobs, f"name: x\nmodels: [{{{model}}}]\nprompts: [a]\n")
    assert len(job.problems) == 1
    assert problem in str(job.problems[0])


def test_what_is_kept_with_a_plan_holds_the_prices_of_every_kind() -> None:
    kept = Catalogs.from_text(OFFERS.only(["openai/gpt-4o-mini", "recraft/recraft-v4"]).to_json())
    assert kept.find("text", "openai/gpt-4o-mini") == OFFERS.find("text", "openai/gpt-4o-mini")
    assert kept.find("image", "recraft/recraft-v4") == OFFERS.find("image", "recraft/recraft-v4")
    assert kept.find("text", "perplexity/sonar") is None
    assert kept.digest == OFFERS.only(["openai/gpt-4o-mini", "recraft/recraft-v4"]).digest


def test_the_catalogs_of_a_ledger_of_version_0_1_0_are_read() -> None:
    body = json.loads(snapshot().to_json())
    assert Catalogs.from_text(json.dumps(body)).digest == snapshot().digest
    both = Catalogs.from_text(json.dumps(body | {"image": json.loads(image_examples().to_json())}))
    assert both.find("image", "recraft/recraft-v4") == OFFERS.find("image", "recraft/recraft-v4")
    assert both.find("video", "google/veo-3.1") == OFFERS.find("video", "google/veo-3.1")


def test_price_changes_of_images_and_texts_are_named_by_line() -> None:
    image = image_examples().to_json().replace('"cost_usd": 0.035', '"cost_usd": 0.05')
    text = text_examples().to_json().replace('"0.0000006"', '"0.0000009"')
    dearer = Catalogs({"image": Catalog.from_text(ImageModel, image), "text": Catalog.from_text(TextModel, text)})
    found = dearer.price_changes(OFFERS, ["recraft/recraft-v4.1", "openai/gpt-4o-mini"])
    assert [(each.model, each.line, each.old, each.new) for each in found] == [
        ("recraft/recraft-v4.1", "output_image/image of recraft", "0.035", "0.05"),
        ("openai/gpt-4o-mini", "completion", "0.0000006", "0.0000009"),
    ]
    assert OFFERS.price_changes(OFFERS, ["recraft/recraft-v4.1", "openai/gpt-4o-mini"]) == []
