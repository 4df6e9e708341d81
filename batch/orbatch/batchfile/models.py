"""What a batch file may hold (checked by pydantic, which also describes it as JSON Schema), and what is made of it.

``BatchFile`` and the ``...Entry`` models are the file as it is written. ``BatchConfig``, ``ModelItem``, ``PromptItem``
and ``PromptFile`` are values for the rest of orbatch, with absolute paths and lines; the sections serve both.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictFloat,
    StrictInt,
    Tag,
    TypeAdapter,
    model_validator,
    with_config,
)

from orbatch.batchfile.settings import ALL_KINDS, GIVEN, Settings, kind_of
from orbatch.batchfile.templates import DEFAULT_FILENAME, TemplateError, template
from orbatch.batchfile.types import (
    SHORTEN,
    UNSENDABLE,
    UNSENDABLE_TEXT,
    ModelId,
    Template,
    Text,
    Usd,
    Variables,
    as_list,
    distinct,
    problem_at,
)

MAX_COMBINATIONS = 10_000  # of one prompt's variables
_STRICT = ConfigDict(extra="forbid", defer_build=True)
_DEFERRED = ConfigDict(defer_build=True)  # an adapter is built when it is first used: that takes 20 ms each

# -- sections ----------------------------------------------------------------------------------------------------------
# Plain dataclasses, which pydantic reads and describes like its own, and which code makes without keywords or checks.


@with_config(extra="forbid")
@dataclass(frozen=True, slots=True)
class BudgetConfig:
    """Caps in USD; None is no cap. ``unpriced``: what to reserve for a job without a known price; None refuses it."""

    total_usd: Annotated[Usd | None, Field(description="cap on the cost of this batch")] = None
    per_job_usd: Annotated[Usd | None, Field(description="cap on the cost of one job")] = None
    per_day_usd: Annotated[
        Usd | None, Field(description="cap on the cost of all batches of the ledger together in one day (UTC)")
    ] = None
    per_model_usd: Annotated[
        Mapping[ModelId, Usd], Field(description="caps on the cost of one model's jobs, by model")
    ] = field(default_factory=dict)
    unpriced: Annotated[
        Usd | None,
        BeforeValidator(
            lambda given: None if given == "refuse" else given, json_schema_input_type=Literal["refuse"] | Usd
        ),
        Field(
            description="jobs without a known price: refuse, or an amount in USD to reserve for each",
            json_schema_extra={"default": "refuse"},
        ),
    ] = None


_UpTo10000 = Annotated[StrictInt, Field(ge=1, le=10_000)]


@with_config(extra="forbid")
@dataclass(frozen=True, slots=True)
class ModelLimits:
    """Limits of one model, within those of the account; None sets no limit of its own."""

    in_flight: Annotated[_UpTo10000 | None, Field(description="accepted and unfinished jobs of this model")] = None
    submits_per_minute: Annotated[_UpTo10000 | None, Field(description="submits of this model per minute")] = None


@with_config(extra="forbid")
@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """How hard one run uses the API."""

    in_flight: Annotated[_UpTo10000, Field(description="accepted and unfinished jobs at a time")] = 16
    submits_per_minute: Annotated[_UpTo10000, Field(description="submits per minute")] = 30
    polls_per_second: Annotated[StrictInt, Field(ge=1, le=1000, description="status requests per second")] = 10
    downloads: Annotated[StrictInt, Field(ge=1, le=100, description="downloads at a time")] = 4
    models: Annotated[
        Mapping[ModelId, Annotated[ModelLimits, GIVEN]],
        Field(description="in_flight and submits_per_minute of one model, by model"),
    ] = field(default_factory=dict)


@with_config(extra="forbid")
@dataclass(frozen=True, slots=True)
class PollingConfig:
    """Seconds. ``timeout`` ends the waiting of one run, not the job: the next run continues to poll it."""

    interval: Annotated[
        Annotated[StrictFloat, Field(ge=0.1, le=3600), SHORTEN],
        Field(description="seconds between polls of one job (minimum 2)"),
    ] = 30
    timeout: Annotated[
        Annotated[StrictFloat, Field(ge=1, le=604_800), SHORTEN],
        Field(description="seconds that one run waits for a job"),
    ] = 1800


_FinalStatuses = Annotated[
    list[Literal["failed", "cancelled", "expired"]], Field(min_length=1), AfterValidator(distinct)
]


@with_config(extra="forbid")
@dataclass(frozen=True, slots=True)
class RetriesConfig:
    """``attempts`` is the total number, the first one included; each can cost money."""

    attempts: Annotated[
        StrictInt, Field(ge=1, le=10, description="attempts per job, the first included; each can cost money")
    ] = 1
    on: Annotated[
        frozenset[str],
        # An adapter of its own, because a frozenset has lost the order of the items that a message names.
        BeforeValidator(TypeAdapter(_FinalStatuses).validate_python, json_schema_input_type=_FinalStatuses),
        Field(description="final statuses that are retried", json_schema_extra={"default": ["failed", "expired"]}),
    ] = frozenset({"failed", "expired"})


# -- the file as it is written -----------------------------------------------------------------------------------------


class ModelEntry(Settings):
    """A model with settings of its own."""

    model: ModelId = Field(description="model id")

    def own_settings(self) -> dict[str, Any]:
        """The settings it gives, without the rest of the entry."""
        return self.given(without=frozenset({"model"}))


class PromptEntry(Settings):
    """A prompt with an id, variables, models or settings of its own."""

    id: Annotated[
        Text, Field(title="a text of one line, at most 200 characters", pattern=r"^[^\x00-\x1f\x7f]{1,200}$")
    ] = Field("", description="name of the prompt in file names and reports; default: p1, p2, ... by position")
    prompt: Template | None = Field(
        None, description="text, a template if the prompt has variables; optional where an image is the start"
    )
    vars: Variables = Field(
        {}, description="variables of the template: a value or a list each; every combination is a job"
    )
    models: (
        Annotated[
            list[ModelId], Field(min_length=1), BeforeValidator(as_list, json_schema_input_type=ModelId | list[ModelId])
        ]
        | None
    ) = Field(None, description="only these of the batch's models")

    @model_validator(mode="before")
    @classmethod
    def _without_empty_keys(cls, data: Any) -> Any:
        # A null among the settings stays: it removes a default.
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if value is not None or name not in PROMPT_KEYS}

    @model_validator(mode="after")
    def _few_combinations(self) -> PromptEntry:
        count = math.prod(map(len, self.vars.values()))
        if count > MAX_COMBINATIONS:
            raise problem_at("vars", f"makes {count:,} combinations; allowed: at most {MAX_COMBINATIONS:,}")
        return self

    def own_settings(self) -> dict[str, Any]:
        """The settings it gives, without the rest of the entry."""
        return self.given(without=PROMPT_KEYS)


PROMPT_KEYS = frozenset({"id", "prompt", "vars", "models"})  # of a prompt, besides settings


class PromptFileEntry(BaseModel):
    """A file of prompts, and which of its rows to take."""

    model_config = _STRICT

    file: Annotated[Text, Field(title="a path", max_length=1000)] = Field(
        description="path of the file, relative to the batch file"
    )
    prompt: Template | None = Field(
        None, description="template for rows that have no prompt of their own; their columns are its variables"
    )
    limit: StrictInt | None = Field(None, ge=1, description="take at most this many rows")
    sample: StrictInt | None = Field(
        None, ge=1, le=1_000_000, description="of the rows taken, use this many, chosen at random"
    )
    seed: StrictInt = Field(0, description="seed of the sample; the same seed always takes the same rows")


def _form(value: Any) -> str:
    return "mapping" if isinstance(value, (dict, Settings)) else "text"


# A function tells text from mapping, so that a wrong value is refused by one of them and not by both.
Model = Annotated[Annotated[ModelId, Tag("text")] | Annotated[ModelEntry, Tag("mapping")], Discriminator(_form)]
Prompt = Annotated[Annotated[Template, Tag("text")] | Annotated[PromptEntry, Tag("mapping")], Discriminator(_form)]
_AS_ENTRY = BeforeValidator(
    lambda given: given if isinstance(given, dict) else {"file": given}, json_schema_input_type=str | PromptFileEntry
)
Rows = Annotated[PromptFileEntry, GIVEN, _AS_ENTRY]


class BatchFile(BaseModel):
    """The keys of a batch file."""

    model_config = _STRICT

    name: Annotated[
        str,
        Field(
            title="letters, digits, - and _, beginning with a letter or digit, at most 64",
            pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$",
        ),
    ] = Field(description="name of the batch; the ledger keeps its jobs under this name")
    output_dir: Annotated[str, Field(title="a path", pattern=r"^[^\x00-\x1f]+$", max_length=1000)] | None = Field(
        None,
        description="directory for the outputs, relative to this file",
        json_schema_extra={"default": "outputs/NAME"},
    )
    filename: Annotated[Template, Field(max_length=500)] = Field(
        DEFAULT_FILENAME, description="template of the file names; a / makes directories; the extension is added"
    )
    defaults: Settings | None = Field(None, description="settings of every job")
    models: list[Model] = Field(min_length=1, max_length=1000, description="model ids, or ids with settings")
    prompts: list[Prompt] = Field(
        default_factory=list,
        min_length=1,
        max_length=100_000,
        description="texts, or texts with ids, variables and settings",
    )
    prompts_from: Rows | None = Field(None, description="file with more prompts: csv, tsv, jsonl, txt or yaml")
    seeds: Annotated[
        list[Annotated[StrictInt, Field(ge=-(2**63), le=2**63 - 1, title="a whole number of 64 bits")]],
        AfterValidator(distinct),
    ] = Field(
        default_factory=list,
        min_length=1,
        max_length=10_000,
        description="one job per seed; a seed of a model or a prompt overrides them",
    )
    repeat: StrictInt = Field(1, ge=1, le=1000, description="buy every request this many times")
    budget: Annotated[BudgetConfig, GIVEN] = Field(default_factory=BudgetConfig, description="caps on the cost")
    limits: Annotated[LimitsConfig, GIVEN] = Field(
        default_factory=LimitsConfig, description="how many jobs and requests at a time"
    )
    polling: Annotated[PollingConfig, GIVEN] = Field(
        default_factory=PollingConfig, description="when to poll a running job"
    )
    retries: Annotated[RetriesConfig, GIVEN] = Field(
        default_factory=RetriesConfig, description="when to try a job again that has no output"
    )


BATCH: TypeAdapter[BatchFile] = TypeAdapter(Annotated[BatchFile, GIVEN])
PROMPT: TypeAdapter[Any] = TypeAdapter(Prompt, config=_DEFERRED)
MODEL: TypeAdapter[Any] = TypeAdapter(Model, config=_DEFERRED)
SETTINGS: TypeAdapter[Settings] = TypeAdapter(Settings)
ROWS: TypeAdapter[PromptFileEntry] = TypeAdapter(Rows)

# -- what is made of it ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModelItem:
    """A model of the batch. ``lines``: of its keys, for problems that show only when the jobs are made."""

    model: str
    settings: Mapping[str, Any]
    line: int
    key: str = ""
    lines: Mapping[str, int] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class PromptItem:
    """A prompt of the batch. ``prompt`` is a template, None where an image is the start; ``models``: None for all.

    ``key`` and ``line`` say where it is in ``file``, ``lines`` where its keys are.
    """

    id: str
    prompt: str | None
    variables: Mapping[str, tuple[Any, ...]]
    models: frozenset[str] | None
    settings: Mapping[str, Any]
    line: int
    key: str
    file: str
    lines: Mapping[str, int] = field(default_factory=dict, compare=False)

    @classmethod
    def of(
        cls,
        entry: str | PromptEntry,
        default_id: str,
        line: int,
        key: str,
        file: str,
        lines: Mapping[str, int] | None = None,
    ) -> PromptItem:
        """From what the file says; ``default_id`` where it gives none."""
        if isinstance(entry, str):
            return cls(default_id, entry, {}, None, {}, line, key, file)
        models = None if entry.models is None else frozenset(entry.models)
        variables = {name: tuple(values) for name, values in entry.vars.items()}
        return cls(
            entry.id or default_id, entry.prompt, variables, models, entry.own_settings(), line, key, file, lines or {}
        )

    def combinations(self) -> Iterator[dict[str, Any]]:
        """Every combination of the variables; one empty one when there are none."""
        for values in itertools.product(*self.variables.values()):
            yield dict(zip(self.variables, values, strict=True))

    def render(self, variables: Mapping[str, Any]) -> str | None:
        """The prompt with ``variables`` put in. Raises TemplateError when it cannot be sent."""
        if self.prompt is None:
            return None
        text = template(self.prompt)(variables)
        if not text.strip():
            raise TemplateError("comes out empty")
        if UNSENDABLE.search(text):  # again: a variable may bring it in
            raise TemplateError(UNSENDABLE_TEXT)
        return text


@dataclass(frozen=True, slots=True)
class PromptFile:
    """Which rows of which file are prompts: of the first ``limit`` rows, ``sample`` at random.

    ``prompt``: template of rows without one. ``kinds``: what jobs of rows without a kind may be, which tells the column
    of a setting from that of a variable.
    """

    path: Path
    prompt: str | None = None
    limit: int | None = None
    sample: int | None = None
    seed: int = 0
    kinds: frozenset[str] = ALL_KINDS


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchConfig:
    """A batch file, checked. Paths are absolute; model ids have no ``openrouter/`` prefix.

    ``sha256``: of the file's bytes. ``defaults`` and the settings of models and prompts are to be merged in that order;
    a None among them means "do not send". ``filename_line`` and ``default_lines``: for problems that show only when the
    jobs are made.
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
    filename_line: int | None = None
    default_lines: Mapping[str, int] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The kind of jobs whose model and prompt give none."""
        return kind_of(self.defaults)

    @property
    def file(self) -> str:
        """The file as the user named it."""
        return str(self.path)
