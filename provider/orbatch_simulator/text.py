"""POST /chat/completions and GET /models: which requests are refused, what is answered, and what it costs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache, partial
from importlib.resources import files
from typing import Any

from aiohttp import web

from orbatch_provider.catalog import Catalog, TextModel
from orbatch_simulator.faults import Fault
from orbatch_simulator.middleware import (
    BYTES_PER_TOKEN,
    Accept,
    Answer,
    EventsAnswer,
    api_call,
    check_fields,
    count_tokens,
    invalid,
    paid_call,
    respond,
    whole_nano,
)
from orbatch_simulator.state import State

ROLES = ("system", "developer", "user", "assistant", "tool")
FORMATS = ("text", "json_object", "json_schema")
_TYPES: Mapping[str, str] = {
    **dict.fromkeys(("model", "user", "session_id"), "a string"),
    **dict.fromkeys(("max_tokens", "max_completion_tokens", "seed"), "an integer"),
    "messages": "an array",
    "temperature": "a number",
    "response_format": "an object",
    "stream": "a boolean",
}
_RANGES = {"max_tokens": (1, math.inf), "max_completion_tokens": (1, math.inf), "temperature": (0, 2)}
_MESSAGE_TOKENS = 4  # overhead of each message
_MAX_DEPTH = 8  # levels of a JSON schema that are filled in


@cache
def text_examples() -> Catalog[TextModel]:
    """The simulator's example models with made-up prices: a real batch is priced by the live catalog."""
    body = json.loads(files("orbatch_provider").joinpath("data/text-models.json").read_text("utf-8"))
    captured_at = datetime.fromisoformat(body["captured_at"]).astimezone(UTC)
    return Catalog.from_json(TextModel, body, captured_at=captured_at, source="simulator")


# -- rules


def check_form(body: object) -> Mapping[str, Any]:
    """The fields that are set, if their form is valid. Raises RefusedError 400. As in the API, null is not set."""
    given = {name: value for name, value in body.items() if value is not None} if isinstance(body, dict) else body
    fields = check_fields(given, _TYPES, {}, _RANGES)
    if not fields.get("messages"):
        raise invalid("messages: required")
    for message in fields["messages"]:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise invalid(f"messages: every message needs a role: {', '.join(ROLES)}")
        if not isinstance(message.get("content"), str | list):
            raise invalid("messages: content must be a string or an array")
    if "response_format" in fields:
        _check_format(fields["response_format"])
    return fields


def _check_format(wanted: Mapping[str, Any]) -> None:
    if wanted.get("type") not in FORMATS:
        raise invalid(f"response_format: type must be one of {', '.join(FORMATS)}")
    holder = wanted.get("json_schema")
    schema = holder.get("schema") if isinstance(holder, Mapping) else None
    if wanted["type"] == "json_schema" and not isinstance(schema, Mapping):
        raise invalid("response_format: json_schema.schema is required")


def check_model(body: Mapping[str, Any], model: TextModel) -> None:
    """Raises RefusedError 400 for what the model cannot hold or write."""
    limit, most = _max_tokens(body), model.max_completion_tokens
    if limit is not None and most is not None and limit > most:
        raise invalid(f"max_tokens: {model.id} writes at most {most}", "max_tokens_exceeded")
    # The completion shares the context with the prompt.
    if model.context_length is not None and _prompt_tokens(body) + (limit or 0) > model.context_length:
        raise invalid(f"The prompt and max_tokens exceed {model.context_length} tokens", "context_length_exceeded")


def _max_tokens(body: Mapping[str, Any]) -> int | None:
    limit: int | None = body.get("max_tokens") or body.get("max_completion_tokens")
    return limit


def _prompt_tokens(body: Mapping[str, Any]) -> int:
    return sum(count_tokens(_text(message["content"])) + _MESSAGE_TOKENS for message in body["messages"])


# -- answers


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model writes; ``text`` ends where ``max_tokens`` does."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


def reply_to(body: Mapping[str, Any], model: TextModel) -> Reply:
    """The answer to a request that passed the rules."""
    text = _json_text(body) or f"A simulated answer of {model.id} to: {prompt_of(body)}"
    content = text.encode("utf-8", "replace")
    limit = _max_tokens(body)
    # Cut in bytes, as tokens are counted here; half a character at the end is dropped below.
    kept = content if limit is None else content[: limit * BYTES_PER_TOKEN]
    return Reply(
        text=kept.decode("utf-8", "ignore"),
        finish_reason="length" if len(kept) < len(content) else "stop",
        prompt_tokens=_prompt_tokens(body),
        completion_tokens=math.ceil(len(kept) / BYTES_PER_TOKEN),
    )


