"""What can go wrong on purpose: a list of rules, the first that applies to a call decides.

A fault of a paid call (submit, images, chat) strikes before anything is started, or, with ``accept``, after: the job
then exists and is paid for, and its answer is what goes wrong.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Stage = Literal["head", "answer", "accepted"]

PAID = frozenset({"submit", "images", "chat"})
CALLS = PAID | frozenset({"poll", "content", "models", "key", "credits", "generation", "job"})
BODIES = frozenset({"json", "html", "text", "empty", "list", "truncated"})

JOB_ENDS = frozenset({"failed", "cancelled", "expired"})
_OF_ANSWERS = frozenset({"answer", "cut", "cut_answer", "delay", "redirect", "hang_up", "edit"})
ACTIONS: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(CALLS, _OF_ANSWERS),
    "content": _OF_ANSWERS - {"edit"} | {"stall", "content_type"},
    "images": _OF_ANSWERS | {"fewer", "null_cost"},
    "chat": _OF_ANSWERS | {"null_cost"},
    "job": JOB_ENDS | {"never_ends", "null_cost", "byok"},
}


# What can only happen to a call that was accepted: otherwise there is no such answer.
_IN_THE_ANSWER = frozenset({"edit", "cut_answer"})
_IN_THE_RESULT = frozenset({"fewer", "null_cost"})
_RESULT_FIELDS = frozenset({"id", "data", "choices"})  # where a submit, images and chat answer with what was bought


@dataclass(frozen=True, slots=True)
class Fault:
    """One rule.

    ``call``: submit, images, chat, poll, content, models (all three catalogs), key, credits, generation; or job, for
    how an accepted video goes on.
    ``action``, for calls:
      answer        ``status`` with ``body``: json (the error envelope), html, text, empty, list, truncated; under the
                    media type ``word`` where it is given; ``fields`` are added to the error object
      cut           the connection is closed without an answer
      hang_up       the connection is reset before the request body is read
      cut_answer    the connection is closed inside the answer, after ``at_byte`` bytes (default: half of it)
      delay         the answer comes ``delay_s`` simulated seconds late (every other action takes ``delay_s`` too)
      redirect      ``status`` (default 307) to ``location``
      edit          fields of the JSON answer are replaced (``fields``) or left out (``drop``)
      stall         content only: a pause of ``delay_s`` after ``at_byte`` bytes
      content_type  content only: the right bytes under the media type ``word``
      fewer         images only: one picture fewer than asked for, and billed so
      null_cost     images and chat only: all is well, but the answer does not know the cost
    ``action``, for jobs: failed, cancelled, expired (with ``message``; ``charged`` overrides the settings), never_ends,
    null_cost (completed, cost still unknown), byok (completed, billed as the 5 % fee).
    ``retry_after``: seconds, sent as such or with ``retry_after_as="date"`` as an HTTP date; text is sent as it is.
    ``after``: calls to let pass first; ``times``: how often it strikes, None for ever; with ``per_job`` both are
    pluralize for each job by itself. ``for_s``: it ends that many simulated seconds after it first struck.
    ``model`` and ``prompt_contains`` restrict it; ``probability`` is drawn from the simulator's seed.
    """

    call: str
    action: str = "answer"
    accept: bool = False
    status: int = 500
    body: str = "json"
    message: str = ""
    error_type: str | None = None
    retry_after: float | str | None = None
    retry_after_as: str = "seconds"
    delay_s: float = 0.0
    at_byte: int | None = None
    location: str | None = None
    word: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    drop: Sequence[str] = ()
    charged: bool | None = None
    after: int = 0
    times: int | None = None
    per_job: bool = False
    for_s: float | None = None
    model: str | None = None
    prompt_contains: str | None = None
    probability: float = 1.0

    def __post_init__(self) -> None:
        _require(self.call in CALLS, f"call must be one of {_words(CALLS)}, not {self.call!r}")
        actions = ACTIONS[self.call]
        _require(self.action in actions, f"{self.call} knows the actions {_words(actions)}, not {self.action!r}")
        _require(self.body in BODIES, f"body must be one of {_words(BODIES)}, not {self.body!r}")
        _require(self.retry_after_as in ("seconds", "date"), "retry_after_as must be seconds or date")
        _require(self.action != "redirect" or bool(self.location), "redirect needs a location")
        _require(self.accept <= (self.call in PAID), "accept belongs to submit, images and chat alone")
        _require(not (self.accept and self.action == "hang_up"), "hang_up strikes before anything can be accepted")
        needs_answer = self.call in PAID and self.action in _IN_THE_ANSWER
        missing = f"{self.action} on {self.call} needs accept: there is no answer otherwise"
        _require(self.accept or not needs_answer, missing)
        anyone = self.model is None and self.prompt_contains is None and not self.per_job
        _require(anyone or self.action != "hang_up", "hang_up strikes before the model, prompt or job is known")
        _require(0 <= self.probability <= 1, f"probability must be from 0 to 1, not {self.probability}")
        _require(self.delay_s >= 0, f"delay_s must not be below 0, not {self.delay_s}")
        _require(self.after >= 0, f"after must not be below 0, not {self.after}")
        _require(self.times is None or self.times >= 1, f"times must be at least 1, not {self.times}")
        _require(200 <= self.status <= 599, f"status must be an HTTP status from 200 to 599, not {self.status}")

    @classmethod
    def from_json(cls, data: object) -> Fault:
        """Raises ValueError with a sentence for an unknown field or a value that makes no sense."""
        if not isinstance(data, Mapping):
            raise ValueError("a fault must be a JSON object")
        names = {item.name for item in dataclasses.fields(cls)}
        unknown = sorted(set(data) - names)
        _require(not unknown, f"unknown field {unknown[:1]}; there are: {_words(names)}")
        _require("call" in data, "a fault needs a call")
        try:
            return cls(**data)
        except TypeError as exc:
            raise ValueError(f"a field of the fault has the wrong type: {exc}") from exc

    @property
    def stage(self) -> Stage:
        if self.action == "hang_up":
            return "head"
        return "accepted" if self.accept or (self.call in PAID and self.action in _IN_THE_RESULT) else "answer"

    @property
    def hides_the_job(self) -> bool:
        """Whether the answer does not give the caller what was bought: the id of a job, the pictures, the text."""
        if self.action == "edit":
            return not _RESULT_FIELDS.isdisjoint({*self.drop, *self.fields})
        return self.action != "delay" and self.action not in _IN_THE_RESULT

    def concerns(self, model: str, prompt: str) -> bool:
        return (self.model is None or self.model == model) and (
            self.prompt_contains is None or self.prompt_contains in prompt
        )


class FaultBook:
    """The rules in force, with how often each was met. Counts start anew when the rules are replaced."""

    def __init__(self, faults: Iterable[Fault], seed: int) -> None:
        self._seed = seed
        self.replace(faults)

    def replace(self, faults: Iterable[Fault]) -> None:
        self._rules = [_Rule(fault, random.Random(f"{self._seed}:{n}")) for n, fault in enumerate(faults)]

    def pick(
        self, call: str, stage: Stage, now_s: float, *, model: str = "", prompt: str = "", job: str = ""
    ) -> Fault | None:
        """The fault that strikes now, None when the call goes well. ``now_s``: simulated seconds on any fixed scale."""
        for rule in self._rules:
            fault = rule.fault
            if (
                fault.call == call
                and fault.stage == stage
                and fault.concerns(model, prompt)
                and rule.strikes(job, now_s)
            ):
                return fault
        return None

    def summary(self) -> list[dict[str, Any]]:
        return [dataclasses.asdict(rule.fault) | {"struck": rule.struck.total()} for rule in self._rules]


class _Rule:
    def __init__(self, fault: Fault, luck: random.Random) -> None:
        self.fault = fault
        self.met: Counter[str] = Counter()  # job id, or "" -> calls that it concerned
        self.struck: Counter[str] = Counter()
        self._luck = luck
        self._since: float | None = None

    def strikes(self, job: str, now_s: float) -> bool:
        fault, who = self.fault, job if self.fault.per_job else ""
        self.met[who] += 1
        if self.met[who] <= fault.after or (fault.times is not None and self.struck[who] >= fault.times):
            return False
        if fault.for_s is not None and self._since is not None and now_s - self._since >= fault.for_s:
            return False
        if fault.probability < 1 and self._luck.random() >= fault.probability:
            return False
        self._since = now_s if self._since is None else self._since
        self.struck[who] += 1
        return True


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise ValueError(sentence)


def _words(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
