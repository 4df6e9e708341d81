"""What a text model does not support in a request, before it is paid for and the wish is dropped."""

from __future__ import annotations

import math
from collections.abc import Mapping

from orbatch_provider.catalog.checks import Problem
from orbatch_provider.catalog.models import number_of
from orbatch_provider.catalog.textmodels import TextModel
from orbatch_provider.requests import TextRequest

MAX_TEMPERATURE = 2

# Fields that a model lists among its parameters, or drops without a word.
_BY_MODEL = ("max_tokens", "temperature", "seed")
_FORMATS = {"text": None, "json_object": "response_format", "json_schema": "structured_outputs"}


def check_text(request: TextRequest, model: TextModel) -> list[Problem]:
    """All that ``model`` does not support in ``request``; [] when it fits.

    Where the record lists no parameters it refuses nothing. Whether the prompt fits the model's context is not
    checked: its tokens are not known here.
    """
    problems = [*_messages(request), *_numbers(request, model), *_format(request)]
    if request.extra.get("stream"):
        problems.append(Problem("stream", True, "text is not read from a stream; leave it out"))
    if model.capabilities is None:
        return problems
    kind = _format_of(request)
    needs = _FORMATS.get(kind or "")
    if needs is not None and needs not in model.capabilities:
        problems.append(Problem("response_format", kind, f"{model.id} does not promise {kind} answers"))
    return problems + [
        Problem(name, getattr(request, name), f"{model.id} would drop it silently; leave it out")
        for name in _BY_MODEL
        if getattr(request, name) is not None and name not in model.capabilities
    ]


def _messages(request: TextRequest) -> list[Problem]:
    messages = request.all_messages()
    if not any(isinstance(item, Mapping) and item.get("content") and item.get("role") != "system" for item in messages):
        return [Problem("prompt", request.prompt, "is required")]
    return []


def _numbers(request: TextRequest, model: TextModel) -> list[Problem]:
    problems = []
    tokens, most = request.max_tokens, model.max_completion_tokens
    if tokens is not None and (isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1):
        problems.append(Problem("max_tokens", tokens, f"{tokens} is not a whole number of tokens above 0"))
    elif tokens is not None and most is not None and tokens > most:
        message = f"{model.id} writes at most {most}"
        problems.append(Problem("max_tokens", tokens, message, (f"1 to {most}",), str(most)))
    temperature = request.temperature
    if temperature is not None and not 0 <= (_number(temperature)) <= MAX_TEMPERATURE:
        problems.append(Problem("temperature", temperature, "is out of range", (f"0 to {MAX_TEMPERATURE}",)))
    return problems


def _format(request: TextRequest) -> list[Problem]:
    kind = _format_of(request)
    if request.response_format is None or kind in _FORMATS:
        return []
    return [Problem("response_format", kind, f"{kind} is no type of answer", tuple(_FORMATS))]


def _format_of(request: TextRequest) -> str | None:
    wanted = request.response_format
    if wanted is None:
        return None
    return str(wanted.get("type")) if isinstance(wanted, Mapping) else str(wanted)


def _number(value: object) -> float:
    number = number_of(value)
    return math.inf if number is None else number
