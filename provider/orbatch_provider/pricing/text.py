"""The estimate of a text request: an upper bound without a tokenizer. docs/pricing.md, "Text"."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from orbatch_provider.catalog import TextModel
from orbatch_provider.pricing.estimate import Estimate, Term, add_up, decimal_or_none, fixed, up_to
from orbatch_provider.requests import TextRequest

# Tokens that frame a message (its role, its start and end) and the reply. Chat templates differ by model and are not
# published with the price: these are assumptions, meant to be too large.
MESSAGE_TOKENS = 16
REQUEST_TOKENS = 32

# Fields with which OpenRouter charges more than the model's price list says.
_EXTRAS = {
    "plugins": "plugins are billed separately",
    "web_search_options": "web search is billed separately",
    "models": "another model may answer",
}
_IN_PROMPT = ("tools", "functions", "response_format")  # fields that are written into the prompt, besides the messages


def estimate_text(request: TextRequest, model: TextModel) -> Estimate:
    """What ``request`` costs at list price.

    A token has at least one byte, so the prompt has at most as many tokens as UTF-8 bytes, plus those that frame its
    messages. The completion has at most ``max_tokens``, reasoning included; without it there is no upper bound.
    What the price list does not cover (images in messages, plugins, web search, varying prices) is unpriced.
    """
    gap = _gap(request, model)
    if gap:
        return Estimate.unpriced(gap)
    # With a cache the prompt may be written to it, at a price of its own.
    cached = "cache_control" in json.dumps(request.body())
    prompt_usd = _highest(model, ("prompt", "input_cache_write") if cached else ("prompt",))
    completion_usd = _highest(model, ("completion", "internal_reasoning"))
    completion = _most_tokens(request)
    parts = [
        up_to(Term(_prompt_tokens(request), "tokens", prompt_usd, "prompt")),
        up_to(Term(completion or Decimal(0), "tokens", completion_usd, "completion")),
    ]
    fee = decimal_or_none(model.prices.get("request"))
    if fee:
        parts.append(fixed(Term(Decimal(1), "requests", fee, "request")))
    found = add_up(parts)
    if completion is None and completion_usd:
        return Estimate(found.low, None, None, found.lines, "no upper bound: max_tokens is not set")
    if found.low == found.high:  # a free model
        return Estimate(found.low, found.low, found.high, found.lines, found.why).unless_free(model.id)
    why = f"{found.why}; the prompt is counted at one token per byte, and {MESSAGE_TOKENS} per message"
    return Estimate(found.low, None, found.high, found.lines, why)


def _gap(request: TextRequest, model: TextModel) -> str:
    """Why nothing can be said about the price; empty when something can."""
    for line in ("prompt", "completion"):
        usd = decimal_or_none(model.prices.get(line))
        if usd is None:
            return f"the catalog has no price for the {line}"
        if usd < 0:  # the catalog's -1 of a router, whose price is that of the model it chooses
            return f"the price of the {line} varies"
    for name, reason in _EXTRAS.items():
        if request.extra.get(name):
            return reason
    if model.id.endswith(":online"):
        return _EXTRAS["web_search_options"]
    kind = next((kind for kind in _part_types(request) if kind != "text"), None)
    return "" if kind is None else f"the number of tokens of {kind} in a message is not known"


def _highest(model: TextModel, lines: Sequence[str]) -> Decimal:
    """The highest rate of these lines under any conditions, in USD per token."""
    conditions = (model.prices, *model.overrides)
    return max(decimal_or_none(prices.get(line)) or Decimal(0) for prices in conditions for line in lines)


def _part_types(request: TextRequest) -> Iterator[str]:
    for message in request.all_messages():
        content = message.get("content") if isinstance(message, Mapping) else None
        for part in content if isinstance(content, (list, tuple)) else ():
            yield str(part.get("type")) if isinstance(part, Mapping) else "something unknown"


def _most_tokens(request: TextRequest) -> Decimal | None:
    """The limit of all replies together; None where there is none."""
    limits = [request.max_tokens, request.extra.get("max_completion_tokens")]
    known = [number for number in map(decimal_or_none, limits) if number is not None and number > 0]
    replies = decimal_or_none(request.extra.get("n")) or Decimal(1)
    return max(known) * max(replies, Decimal(1)) if known else None


def _prompt_tokens(request: TextRequest) -> Decimal:
    messages, body = request.all_messages(), request.body()
    texts = [json.dumps(body[name], ensure_ascii=False) for name in _IN_PROMPT if body.get(name)]
    texts += [_prompt_text(message) for message in messages]
    count = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    return Decimal(count + MESSAGE_TOKENS * len(messages) + REQUEST_TOKENS)


def _prompt_text(message: Mapping[str, Any]) -> str:
    """All texts of a message, and its other fields as JSON."""
    content = message.get("content")
    rest = {name: value for name, value in message.items() if name not in ("role", "content")}
    more = json.dumps(rest, ensure_ascii=False) if rest else ""
    return more + (content if isinstance(content, str) else json.dumps(content, ensure_ascii=False))
