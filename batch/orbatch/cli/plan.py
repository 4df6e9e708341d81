"""``plan``: every job checked and priced, as a table, sentences and JSON; and the plan that ``run`` starts with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orbatch.batchfile.loader import load_config
from orbatch.cli.provider import Connection, connect
from orbatch.cli.resolve import retry_hint
from orbatch.cli.session import Budget, Failure, Only, Refresh, Session, printable
from orbatch.cli.tables import amount, as_data, json_usd, pluralize, span, table
from orbatch.ledger import Caps, Counts, Ledger, ModelTotals
from orbatch.money import to_nano
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

    from orbatch.batchfile.models import BatchConfig


@dataclass(frozen=True, slots=True)
class PlanView:
    """A plan beside the money there is for it. ``key_left_usd``: what the key may still spend, None: no limit known;
    ``key_problem``: why that cannot be told."""

    plan: Plan
    caps: Caps
    forecasts: list[CapForecast]
    counts: Counts
    key_left_usd: Decimal | None
    key_problem: str | None


def plan(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="The batch file (YAML).")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the plan to this .json file, for `run`.")
    ] = None,
    budget: Budget = None,
    only: Only = None,
    refresh: Refresh = False,
    check_urls: Annotated[
        bool, typer.Option("--check-urls", help="Also check that each https input can be downloaded.")
    ] = False,
) -> None:
    """Check and price every job of a batch.

    Shows what it costs, under which caps, and which settings that change the price are not set. Spends nothing.
    """
    session: Session = context.obj
    if output is not None:
        check_destination(output)  # before the plan is made, which may take a while

    async def make() -> PlanView:
        # Without the journal, which a run may be writing: a plan depends on no earlier job.
        async with connect(session, with_journal=False) as connection:
            with session.open_ledger(create=True) as ledger:
                return await make_view(session, ledger, connection, config, only=only, budget=budget, refresh=refresh)

    view = asyncio.run(make())
    problems = asyncio.run(_url_problems(view.plan.config)) if check_urls else []  # the ledger is closed: this is slow
    for problem in problems:
        session.warn(problem)
    if output is not None:
        PlanFile.of(view.plan, budget, simulated=session.simulate).write(output)
    show_plan(session, view)
    if output is not None:
        session.say(f"Created {output}. `orbatch run {output}{session.flags}` runs exactly this plan.")
    if problems:
        raise Failure(f"{pluralize(len(problems), 'input')} cannot be downloaded, so providers would refuse the jobs.")


async def make_view(
    session: Session,
    ledger: Ledger,
    connection: Connection,
    path: Path,
    *,
    only: str | None,
    budget: Decimal | None,
    refresh: bool,
) -> PlanView:
    """Load, check, price and write the batch. Says where the prices are from, and how old they are."""
    config = load_config(path)
    if connection.simulated:
        config = simulated(config)  # clips of the simulator never lie among paid ones
    # Video models too, so that one in a batch of another kind is recognised.
    loaded = await connection.catalogs({"video": (), **models_by_kind(config)}, refresh=refresh)
    if loaded.freshness in ("stale cache", "snapshot"):
        session.warn(loaded.note)  # old prices may be wrong ones: too important for --quiet
    else:
        session.say(loaded.note)
    made = make_plan(ledger, config, loaded, connection.provider.origin, only)
    caps = caps_from_config(config.budget, budget)
    counts = ledger.queries.counts(made.batch.id, only)  # with the statuses, which the totals do not have
    return PlanView(made, caps, forecast_caps(ledger, made, caps), counts, *await _key_left(connection))


async def _key_left(connection: Connection) -> tuple[Decimal | None, str | None]:
    """Never raises: a plan is useful without a key, and when the API does not answer."""
    try:
        return (await connection.provider.key()).remaining, None
    except ConfigurationError:  # no key at all: `run` says so, a plan needs none
        return None, None
    except AuthenticationError as exc:
        return None, f"The key was not accepted: {exc}"
    except OpenRouterError as exc:
        return None, f"The credit left on this key could not be read: {exc}"


async def _url_problems(config: BatchConfig) -> list[str]:
    """Problems of the https inputs of a batch, each requested once and without any key."""
    from orbatch_provider.input_urls import check_urls
    from orbatch_provider.inputs import remote_inputs

    urls = {url: kind for job in expand(config) for url, kind in remote_inputs(job.request.body())}
    return [f"{link.name}: {link.problem}" for link in await check_urls(urls) if link.problem is not None]


def show_plan(session: Session, view: PlanView) -> None:
    """The whole plan, on stdout."""
    if session.json:
        session.data(plan_data(view))
        return
    session.print(_table(view.plan))
    for line in plan_lines(view, session.flags):
        session.result(line)


def _table(plan: Plan) -> Table | str:
    """Jobs, seconds and prices by model, with the total below."""
    # A total of one row would repeat it.
    parts = [*plan.totals, plan.total] if len(plan.totals) > 1 else plan.totals
    rows = [
        [
            *(p.model, *map(str, (p.jobs, p.done, p.open, p.ended, p.to_submit, p.seconds or "-"))),
            span(p.low_nusd, p.high_nusd, p.unpriced),
        ]
        for p in parts
    ]
    titles = ["model", "jobs", "done", "submitted", "failed", "to submit", "seconds", "USD"]
    return table(titles, rows, numbers=range(1, 8))


def plan_lines(view: PlanView, flags: str) -> list[str]:
    """The plan in sentences: first what changed or is not set, then the jobs, last the money."""
    plan, total = view.plan, view.plan.total
    lines = [f"Price change since the last plan: {change}." for change in plan.price_changes]
    lines += [_not_set(group) for group in plan.unset]
    if total.to_submit:
        cost = span(total.low_nusd, total.high_nusd, total.unpriced)
        lines.append(f"{plan.config.name}: {pluralize(total.to_submit, 'job')} to submit, {cost} USD.")
    else:
        lines.append(f"{plan.config.name}: nothing to submit.")
    paid = total.done + total.open  # they cost nothing more
    if paid:
        lines.append(f"{pluralize(paid, 'job')} already done or submitted.")
    lines += retry_hint(plan.batch.name, view.counts, flags)
    lines += _outlook(view)
    lines += _cap_lines(view.forecasts)
    if view.key_problem is not None:
        lines.append(view.key_problem)
    if view.key_left_usd is not None:
        left = to_nano(view.key_left_usd)
        lines.append(
            f"{amount(left)} USD left on this key" + (", less than the worst case." * (left < total.high_nusd) or ".")
        )
    return lines


def _not_set(group: UnsetGroup) -> str:
    low, high = (None if usd is None else amount(to_nano(usd)) for usd in (group.low_usd, group.high_usd))
    if high is None:
        price = "any amount" if low is None else f"{low} USD or more"
    else:
        price = f"up to {high} USD" if low is None else f"{low} to {high} USD"
    jobs = f"{pluralize(group.jobs, 'job')} ({group.model})"
    return f"{group.field} is not set for {jobs}: {price} each, the provider decides."


def _outlook(view: PlanView) -> Iterator[str]:
    plan, total = view.plan, view.plan.total
    if plan.expected_nusd is not None:
        yield f"Expected: {amount(plan.expected_nusd)} USD, based on earlier charges."
    retries = plan.config.retries.attempts - 1  # the first attempt is no retry
    if retries and total.to_submit:
        ends = " or ".join(sorted(plan.config.retries.on))
        times = "once" if retries == 1 else f"up to {retries} times"
        yield f"Jobs that end as {ends} are retried {times}; each attempt can cost money."
    if total.unpriced:
        jobs = pluralize(total.unpriced, "job")
        if not view.forecasts:  # without a cap, nothing bounds such a charge
            yield f"{jobs} without an upper price and no budget: the charge can be any amount."
        elif view.caps.unpriced is not None:
            yield f"{jobs} without an upper price: {amount(view.caps.unpriced)} USD is reserved for each."


def _cap_lines(forecasts: Sequence[CapForecast]) -> Iterator[str]:
    """One line for the caps that hold every job, and one for each that does not."""
    covering = [
        f"{amount(cap.cap_nusd)} USD {_scope(cap.name)}"
        + (f" ({amount(cap.committed_nusd)} spent or reserved)" if cap.committed_nusd else "")
        for cap in forecasts
        if cap.covers
    ]
    if covering:
        yield f"Budget: {', '.join(covering)}. OK."
    for cap in forecasts:
        name = f"{cap.name} {amount(cap.cap_nusd)} USD"
        if cap.covers:  # has its part in the line above
            continue
        if cap.unpriced:
            yield f"{name} refuses {pluralize(cap.unpriced, 'job')} without an upper price (see budget.unpriced)."
        elif cap.never:
            yield f"{name}: {pluralize(cap.never, 'job')} can cost more than this and will be skipped."
        else:
            used = f" ({amount(cap.committed_nusd)} spent or reserved)" if cap.committed_nusd else ""
            worst = amount(cap.needed_nusd)
            yield f"{name}{used} does not cover the worst case of {worst}; jobs that do not fit are not submitted."


def _scope(cap: str) -> str:
    """``budget.per_job_usd`` -> ``per job``."""
    words = cap.removeprefix("budget.").replace("_usd", "").replace("_", " ")
    return words.replace("per model of", "for")


def plan_data(view: PlanView) -> dict[str, Any]:
    """The plan for machines. Amounts in USD; null: not known, or no such limit."""
    plan, total = view.plan, view.plan.total
    return {
        "batch": plan.config.name,
        "config": str(plan.config.path.absolute()),
        "only": plan.only,
        "catalog": {
            "source": plan.catalogs.freshness,
            "read_at": plan.catalogs.captured_at.isoformat(),
            "digest": plan.catalogs.digest,
        },
        "jobs_to_submit": total.to_submit,
        "jobs_paid": total.done + total.open,
        "low_usd": json_usd(total.low_nusd),
        "high_usd": json_usd(total.high_nusd)
        if not total.unpriced
        else None,  # a bound of only some jobs would mislead
        "expected_usd": json_usd(plan.expected_nusd),
        "unpriced": total.unpriced,
        "caps": [as_data(cap) | {"covers": cap.covers} for cap in view.forecasts],
        "cap_total_usd": json_usd(view.caps.total),
        "key_remaining_usd": _number(view.key_left_usd),
        "models": [_model_data(part) for part in plan.totals],
        "not_set": [
            asdict(group) | {"low_usd": _number(group.low_usd), "high_usd": _number(group.high_usd)}
            for group in plan.unset
        ],
        "price_changes": [
            {"model": printable(change.model), "line": change.line, "old": change.old, "new": change.new}
            for change in plan.price_changes
        ],
    }


def _number(usd: Decimal | None) -> float | None:
    return None if usd is None else float(usd)


def _model_data(part: ModelTotals) -> dict[str, Any]:
    return {
        "model": part.model,
        "jobs": part.jobs,
        "done": part.done,
        "submitted": part.open,
        "failed": part.ended,
        "to_submit": part.to_submit,
        "seconds": part.seconds,
        "unpriced": part.unpriced,
        "low_usd": json_usd(part.low_nusd),
        "high_usd": None if part.unpriced else json_usd(part.high_nusd),
    }
