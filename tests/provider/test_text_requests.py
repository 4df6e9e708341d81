"""Texts: the request and its messages, the answer, what a model refuses, and what it may cost at most."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from orbatch_provider.catalog import Catalog, TextModel, check_text
from orbatch_provider.errors import ConfigurationError, InvalidResponseError, OpenRouterError, OutcomeUnknownError
from orbatch_provider.pricing import estimate_text
from orbatch_provider.requests import TextRequest
from orbatch_provider.responses import UnusableResultError
from tests.provider.conftest import Mocked, Wire
from tests.provider.rawserver import answer, raw_answer, read_request, reset, send

BASE = "https://openrouter.ai/api/v1"
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13, "cost": 0.0000125}
MESSAGE = {"role": "assistant", "content": "Meow."}
REQUEST = {"model": "a/poet", "prompt": "a poem", "max_tokens": 10}


def said(**fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": MESSAGE, "finish_reason": "stop"} | fields
    return {"id": "gen-1", "model": "a/poet", "choices": [choice], "usage": USAGE}


async def test_a_text_comes_with_its_cost_and_why_it_ends(wire: Wire) -> None:
    wire.script(answer(said()))
    result = await wire.provider.complete_text(REQUEST)
    assert (result.text, result.finish_reason, result.generation_id) == ("Meow.", "stop", "gen-1")
    assert result.usage is not None
    assert (result.usage.cost, result.usage.prompt_tokens, result.usage.completion_tokens) == (
        Decimal("0.0000125"),
        9,
        4,
    )
    assert result.raw["model"] == "a/poet"


async def test_one_call_sends_the_messages_and_returns_the_text(wire: Wire) -> None:
    wire.script(answer(said()))
    result = await wire.provider.generate_text(
        "a poem", "openrouter/a/poet", system="Be brief.", max_tokens=10, temperature=0.5, extra={"top_p": 0.9}
    )
    assert (result.text, result.cost_usd, result.files, result.job_id) == ("Meow.", 0.0000125, [], "gen-1")
    assert wire.requests[0].target == "/chat/completions"
    assert json.loads(wire.requests[0].body) == {
        "model": "a/poet",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a poem"}],
        "max_tokens": 10,
        "temperature": 0.5,
        "top_p": 0.9,
    }


FORMS: dict[str, Any] = {
    "cut at max_tokens": ({"finish_reason": "length"}, "Meow.", "length"),
    "all spent on thinking": ({"message": {"content": None}, "finish_reason": "length"}, "", "length"),
    "in parts": (
        {"message": {"content": [{"type": "text", "text": "Me"}, {"text": "ow"}, {"type": "x"}]}},
        "Meow",
        "stop",
    ),
    "no reason": ({"finish_reason": None}, "Meow.", None),
}


@pytest.mark.parametrize(("choice", "text", "reason"), FORMS.values(), ids=FORMS)
async def test_every_form_of_text_is_a_result(
    wire: Wire, choice: Mapping[str, Any], text: str, reason: str | None
) -> None:
    wire.script(answer(said(**choice)))
    result = await wire.provider.complete_text(REQUEST)
    assert (result.text, result.finish_reason) == (text, reason)


ERROR = {"code": 502, "message": "The model fell over"}


WITHOUT_TEXT: dict[str, Any] = {
    "finish_reason": said(finish_reason="error"),
    "in the choice": said(error=ERROR, message=None),
    "beside the id": {"id": "gen-1", "error": ERROR, "usage": USAGE},
    "no choice": {"id": "gen-1", "choices": [], "usage": USAGE},
}


@pytest.mark.parametrize("body", WITHOUT_TEXT.values(), ids=WITHOUT_TEXT)
async def test_an_answer_without_text_is_unusable_and_says_what_it_cost(wire: Wire, body: Mapping[str, Any]) -> None:
    wire.script(answer(body))
    with pytest.raises(UnusableResultError, match=r"returned no text.*charged 0\.0000125 USD") as caught:
        await wire.provider.complete_text(REQUEST)
    assert (caught.value.may_resend, caught.value.generation_id) == (False, "gen-1")
    assert caught.value.usage is not None
    assert caught.value.raw["id"] == "gen-1"


LOST: list[object] = [
    pytest.param([read_request, reset], OutcomeUnknownError, id="no answer"),
    pytest.param([read_request, send(raw_answer(b"{", length=90)), reset], OutcomeUnknownError, id="cut"),
    pytest.param(answer(b"<html>"), InvalidResponseError, id="html"),
    pytest.param(answer(["x"]), InvalidResponseError, id="a list"),
    pytest.param(answer({}), InvalidResponseError, id="nothing in it"),
    pytest.param(answer({"id": "gen-1", "error": ERROR}), InvalidResponseError, id="an error that names no cost"),
]


@pytest.mark.parametrize(("script", "kind"), LOST)
async def test_an_answer_that_is_lost_leaves_the_payment_unknown(
    wire: Wire, script: Any, kind: type[OpenRouterError]
) -> None:
    wire.script(script)
    with pytest.raises(kind) as caught:
        await wire.provider.complete_text(REQUEST)
    assert not caught.value.nothing_started
    assert len(wire.requests) == 1


async def test_a_stream_is_refused_before_anything_is_sent(wire: Wire) -> None:
    with pytest.raises(ConfigurationError, match="remove stream"):
        await wire.provider.generate_text("a poem", "a/poet", extra={"stream": True})
    assert wire.server.connections == 0


async def test_json_that_was_asked_for_is_read_where_it_is_valid(wire: Wire) -> None:
    wire.script(answer(said(message={"content": '{"a": 1}'})), answer(said(message={"content": '{"a": '})))
    assert (await wire.provider.complete_text(REQUEST)).json() == {"a": 1}
    with pytest.raises(ValueError, match="line 1"):
        (await wire.provider.complete_text(REQUEST)).json()
    assert TextRequest("a/b", "p", response_format={"type": "json_schema"}).wants_json
    assert not TextRequest("a/b", "p", response_format={"type": "text"}).wants_json


def test_a_body_comes_back_as_it_was() -> None:
    body = {"model": "a/b", "messages": [{"role": "user", "content": "p"}], "max_tokens": 3, "stop": ["x"]}
    assert TextRequest.from_body(body).body() == body
    short = TextRequest("a/b", "p", max_tokens=3, extra={"stop": ["x"]})
    assert short.body() == body


POET = TextModel.from_json(
    {
        "id": "a/poet",
        "pricing": {"prompt": "0.000001", "completion": "0.000004", "request": "0", "discount": 0},
        "top_provider": {"max_completion_tokens": 1000},
        "supported_parameters": ["max_tokens", "temperature", "response_format"],
    }
)


def poem(**fields: Any) -> TextRequest:
    return TextRequest.from_body(REQUEST | fields)


PROBLEMS: dict[str, Any] = {
    "no prompt": ({"prompt": ""}, "prompt: is required"),
    "system alone": ({"prompt": None, "messages": [{"role": "system", "content": "x"}]}, "prompt: is required"),
    "max_tokens 0": ({"max_tokens": 0}, "max_tokens: 0 is not a whole number of tokens above 0"),
    "a fraction": ({"max_tokens": 1.5}, "max_tokens: 1.5 is not a whole number of tokens above 0"),
    "more": ({"max_tokens": 1001}, "max_tokens: a/poet writes at most 1000; allowed: 1 to 1000; nearest: 1000"),
    "temperature": ({"temperature": 2.1}, "temperature: is out of range; allowed: 0 to 2"),
    "no number": ({"temperature": "hot"}, "temperature: is out of range; allowed: 0 to 2"),
    "seed": ({"seed": 1}, "seed: a/poet would ignore it; remove it"),
    "json_schema": (
        {"response_format": {"type": "json_schema"}},
        "response_format: a/poet does not promise json_schema answers",
    ),
    "no format": (
        {"response_format": {"type": "yaml"}},
        "response_format: yaml is not a type of answer; allowed: text, json_object, json_schema",
    ),
    "stream": ({"stream": True}, "stream: streamed answers are not supported; remove it"),
}


@pytest.mark.parametrize(("fields", "problem"), PROBLEMS.values(), ids=PROBLEMS)
def test_what_a_model_does_not_support_is_a_problem(fields: Mapping[str, Any], problem: str) -> None:
    assert [str(each) for each in check_text(poem(**fields), POET)] == [problem]


@pytest.mark.parametrize("fields", [{}, {"temperature": 0, "response_format": {"type": "json_object"}}])
def test_what_a_model_supports_is_none(fields: Mapping[str, Any]) -> None:
    assert check_text(poem(**fields), POET) == []
    assert check_text(poem(seed=1, **fields), TextModel("a/unknown")) == []


def priced(**pricing: Any) -> TextModel:
    return TextModel.from_json({"id": "a/poet", "pricing": {"prompt": "0.000001", "completion": "0.000004", **pricing}})


# "a poem" has 6 bytes, its message 16 tokens of frame, the request 32: at most 54 tokens.
BOUNDS: dict[str, Any] = {
    "prompt and completion": ({}, {}, "0.000094"),
    "bytes, not characters": ({"prompt": "ä poem"}, {}, "0.000095"),
    "every message counts": ({"system": "x" * 100}, {}, "0.00021"),
    "the newer name of the limit": ({"max_tokens": None, "max_completion_tokens": 10}, {}, "0.000094"),
    "several replies": ({"n": 3}, {}, "0.000174"),
    "a fee for each request": ({}, {"request": "0.005"}, "0.005094"),
    "thinking may be dearer": ({}, {"internal_reasoning": "0.00001"}, "0.000154"),
    "long context": ({}, {"overrides": [{"min_prompt_tokens": 9, "prompt": "0.000002"}]}, "0.000148"),
    "no cache, no price of it": ({}, {"input_cache_write": "0.00001"}, "0.000094"),
    "a cache that is written": (
        {"messages": [{"role": "user", "content": "a", "cache_control": {}}], "prompt": None},
        {"input_cache_write": "0.00001"},
        "0.00074",
    ),
}


@pytest.mark.parametrize(("fields", "pricing", "high"), BOUNDS.values(), ids=BOUNDS)
def test_the_upper_bound_needs_no_tokenizer(fields: Mapping[str, Any], pricing: Mapping[str, Any], high: str) -> None:
    found = estimate_text(poem(**fields), priced(**pricing))
    assert found.high == Decimal(high)
    assert found.exact is None
    assert found.low is not None
    assert 0 <= found.low < found.high
    assert "one token per byte" in found.why


UNBOUNDED: dict[str, Any] = {
    "no limit": ({"max_tokens": None}, {}, "max_tokens is not set"),
    "a router": ({}, {"prompt": "-1"}, "the price of the prompt varies"),
    "no price": ({}, {"completion": None}, "has no price for the completion"),
    "plugins": ({"plugins": [{"id": "web"}]}, {}, "plugins are billed separately"),
    "fallback models": ({"models": ["a/other"]}, {}, "another model may answer"),
    "images": ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, {}, "tokens of image_url"),
}


@pytest.mark.parametrize(("fields", "pricing", "reason"), UNBOUNDED.values(), ids=UNBOUNDED)
def test_what_cannot_be_bounded_is_unpriced_with_the_reason(
    fields: Mapping[str, Any], pricing: Mapping[str, Any], reason: str
) -> None:
    found = estimate_text(poem(**fields), priced(**pricing))
    assert found.is_unpriced
    assert reason in found.why


def test_a_model_is_free_if_it_is_declared_free_and_unpriced_if_it_is_only_listed_at_0() -> None:
    listed = priced(prompt="0", completion="0")
    free = estimate_text(poem(max_tokens=None), replace(listed, id="a/poet:free"))
    assert free.low == free.exact == free.high == 0
    found = estimate_text(poem(max_tokens=None), listed)
    assert (found.low, found.high) == (None, None)
    assert found.why == "unpriced: the price list says 0, and a/poet is not declared free"


async def test_the_catalog_of_texts_is_read_without_a_key(mocked: Mocked) -> None:
    route = mocked.router.get(f"{BASE}/models").respond(
        json={"data": [{"id": "a/poet", "pricing": {"prompt": "0.1"}}, 5]}
    )
    assert [model.prices for model in await mocked.provider.text_models()] == [{"prompt": "0.1"}]
    catalog = await mocked.provider.text_catalog()
    assert await mocked.provider.check(poem()) == []
    assert [each.nearest for each in await mocked.provider.check(poem(model="a/poets"))] == ["a/poet"]
    assert "authorization" not in route.calls[0].request.headers
    assert route.call_count == 2
    assert Catalog.from_text(TextModel, catalog.to_json()) == catalog


@pytest.mark.parametrize("body", [{}, [], {"data": {}}])
async def test_a_catalog_that_cannot_be_read_says_so(mocked: Mocked, body: object) -> None:
    mocked.router.get(f"{BASE}/models").respond(json=body)
    with pytest.raises(InvalidResponseError, match="no list of models"):
        await mocked.provider.text_models()
