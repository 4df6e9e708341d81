"""Arguments and options that several commands have."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from orbatch.cli import completion
from orbatch.money import parse_usd as parse_amount

DEFAULT_FILE = Path("batch.yaml")  # which `init` writes, too


def parse_usd(text: str) -> Decimal:
    """An amount in USD from the command line, within the bounds of a batch file."""
    try:
        return parse_amount(text)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc


Batch = Annotated[
    str | None, typer.Argument(help="Batch name. Default: the most recent.", autocompletion=completion.batches)
]
OneOrAll = Annotated[
    str | None, typer.Argument(help="Batch name. Default: the whole ledger.", autocompletion=completion.batches)
]
Only = Annotated[str | None, typer.Option(help="Only jobs whose prompt id, model or job id matches, such as 'cat*'.")]
Prompt = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        help="Only this prompt: a pattern for its id, or part of its text.",
        autocompletion=completion.prompts,
    ),
]
Model = Annotated[
    str | None,
    typer.Option("--model", help="Only this model: a pattern, or part of its name.", autocompletion=completion.models),
]
StatusOption = Annotated[
    str | None,
    typer.Option(
        "--status",
        help="Only jobs with this status, such as failed; several with commas.",
        autocompletion=completion.statuses,
    ),
]
Refresh = Annotated[bool, typer.Option("--refresh", help="Ignore the cached price list and fetch it again.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
Budget = Annotated[Decimal | None, typer.Option(parser=parse_usd, metavar="USD", help="Replaces budget.total_usd.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Buy also what another batch of the ledger has paid for.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]
Speed = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        max=10_000,
        help="Speed of the local simulator, as a multiple of real time. [default: 30 with --simulate, else 1]",
        show_default=False,
    ),
]
