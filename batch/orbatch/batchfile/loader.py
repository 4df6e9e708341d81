"""A batch file as a value: all problems that show without the catalog are reported together."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from orbatch.batchfile.errors import Report, UnreadableError, did_you_mean, quoted
from orbatch.batchfile.explain import explain, refused_settings
from orbatch.batchfile.models import (
    BATCH,
    MODEL,
    PROMPT,
    ROWS,
    SETTINGS,
    BatchConfig,
    BatchFile,
    ModelItem,
    PicksOf,
    PromptFile,
    PromptItem,
)
from orbatch.batchfile.rows import find_prompt_file
from orbatch.batchfile.settings import ALL_KINDS, FIELDS, JOB_SETTINGS, KINDS, kind_of, merge
from orbatch.batchfile.templates import SAMPLE_NAMES, TemplateError, template
from orbatch.batchfile.yaml_loader import Map, Seq, lines_of, load_yaml

T = TypeVar("T")

_CHECKED = 100  # settings of prompts that one model remembers to be compatible


def load_config(path: Path) -> BatchConfig:
    """The batch in the YAML file at ``path``. Raises ConfigError with all of its problems."""
    report = Report(path)
    try:
        root, digest = load_yaml(path, report)
    except UnreadableError as error:
        report.add(error.line, "", str(error))
        report.raise_any()
        raise  # never: there is a problem
    batch = None
    try:
        batch = BATCH.validate_python(root, context=report.base)
    except ValidationError as error:
        explain(error, BATCH, root, report)
    if not isinstance(root, Map):  # which is a problem, and has no parts
        report.raise_any()
    parts = _Parts(root, batch, report)
    parts.check()
    report.raise_any()
    assert batch is not None
    output_dir = path.absolute().parent / Path(batch.output_dir or f"outputs/{batch.name}").expanduser()
    return BatchConfig(
        path=path,
        sha256=digest,
        name=batch.name,
        output_dir=Path(os.path.normpath(output_dir)),  # not resolve(): a symlink on the way is the user's choice
        filename=batch.filename,
        defaults={} if batch.defaults is None else batch.defaults.given(),
        models=parts.models,
        prompts=parts.prompts,
        prompts_from=parts.prompt_file,
        picks_of=None if batch.from_ is None else PicksOf(batch.from_.batch, root.lines["from"]),
        seeds=tuple(batch.seeds),
        repeat=batch.repeat,
        duplicates=batch.duplicates,
        budget=batch.budget,
        limits=batch.limits,
        polling=batch.polling,
        retries=batch.retries,
        filename_line=root.lines.get("filename"),
        default_lines=lines_of(root.get("defaults")),
    )


class _Parts:
    """The parts of a file that are valid by themselves, for the checks between them.

    pydantic gives nothing of a file with a problem, so then each part is validated once more: the checks must find the
    other problems, too.
    """

    def __init__(self, root: Map, batch: BatchFile | None, report: Report) -> None:
        self._root = root
        self._batch = batch
        self._report = report
        self.models = tuple(
            ModelItem(entry, {}, line, f"models[{at}]", {})
            if isinstance(entry, str)
            else ModelItem(entry.model, entry.given(), line, f"models[{at}]", raw.lines)
            for at, line, raw, entry in self._entries("models", MODEL)
        )
        self.prompts = tuple(
            PromptItem.of(
                entry, f"p{at}", line, f"prompts[{at}]", report.file, lines_of(raw), is_template=self._is_template
            )
            for at, line, raw, entry in self._entries("prompts", PROMPT)
        )
        self.prompt_file: PromptFile | None = None

    @property
    def _is_template(self) -> bool:
        return self._root.get("template") is not False

    def _entries(self, name: str, adapter: TypeAdapter[Any]) -> Iterator[tuple[int, int, Any, Any]]:
        """Position from 1, line, raw and validated value of the valid items of a list."""
        raws = self._root.get(name)
        valid = None if self._batch is None else getattr(self._batch, name)
        if not isinstance(raws, Seq):
            return
        for at, (raw, line) in enumerate(zip(raws, raws.lines, strict=True)):
            entry = self._valid(adapter, raw) if valid is None else valid[at]
            if entry is not None:
                yield at + 1, line, raw, entry

    def _valid(self, adapter: TypeAdapter[T], raw: Any) -> T | None:
        try:
            return adapter.validate_python(raw, context=self._report.base)
        except ValidationError:
            return None  # reported with the whole file

    def check(self) -> None:
        """Reports the problems that concern several keys, and finds the file of ``prompts_from``."""
        root, report = self._root, self._report
        given = root.keys() & {"prompts", "prompts_from", "from"}
        if not given:
            text = (
                "is missing: give prompts, a file of them in prompts_from, or from with what is picked of another batch"
            )
            report.add(root.line, "prompts", text)
        if "from" in given and len(given) > 1:
            report.add(root.lines["from"], "from", "takes the place of prompts and prompts_from; remove one of them")
        settings = self._valid(SETTINGS, root.get("defaults") or {})
        defaults = None if settings is None else settings.given()
        if root.get("seeds") and (defaults or {}).get("seed") is not None:
            report.add(root.lines["seeds"], "seeds", "defaults.seed is given as well; use one of them")
        known = list(dict.fromkeys(model.model for model in self.models))
        self._check_prompts(known)
        if known:  # without models there is a problem already
            self._check_model_keys("limits", "models", known)
            self._check_model_keys("budget", "per_model_usd", known)
        if "prompts_from" in root:  # rows may be of any kind, so that kinds are checked when they are read
            self._find_prompt_file(root["prompts_from"])
        elif defaults is not None:
            self._check_kinds(defaults)

    def _find_prompt_file(self, raw: Any) -> None:
        entry = None if raw is None else self._valid(ROWS, raw)
        if entry is not None:
            defaults = self._root.get("defaults")
            defaults = defaults if isinstance(defaults, Map) else {}
            kinds = ALL_KINDS & {kind_of(defaults, model.settings) for model in self.models}
            line = self._root.lines["prompts_from"]
            is_template = self._is_template if entry.template is None else entry.template
            self.prompt_file = find_prompt_file(entry, kinds, line, self._report, is_template=is_template)

    def _check_prompts(self, known: Collection[str]) -> None:
        first: dict[str, PromptItem] = {}
        for item in self.prompts:
            other = first.setdefault(item.id, item)
            if other is not item:
                message = f"'{item.id}' is the id of {other.key} (line {other.line}) as well"
                self._report.add(item.line, f"{item.key}.id", message)
            if known:
                check_models(item, known, self._report)
            self._check_templates(item)

    def _check_model_keys(self, section: str, key: str, known: Collection[str]) -> None:
        holder = self._root.get(section)
        names = holder.get(key) if isinstance(holder, Map) else None
        for model, line in lines_of(names).items():
            if model.removeprefix("openrouter/") not in known:
                self._report.add(line, f"{section}.{key}.{model}", _not_among(model, known))

    def _check_templates(self, item: PromptItem) -> None:
        """Renders the prompt and a file name with its first values, which shows a misspelt variable."""
        variables = next(item.combinations())
        try:
            item.render(variables)
        except TemplateError as error:
            self._report.add(item.line, f"{item.key}.prompt", str(error))
        filename = self._root.get("filename")
        try:
            template(filename if isinstance(filename, str) else "")({**SAMPLE_NAMES, **variables})
        except TemplateError as error:
            self._report.add(self._root.lines["filename"], "filename", f"for prompt '{item.id}': {error}")

    def _check_kinds(self, defaults: Mapping[str, Any]) -> None:
        lines = lines_of(self._root.get("defaults"))
        checks = [ModelCheck(model, defaults, lines) for model in self.models]
        kinds = {
            check.kind_with(item, self._report)
            for item in self.prompts
            for check in checks
            if item.models is None or check.model in item.models
        }
        if kinds:
            check_defaults(defaults, lines, kinds, self._report)


def check_models(item: PromptItem, known: Collection[str], report: Report) -> None:
    """Reports models of a prompt that are not among the batch's."""
    for model in sorted((item.models or frozenset()) - set(known)):
        report.add(item.line, f"{item.key}.models", f"{quoted(model)} {_not_among(model, known)}")


