"""What a single value of the batch file may be. A rule reads a node, reports what is wrong, and describes itself
as JSON Schema, so that check, the editor's help and the reference come from one place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from orbatch.batchfile.errors import Report, did_you_mean
from orbatch.batchfile.templates import TemplateError, template
from orbatch.batchfile.yaml_loader import Node
from orbatch_provider.inputs import InputError, https_url, resolve_picture

MAX_AMOUNT = Decimal(1_000_000)  # USD
MAX_TEXT = 100_000  # characters

UNSENDABLE = re.compile("[\x00\ud800-\udfff]")

Schema = dict[str, Any]


class Rule(Protocol):
    """``read`` gives the value, or None after reporting a problem."""

    def read(self, node: Node, key: str, report: Report) -> Any: ...

    def schema(self) -> Schema: ...


def refuse(node: Node, key: str, report: Report, allowed: str, hint: str = "") -> None:
    """Reports that the value found is none that is allowed."""
    report.add(node.line, key, f"found {node}; allowed: {allowed}{hint}")


@dataclass(frozen=True, slots=True)
class Text:
    """Text. A number stands for itself as it was written only where ``numbers`` says so; elsewhere it is more likely
    a slip. ``blank``: it may be nothing but white space."""

    allowed: str = "text"
    pattern: str | None = None
    most: int = MAX_TEXT
    numbers: bool = True
    blank: bool = False

    def read(self, node: Node, key: str, report: Report) -> str | None:
        value = node.value
        if self.numbers and isinstance(value, (int, Decimal)) and not isinstance(value, bool):
            value = node.text
        if not isinstance(value, str):
            is_scalar = not isinstance(value, (dict, list)) and value is not None
            refuse(node, key, report, self.allowed, "; put it in quotes if text is meant" if is_scalar else "")
        elif self.pattern and not re.fullmatch(self.pattern, value):
            refuse(node, key, report, self.allowed)
        elif not (value if self.blank else value.strip()):
            report.add(node.line, key, f"is empty; allowed: {self.allowed}")
        elif len(value) > self.most:
            report.add(node.line, key, f"has {len(value):,} characters; allowed: at most {self.most:,}")
        elif UNSENDABLE.search(value):
            report.add(node.line, key, "holds a character that cannot be sent (NUL, or half of a surrogate pair)")
        else:
            return value
        return None

    def schema(self) -> Schema:
        pattern = {"pattern": f"^(?:{self.pattern})$"} if self.pattern else {}
        return {"type": ["string", "number"] if self.numbers else "string", **pattern}


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number within bounds, both included; ``words`` name the bounds where figures say little."""

    least: int | None = None
    most: int | None = None
    words: str = ""

    def read(self, node: Node, key: str, report: Report) -> int | None:
        value = node.value
        if isinstance(value, Decimal) and value == value.to_integral_value():
            value = int(value)
        fits = isinstance(value, int) and not isinstance(value, bool)
        if fits and (self.least is None or value >= self.least) and (self.most is None or value <= self.most):  # type: ignore[operator]  # fits: it is an int
            return value  # type: ignore[return-value]  # likewise
        refuse(node, key, report, f"a whole number{self.words or _bounds(self.least, self.most)}")
        return None

    def schema(self) -> Schema:
        return {"type": "integer"} | ({} if self.words else _limits(self.least, self.most))


@dataclass(frozen=True, slots=True)
class Number:
    """A number of at least ``least``, or above ``above``."""

    least: float | None = None
    above: float | None = None
    most: float | None = None

    def read(self, node: Node, key: str, report: Report) -> float | None:
        value = node.value
        if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
            number = int(value) if value == int(value) else float(value)
            above = self.above is None or number > self.above
            if above and (self.least is None or number >= self.least) and (self.most is None or number <= self.most):
                return number
        bounds = f" above {self.above}" if self.above is not None else _bounds(self.least, self.most)
        refuse(node, key, report, f"a number{bounds}")
        return None

    def schema(self) -> Schema:
        above = {} if self.above is None else {"exclusiveMinimum": self.above}
        return {"type": "number"} | _limits(self.least, self.most) | above


