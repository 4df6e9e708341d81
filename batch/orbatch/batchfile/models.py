"""A batch file as a value. ``load_config`` checks everything that can be known without the prompt files and without
the catalog, and reports all of its problems at once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from orbatch.batchfile.errors import ConfigError, ConfigProblem, Report, did_you_mean
from orbatch.batchfile.fields import SEED, settings_fields
from orbatch.batchfile.items import (
    ModelItem,
    ModelRule,
    PromptItem,
    PromptRule,
    SettingsRule,
    check_models,
    numbered,
    rendered,
)
from orbatch.batchfile.mixing import check_kinds
from orbatch.batchfile.rows import PromptFile, PromptFileRule, check_start
from orbatch.batchfile.rules import Choice, Money, Number, Template, Text, Whole
from orbatch.batchfile.sections import Field, ListOf, MapOf, Section, key, section_of
from orbatch.batchfile.settings import kind_of
from orbatch.batchfile.templates import TemplateError, template
from orbatch.batchfile.yaml_loader import Node, read_yaml
from orbatch.plan.filenames import DEFAULT_FILENAME, SAMPLE_NAMES

__all__ = [
    "BatchConfig",
    "BudgetConfig",
    "ConfigError",
    "ConfigProblem",
    "LimitsConfig",
    "ModelItem",
    "ModelLimits",
    "PollingConfig",
    "PromptFile",
    "PromptItem",
    "RetriesConfig",
    "config_schema",
    "load_config",
]

RETRYABLE = ("failed", "cancelled", "expired")
_PATH = Text("a path", r"[^\x00-\x1f]+", most=1000)


@dataclass(frozen=True, slots=True)
class BudgetConfig:
    """Caps in USD; None is no cap. ``unpriced``: what to reserve for a job whose price is unknown, None refuses it."""

    total_usd: Decimal | None = field(default=None, metadata=key(Money(), "what this batch may cost in all"))
    per_job_usd: Decimal | None = field(default=None, metadata=key(Money(), "what one job may cost at most"))
    per_day_usd: Decimal | None = field(
        default=None, metadata=key(Money(), "what all batches of the ledger together may cost in one day (UTC)")
    )
    per_model_usd: Mapping[str, Decimal] = field(
        default_factory=dict, metadata=key(MapOf(Money()), "what the jobs of one model may cost in all, by model")
    )
    unpriced: Decimal | None = field(
        default=None,
        metadata=key(
            Money("refuse"), "jobs without a known price: refuse, or an amount in USD to reserve for each", "refuse"
        ),
    )


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """Limits of one model, within those of the account; None leaves it to the latter."""

    in_flight: int | None = field(
        default=None, metadata=key(Whole(1, 10_000), "accepted and unfinished jobs of this model")
    )
    submits_per_minute: int | None = field(
        default=None, metadata=key(Whole(1, 10_000), "submits of this model in a minute")
    )


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """How hard the API is worked, per account."""

    in_flight: int = field(default=16, metadata=key(Whole(1, 10_000), "accepted and unfinished jobs at a time"))
    submits_per_minute: int = field(default=30, metadata=key(Whole(1, 10_000), "submits in a minute"))
    polls_per_second: int = field(default=10, metadata=key(Whole(1, 1000), "status requests in a second"))
    downloads: int = field(default=4, metadata=key(Whole(1, 100), "downloads at a time"))
    models: Mapping[str, ModelLimits] = field(
        default_factory=dict,
        metadata=key(MapOf(section_of(ModelLimits)), "in_flight and submits_per_minute of one model, by model"),
    )


@dataclass(frozen=True, slots=True)
class PollingConfig:
    """Seconds. ``timeout`` ends the waiting of one run, not the job: the next run goes on."""

    interval: float = field(
        default=30,
        metadata=key(
            Number(least=0.1, most=3600),
            "seconds between two looks at one job; one job is never asked for faster than every 2 s",
        ),
    )
    timeout: float = field(
        default=1800, metadata=key(Number(least=1, most=604_800), "seconds to wait for one job in one run")
    )


@dataclass(frozen=True, slots=True)
class RetriesConfig:
    """``attempts`` is the total number, the first one included; every one may cost money."""

    attempts: int = field(default=1, metadata=key(Whole(1, 10), "attempts in all; each may cost money"))
    on: frozenset[str] = field(
        default=frozenset({"failed", "expired"}),
        metadata=key(
            ListOf(Choice(RETRYABLE), distinct=True),
            "how a job must have ended at the provider to be tried again",
            ["failed", "expired"],
        ),
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "on", frozenset(self.on))


@dataclass(frozen=True, slots=True)
class BatchConfig:
    """A batch file, checked. Paths are absolute; model ids have no ``openrouter/`` prefix.

    ``sha256``: of the file's bytes. ``defaults`` and the settings of models and prompts are normalised request fields,
    to be merged in that order; a None among them means "do not send". ``filename_line`` and ``default_lines``: for
    problems that show only when the jobs are made.
    """

    path: Path
    sha256: str
    name: str
    output_dir: Path
    filename: str = DEFAULT_FILENAME
    defaults: Mapping[str, Any] = field(default_factory=dict)
    models: tuple[ModelItem, ...] = ()
    prompts: tuple[PromptItem, ...] = ()
    prompts_from: PromptFile | None = None
    seeds: tuple[int, ...] = ()
    repeat: int = 1
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    polling: PollingConfig = field(default_factory=PollingConfig)
    retries: RetriesConfig = field(default_factory=RetriesConfig)
    uncertain: Literal["hold", "resubmit"] = "hold"
    filename_line: int | None = None
    default_lines: Mapping[str, int] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The kind of jobs that say nothing themselves."""
        return kind_of(self.defaults)

    @property
    def file(self) -> str:
        """The file as the user named it."""
        return str(self.path)


