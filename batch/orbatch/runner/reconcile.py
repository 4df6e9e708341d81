"""Charges that were not known when a job ended, and readings of the account's usage: what makes the bill complete."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from orbatch.ledger import AttemptRecord, Charge, JobRecord, Ledger, Settlement, utc_now
from orbatch.ledger.budget import Caps
from orbatch.money import format_usd, to_nano
from orbatch_provider.errors import AuthenticationError, NotFoundError, OpenRouterError

if TYPE_CHECKING:
    from orbatch_provider.responses import Generation, KeyInfo

USAGE_PATIENCE_S = 10.0  # for a reading that is only evidence; submits wait for it
LARGEST_USAGE_USD = 10**9  # beyond it a reading is an error, not a bill


class Accounting(Protocol):
    """What settling needs of the provider."""

    @property
    def account(self) -> str: ...
    async def generation(self, generation_id: str) -> Generation: ...
    async def key(self) -> KeyInfo: ...


@dataclass(frozen=True, slots=True)
class Settled:
    """``settled`` attempts have their charge now; ``open`` ones still count at their worst case. ``broken``: caps that
    a late charge broke, by model."""

    settled: int
    open: int
    broken: dict[str, str]


async def settle_unknown(ledger: Ledger, provider: Accounting, jobs: list[JobRecord], caps: Caps) -> Settled:
    """Ask ``GET /generation`` for every charge that is still unknown.

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
        if generation.total_cost is None or generation.id not in ("", attempt.generation_id):
            continue
        settlement = ledger.attempts.settle(
            attempt.id, Charge(to_nano(generation.total_cost), generation.is_byok), caps
        )
        settled += 1
        if settlement.overrun_nusd:
            ledger.attempts.add_event(job.id, attempt.id, overrun_text(attempt, settlement))
        if settlement.cap_exceeded is not None:
            broken[job.model] = broken_cap_text(job.model, settlement.cap_exceeded)
    return Settled(settled, len(jobs) - settled, broken)


def overrun_text(attempt: AttemptRecord, settlement: Settlement) -> str:
    """What to say of a charge above its reservation."""
    return (
        f"charged {format_usd(settlement.cost_nusd)} USD, {format_usd(settlement.overrun_nusd)} USD more than the "
        f"{format_usd(attempt.reserved_nusd)} USD reserved"
    )


def broken_cap_text(model: str, cap: str) -> str:
    """Why nothing more of ``model`` is sent after a charge that broke ``cap``."""
    return f"a charge of {model} broke {cap}: its price is not what was estimated"


async def record_usage(ledger: Ledger, provider: Accounting) -> KeyInfo | None:
    """Read the key's usage into the ledger, as evidence about submits of unknown fate; None when it cannot be read."""
    at = utc_now()
    key = None
    with contextlib.suppress(OpenRouterError, TimeoutError):
        async with asyncio.timeout(USAGE_PATIENCE_S):
            key = await provider.key()
        if key.usage is not None and abs(key.usage) < LARGEST_USAGE_USD:
            ledger.usage.record(provider.account, to_nano(key.usage), at)
    return key
