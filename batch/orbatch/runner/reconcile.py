"""Charges: those not known when a job ended, those above their reservation, and readings of the account's usage."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from orbatch.ledger import Caps, Charge, JobRecord, Ledger, Settlement, Status, utc_now
from orbatch.money import format_usd, to_nano
from orbatch.runner.context import Provider, RunContext
from orbatch_provider import AuthenticationError, NotFoundError, OpenRouterError

USAGE_TIMEOUT_S = 10.0  # for a reading that is only evidence; submits wait for it
MAX_USAGE_USD = 10**9  # beyond it a reading is an error, not a charge


@dataclass(frozen=True, slots=True)
class SettleResult:
    """``settled`` attempts have their charge now; ``open`` ones still count at their worst case. ``broken``: models
    whose late charge broke a cap, each with the reason to submit no more of them."""

    settled: int
    open: int
    broken: dict[str, str]


async def reconcile(ledger: Ledger, provider: Provider, jobs: list[JobRecord], caps: Caps) -> SettleResult:
    """Read every charge that is still unknown from ``GET /generation``.

    It answers 404 for minutes after a job; such attempts stay open, at their worst case, for the next time. So does
    everything else once the provider fails otherwise. Raises AuthenticationError and LedgerError.
    """
    settled = 0
    broken: dict[str, str] = {}
    for job in jobs:
        attempt = job.attempt
        if attempt is None or attempt.generation_id is None:
            continue
        try:
            generation = await provider.generation(attempt.generation_id)
        except AuthenticationError:
            raise
        except NotFoundError:
            continue
        except OpenRouterError as exc:
            if exc.temporary:
                break  # each of the others would wait for the same failure
            continue
        # An answer about another request must never settle this one.
        if generation.total_cost is None or generation.id not in ("", attempt.generation_id):
            continue
        charge = Charge(to_nano(generation.total_cost), generation.is_byok)
        settlement = ledger.attempts.settle(attempt.id, charge, caps)
        settled += 1
        _record_overrun(ledger, job, attempt.id, attempt.reserved_nusd, settlement)
        if settlement.cap_exceeded is not None:
            broken[job.model] = _broken_cap_text(job.model, settlement.cap_exceeded)
    return SettleResult(settled, len(jobs) - settled, broken)


def report_overrun(
    context: RunContext, job: JobRecord, attempt_id: int, reserved_nusd: int | None, settlement: Settlement
) -> None:
    """Record and report a charge above its reservation; one that breaks a cap blocks its model."""
    text = _record_overrun(context.ledger, job, attempt_id, reserved_nusd, settlement)
    if text:
        context.log(job, text, "warning")
    if settlement.cap_exceeded is not None:
        context.block_model(job.model, _broken_cap_text(job.model, settlement.cap_exceeded))


def report_end(context: RunContext, job: JobRecord, status: Status, reason: str, charge: Charge) -> None:
    """An attempt ended without output: set the job back to pending where the batch file allows another attempt."""
    charged = charged_text(charge)
    options = context.options
    made = context.ledger.queries.attempts_made(job.id)
    is_retried = status in options.retry_on and made < options.attempts and not job.retired
    if is_retried and context.ledger.attempts.reopen([job.id], reset_attempts=False):
        context.log(job, f"{status}, {charged}: {reason}; attempt {made} of {options.attempts}, retrying", "warning")
    else:
        context.log(job, f"{status}, {charged}: {reason}", "failed")


def charged_text(charge: Charge) -> str:
    """A charge for a message, known or not."""
    if charge.cost_nusd is not None:
        return f"charged {format_usd(charge.cost_nusd)} USD" if charge.cost_nusd else "not charged"
    if charge.unreadable:
        return f"charge unknown: the provider reported {charge.unreadable!r}, which is not an amount"
    return "charge not reported yet"


async def record_usage(ledger: Ledger, provider: Provider) -> None:
    """Read the key's usage into the ledger, as evidence about uncertain submits; without it, nothing is recorded."""
    at = utc_now()
    with contextlib.suppress(OpenRouterError, TimeoutError):
        async with asyncio.timeout(USAGE_TIMEOUT_S):
            key = await provider.key()
        if key.usage is not None and -MAX_USAGE_USD < key.usage < MAX_USAGE_USD:  # abs() of 1e9999999 overflows
            ledger.usage.record(provider.account, to_nano(key.usage), at)


def _record_overrun(
    ledger: Ledger, job: JobRecord, attempt_id: int, reserved_nusd: int | None, settlement: Settlement
) -> str:
    """The text that was recorded; "" for a charge within its reservation."""
    if not settlement.overrun_nusd:
        return ""
    cost, more, reserved = map(format_usd, (settlement.cost_nusd, settlement.overrun_nusd, reserved_nusd))
    text = f"charged {cost} USD, {more} USD more than the {reserved} USD reserved"
    ledger.attempts.add_event(job.id, attempt_id, text)
    return text


def _broken_cap_text(model: str, cap: str) -> str:
    return f"a charge of {model} broke {cap}: its price is not what was estimated"
