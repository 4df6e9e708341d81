"""One text request: the text in the response, why it ends where it does, and what was charged for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orbatch_provider.errors import UNKNOWN_ADVICE, ConfigurationError, InvalidResponseError, redact
from orbatch_provider.http.decode import ApiResponse, error_inside, read_json
from orbatch_provider.http.transport import Transport
from orbatch_provider.requests import TextRequest
from orbatch_provider.responses import UnusableResultError, Usage, text_or_none


@dataclass(frozen=True, slots=True)
class TextResult:
    """What a text request returned. ``finish_reason``: stop, length (``max_tokens`` was reached), content_filter, or a
    new one. ``generation_id`` is the response's id. ``raw``: the whole response."""

    text: str
    finish_reason: str | None
    usage: Usage | None
    generation_id: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def json(self) -> Any:
        """The text as JSON. Raises ValueError when it is not."""
        return json.loads(self.text)


async def complete(transport: Transport, request: TextRequest) -> TextResult:
    """Send the request, once; see ``complete_text`` of the provider."""
    if request.extra.get("stream"):
        raise ConfigurationError("Streamed text is not supported; remove stream. Nothing was sent.")
    response = await transport.submit("/chat/completions", request.to_json(), kind="text")
    return _result(response, read_json(response))


def _result(response: ApiResponse, data: object) -> TextResult:
    if not isinstance(data, Mapping):
        raise _unreadable("is not a JSON object", data)
    usage, generation_id = Usage.from_result(data.get("usage")), text_or_none(data.get("id"))
    choice = _first(data.get("choices"))
    error = data.get("error") or choice.get("error")
    finish_reason = text_or_none(choice.get("finish_reason"))
    # With a usage it is known what was charged; without one, only the error can tell.
    if isinstance(error, Mapping) and usage is None:
        raise error_inside(response, error)
    if not choice and usage is None:
        raise _unreadable("has no choices", dict(data))
    if error or finish_reason == "error" or not choice:
        reason = error.get("message") if isinstance(error, Mapping) else error
        why = f": {redact(str(reason))}" if reason else "" if choice else ": the response has no choices"
        raise UnusableResultError(
            f"The model returned no text{why}", usage=usage, generation_id=generation_id, raw=dict(data)
        )
    message = choice.get("message")
    content = message.get("content") if isinstance(message, Mapping) else None
    return TextResult(_text(content), finish_reason, usage, generation_id, dict(data))


def _unreadable(problem: str, data: object) -> InvalidResponseError:
    return InvalidResponseError(f"The response to a text request {problem}", detail=repr(data), advice=UNKNOWN_ADVICE)


def _text(content: object) -> str:
    """The content, which may come in parts; empty when the model spent all its tokens on reasoning."""
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, Mapping))
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _first(choices: object) -> Mapping[str, Any]:
    choice = choices[0] if isinstance(choices, list) and choices else None
    return choice if isinstance(choice, Mapping) else {}
