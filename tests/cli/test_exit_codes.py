"""Which exit code a run deserves: the most urgent of what it leaves."""

from __future__ import annotations

import pytest

from orbatch.cli.errors import ExitCode
from orbatch.cli.run import exit_code
from orbatch.ledger import Caps, Counts
from orbatch.runner.runner import RunResult, Stop

DONE = {"done": 3}


def _result(stop: Stop | None = None, *, over_budget: bool = False) -> RunResult:
    return RunResult(stop, "", over_budget, {}, 1.0, Caps())


CASES = [
    pytest.param(_result(), DONE, 0, ExitCode.DONE, id="everything done"),
    pytest.param(_result(), {}, 0, ExitCode.DONE, id="nothing to do"),
    pytest.param(_result(Stop.FAILED), DONE, 0, ExitCode.FAILED, id="the provider refuses every request"),
    *[
        pytest.param(_result(), DONE | {status: 1}, 0, ExitCode.NO_OUTPUT, id=status)
        # The last two are paid for, but the run gave up waiting for them.
        for status in ("failed", "cancelled", "expired", "rejected", "lost", "submitted", "completed")
    ],
    pytest.param(_result(Stop.FAIL_FAST), DONE | {"pending": 1}, 0, ExitCode.NO_OUTPUT, id="fail fast"),
    pytest.param(_result(over_budget=True), DONE | {"pending": 1}, 0, ExitCode.BUDGET, id="over budget"),
    pytest.param(_result(Stop.NO_CREDIT), DONE | {"pending": 1}, 0, ExitCode.BUDGET, id="no credit"),
    pytest.param(_result(over_budget=True), {"failed": 1}, 0, ExitCode.BUDGET, id="budget before failures"),
    pytest.param(_result(), DONE, 1, ExitCode.UNCERTAIN, id="uncertain"),
    pytest.param(_result(over_budget=True), {"failed": 1}, 1, ExitCode.UNCERTAIN, id="uncertain before budget"),
    pytest.param(_result(Stop.FAILED), DONE, 1, ExitCode.FAILED, id="a run that broke before uncertain jobs"),
    pytest.param(_result(Stop.INTERRUPTED), {"failed": 1}, 1, ExitCode.INTERRUPTED, id="interrupted before anything"),
]


@pytest.mark.parametrize(("result", "by_status", "uncertain", "expected"), CASES)
def test_the_most_urgent_outcome_gives_the_code(
    result: RunResult, by_status: dict[str, int], uncertain: int, expected: ExitCode
) -> None:
    assert exit_code(result, Counts(by_status), uncertain) is expected
