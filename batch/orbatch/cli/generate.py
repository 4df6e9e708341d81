"""``generate``: one video as a batch of one job, so that it has the same ledger and the same safety."""

from __future__ import annotations

import filecmp
import hashlib
import json
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from orbatch.cli.run import run
from orbatch.cli.session import ExitCode, Failure, Session, Speed, Yes, find_batch, parse_usd
from orbatch.ledger import LedgerError

HOME = ".orbatch"  # beside the output: the batch file, and the original of the video


def generate(
    context: typer.Context,
    prompt: Annotated[str, typer.Argument(help="What the video shows.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Model id.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
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
    """Generate one video, as safely as a batch. For images and texts, write a batch file: see `orbatch init`.

    Running the same command again reuses the paid video. The original, and the batch file that made it, are kept in
    .orbatch beside the output.
    """
    session: Session = context.obj.beside(output)
    context.obj = session  # for `run` below: the ledger is beside the output, not in the hidden directory
    if image is not None and "://" not in image:
        image = str(Path(image).absolute())  # the batch file lies in another directory
    fields = {"duration": duration, "resolution": resolution, "aspect_ratio": aspect_ratio}
    fields |= {"generate_audio": audio, "seed": seed, "first_frame": image}
    batch = _batch(prompt, model, {name: value for name, value in fields.items() if value is not None}, output)
    if not prompt.strip():
        raise Failure("The prompt is empty.")
    if output.is_dir():
        raise Failure(f"{output} is a directory. Name the file to write, such as {output / 'video.mp4'}.")
    video = _paid_video(session, batch["name"])
    if output.exists() and not (video and video.is_file() and filecmp.cmp(output, video, shallow=False)):
        raise Failure(f"{output} already exists. Nothing was submitted; choose another name.")
    file = output.parent / HOME / f"{batch['name']}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(batch, allow_unicode=True, sort_keys=False), "utf-8")
    run(context, file, yes=yes, budget=budget, speed=speed)  # ends the command where there is no output
    video = _paid_video(session, batch["name"])
    if video is None:
        raise Failure("The video is not ready yet. Run the same command to continue.", ExitCode.FAILED)
    part = output.with_name(f".{output.name}.part")  # a copy cut short must never have the name of the video
    shutil.copyfile(video, part)
    part.replace(output)
    session.say(f"Created {output}.")


def _batch(prompt: str, model: str, settings: dict[str, Any], output: Path) -> dict[str, Any]:
    """The batch file. Its name depends on the request alone, so that a repeated call finds the paid video, wherever
    the output goes."""
    request = json.dumps([prompt, model, settings], sort_keys=True)
    return {
        "name": f"generate-{hashlib.sha256(request.encode()).hexdigest()[:12]}",
        "output_dir": str(output.parent.absolute() / HOME),
        "defaults": settings,
        "models": [model],
        # The prompt is the value of a variable, so that braces in it are not a template.
        "prompts": [{"id": "prompt", "prompt": "{{ text }}", "vars": {"text": prompt}}],
    }


def _paid_video(session: Session, name: str) -> Path | None:
    """The file of an earlier call with the same request, according to the ledger."""
    try:
        with session.open_ledger() as ledger:
            [row] = ledger.reports.job_rows(find_batch(ledger, name).id, None, 1)
    except (LedgerError, Failure):
        return None
    return None if row["output_path"] is None else Path(row["output_path"])