def prompt_of(body: Mapping[str, Any]) -> str:
    """The last message's text; "" if a body of any shape has none."""
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    return _text(last.get("content")) if isinstance(last, Mapping) else ""


def _text(content: object) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""


def _json_text(body: Mapping[str, Any]) -> str | None:
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_object":
        return json.dumps({"answer": "simulated", "prompt": prompt_of(body)}, ensure_ascii=False)
    if wanted.get("type") == "json_schema":
        return json.dumps(_example(wanted["json_schema"]["schema"]), ensure_ascii=False)
    return None


def _example(schema: object, depth: int = 0) -> object:
    """The smallest value that fits an ordinary schema."""
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:  # a schema may nest without end
        return None
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            parts = schema.get("properties")
            properties = parts if isinstance(parts, Mapping) else {}
            return {name: _example(part, depth + 1) for name, part in properties.items()}
        case "array":
            return [_example(schema.get("items"), depth + 1)]
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return True
        case "string":
            return "simulated"
    return None


# -- charges


def charge_text(model: TextModel, prompt_tokens: int, completion_tokens: int) -> Decimal:
    """USD, at the prices for a prompt of this length."""
    prices = dict(model.prices)
    for override in model.overrides:  # long prompts cost more with some models
        if prompt_tokens > override.get("min_prompt_tokens", 0):
            prices |= {name: str(override[name]) for name in ("prompt", "completion") if name in override}
    prompt, completion, request = (Decimal(prices.get(name, "0")) for name in ("prompt", "completion", "request"))
    return whole_nano(prompt_tokens * prompt + completion_tokens * completion + request)


# -- routes


def _check(state: State, owner: str, raw: object) -> tuple[Decimal, Accept]:
    body = check_form(raw)
    model = state.text_catalog.models.get(body["model"])
    if model is None:
        raise invalid(f"{body['model']} is not a valid model ID")  # 400, but 404 for videos and images
    check_model(body, model)
    # As with the service, the credit must cover what may be written: without a limit, all that the model can write.
    most = _max_tokens(body) or model.max_completion_tokens or 0
    return charge_text(model, _prompt_tokens(body), most), partial(_accept, state, owner, body, model)


async def _accept(
    state: State, owner: str, body: Mapping[str, Any], model: TextModel, answer_fault: Fault | None
) -> Answer:
    reply = reply_to(body, model)
    prompt_tokens, written = reply.prompt_tokens, reply.completion_tokens
    price = charge_text(model, prompt_tokens, written)
    job = state.accept(owner, body, price, answer_fault, kind="text", prompt=prompt_of(body))
    message = {"role": "assistant", "content": reply.text, "refusal": None}
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": written, "total_tokens": prompt_tokens + written}
    content = {
        "id": job.generation_id,  # chat answers with the generation's id, not with a job's
        "object": "chat.completion",
        "created": int(job.accepted_at),
        "model": job.model,
        "system_fingerprint": None,
        "choices": [{"index": 0, "finish_reason": reply.finish_reason, "message": message, "logprobs": None}],
        "usage": usage | job.usage,
    }
    return EventsAnswer(200, content, events=_chunks(content)) if body.get("stream") else Answer(200, content)


def _chunks(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The same answer word by word; the last chunk has the usage, with the charge."""
    [choice] = content["choices"]
    same = {name: content[name] for name in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    words = re.findall(r"\S+\s*|\s+", choice["message"]["content"])
    said = [{"role": "assistant", "content": word} for word in words]
    deltas = [{"index": 0, "delta": delta, "finish_reason": None} for delta in said]
    deltas.append({"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]})
    return [*({**same, "choices": [delta]} for delta in deltas), {**same, "choices": [], "usage": content["usage"]}]


@api_call("models", needs_key=False)
async def models(request: web.Request, state: State, _: str) -> web.StreamResponse:
    """GET /models: all of them, or a page if ``offset`` or ``limit`` is given."""
    wanted = set(request.query.get("output_modalities", "text").split(","))
    records = state.text_catalog.records if wanted & {"text", "all"} else []
    start = _whole(request, "offset", 0)
    stop = start + _whole(request, "limit", len(records))
    following = f"/api/v1/models?offset={stop}&limit={stop - start}" if stop < len(records) else None
    content = {"data": records[start:stop], "links": {"next": following}, "total_count": len(records)}
    return await respond(request, state, "models", lambda: Answer(200, content))


def _whole(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise invalid(f"{name}: expected a whole number")
    return int(text)


ROUTES = [
    web.post("/api/v1/chat/completions", paid_call("chat", _check, prompt_of)),
    web.get("/api/v1/models", models),
]
