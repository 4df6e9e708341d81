"""``plan``: every job checked and priced, as a table, sentences and JSON; and the plan that ``run`` starts with."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from orbatch.batchfile.loader import load_config
from orbatch.batchfile.models import LimitsConfig
from orbatch.cli.errors import Failure
from orbatch.cli.files import check_new, new_file, relative_path
from orbatch.cli.options import DEFAULT_FILE, Budget, Force, Fresh, Only, Refresh
from orbatch.cli.provider import Connection, connect
from orbatch.cli.resolve import retry_hint
from orbatch.cli.session import Session
from orbatch.cli.steer import control_lines
from orbatch.cli.tables import Table, amount, as_data, jobs_are, json_number, json_usd, pluralize, span, table
from orbatch.ledger import BatchRecord, Caps, Counts, Ledger, ModelTotals, PromptTotals, utc_now
from orbatch.money import to_nano
from orbatch.outputs.files import RETIRED, copy_of, find_outputs, is_outside, why_unusable
from orbatch.outputs.receipts import Adopted, adopt_receipts, receipts_path
from orbatch.plan import (
    CapForecast,
    Plan,
    PlanFile,
    UnsetGroup,
    caps_from_config,
    check_destination,
    expand,
    forecast_caps,
    make_plan,
    models_by_kind,
    overridden,
    simulated,
    with_picks,
)
from orbatch_provider import image_notes

_SUMMED = ("jobs", "low_nusd", "high_nusd", "unpriced")
PROMPTS_SHOWN = 20  # of those with jobs to submit; the others are counted


@dataclass(frozen=True, slots=True)
class PlanView:
    """A plan beside the money there is for it. ``to_submit``: the first prompts with jobs
    to submit. ``retired_files``: of jobs that left the batch file, and not yet moved aside.
    ``key_left_usd``: what the key may still spend, None: no limit known;
    ``key_problem``: what is wrong with the key."""

    plan: Plan
    caps: Caps
    forecasts: list[CapForecast]
    counts: Counts
    to_submit: list[PromptTotals]
    retired_files: int
    key_left_usd: Decimal | None
    key_problem: str | None


def plan(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="The batch file (YAML).")] = DEFAULT_FILE,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the plan to this .json file, for `run`.")
    ] = None,
    force: Force = False,
    budget: Budget = None,
    only: Only = None,
    refresh: Refresh = False,
    fresh: Fresh = False,
    check_urls: Annotated[
        bool, typer.Option("--check-urls", help="Also check that each https input can be downloaded.")
    ] = False,
) -> None:
    """Check and price every job of a batch.

    Shows what it costs, under which caps, and which settings that change the price are not set. Spends nothing; the
    outputs of jobs that another batch of the ledger has paid for are linked into the output directory.
    """
    session: Session = context.obj.beside(config)
    if output is not None:  # before the plan is made, which may take a while
        check_destination(output)
        check_new(output, "plan.json", force=force)

    async def make() -> PlanView:
        # Without the journal, which a run may be writing: a plan depends on no earlier job.
        async with connect(session, with_journal=False) as connection:
            with session.open_ledger(create=True) as ledger, _apart_from_a_run(session, ledger, config) as other:
                return await make_view(
                    session,
                    other or ledger,
                    connection,
                    config,
                    only=only,
                    budget=budget,
                    refresh=refresh,
                    fresh=fresh or other is not None,  # a copy must leave no file among the outputs
                )

    view = asyncio.run(make())
    problems = asyncio.run(_url_problems(view.plan)) if check_urls else []  # the ledger is closed: this is slow
    for problem in problems:
        session.warn(problem)
    if output is not None:
        try:
            with new_file(output) as file:
                file.write(PlanFile.of(view.plan, budget, simulated=session.simulate).text)
        except OSError as exc:
            raise Failure(f"The plan {output} cannot be written: {exc.strerror}.") from exc
    show_plan(session, view)
    if output is not None:
        session.say(f"Created {output}. `orbatch run {output}{session.flags}` runs exactly this plan.")
    if problems:
        raise Failure(f"{pluralize(len(problems), 'input')} cannot be downloaded, so providers would refuse the jobs.")


@contextlib.contextmanager
def _apart_from_a_run(session: Session, ledger: Ledger, config: Path) -> Iterator[Ledger | None]:
    """A copy of the ledger to plan in, where a run holds the batch; None where nobody does."""
    found = ledger.plans.find(load_config(config).name)
    holder = None if found is None else ledger.leases.holder(found.id, utc_now())
    if found is None or holder is None:
        yield None
        return
    session.warn(f"{found.name} is running ({holder}), so this plan is only shown, and not recorded.")
    with TemporaryDirectory() as directory:
        path = Path(directory) / ledger.path.name
        ledger.database.backup(path)
        with Ledger.open(path) as copy:
            copy.leases.forget(found.id)
            yield copy


async def make_view(
    session: Session,
    ledger: Ledger,
    connection: Connection,
    path: Path,
    *,
    only: str | None,
    budget: Decimal | None,
    refresh: bool,
    fresh: bool,
) -> PlanView:
    """Load, check, price and write the batch, and reuse what another batch has paid for unless ``fresh``. Says where
    the prices are from, and how old they are."""
    config = with_picks(ledger, load_config(path))
    if connection.simulated:
        config = simulated(config)  # clips of the simulator never lie among paid ones
    adopted = take_over(session, ledger, config.output_dir)
    # Video models too, so that one in a batch of another kind is recognised.
    loaded = await connection.catalogs({"video": (), **models_by_kind(config)}, refresh=refresh)
    if loaded.freshness in ("stale cache", "snapshot"):
        session.warn(loaded.note)  # old prices may be wrong ones: too important for --quiet
    else:
        session.say(loaded.note)

    def reuse(batch: BatchRecord) -> None:
        _refuse_paid_elsewhere(session, ledger, batch, only, adopted)
        if not fresh:
            _reuse(session, ledger, batch, only)

    made = make_plan(ledger, config, loaded, connection.provider.origin, only, when_written=reuse)
    _refuse_unknown_outputs(ledger, made)
    caps, _ = effective(ledger, made, budget)
    counts = ledger.queries.counts(made.batch.id, only)  # with the statuses, which the totals do not have
    prompts = ledger.plans.to_submit(made.batch.id, only)
    for line in control_lines(ledger, made.batch):
        session.warn(line)
    for name, note in image_notes().items():
        session.warn(f"{relative_path(name)} {note}.")
    retired = sum(
        is_outside(output, config.output_dir / RETIRED) for _, output in ledger.queries.retired_outputs(made.batch.id)
    )
    forecasts = forecast_caps(ledger, made, caps)
    return PlanView(made, caps, forecasts, counts, prompts, retired, *await connection.key_left())


def effective(ledger: Ledger, plan: Plan, budget: Decimal | None) -> tuple[Caps, LimitsConfig]:
    """The caps and limits that hold now: ``--budget``, else those of `orbatch set`, else those of the batch file."""
    settings = {control.setting: control.value or "" for control in ledger.controls.holding(plan.batch.id)}
    if budget is not None:
        settings.pop("budget.total_usd", None)
    return overridden(caps_from_config(plan.config.budget, budget), plan.config.limits, settings)


def take_over(session: Session, ledger: Ledger, output_dir: Path) -> Adopted:
    """Before anything is planned: what the receipts beside the outputs know, and this ledger does not."""
    adopted = adopt_receipts(ledger, output_dir)
    if adopted.attempts:
        attempts, them = ("1 attempt", "it") if adopted.attempts == 1 else (f"{adopted.attempts} attempts", "them")
        session.warn(
            f"Took over {attempts} from {relative_path(receipts_path(output_dir))}: ledger "
            f"{relative_path(ledger.path)} did not have {them}, or not in full."
        )
    return adopted


def _reuse(session: Session, ledger: Ledger, batch: BatchRecord, only: str | None) -> None:
    """Give the jobs that another batch has paid for its files. One whose files are gone, or were changed, is bought."""
    reused: Counter[str] = Counter()
    saved_nusd = 0
    for job in ledger.queries.reusable(batch.id, only):
        try:
            files = ledger.queries.outputs(job.job_id, job.attempt_id)
            outputs = [copy_of(each, Path(batch.output_dir), job.stem, at) for at, each in enumerate(files)]
        except OSError:
            continue
        if outputs and ledger.attempts.reuse(job.pending_id, job, outputs):
            reused[job.batch] += 1
            saved_nusd += job.cost_nusd or 0
    for name, jobs in reused.items():
        session.warn(f"{pluralize(jobs, 'job')} reused from batch {name}, which made the same request.")
    if reused:
        session.warn(f"This saves {amount(saved_nusd)} USD; --fresh buys them again.")
    for name, jobs in Counter(ledger.queries.open_elsewhere(batch.id, only).values()).items():
        wait, same, them = (
            ("1 job waits", "request and has no file of it", "it")
            if jobs == 1
            else (f"{jobs} jobs wait", "requests and has no files of them", "them")
        )
        session.warn(f"{wait} for batch {name}, which has submitted the same {same} yet.")
        session.warn(f"When it has, the next run reuses {them}; --fresh buys {them} now.")


def _refuse_paid_elsewhere(
    session: Session, ledger: Ledger, batch: BatchRecord, only: str | None, adopted: Adopted
) -> None:
    """Raises Failure where another ledger, which exists, has paid for jobs that would be submitted."""
    pending = ledger.queries.pending_keys(batch.id, only) if adopted.elsewhere else set[str]()
    paid = [path for key, path in adopted.elsewhere.items() if key in pending]
    if paid:
        command = f"orbatch run {shlex.quote(relative_path(batch.config_path))}{session.flags_for(paid[0])}"
        raise Failure(
            f"{jobs_are(len(paid))} already paid for in ledger {paid[0]}, by the receipts in "
            f"{relative_path(batch.output_dir)}. Nothing was submitted. Use it: {command}"
        )


def check_output_dir(ledger: Ledger, plan: Plan) -> None:
    """Raises Failure where the outputs of the jobs to submit could not be saved: better known before they are paid."""
    output_dir = plan.config.output_dir
    pending = ledger.queries.pending_outputs(plan.batch.id, plan.only)
    if pending and (problem := why_unusable(output_dir, (stem for stem, _ in pending))):
        raise Failure(
            f"Outputs cannot be saved in {relative_path(output_dir)}: {problem}. Nothing was submitted; set another "
            "output_dir or filename in the batch file."
        )


def _refuse_unknown_outputs(ledger: Ledger, plan: Plan) -> None:
    """Raises Failure where outputs of jobs to submit lie there already, and so were probably paid for."""
    found = find_outputs(plan.config.output_dir, ledger.queries.pending_outputs(plan.batch.id, plan.only))
    # A file of an earlier prompt may have the name of a job's output, if the template has no key in it.
    known = ledger.queries.output_paths() if found else set()
    unknown = [path for path in found if str(path) not in known]
    if not unknown:
        return
    files = (
        "1 output file of this batch already exists but is"
        if len(unknown) == 1
        else (f"{len(unknown)} output files of this batch already exist but are")
    )
    others = other_ledgers(ledger.path, plan.config.path)
    db = shlex.quote(str(others[0])) if others else "OTHER"
    raise Failure(
        f"{files} not in ledger {ledger.path} (another ledger?), such as {unknown[0]}. Nothing was submitted. Use the "
        f"ledger that knows them with --db {db}, or set another output_dir to buy them again."
    )


def other_ledgers(path: Path, config: Path) -> list[Path]:
    """The ledgers beside the batch file or the current directory, and above them, other than the one at ``path``."""
    starts = (config.absolute().parent, Path.cwd())
    places = dict.fromkeys(directory for start in starts for directory in (start, *start.parents))
    name = "orbatch.db-sim" if path.name.endswith("-sim") else "orbatch.db"
    return [found for place in places if (found := place / name).is_file() and not found.samefile(path)]


async def _url_problems(plan: Plan) -> list[str]:
    """Problems of the https inputs of a batch, each requested once and without any key."""
    from orbatch_provider import check_urls, remote_inputs

    urls = {url: kind for job in expand(plan.config) for url, kind in remote_inputs(job.request.body())}
    return [f"{link.name}: {link.problem}" for link in await check_urls(urls) if link.problem is not None]


def show_plan(session: Session, view: PlanView) -> None:
    """The whole plan, on stdout."""
    if session.json:
        session.data(plan_data(view))
        return
    session.print(_table(view.plan).lines)
    if view.counts.total > view.plan.total.to_submit and view.to_submit:  # else everything is new
        session.result("")
        session.print(_changes_table(view.to_submit).lines)
        session.result("")
    for line in plan_lines(view, session):
        session.result(line)


def _table(plan: Plan) -> Table:
    """Jobs, seconds and prices by model, with the total below."""
    columns: Mapping[str, Callable[[ModelTotals], object]] = {
        "model": lambda part: part.model,
        "jobs": lambda part: part.jobs,
        "done": lambda part: part.done,
        "submitted": lambda part: part.open,
        "failed": lambda part: part.ended,
        "to submit": lambda part: part.to_submit,
        "seconds": lambda part: part.seconds or "-",
        "USD": lambda part: span(part.low_nusd, part.high_nusd, part.unpriced),
    }
    # A total of one row would repeat it.
    shown = [*plan.totals, plan.total] if len(plan.totals) > 1 else plan.totals
    return table(shown, columns, numbers=[*columns][1:], flexible=["model"], always=["jobs", "USD"])


def _changes_table(prompts: Sequence[PromptTotals]) -> Table:
    """The jobs to submit of a batch that is partly done, by prompt."""
    shown, more = prompts[:PROMPTS_SHOWN], prompts[PROMPTS_SHOWN:]
    rows = list(shown)
    if more:
        jobs, low, high, unpriced = (sum(getattr(part, name) for part in more) for name in _SUMMED)
        rows.append(PromptTotals(f"{len(more)} more prompts", 0, jobs, low, high, unpriced, 0, 0))
    columns: Mapping[str, Callable[[PromptTotals], object]] = {
        "to submit": lambda part: f"+ {part.prompt_id}",
        "models": lambda part: part.models,
        "jobs": lambda part: part.jobs,
        "USD": lambda part: span(part.low_nusd, part.high_nusd, part.unpriced),
        "why": _why_submitted,
    }
    return table(rows, columns, numbers=("models", "jobs", "USD"), flexible=["to submit"], always=["jobs", "USD"])


def _why_submitted(part: PromptTotals) -> str:
    if part.retired:
        return f"changed; {pluralize(part.retired, 'earlier job')} kept"
    if not part.models:
        return ""
    return f"{part.others} of its jobs are not submitted" if part.others else "new"


def plan_lines(view: PlanView, session: Session) -> list[str]:
    """The plan in sentences: first what changed or is not set, then the jobs, last the money."""
    plan, total, flags = view.plan, view.plan.total, session.flags
    name = session.title or plan.config.name
    lines = [f"Price change since the last plan: {change}." for change in plan.price_changes]
    lines += [_not_set(group) for group in plan.unset]
    if total.to_submit:
        cost = span(total.low_nusd, total.high_nusd, total.unpriced)
        lines.append(f"{name}: {pluralize(total.to_submit, 'job')} to submit, {cost} USD.")
    else:
        lines.append(f"{name}: nothing to submit.")
    paid = total.done + total.open  # they cost nothing more
    if paid:
        lines.append(f"{pluralize(paid, 'job')} already done or submitted.")
    if files := view.retired_files:
        are, them = ("is", "it") if files == 1 else ("are", "them")
        command = f"`orbatch clean {plan.batch.name}{flags}` moves {them} to {RETIRED}/."
        lines.append(f"{pluralize(files, 'file')} of earlier prompts {are} among the outputs. {command}")
    lines += retry_hint(plan.batch.name, view.counts, flags)
    lines += _outlook(view)
    lines += _cap_lines(view.forecasts)
    if view.key_problem is not None:
        lines.append(f"The key {view.key_problem}")
    if view.key_left_usd is not None:
        left = to_nano(view.key_left_usd)
        less = ", less than the worst case" if left < total.high_nusd else ""
        lines.append(f"{amount(left)} USD left on this key{less}.")
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
    used = {cap: f" ({amount(cap.committed_nusd)} spent or reserved)" * bool(cap.committed_nusd) for cap in forecasts}
    if covering := [f"{amount(cap.cap_nusd)} USD {_scope(cap.name)}{used[cap]}" for cap in forecasts if cap.covers]:
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
            worst = amount(cap.needed_nusd)
            yield f"{name}{used[cap]} does not cover the worst case of {worst}; jobs that do not fit are not submitted."


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
        "high_usd": None if total.unpriced else json_usd(total.high_nusd),
        "expected_usd": json_usd(plan.expected_nusd),
        "unpriced": total.unpriced,
        "caps": [as_data(cap) | {"covers": cap.covers} for cap in view.forecasts],
        "cap_total_usd": json_usd(view.caps.total),
        "key_remaining_usd": json_number(view.key_left_usd),
        "models": [_model_data(part) for part in plan.totals],
        "to_submit": [as_data(part) for part in view.to_submit],
        "retired": dict(view.counts.retired),
        "not_set": [as_data(group) for group in plan.unset],
        "price_changes": [asdict(change) for change in plan.price_changes],
    }


def _model_data(part: ModelTotals) -> dict[str, Any]:
    data = as_data(part)
    data |= {"submitted": data.pop("open"), "failed": data.pop("ended")}
    return data | ({"high_usd": None} if part.unpriced else {})  # a bound of only some jobs would mislead
