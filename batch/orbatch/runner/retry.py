"""What is done and said when an attempt has ended, whatever kind of job it was for."""

from __future__ import annotations

from collections.abc import Callable

from orbatch.ledger import AttemptRecord, JobRecord, Settlement
from orbatch.ledger.status import Status
from orbatch.money import format_usd
from orbatch.runner.context import RunContext
from orbatch.runner.reconcile import broken_cap_text, overrun_text

BlockModel = Callable[[str, str], None]


def check_overrun(
    shared: RunContext, block_model: BlockModel, job: JobRecord, attempt: AttemptRecord, settlement: Settlement
) -> None:
    """A charge above its reservation is written down and said; one that breaks a cap stops its model."""
    if not settlement.overrun_nusd:
        return
    text = overrun_text(attempt, settlement)
    shared.ledger.attempts.add_event(job.id, attempt.id, text)
    shared.say(job, text, "warning")
    if settlement.cap_exceeded is not None:
        block_model(job.model, broken_cap_text(job.model, settlement.cap_exceeded))


def say_ended(shared: RunContext, job: JobRecord, status: Status, reason: str, cost_nusd: int | None) -> None:
    """An attempt ended without a result: open the job again where the batch says so."""
    charged = f"charged {format_usd(cost_nusd)} USD" if cost_nusd is not None else "no charge reported"
    made = shared.ledger.queries.attempts_made(job.id)
    allowed = shared.terms.attempts
    may_try_again = status in shared.terms.retry_on and made < allowed and not job.retired
    if may_try_again and shared.ledger.attempts.reopen([job.id], reset_attempts=False):
        text = f"{status}: {reason} ({charged}); {made} of {allowed} attempts made, trying again"
        shared.say(job, text, "warning")
    else:
        shared.say(job, f"{status}: {reason} ({charged})", "error")
