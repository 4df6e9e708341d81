"""The README and docs/commands.md are complete, and CI runs the README's command lines word for word.

What the commands print is compared in test_docs.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from orbatch.cli.app import COMMANDS
from orbatch.cli.session import ExitCode
from tests.console import ROOT, blocks

README = (ROOT / "README.md").read_text("utf-8")
PAGE = (ROOT / "docs" / "commands.md").read_text("utf-8")


def commands() -> set[str]:
    return set(COMMANDS)


def test_the_readme_fits_on_a_few_screens() -> None:
    assert README.count("\n") <= 180


@pytest.mark.parametrize("line", [line for _, block in blocks(README, "sh") for line in block.splitlines()])
def test_ci_runs_the_command_lines_of_the_readme_word_for_word(line: str) -> None:
    steps = [step.strip() for step in (ROOT / ".ci" / "run").read_text("utf-8").splitlines()]
    assert line in steps


def test_the_batch_of_the_readme_is_valid(tmp_path: Path) -> None:
    [(_, text)] = blocks(README, "yaml")
    (tmp_path / "batch.yaml").write_text(text, "utf-8")
    command = [sys.executable, "-m", "orbatch", "plan", "batch.yaml", "--simulate"]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", check=True)
    assert "my-cats: 6 jobs" in printed.stdout + printed.stderr


def test_the_table_of_commands_names_every_command_and_no_other() -> None:
    named = re.findall(r"^\| `orbatch ([a-z]+)", PAGE, re.MULTILINE)
    assert sorted(named) == sorted(commands())


def test_the_exit_codes_are_those_of_the_code() -> None:
    codes = re.findall(r"^\| (\d+) \| ", PAGE, re.MULTILINE)
    assert [int(code) for code in codes] == [code.value for code in ExitCode]


def test_every_environment_variable_that_is_read_is_explained() -> None:
    read = {
        name
        for folder in ("batch", "provider")
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(r'"((?:OPENROUTER|ORBATCH)_[A-Z_]+)"', path.read_text("utf-8"))
    }
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", PAGE, re.MULTILINE)) == read


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
