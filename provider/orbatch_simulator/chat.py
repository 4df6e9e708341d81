"""What the simulator makes of a text request: which ones it refuses, what it says, and what that costs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from orbatch_provider.catalog import TextModel
from orbatch_simulator.answers import RefusedError
from orbatch_simulator.billing import nano
from orbatch_simulator.rules import invalid, is_of

ROLES = ("system", "developer", "user", "assistant", "tool")
FORMATS = ("text", "json_object", "json_schema")
_BYTES_PER_TOKEN = 4
_MESSAGE_TOKENS = 4
_DEEPEST = 8  # levels of a JSON schema that are filled in


@dataclass(frozen=True, slots=True)
class Reply:
    """``text`` as far as ``max_tokens`` let it come."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


def check_form(body: object) -> Mapping[str, Any]:
    """The body, when it has the right shape; raises RefusedError 400."""
    if not isinstance(body, dict):
        raise invalid("The request body must be a JSON object")
    if not body.get("model") or not isinstance(body["model"], str):
        raise invalid("model: required")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise invalid("messages: required")
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise invalid(f"messages: every message needs a role: {', '.join(ROLES)}")
        if not isinstance(message.get("content"), (str, list)):
            raise invalid("messages: content must be a string or an array")
    if body.get("stream"):
        raise invalid("stream: the simulator does not stream")
    _check_numbers(body)
    wanted = body.get("response_format")
    if wanted is not None and (not isinstance(wanted, dict) or wanted.get("type") not in FORMATS):
        raise invalid(f"response_format: type must be one of {', '.join(FORMATS)}")
    return body


def check_model(body: Mapping[str, Any], model: TextModel) -> None:
    """Raises RefusedError 400 for what the model cannot hold or write."""
    limit, most = _max_tokens(body), model.max_completion_tokens
    if limit is not None and most is not None and limit > most:
        raise invalid(f"max_tokens: {model.id} writes at most {most}", "max_tokens_exceeded")
    if model.context_length is not None and _prompt_tokens(body) + (limit or 0) > model.context_length:
        raise invalid(f"The prompt and max_tokens exceed {model.context_length} tokens", "context_length_exceeded")


def answer(body: Mapping[str, Any], model: TextModel) -> Reply:
    text = _json_text(body) or f"A simulated answer of {model.id} to: {prompt_of(body)}"
    limit = _max_tokens(body)
    content = text.encode("utf-8", "replace")
    is_cut = limit is not None and len(content) > limit * _BYTES_PER_TOKEN
    if is_cut:
        assert limit is not None
        content = content[: limit * _BYTES_PER_TOKEN]
    return Reply(
        text=content.decode("utf-8", "ignore"),
        finish_reason="length" if is_cut else "stop",
        prompt_tokens=_prompt_tokens(body),
        completion_tokens=math.ceil(len(content) / _BYTES_PER_TOKEN),
    )


def charge_text(reply: Reply, model: TextModel) -> Decimal:
    """USD, at the prices for a prompt of this length."""
    prices = dict(model.prices)
    for override in model.overrides:
        if reply.prompt_tokens > override.get("min_prompt_tokens", 0):
            prices |= {name: str(override[name]) for name in ("prompt", "completion") if name in override}
    prompt, completion, request = (Decimal(prices.get(name, "0")) for name in ("prompt", "completion", "request"))
    return nano(reply.prompt_tokens * prompt + reply.completion_tokens * completion + request)


def price_ahead(body: Mapping[str, Any], model: TextModel) -> Decimal:
    """What the credit must cover: the whole completion that was allowed, or else all that the model can write."""
    most = _max_tokens(body) or model.max_completion_tokens or 0
    return charge_text(Reply("", "stop", _prompt_tokens(body), most), model)


def prompt_of(body: Mapping[str, Any]) -> str:
    """The last message's text."""
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    return _text(last.get("content")) if isinstance(last, Mapping) else ""


def _check_numbers(body: Mapping[str, Any]) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        if body.get(name) is not None and (not is_of(int)(body[name]) or body[name] < 1):
            raise invalid(f"{name}: expected an integer of at least 1")
    temperature = body.get("temperature")
    if temperature is not None and (not is_of((int, float))(temperature) or not 0 <= temperature <= 2):
        raise invalid("temperature: must be from 0 to 2")
    if body.get("seed") is not None and not is_of(int)(body["seed"]):
        raise invalid("seed: expected an integer")


def _max_tokens(body: Mapping[str, Any]) -> int | None:
    limit: int | None = body.get("max_tokens") or body.get("max_completion_tokens")
    return limit


def _prompt_tokens(body: Mapping[str, Any]) -> int:
    texts = [_text(message["content"]) for message in body["messages"]]
    return sum(math.ceil(len(text.encode("utf-8", "replace")) / _BYTES_PER_TOKEN) + _MESSAGE_TOKENS for text in texts)


def _text(content: object) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""


def _json_text(body: Mapping[str, Any]) -> str | None:
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_object":
        return json.dumps({"answer": "simulated", "prompt": prompt_of(body)}, ensure_ascii=False)
    if wanted.get("type") == "json_schema":
        holder = wanted.get("json_schema")
        schema = holder.get("schema") if isinstance(holder, Mapping) else None
        if not isinstance(schema, Mapping):
            raise RefusedError(400, "response_format: json_schema.schema is required", "invalid_request")
        return json.dumps(_example(schema), ensure_ascii=False)
    return None


def _example(schema: object, depth: int = 0) -> object:
    """The least that fits an ordinary schema."""
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return None
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            parts = schema.get("properties")
            return (
                {name: _example(part, depth + 1) for name, part in parts.items()} if isinstance(parts, Mapping) else {}
            )
        case "array":
            return [_example(schema.get("items"), depth + 1)]
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return True
        case "string":
            return "simulated"
    return None
