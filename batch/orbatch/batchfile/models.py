"""What a batch file may hold (checked by pydantic, which also describes it as JSON Schema), and what is made of it.

``BatchFile`` and the ``...Entry`` models are the file as it is written. ``BatchConfig``, ``ModelItem``, ``PromptItem``
and ``PromptFile`` are values for the rest of orbatch, with absolute paths and lines; the sections serve both.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    Tag,
    TypeAdapter,
    model_validator,
)
from pydantic.dataclasses import dataclass

from orbatch.batchfile.settings import GIVEN, Seed, Settings
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
    key,
    problem_at,
)

Lines = Mapping[str, int] | None  # of the keys of a mapping
MAX_SHARED = 100  # settings of prompts
MAX_COMBINATIONS = 10_000  # of one prompt's variables
_Refuse = Literal["refuse"]
Duplicates = Literal["refuse", "drop", "keep"]
_STRICT = ConfigDict(extra="forbid", defer_build=True)
_DEFERRED = ConfigDict(defer_build=True)  # an adapter is built when it is first used: that takes 20 ms each

# -- sections ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, config=_STRICT)
class BudgetConfig:
    """Caps in USD; None is no cap. ``unpriced``: what to reserve for a job without a known price; None refuses it."""

    total_usd: Usd | None = key(None, "cap on the cost of this batch")
    per_job_usd: Usd | None = key(None, "cap on the cost of one job")
    per_day_usd: Usd | None = key(None, "cap on the cost of all batches of the ledger together in one day (UTC)")
    per_model_usd: dict[ModelId, Usd] = key(dict, "caps on the cost of one model's jobs, by model")
    unpriced: Annotated[
        Usd | None,
        BeforeValidator(lambda value: None if value == "refuse" else value, json_schema_input_type=_Refuse | Usd),
    ] = key(
        None,
        "jobs without a known price: refuse, or an amount in USD to reserve for each",
        json_schema_extra={"default": "refuse"},
    )


@dataclass(frozen=True, slots=True, config=_STRICT)
class ModelLimits:
    """Limits of one model, within those of the account; None sets no limit of its own."""

    in_flight: StrictInt | None = key(None, "accepted and unfinished jobs of this model", ge=1, le=10_000)
    submits_per_minute: StrictInt | None = key(None, "submits of this model per minute", ge=1, le=10_000)


@dataclass(frozen=True, slots=True, config=_STRICT)
class LimitsConfig:
    """How hard one run uses the API."""

    in_flight: StrictInt = key(16, "accepted and unfinished jobs at a time", ge=1, le=10_000)
    submits_per_minute: StrictInt = key(30, "submits per minute", ge=1, le=10_000)
    polls_per_second: StrictInt = key(10, "status requests per second", ge=1, le=1000)
    downloads: StrictInt = key(4, "downloads at a time", ge=1, le=100)
    models: dict[ModelId, Annotated[ModelLimits, GIVEN]] = key(
        dict, "in_flight and submits_per_minute of one model, by model"
    )

    def of(self, model: str) -> ModelLimits:
        """The limits that a model has of its own."""
        return self.models.get(model) or ModelLimits()


_Seconds = Annotated[StrictFloat, Field(ge=0.1, le=3600), SHORTEN]
_LongSeconds = Annotated[StrictFloat, Field(ge=1, le=604_800), SHORTEN]  # up to a week


@dataclass(frozen=True, slots=True, config=_STRICT)
class PollingConfig:
    """Seconds. ``timeout`` ends the waiting of one run, not the job: the next run continues to poll it."""

    interval: _Seconds = key(30, "seconds between polls of one job (minimum 2)")
    timeout: _LongSeconds = key(1800, "seconds that one run waits for a job")


_FinalStatuses = Annotated[
    list[Literal["failed", "cancelled", "expired"]], Field(min_length=1), AfterValidator(distinct)
]


@dataclass(frozen=True, slots=True, config=_STRICT)
class RetriesConfig:
    """``attempts`` is the total number, the first one included; each can cost money."""

    attempts: StrictInt = key(1, "attempts per job, the first included; each can cost money", ge=1, le=10)
    on: Annotated[
        frozenset[str],
        # An adapter of its own, because a frozenset has lost the order of the items that a message names.
        BeforeValidator(TypeAdapter(_FinalStatuses).validate_python, json_schema_input_type=_FinalStatuses),
    ] = key(
        frozenset({"failed", "expired"}),
        "final statuses that are retried",
        json_schema_extra={"default": ["failed", "expired"]},
    )


# -- the file as it is written -----------------------------------------------------------------------------------------


PROMPT_KEYS = frozenset({"id", "prompt", "vars", "models"})  # of a prompt, besides settings
_Path = Annotated[str, Field(title="a path", pattern=r"^[^\x00-\x1f]+$", max_length=1000)]
_Id = Annotated[Text, Field(title="a text of one line, at most 200 characters", pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]
_Name = Annotated[
    str,
    Field(
        title="letters, digits, - and _, beginning with a letter or digit, at most 64",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$",
    ),
]
_ModelIds = Annotated[
    list[ModelId], Field(min_length=1), BeforeValidator(as_list, json_schema_input_type=ModelId | list[ModelId])
]


class ModelEntry(Settings):
    """A model with settings of its own."""

    model: ModelId = Field(description="model id")


class PromptEntry(Settings):
    """A prompt with an id, variables, models or settings of its own."""

    id: _Id = key("", "name of the prompt in file names and reports; default: p1, p2, ... by position")
    # Its syntax is checked when it is rendered: with `template: false` braces are letters.
    prompt: Text | None = key(
        None, "text, a template if the prompt has variables; optional where an image is the start"
    )
    template: StrictBool | None = key(None, "false: braces in the prompt are sent as written")
    vars: Variables = key(dict, "variables of the template: a value or a list each; every combination is a job")
    models: _ModelIds | None = key(None, "only these of the batch's models")

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


class PromptFileEntry(BaseModel):
    """A file of prompts, and which of its rows to take."""

    model_config = _STRICT

    file: _Path = Field(description="path of the file, relative to the batch file")
    prompt: Template | None = key(
        None, "template for rows that have no prompt of their own; their columns are its variables"
    )
    template: StrictBool | None = key(None, "false: braces in the rows are sent as written")
    limit: StrictInt | None = key(None, "take at most this many rows", ge=1)
    sample: StrictInt | None = key(None, "of the rows taken, use this many, chosen at random", ge=1, le=1_000_000)
    seed: StrictInt = key(0, "seed of the sample; the same seed always takes the same rows")


class PicksEntry(BaseModel):
    """What is picked of another batch of the ledger, at the moment of the plan."""

    model_config = _STRICT

    batch: _Name = Field(description="name of that batch")
    picked: Literal[True] = Field(description="only what was picked in `orbatch view`")


def _form(value: Any) -> str:
    return "mapping" if isinstance(value, (dict, Settings)) else "text"


# A function tells text from mapping, so that a wrong value is refused by one of them and not by both.
Model = Annotated[Annotated[ModelId, Tag("text")] | Annotated[ModelEntry, Tag("mapping")], Discriminator(_form)]
Prompt = Annotated[Annotated[Text, Tag("text")] | Annotated[PromptEntry, Tag("mapping")], Discriminator(_form)]
_AS_ENTRY = BeforeValidator(
    lambda given: given if isinstance(given, dict) else {"file": given}, json_schema_input_type=str | PromptFileEntry
)
Rows = Annotated[PromptFileEntry, GIVEN, _AS_ENTRY]


class BatchFile(BaseModel):
    """The keys of a batch file."""

    model_config = _STRICT

    name: _Name = Field(description="name of the batch; the ledger keeps its jobs under this name")
    output_dir: _Path | None = key(
        None, "directory for the outputs, relative to this file", json_schema_extra={"default": "outputs/NAME"}
    )
    filename: Template = key(
        DEFAULT_FILENAME, "template of the file names; a / makes directories; the extension is added", max_length=500
    )
    defaults: Settings | None = key(None, "settings of every job")
    models: list[Model] = Field(min_length=1, max_length=1000, description="model ids, or ids with settings")
    prompts: list[Prompt] = key(
        list, "texts, or texts with ids, variables and settings", min_length=1, max_length=100_000
    )
    prompts_from: Rows | None = key(None, "file with more prompts: csv, tsv, jsonl, txt or yaml")
    from_: PicksEntry | None = key(None, "in place of prompts: what is picked of another batch", alias="from")
    template: StrictBool = key(True, "false: braces in prompts are sent as written")
    duplicates: Duplicates = key(
        "refuse", "prompts that make the same request: refuse them, drop all but the first, or keep (and buy) each"
    )
    seeds: Annotated[list[Seed], AfterValidator(distinct)] = key(
        list, "one job per seed; a seed of a model or a prompt overrides them", min_length=1, max_length=10_000
    )
    repeat: StrictInt = key(1, "buy every request this many times", ge=1, le=1000)
    budget: Annotated[BudgetConfig, GIVEN] = key(BudgetConfig, "caps on the cost")
    limits: Annotated[LimitsConfig, GIVEN] = key(LimitsConfig, "how many jobs and requests at a time")
    polling: Annotated[PollingConfig, GIVEN] = key(PollingConfig, "when to poll a running job")
    retries: Annotated[RetriesConfig, GIVEN] = key(RetriesConfig, "when to try a job again that has no output")


BATCH: TypeAdapter[BatchFile] = TypeAdapter(Annotated[BatchFile, GIVEN])
PROMPT: TypeAdapter[Any] = TypeAdapter(Prompt, config=_DEFERRED)
MODEL: TypeAdapter[Any] = TypeAdapter(Model, config=_DEFERRED)
SETTINGS: TypeAdapter[Settings] = TypeAdapter(Settings)
ROWS: TypeAdapter[PromptFileEntry] = TypeAdapter(Rows)

# -- what is made of it ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class ModelItem:
    """A model of the batch. ``lines``: of its keys, for problems that show only when the jobs are made."""

    model: str
    settings: Mapping[str, Any]
    line: int
    key: str
    lines: Mapping[str, int]


_SHARED: dict[str, Mapping[str, Any]] = {}


def _shared(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Equal settings as one object: the rows of a file repeat a few, and each object is checked only once."""
    if len(_SHARED) >= MAX_SHARED:
        _SHARED.clear()
    return _SHARED.setdefault(repr(settings), settings)  # unlike ==, it tells 1 from True and 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class PromptItem:
    """A prompt of the batch. ``prompt`` is a template, None where an image is the start; ``models``: None for all.

    ``key`` and ``line`` say where it is in ``file``, ``lines`` where its keys are.
    """

    id: str
    prompt: str | None
    variables: Mapping[str, Sequence[Any]]
    models: frozenset[str] | None
    settings: Mapping[str, Any]
    line: int
    key: str
    file: str
    lines: Lines = None  # and not an empty mapping of its own: a file has 100,000 prompts
    is_template: bool = True

    @classmethod
    def of(
        cls,
        entry: str | PromptEntry,
        default_id: str,
        line: int,
        key: str,
        file: str,
        lines: Lines = None,
        *,
        is_template: bool = True,
    ) -> Self:
        """From what the file says; ``default_id`` and ``is_template`` where it says nothing."""
        if isinstance(entry, str):
            return cls(default_id, entry, {}, None, _shared({}), line, key, file, None, is_template)
        models = None if entry.models is None else frozenset(entry.models)
        name, settings = entry.id or default_id, _shared(entry.given())
        wanted = is_template if entry.template is None else entry.template
        return cls(name, entry.prompt, entry.vars, models, settings, line, key, file, lines, wanted)

    def combinations(self) -> Iterator[dict[str, Any]]:
        """Every combination of the variables; one empty one when there are none."""
        for values in itertools.product(*self.variables.values()):
            yield dict(zip(self.variables, values, strict=True))

    def render(self, variables: Mapping[str, Any]) -> str | None:
        """The prompt with ``variables`` put in. Raises TemplateError when it cannot be sent."""
        if self.prompt is None:
            return None
        text = template(self.prompt)(variables) if self.is_template else self.prompt
        if not text.strip():
            raise TemplateError("comes out empty")
        if UNSENDABLE.search(text):  # again: a variable may bring it in
            raise TemplateError(UNSENDABLE_TEXT)
        return text