@dataclass(frozen=True, slots=True)
class Money:
    """A USD amount, kept exactly as it was written, to the nano-dollar. ``word`` may stand for "no amount"."""

    word: str | None = None

    def read(self, node: Node, key: str, report: Report) -> Decimal | None:
        value = node.value
        if self.word is not None and value == self.word:
            return None
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,30}(\.[0-9]{1,30})?", value):
            value = Decimal(value)
        if isinstance(value, (int, Decimal)) and not isinstance(value, bool) and 0 <= value <= MAX_AMOUNT:
            amount = Decimal(value)
            if amount == amount.quantize(Decimal("1e-9")):
                return amount
        word = f"{self.word}, or " if self.word else ""
        refuse(node, key, report, f"{word}an amount in USD from 0 to {MAX_AMOUNT:,}, without a sign, such as 2.50")
        return None

    def schema(self) -> Schema:
        amount: Schema = {"type": "number", "minimum": 0, "maximum": int(MAX_AMOUNT)}
        return {"anyOf": [{"const": self.word}, amount]} if self.word else amount


@dataclass(frozen=True, slots=True)
class Flag:
    """true or false."""

    def read(self, node: Node, key: str, report: Report) -> bool | None:
        if isinstance(node.value, bool):
            return node.value
        refuse(node, key, report, "true, false")
        return None

    def schema(self) -> Schema:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words. ``note`` follows the refusal."""

    words: tuple[str, ...]
    note: str = ""

    def read(self, node: Node, key: str, report: Report) -> str | None:
        # A word may look like a number: 512 is a size class.
        word = node.value if isinstance(node.value, str) else node.text
        if word in self.words:
            return word
        near = did_you_mean(node.value, self.words, cutoff=0.8) if isinstance(node.value, str) else ""
        refuse(node, key, report, f"{', '.join(self.words)}{self.note}", near)
        return None

    def schema(self) -> Schema:
        return {"enum": list(self.words)}


@dataclass(frozen=True, slots=True)
class Link:
    """An https URL. ``why`` follows the refusal of anything else."""

    why: str = ""

    def read(self, node: Node, key: str, report: Report) -> str | None:
        try:
            return https_url(node.value if isinstance(node.value, str) else node.text)
        except InputError as error:
            report.add(node.line, key, f"{error}{self.why}")
            return None

    def schema(self) -> Schema:
        return {"type": "string", "pattern": "^https://"}


@dataclass(frozen=True, slots=True)
class Picture:
    """An https URL, an image data URL, or the path of a local PNG, JPEG or WebP file.

    Whether the file is small enough shows when it is known whether it is to be made smaller.
    """

    def read(self, node: Node, key: str, report: Report) -> str | None:
        if not isinstance(node.value, str) or not node.value.strip():
            refuse(node, key, report, "an https:// URL or the path of a PNG, JPEG or WebP file")
            return None
        try:
            return resolve_picture(node.value, report.base, downscaled=True)
        except InputError as error:
            report.add(node.line, key, str(error))
            return None

    def schema(self) -> Schema:
        return {"type": "string"}


@dataclass(frozen=True, slots=True)
class Template:
    """The text of a template; its variables are checked when they are known."""

    text: Text = Text(numbers=False)

    def read(self, node: Node, key: str, report: Report) -> str | None:
        text = self.text.read(node, key, report)
        if text is None:
            return None
        try:
            template(text)
        except TemplateError as error:
            report.add(node.line, key, str(error))
        return text

    def schema(self) -> Schema:
        return self.text.schema()


@dataclass(frozen=True, slots=True)
class Json:
    """A mapping that is passed on as it is; ``of_mappings``: whose values are mappings as well."""

    of_mappings: bool = False

    def read(self, node: Node, key: str, report: Report) -> dict[str, Any] | None:
        if not isinstance(node.value, dict):
            refuse(node, key, report, "a mapping (key: value)")
            return None
        for name, child in node.value.items() if self.of_mappings else ():
            if not isinstance(child.value, dict):
                refuse(child, f"{key}.{name}", report, "a mapping (key: value)")
        plain: dict[str, Any] = node.plain()
        return plain

    def schema(self) -> Schema:
        return {"type": "object"} | ({"additionalProperties": {"type": "object"}} if self.of_mappings else {})


def _bounds(least: float | None, most: float | None) -> str:
    if least is None or most is None:
        return "" if least is None else f" of at least {least}"
    return f" from {least} to {most}"


def _limits(least: float | None, most: float | None) -> Schema:
    return ({} if least is None else {"minimum": least}) | ({} if most is None else {"maximum": most})
