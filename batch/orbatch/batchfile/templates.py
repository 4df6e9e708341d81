"""Templates of prompts and file names: Jinja2 expressions over a prompt's variables, and ``{% if %}``.

A batch file may come from someone else, so a template can neither reach Python, nor run for long, nor make text
without bound: there are no loops, assignments or macros, and only the filters and methods named here. Nothing in it is
random, because a prompt that changed from run to run would be bought again each time.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, TemplateSyntaxError, UndefinedError, nodes
from jinja2 import TemplateError as JinjaError
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS
from jinja2.sandbox import SandboxedEnvironment

from orbatch.batchfile.errors import did_you_mean

DEFAULT_FILENAME = "{{ take }}-{{ key8 }}"
# What a file name template may use besides the prompt's variables, with sample values; variables of the same name win.
SAMPLE_NAMES: Mapping[str, Any] = {
    "name": "cats",
    "prompt_id": "p1",
    "model": "alibaba-wan-2.6",
    "model_slug": "alibaba-wan-2.6",
    "kind": "video",
    "key": "0123456789abcdef",
    "key8": "01234567",
    "seed": 1,
    "repeat": 1,
    "index": 1,
    "position": 1,
}
MAX_RENDERED = 100_000  # characters of a rendered template, and of a template itself
# Characters of all values that a template uses, each as often as it uses it. Together they bound what exists while it
# is rendered: ``~``, lists and filters hold many of them together, before there is a result to measure.
_MAX_USED = 200 * MAX_RENDERED
_MAX_EXPRESSIONS = 10_000  # compiling 50,000 takes ten seconds and 400 MB

_FILTERS = (
    "abs", "capitalize", "d", "default", "first", "float", "int", "last", "length", "lower", "string", "title",
    "trim", "truncate", "upper",
)  # fmt: skip
_METHODS = frozenset({"capitalize", "endswith", "lower", "startswith", "strip", "title", "upper"})
_STATEMENTS = (nodes.Output, nodes.If)
_MARKERS = re.compile(r"\{\{|\{%")  # {# is no comment here: prompts have colours in them
_VARIABLE = re.compile(r"\{\{ *([A-Za-z][A-Za-z0-9_]*) *\}\}")
KEYWORDS = frozenset({"and", "else", "false", "if", "in", "is", "none", "not", "or", "true"})
_UNDEFINED = re.compile(r"'(\w+)' is undefined")
# What Python raises for an expression over the wrong values, such as 1 / 0 or "a" + 1.
_WRONG_USE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


_AS_WRITTEN = "; to send braces as they are written, set template: false"


class TemplateError(ValueError):
    """A template that cannot be used; ``str()`` says why."""


Render = Callable[[Mapping[str, Any]], str]


def template(text: str) -> Render:
    """A function that renders ``text`` with the variables it is given.

    Raises TemplateError now for a template that is not valid, and when it is called, for a variable that is missing.
    """
    if not _MARKERS.search(text):
        return lambda _variables: text
    return _compiled(text)


@lru_cache(maxsize=1024)
def _compiled(text: str) -> Render:
    if len(text) > MAX_RENDERED:
        raise TemplateError(f"is longer than {MAX_RENDERED:,} characters")
    return _substitution(text) or _jinja(text)


def _substitution(text: str) -> Render | None:
    # The same result as Jinja2's in a tenth of the time, which matters where every row of a file is a template.
    parts = _VARIABLE.split(text)
    literals, names = parts[::2], parts[1::2]
    if any(_MARKERS.search(literal) for literal in literals) or any(name.lower() in KEYWORDS for name in names):
        return None
    pattern = "%s".join(literal.replace("%", "%%") for literal in literals)
    literal_length = sum(map(len, literals))

    def render(variables: Mapping[str, Any]) -> str:
        try:
            values = [str(variables[name]) for name in names]
        except KeyError as error:
            raise _unknown(error.args[0], variables) from None
        _check_length(literal_length + sum(map(len, values)))
        return pattern % tuple(values)

    return render


def _jinja(text: str) -> Render:
    try:
        tree = _ENVIRONMENT.parse(text)
        if sum(1 for _ in tree.find_all(nodes.Expr)) > _MAX_EXPRESSIONS:
            raise TemplateError(f"has more than {_MAX_EXPRESSIONS:,} expressions")
        refused = next((each for each in tree.find_all(nodes.Stmt) if not isinstance(each, _STATEMENTS)), None)
        compiled = _ENVIRONMENT.from_string(tree) if refused is None else None
    except TemplateSyntaxError as error:
        raise TemplateError(f"is not a valid template: {error.message}{_AS_WRITTEN}") from error
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise TemplateError("is not a valid template: it is nested too deeply") from error
    except TemplateError:
        raise
    except ValueError as error:
        raise TemplateError(f"is not a valid template: {error}") from error

    if compiled is None:
        word = type(refused).__name__.lower()
        raise TemplateError(f"uses {{% {word} %}}; allowed: {{{{ expressions }}}} and {{% if %}}")

    uses = Counter(node.name for node in tree.find_all(nodes.Name))
    # Only ``replace`` makes more than it is given.
    made = MAX_RENDERED * sum(node.name == "replace" for node in tree.find_all(nodes.Filter))

    def render(variables: Mapping[str, Any]) -> str:
        pieces, length = [], 0
        try:
            used = sum(count * len(str(variables[name])) for name, count in uses.items() if name in variables)
            if used + made > _MAX_USED:
                raise TemplateError(f"uses values of more than {_MAX_USED:,} characters in all")
            for piece in compiled.generate(variables):
                length += len(piece)
                _check_length(length)
                pieces.append(piece)
        except TemplateError:
            raise
        except UndefinedError as error:
            name = _UNDEFINED.search(str(error))
            raise _unknown(name[1], variables) if name else TemplateError(f"cannot be rendered: {error}") from error
        except SecurityError as error:
            raise TemplateError(f"is not allowed: {error}") from error
        except (JinjaError, *_WRONG_USE) as error:
            raise TemplateError(f"cannot be rendered: {error}") from error
        return "".join(pieces)

    return render


def _check_length(length: int) -> None:
    if length > MAX_RENDERED:
        raise TemplateError(f"makes more than {MAX_RENDERED:,} characters")


def _unknown(name: str, variables: Mapping[str, Any]) -> TemplateError:
    known = f"known here: {', '.join(variables)}" if variables else f"there are no variables here{_AS_WRITTEN}"
    return TemplateError(f"uses {{{{ {name} }}}}, which has no value; {known}{did_you_mean(name, variables)}")


def _replace(text: object, old: str, new: str) -> str:
    text = str(text)
    if len(text) + text.count(old) * len(new) > MAX_RENDERED:
        raise SecurityError(f"replace would make more than {MAX_RENDERED:,} characters")
    return text.replace(old, new)


class _Environment(SandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**", "%"})

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:  # noqa: ARG002
        return isinstance(obj, str) and attr in _METHODS

    def wrap_str_format(self, value: Any) -> None:
        """Nothing: str.format stays out of reach, since it pads to any width."""

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        # "x" * 10**9 and '%1000000000d' % 1 would fill the memory before any length could be checked.
        if operator == "**" or not (isinstance(left, (int, float)) and isinstance(right, (int, float))):
            raise SecurityError(f"the operator {operator} works here on two plain numbers only, and ** not at all")
        return super().call_binop(context, operator, left, right)


_ENVIRONMENT = _Environment(
    undefined=StrictUndefined,
    keep_trailing_newline=True,
    autoescape=False,
    comment_start_string="\0{#",  # no text has a NUL, so there are no comments
    comment_end_string="#}\0",
)
_ENVIRONMENT.globals.clear()  # range() and lipsum() are not for prompts
_ENVIRONMENT.filters = {name: FILTERS[name] for name in _FILTERS} | {"replace": _replace}
