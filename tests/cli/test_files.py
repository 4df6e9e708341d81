"""Files that a command writes: never over another one, and for the user alone."""

from __future__ import annotations

import stat

import pytest

from tests.desk import Desk


@pytest.fixture
def ran(desk: Desk) -> Desk:
    desk.run(desk.write())
    (desk.folder / "mine.json").write_text("mine")
    desk.call("plan", "films.yaml", "-o", "plan.json")
    return desk


@pytest.mark.parametrize("force", [(), ("--force",)], ids=["without --force", "with --force"])
@pytest.mark.parametrize(
    "command",
    [
        ("export", "-o", "orbatch.db"),
        ("export", "-o", "films.yaml"),
        ("export", "-o", "outputs/films/.orbatch/receipts.jsonl"),
        ("export", "-o", "outputs"),
        ("backup", "orbatch.db"),
        ("backup", "films.yaml"),
        ("plan", "films.yaml", "-o", "films.yaml"),
        ("plan", "films.yaml", "-o", "mine.json"),
    ],
    ids=" ".join,
)
def test_no_command_writes_over_a_batch_file_a_ledger_or_receipts(
    ran: Desk, command: tuple[str, ...], force: tuple[str, ...]
) -> None:
    before = {path: path.read_bytes() for path in ran.folder.rglob("*") if path.is_file() and "db-" not in path.name}
    ran.call(*command, *force, code=2)
    assert {path: path.read_bytes() for path in before} == before
    assert ran.call("status").out


@pytest.mark.parametrize(
    "command",
    [("export", "-o", "mine.json"), ("backup", "mine.json"), ("plan", "films.yaml", "-o", "plan.json")],
    ids=" ".join,
)
def test_an_existing_file_is_replaced_only_with_force(ran: Desk, command: tuple[str, ...]) -> None:
    target = ran.folder / command[-1]
    before = target.read_bytes(), target.stat().st_ino
    assert "already exists" in ran.call(*command, code=2).err
    assert (target.read_bytes(), target.stat().st_ino) == before
    ran.call(*command, "--force")
    assert target.stat().st_ino != before[1]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["films.yaml", "orbatch.db", "mine.json"])
def test_a_log_is_appended_to_nothing_but_a_log(ran: Desk, name: str) -> None:
    before = (ran.folder / name).read_bytes()
    refused = ran.run("films.yaml", "--log-file", name, code=2)
    assert f"{name} is not a log of orbatch" in refused.err
    assert (ran.folder / name).read_bytes() == before


def test_a_log_of_an_earlier_run_goes_on(desk: Desk) -> None:
    for prompts in (["a cat"], ["a cat", "a dog"]):
        desk.run(desk.write(prompts=prompts), "--log-file", "run.log")
    assert (desk.folder / "run.log").read_text().count("accepted as") == 2
    assert stat.S_IMODE((desk.folder / "run.log").stat().st_mode) == 0o600