@dataclasses.dataclass(frozen=True, slots=True)
class PromptFile:
    """A file whose rows are prompts, and which of them to take.

    ``kinds``: what jobs of rows without a kind may be, which tells the column of a setting from that of a variable.
    """

    path: Path
    take: PromptFileEntry
    kinds: frozenset[str]
    is_template: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class PicksOf:
    """The batch whose picks are the prompts; ``line``: of its key ``from``."""

    batch: str
    line: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BatchConfig:
    """A batch file, checked. ``path`` is as the user named it; model ids have no ``openrouter/`` prefix.

    ``sha256``: of the file's bytes. ``defaults`` and the settings of models and prompts are to be merged in that order;
    a None among them means "do not send". ``filename_line`` and ``default_lines``: for problems that show only when the
    jobs are made.
    """

    path: Path
    sha256: str
    name: str
    output_dir: Path
    filename: str
    defaults: Mapping[str, Any]
    models: tuple[ModelItem, ...]
    prompts: tuple[PromptItem, ...]
    prompts_from: PromptFile | None
    picks_of: PicksOf | None
    seeds: tuple[int, ...]
    repeat: int
    duplicates: Duplicates
    budget: BudgetConfig
    limits: LimitsConfig
    polling: PollingConfig
    retries: RetriesConfig
    filename_line: int | None
    default_lines: Mapping[str, int]
