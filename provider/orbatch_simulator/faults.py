"""Faults on purpose: a list of rules; the first rule that matches a call decides what goes wrong.

A fault of a paid call (submit, images, chat) strikes before anything has started. With ``accept`` it strikes after: the
job then exists and is paid for, and only its answer goes wrong.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveInt, ValidationError, model_validator
from pydantic.dataclasses import dataclass

Stage = Literal["head", "answer", "accepted"]

PAID = frozenset({"submit", "images", "chat"})
READS = frozenset({"poll", "content", "models", "key", "credits", "generation", "analytics"})
BODIES = frozenset({"json", "html", "text", "empty", "list", "truncated"})

JOB_ENDS = frozenset({"failed", "cancelled", "expired"})
_ANSWER_ACTIONS = frozenset({"answer", "cut", "cut_answer", "delay", "redirect", "hang_up", "edit"})
ACTIONS: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(PAID | READS, _ANSWER_ACTIONS),
    "content": _ANSWER_ACTIONS - {"edit"} | {"stall", "content_type"},  # bytes have no fields to edit
    "images": _ANSWER_ACTIONS | {"fewer", "null_cost"},
    "chat": _ANSWER_ACTIONS | {"null_cost"},
    "job": JOB_ENDS | {"never_ends", "null_cost", "byok"},
}

_NEEDS_ANSWER = frozenset({"edit", "cut_answer"})  # without an accepted request there is no answer to spoil
_CHANGES_RESULT = frozenset({"fewer", "null_cost"})  # imply acceptance: the result itself differs
_RESULT_FIELDS = frozenset({"id", "data", "choices"})  # where submit, images and chat put what was paid for

# Strict: "500" is not a status and true is not a number, as in the JSON that the rules are sent as.
STRICT = ConfigDict(strict=True, extra="forbid")


@dataclass(frozen=True, slots=True, config=STRICT)
class Fault:
    """A single rule. Raises ValueError for values that make no sense together.

    ``call``: submit, images, chat, poll, content, models (all three catalogs), key, credits, generation,
    analytics; or job, for what happens to an accepted video.
    ``action``, for calls:
      answer        ``status`` with ``body``: json (the error envelope), html, text, empty, list, truncated; sent under
                    the media type ``word`` if given; ``fields`` are added to the error object
      cut           the connection is closed without an answer
      hang_up       the connection is reset before the request body is read
      cut_answer    the connection is closed inside the answer, after ``at_byte`` bytes (default: half of it)
      delay         the answer comes ``delay_s`` simulated seconds late (every other action takes ``delay_s`` too)
      redirect      ``status`` (default 307) to ``location``
      edit          fields of the JSON answer are replaced (``fields``) or removed (``drop``)
      stall         content only: a pause of ``delay_s`` after ``at_byte`` bytes
      content_type  content only: the right bytes under the media type ``word``
      fewer         images only: one image fewer than requested, and charged accordingly
      null_cost     images and chat only: the answer is complete but reports no cost
    ``action``, for jobs: failed, cancelled, expired (with ``message``; charged only with ``charged``), never_ends,
    null_cost (completed, cost still unknown), byok (completed, only the 5 % fee is charged).
    ``retry_after``: seconds; a string, such as an HTTP date, is sent as it is.
    ``after``: calls to let pass first; ``times``: how often it strikes, None for always; with ``per_job`` both are
    counted for each job separately. ``for_s``: it ends that many simulated seconds after it first struck.
    ``model`` and ``prompt_contains`` restrict it; ``probability`` is drawn from the simulator's seed.
    """

    call: str
    action: str = "answer"
    accept: bool = False
    status: Annotated[int, Field(ge=200, le=599)] = 500
    body: str = "json"
    message: str = ""
    error_type: str | None = None
    retry_after: float | str | None = None
    delay_s: NonNegativeFloat = 0.0
    at_byte: int | None = None
    location: str | None = None
    word: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    drop: Sequence[str] = ()
    charged: bool = False  # the API does not say whether failures are charged, so both can be tested
    after: NonNegativeInt = 0
    times: PositiveInt | None = None
    per_job: bool = False
    for_s: float | None = None
    model: str | None = None
    prompt_contains: str | None = None
    probability: Annotated[float, Field(ge=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _check_together(self) -> Fault:
        actions, paid = ACTIONS.get(self.call, frozenset()), self.call in PAID
        is_restricted = self.model is not None or self.prompt_contains is not None or self.per_job
        problems = {
            f"call must be one of {_joined(ACTIONS)}, not {self.call!r}": not actions,
            f"body must be one of {_joined(BODIES)}, not {self.body!r}": self.body not in BODIES,
            f"{self.call} knows the actions {_joined(actions)}, not {self.action!r}": self.action not in actions,
            "redirect needs a location": self.action == "redirect" and not self.location,
            "accept is only for submit, images and chat": self.accept and not paid,
            "hang_up strikes before anything can be accepted": self.accept and self.action == "hang_up",
            f"{self.action} on {self.call} needs accept: there is no answer otherwise": (
                paid and self.action in _NEEDS_ANSWER and not self.accept
            ),
            "hang_up strikes before the model, prompt or job is known": self.action == "hang_up" and is_restricted,
        }
        for sentence, applies in problems.items():
            if applies:
                raise ValueError(sentence)
        return self

    @classmethod
    def from_json(cls, data: object) -> Fault:
        """Raises ValueError with a sentence for an unknown field or a value that makes no sense."""
        if not isinstance(data, Mapping):
            raise ValueError("a fault must be a JSON object")
        try:
            return cls(**data)
        except ValidationError as exc:
            problem = exc.errors(include_url=False)[0]
        name = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "unexpected_keyword_argument":
            known = _joined(item.name for item in dataclasses.fields(cls))
            raise ValueError(f"unknown field {name!r}; known fields: {known}")
        message = problem["msg"].removeprefix("Value error, ")  # pydantic's prefix for our own sentences
        raise ValueError(f"{name}: {message}" if name else message)

    @property
    def stage(self) -> Stage:
        """When it strikes: before the body is read, instead of the answer, or after the request was accepted."""
        if self.action == "hang_up":
            return "head"
        is_accepted = self.accept or (self.call in PAID and self.action in _CHANGES_RESULT)
        return "accepted" if is_accepted else "answer"

    @property
    def hides_result(self) -> bool:
        """Whether the caller does not learn what was paid for: the job's id, the images, the text."""
        if self.action == "edit":
            return not _RESULT_FIELDS.isdisjoint({*self.drop, *self.fields})
        return self.action != "delay" and self.action not in _CHANGES_RESULT


