"""What a user installs: the two packages with their data, and nothing else."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from tests.console import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
DIST_INFO = f"orbatch-{PROJECT['version']}.dist-info"
SOURCES = {
    "orbatch": ROOT / "batch" / "orbatch",
    "orbatch_provider": ROOT / "provider" / "orbatch_provider",
    "orbatch_simulator": ROOT / "provider" / "orbatch_simulator",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel and an sdist of this tree, the wheel built from the sdist as an installer does."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT))
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    [path] = built.glob("*.whl")
    return path


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def source_files() -> Iterator[str]:
    for package, folder in SOURCES.items():
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield f"{package}/{path.relative_to(folder).as_posix()}"


def test_the_wheel_holds_every_file_of_the_two_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if not name.startswith(f"{DIST_INFO}/")}
    assert files == set(source_files())
    assert files >= {"orbatch/py.typed", "orbatch/starter.yaml", "orbatch_provider/py.typed"}
    assert "orbatch_provider/data/videos-models.json" in files


def test_the_wheel_carries_the_licence_and_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert f"{DIST_INFO}/licenses/LICENSE" in archive.namelist()
        assert "orbatch = orbatch.cli:main" in archive.read(f"{DIST_INFO}/entry_points.txt").decode()
        metadata = archive.read(f"{DIST_INFO}/METADATA").decode()
    assert "License-Expression: MIT" in metadata
    assert "# orbatch" in metadata


def test_installing_the_wheel_adds_nothing_but_the_packages_their_metadata_and_the_command(
    wheel: Path, tmp_path: Path
) -> None:
    options = ["--no-deps", "--no-index", "--no-compile", "--target", str(tmp_path)]
    run(sys.executable, "-m", "pip", "install", *options, str(wheel))
    assert {path.name for path in tmp_path.iterdir()} == {*SOURCES, DIST_INFO, "bin"}


def test_the_sdist_can_be_tested_and_read(built: Path) -> None:
    [path] = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = "LICENSE README.md CHANGELOG.md CONTRIBUTING.md pyproject.toml configs/cats.yaml docs/guide.md"
    assert names >= {*wanted.split(), "docs/images/run.svg", "tests/test_packaging.py"}
    assert not [name for name in names if re.search(r"\.db|__pycache__|/outputs/cats|\.env$", name)]


def imported_modules() -> set[str]:
    found = set()
    for folder in SOURCES.values():
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module.partition(".")[0])
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_exactly_what_is_imported_is_declared_as_a_dependency() -> None:
    extras = [line for name, lines in PROJECT["optional-dependencies"].items() if name != "dev" for line in lines]
    lines = [*PROJECT["dependencies"], *extras]
    declared = {canonical(re.split(r"[<>=~! ;\[]", line, maxsplit=1)[0]) for line in lines}
    homes = packages_distributions()
    third_party = imported_modules() - set(sys.stdlib_module_names) - set(SOURCES)
    needed = {canonical(homes[module][0]) for module in third_party}
    assert declared == needed


@pytest.mark.parametrize("line", PROJECT["dependencies"])
def test_a_dependency_has_a_lower_bound_and_an_upper_one(line: str) -> None:
    assert re.search(r">=[\d.]+,<\d", line)
