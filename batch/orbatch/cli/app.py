"""All commands with their options and help. Each body imports what it needs and hands over."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ParamSpec

import typer

from orbatch.cli.options import (
    Batch,
    Budget,
    Config,
    Format,
    Grouped,
    OneOrAll,
    Only,
    OutputKind,
    Refresh,
    Simulated,
    Speed,
    Yes,
    parse_usd,
)
from orbatch.cli.session import Session, guarded

P = ParamSpec("P")

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


def move_global_options(arguments: list[str]) -> list[str]:
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


_ANYWHERE = "Also --db PATH, --json, --quiet and --log-file PATH, before or behind the command: see `orbatch --help`."


def _command(body: Callable[P, None]) -> Callable[P, None]:
    return app.command(epilog=_ANYWHERE)(guarded(body))


@app.callback()
def options(
    context: typer.Context,
    db: Annotated[Path, typer.Option(envvar="ORBATCH_DB", help="The ledger.")] = Path("orbatch.db"),
    json: Annotated[bool, typer.Option("--json", help="Data as JSON on stdout; everything else on stderr.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only results and errors.")] = False,
    log_file: Annotated[Path | None, typer.Option(help="Also write what happens to this file.")] = None,
) -> None:
    named = context.get_parameter_source("db")
    context.obj = Session(db, json, quiet, log_file, db_named=named is not None and named.name == "COMMANDLINE")


@_command
def init(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("batch.yaml"),
) -> None:
    """Write a commented batch file to start from."""
    from orbatch.cli.setup import write_starter

    write_starter(context.obj, path)


@_command
def plan(
    context: typer.Context,
    config: Config,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the plan to this .json file, for `run`.")
    ] = None,
    budget: Budget = None,
    only: Only = None,
    refresh: Refresh = False,
    check_urls: Annotated[
        bool, typer.Option("--check-urls", help="Also ask for each https input whether it can be fetched.")
    ] = False,
    simulate: Simulated = False,
) -> None:
    """Check and price every job of a batch.

    Shows what it would cost, under which caps, and what is left to chance. Spends nothing.
    """
    from orbatch.cli.plan import show_plan

    show_plan(
        context.obj,
        config,
        output=output,
        budget=budget,
        only=only,
        refresh=refresh,
        check_urls=check_urls,
        simulate=simulate,
    )


@_command
def run(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="The batch file (YAML), or a plan written by `plan -o`.")],
    simulate: Simulated = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    yes: Yes = False,
    budget: Budget = None,
    in_flight: Annotated[int | None, typer.Option(min=1, help="Jobs at a time, in place of limits.in_flight.")] = None,
    only: Only = None,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Submit nothing more after the first failure.")
    ] = False,
    refresh: Refresh = False,
    speed: Speed = None,
) -> None:
    """Run a batch, or go on with it.

    What is done stays, what is paid for is followed and downloaded, and only the rest is bought. Ctrl-C stops it; the
    same command goes on. It ends with 0: everything done, 1: orbatch or the provider failed, 2: bad usage or batch
    file, 3: some jobs ended without a result, 4: stopped by budget or credit, 5: uncertain jobs need `resolve`,
    130: interrupted.
    """
    from orbatch.cli.run import RunArguments, run_batch

    arguments = RunArguments(
        simulate=simulate,
        dry_run=dry_run,
        yes=yes,
        budget=budget,
        in_flight=in_flight,
        only=only,
        fail_fast=fail_fast,
        refresh=refresh,
        speed=speed,
    )
    run_batch(context.obj, config, arguments)


@_command
def status(context: typer.Context, batch: OneOrAll = None, simulate: Simulated = False) -> None:
    """Where each batch stands, and what needs you."""
    from orbatch.cli.status import show_status

    show_status(context.obj, batch, simulate=simulate)


@_command
def jobs(
    context: typer.Context,
    batch: OneOrAll = None,
    status: Annotated[str | None, typer.Option(help="Only jobs in this state, such as failed.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    simulate: Simulated = False,
) -> None:
    """List jobs with status, cost and file."""
    from orbatch.cli.status import list_jobs

    list_jobs(context.obj, batch, status=status, limit=limit, simulate=simulate)


@_command
def show(
    context: typer.Context,
    job: Annotated[str, typer.Argument(help="Beginning of the job's id or of its remote id.")],
    simulate: Simulated = False,
) -> None:
    """One job: request, attempts, costs, files, history."""
    from orbatch.cli.status import show_job

    show_job(context.obj, job, simulate=simulate)


@_command
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
    """What was spent, reserved and lost, to the cent."""
    from orbatch.cli.report import show_report

    as_json = Format.json if context.obj.json else format
    show_report(
        context.obj, batch, by=by.value, since=since, until=until, style=as_json.value, settle=settle, simulate=simulate
    )


class ExportFormat(StrEnum):
    """How results are written."""

    jsonl = "jsonl"
    csv = "csv"


@_command
def export(
    context: typer.Context,
    batch: Batch = None,
    format: Annotated[ExportFormat, typer.Option(help="JSON lines or CSV.")] = ExportFormat.jsonl,  # noqa: A002 - likewise
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; stdout if left out.")] = None,
    simulate: Simulated = False,
) -> None:
    """Write the results of a batch, one line per job.

    Prompt, variables, model, text or files, cost and settings, in the order of the batch file.
    """
    from orbatch.cli.export import export_results

    export_results(context.obj, batch, style=format.value, output=output, simulate=simulate)


@_command
def retry(
    context: typer.Context,
    batch: Batch = None,
    status: Annotated[
        str, typer.Option(help="Jobs to send again: rejected, failed, cancelled or expired; several with commas.")
    ] = "failed",
    only: Only = None,
    simulate: Simulated = False,
) -> None:
    """Open ended jobs again; the next `run` buys them."""
    from orbatch.cli.resolve import retry_jobs

    retry_jobs(context.obj, batch, status=status, only=only, simulate=simulate)


@_command
def resolve(
    context: typer.Context,
    job: Annotated[str, typer.Argument(help="Beginning of a job's id; with --all, the name of a batch.")],
    remote_id: Annotated[
        str | None, typer.Option(help="The provider has it under this id: follow and download it.")
    ] = None,
    not_charged: Annotated[bool, typer.Option("--not-charged", help="Nothing was charged: free to run again.")] = False,
    charged: Annotated[
        Decimal | None, typer.Option(parser=parse_usd, metavar="USD", help="It was charged so much and is lost.")
    ] = None,
    charged_at_most: Annotated[
        bool, typer.Option("--charged-at-most", help="Count each at its worst case, as lost.")
    ] = False,
    all_: Annotated[bool, typer.Option("--all", help="All uncertain jobs of the batch.")] = False,
    yes: Yes = False,
    simulate: Simulated = False,
) -> None:
    """Say what became of an uncertain job.

    Its submit was never answered, so it may have been paid for. Give exactly one of --remote-id, --not-charged,
    --charged and --charged-at-most.
    """
    from orbatch.cli.resolve import Resolution, resolve_jobs

    verdict = Resolution(remote_id, not_charged, charged, charged_at_most)
    resolve_jobs(context.obj, job, verdict, everything=all_, yes=yes, simulate=simulate)


@_command
def verify(
    context: typer.Context,
    batch: OneOrAll = None,
    yes: Yes = False,
    simulate: Simulated = False,
) -> None:
    """Check the files on disk against the ledger.

    Offers to fetch again what is missing or was changed, while the provider still has it; that costs nothing.
    """
    from orbatch.cli.verify import verify_files

    verify_files(context.obj, batch, yes=yes, simulate=simulate)


@_command
def models(
    context: typer.Context,
    pattern: Annotated[str | None, typer.Argument(help="Only models whose id contains this.")] = None,
    kind: Annotated[OutputKind, typer.Option(help="What they make.")] = OutputKind.video,
    duration: Annotated[int | None, typer.Option(min=1, help="Seconds.")] = None,
    resolution: Annotated[str | None, typer.Option(help="Such as 720p; for an image 2K.")] = None,
    aspect_ratio: Annotated[str | None, typer.Option(help="Such as 9:16.")] = None,
    audio: Annotated[bool | None, typer.Option("--audio/--no-audio", help="With or without sound.")] = None,
    first_frame: Annotated[bool, typer.Option("--first-frame", help="Starts from a picture.")] = False,
    last_frame: Annotated[bool, typer.Option("--last-frame", help="Ends with a picture.")] = False,
    seed: Annotated[bool, typer.Option("--seed", help="Takes a seed.")] = False,
    refresh: Refresh = False,
    simulate: Simulated = False,
) -> None:
    """What the models can do, and what a shot costs.

    With a shot (--duration, --resolution ...) only the models that can do it, the cheapest first. For one image a shot
    is --resolution, --aspect-ratio and --seed; text models are listed with the price of their tokens.
    """
    from orbatch.cli.models import Shot, list_models

    shot = Shot(duration, resolution, aspect_ratio, audio, first_frame, last_frame, seed)
    list_models(context.obj, pattern, kind=kind.value, shot=shot, refresh=refresh, simulate=simulate)


@_command
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
    budget: Annotated[
        Decimal | None, typer.Option(parser=parse_usd, metavar="USD", help="Refuse if it may cost more.")
    ] = None,
    simulate: Simulated = False,
    speed: Speed = None,
) -> None:
    """Make one video, as safely as a batch. Images and texts are made by a batch file: see `orbatch init`.

    The same call again finds it paid for and only copies it. The original, and the batch file that made it, are kept
    in .orbatch beside the output.
    """
    from orbatch.cli.generate import Wish, generate_one

    settings = {
        "duration": duration,
        "resolution": resolution,
        "aspect_ratio": aspect_ratio,
        "generate_audio": audio,
        "seed": seed,
        "first_frame": image,
    }
    wish = Wish(prompt, model, output, settings)
    generate_one(context.obj, wish, budget=budget, speed=speed, yes=yes, simulate=simulate)


@_command
def simulate(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8787,
    speed: Annotated[float, typer.Option(min=0.1, max=10_000, help="How many times faster than real time.")] = 30,
    journal: Annotated[
        Path | None, typer.Option(help="Save the simulator state to this file and resume from it.")
    ] = None,
    credit: Annotated[Decimal | None, typer.Option(parser=parse_usd, metavar="USD", help="Account credit.")] = None,
    seed: Annotated[int, typer.Option(help="For repeatable render times and faults.")] = 0,
    fault: Annotated[
        list[str] | None,
        typer.Option(help='A fault as JSON, such as \'{"call": "submit", "status": 503, "times": 3}\'. Repeatable.'),
    ] = None,
) -> None:
    """Serve a strict imitation of OpenRouter here.

    Batches can be rehearsed on it by setting OPENROUTER_BASE_URL; it goes on until it is interrupted.
    """
    from orbatch.cli.setup import serve_simulator

    serve_simulator(context.obj, port=port, speed=speed, journal=journal, credit=credit, seed=seed, faults=fault or [])


@_command
def schema() -> None:
    """Print the JSON Schema of the batch file."""
    from orbatch.cli.setup import print_schema

    print_schema()


@_command
def doctor(context: typer.Context, simulate: Simulated = False) -> None:
    """Check key, credit, ledger, disk and catalog."""
    from orbatch.cli.setup import examine

    examine(context.obj, simulate=simulate)


@_command
def backup(
    context: typer.Context,
    target: Annotated[Path, typer.Argument(help="File to write.")],
    simulate: Simulated = False,
) -> None:
    """Copy the ledger, also while a run is using it."""
    from orbatch.cli.setup import back_up

    back_up(context.obj, target, simulate=simulate)
