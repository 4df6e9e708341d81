"""Templates: the expressions a prompt needs, and nothing that reaches further."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbatch.batchfile.templates import TemplateError, template

HUGE = "x" * 99_000
VARIABLES: dict[str, Any] = {"color": "orange", "count": 3, "small": True, "name": "tom_cat", "long": "x" * 5000}


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        pytest.param("no template, 100% { as } it is", "no template, 100% { as } it is", id="plain"),
        pytest.param("A {{ color }} cat, 100%", "A orange cat, 100%", id="variable"),
        pytest.param("{{color}}{{ count }}{{ small }}", "orange3True", id="variables alone"),
        pytest.param("{{ color | upper }}", "ORANGE", id="filter"),
        pytest.param("{{ color.title() }}", "Orange", id="method"),
        pytest.param("{{ name | replace('_', ' ') }}", "tom cat", id="replace"),
        pytest.param("{{ 'tiny' if small else 'big' }}", "tiny", id="choice"),
        pytest.param("{% if count > 2 %}many{% else %}few{% endif %}", "many", id="if"),
        pytest.param("{{ size | default('big') }}", "big", id="default"),
        pytest.param("{{ count * 2 }}", "6", id="arithmetic"),
        pytest.param("{# said #}x\n", "{# said #}x\n", id="no comment, and a line end"),
        pytest.param("{{ count }} {#ff0000}", "3 {#ff0000}", id="a colour"),
        pytest.param("{{ none }}{{ true }}", "NoneTrue", id="words of the language"),
    ],
)
def test_a_template_renders(text: str, rendered: str) -> None:
    assert template(text)(VARIABLES) == rendered


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(
            "{{ colour }}",
            "which has no value; known here: color, count, small, name, long; did you mean 'color'?",
            id="misspelt",
        ),
        pytest.param("{{ colour | upper }}", "did you mean 'color'?", id="misspelt under a filter"),
        pytest.param("{{ color", "is not a valid template", id="unclosed"),
        pytest.param("{{ color | shout }}", "is not a valid template: No filter named 'shout'", id="unknown filter"),
        pytest.param("{% for x in color %}{% endfor %}", "uses {% for %}; allowed", id="loop"),
        pytest.param("{% set x = 1 %}", "uses {% assign %}", id="assignment"),
        pytest.param("{% macro m() %}{% endmacro %}", "uses {% macro %}", id="macro"),
        pytest.param("{% include 'x' %}", "uses {% include %}", id="include"),
        pytest.param("{{ color.__class__.__mro__ }}", "is not allowed", id="classes"),
        pytest.param("{{ ''.__class__ }}", "is not allowed", id="class of a constant"),
        pytest.param("{{ color.format(1) }}", "is not allowed", id="format"),
        pytest.param("{{ '{:>1000000000}'.format(1) }}", "is not allowed", id="memory by padding"),
        pytest.param("{{ " + "9" * 5000 + " }}", "is not a valid template", id="endless number"),
        pytest.param("{{ 'x' * 10**9 }}", "is not allowed", id="memory by multiplication"),
        pytest.param("{{ '%1000000000d' % 1 }}", "is not allowed", id="memory by formatting"),
        pytest.param("{{ 9 ** 9 }}", "is not allowed", id="power"),
        pytest.param("{{ [0] * 10 }}", "is not allowed", id="list multiplication"),
        pytest.param("{{ long | replace('x', long) }}", "is not allowed", id="memory by replacement"),
        pytest.param("{{ range(10) }}", "has no value", id="no functions"),
        pytest.param("{{ lipsum() }}", "has no value", id="nothing random"),
        pytest.param("{{ color | random }}", "No filter named 'random'", id="no random filter"),
        pytest.param("{{ 1 / 0 }}", "cannot be rendered", id="division by zero"),
        pytest.param("{{ color + 1 }}", "cannot be rendered", id="types"),
        pytest.param("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "nested too deeply", id="nesting"),
        pytest.param("{{ color }}" + "x" * 100_000, "is longer than 100,000", id="long template"),
    ],
)
def test_a_template_that_cannot_be_used_says_why(text: str, reason: str) -> None:
    with pytest.raises(TemplateError) as caught:
        template(text)(VARIABLES)
    assert reason in str(caught.value)


def test_a_long_result_is_refused() -> None:
    with pytest.raises(TemplateError, match="makes more than 100,000 characters"):
        template("{{ color }}{{ color }}")({"color": "x" * 60_000})


@given(st.text(alphabet="{}%#|.'\"()[]~*+-/<>=!, abciflnotrxsu0123456789_", max_size=60))
def test_no_text_does_anything_but_render_or_say_why_not(text: str) -> None:
    try:
        assert isinstance(template("{{ " + text + " }}")(VARIABLES), str)
    except TemplateError as error:
        assert str(error)  # noqa: PT017  # most texts are no template, and a few are one


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{{ v }}" * 1_500, id="side by side"),
        pytest.param("{{ v }}{{ 1 }}" * 1_500, id="side by side, with an expression"),
        pytest.param("{{ " + "~".join(["v"] * 1_500) + " }}", id="joined"),
        pytest.param("{{ " + "~".join(["(v ~ 1)"] * 1_500) + " }}", id="joined twice"),
        pytest.param("{{ " + "~".join(["v.upper()"] * 1_500) + " }}", id="methods"),
        pytest.param("{{ [" + ",".join(["v"] * 1_500) + "] }}", id="list"),
        pytest.param("{{ [" + ",".join(["w | replace('y', v)"] * 1_500) + "] }}", id="replace"),
    ],
)
def test_what_a_template_makes_is_limited_before_it_is_made(text: str) -> None:
    render = template(text)
    tracemalloc.start()
    try:
        with pytest.raises(TemplateError, match="more than"):
            render({"v": HUGE, "w": "y"})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 10_000_000  # without the limits more than 148 MB


def test_a_template_that_takes_too_long_to_compile_is_refused() -> None:
    with pytest.raises(TemplateError, match="has more than 10,000 expressions"):
        template("{{ " + "~".join(["v"] * 10_001) + " }}")


def test_a_long_variable_may_be_used_often_where_the_result_is_short() -> None:
    text = "{% if short %}" + "{{ v }}" * 100 + "{% else %}{{ v[:3] }}{{ v | truncate(10) }}{% endif %}"

    assert template(text)({"v": HUGE, "short": False}) == "xxx" + "x" * 7 + "..."
