"""Which provider a command talks to: the configured API, or the simulator that plays it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orbatch.cli.session import Session
    from orbatch.plan.catalogs import LoadedCatalog
    from orbatch_provider import OpenRouterProvider
    from orbatch_provider.catalog import ImageCatalog

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
        from orbatch.plan.catalogs import LoadedCatalog, load_catalog
        from orbatch_provider.catalog import snapshot

        if self.simulated:
            catalog = await self.provider.catalog()
            note = f"Prices of the simulator: the packaged snapshot of {snapshot().captured_at:%Y-%m-%d}."
            return LoadedCatalog(catalog, "live", note)
        return await load_catalog(
            self.provider.catalog, origin=self.provider.origin, refresh=refresh, now=lambda: datetime.now(UTC)
        )

    async def offers(self, models: Mapping[str, Collection[str]], *, refresh: bool) -> LoadedCatalog:
        """The same with the image and text models that a batch has, by kind. Text models have no snapshot to fall back
        on: raises OpenRouterError when they cannot be read."""
        loaded = await self.catalog(refresh=refresh)
        if models.get("text"):
            loaded = replace(loaded, text=await self.provider.text_catalog())
        if not models.get("image"):
            return loaded
        images, note = await self.images(models["image"])
        if not note:
            return replace(loaded, image=images)
        return replace(loaded, image=images, kind="snapshot", note=f"{loaded.note} {note}")

    async def images(self, only: Collection[str] | None = None) -> tuple[ImageCatalog, str]:
        """The image models, with endpoints those of ``only``; and a sentence that must be shown when they are not live
        ones, else an empty one."""
        from orbatch_provider.catalog import image_snapshot
        from orbatch_provider.errors import OpenRouterError

        try:
            return await self.provider.image_catalog(only), ""
        except OpenRouterError as exc:
            packaged = image_snapshot()
            return packaged, (
                f"Prices of images from the packaged snapshot of {packaged.captured_at:%Y-%m-%d}: the live ones could "
                f"not be read ({str(exc).rstrip('.')})."
            )


def books_path(session: Session) -> Path:
    """The journal of the built-in simulator, beside its ledger, so that an interrupted rehearsal goes on."""
    ledger = session.ledger_path(simulate=True)
    return ledger.with_name(ledger.name + BOOKS_SUFFIX)


@asynccontextmanager
async def connected(
    session: Session, *, simulate: bool, speed: float | None = None, with_books: bool = True
) -> AsyncIterator[Connection]:
    """``with_books`` False: nothing depends on earlier simulated jobs, so their journal is left to those who run.

    Raises ConfigurationError for a base URL that must not receive a key.
    """
    from orbatch_provider import OpenRouterProvider

    if not simulate:
        async with OpenRouterProvider() as provider:
            yield Connection(provider, simulated=False, speed=speed or 1.0)
        return
    from orbatch_simulator import SimulatorSettings, simulator_thread

    speed = speed or SIMULATED_SPEED
    books = books_path(session) if with_books else None
    with simulator_thread(SimulatorSettings(speed=speed), books_path=books) as simulator:
        async with OpenRouterProvider(SIMULATED_KEY, base_url=simulator.base_url) as provider:
            yield Connection(provider, simulated=True, speed=speed)