_NAME = Text(
    "letters, digits, - and _, beginning with a letter or digit, at most 64", r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
)

BATCH_FIELDS: Mapping[str, Field] = {
    "name": Field(_NAME, "name of the batch: its jobs are kept under it in the ledger", required=True),
    "output_dir": Field(_PATH, "folder for the results, relative to this file", default="outputs/NAME"),
    "filename": Field(
        Template(Text("a template", most=500, numbers=False)),
        "template of the files' names; a / makes folders; the extension is added",
        default=DEFAULT_FILENAME,
    ),
    "defaults": Field(SettingsRule(), "request fields for every job"),
    "models": Field(ListOf(ModelRule(), most=1000), "model ids, or ids with settings of their own", required=True),
    "prompts": Field(ListOf(PromptRule()), "texts, or texts with ids, variables and settings"),
    "prompts_from": Field(PromptFileRule(), "file with more prompts: csv, tsv, jsonl, txt or yaml"),
    "seeds": Field(
        ListOf(SEED, most=10_000, distinct=True),
        "one job per seed; a seed at a model or a prompt goes before it",
    ),
    "repeat": Field(Whole(1, 1000), "buy every request this many times", default=1),
    "budget": Field(section_of(BudgetConfig), "caps on what may be spent"),
    "limits": Field(section_of(LimitsConfig), "how many jobs and requests at a time"),
    "polling": Field(section_of(PollingConfig), "when to look at a running job"),
    "retries": Field(section_of(RetriesConfig), "what to do when a job ends without a result"),
    "uncertain": Field(
        Choice(("hold", "resubmit")),
        "a submit whose answer was lost: hold it until `orbatch resolve`, or buy it again, perhaps twice",
        default="hold",
    ),
}

BATCH = Section(
    BATCH_FIELDS,
    hints=dict.fromkeys(settings_fields(), "is a setting of jobs; put it under defaults, a model or a prompt")
    | {"prompt": "is a setting of one prompt; put it in the list under prompts"}
    | {"model": "is a setting of one model; put it in the list under models"}
    | {"api_key": "does not belong in a batch file; set the environment variable OPENROUTER_API_KEY"},
)


