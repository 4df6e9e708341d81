"""Which settings go with which kind of job, in a batch that may mix kinds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orbatch.batchfile.errors import Report
from orbatch.batchfile.fields import KINDS, foreign, foreign_message, kinds_with
from orbatch.batchfile.items import ModelItem, PromptItem
from orbatch.batchfile.settings import kind_of


def check_kinds(
    defaults: Mapping[str, Any],
    default_lines: Mapping[str, int],
    models: Sequence[ModelItem],
    prompts: Sequence[PromptItem],
    report: Report,
) -> None:
    """Reports settings that no job can use, and models and prompts of different kinds that would meet."""
    kinds: set[str] = set()
    for item in prompts:
        for model in models:
            if item.models is None or model.model in item.models:
                kinds.add(pair_kind(defaults, model, item, report))
    if kinds:
        check_defaults(defaults, default_lines, kinds, report)


def pair_kind(defaults: Mapping[str, Any], model: ModelItem, item: PromptItem, report: Report) -> str:
    """The kind of the jobs of a prompt with a model; what does not go together is reported."""
    kind = kind_of(defaults, model.settings, item.settings)
    of_model = model.settings.get("kind")
    about = report.about(item.file, report.base)
    if of_model is not None and of_model != kind:
        about.add(
            item.line,
            f"{item.key}.kind",
            f"is {kind}, and {model.model} is there for {of_model}; say with models which ones the prompt is for",
        )
        return kind
    # Beside a kind of its own it was reported with the line of the key.
    for name in foreign(model.settings, kind) if of_model is None else ():
        report.add(model.line, f"models.{name}", f"{foreign_message(name, kind)} ({model.model})")
    for name in foreign(item.settings, kind) if item.settings.get("kind") is None else ():
        about.add(item.line, f"{item.key}.{name}", f"{foreign_message(name, kind)} ({model.model})")
    return kind


def check_defaults(defaults: Mapping[str, Any], lines: Mapping[str, int], kinds: Iterable[str], report: Report) -> None:
    """Reports defaults that are of a kind of which the batch has no job."""
    present = [kind for kind in KINDS if kind in set(kinds)]
    only = " and ".join(present)
    for name in defaults:
        if name != "kind" and not any(name in KINDS[kind] for kind in present):
            message = f"is a setting of {' and '.join(kinds_with(name))} jobs, and this batch has only {only} jobs"
            report.add(lines.get(name) or lines.get(_FORMS.get(name, "")), f"defaults.{name}", message)


# The lines are of the keys as they were written, which are normalised since.
_FORMS = {"first_frame": "image_url", "input_references": "references"}
