"""The pages say what the code does: their commands run, their tables are complete, their links lead somewhere.

CI runs the command lines of the README word for word.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from orbatch.cli.app import COMMANDS
from orbatch.cli.errors import ExitCode
from orbatch.ledger.status import TRANSITIONS, Status
from orbatch_provider import OpenRouterProvider, errors
from orbatch_simulator import SimulatorSettings, simulator_thread
from tests.console import ROOT, SPEED, blocks, differences, steps, terminal

DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text("utf-8")
COMMANDS_PAGE = (DOCS / "commands.md").read_text("utf-8")
TYPED = ["README.md", "docs/guide.md", "docs/recipes.md"]
PYTHON = [
    pytest.param(page, code, id=f"{page}:{line}")
    for page in ("README.md", "docs/sdk.md", "docs/coming-from-agentfield.md")
    for line, code in blocks((ROOT / page).read_text("utf-8"), "python")
]
KINDS: tuple[errors.Kind, ...] = ("video", "image", "text")
PAGES = [path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *DOCS.glob("*.md")]]


@pytest.fixture
def service() -> Iterator[str]:
    with simulator_thread(SimulatorSettings(speed=SPEED)) as simulator:
        yield simulator.base_url


@pytest.mark.skipif(sys.platform == "win32", reason="the pages show a POSIX shell")
@pytest.mark.parametrize("page", TYPED)
def test_every_command_of_a_page_runs_as_it_is_written_and_prints_what_is_shown(
    page: str, tmp_path: Path, service: str
) -> None:
    here = terminal(tmp_path, service)
    try:
        typed = steps((ROOT / page).read_text("utf-8"))
        for step, following in zip(typed, [*typed[1:], None], strict=True):
            output = here.type(step)
            told = following is not None and following.command == "echo $?"
            assert here.last_code == 0 or told or step.command == "echo $?", f"{step.command}\n" + "\n".join(output)
            assert not differences(step, output, here.folder), f"{page}:{step.line}: {step.command}"
    finally:
        here.close()


@pytest.mark.parametrize(("page", "code"), PYTHON)
def test_an_example_in_python_runs_and_prints_what_is_shown(
    page: str, code: str, tmp_path: Path, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = re.search(re.escape(code) + r"```\n```text\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
    assert shown is not None, "no output is shown"
    really = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda delay, result=None: really(delay / SPEED, result))
    monkeypatch.setenv("OPENROUTER_BASE_URL", service)
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-or-v1-0123456789abcdef")
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, page, "exec"), {"__name__": "__main__"})  # noqa: S102 - our own examples
    assert printed.getvalue() == shown[1]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page: str) -> None:
    prose = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\((?!https?://)([^)\s]+)\)", prose):
        path, _, heading = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if heading:
            assert heading in anchors(target.read_text("utf-8")), link


def anchors(text: str) -> set[str]:
    """The anchors that a forge gives to the headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_index_names_every_page() -> None:
    index = (DOCS / "README.md").read_text("utf-8")
    assert [page.name for page in DOCS.glob("*.md") if page.name != "README.md" and f"({page.name})" not in index] == []


