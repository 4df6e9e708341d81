"""Batches from Python: the same plan, ledger and money as on the command line."""

from __future__ import annotations

from decimal import Decimal

import pytest

from orbatch import plan_batch, run_batch
from orbatch.cli.errors import Failure
from orbatch.runner import Event
from orbatch_simulator import Fault
from tests.desk import HORSE, LITE, Desk


@pytest.fixture
def here(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk whose environment is this process's."""
    monkeypatch.delenv("ORBATCH_DB", raising=False)
    for name in ("OPENROUTER_API_KEY", "OPENROUTER_BASE_URL", "ORBATCH_CACHE_DIR"):
        monkeypatch.setenv(name, desk.env[name])
    monkeypatch.chdir(desk.folder)
    return desk


def test_a_batch_is_planned_run_and_resumed(here: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    path, heard = here.write(), list[Event]()
    assert plan_batch(path)["jobs_to_submit"] == 3
    assert here.accepted() == 0
    first = run_batch(path, only="p1", speed=here.speed, on_event=heard.append)
    assert [record["status"] for record in first.records] == ["done", "pending", "pending"]
    result = run_batch(path, speed=here.speed)
    assert (len(result.done), result.spent_usd, result.stopped) == (3, Decimal("0.36"), None)
    assert {"prompt", "variables", "sha256", "cost_usd"} <= result.records[0].keys()
    assert any(event.level == "done" for event in heard)
    assert here.accepted() == 3
    assert capsys.readouterr() == ("", ""), "it prints nothing"


def test_the_records_make_a_data_frame(here: Desk) -> None:
    frame = run_batch(here.write(models=[LITE, HORSE]), speed=here.speed).to_pandas()
    assert len(frame) == 6
    assert frame.groupby("model")["cost_usd"].sum().to_dict() == pytest.approx({LITE: 0.36, HORSE: 1.1856})


async def test_it_works_where_an_event_loop_is_running(here: Desk) -> None:
    assert len(run_batch(here.write(prompts=["one"]), speed=here.speed).done) == 1


def test_a_budget_and_failures_are_in_the_result(here: Desk) -> None:
    here.simulator.set_faults(Fault("job", "failed", prompt_contains="dog"))
    result = run_batch(here.write(), speed=here.speed, budget_usd=Decimal("0.30"))
    assert sorted(record["status"] for record in result.records) == ["done", "failed", "pending"]


def test_what_the_command_line_refuses_is_raised_before_anything_is_bought(
    here: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENROUTER_API_KEY")
    with pytest.raises(Failure, match="OPENROUTER_API_KEY"):
        run_batch(here.write(), speed=here.speed)
    assert here.accepted() == 0
