"""Which provider a command talks to: the configured API, or the simulator in its place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from orbatch.cli.errors import Failure
from orbatch.cli.session import Session

if TYPE_CHECKING:
    from orbatch.plan import Catalogs
    from orbatch_provider import OpenRouterProvider

SIMULATED_KEY = "sk-or-v1-simulated"  # the simulator accepts any key of this form
SIMULATED_MANAGEMENT_KEY = "sk-or-v1-simulated-management"  # so that uncertain jobs are looked up as with a real one
SIMULATED_SPEED = 30.0
JOURNAL_SUFFIX = ".simulator.jsonl"


@dataclass(frozen=True, slots=True)
class Connection:
    """An open provider. ``simulated``: by ``--simulate``. ``speed``: how much faster than real time it runs."""

    provider: OpenRouterProvider
    simulated: bool
    speed: float

    def require_key(self) -> None:
        """Raises Failure when no key is set."""
        from orbatch_provider import ConfigurationError

        try:
            self.provider.require_key()
        except ConfigurationError as exc:
            raise Failure(f"{exc} Nothing was submitted; --simulate needs no key.") from exc

    async def key_left(self) -> tuple[Decimal | None, str | None]:
        """What the key may still spend in USD (None: no limit), and what is wrong with the key (None: nothing). Never
        raises: a plan is useful without a key, and when the API does not answer."""
        from orbatch_provider import AuthenticationError, ConfigurationError, OpenRouterError

        try:
            return (await self.provider.key()).remaining, None
        except ConfigurationError:  # no key at all: ``require_key`` says so where one is needed
            return None, None
        except AuthenticationError as exc:
            return None, f"was not accepted by {self.provider.origin}: {exc}"
        except OpenRouterError as exc:
            return None, f"could not be checked: {exc}"

    async def catalogs(self, models: Mapping[str, Collection[str] | None], *, refresh: bool) -> Catalogs:
        """The catalogs of the kinds in ``models``, which names the models in question by kind (None: all).

        Raises OpenRouterError for a kind that has neither a live catalog nor a fallback."""
        from orbatch.plan import CatalogCache, load_catalogs
        from orbatch_provider import snapshot

        with TemporaryDirectory() as empty:
            # The built-in simulator has another port, and so other copies, in every command.
            cache = CatalogCache(self.provider.origin, Path(empty) if self.simulated else None)
            loaded = await load_catalogs(self.provider, models, cache, refresh=refresh)
        note = f"Simulator prices, from the catalog of {snapshot().captured_at:%Y-%m-%d}."
        return replace(loaded, note=note) if self.simulated else loaded


@asynccontextmanager
async def connect(
    session: Session,
    *,
    speed: float | None = None,
    with_journal: bool = True,
    with_key: bool = True,
    faults: Sequence[str] = (),
) -> AsyncIterator[Connection]:
    """The API of the environment, or with ``--simulate`` a simulator in a thread.

    ``with_journal``: it knows the simulated jobs of earlier calls. False where nothing depends on them, because only
    one simulator at a time may write the journal. ``with_key`` False: prices alone are read. ``faults``: of the
    simulator, by name or as JSON.
    Raises ConfigurationError for a base URL that must not receive a key.
    """
    from orbatch_provider import OpenRouterProvider

    if faults and not session.simulate:
        raise Failure("--fault is for the simulator. Add --simulate.")
    if not session.simulate:
        key = None if with_key else ""  # None: the environment's
        async with OpenRouterProvider(key, management_key=key) as provider:
            yield Connection(provider, simulated=False, speed=speed or 1.0)  # --speed: a simulator elsewhere
        return
    from orbatch_simulator import SimulatorSettings, named_fault, simulator_thread

    try:
        chosen = tuple(map(named_fault, faults))
    except ValueError as exc:
        raise Failure(f"--fault: {exc}.") from exc

    speed = speed or SIMULATED_SPEED
    ledger = session.ledger_path
    journal = ledger.with_name(ledger.name + JOURNAL_SUFFIX) if with_journal else None
    managers = frozenset({SIMULATED_MANAGEMENT_KEY})
    settings = SimulatorSettings(speed=speed, faults=chosen, management_keys=managers)
    with simulator_thread(settings, journal_path=journal) as simulator:
        async with OpenRouterProvider(
            SIMULATED_KEY, management_key=SIMULATED_MANAGEMENT_KEY, base_url=simulator.base_url
        ) as provider:
            yield Connection(provider, simulated=True, speed=speed)