def test_the_map_names_every_module_and_no_other() -> None:
    """A line of the map is an indented list of modules, or one folder, and a description from column 36 on."""
    [(_, text)] = blocks((ROOT / "CONTRIBUTING.md").read_text("utf-8"), "text")
    assert text.count("\n") <= 60, "the map fits on a screen"
    path: list[str] = []
    named = []
    for line in text.splitlines():
        names = line[:36].strip()
        del path[(len(line) - len(line.lstrip())) // 2 :]
        if names.endswith("/"):
            path.append(names)
        else:
            named += ["".join(path) + f"{name}.py" for name in names.split(", ")]
    files = (file for top in ("batch", "provider") for file in (ROOT / top).rglob("*.py") if file.name[0] != "_")
    assert sorted(named) == sorted(file.relative_to(ROOT).as_posix() for file in files)


def test_the_diagram_of_the_lifecycle_shows_exactly_the_transitions_there_are() -> None:
    [(_, diagram)] = blocks((DOCS / "lifecycle.md").read_text("utf-8"), "mermaid")
    drawn = {(old, new) for old, new in re.findall(r"^ +(\w+) --> (\w+)", diagram, re.MULTILINE)}
    assert drawn == {(old.value, new.value) for old, following in TRANSITIONS.items() for new in following}


def test_the_lifecycle_page_explains_every_status() -> None:
    page = (DOCS / "lifecycle.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \| [^|]+ \|$", page, re.MULTILINE)
    assert rows == [status.value for status in Status]


def test_the_errors_of_the_sdk_page_are_those_of_the_code() -> None:
    page = (DOCS / "sdk.md").read_text("utf-8")
    shown = re.search(r"<!-- errors: begin .*?-->\n(.*?)<!-- errors: end -->", page, re.DOTALL)
    assert shown is not None
    assert shown[1] == errors_table()


def errors_table() -> str:
    """One row for each error that can follow a paid request, by status."""
    rules = [
        *((str(status), status, rule) for status, rule in errors.STATUS_RULES.items()),
        ("other 4xx", 418, errors.OTHER_4XX),
        ("other", 599, errors.OTHER_STATUS),
    ]
    rows: list[tuple[str, str, Sequence[errors.OpenRouterError]]] = [
        (name, rule.meaning, [rule.error(status, kind=kind) for kind in KINDS]) for name, status, rule in rules
    ]
    for name, error in [
        ("none", errors.ConfigurationError()),
        ("none", errors.NotSentError()),
        ("none", errors.OutcomeUnknownError()),
        ("2xx", errors.InvalidResponseError("unreadable")),
    ]:
        meaning = " ".join((inspect.getdoc(error) or "").split("\n\n")[0].split())
        rows.append((name, meaning[:1].lower() + meaning[1:].rstrip("."), [error]))
    lines = ["| Status | Error | Meaning | Nothing was started | May be sent again |", "|---|---|---|---|---|"]
    for name, meaning, found in rows:
        started = where([error.nothing_started for error in found])
        again = where([error.may_resend for error in found])
        lines.append(f"| {name} | `{type(found[0]).__name__}` | {meaning} | {started} | {again} |")
    return "\n".join(lines) + "\n"


def where(answers: Sequence[bool]) -> str:
    """yes or no; or the kinds of request for which it is yes."""
    if len(set(answers)) == 1:
        return "yes" if answers[0] else "no"
    return "for " + " and ".join(f"{kind}s" for kind, answer in zip(KINDS, answers, strict=True) if answer)


@pytest.mark.parametrize("name", ["check", "submit", "poll", "wait", "fetch"])
def test_the_phases_of_the_sdk_page_have_the_parameters_of_the_code(name: str) -> None:
    [signature] = re.findall(rf"^\| `{name}\(([^`]*)\)` \|", (DOCS / "sdk.md").read_text("utf-8"), re.MULTILINE)
    parameters = list(inspect.signature(getattr(OpenRouterProvider, name)).parameters.values())[1:]
    told = [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters]
    assert signature.split(", ") == told


# -- README.md and docs/commands.md


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
    named = re.findall(r"^\| `orbatch ([a-z]+)", COMMANDS_PAGE, re.MULTILINE)
    assert sorted(named) == sorted(COMMANDS)


def test_the_exit_codes_are_those_of_the_code() -> None:
    codes = re.findall(r"^\| (\d+) \| ", COMMANDS_PAGE, re.MULTILINE)
    assert [int(code) for code in codes] == [code.value for code in ExitCode]


def test_every_environment_variable_that_is_read_is_explained() -> None:
    read = {
        name
        for folder in ("batch", "provider")
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(r'"((?:OPENROUTER|ORBATCH)_[A-Z_]+)"', path.read_text("utf-8"))
    }
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", COMMANDS_PAGE, re.MULTILINE)) == read


@pytest.mark.parametrize("page", PAGES)
def test_no_page_names_a_command_that_does_not_exist(page: str) -> None:
    named = re.findall(r"(?:`|\$ )orbatch ([a-z]+)", (ROOT / page).read_text("utf-8"))
    assert set(named) <= set(COMMANDS)


def test_the_image_shows_a_run_and_loads_nothing_from_elsewhere() -> None:
    image = (ROOT / "docs" / "images" / "run.svg").read_text("utf-8").replace("&#160;", " ")
    assert re.search(r"total .*\d/7", image)
    assert "orbatch run configs/cats.yaml --simulate" in image
    assert not re.findall(r"url\(\W*http|href=", image)
