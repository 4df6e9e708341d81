"""The estimate of a text request: an upper bound that needs no tokenizer, and a lower bound that promises nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from orbatch_provider.catalog import TextModel
from orbatch_provider.pricing.estimate import Charge, Estimate, Term, add_up, decimal_or_none, fixed
from orbatch_provider.requests import TextRequest

# Tokens that frame a message (its role, its beginning and end), and the reply. Templates differ by model and are not
# published with the price: these are assumptions, meant to be too large.
MESSAGE_TOKENS = 16
REQUEST_TOKENS = 32

# Fields that make the service do, and charge, more than the price list of the model says.
_EXTRAS = {
    "plugins": "plugins are billed apart",
    "web_search_options": "web search is billed apart",
    "models": "another model may answer",
}
# Besides the messages, what is written into the prompt.
_PROMPTING = ("tools", "functions", "response_format")


def estimate_text(request: TextRequest, model: TextModel) -> Estimate:
    """What ``request`` costs at list price.

    A token has at least one byte, so the prompt has at most as many tokens as UTF-8 bytes, and some that frame its
    messages. The completion is taken to have at most ``max_tokens``, reasoning included: without it there is no upper
    bound, nor for what the price list does not cover (pictures in the messages, plugins, web search, varying prices).
    """
    gap = _gap(request, model)
    if gap:
        return Estimate(None, None, None, (), f"unpriced: {gap}")
    completion = _most_tokens(request)
    completion_usd = _dearest(model, _COMPLETION_LINES)
    parts = [
        _up_to(_prompt_tokens(request), "prompt", _dearest(model, _prompt_lines(request))),
        _up_to(completion or Decimal(0), "completion", completion_usd),
    ]
    fee = _rate(model.prices, "request")
    if fee:
        parts.append(fixed(Term(Decimal(1), "requests", fee, "request")))
    found = add_up(parts)
    if completion is None and completion_usd:
        return Estimate(found.low, None, None, found.lines, "no upper bound: max_tokens is not given")
    if found.low == found.high:
        return Estimate(found.low, found.low, found.high, found.lines, found.why)
    why = f"{found.why}; the prompt pluralize at one token per byte, and {MESSAGE_TOKENS} per message"
    return Estimate(found.low, None, found.high, found.lines, why)


_COMPLETION_LINES = ("completion", "internal_reasoning")


def _prompt_lines(request: TextRequest) -> Sequence[str]:
    return ("prompt", "input_cache_write") if "cache_control" in json.dumps(request.body()) else ("prompt",)


def _up_to(count: Decimal, line: str, usd: Decimal) -> Charge:
    none, most = (Term(quantity, "tokens", usd, line) for quantity in (Decimal(0), count))
    return Charge(none, None, most, frozenset({line}))


def _dearest(model: TextModel, lines: Sequence[str]) -> Decimal:
    """The highest rate of these lines, under whatever conditions."""
    return max(_rate(prices, line) or Decimal(0) for prices in (model.prices, *model.overrides) for line in lines)


def _rate(prices: Mapping[str, Any], line: str) -> Decimal | None:
    return decimal_or_none(prices.get(line))


def _gap(request: TextRequest, model: TextModel) -> str:
    """Why nothing can be said about the price; empty when something can."""
    for line in ("prompt", "completion"):
        rate = _rate(model.prices, line)
        if rate is None:
            return f"the catalog names no price for the {line}"
        if rate < 0:
            return f"the price of the {line} varies"
    for name, reason in _EXTRAS.items():
        if request.extra.get(name):
            return reason
    if model.id.endswith(":online"):
        return _EXTRAS["web_search_options"]
    kind = next((kind for kind in _other_parts(request) if kind != "text"), None)
    return "" if kind is None else f"the number of tokens of {kind} in a message is not known"


def _other_parts(request: TextRequest) -> Iterator[str]:
    for message in request.all_messages():
        content = message.get("content") if isinstance(message, Mapping) else None
        for part in content if isinstance(content, (list, tuple)) else ():
            yield str(part.get("type")) if isinstance(part, Mapping) else "something unknown"


def _most_tokens(request: TextRequest) -> Decimal | None:
    """Of all completions together."""
    limits = [request.max_tokens, request.extra.get("max_completion_tokens")]
    known = [number for number in map(decimal_or_none, limits) if number is not None and number > 0]
    replies = decimal_or_none(request.extra.get("n")) or Decimal(1)
    return max(known) * max(replies, Decimal(1)) if known else None


def _prompt_tokens(request: TextRequest) -> Decimal:
    messages = request.all_messages()
    body = request.body()
    texts = [json.dumps(body[name], ensure_ascii=False) for name in _PROMPTING if body.get(name)]
    texts += [_written(message) for message in messages]
    count = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    return Decimal(count + MESSAGE_TOKENS * len(messages) + REQUEST_TOKENS)


def _written(message: Mapping[str, Any]) -> str:
    """What of a message is written into the prompt: all its texts, and as JSON what is more than text."""
    content = message.get("content")
    rest = {name: value for name, value in message.items() if name not in ("role", "content")}
    more = json.dumps(rest, ensure_ascii=False) if rest else ""
    return more + (content if isinstance(content, str) else json.dumps(content, ensure_ascii=False))
