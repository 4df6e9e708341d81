"""A promptfoo configuration as a batch file: its prompts, the variables of its tests, and its OpenRouter providers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_PROVIDER = "openrouter:"
_ID = re.compile(r"[^A-Za-z0-9_-]+")


class PromptfooError(ValueError):
    """A configuration that cannot be a batch; ``str()`` says why."""


def batch_from_promptfoo(data: object, base: Path, kinds: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The batch file, and what was left out. ``base``: directory of ``file://`` prompts. ``kinds``: of the models that
    are not for texts. Raises PromptfooError."""
    if not isinstance(data, Mapping):
        raise PromptfooError("it is not a mapping")
    left_out: list[str] = []
    models = list(_models(data.get("providers") or data.get("targets"), left_out))
    if not models:
        raise PromptfooError(f"it names no provider that begins with {_PROVIDER}")
    prompts = [text for entry in _list(data.get("prompts")) for text in _prompt(entry, base, left_out)]
    if not prompts:
        raise PromptfooError("it has no prompts")
    default = data.get("defaultTest")
    shared = default.get("vars") if isinstance(default, Mapping) else None
    tests = [test for test in _list(data.get("tests")) if isinstance(test, Mapping)] or [{}]
    if any("assert" in test for test in tests):
        left_out.append("assertions")
    found = {kinds.get(model, "text") for model in models}
    defaults: dict[str, Any] = {"kind": found.pop()} if len(found) == 1 else {}
    if defaults.get("kind") == "text":
        defaults["max_tokens"] = 1000  # without it there is no upper price
    name = _ID.sub("-", str(data.get("description") or "promptfoo"))[:60].strip("-") or "promptfoo"
    return {
        "name": name,
        "defaults": defaults,
        "models": [m if defaults else {"model": m, "kind": kinds.get(m, "text")} for m in models],
        "prompts": list(_entries(prompts, tests, dict(shared or {}))),
    }, left_out


def _models(providers: object, left_out: list[str]) -> Iterator[str]:
    for provider in _list(providers):
        name = provider.get("id") if isinstance(provider, Mapping) else provider
        if isinstance(name, str) and name.startswith(_PROVIDER):
            yield name.removeprefix(_PROVIDER)
        else:
            left_out.append(f"provider {name}")


def _prompt(entry: object, base: Path, left_out: list[str]) -> Iterator[str]:
    text = (entry.get("raw") or entry.get("id")) if isinstance(entry, Mapping) else entry
    if not isinstance(text, str):
        left_out.append(f"prompt {entry!r}")
    elif not text.startswith("file://"):
        yield text
    elif (path := base / text.removeprefix("file://")).suffix == ".txt" and path.is_file():
        yield from (part.strip() for part in path.read_text("utf-8").split("\n---\n"))
    else:
        left_out.append(f"prompt {text}")


def _entries(prompts: list[str], tests: list[Mapping[str, Any]], shared: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A prompt with the variables of a test; a list among these makes every combination in both programs."""
    used: set[str] = set()
    for at, text in enumerate(prompts, 1):
        for number, test in enumerate(tests, 1):
            variables = shared | dict(test.get("vars") or {})
            name = (
                _ID.sub("-", str(test.get("description") or f"p{at}-t{number}"))[:80].strip("-") or f"p{at}-t{number}"
            )
            name = f"p{at}-{name}" if name in used else name
            used.add(name)
            yield {"id": name, "prompt": text, **({"vars": variables} if variables else {})}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
