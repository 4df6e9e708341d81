"""Exit codes, and which one a run deserves. Pure."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from orbatch.ledger import Counts
from orbatch.ledger.status import ENDED_REMOTELY, PAID_AND_OPEN, Status

if TYPE_CHECKING:
    from orbatch.runner.runner import RunResult


class Exit(IntEnum):
    """What the exit code of every command means."""

    DONE = 0  # everything done
    FAILED = 1  # orbatch or the provider failed
    USAGE = 2  # bad usage or config, nothing spent
    NO_RESULT = 3  # some jobs ended without a result
    BUDGET = 4  # stopped by budget or credit
    UNCERTAIN = 5  # uncertain jobs need `resolve`
    INTERRUPTED = 130  # interrupted, run the same command to go on


def exit_code(result: RunResult, counts: Counts, uncertain: int) -> Exit:
    """The most urgent of what a run leaves: a person must act on uncertain jobs before on a budget."""
    from orbatch.runner.runner import Stop  # not above: commands that only read start without the runner

    if result.stop is Stop.INTERRUPTED:
        return Exit.INTERRUPTED
    if result.stop is Stop.FAILED:
        return Exit.FAILED
    if uncertain:
        return Exit.UNCERTAIN
    if result.stop is Stop.NO_CREDIT or result.over_budget:
        return Exit.BUDGET
    without_result = ENDED_REMOTELY | PAID_AND_OPEN | {Status.REJECTED, Status.LOST}
    if result.stop is Stop.FAIL_FAST or any(counts[status] for status in without_result):
        return Exit.NO_RESULT
    return Exit.DONE
