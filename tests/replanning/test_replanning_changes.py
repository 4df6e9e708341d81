"""A batch that was planned before: whatever its jobs are made from, a change of it is seen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import orbatch
from orbatch.batchfile.errors import ConfigError
from orbatch.ledger import Ledger
from orbatch.plan.plan import PlanProblems
from orbatch_provider import inputs
from orbatch_provider.catalog import snapshot
from tests.pictures import picture
from tests.replanning.shop import PROMPTS, Shop, afresh, changed_by, dearer, rows


def _same_look(path: Path, content: bytes) -> None:
    """Another content with the size and the times of the one before."""
    before = path.stat()
    assert len(content) == before.st_size
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    inputs._inspect.cache_clear()  # the next command is a process of its own


def _edit_the_prompt_file(shop: Shop) -> None:
    _same_look(shop.prompts, shop.prompts.read_bytes().replace(b"cat 7", b"dog 7"))


def _lengthen_the_prompt_file(shop: Shop) -> None:
    shop.prompts.write_text(shop.prompts.read_text() + "one more,\n")


def _edit_a_picture_of_the_batch_file(shop: Shop) -> None:
    _same_look(shop.folder / "one.png", picture("#fe0000"))


def _edit_a_picture_of_the_prompt_file(shop: Shop) -> None:
    _same_look(shop.folder / "two.png", picture("#00fe00"))


def _change_the_prices(shop: Shop) -> None:
    shop.catalog = dearer(2)


def _edit_the_batch_file(shop: Shop) -> None:
    shop.write(prompts=["another"])


def _rename_the_files(shop: Shop) -> None:
    shop.write(filename="{{ index }}")


def _move_the_batch(shop: Shop) -> None:
    """The same text elsewhere names other pictures."""
    other = shop.folder / "other"
    other.mkdir()
    shop.file = Path(shutil.copy(shop.file, other))
    shutil.copy(shop.prompts, other)
    for name in ("one.png", "two.png"):
        (other / name).write_bytes(picture("blue"))


CHANGES = [
    pytest.param(change, id=change.__name__.strip("_").replace("_", " "))
    for change in (
        _edit_the_prompt_file,
        _lengthen_the_prompt_file,
        _edit_a_picture_of_the_batch_file,
        _edit_a_picture_of_the_prompt_file,
        _change_the_prices,
        _edit_the_batch_file,
        _rename_the_files,
        _move_the_batch,
    )
]


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_the_jobs_is_seen(ledger: Ledger, shop: Shop, change: Callable[[Shop], None]) -> None:
    shop.plan(ledger)
    change(shop)
    digest, expected = afresh(shop)
    for _ in range(2):
        assert shop.plan(ledger).digest == digest
        assert [row for row in rows(ledger) if not row[11]] == expected


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_is_taken_back_is_seen_as_well(
    ledger: Ledger, shop: Shop, change: Callable[[Shop], None]
) -> None:
    digest, before = shop.plan(ledger).digest, rows(ledger)
    contents = {path: path.read_bytes() for path in shop.folder.iterdir() if path.suffix in (".yaml", ".csv", ".png")}
    file = shop.file
    change(shop)
    shop.plan(ledger)
    for path, content in contents.items():
        path.write_bytes(content)
    shop.file, shop.catalog = file, snapshot()
    assert shop.plan(ledger).digest == digest
    assert [row for row in rows(ledger) if not row[11]] == before


def test_an_upgraded_orbatch_plans_anew(
    ledger: Ledger, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.plan(ledger)
    upgraded = Path(shutil.copytree(Path(orbatch.__path__[0]), tmp_path / "upgraded"))
    monkeypatch.setattr(orbatch, "__path__", [str(upgraded)])
    assert changed_by(ledger, lambda: shop.plan(ledger)) == 1, "the same code elsewhere makes the same jobs"
    (upgraded / "plan" / "jobs.py").write_text("# other keys\n" + (upgraded / "plan" / "jobs.py").read_text())
    assert changed_by(ledger, lambda: shop.plan(ledger)) > len(PROMPTS)
    monkeypatch.setattr(orbatch, "__path__", [str(tmp_path / "nowhere")])
    for _ in range(2):
        assert changed_by(ledger, lambda: shop.plan(ledger)) > len(PROMPTS), "code that cannot be read is unknown code"


def test_another_version_of_what_renders_the_prompts_plans_anew(
    ledger: Ledger, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.plan(ledger)
    assert changed_by(ledger, lambda: shop.plan(ledger)) == 1
    monkeypatch.setattr("orbatch.plan.plan.version", lambda name: f"another {name}")
    assert changed_by(ledger, lambda: shop.plan(ledger)) > len(PROMPTS)
    assert changed_by(ledger, lambda: shop.plan(ledger)) == 1


def test_a_prompt_file_that_is_edited_while_it_is_planned_is_planned_again(ledger: Ledger, shop: Shop) -> None:
    class Models(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            shop.prompts.write_text("prompt\nsomething else\n")
            return super().get(key, default)

    before = shop.prompts.read_bytes()
    shop.catalog = replace(snapshot(), models=Models(snapshot().models))
    shop.plan(ledger)
    shop.prompts.write_bytes(before)
    shop.catalog = snapshot()
    assert shop.plan(ledger).digest == afresh(shop)[0]


def test_another_home_holds_other_pictures(
    ledger: Ledger, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.prompts.write_text("prompt,first_frame\nlast,~/cat.png\n")
    for home, color in (("one", "red"), ("two", "blue")):
        (tmp_path / home).mkdir()
        (tmp_path / home / "cat.png").write_bytes(picture(color))
        for name in ("HOME", "USERPROFILE"):
            monkeypatch.setenv(name, str(tmp_path / home))
        assert shop.plan(ledger).digest == afresh(shop)[0]


def test_a_picture_that_is_gone_is_a_problem_again(ledger: Ledger, shop: Shop) -> None:
    shop.plan(ledger)
    (shop.folder / "two.png").unlink()
    with pytest.raises(ConfigError, match="there is no file"):
        shop.plan(ledger)


def test_a_plan_that_is_refused_leaves_the_one_before_standing(ledger: Ledger, shop: Shop) -> None:
    digest = shop.plan(ledger).digest
    defaults = shop.batch["defaults"]
    shop.write(defaults={"duration": 5})
    with pytest.raises(PlanProblems):
        shop.plan(ledger)
    shop.write(defaults=defaults)
    assert changed_by(ledger, lambda: shop.plan(ledger)) == 1
    assert shop.plan(ledger).digest == digest


def test_a_ledger_of_an_earlier_version_is_planned_in_full_once(ledger: Ledger, shop: Shop) -> None:
    digest = shop.plan(ledger).digest
    with ledger.database.write() as db:
        for statement in ("drop table plans", "drop table plan_pictures"):
            db.execute(statement)
        db.execute("delete from _sqlite_migrations where name = 'm002_plans'")
    with Ledger.open(ledger.path) as upgraded:
        before = rows(upgraded, "*")
        assert changed_by(upgraded, lambda: shop.plan(upgraded)) > len(PROMPTS)
        assert changed_by(upgraded, lambda: shop.plan(upgraded)) == 1
        assert shop.plan(upgraded).digest == digest
        assert rows(upgraded, "*") == before
