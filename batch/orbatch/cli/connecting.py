"""Which provider a command talks to: the configured API, or the simulator that plays it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orbatch.catalogs import LoadedCatalog
    from orbatch.cli.session import Session
    from orbatch_provider import OpenRouterProvider

SIMULATED_KEY = "sk-or-v1-simulated"  # any key of this form is good for play money
SIMULATED_SPEED = 30.0
BOOKS_SUFFIX = ".books.jsonl"


@dataclass(frozen=True, slots=True)
class Connection:
    """An open provider; ``simulated`` by ``--simulate``; ``speed``: how much faster than real time it runs."""

    provider: OpenRouterProvider
    simulated: bool
    speed: float

    async def catalog(self, *, refresh: bool) -> LoadedCatalog:
        """Models and prices, and where they come from."""
        from orbatch.catalogs import LoadedCatalog, load_catalog

        if self.simulated:
            catalog = await self.provider.catalog()
            note = f"Prices of the simulator: the packaged snapshot of {catalog.captured_at:%Y-%m-%d}."
            return LoadedCatalog(catalog, "live", note)
        return await load_catalog(
            self.provider.catalog, origin=self.provider.origin, refresh=refresh, now=lambda: datetime.now(UTC)
        )


def books_path(session: Session) -> Path:
    """The journal of the built-in simulator, beside its ledger, so that an interrupted rehearsal goes on."""
    ledger = session.ledger_path(simulate=True)
    return ledger.with_name(ledger.name + BOOKS_SUFFIX)


@asynccontextmanager
async def connected(session: Session, *, simulate: bool, speed: float | None = None) -> AsyncIterator[Connection]:
    """Raises ConfigurationError for a base URL that must not receive a key."""
    from orbatch_provider import OpenRouterProvider

    if not simulate:
        async with OpenRouterProvider() as provider:
            yield Connection(provider, simulated=False, speed=speed or 1.0)
        return
    from orbatch_provider.simulator import SimulatorSettings, simulator_thread

    speed = speed or SIMULATED_SPEED
    with simulator_thread(SimulatorSettings(speed=speed), books_path=books_path(session)) as simulator:
        async with OpenRouterProvider(SIMULATED_KEY, base_url=simulator.base_url) as provider:
            yield Connection(provider, simulated=True, speed=speed)
