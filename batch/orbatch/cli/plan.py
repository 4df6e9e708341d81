"""A plan as a person and a machine read it: what it costs, under which caps, and what is left to chance."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orbatch.batchfile.loader import load_config
from orbatch.batchfile.models import BatchConfig
from orbatch.cli.provider import Connection, connected
from orbatch.cli.session import Failure, Session, printable
from orbatch.cli.tables import amount, json_usd, pluralize, span, table
from orbatch.money import format_usd, to_nano
from orbatch.plan.jobs import expand, models_by_kind
from orbatch.plan.plan import (
    CapForecast,
    Plan,
    UnsetGroup,
    caps_from_config,
    forecast_caps,
    make_plan,
    simulated,
)
from orbatch.plan.plan_file import PlanFile, check_destination
from orbatch_provider.errors import AuthenticationError, ConfigurationError, OpenRouterError

if TYPE_CHECKING:
    from rich.table import Table

    from orbatch.ledger import Ledger
    from orbatch.ledger.budget import Caps


@dataclass(frozen=True, slots=True)
class Credit:
    """What the key may still spend in USD; None: no limit is known. ``problem``: why it cannot be told."""

    remaining: Decimal | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Means:
    """A plan beside the money there is for it."""

    plan: Plan
    caps: Caps
    under_caps: list[CapForecast]
    credit: Credit


def plan_table(plan: Plan) -> Table | str:
    """Jobs, seconds and prices by model, with the total below."""
    seconds = {part.model: str(part.seconds) if part.seconds else "-" for part in plan.totals}
    rows = [
        [
            part.model,
            *(str(number) for number in (part.jobs, part.done, part.open, part.ended, part.to_send)),
            seconds[part.model],
            span(part.low_nusd, part.high_nusd, part.unpriced),
        ]
        for part in plan.totals
    ]
    if len(rows) > 1:
        sums = [
            sum(column)
            for column in zip(*((p.jobs, p.done, p.open, p.ended, p.to_send) for p in plan.totals), strict=True)
        ]
        total_seconds = sum(part.seconds for part in plan.totals)
        cost = span(plan.low_nusd, plan.high_nusd, plan.unpriced)
        rows.append(["total", *map(str, sums), str(total_seconds) if total_seconds else "-", cost])
    titles = ["model", "jobs", "done", "paid, open", "ended", "to send", "seconds", "USD to send"]
    return table(titles, rows, numbers=range(1, 8))


def plan_lines(means: Means) -> list[str]:
    """The plan in sentences. What changed or is left to chance comes first, the money last."""
    plan = means.plan
    lines = [f"Price change since the last plan: {change}." for change in plan.price_changes]
    lines += [_left_open(group) for group in plan.unset]
    if plan.to_submit:
        cost = span(plan.low_nusd, plan.high_nusd, plan.unpriced)
        lines.append(f"{plan.config.name}: {pluralize(plan.to_submit, 'job')} to send, {cost} USD.")
    else:
        lines.append(f"{plan.config.name}: nothing to send.")
    if plan.paid:
        lines.append(f"{pluralize(plan.paid, 'job')} done or paid for already: free this time.")
    ended = sum(part.ended for part in plan.totals)
    if ended:
        lines.append(f"{pluralize(ended, 'job')} ended without a result: `orbatch retry` would open them again.")
    lines += _prospects(means)
    lines += [_cap_line(cap) for cap in means.under_caps]
    lines += _credit_lines(means.credit, plan)
    return lines


def _left_open(group: UnsetGroup) -> str:
    low = "?" if group.low_usd is None else format_usd(to_nano(group.low_usd))
    high = "any amount" if group.high_usd is None else f"{format_usd(to_nano(group.high_usd))} USD"
    subject = f"{pluralize(group.jobs, 'job')} of {group.model}"
    return f"Left to chance: {group.field} of {subject}; depending on it, each may cost {low} to {high}."


def _prospects(means: Means) -> Iterator[str]:
    plan = means.plan
    if plan.expected_nusd is not None:
        yield f"By earlier bills of jobs like these it will be about {amount(plan.expected_nusd)} USD."
    attempts = plan.config.retries.attempts
    if attempts > 1 and plan.to_submit:
        yield (
            f"A job that ends as {' or '.join(sorted(plan.config.retries.on))} is tried up to {attempts} times, "
            "and each attempt may cost money."
        )
    if plan.unpriced:
        jobs = pluralize(plan.unpriced, "job")
        if not means.under_caps:
            yield f"{jobs} without an upper price, and no cap is set: the charge may be any amount."
        elif means.caps.unpriced is not None:
            yield f"{jobs} without an upper price: {format_usd(means.caps.unpriced)} USD is reserved for each."


def _cap_line(cap: CapForecast) -> str:
    line = f"{cap.name} {format_usd(cap.cap_nusd)} USD: "
    if cap.committed_nusd:
        line += f"{amount(cap.committed_nusd)} spent or reserved, {amount(cap.left_nusd)} left; "
    if cap.unpriced:
        return f"{line}refuses {pluralize(cap.unpriced, 'job')} without an upper price (see budget.unpriced)."
    if cap.never:
        return f"{line}{pluralize(cap.never, 'job')} may cost more than that alone, and will not be sent."
    if cap.covers:
        return f"{line}covers the worst case."
    return f"{line}does not cover the worst case of {amount(cap.needed_nusd)}; what does not fit is not sent."


def _credit_lines(credit: Credit, plan: Plan) -> Iterator[str]:
    if credit.problem is not None:
        yield credit.problem
    if credit.remaining is not None:
        left = to_nano(credit.remaining)
        less = ", less than the worst case." if left < plan.high_nusd else "."
        yield f"The key may spend {amount(left)} USD more{less}"


def plan_data(means: Means) -> dict[str, Any]:
    """The plan for machines. Amounts in USD; null: not known, or no such limit."""
    plan, remaining = means.plan, means.credit.remaining
    return {
        "batch": plan.config.name,
        "config": str(plan.config.path.absolute()),
        "only": plan.only,
        "catalog": {
            "source": plan.catalogs.freshness,
            "read_at": plan.catalogs.captured_at.isoformat(),
            "digest": plan.catalogs.digest,
        },
        "jobs_to_send": plan.to_submit,
        "jobs_paid": plan.paid,
        "low_usd": json_usd(plan.low_nusd),
        "high_usd": json_usd(plan.high_nusd) if not plan.unpriced else None,
        "expected_usd": json_usd(plan.expected_nusd),
        "unpriced": plan.unpriced,
        "caps": [_cap_data(cap) for cap in means.under_caps],
        "cap_total_usd": json_usd(means.caps.total),
        "key_remaining_usd": None if remaining is None else json_usd(to_nano(remaining)),
        "models": [
            {name: value for name, value in asdict(part).items() if not name.endswith("_nusd")}
            | {"low_usd": json_usd(part.low_nusd), "high_usd": None if part.unpriced else json_usd(part.high_nusd)}
            for part in plan.totals
        ],
        "left_open": [
            {
                "model": group.model,
                "field": group.field,
                "jobs": group.jobs,
                "low_usd": None if group.low_usd is None else float(group.low_usd),
                "high_usd": None if group.high_usd is None else float(group.high_usd),
            }
            for group in plan.unset
        ],
        "price_changes": [
            {"model": printable(change.model), "line": change.line, "old": change.old, "new": change.new}
            for change in plan.price_changes
        ],
    }


def _cap_data(cap: CapForecast) -> dict[str, Any]:
    return {
        "name": cap.name,
        "cap_usd": json_usd(cap.cap_nusd),
        "committed_usd": json_usd(cap.committed_nusd),
        "needed_usd": json_usd(cap.needed_nusd),
        "covers": cap.covers,
        "jobs_never_sent": cap.never,
        "jobs_unpriced": cap.unpriced,
    }


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
        async with connected(session, simulate=simulate, with_journal=False) as connection:
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
        raise Failure(f"{pluralize(len(problems), 'input')} cannot be fetched, so providers would refuse the jobs.")


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
    # Video models too, so that one in a batch of another kind is recognised.
    loaded = await connection.catalogs({"video": (), **models_by_kind(config)}, refresh=refresh)
    if loaded.freshness in ("stale cache", "snapshot"):
        session.warn(loaded.note)
    else:
        session.say(loaded.note)
    plan = make_plan(ledger, config, loaded, connection.provider.origin, only)
    caps = caps_from_config(config.budget, budget)
    return Means(plan, caps, forecast_caps(ledger, plan, caps), await credit(connection))


async def url_problems(config: BatchConfig) -> list[str]:
    """What is wrong with the https inputs of a batch, each asked for once and without any key."""
    from orbatch_provider.input_urls import check_urls
    from orbatch_provider.inputs import remote_inputs

    urls = {url: kind for job in expand(config) for url, kind in remote_inputs(job.request.body())}
    return [f"{link.name}: {link.problem}" for link in await check_urls(urls) if link.problem is not None]


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
