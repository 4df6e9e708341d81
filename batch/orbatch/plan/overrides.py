"""Caps and limits that ``orbatch set`` gives a batch in place of those in its file: names, checks, and the effect."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from pydantic import ValidationError

from orbatch.batchfile.models import LimitsConfig
from orbatch.ledger import Caps
from orbatch.money import parse_usd, to_nano

PER_MODEL = "budget.per_model_usd."
_CAPS = {"budget.total_usd": "total", "budget.per_job_usd": "per_job", "budget.per_day_usd": "per_day"}
_LIMITS = {f"limits.{field.name}": field.name for field in fields(LimitsConfig) if field.name != "models"}


def overridden(caps: Caps, limits: LimitsConfig, settings: Mapping[str, str]) -> tuple[Caps, LimitsConfig]:
    """``caps`` and ``limits`` with these settings. Raises ValueError with a sentence for one that is not allowed."""
    for name, text in settings.items():
        if name in _CAPS:
            change: dict[str, Any] = {_CAPS[name]: _amount(name, text)}
            caps = replace(caps, **change)
        elif name.startswith(PER_MODEL) and len(name) > len(PER_MODEL):
            model = name.removeprefix(PER_MODEL)
            caps = replace(caps, per_model={**caps.per_model, model: _amount(name, text)})
        elif name in _LIMITS:
            limits = _limited(limits, name, text)
        else:
            known = [*_CAPS, *_LIMITS, f"{PER_MODEL}MODEL"]
            near = difflib.get_close_matches(name, known, n=1)
            guess = f" Did you mean {near[0]}?" if near else ""
            raise ValueError(f"{name} cannot be set.{guess} Choose from: {', '.join(known)}.")
    return caps, limits


def _amount(name: str, text: str) -> int:
    try:
        return to_nano(parse_usd(text))
    except ValueError as exc:
        raise ValueError(f"{name}: {exc}.") from exc


def _limited(limits: LimitsConfig, name: str, text: str) -> LimitsConfig:
    change: dict[str, Any] = {_LIMITS[name]: int(text) if text.isascii() and text.isdigit() else text}
    try:
        return replace(limits, **change)
    except ValidationError as exc:
        raise ValueError(f"{name}: {text} is not allowed. {exc.errors()[0]['msg']}.") from exc
