"""All commands with their options and help. Each body imports what it needs and hands over."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orbatch.cli.session import Session, guarded

app = typer.Typer(
    name="orbatch",
    help="Run batches of generation jobs on OpenRouter: nothing is paid twice, no paid result is lost.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="--db, --json, --quiet and --log-file may stand before or behind the command.",
)

_WITH_VALUE = ("--db", "--log-file")
_FLAGS = ("--json", "--quiet", "-q")


def hoisted(arguments: list[str]) -> list[str]:
    """The arguments with the global options in front, so that ``orbatch status --json`` works as well."""
    front: list[str] = []
    rest: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--":
            rest += [argument, *remaining]
        elif argument in _FLAGS or argument.startswith(tuple(f"{name}=" for name in _WITH_VALUE)):
            front.append(argument)
        elif argument in _WITH_VALUE:
            front += [argument, *([value] if (value := next(remaining, None)) is not None else [])]
        else:
            rest.append(argument)
    return front + rest


class Format(StrEnum):
    """How a report is printed."""

    table = "table"
    json = "json"
    csv = "csv"
    markdown = "markdown"


class Grouped(StrEnum):
    """What a report adds up by."""

    model = "model"
    batch = "batch"
    day = "day"
    prompt = "prompt"
    status = "status"


def _usd(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise typer.BadParameter(f"{text} is not an amount in USD, such as 2.50") from None
    if not amount.is_finite() or amount < 0:
        raise typer.BadParameter(f"{text} is not an amount in USD, such as 2.50")
    return amount


Batch = Annotated[str | None, typer.Argument(help="Name of a batch; the one planned last if left out.")]
OneOrAll = Annotated[str | None, typer.Argument(help="Name of a batch; the whole ledger if left out.")]
Config = Annotated[Path, typer.Argument(help="The batch file (YAML).")]
Only = Annotated[str | None, typer.Option(help="Only jobs whose prompt id, model or job id matches, such as 'cat*'.")]
Simulated = Annotated[
    bool, typer.Option("--simulate", help="Use the built-in simulator and its ledger, not real money.")
]
Refresh = Annotated[bool, typer.Option("--refresh", help="Read the catalog anew instead of using a recent copy.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.callback()
def options(
    context: typer.Context,
    db: Annotated[Path | None, typer.Option(envvar="ORBATCH_DB", help="The ledger.", show_default="orbatch.db")] = None,
    json: Annotated[bool, typer.Option("--json", help="Data as JSON on stdout; everything else on stderr.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only results and errors.")] = False,
    log_file: Annotated[Path | None, typer.Option(help="Also write what happens to this file.")] = None,
) -> None:
    context.obj = Session(db or Path("orbatch.db"), json, quiet, log_file)


@app.command()
@guarded
def init(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("batch.yaml"),
) -> None:
    """Write a commented batch file to start from."""
    from orbatch.cli.setup import write_starter

    write_starter(context.obj, path)


@app.command()
@guarded
def plan(
    context: typer.Context,
    config: Config,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the plan to this .json file, for `run`.")
    ] = None,
    budget: Annotated[
        Decimal | None, typer.Option(parser=_usd, metavar="USD", help="Cap in place of budget.total_usd.")
    ] = None,
    only: Only = None,
    refresh: Refresh = False,
    simulate: Simulated = False,
) -> None:
    """Check and price every job of a batch, and show what it would cost. Spends nothing."""
    from orbatch.cli.planning import show_plan

    show_plan(context.obj, config, output=output, budget=budget, only=only, refresh=refresh, simulate=simulate)


@app.command()
@guarded
def run(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="The batch file (YAML), or a plan written by `plan -o`.")],
    simulate: Simulated = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    yes: Yes = False,
    budget: Annotated[
        Decimal | None, typer.Option(parser=_usd, metavar="USD", help="Cap in place of budget.total_usd.")
    ] = None,
    in_flight: Annotated[int | None, typer.Option(min=1, help="Jobs at a time, in place of limits.in_flight.")] = None,
    only: Only = None,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Submit nothing more after the first failure.")
    ] = False,
    refresh: Refresh = False,
    speed: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=10_000,
            help="The counterpart is a simulator on this machine that runs so many times faster than real time. "
            "[default: 30 with --simulate, else 1]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run a batch, or go on with it: what is done stays, what is paid for is followed, only the rest is bought."""
    from orbatch.cli.running import RunArguments, run_batch

    arguments = RunArguments(simulate, dry_run, yes, budget, in_flight, only, fail_fast, refresh, speed)
    run_batch(context.obj, config, arguments)


