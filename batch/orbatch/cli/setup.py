"""``init``, ``schema``, ``simulate``, ``doctor`` and ``backup``."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import files
from pathlib import Path

import typer

from orbatch.cli.session import FAILED, Failure, Session

LOW_SPACE_BYTES = 2_000_000_000  # a few hundred clips


SCHEMA_NAME = "orbatch.schema.json"  # what the first line of the starter points editors to


def write_starter(session: Session, path: Path) -> None:
    if path.is_dir():
        raise Failure(f"{path} is a folder; name the file to write, such as {path / 'batch.yaml'}.")
    if path.exists():
        raise Failure(f"{path} exists and was left as it is. Name another file.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(files("orbatch").joinpath("starter.yaml").read_text("utf-8"), "utf-8")
    schema = path.with_name(SCHEMA_NAME)
    if not schema.exists():
        schema.write_text(_schema_text(), "utf-8")
    shown = shlex.quote(str(path))
    session.result(
        f"Written {path}, and {schema} by which editors check it. Look at what it would cost, then rehearse it:\n"
        f"  orbatch plan {shown}\n  orbatch run {shown} --simulate"
    )


def _schema_text() -> str:
    from orbatch.batchfile.reference import config_schema

    return json.dumps(config_schema(), ensure_ascii=False, indent=2) + "\n"


def print_schema() -> None:
    typer.echo(_schema_text(), nl=False)


def back_up(session: Session, target: Path, *, simulate: bool) -> None:
    if target.is_dir():
        raise Failure(f"{target} is a folder; name the file to write.")
    if target.exists():
        raise Failure(f"{target} exists and was left as it is. Name another file.")
    if not target.parent.is_dir():
        raise Failure(f"{target.parent} is no folder; make it first.")
    with session.open_ledger(simulate=simulate) as ledger:
        try:
            ledger.backup(target)
        except BaseException:
            target.unlink(missing_ok=True)  # half a copy must not pass for a backup
            raise
    session.result(f"Copied {session.ledger_path(simulate=simulate)} to {target}.")


def serve_simulator(
    session: Session,
    *,
    port: int,
    speed: float,
    journal: Path | None,
    credit: Decimal | None,
    seed: int,
    faults: list[str],
) -> None:
    from orbatch_simulator import Fault, SimulatorSettings, run_forever

    try:
        rules = tuple(Fault.from_json(json.loads(fault)) for fault in faults)
    except json.JSONDecodeError as exc:
        raise Failure(f"--fault is not JSON: {exc}. Put it into single quotes.") from exc
    except ValueError as exc:
        raise Failure(f"--fault: {exc}.") from exc
    settings = SimulatorSettings(speed=speed, credit_usd=credit, seed=seed, faults=rules)

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
    except ValueError as exc:
        raise Failure(str(exc)) from exc


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a run needs. ``ok`` None: worth knowing, no obstacle."""

    subject: str
    ok: bool | None
    text: str


def examine(session: Session, *, simulate: bool) -> None:
    findings = asyncio.run(_findings(session, simulate=simulate))
    if session.json:
        session.data([{"subject": f.subject, "ok": f.ok, "text": f.text} for f in findings])
    else:
        for finding in findings:
            mark = {True: "ok  ", None: "note", False: "FAIL"}[finding.ok]
            session.result(f"{mark}  {finding.subject}: {finding.text}")
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(FAILED)


async def _findings(session: Session, *, simulate: bool) -> list[Finding]:
    from orbatch.cli.provider import connected
    from orbatch.money import format_usd, to_nano
    from orbatch_provider.errors import ConfigurationError, OpenRouterError

    findings = [_ledger(session, simulate=simulate), _space()]
    try:
        async with connected(session, simulate=simulate, with_journal=False) as connection:
            loaded = await connection.catalogs({"video": None}, refresh=True)
            findings.append(Finding("catalog", True if loaded.freshness == "live" else None, loaded.note))
            try:
                key = await connection.provider.key()
            except ConfigurationError as exc:
                findings.append(Finding("key", False, str(exc)))
            except OpenRouterError as exc:
                findings.append(Finding("key", False, f"{connection.provider.origin} did not accept it: {exc}"))
            else:
                findings.append(Finding("key", True, f"accepted by {connection.provider.origin}"))
                left = (
                    "the key has no limit"
                    if key.remaining is None
                    else f"the key may spend {format_usd(to_nano(key.remaining))} USD more"
                )
                findings.append(Finding("credit", None if key.remaining is None else key.remaining > 0, left))
    except ConfigurationError as exc:
        findings.append(Finding("base URL", False, str(exc)))
    return findings


def _ledger(session: Session, *, simulate: bool) -> Finding:
    from orbatch.ledger import LedgerError

    path = session.ledger_path(simulate=simulate)
    existed = path.exists()
    try:
        with session.open_ledger(simulate=simulate, create=existed) as ledger, ledger.database.write():
            pass
    except LedgerError as exc:
        if existed:
            return Finding("ledger", False, str(exc))
        return _to_be_made(path)
    return Finding("ledger", True, f"{path} can be written")


def _to_be_made(ledger: Path) -> Finding:
    """The first run makes a missing ledger, and missing folders on the way."""
    folder = next(parent for parent in ledger.absolute().parents if parent.exists())
    probe = folder / f".orbatch-write-test-{os.getpid()}"
    try:
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as exc:
        return Finding("ledger", False, f"{folder} cannot be written: {exc.strerror}")
    return Finding("ledger", True, f"{ledger} will be made by the first run")


def _space() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    return Finding("disk", free > LOW_SPACE_BYTES or None, f"{free / 1e9:.1f} GB free in {Path.cwd()}")
