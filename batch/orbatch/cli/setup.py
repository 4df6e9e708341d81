"""``init``, ``schema``, ``simulate``, ``doctor`` and ``backup``."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import files
from pathlib import Path

import typer

from orbatch.cli.session import FAILED, Failure, Session

LOW_SPACE_BYTES = 2_000_000_000  # a few hundred clips


def write_starter(session: Session, path: Path) -> None:
    if path.exists():
        raise Failure(f"{path} exists and was left as it is. Name another file.")
    path.write_text(files("orbatch").joinpath("starter.yaml").read_text("utf-8"), "utf-8")
    session.say(f"Written {path}. Look at what it would cost: orbatch plan {path} --simulate")


def print_schema(session: Session) -> None:
    from orbatch.batchfile.schema import config_schema

    session.data(config_schema())


def back_up(session: Session, target: Path, *, simulate: bool) -> None:
    if target.exists():
        raise Failure(f"{target} exists and was left as it is. Name another file.")
    with session.open_ledger(simulate=simulate) as ledger:
        ledger.backup(target)
    session.say(f"Copied {session.ledger_path(simulate=simulate)} to {target}.")


def serve_simulator(
    session: Session,
    *,
    port: int,
    speed: float,
    books: Path | None,
    credit: Decimal | None,
    seed: int,
    faults: list[str],
) -> None:
    from orbatch_provider.simulator import Fault, SimulatorSettings, run_forever

    try:
        rules = tuple(Fault.from_json(json.loads(fault)) for fault in faults)
    except ValueError as exc:
        raise Failure(f"--fault: {exc}") from exc
    settings = SimulatorSettings(speed=speed, credit_usd=credit, seed=seed, faults=rules)

    def ready(base_url: str) -> None:
        if session.json:
            session.data({"base_url": base_url})
            return
        session.say(
            f"Simulating OpenRouter on {base_url}, {speed:g} times faster than real time. In another terminal:\n"
            f"  export OPENROUTER_BASE_URL={base_url} OPENROUTER_API_KEY=sk-or-v1-simulated ORBATCH_DB=rehearsal.db\n"
            f"  orbatch run CONFIG --yes --speed {speed:g}"
        )

    try:
        run_forever(settings, port=port, books_path=books, on_ready=ready)
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
            session.say(f"{mark}  {finding.subject}: {finding.text}")
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(FAILED)


async def _findings(session: Session, *, simulate: bool) -> list[Finding]:
    from orbatch.cli.connecting import connected
    from orbatch_provider.errors import ConfigurationError, OpenRouterError

    findings = [_ledger(session, simulate=simulate), _space()]
    try:
        async with connected(session, simulate=simulate) as connection:
            loaded = await connection.catalog(refresh=True)
            findings.append(Finding("catalog", True if loaded.kind == "live" else None, loaded.note))
            try:
                key = await connection.provider.key()
            except ConfigurationError as exc:
                findings.append(Finding("key", False, str(exc)))
            except OpenRouterError as exc:
                findings.append(Finding("key", False, f"{connection.provider.origin} did not accept it: {exc}"))
            else:
                findings.append(Finding("key", True, f"accepted by {connection.provider.origin}"))
                left = "no limit is set" if key.remaining is None else f"{key.remaining} USD left"
                findings.append(Finding("credit", None if key.remaining is None else key.remaining > 0, left))
    except ConfigurationError as exc:
        findings.append(Finding("base URL", False, str(exc)))
    return findings


def _ledger(session: Session, *, simulate: bool) -> Finding:
    from orbatch.ledger import LedgerError

    path = session.ledger_path(simulate=simulate)
    existed = path.exists()
    try:
        with session.open_ledger(simulate=simulate, create=existed) as ledger, ledger.writing():
            pass
    except LedgerError as exc:
        if existed:
            return Finding("ledger", False, str(exc))
        return _writable(path.parent, lambda: f"{path} will be made by the first run")
    return Finding("ledger", True, f"{path} can be written")


def _writable(folder: Path, text: Callable[[], str]) -> Finding:
    probe = folder / ".orbatch-write-test"
    try:
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as exc:
        return Finding("ledger", False, f"{folder.absolute()} cannot be written: {exc}")
    return Finding("ledger", True, text())


def _space() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    return Finding("disk", free > LOW_SPACE_BYTES or None, f"{free / 1e9:.1f} GB free in {Path.cwd()}")
