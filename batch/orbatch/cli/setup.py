"""``init``, ``schema``, ``simulate``, ``doctor`` and ``backup``."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
from dataclasses import asdict, dataclass
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orbatch.cli import completion
from orbatch.cli.errors import ExitCode, Failure
from orbatch.cli.files import check_new, relative_path
from orbatch.cli.options import DEFAULT_FILE, Force, parse_usd
from orbatch.cli.session import Session

if TYPE_CHECKING:
    from orbatch.cli.provider import Connection

LOW_SPACE_BYTES = 2_000_000_000  # a few hundred clips
SCHEMA_NAME = "orbatch.schema.json"  # the first line of the starter points editors to it


def init(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(help="File to write.")] = DEFAULT_FILE,
    source: Annotated[
        Path | None, typer.Option("--from", help="Make it from this promptfoo configuration (YAML).")
    ] = None,
) -> None:
    """Write a commented batch file to start from."""
    session: Session = context.obj
    check_new(path, "batch.yaml")
    text = (
        files("orbatch").joinpath("starter.yaml").read_text("utf-8") if source is None else _converted(session, source)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    schema_path = path.with_name(SCHEMA_NAME)
    created = str(path)
    if not schema_path.exists():  # it may be the user's own, or shared by several batch files
        schema_path.write_text(_schema_text(), "utf-8")
        created += f" and {schema_path} (for editor completion)"
    quoted = shlex.quote(str(path))  # to be pasted
    session.result(f"Created {created}. Next:\n  orbatch plan {quoted}\n  orbatch run {quoted} --simulate")


def _converted(session: Session, source: Path) -> str:
    """A promptfoo configuration as a batch file. Raises Failure for one that cannot be one."""
    import yaml

    from orbatch.batchfile.promptfoo import PromptfooError, batch_from_promptfoo
    from orbatch_provider import image_snapshot, snapshot

    kinds = dict.fromkeys(snapshot().models, "video") | dict.fromkeys(image_snapshot().models, "image")
    try:
        batch, left_out = batch_from_promptfoo(yaml.safe_load(source.read_text("utf-8")), source.parent, kinds)
    except OSError as exc:
        raise Failure(f"{source} cannot be read: {exc.strerror}.") from exc
    except (yaml.YAMLError, UnicodeDecodeError, PromptfooError) as exc:
        raise Failure(f"{source} cannot be made into a batch file: {' '.join(str(exc).split())}.") from exc
    if left_out:
        session.warn(f"Left out, because orbatch has nothing like it: {', '.join(dict.fromkeys(left_out))}.")
    head = f"# From {source.name}. Set a budget before you run it.\n"
    return head + str(yaml.safe_dump(batch, allow_unicode=True, sort_keys=False, width=1000))


def schema() -> None:
    """Print the JSON Schema of the batch file."""
    typer.echo(_schema_text(), nl=False)


def _schema_text() -> str:
    from orbatch.batchfile.reference import config_schema

    return json.dumps(config_schema(), ensure_ascii=False, indent=2) + "\n"


def backup(
    context: typer.Context,
    target: Annotated[Path, typer.Argument(help="File to write.")],
    force: Force = False,
) -> None:
    """Copy the ledger, even while a run is using it."""
    session: Session = context.obj
    check_new(target, "backup.db", force=force)
    if not target.parent.is_dir():  # a typo in a backup job must not create directories
        raise Failure(f"{target.parent} is not a directory. Create it first.")
    with session.open_ledger() as ledger:
        ledger.database.backup(target)
    session.result(f"Copied {relative_path(session.ledger_path)} to {target}.")


def simulate(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 picks a free one.")] = 8787,
    speed: Annotated[float, typer.Option(min=0.1, max=10_000, help="Multiple of real time.")] = 30,
    journal: Annotated[
        Path | None, typer.Option(help="Save the simulator state to this file and resume from it.")
    ] = None,
    credit: Annotated[Decimal | None, typer.Option(parser=parse_usd, metavar="USD", help="Account credit.")] = None,
    seed: Annotated[int, typer.Option(help="Seed for reproducible render times and faults.")] = 0,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="What goes wrong: a name such as lost-answer, or JSON (docs/faults.md). Repeatable.",
            autocompletion=completion.faults,
        ),
    ] = None,
) -> None:
    """Run a local OpenRouter simulator.

    To rehearse batches on it, set OPENROUTER_BASE_URL. It runs until it is interrupted.
    """
    from orbatch_simulator import SimulatorSettings, named_fault, run_forever

    session: Session = context.obj
    try:
        faults = tuple(map(named_fault, fault or ()))
    except ValueError as exc:
        raise Failure(f"--fault: {exc}.") from exc
    settings = SimulatorSettings(speed=speed, credit_usd=credit, seed=seed, faults=faults)

    def ready(base_url: str) -> None:
        if session.json:
            session.data({"base_url": base_url})
            return
        session.result(
            f"Simulating OpenRouter on {base_url}, {speed:g} times faster than real time. In another terminal:\n"
            f"  export OPENROUTER_BASE_URL={base_url} OPENROUTER_API_KEY=sk-or-v1-simulated ORBATCH_DB=rehearsal.db\n"
            f"  orbatch run CONFIG --yes --speed {speed:g}"
        )

    try:
        run_forever(settings, port=port, journal_path=journal, on_ready=ready)
    except ValueError as exc:  # the journal is another file
        raise Failure(str(exc)) from exc


@dataclass(frozen=True, slots=True)
class Finding:
    """The state of one thing that a run needs. ``ok`` None: worth knowing, but no obstacle."""

    subject: str
    ok: bool | None
    text: str


def doctor(context: typer.Context) -> None:
    """Check key, credit, ledger, disk and price list."""
    session: Session = context.obj
    free = shutil.disk_usage(Path.cwd()).free  # outputs go below the current directory by default
    disk = Finding("disk", free > LOW_SPACE_BYTES or None, f"{free / 1e9:.1f} GB free in {Path.cwd()}")
    findings = [_ledger(session), disk, *asyncio.run(_provider_findings(session))]
    if session.json:
        session.data([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            mark = {True: "ok  ", None: "note", False: "FAIL"}[finding.ok]
            session.result(f"{mark}  {finding.subject}: {finding.text}")
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(ExitCode.FAILED)


async def _provider_findings(session: Session) -> list[Finding]:
    from orbatch.cli.provider import connect
    from orbatch_provider import ConfigurationError

    try:
        async with connect(session, with_journal=False) as connection:
            loaded = await connection.catalogs({"video": None}, refresh=True)  # a cached one proves nothing
            catalog = Finding("catalog", True if loaded.freshness == "live" else None, loaded.note)
            return [catalog, *await _key(connection)]
    except ConfigurationError as exc:
        return [Finding("base URL", False, str(exc))]


async def _key(connection: Connection) -> list[Finding]:
    from orbatch.cli.tables import amount
    from orbatch.money import to_nano
    from orbatch_provider import ConfigurationError

    try:
        connection.provider.require_key()
    except ConfigurationError as exc:
        return [Finding("key", False, str(exc))]
    left, problem = await connection.key_left()
    if problem is not None:
        return [Finding("key", False, problem)]
    credit = Finding("credit", None, "the key has no limit")
    if left is not None:
        credit = Finding("credit", left > 0, f"{amount(to_nano(left))} USD left on this key")
    return [Finding("key", True, f"accepted by {connection.provider.origin}"), credit]


def _ledger(session: Session) -> Finding:
    from orbatch.ledger import LedgerError

    path = session.ledger_path
    if path.exists():
        try:
            with session.open_ledger() as ledger, ledger.database.write():
                pass  # an empty transaction fails where a run would
        except LedgerError as exc:
            return Finding("ledger", False, str(exc))
        return Finding("ledger", True, f"{relative_path(path)} is writable")
    # The first run creates the ledger and its directories, so the nearest one that exists must be writable.
    directory = next(parent for parent in path.absolute().parents if parent.exists())
    probe = directory / f".orbatch-write-test-{os.getpid()}"
    try:
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as exc:
        return Finding("ledger", False, f"{directory} is not writable: {exc.strerror}")
    if session.db is None:
        return Finding("ledger", True, "none here yet; the first run creates one beside its batch file")
    return Finding("ledger", True, f"{relative_path(path)} does not exist yet; the first run creates it")
