"""``generate``: one video as a batch of one job, so that it has the same ledger and the same safety."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from orbatch.cli.run import RunArguments, run_batch
from orbatch.cli.session import Failure, Session, find_batch
from orbatch.ledger import LedgerError

HOME = ".orbatch"  # beside the output: the batch file, and the original of the video


@dataclass(frozen=True, slots=True)
class Wish:
    """One video, and where it goes. ``settings``: request fields, None for those that were not given."""

    prompt: str
    model: str
    output: Path
    settings: dict[str, Any]

    @property
    def given(self) -> dict[str, Any]:
        given = {name: value for name, value in self.settings.items() if value is not None}
        picture = given.get("first_frame")
        if picture is not None and "://" not in picture:
            given["first_frame"] = str(Path(picture).absolute())
        return given

    @property
    def name(self) -> str:
        """The same for the same wish, wherever its output goes: that is how it is known to be paid for."""
        text = json.dumps([self.prompt, self.model, self.given], sort_keys=True)
        return f"generate-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def batch(self) -> dict[str, Any]:
        # The prompt is a variable's value, so that braces in it are no template.
        return {
            "name": self.name,
            "output_dir": str(self.output.parent.absolute() / HOME),
            "defaults": self.given,
            "models": [self.model],
            "prompts": [{"id": "prompt", "prompt": "{{ text }}", "vars": {"text": self.prompt}}],
        }


def generate_one(
    session: Session, wish: Wish, *, budget: Decimal | None, speed: float | None, yes: bool, simulate: bool
) -> None:
    """Run it and copy the result to its place. The same call again finds it paid for, and only copies it."""
    output = wish.output
    if not wish.prompt.strip():
        raise Failure("The prompt is empty.")
    if output.is_dir():
        raise Failure(f"{output} is a folder; name the file to write, such as {output / 'video.mp4'}.")
    if output.exists() and not _is_same(output, _result(session, wish, simulate=simulate)):
        raise Failure(f"{output} exists and is something else. It was left as it is, and nothing was sent.")
    file = output.parent / HOME / f"{wish.name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(wish.batch(), allow_unicode=True, sort_keys=False), "utf-8")
    run_batch(session, file, RunArguments(simulate=simulate, yes=yes, budget=budget, speed=speed))
    result = _result(session, wish, simulate=simulate)
    if result is None:
        raise Failure(f"The video is not here yet; see `orbatch jobs {wish.name}`.", 1)
    part = output.with_name(f".{output.name}.part")
    shutil.copyfile(result, part)
    part.replace(output)
    session.say(f"Written to {output}.")


def _result(session: Session, wish: Wish, *, simulate: bool) -> Path | None:
    """Where the ledger says that the video is, if this wish was fulfilled before."""
    try:
        with session.open_ledger(simulate=simulate) as ledger:
            [row] = ledger.reports.job_rows(find_batch(ledger, wish.name).id, None, 1)
    except (LedgerError, Failure):
        return None
    return None if row["output_path"] is None else Path(row["output_path"])


def _is_same(output: Path, result: Path | None) -> bool:
    if result is None or not result.is_file():
        return False
    with output.open("rb") as one, result.open("rb") as other:
        return hashlib.file_digest(one, "sha256").digest() == hashlib.file_digest(other, "sha256").digest()
