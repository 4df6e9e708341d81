"""``plan``, and the plan's paragraph that ``run`` shows before it asks."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from orbatch.cli.connecting import Connection, connected
from orbatch.cli.planned import Credit, Means, plan_data, plan_lines, plan_table
from orbatch.cli.session import Failure, Session
from orbatch.cli.tables import counted
from orbatch.config import BatchConfig, load_config
from orbatch.planfile import PlanFile, check_destination
from orbatch.preparing import cap_outlooks, caps_of, models_to_price, prepare, simulated
from orbatch_provider.errors import AuthenticationError, ConfigurationError, OpenRouterError

if TYPE_CHECKING:
    from orbatch.ledger import Ledger


def show_plan(
    session: Session,
    path: Path,
    *,
    output: Path | None,
    budget: Decimal | None,
    only: str | None,
    refresh: bool,
    check_urls: bool,
    simulate: bool,
) -> None:
    if output is not None:
        check_destination(output)

    async def make() -> Means:
        async with connected(session, simulate=simulate, with_books=False) as connection:
            with session.open_ledger(simulate=simulate, create=True) as ledger:
                return await planned(session, ledger, connection, path, only=only, budget=budget, refresh=refresh)

    means = asyncio.run(make())
    problems = asyncio.run(url_problems(means.plan.config)) if check_urls else []
    for problem in problems:
        session.warn(problem)
    if output is not None:
        PlanFile.of(means.plan, budget, simulated=simulate).write(output)
    if session.json:
        session.data(plan_data(means))
    else:
        session.print(plan_table(means.plan))
        for line in plan_lines(means):
            session.result(line)
    if output is not None:
        flag = session.flags(simulate=simulate)
        session.say(f"Written to {output}: `orbatch run {output}{flag}` executes exactly this plan.")
    if problems:
        raise Failure(f"{counted(len(problems), 'input')} cannot be fetched, so providers would refuse the jobs.")


async def planned(
    session: Session,
    ledger: Ledger,
    connection: Connection,
    path: Path,
    *,
    only: str | None,
    budget: Decimal | None,
    refresh: bool,
) -> Means:
    """Load, check, price and write the batch; the origin and age of the prices are said."""
    config = load_config(path)
    if connection.simulated:
        config = simulated(config)
    loaded = await connection.offers(models_to_price(ledger, config), refresh=refresh)
    if loaded.kind in ("stale cache", "snapshot"):
        session.warn(loaded.note)
    else:
        session.say(loaded.note)
    plan = prepare(ledger, config, loaded, connection.provider.origin, only)
    caps = caps_of(config.budget, budget)
    return Means(plan, caps, cap_outlooks(ledger, plan, caps), await credit(connection))


async def url_problems(config: BatchConfig) -> list[str]:
    """What is wrong with the https inputs of a batch, each asked for once and without any key."""
    from orbatch.expand import expand
    from orbatch_provider.inputs import remote_inputs
    from orbatch_provider.links import check_links

    urls = {url: kind for job in expand(config) for url, kind in remote_inputs(job.request.body())}
    return [f"{link.name}: {link.problem}" for link in await check_links(urls) if link.problem is not None]


async def credit(connection: Connection) -> Credit:
    """Never raises: a plan is worth having without a key, and when the API does not answer."""
    try:
        return Credit((await connection.provider.key()).remaining)
    except ConfigurationError:
        return Credit()
    except AuthenticationError as exc:
        return Credit(problem=f"The key was not accepted: {exc}")
    except OpenRouterError as exc:
        return Credit(problem=f"What the key may still spend could not be read: {exc}")
