"""From a batch file to a plan in the ledger: what is written, what is refused, and how the plan stands to its caps."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orbatch.batchfile.errors import ConfigError
from orbatch.batchfile.loader import load_config
from orbatch.batchfile.models import BatchConfig
from orbatch.ledger import Ledger
from orbatch.ledger.budget import Caps
from orbatch.plan.catalogs import Catalogs
from orbatch.plan.plan import (
    CapForecast,
    Plan,
    PlanError,
    PlanProblems,
    caps_from_config,
    forecast_caps,
    make_plan,
    simulated,
)
from orbatch_provider.catalog import snapshot

ORIGIN = "https://openrouter.ai"
LITE, EDITOR = "google/veo-3.1-lite", "runway/aleph-2"
UNPRICED = {"model": EDITOR, "duration": None, "resolution": None, "generate_audio": None}


def config(tmp_path: Path, **changes: Any) -> BatchConfig:
    batch = {
        "name": "films",
        "defaults": {"duration": 4, "resolution": "720p", "generate_audio": False},
        "models": [LITE],
        "prompts": ["a cat", "a dog", "a cow"],
    }
    path = tmp_path / "films.yaml"
    batch = {name: value for name, value in (batch | changes).items() if value is not None}
    path.write_text(json.dumps(batch), "utf-8")
    return load_config(path)


def planned(ledger: Ledger, tmp_path: Path, only: str | None = None, **changes: Any) -> Plan:
    return make_plan(ledger, config(tmp_path, **changes), Catalogs({"video": snapshot()}, "snapshot"), ORIGIN, only)


def test_a_plan_with_a_problem_leaves_the_ledger_as_it_was(ledger: Ledger, tmp_path: Path) -> None:
    planned(ledger, tmp_path)
    with pytest.raises(PlanProblems) as refused:
        planned(ledger, tmp_path, defaults={"duration": 5, "resolution": "480p"}, prompts=["new", "prompts"])
    assert [(group.model, group.count) for group in refused.value.problems] == [(LITE, 2), (LITE, 2)]
    with pytest.raises(ConfigError, match="is the same request as prompt 'p1'"):
        planned(ledger, tmp_path, prompts=["new", "new"])
    assert ledger.queries.counts(1).by_status == {"pending": 3}
    with pytest.raises(PlanProblems):
        planned(ledger, tmp_path, name="other", defaults={"duration": 5})
    assert ledger.plans.names() == ["films"]


def test_play_money_and_real_money_do_not_mix(ledger: Ledger, tmp_path: Path) -> None:
    planned(ledger, tmp_path)
    with pytest.raises(PlanError, match="must not mix"):
        make_plan(ledger, config(tmp_path), Catalogs({"video": snapshot()}, "snapshot"), "http://127.0.0.1:8787")


def test_a_pattern_chooses_by_prompt_model_or_job(ledger: Ledger, tmp_path: Path) -> None:
    assert planned(ledger, tmp_path, only="p1").total.to_submit == 1
    assert planned(ledger, tmp_path, only="google/*").total.to_submit == 3
    [job, *_] = ledger.queries.next_pending(1, LITE, room_nusd=None, unpriced_nusd=None, limit=9)
    assert planned(ledger, tmp_path, only=job.id).total.to_submit == 1
    with pytest.raises(PlanError, match="matches no prompt id"):
        planned(ledger, tmp_path, only="nothing")


def test_a_rehearsal_has_an_output_folder_of_its_own(tmp_path: Path) -> None:
    real = config(tmp_path)
    assert simulated(real).output_dir == real.output_dir.with_name("films-sim")


def test_caps_are_those_of_the_file_unless_the_command_line_says_otherwise(tmp_path: Path) -> None:
    budget = config(
        tmp_path, budget={"total_usd": 1, "per_job_usd": "0.5", "per_model_usd": {LITE: 2}, "unpriced": 0.25}
    ).budget
    expected = Caps(total=10**9, per_job=5 * 10**8, per_model={LITE: 2 * 10**9}, unpriced=25 * 10**7)
    assert caps_from_config(budget) == expected
    assert caps_from_config(budget, Decimal("0.1")) == replace(expected, total=10**8)
    assert caps_from_config(config(tmp_path).budget) == Caps()


OUTLOOKS = [
    pytest.param({"total": 400}, [("budget.total_usd", 360, 0, 0, True)], id="total covers"),
    pytest.param({"total": 300}, [("budget.total_usd", 360, 0, 0, False)], id="total does not"),
    pytest.param({"total": 100}, [("budget.total_usd", 360, 3, 0, False)], id="total below each"),
    pytest.param({"per_day": 360}, [("budget.per_day_usd", 360, 0, 0, True)], id="per day"),
    pytest.param({"per_job": 120}, [("budget.per_job_usd", 120, 0, 0, True)], id="per job: the dearest counts"),
    pytest.param({"per_model": 300}, [(f"budget.per_model_usd of {LITE}", 360, 0, 0, False)], id="per model"),
]


@pytest.mark.parametrize(("caps", "expected"), OUTLOOKS)
def test_each_cap_is_put_beside_the_worst_case(
    ledger: Ledger, tmp_path: Path, caps: dict[str, int], expected: list[tuple[object, ...]]
) -> None:
    given: dict[str, Any] = {name: amount * 10**6 for name, amount in caps.items()}
    if "per_model" in given:
        given["per_model"] = {LITE: given["per_model"], "another/model": 1}
    found = forecast_caps(ledger, planned(ledger, tmp_path), Caps(**given))
    assert [_summary(cap) for cap in found] == expected


@pytest.mark.parametrize(("named", "refused", "needed"), [(None, 3, 0), (2 * 10**9, 0, 6000)], ids=["none", "named"])
def test_a_cap_refuses_jobs_without_an_upper_price_unless_an_amount_is_named(
    ledger: Ledger, tmp_path: Path, named: int | None, refused: int, needed: int
) -> None:
    plan = planned(ledger, tmp_path, models=[UNPRICED])
    [cap] = forecast_caps(ledger, plan, Caps(total=10**10, unpriced=named))
    assert (cap.unpriced, cap.needed_nusd // 10**6, cap.covers) == (refused, needed, not refused)


def test_nothing_to_send_needs_no_room(ledger: Ledger, tmp_path: Path) -> None:
    plan = planned(ledger, tmp_path)
    assert forecast_caps(ledger, replace(plan, groups=[]), Caps(total=1)) == []


def _summary(cap: CapForecast) -> tuple[object, ...]:
    return (cap.name, cap.needed_nusd // 10**6, cap.never, cap.unpriced, cap.covers)
