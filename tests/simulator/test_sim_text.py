"""POST /chat/completions and its catalog: answers, refusals, charges and faults."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from itertools import product
from typing import Any

import pytest

from orbatch_provider.catalog import TextModel, check_text
from orbatch_provider.client import OpenRouterProvider
from orbatch_provider.errors import ServerError
from orbatch_provider.pricing import estimate_text
from orbatch_provider.requests import TextRequest
from orbatch_simulator import Fault, SimulatorSettings
from orbatch_simulator.text import charge_text, reply_to, text_examples
from tests.simulator.conftest import HOUR, KEY, Caller, Open, Reply

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say something about cats"}]
REQUEST = {"model": "openai/gpt-4o-mini", "messages": MESSAGES, "max_tokens": 100}
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "legs": {"type": "integer", "minimum": 4},
        "furry": {"type": "boolean"},
        "sounds": {"type": "array", "items": {"enum": ["meow", "purr"]}},
        "rest": {},
    },
}


async def complete(caller: Caller, **changes: Any) -> Reply:
    return await caller.post("/chat/completions", REQUEST, changes)


async def test_the_answer_names_the_model_and_the_prompt_and_is_charged_by_its_tokens(caller: Caller) -> None:
    reply = (await complete(caller)).json
    (choice,) = reply["choices"]
    assert choice["message"]["content"] == "A simulated answer of openai/gpt-4o-mini to: Say something about cats"
    assert choice["finish_reason"] == "stop"
    # 9 and 24 bytes, 4 of them a token, and 4 tokens for each message; 69 bytes of answer.
    assert (reply["usage"]["prompt_tokens"], reply["usage"]["completion_tokens"]) == (17, 18)
    charged = 17 * Decimal("0.00000015") + 18 * Decimal("0.0000006")
    assert caller.simulator.journal.charged == charged == Decimal(str(reply["usage"]["cost"]))
    (job,) = (await caller.journal())["jobs"]
    assert (job["kind"], job["status"], job["prompt"]) == ("text", "completed", "Say something about cats")
    cut = (await complete(caller, max_tokens=3)).json
    assert cut["choices"][0]["message"]["content"] == "A simulated "
    assert (cut["choices"][0]["finish_reason"], cut["usage"]["completion_tokens"]) == ("length", 3)


@pytest.fixture
async def provider(caller: Caller) -> AsyncIterator[OpenRouterProvider]:
    async with OpenRouterProvider(KEY, base_url=caller.simulator.base_url) as provider:
        yield provider


async def test_json_is_answered_where_it_is_requested(provider: OpenRouterProvider) -> None:
    plain = await provider.complete_text({**REQUEST, "response_format": {"type": "json_object"}})
    wanted = {"type": "json_schema", "json_schema": {"name": "cat", "schema": SCHEMA}}
    shaped = await provider.complete_text({**REQUEST, "response_format": wanted})
    cut = await provider.complete_text({**REQUEST, "response_format": {"type": "json_object"}, "max_tokens": 2})
    assert plain.json()["prompt"] == "Say something about cats"
    assert shaped.json() == {"name": "simulated", "legs": 4, "furry": True, "sounds": ["meow"], "rest": None}
    with pytest.raises(ValueError, match="line 1"):
        cut.json()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        pytest.param({"model": None}, "model: required", id="no model"),
        pytest.param({"model": "a/b"}, "a/b is not a valid model ID", id="unknown model"),
        pytest.param({"messages": None}, "messages: required", id="no messages"),
        pytest.param({"messages": []}, "messages: required", id="none"),
        pytest.param({"messages": [{"role": "cat", "content": "x"}]}, "needs a role", id="no role"),
        pytest.param({"messages": [{"role": "user"}]}, "content must be", id="no content"),
        pytest.param({"max_tokens": 0}, "max_tokens: must be at least 1", id="max_tokens 0"),
        pytest.param({"max_tokens": "5"}, "max_tokens: expected an integer", id="max_tokens as text"),
        pytest.param({"max_tokens": 20_000}, "writes at most 16384", id="more than it writes"),
        pytest.param({"messages": [{"role": "user", "content": "x" * 600_000}]}, "exceed 128000 tokens", id="context"),
        pytest.param({"temperature": 3}, "temperature: must be from 0 to 2", id="temperature"),
        pytest.param({"seed": "x"}, "seed: expected an integer", id="seed"),
        pytest.param({"response_format": {"type": "xml"}}, "response_format: type must be", id="format"),
        pytest.param({"response_format": {"type": "json_schema"}}, "schema is required", id="no schema"),
    ],
)
async def test_what_makes_no_sense_is_refused_and_not_charged(
    caller: Caller, fields: Mapping[str, Any], words: str
) -> None:
    reply = await complete(caller, **fields)
    assert reply.status == 400
    assert words in reply.json["error"]["message"]
    assert caller.simulator.journal.accepted == 0


async def test_a_streamed_answer_says_the_same_in_events_and_is_charged_once(caller: Caller) -> None:
    reply = await complete(caller, stream=True)
    assert reply.headers["Content-Type"].startswith("text/event-stream")
    comment, *events, done = reply.body.decode().removesuffix("\n\n").split("\n\n")
    assert (comment, done) == (": OPENROUTER PROCESSING", "data: [DONE]")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    said = "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])
    assert said.startswith("A simulated answer of ")
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    (job,) = caller.simulator.journal.jobs.values()
    assert Decimal(str(chunks[-1]["usage"]["cost"])) == job.cost_usd
    assert {chunk["id"] for chunk in chunks} == {job.generation_id}


async def test_the_credit_has_to_cover_all_that_was_allowed(open_simulator: Open) -> None:
    caller = await open_simulator(SimulatorSettings(credit_usd=Decimal("0.001")))
    assert (await complete(caller, max_tokens=10_000)).status == 402
    assert (await complete(caller, max_tokens=None)).status == 402  # then it is all that the model can write
    assert (await complete(caller, max_tokens=100)).status == 200


@pytest.mark.parametrize("model", text_examples().models.values(), ids=lambda model: model.id)
def test_the_estimate_bounds_the_charge(model: TextModel) -> None:
    prompts, limits, formats = ("x", "Ü" * 5000, "word " * 200_000), (1, 500), (None, {"type": "json_object"})
    for prompt, limit, wanted in product(prompts, limits, formats):
        request = TextRequest(model.id, prompt, system="Be brief.", max_tokens=limit, response_format=wanted)
        if check_text(request, model):
            continue
        reply, estimate = reply_to(request.body(), model), estimate_text(request, model)
        charged = charge_text(model, reply.prompt_tokens, reply.completion_tokens)
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low <= charged <= estimate.high


async def test_the_catalog_is_in_the_form_of_the_live_one(caller: Caller, provider: OpenRouterProvider) -> None:
    models = {model.id: model for model in await provider.text_models()}
    assert models == text_examples().models
    assert models["perplexity/sonar"].prices["request"] == "0.005"
    page = await caller.get("/models?offset=3&limit=1", key=None)
    assert [item["id"] for item in page["data"]] == [list(models)[3]]
    assert (page["total_count"], page["links"]["next"]) == (5, "/api/v1/models?offset=4&limit=1")
    assert (await caller.call("GET", "/models?limit=all", key=None)).status == 400


async def test_an_answer_can_say_that_it_may_be_sent_again(caller: Caller, provider: OpenRouterProvider) -> None:
    caller.simulator.set_faults(Fault("chat", status=500, fields={"availability": {"retryable": True}}))
    with pytest.raises(ServerError) as caught:
        await provider.complete_text(REQUEST)
    assert caught.value.may_resend


async def test_a_cost_can_stay_unknown_until_the_generation_is_read(
    caller: Caller, provider: OpenRouterProvider
) -> None:
    caller.simulator.set_faults(Fault("chat", "null_cost"))
    result = await provider.complete_text(REQUEST)
    assert result.usage is not None
    assert result.usage.cost is None
    assert result.generation_id is not None
    caller.clock.advance(HOUR)
    found = await provider.generation(result.generation_id)
    assert found.total_cost == caller.simulator.journal.charged
