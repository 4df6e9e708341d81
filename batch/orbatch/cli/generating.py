"""``generate``: one video as a batch of one job, so that it has the same ledger and the same safety."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import typer
import yaml

from orbatch.cli.running import RunArguments, run_batch
from orbatch.cli.session import Session, find_batch


def generate_one(
    session: Session,
    prompt: str,
    model: str,
    output: Path,
    settings: dict[str, Any],
    *,
    yes: bool,
    simulate: bool,
) -> None:
    """Run it and copy the result to ``output``. The same call again finds it paid for and only copies it."""
    given = {name: value for name, value in settings.items() if value is not None}
    if "first_frame" in given and "://" not in given["first_frame"]:
        given["first_frame"] = str(Path(given["first_frame"]).absolute())
    text = json.dumps([prompt, model, given], sort_keys=True)
    name = f"generate-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    batch = {
        "name": name,
        "output_dir": str(output.parent.absolute() / ".orbatch"),
        "defaults": given,
        "models": [model],
        "prompts": [{"id": "prompt", "prompt": "{{ text }}", "vars": {"text": prompt}}],
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.yaml"
        path.write_text(yaml.safe_dump(batch, allow_unicode=True), "utf-8")
        arguments = RunArguments(simulate, False, yes, None, None, None, False, False, None)
        run_batch(session, path, arguments)
    with session.open_ledger(simulate=simulate) as ledger:
        [row] = list(ledger.reports.job_rows(find_batch(ledger, name).id, None, 1))
    if row["output_path"] is None:
        raise typer.Exit(3)
    shutil.copyfile(row["output_path"], output)
    session.say(f"Written to {output}")
