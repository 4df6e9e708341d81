"""Arguments and options that several commands have, and the values they take."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """How a report is printed."""

    table = "table"
    json = "json"
    csv = "csv"
    markdown = "markdown"


class OutputKind(StrEnum):
    """What a model makes."""

    video = "video"
    image = "image"
    text = "text"


class Grouped(StrEnum):
    """What a report adds up by."""

    model = "model"
    batch = "batch"
    day = "day"
    prompt = "prompt"
    status = "status"


def parse_usd(text: str) -> Decimal:
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
Speed = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        max=10_000,
        help="The counterpart is a simulator on this machine that runs so many times faster than real time. "
        "[default: 30 with --simulate, else 1]",
        show_default=False,
    ),
]
Budget = Annotated[Decimal | None, typer.Option(parser=parse_usd, metavar="USD", help="Replaces budget.total_usd.")]