@app.command()
@guarded
def status(context: typer.Context, batch: OneOrAll = None, simulate: Simulated = False) -> None:
    """Where each batch stands, what it cost, and what needs you."""
    from orbatch.cli.reading import show_status

    show_status(context.obj, batch, simulate=simulate)


@app.command()
@guarded
def jobs(
    context: typer.Context,
    batch: OneOrAll = None,
    status: Annotated[str | None, typer.Option(help="Only jobs in this state, such as failed.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    simulate: Simulated = False,
) -> None:
    """List jobs with status, cost and file."""
    from orbatch.cli.reading import list_jobs

    list_jobs(context.obj, batch, status=status, limit=limit, simulate=simulate)


@app.command()
@guarded
def show(
    context: typer.Context,
    job: Annotated[str, typer.Argument(help="Beginning of the job's id or of its remote id.")],
    simulate: Simulated = False,
) -> None:
    """Everything about one job: request, attempts, costs, files, history."""
    from orbatch.cli.reading import show_job

    show_job(context.obj, job, simulate=simulate)


@app.command()
@guarded
def report(
    context: typer.Context,
    batch: OneOrAll = None,
    by: Annotated[Grouped, typer.Option(help="What to add up by.")] = Grouped.model,
    since: Annotated[str | None, typer.Option(metavar="YYYY-MM-DD", help="First day (UTC) of submission.")] = None,
    until: Annotated[str | None, typer.Option(metavar="YYYY-MM-DD", help="Last day (UTC) of submission.")] = None,
    format: Annotated[Format, typer.Option(help="How to print it.")] = Format.table,  # noqa: A002 - the option's name
    settle: Annotated[
        bool, typer.Option("--settle", help="First ask the provider for charges that are unknown.")
    ] = False,
    simulate: Simulated = False,
) -> None:
    """What was spent, reserved and lost, summed from the ledger to the cent."""
    from orbatch.cli.reporting import show_report

    as_json = Format.json if context.obj.json else format
    show_report(
        context.obj, batch, by=by.value, since=since, until=until, style=as_json.value, settle=settle, simulate=simulate
    )


@app.command()
@guarded
def retry(
    context: typer.Context,
    batch: Batch = None,
    status: Annotated[
        str, typer.Option(help="Jobs to send again: rejected, failed, cancelled or expired; several with commas.")
    ] = "failed",
    only: Only = None,
    simulate: Simulated = False,
) -> None:
    """Put ended jobs back to pending; the next `run` buys them again."""
    from orbatch.cli.resolving import retry_jobs

    retry_jobs(context.obj, batch, status=status, only=only, simulate=simulate)


@app.command()
@guarded
def resolve(
    context: typer.Context,
    job: Annotated[str, typer.Argument(help="Beginning of a job's id; with --all, the name of a batch.")],
    remote_id: Annotated[
        str | None, typer.Option(help="The provider has it under this id: follow and download it.")
    ] = None,
    not_charged: Annotated[bool, typer.Option("--not-charged", help="Nothing was charged: free to run again.")] = False,
    charged: Annotated[
        Decimal | None, typer.Option(parser=_usd, metavar="USD", help="It was charged so much and is lost.")
    ] = None,
    charged_at_most: Annotated[
        bool, typer.Option("--charged-at-most", help="Count each at its worst case, as lost.")
    ] = False,
    all_: Annotated[bool, typer.Option("--all", help="All uncertain jobs of the batch.")] = False,
    yes: Yes = False,
    simulate: Simulated = False,
) -> None:
    """Say what became of a job whose submit was never answered."""
    from orbatch.cli.resolving import Verdict, resolve_jobs

    verdict = Verdict(remote_id, not_charged, charged, charged_at_most)
    resolve_jobs(context.obj, job, verdict, everything=all_, yes=yes, simulate=simulate)


@app.command()
@guarded
def verify(
    context: typer.Context,
    batch: OneOrAll = None,
    yes: Yes = False,
    simulate: Simulated = False,
) -> None:
    """Check files on disk against the ledger, and offer to fetch again what is missing or damaged."""
    from orbatch.cli.verifying import verify_files

    verify_files(context.obj, batch, yes=yes, simulate=simulate)


@app.command()
@guarded
def models(
    context: typer.Context,
    pattern: Annotated[str | None, typer.Argument(help="Only models whose id contains this.")] = None,
    kind: Annotated[str, typer.Option(help="Kind of output: video.")] = "video",
    duration: Annotated[int | None, typer.Option(min=1, help="Seconds.")] = None,
    resolution: Annotated[str | None, typer.Option(help="Such as 720p.")] = None,
    aspect_ratio: Annotated[str | None, typer.Option(help="Such as 9:16.")] = None,
    audio: Annotated[bool | None, typer.Option("--audio/--no-audio", help="With or without sound.")] = None,
    first_frame: Annotated[bool, typer.Option("--first-frame", help="Starts from a picture.")] = False,
    last_frame: Annotated[bool, typer.Option("--last-frame", help="Ends with a picture.")] = False,
    seed: Annotated[bool, typer.Option("--seed", help="Takes a seed.")] = False,
    refresh: Refresh = False,
    simulate: Simulated = False,
) -> None:
    """What the models can do, and what a shot costs on each."""
    from orbatch.cli.modelling import Shot, list_models

    shot = Shot(duration, resolution, aspect_ratio, audio, first_frame, last_frame, seed)
    list_models(context.obj, pattern, kind=kind, shot=shot, refresh=refresh, simulate=simulate)


@app.command()
@guarded
def generate(
    context: typer.Context,
    prompt: Annotated[str, typer.Argument(help="What to show.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Model id.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to put the video.")],
    duration: Annotated[int | None, typer.Option(min=1, help="Seconds.")] = None,
    resolution: Annotated[str | None, typer.Option(help="Such as 720p.")] = None,
    aspect_ratio: Annotated[str | None, typer.Option(help="Such as 9:16.")] = None,
    audio: Annotated[bool | None, typer.Option("--audio/--no-audio", help="With or without sound.")] = None,
    seed: Annotated[int | None, typer.Option(help="For repeatable results, as far as the model can.")] = None,
    image: Annotated[str | None, typer.Option(help="First frame: an https URL or a local picture.")] = None,
    yes: Yes = False,
    simulate: Simulated = False,
) -> None:
    """Make one video, with the same ledger and the same safety as a batch."""
    from orbatch.cli.generating import generate_one

    settings = {
        "duration": duration,
        "resolution": resolution,
        "aspect_ratio": aspect_ratio,
        "generate_audio": audio,
        "seed": seed,
        "first_frame": image,
    }
    generate_one(context.obj, prompt, model, output, settings, yes=yes, simulate=simulate)


@app.command()
@guarded
def simulate(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8787,
    speed: Annotated[float, typer.Option(min=0.1, max=10_000, help="How many times faster than real time.")] = 30,
    books: Annotated[Path | None, typer.Option(help="Keep the books in this file and go on from it.")] = None,
    credit: Annotated[Decimal | None, typer.Option(parser=_usd, metavar="USD", help="Credit of the account.")] = None,
    seed: Annotated[int, typer.Option(help="For repeatable render times and faults.")] = 0,
    fault: Annotated[
        list[str] | None,
        typer.Option(help='A fault as JSON, such as \'{"call": "submit", "action": "refuse", "status": 503}\'.'),
    ] = None,
) -> None:
    """Serve a strict imitation of OpenRouter on this machine, until interrupted."""
    from orbatch.cli.setup import serve_simulator

    serve_simulator(context.obj, port=port, speed=speed, books=books, credit=credit, seed=seed, faults=fault or [])


@app.command()
@guarded
def schema(context: typer.Context) -> None:
    """Print the JSON Schema of the batch file, for editors."""
    from orbatch.cli.setup import print_schema

    print_schema(context.obj)


@app.command()
@guarded
def doctor(context: typer.Context, simulate: Simulated = False) -> None:
    """Check what a run needs: key, credit, ledger, disk space, catalog."""
    from orbatch.cli.setup import examine

    examine(context.obj, simulate=simulate)


@app.command()
@guarded
def backup(
    context: typer.Context,
    target: Annotated[Path, typer.Argument(help="File to write.")],
    simulate: Simulated = False,
) -> None:
    """Copy the ledger, also while a run is using it."""
    from orbatch.cli.setup import back_up

    back_up(context.obj, target, simulate=simulate)
