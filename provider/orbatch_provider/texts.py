"""One text request: the text in the answer, why it ends where it does, and what was paid for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orbatch_provider.errors import (
    UNKNOWN_ADVICE,
    ConfigurationError,
    InvalidResponseError,
    UnusableResultError,
    redact,
)
from orbatch_provider.http.decode import Answer, error_inside, read_json
from orbatch_provider.http.transport import Transport
from orbatch_provider.requests import TextRequest
from orbatch_provider.responses import Usage

_UNKNOWN = f"Whether it was paid for is unknown: {UNKNOWN_ADVICE} It began"


@dataclass(frozen=True, slots=True)
class TextResult:
    """What a text request brought. ``finish_reason``: stop, length (``max_tokens`` was reached), content_filter, or a
    word of tomorrow. ``generation_id`` is the answer's id. ``raw``: the whole answer."""

    text: str
    finish_reason: str | None
    usage: Usage | None
    generation_id: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def json(self) -> Any:
        """The text as JSON. Raises ValueError when it is none."""
        return json.loads(self.text)


async def complete(transport: Transport, request: TextRequest) -> TextResult:
    """Send the request, once; see ``complete_text`` of the provider."""
    if request.extra.get("stream"):
        raise ConfigurationError("Streamed text is not read here; leave stream out. Nothing was sent.")
    answer = await transport.submit("/chat/completions", request.to_json(), kind="text")
    return _result(answer, read_json(answer))


def _result(answer: Answer, data: object) -> TextResult:
    if not isinstance(data, Mapping):
        raise InvalidResponseError(f"The answer to a text request is no JSON object. {_UNKNOWN}", detail=repr(data))
    usage, generation_id = Usage.from_result(data.get("usage")), _word(data.get("id"))
    choice = _first(data.get("choices"))
    error = data.get("error") or choice.get("error")
    finish_reason = _word(choice.get("finish_reason"))
    if isinstance(error, Mapping) and usage is None:
        raise error_inside(answer, error)
    if not choice and usage is None:
        raise InvalidResponseError(f"The answer to a text request has no choices. {_UNKNOWN}", detail=repr(dict(data)))
    if error or finish_reason == "error" or not choice:
        said = error.get("message") if isinstance(error, Mapping) else error
        why = f": {redact(str(said))}" if said else "" if choice else ": there was none in the answer"
        raise UnusableResultError(
            f"The model gave no text{why}", usage=usage, generation_id=generation_id, raw=dict(data)
        )
    message = choice.get("message")
    content = message.get("content") if isinstance(message, Mapping) else None
    return TextResult(_text(content), finish_reason, usage, generation_id, dict(data))


def _text(content: object) -> str:
    """The content, which may come in parts; empty when the model spent all its tokens on thinking."""
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, Mapping))
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _first(choices: object) -> Mapping[str, Any]:
    choice = choices[0] if isinstance(choices, list) and choices else None
    return choice if isinstance(choice, Mapping) else {}


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
