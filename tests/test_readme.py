"""The README is complete, and CI runs its command lines word for word. What its commands print is in test_docs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from orbatch.cli.app import app
from orbatch.cli.exit_codes import Exit
from tests.console import ROOT, blocks

README = (ROOT / "README.md").read_text("utf-8")


def commands() -> set[str]:
    return set(typer.main.get_command(app).commands)  # type: ignore[attr-defined] # of the group


@pytest.mark.parametrize("line", [pytest.param(text.strip(), id=text.split()[-1]) for _, text in blocks(README, "sh")])
def test_ci_runs_the_command_lines_of_the_readme_word_for_word(line: str) -> None:
    steps = [step.strip() for step in (ROOT / ".ci" / "run").read_text("utf-8").splitlines()]
    assert line in steps


def test_the_table_of_commands_names_every_command_and_no_other() -> None:
    named = re.findall(r"^\| `orbatch ([a-z]+)", README, re.MULTILINE)
    assert sorted(named) == sorted(commands())


def test_the_exit_codes_are_those_of_the_code() -> None:
    codes = re.findall(r"^\| (\d+) \| ", README, re.MULTILINE)
    assert [int(code) for code in codes] == [code.value for code in Exit]


def test_every_environment_variable_that_is_read_is_explained() -> None:
    read = {
        name
        for folder in ("batch", "provider")
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(r'"((?:OPENROUTER|ORBATCH)_[A-Z_]+)"', path.read_text("utf-8"))
    }
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", README, re.MULTILINE)) == read


@pytest.mark.parametrize(
    "page", [path.relative_to(ROOT) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]], ids=str
)
def test_no_page_names_a_command_that_does_not_exist(page: Path) -> None:
    named = re.findall(r"(?:`|\$ )orbatch ([a-z]+)", (ROOT / page).read_text("utf-8"))
    assert set(named) <= commands()


def test_the_picture_shows_a_run_and_loads_nothing_from_elsewhere() -> None:
    picture = (ROOT / "docs" / "images" / "run.svg").read_text("utf-8").replace("&#160;", " ")
    assert re.search(r"\d of 7 done · \d running", picture)
    assert "orbatch run configs/cats.yaml --simulate" in picture
    assert not re.findall(r"url\(\W*http|href=", picture)
