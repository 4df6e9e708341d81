"""``generate``: one request, or several takes of it, as a batch, so that it has the same ledger and the same safety."""

from __future__ import annotations

import filecmp
import hashlib
import json
import re
import shutil
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import yaml

from orbatch.cli import completion
from orbatch.cli.errors import ExitCode, Failure
from orbatch.cli.options import Speed, Yes, parse_usd
from orbatch.cli.run import run
from orbatch.cli.session import Session, find_batch
from orbatch.ledger import LedgerError, Selection

HOME = ".orbatch"  # beside the output: the batch file, and the original of the video


def generate(
    context: typer.Context,
    prompt: Annotated[str, typer.Argument(help="What the output shows or says.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Model id.", autocompletion=completion.models)],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write, or a directory.")],
    kind: Annotated[
        Literal["video", "image", "text"] | None, typer.Option(help="Default: by the name of the file, else video.")
    ] = None,
    takes: Annotated[
        int, typer.Option("--takes", "-n", min=1, max=100, help="How many to make; each is paid for.")
    ] = 1,
    duration: Annotated[int | None, typer.Option(min=1, max=3600, help="Length in seconds.")] = None,
    resolution: Annotated[str | None, typer.Option(help="Such as 720p.")] = None,
    aspect_ratio: Annotated[str | None, typer.Option(help="Such as 9:16.")] = None,
    audio: Annotated[bool | None, typer.Option("--audio/--no-audio", help="With or without audio.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed for reproducible output, if the model supports it.")] = None,
    image: Annotated[str | None, typer.Option(help="First frame: an https URL or a local image.")] = None,
    yes: Yes = False,
    budget: Annotated[
        Decimal | None, typer.Option(parser=parse_usd, metavar="USD", help="Refuse if it can cost more.")
    ] = None,
    speed: Speed = None,
) -> None:
    """Generate a video, an image or a text, as safely as a batch.

    Running the same command again reuses what is paid for. The originals, and the batch file that made them, are kept
    in .orbatch beside the output.
    """
    into_directory = output.is_dir() or not output.suffix
    home = (output if into_directory else output.parent) / HOME
    session: Session = replace(context.obj.beside(home.parent / "batch.yaml"), title=output.absolute().name)
    context.obj = session  # for `run` below: the ledger is beside the output, not in the hidden directory
    if image is not None and "://" not in image:
        image = str(Path(image).absolute())  # the batch file lies in another directory
    fields = {"duration": duration, "resolution": resolution, "aspect_ratio": aspect_ratio}
    fields |= {"generate_audio": audio, "seed": seed, "first_frame": image, "kind": kind or _kind_of(output)}
    settings = {name: value for name, value in fields.items() if value not in (None, "video")}
    batch = _batch(prompt, model, settings, output, home, takes)
    if not prompt.strip():
        raise Failure("The prompt is empty.")
    paid = _paid_files(session, batch["name"])
    if not into_directory:
        _check_free(output, paid, takes)
    file = home / f"{batch['name']}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(batch, allow_unicode=True, sort_keys=False), "utf-8")
    run(context, file, yes=yes, budget=budget, speed=speed)  # ends the command where there is no output
    paid = _paid_files(session, batch["name"])
    if not paid:
        raise Failure("The output is not ready yet. Run the same command to continue.", ExitCode.FAILED)
    for original, target in zip(paid, _targets(output, paid, into_directory=into_directory), strict=True):
        part = target.with_name(f".{target.name}.part")  # a copy cut short must never have the name of the output
        shutil.copyfile(original, part)
        part.replace(target)
        session.say(f"Created {target}.")


def _kind_of(output: Path) -> str:
    """``cat.png`` is an image, ``cat.txt`` a text, anything else a video."""
    by_suffix = dict.fromkeys((".png", ".jpg", ".jpeg", ".webp"), "image") | dict.fromkeys((".txt", ".json"), "text")
    return by_suffix.get(output.suffix.lower(), "video")


def _targets(output: Path, paid: list[Path], *, into_directory: bool) -> list[Path]:
    """Where each file goes: under its own name into a directory; under the name of the user, numbered where there are
    several."""
    if into_directory:
        return [output / path.name for path in paid]
    if len(paid) == 1:
        return [output]
    return [output.with_stem(f"{output.stem}-{number}") for number in range(1, len(paid) + 1)]


def _check_free(output: Path, paid: list[Path], takes: int) -> None:
    """Raises Failure for a file of the user under a name that would be written."""
    several = [output.with_stem(f"{output.stem}-{number}") for number in range(1, takes + 1)]
    for target in several if takes > 1 else [output]:
        if target.exists() and not any(path.is_file() and filecmp.cmp(target, path, shallow=False) for path in paid):
            raise Failure(f"{target} already exists. Nothing was submitted; choose another name.")


def _batch(prompt: str, model: str, settings: dict[str, Any], output: Path, home: Path, takes: int) -> dict[str, Any]:
    """The batch file. Its name depends on the request alone, so that a repeated call finds what is paid for, wherever
    the output goes."""
    request = json.dumps([prompt, model, settings], sort_keys=True)
    id_ = re.sub(r"[^A-Za-z0-9_-]+", "-", output.absolute().stem)[:60].strip("-") or "take"
    return {
        "name": f"generate-{hashlib.sha256(request.encode()).hexdigest()[:12]}",
        "output_dir": str(home.absolute()),
        "defaults": settings,
        "models": [model],
        # The prompt is the value of a variable, so that braces in it are not a template.
        "prompts": [{"id": id_, "prompt": "{{ text }}", "vars": {"text": prompt}}],
        **({"repeat": takes} if takes > 1 else {}),
    }


def _paid_files(session: Session, name: str) -> list[Path]:
    """The files of calls with the same request so far, according to the ledger."""
    try:
        with session.open_ledger() as ledger:
            files = ledger.queries.placed_files(find_batch(ledger, name).id, Selection(current=True))
    except (LedgerError, Failure):
        return []
    return sorted(Path(output.path) for _, output in files)