class FaultRules:
    """The active rules, each with its own counts. ``now``: simulated seconds on any fixed scale."""

    def __init__(self, faults: Iterable[Fault], seed: int, now: Callable[[], float]) -> None:
        self._seed, self._now = seed, now
        self.replace(faults)

    def replace(self, faults: Iterable[Fault]) -> None:
        """Use these rules instead of all others. Counts restart."""
        # A generator of its own for each rule: adding a rule must not change the luck of the others.
        self._rules = [_Rule(fault, random.Random(f"{self._seed}:{n}")) for n, fault in enumerate(faults)]

    def pick(
        self, call: str, stage: Stage = "answer", *, model: str = "", prompt: str = "", job_id: str = ""
    ) -> Fault | None:
        """The fault that strikes this call now, None if it succeeds; counts the call."""
        for rule in self._rules:
            fault = rule.fault
            is_call = fault.call == call and fault.stage == stage and fault.model in (None, model)
            # strikes() counts the call, so it comes last.
            if is_call and (fault.prompt_contains or "") in prompt and rule.strikes(job_id, self._now()):
                return fault
        return None


class _Rule:
    """A fault and its counts."""

    def __init__(self, fault: Fault, luck: random.Random) -> None:
        self.fault = fault
        self.matched: Counter[str] = Counter()  # job id ("" unless per_job) -> calls that matched
        self.struck: Counter[str] = Counter()
        self._luck = luck
        self._first_struck_s: float | None = None

    def strikes(self, job_id: str, now_s: float) -> bool:
        """Whether it strikes this call that it concerns; counts the call."""
        fault, key = self.fault, job_id if self.fault.per_job else ""
        self.matched[key] += 1
        if self.matched[key] <= fault.after or (fault.times is not None and self.struck[key] >= fault.times):
            return False
        first = self._first_struck_s
        if fault.for_s is not None and first is not None and now_s - first >= fault.for_s:
            return False
        if fault.probability < 1 and self._luck.random() >= fault.probability:
            return False
        self._first_struck_s = now_s if first is None else first
        self.struck[key] += 1
        return True


def _joined(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


_POLICY = "content policy violation"
# By name, with what a user sees; ``run --simulate --fault NAME`` and docs/faults.md take them from here.
NAMED: Mapping[str, tuple[str, Fault]] = {
    "lost-answer": (
        "the answer to one submit is lost; the job was started: it is uncertain",
        Fault("submit", "cut", accept=True, times=1),
    ),
    "lost-request": (
        "one submit is lost on the way; no job was started: it is uncertain, too",
        Fault("submit", "cut", times=1),
    ),
    "gateway-error": (
        "a gateway answers one submit with an HTML page after the job was started: uncertain",
        Fault("submit", status=502, body="html", accept=True, times=1),
    ),
    "overloaded": ("three submits are refused with 503 and sent again", Fault("submit", status=503, times=3)),
    "rate-limited": (
        "three submits are refused with 429 and sent again",
        Fault("submit", status=429, retry_after=1, times=3),
    ),
    "refused": ("one request is refused: rejected, not charged", Fault("submit", status=400, message=_POLICY, times=1)),
    "no-credit": ("the credit is used up after two submits", Fault("submit", status=402, after=2)),
    "job-fails": ("one job fails", Fault("job", "failed", message=_POLICY, times=1)),
    "job-expires": ("one job expires", Fault("job", "expired", times=1)),
    "never-ends": ("one job never ends; the run gives up polling it", Fault("job", "never_ends", times=1)),
    "cost-unknown": ("no job reports its charge when it ends; it is settled later", Fault("job", "null_cost")),
    "poll-outage": ("no poll is answered for two minutes", Fault("poll", status=503, for_s=120)),
    "cut-download": ("one download is cut off and resumed", Fault("content", "cut_answer", times=1)),
    "gone": ("one finished video cannot be downloaded any more: lost", Fault("content", status=410, times=1)),
    "no-price-list": ("the price list cannot be read; the packaged one is used", Fault("models", status=503)),
}


def named_fault(text: str) -> Fault:
    """A fault by its name in NAMED, or as JSON. Raises ValueError with a sentence."""
    if text.lstrip().startswith("{"):
        try:
            return Fault.from_json(json.loads(text))
        except json.JSONDecodeError as exc:
            raise ValueError(f"not JSON: {exc}. Put it into single quotes") from exc
    if text not in NAMED:
        near = difflib.get_close_matches(text, NAMED, n=1)
        guess = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"{text} is no fault.{guess} Choose from: {', '.join(NAMED)}")
    return NAMED[text][1]
