"""``plan``, and the plan's paragraph that ``run`` shows before it asks."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orbatch.cli.connecting import Connection, connected
from orbatch.cli.session import Session, printable
from orbatch.cli.tables import amount, json_usd, span, table
from orbatch.config import load_config
from orbatch.money import nusd, show_usd
from orbatch.preparing import Plan, caps_of, plan_file, prepare, simulated
from orbatch_provider.errors import ConfigurationError, OpenRouterError
from orbatch_provider.responses import KeyInfo

if TYPE_CHECKING:
    from orbatch.budget import Caps
    from orbatch.ledger import Ledger


def show_plan(
    session: Session,
    path: Path,
    *,
    output: Path | None,
    budget: Decimal | None,
    only: str | None,
    refresh: bool,
    simulate: bool,
) -> None:
    async def make() -> tuple[Plan, KeyInfo | None]:
        async with connected(session, simulate=simulate) as connection:
            with session.open_ledger(simulate=simulate, create=True) as ledger:
                plan = await planned(session, ledger, connection, path, only=only, refresh=refresh)
            return plan, await credit(connection)

    plan, key = asyncio.run(make())
    caps = caps_of(plan.config.budget, budget)
    if output is not None:
        output.write_text(json.dumps(plan_file(plan), indent=2) + "\n", "utf-8")
    if session.json:
        session.data(plan_data(plan, caps, key))
        return
    session.print(plan_table(plan))
    for line in plan_lines(plan, caps, key):
        session.say(line)
    if output is not None:
        session.say(f"Written to {output}: `orbatch run {output}` executes exactly this plan.")


async def planned(
    session: Session, ledger: Ledger, connection: Connection, path: Path, *, only: str | None, refresh: bool
) -> Plan:
    """Load, check, price and write the batch; the origin and age of the prices are said."""
    config = load_config(path)
    if connection.simulated:
        config = simulated(config)
    loaded = await connection.catalog(refresh=refresh)
    plan = prepare(ledger, config, loaded, connection.provider.origin, only)
    if loaded.kind in ("stale cache", "snapshot"):
        session.warn(loaded.note)
    else:
        session.say(loaded.note)
    return plan


async def credit(connection: Connection) -> KeyInfo | None:
    """What the key may still spend; None without a key, or when the API does not say."""
    try:
        return await connection.provider.key()
    except (ConfigurationError, OpenRouterError):
        return None


def plan_table(plan: Plan) -> Any:
    """Jobs, seconds and prices by model."""
    rows = [
        [
            part.model,
            str(part.jobs),
            str(part.done),
            str(part.open),
            str(part.ended),
            str(part.to_send),
            str(part.seconds),
            span(part.low_nusd, part.high_nusd, part.unpriced),
        ]
        for part in plan.outlook
    ]
    titles = ["model", "jobs", "done", "paid, open", "ended", "to send", "seconds", "USD"]
    return table(titles, rows, numbers=range(1, 8))


def plan_lines(plan: Plan, caps: Caps, key: KeyInfo | None) -> list[str]:
    """The plan in sentences: what it costs, under which caps, and what is left to chance."""
    cost = span(plan.low_nusd, plan.high_nusd, plan.unpriced)
    jobs = "1 job" if plan.to_send == 1 else f"{plan.to_send} jobs"
    lines = [
        f"{plan.config.name}: {jobs} to send, {cost} USD." if plan.to_send else f"{plan.config.name}: nothing to send."
    ]
    paid = sum(part.done + part.open for part in plan.outlook)
    if paid:
        lines.append(f"{paid} more are done or paid for already and cost nothing this time.")
    if plan.expected_nusd is not None:
        lines.append(f"By earlier bills of these shapes it will be about {amount(plan.expected_nusd)} USD.")
    if plan.unpriced:
        refused = (
            " They are refused under a cap unless budget.unpriced names an amount." if caps.unpriced is None else ""
        )
        lines.append(f"{plan.unpriced} jobs have no upper price.{refused}")
    if caps.total is not None:
        fits = "covers it" if plan.high_nusd <= caps.total else "does not cover the worst case"
        lines.append(f"The cap of {show_usd(caps.total)} USD {fits}; what is spent already counts towards it.")
    if key is not None and key.remaining is not None:
        left = nusd(key.remaining)
        lines.append(
            f"The key may spend {amount(left)} USD more" + (", less than this." if left < plan.high_nusd else ".")
        )
    lines += [f"Price change since the last plan: {change}." for change in plan.price_changes]
    lines += [
        f"{group.jobs} jobs of {group.model} leave {group.field} open: each costs "
        f"{'?' if group.low_usd is None else f'{group.low_usd:f}'} to "
        f"{'no upper bound' if group.high_usd is None else f'{group.high_usd:f}'} USD depending on it."
        for group in plan.left_open
    ]
    return lines


def plan_data(plan: Plan, caps: Caps, key: KeyInfo | None) -> dict[str, Any]:
    """The plan for machines. Amounts in USD."""
    return {
        "batch": plan.config.name,
        "catalog": {
            "source": plan.catalog.kind,
            "read_at": plan.catalog.catalog.captured_at.isoformat(),
            "digest": plan.catalog.catalog.digest,
        },
        "jobs_to_send": plan.to_send,
        "low_usd": json_usd(plan.low_nusd),
        "high_usd": json_usd(plan.high_nusd) if not plan.unpriced else None,
        "expected_usd": json_usd(plan.expected_nusd),
        "unpriced": plan.unpriced,
        "cap_total_usd": json_usd(caps.total),
        "key_remaining_usd": None if key is None or key.remaining is None else json_usd(nusd(key.remaining)),
        "models": [
            {name: value for name, value in asdict(part).items() if not name.endswith("_nusd")}
            | {"low_usd": json_usd(part.low_nusd), "high_usd": json_usd(part.high_nusd)}
            for part in plan.outlook
        ],
        "left_open": [
            {
                "model": group.model,
                "field": group.field,
                "jobs": group.jobs,
                "low_usd": None if group.low_usd is None else float(group.low_usd),
                "high_usd": None if group.high_usd is None else float(group.high_usd),
            }
            for group in plan.left_open
        ],
        "price_changes": [
            {"model": printable(change.model), "line": change.line, "old": change.old, "new": change.new}
            for change in plan.price_changes
        ],
    }