def load_config(path: Path) -> BatchConfig:
    """The batch in the YAML file at ``path``; raises ConfigError with all of its problems."""
    report = Report(str(path), path.parent)
    loaded = read_yaml(path, report)
    if loaded is None:
        report.raise_any()
        raise AssertionError("a file that cannot be read is always a problem")
    root, digest = loaded
    if root.value is None:
        report.add(root.line, "", "is empty; `orbatch init` writes a file to start from")
        report.raise_any()
    values = BATCH.read_keys(root, "", report)
    models = tuple(model for model in values.get("models") or () if model is not None)
    prompts = numbered(values.get("prompts") or ())
    _check_sources(root, report)
    _check_seeds(values, root, report)
    _check_names(prompts, models, values, root, report)
    _check_templates(prompts, values, root, report)
    default_lines = _key_lines(root, "defaults")
    if values.get("prompts_from") is not None:
        values["prompts_from"] = _prompt_file(values["prompts_from"], values, models, report)
    elif "prompts_from" not in values:  # its rows may be of any kind
        present = [item for item in prompts if item is not None]
        check_kinds(values.get("defaults") or {}, default_lines, models, present, report)
    report.raise_any()
    values |= {
        "output_dir": _output_dir(path, values.get("output_dir") or f"outputs/{values['name']}"),
        "models": models,
        "prompts": tuple(item for item in prompts if item is not None),
        "seeds": tuple(values.get("seeds", ())),
    }
    filename_line = root.key_lines.get("filename")
    return BatchConfig(path=path, sha256=digest, filename_line=filename_line, default_lines=default_lines, **values)


def _prompt_file(source: PromptFile, values: Values, models: Sequence[ModelItem], report: Report) -> PromptFile:
    """The prompt file, whose columns are settings of the kinds that its rows may be."""
    kinds = frozenset(kind_of(values.get("defaults") or {}, model.settings) for model in models)
    source = replace(source, kinds=kinds)
    check_start(source, report)
    return source


def _key_lines(root: Node, name: str) -> Mapping[str, int]:
    """The line of each key of a mapping in the file."""
    section = root.value.get(name) if isinstance(root.value, dict) else None
    return section.key_lines if section is not None else {}


def _output_dir(path: Path, text: str) -> Path:
    return Path(os.path.normpath(path.absolute().parent / Path(text).expanduser()))


def config_schema() -> dict[str, Any]:
    """The JSON Schema of a batch file, made from the rules that check it."""
    from orbatch.batchfile.reference import config_schema as described  # it describes this module

    return described()


Values = Mapping[str, Any]
Prompts = Sequence[PromptItem | None]


def _check_sources(root: Node, report: Report) -> None:
    if isinstance(root.value, dict) and not root.value.keys() & {"prompts", "prompts_from"}:
        report.add(root.line, "prompts", "is missing: give prompts, or a file of them in prompts_from")


def _check_seeds(values: Values, root: Node, report: Report) -> None:
    if values.get("seeds") and (values.get("defaults") or {}).get("seed") is not None:
        report.add(root.key_lines["seeds"], "seeds", "defaults.seed is given as well; use one of them")


def _check_names(prompts: Prompts, models: Sequence[ModelItem], values: Values, root: Node, report: Report) -> None:
    """What refers to a model or has a name must do so without doubt."""
    known = dict.fromkeys(model.model for model in models)
    first: dict[str, PromptItem] = {}
    for item in prompts:
        if item is None:
            continue
        other = first.setdefault(item.id, item)
        if other is not item:
            report.add(item.line, f"{item.key}.id", f"'{item.id}' is the id of {other.key} (line {other.line}) as well")
        if known:
            check_models(item, known, report)
    limits, budget = values.get("limits"), values.get("budget")
    named = {
        "limits.models": limits.models if limits else (),
        "budget.per_model_usd": budget.per_model_usd if budget else (),
    }
    for section, names in named.items():
        for name in names:
            if known and name not in known:
                near = did_you_mean(name, known) or f"; allowed: {', '.join(known)}"
                report.add(
                    _line_of(root, *section.split("."), name),
                    f"{section}.{name}",
                    f"is not among the batch's models{near}",
                )


def _line_of(node: Node, *names: str) -> int | None:
    """The line of a key, or of the nearest mapping around it that is there."""
    line = node.line
    for name in names:
        if not isinstance(node.value, dict) or name not in node.value:
            break
        line, node = node.key_lines.get(name, line), node.value[name]
    return line


def _check_templates(prompts: Prompts, values: Values, root: Node, report: Report) -> None:
    """Renders each prompt, and a file name for it, with its first values: a misspelt variable shows at once."""
    filename = values.get("filename")
    for item in prompts:
        if item is None:
            continue
        variables = next(item.combinations())
        try:
            rendered(item, variables)
        except TemplateError as error:
            report.add(item.line, f"{item.key}.prompt", str(error))
        if filename:
            try:
                template(filename)({**SAMPLE_NAMES, **variables})
            except TemplateError as error:
                report.add(root.key_lines.get("filename"), "filename", f"for prompt '{item.id}': {error}")