def _not_among(model: str, known: Collection[str]) -> str:
    near = did_you_mean(model, known) or f"; allowed: {', '.join(known)}"
    return f"is not among the batch's models{near}"


# -- kinds -------------------------------------------------------------------------------------------------------------


class ModelCheck:
    """Checks the merged settings of a model and the prompts it meets. Prompts that share settings are checked once."""

    def __init__(self, item: ModelItem, defaults: Mapping[str, Any], default_lines: Mapping[str, int]) -> None:
        self.model = item.model
        self._item = item
        self._defaults = defaults
        self._default_lines = default_lines
        self._checked: dict[int, Mapping[str, Any]] = {}

    def kind_with(self, prompt: PromptItem, report: Report) -> str:
        """The kind of the model's jobs for a prompt; settings that are not of that kind are reported."""
        kind = kind_of(self._defaults, self._item.settings, prompt.settings)
        of_model = self._item.settings.get("kind")
        if of_model is not None and of_model != kind:
            message = f"is {kind}, but {self.model} is here for {of_model}; name the models of the prompt in models"
            report.about(prompt.file).add(prompt.line, f"{prompt.key}.kind", message)
            return kind
        # By identity, which is kept alive here: rows of a file share their settings, and comparing costs as much.
        is_known = self._checked.get(id(prompt.settings)) is prompt.settings
        if not is_known and self._are_valid(kind, prompt, report):
            if len(self._checked) >= _CHECKED:
                self._checked.clear()
            self._checked[id(prompt.settings)] = prompt.settings
        return kind

    def _are_valid(self, kind: str, prompt: PromptItem, report: Report) -> bool:
        settings = merge(kind, self._defaults, self._item.settings, prompt.settings) | {"kind": kind}
        try:
            JOB_SETTINGS.validate_python(settings, context=report.base)
        except ValidationError as error:
            for name, message in refused_settings(error, JOB_SETTINGS, settings):
                self._report(name, message or self._foreign(name, kind, prompt), prompt, report)
            return False
        return True

    def _foreign(self, name: str, kind: str, prompt: PromptItem) -> str:
        level = prompt.settings if name in prompt.settings else self._item.settings
        about = "" if level.get("kind") else f" ({self.model})"  # beside a kind of its own, the model is not the reason
        return f"is a setting of {_kinds_with(name)} jobs, and this is for {kind}{about}"

    def _report(self, name: str, message: str, prompt: PromptItem, report: Report) -> None:
        """Reports a setting at the level that gave it."""
        if name in prompt.settings:
            line, key = (prompt.lines or {}).get(name, prompt.line), f"{prompt.key}.{name}"
            report.about(prompt.file).add(line, key, message)
        elif name in self._item.settings:
            report.add(self._item.lines.get(name, self._item.line), f"{self._item.key}.{name}", message)
        else:
            report.add(self._default_lines.get(name), f"defaults.{name}", message)


def check_defaults(
    defaults: Mapping[str, Any], lines: Mapping[str, int], kinds: Collection[str], report: Report
) -> None:
    """Reports defaults of a kind that no job of the batch has."""
    present = [kind for kind in KINDS if kind in kinds]
    for name in defaults.keys() - {"kind"}:
        if not any(name in FIELDS[kind] for kind in present):
            line = lines.get(name, lines.get("references" if name == "input_references" else "frame_images"))
            only = f"is a setting of {_kinds_with(name)} jobs, and this batch has only {' and '.join(present)} jobs"
            report.add(line, f"defaults.{name}", only)


def _kinds_with(name: str) -> str:
    return " and ".join(kind for kind in KINDS if name in FIELDS[kind])
