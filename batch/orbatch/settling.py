"""Charges that were not known when a job ended, and readings of the account's usage: what makes the bill complete."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from orbatch.budget import Caps
from orbatch.ledger import JobRecord, Ledger, utc_now
from orbatch.money import nusd
from orbatch_provider.errors import AuthenticationError, OpenRouterError

if TYPE_CHECKING:
    from orbatch_provider.responses import Generation, KeyInfo


class Accounting(Protocol):
    """What settling needs of the provider."""

    @property
    def account(self) -> str: ...
    async def generation(self, generation_id: str) -> Generation: ...
    async def key(self) -> KeyInfo: ...


@dataclass(frozen=True, slots=True)
class Settled:
    """``settled`` attempts have their charge now; ``open`` ones still count at their worst case."""

    settled: int
    open: int


async def settle_unknown(ledger: Ledger, provider: Accounting, jobs: list[JobRecord], caps: Caps) -> Settled:
    """Ask ``GET /generation`` for every charge that is still unknown.

    It answers 404 for minutes after a job; such attempts stay open, at their worst case, for the next time. Raises
    AuthenticationError; any other failure leaves the attempt as it is.
    """
    settled = 0
    for job in jobs:
        attempt = job.attempt
        if attempt is None or attempt.generation_id is None:
            continue
        try:
            generation = await provider.generation(attempt.generation_id)
        except AuthenticationError:
            raise
        except OpenRouterError:
            continue
        if generation.total_cost is not None:
            ledger.settle(attempt.id, nusd(generation.total_cost), is_byok=generation.is_byok, caps=caps)
            settled += 1
    return Settled(settled, len(jobs) - settled)


async def record_usage(ledger: Ledger, provider: Accounting) -> KeyInfo | None:
    """Read the key's usage into the ledger, as evidence about submits of unknown fate; None when it cannot be read."""
    at = utc_now()
    key = None
    with contextlib.suppress(OpenRouterError):
        key = await provider.key()
        if key.usage is not None:
            ledger.evidence.record_usage(provider.account, nusd(key.usage), at)
    return key
