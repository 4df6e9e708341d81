"""Real runs, killed with SIGKILL and started again: nothing is paid twice, and no paid result is lost."""

from __future__ import annotations

import random
import time

import pytest

from tests.chaos.arena import Scene
from tests.chaos.audit import unaccounted
from tests.chaos.conftest import Open, finish_and_compare
from tests.chaos.launcher import POINTS

# These need an earlier kill, or are passed once a run.
_RECOVERY = "in the recovery of an earlier kill"
_ONCE = "before the lease is released"


@pytest.mark.parametrize("point", sorted(POINTS.keys() - {_RECOVERY, _ONCE}))
def test_nothing_is_paid_twice_and_no_paid_result_is_lost_when_killed(point: str, open_arena: Open) -> None:
    # Files that finish together are placed together: enough of them, so that the second run has two to place as well.
    arena = open_arena(Scene(prompts=4 if "link" in point else 2, ranges=len(point) % 2 == 0))
    for number in (1, 2):
        arena.run(point, number)
        assert unaccounted(arena.ledger, arena.journal()) == []
    assert arena.kills == 2
    finish_and_compare(arena)


def test_nothing_is_paid_twice_when_the_recovery_of_a_kill_is_killed(open_arena: Open) -> None:
    arena = open_arena(Scene(in_flight=4))
    arena.run("while the answer is awaited", 2)
    arena.run(_RECOVERY)
    assert arena.kills == 2
    assert unaccounted(arena.ledger, arena.journal()) == []
    finish_and_compare(arena)


def test_a_run_killed_at_its_very_end_has_nothing_left_to_do(open_arena: Open) -> None:
    arena = open_arena(Scene(prompts=1))
    arena.run(_ONCE)
    assert arena.kills == 1
    assert arena.run() == 0
    assert arena.audit().findings == []


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_paid_twice_and_no_paid_result_is_lost_when_killed_at_random(seed: int, open_arena: Open) -> None:
    luck = random.Random(seed)
    arena = open_arena(Scene(prompts=3, in_flight=3, ranges=seed % 2 == 0, answer_delay_s=20.0))
    for _ in range(5):
        arena.run_and_kill(luck.uniform(0.0, 0.25))
        assert unaccounted(arena.ledger, arena.journal()) == []
    finish_and_compare(arena)


@pytest.mark.parametrize("seed", [3, 4])
def test_the_provider_may_be_killed_and_come_back(seed: int, open_arena: Open) -> None:
    luck = random.Random(seed)
    arena = open_arena(Scene(prompts=3, in_flight=3, ranges=seed % 2 == 0, answer_delay_s=20.0))
    with arena.running():
        time.sleep(luck.uniform(0.0, 0.2))
        arena.kill_simulator()
        time.sleep(luck.uniform(0.0, 0.2))
        arena.start_simulator()
    assert unaccounted(arena.ledger, arena.journal()) == []
    arena.resolve()
    finish_and_compare(arena)
