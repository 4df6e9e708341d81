"""Every fault that has a name does what docs/faults.md says of it, and costs no more than the plan."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest

from orbatch_simulator import NAMED, Fault
from tests.desk import Desk

PAGE = (Path(__file__).parents[2] / "docs" / "faults.md").read_text("utf-8")

# Exit code, and what becomes of one of three jobs; the others are done.
ENDS: dict[str, tuple[int, str]] = {
    "lost-answer": (5, "uncertain"),
    "lost-request": (5, "uncertain"),
    "gateway-error": (5, "uncertain"),
    "overloaded": (0, "done"),
    "rate-limited": (0, "done"),
    "refused": (3, "rejected"),
    "no-credit": (4, "pending"),
    "job-fails": (3, "failed"),
    "job-expires": (3, "expired"),
    "never-ends": (3, "submitted"),
    "cost-unknown": (0, "done"),
    "poll-outage": (0, "done"),
    "cut-download": (0, "done"),
    "gone": (3, "lost"),
    "no-price-list": (0, "done"),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_named_fault_does_what_is_said_of_it(desk: Desk, name: str) -> None:
    code, status = ENDS[name]
    path = desk.write(retries={"attempts": 1})
    desk.call("run", path, "--simulate", "--speed", 1000, "--fault", name, code=code)
    found = Counter(job["status"] for job in desk.jobs("--simulate"))
    assert found == Counter({"done": 2}) + Counter({status: 1})
    assert f"| `{name}` | {NAMED[name][0]} |" in PAGE


def test_a_fault_can_be_a_rule_and_is_for_the_simulator_alone(desk: Desk) -> None:
    path, rule = desk.write(), '{"call": "job", "action": "failed", "prompt_contains": "dog"}'
    desk.call("run", path, "--simulate", "--speed", 1000, "--fault", rule, code=3)
    assert "Did you mean lost-answer?" in desk.call("run", path, "--simulate", "--fault", "lost-anser", code=2).err
    assert "not JSON" in desk.call("run", path, "--simulate", "--fault", "{call", code=2).err
    assert "--fault is for the simulator." in desk.run(path, "--fault", "lost-answer", code=2).err
    assert desk.accepted() == 0


def test_the_page_explains_every_field_of_a_rule() -> None:
    explained = {
        word for cell in re.findall(r"^\| (`.*?`) \|", PAGE, re.MULTILINE) for word in re.findall(r"`(\w+)`", cell)
    }
    assert {field.name for field in fields(Fault)} <= explained
