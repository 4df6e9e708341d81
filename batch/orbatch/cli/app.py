"""The ``orbatch`` command: its global options, and a group that imports a command only when it is used."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from orbatch.cli.errors import guarded
from orbatch.cli.session import Session

# By heading of the help: name -> module in this package and first sentence of the help. `orbatch --help` reads only
# this table, because importing the modules would make it several times slower.
GROUPS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "Run a batch": {
        "init": ("setup", "Write a commented batch file to start from."),
        "plan": ("plan", "Check and price every job of a batch."),
        "run": ("run", "Run or resume a batch."),
        "stop": ("steer", "Stop a run in another terminal."),
        "set": ("steer", "Change caps and limits of a batch, also while it runs."),
        "collect": ("run", "Poll and download what is paid for. Submits nothing."),
        "final": ("view", "Write a batch file for what was picked, and show what it costs."),
        "generate": ("generate", "Generate a video, an image or a text, as safely as a batch."),
    },
    "Look at it": {
        "status": ("status", "Show the progress of each batch and what needs attention."),
        "jobs": ("status", "List jobs with status, cost and file."),
        "show": ("status", "Show a job: request, attempts, costs, files, history."),
        "path": ("status", "Print the paths of the files of a prompt."),
        "report": ("report", "Show what was spent, reserved and lost, to the cent."),
        "view": ("view", "Look at a batch in the browser: compare, rate, pick."),
        "picks": ("view", "List the outputs that were picked."),
        "export": ("export", "Write the outputs of a batch, one line per job."),
    },
    "Put it right": {
        "retry": ("resolve", "Set failed jobs back to pending. The next run submits them."),
        "resolve": ("resolve", "Record the outcome of an uncertain job."),
        "verify": ("verify", "Check the files on disk against the ledger."),
        "clean": ("verify", "Move the files of jobs that left the batch file aside."),
        "backup": ("setup", "Copy the ledger, even while a run is using it."),
    },
    "Around it": {
        "models": ("models", "List models, what they support and what they charge."),
        "doctor": ("setup", "Check key, credit, ledger, disk and price list."),
        "simulate": ("setup", "Run a local OpenRouter simulator."),
        "schema": ("setup", "Print the JSON Schema of the batch file."),
    },
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}
# Two of each, behind `orbatch`.
EXAMPLES: Mapping[str, tuple[str, str]] = {
    "init": ("init", "init films.yaml"),
    "plan": ("plan films.yaml", "plan films.yaml --only 'beach*' -o plan.json"),
    "run": ("run films.yaml --simulate", "run films.yaml --budget 5.00"),
    "stop": ("stop", 'stop films --reason "wrong model"'),
    "set": ("set films budget.total_usd=0.50 limits.in_flight=2", "set films --reset"),
    "collect": ("collect", "collect outputs/films"),
    "generate": (
        'generate "a cat at sunrise" -m alibaba/wan-2.6 -o cat.mp4',
        'generate "a cat" -m google/veo-3.1-lite -o cats/ -n 3',
    ),
    "status": ("status", "status films --watch"),
    "jobs": ("jobs films --status failed,expired", "jobs --prompt beach --model veo --json"),
    "show": ("show 5d625a47", "show --prompt beach"),
    "path": ("path beach", "path beach --model veo --json"),
    "report": ("report films --by prompt", "report --since 2026-11-01 --format csv"),
    "view": ("view films", "view films --export page/"),
    "picks": ("picks films", "picks films --format csv"),
    "final": (
        "final films --model google/veo-3.1 --set resolution=1080p -o finals.yaml",
        "final films --model alibaba/wan-2.7",
    ),
    "export": ("export films -o films.jsonl", "export films -o films.csv --excel"),
    "retry": ("retry films", "retry films --status rejected --only 'beach*'"),
    "resolve": ("resolve 5d625a47 --not-charged", "resolve films --all --not-charged"),
    "verify": ("verify films", "verify films --yes"),
    "clean": ("clean films", "clean films --yes"),
    "backup": ("backup monday.db", "backup monday.db --force"),
    "models": ("models", "models veo --duration 8 --resolution 1080p"),
    "doctor": ("doctor", "doctor --simulate"),
    "simulate": ("simulate", "simulate --port 9000 --credit 1.00"),
    "schema": ("schema > orbatch.schema.json", "schema | jq '.properties | keys'"),
}

_FLAGS = ("--simulate", "--json", "--quiet", "-q", "--verbose", "-v")
_WITH_VALUE = ("--db", "--log-file")
_GLOBAL = "--simulate, --db, --json, --quiet, --verbose, --log-file"
_EVERYWHERE = "before or after the command"


class LazyGroup(TyperGroup):
    """A group of COMMANDS. A command is built from the function of its name when it runs or shows its help."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        names: dict[str, Any] = dict.fromkeys(COMMANDS)
        self.commands = names  # "Did you mean" needs no more

    def get_command(self, _context: object, name: str) -> Any:
        """The command of this name, or None."""
        if name not in COMMANDS:
            return None
        module, _ = COMMANDS[name]
        body = getattr(import_module(f"orbatch.cli.{module}"), name)
        alone = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        examples = "\n".join(f"  orbatch {example}" for example in EXAMPLES[name])
        epilog = (
            f"\b\nExamples:\n{examples}\n\nGlobal options, {_EVERYWHERE}: {_GLOBAL}. See `orbatch --help`. "
            "Manual: docs/commands.md"
        )
        alone.command(name, epilog=epilog)(guarded(body))
        return typer.main.get_command(alone)

    def format_commands(self, _context: object, formatter: Any) -> None:
        """The list of commands below the global options, from the table alone."""
        for heading, group in GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl([(name, summary) for name, (_, summary) in group.items()])


app = typer.Typer(
    name="orbatch",
    cls=LazyGroup,
    help="Run batches of video, image and text jobs on OpenRouter, within a budget. Resumes safely.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a traceback with local variables could show a key
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"{_GLOBAL} work {_EVERYWHERE}.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # not above: it takes longer than most of the rest

        typer.echo(f"orbatch {version('orbatch')}")
        raise typer.Exit


@app.callback()
def start(
    context: typer.Context,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Use the built-in simulator and a ledger of its own, not real money.")
    ] = False,
    db: Annotated[
        Path | None,
        typer.Option(envvar="ORBATCH_DB", help="The ledger. Default: the nearest orbatch.db, see docs/ledger.md."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Data as JSON on stdout; everything else on stderr.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only results and errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every step of every job.")] = False,
    log_file: Annotated[Path | None, typer.Option(help="Also write log messages to this file.")] = None,
    version: Annotated[  # noqa: ARG001 - its callback has shown it
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Keep the global options as the session of the command."""
    source = context.get_parameter_source("db")
    db_named = source is not None and source.name == "COMMANDLINE"
    context.obj = Session(db, json, quiet, log_file, simulate, db_named, verbose=verbose)


def move_global_options(arguments: list[str]) -> list[str]:
    """The arguments with the global options in front, so that ``orbatch status --json`` works as well."""
    front: list[str] = []
    rest: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--":  # everything after it is a value
            rest += [argument, *remaining]
        elif argument in _FLAGS or argument.startswith(tuple(f"{name}=" for name in _WITH_VALUE)):
            front.append(argument)
        elif argument in _WITH_VALUE:
            front += [argument, *([value] if (value := next(remaining, None)) is not None else [])]
        else:
            rest.append(argument)
    return front + rest
