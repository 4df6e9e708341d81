"""``view``, ``picks`` and ``final``: look at a batch in the browser, and render what was picked at full quality."""

from __future__ import annotations

import asyncio
import getpass
import json
import shutil
import socket
import webbrowser
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import typer
import yaml

from orbatch.cli import completion
from orbatch.cli.errors import Failure
from orbatch.cli.export import link_or_copy
from orbatch.cli.files import check_new, relative_path
from orbatch.cli.options import Batch, Force
from orbatch.cli.plan import plan
from orbatch.cli.session import Session, find_batch
from orbatch.cli.tables import amount, csv_line, pluralize, table
from orbatch.export import record_of
from orbatch.ledger import BatchRecord, ExportedJob, Ledger, variant_text
from orbatch.money import to_nano_up_to
from orbatch.plan import finals, finals_file, offer_finals, picked_jobs, upscaling
from orbatch_provider import VideoModel

LOOPBACK = "127.0.0.1"
_EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - to be recognized; listening there needs --share
_PICK_COLUMNS = ("job_id", "prompt_id", "prompt", "seed", "model", "rating", "cost_usd", "output_path")


def view(
    context: typer.Context,
    batch: Batch = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 picks a free one.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")] = True,
    host: Annotated[str, typer.Option(help="Address to listen on; another one than this machine's needs --share.")] = (
        LOOPBACK
    ),
    share: Annotated[bool, typer.Option("--share", help="Let other machines with the token look and rate.")] = False,
    export: Annotated[
        Path | None, typer.Option(help="Write a page that opens without a server, into this folder or .zip, and end.")
    ] = None,
    contact_sheet: Annotated[
        Path | None, typer.Option(help="Write all outputs as one picture (.jpg, .png) or video (.mp4), and end.")
    ] = None,
    select: Annotated[Literal["all", "picked"], typer.Option(help="What --export and --contact-sheet hold.")] = "all",
    force: Force = False,
) -> None:
    """Look at a batch in the browser: compare, rate, pick.

    The page shows prompts and models side by side, with what each output cost, and follows a run. Ratings and picks are
    kept in the ledger. It is served on this machine only, to who has the printed address.
    """
    session: Session = context.obj
    if host not in (LOOPBACK, "localhost", "::1") and not share:
        raise Failure(f"{host} lets other machines look at the batch. Pass --share if that is meant.")
    if export is not None and contact_sheet is not None:
        raise Failure("Pass --export or --contact-sheet, one at a time.")
    with session.open_ledger() as ledger:
        found = find_batch(ledger, batch)
        if export is not None:
            _export(session, ledger, found, export, picked=select == "picked")
        elif contact_sheet is not None:
            _write_sheet(session, ledger, found, contact_sheet, picked=select == "picked", force=force)
        else:
            asyncio.run(_serve(session, ledger, found, host, port, browser=browser, share=share))


def _write_sheet(
    session: Session, ledger: Ledger, batch: BatchRecord, target: Path, *, picked: bool, force: bool
) -> None:
    from orbatch.view.contact_sheet import SUFFIXES, write_contact_sheet

    if target.suffix.lower() not in SUFFIXES:
        raise Failure(f"{target} has no suffix of a picture or a video. Choose one of {', '.join(SUFFIXES)}.")
    check_new(target, f"{batch.name}.jpg", force=force)
    part = target.with_name(f".{target.stem}.part{target.suffix}")
    try:
        number = write_contact_sheet(ledger, batch, part, picked=picked)
        part.replace(target)
    except ValueError as exc:
        raise Failure(f"{batch.name}: {exc}.") from exc
    finally:
        part.unlink(missing_ok=True)
    session.say(f"Created {relative_path(target)} with {pluralize(number, 'output')}.")


async def _serve(
    session: Session, ledger: Ledger, batch: BatchRecord, host: str, port: int, *, browser: bool, share: bool
) -> None:
    from aiohttp import web

    from orbatch.view.server import ViewServer

    offer = partial(_offer, session, ledger, batch)
    server = ViewServer(ledger, batch, getpass.getuser(), None if share else host, offer)
    runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as exc:
            raise Failure(f"Port {port} of {host} cannot be used: {exc.strerror}. Choose another --port.") from exc
        number = runner.addresses[0][1]
        name = _own_name() if host in _EVERY_ADDRESS else host
        url = f"http://{f'[{name}]' if ':' in name else name}:{number}/?token={server.token}"
        if share:
            session.warn("Everybody who has this address can look at the batch and rate it.")
        session.data({"url": url}) if session.json else session.result(f"{batch.name}: {url}")
        session.say("Ctrl-C ends it.")
        if browser:
            await asyncio.to_thread(webbrowser.open, url)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def _own_name() -> str:
    """The address by which others in the network reach this machine; its name where there is no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked, suppress(OSError):
        asked.connect(("192.0.2.1", 9))  # an address of no one (RFC 5737); choosing the route sends nothing
        return str(asked.getsockname()[0])
    return socket.gethostname()


def _export(session: Session, ledger: Ledger, batch: BatchRecord, target: Path, *, picked: bool) -> None:
    """A folder, or a .zip of it, with the page, its data, and the media linked or copied."""
    is_zip = target.suffix.lower() == ".zip"
    if target.exists() and (is_zip or not target.is_dir() or any(target.iterdir())):
        raise Failure(f"{target} already exists. Choose another name.")
    with TemporaryDirectory(dir=target.absolute().parent) as directory:
        folder = Path(directory) / batch.name
        number = _write_page(ledger, batch, folder, picked=picked)
        if is_zip:
            made = shutil.make_archive(str(Path(directory) / "page"), "zip", directory, batch.name)
            Path(made).replace(target)
        else:
            target.mkdir(exist_ok=True)
            folder.replace(target)
    session.say(f"Created {relative_path(target)} with {pluralize(number, 'output')}.")


def _write_page(ledger: Ledger, batch: BatchRecord, folder: Path, *, picked: bool) -> int:
    from orbatch.export import text_of
    from orbatch.view.data import batch_data
    from orbatch.view.posters import poster_of
    from orbatch.view.server import static_text

    for name in ("static", "media", "posters"):
        (folder / name).mkdir(parents=True)
    data, number = batch_data(ledger, batch, me=getpass.getuser(), picked=picked), 0
    for row in data["rows"]:
        for cells in row["cells"].values():
            for cell in cells:
                outputs = [output for output in ledger.queries.outputs(cell["id"]) if Path(output.path).is_file()]
                cell["files"] = []
                for output in outputs:
                    name = f"media/{cell['id']}-{Path(output.path).name}"
                    link_or_copy(Path(output.path), folder / name)
                    cell["files"].append(name)
                    number += 1
                if cell["kind"] == "text":
                    cell["text"] = text_of(output.path for output in outputs)
                elif outputs:
                    try:
                        poster = poster_of(outputs[0], Path(batch.output_dir))
                        shutil.copyfile(poster, folder / "posters" / f"{cell['id']}.jpg")
                    except (OSError, ValueError):
                        continue
                    cell["poster"] = f"posters/{cell['id']}.jpg"
    (folder / "index.html").write_text(static_text("index.html"), "utf-8")
    for name in ("view.css", "view.js", "icon.svg"):
        (folder / "static" / name).write_text(static_text(name), "utf-8")
    script = f"window.ORBATCH = {json.dumps(data, default=str)};\n"
    (folder / "static" / "data.js").write_text(script, "utf-8")
    return number


def picks(
    context: typer.Context,
    batch: Batch = None,
    format: Annotated[  # noqa: A002 - the option's name
        Literal["table", "json", "csv"], typer.Option(help="Output format.")
    ] = "table",
) -> None:
    """List the outputs that were picked in `orbatch view`."""
    session: Session = context.obj
    with session.open_ledger() as ledger:
        found = find_batch(ledger, batch)
        records = [_pick(ledger, job) for job in picked_jobs(ledger, found.id)]
    if session.json or format == "json":
        session.data(records)
    elif format == "csv":
        rows = [[row[column] for column in _PICK_COLUMNS] for row in records]
        typer.echo("".join(map(csv_line, [_PICK_COLUMNS, *rows])), nl=False)
    elif not records:
        session.result(f"{found.name}: nothing is picked. `orbatch view {found.name}{session.flags}` is where to pick.")
    else:
        columns: Mapping[str, Any] = {
            "prompt": lambda row: row["prompt_id"],
            "variant": lambda row: variant_text(row["variables"], row["seed"]),
            "model": lambda row: row["model"],
            "rating": lambda row: "" if row["rating"] is None else f"{row['rating']:.1f}",
            "USD": lambda row: row["usd"],
            "file": lambda row: relative_path(row["output_path"]) if row["output_path"] else "",
        }
        session.print(table(records, columns, numbers=["rating", "USD"], flexible=["file", "variant", "model"]).lines)


def _pick(ledger: Ledger, job: ExportedJob) -> dict[str, Any]:
    record = record_of(job)
    batch = ledger.plans.find(job.batch)
    review = ledger.reviews.of_batch(batch.id)[job.job_id] if batch is not None else None
    return record | {"rating": review.rating if review else None, "usd": amount(job.cost_nusd)}


def final(
    context: typer.Context,
    batch: Batch = None,
    model: Annotated[str, typer.Option("--model", help="Model of the finals.", autocompletion=completion.models)] = "",
    output: Annotated[Path, typer.Option("--output", "-o", help="The batch file to write.")] = Path("finals.yaml"),
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, such as resolution=1080p. Repeatable.")
    ] = None,
    upscale: Annotated[
        float | None, typer.Option("--upscale", help="Enlarge the picked clips themselves by this factor.", min=1.0)
    ] = None,
    urls: Annotated[
        str | None, typer.Option("--urls", help="https folder where the picked files can be read, for --upscale.")
    ] = None,
    force: Force = False,
) -> None:
    """Write a batch file for what was picked, and show what it costs.

    The same prompts, seeds and inputs on another model or with other settings: that makes other clips, not the picked
    ones in better quality. Only --upscale keeps the picked clip; it reads the files from the folder in --urls. Spends
    nothing.
    """
    session: Session = context.obj
    if upscale is None and not model:
        raise Failure("Give the model of the finals with --model.")
    if upscale is None and urls is not None:
        raise Failure("--urls is for --upscale. Other finals read no picked file.")
    if upscale is not None and set_:
        raise Failure("--set does not go with --upscale, which keeps the picked clips as they are.")
    settings = dict(_setting(text) for text in set_ or ())
    check_new(output, "finals.yaml", force=force)
    with session.open_ledger() as ledger:
        found = find_batch(ledger, batch)
        picked = picked_jobs(ledger, found.id)
    jobs = picked if upscale is None else [job for job in picked if _is_clip(job)]
    if not jobs:
        what = "nothing" if upscale is None else "no video"
        raise Failure(f"{found.name}: {what} is picked. Use `orbatch view {found.name}{session.flags}`.")
    if upscale is None:
        text = finals_file(found.name, finals(jobs), model, settings)
    else:
        text = asyncio.run(_upscaled(session, found, jobs, model, upscale, urls))
    if len(jobs) < len(picked):
        session.warn(f"{pluralize(len(picked) - len(jobs), 'pick')} left out: no video of known length.")
    output.write_text(text, "utf-8")
    session.say(f"Created {output} from {pluralize(len(jobs), 'pick')} of {found.name}.")
    plan(context, output)


def _is_clip(job: ExportedJob) -> bool:
    return job.kind == "video" and bool(job.outputs) and job.outputs[0].seconds is not None


async def _upscaled(
    session: Session, batch: BatchRecord, jobs: list[ExportedJob], model: str, factor: float, urls: str | None
) -> str:
    """The batch file that enlarges the picked clips; says what that costs. Raises Failure where it cannot be done."""
    from orbatch.cli.provider import connect

    if urls is None or not urls.startswith("https://"):
        names = ", ".join(Path(job.outputs[0].path).name for job in jobs[:3]) + (", ..." if len(jobs) > 3 else "")
        raise Failure(
            "An upscale model reads each clip from an https URL, and the picked ones are only on this machine. Upload "
            f"{names}, and pass --urls https://HOST/FOLDER."
        )
    async with connect(session, with_journal=False, with_key=False) as connection:
        catalog = (await connection.catalogs({"video": None}, refresh=False)).by_kind["video"]
    able = {
        each.id: each
        for each in catalog.models.values()
        if isinstance(each, VideoModel) and each.upscale_max is not None
    }
    chosen = able.get(model or next(iter(able), ""))
    if chosen is None:
        raise Failure(f"{model or 'No model'} does not upscale. Models that do: {', '.join(able) or 'none'}.")
    made = upscaling(batch.name, Path(batch.output_dir), jobs, chosen, factor, urls)
    cost = " to ".join(dict.fromkeys(amount(to_nano_up_to(usd)) for usd in (made.low_usd, made.high_usd)))
    session.say(
        f"Upscaling {pluralize(len(jobs), 'clip')} by {factor:g} with {chosen.id} costs {cost} USD, by their size and "
        "length. A batch file does not hold these, so each job reserves the price of the largest."
    )
    return made.text


async def _offer(session: Session, ledger: Ledger, batch: BatchRecord, model: str, settings: str) -> dict[str, Any]:
    """What `final` would write and show, for the page. Without a key: the price list needs none."""
    from orbatch.cli.provider import connect
    from orbatch_provider import OpenRouterError

    jobs = picked_jobs(ledger, batch.id)
    try:
        if not jobs:
            raise Failure("Nothing is picked.")
        text = finals_file(batch.name, finals(jobs), model, dict(map(_setting, settings.split())))
        async with connect(session, with_journal=False, with_key=False) as connection:
            made = await offer_finals(text, partial(connection.catalogs, refresh=False))
    except (Failure, OpenRouterError, yaml.YAMLError) as exc:
        return {"problems": [str(exc)]}
    usd = None if made.high_usd is None else amount(to_nano_up_to(made.high_usd))
    command = f"orbatch run finals.yaml{session.flags}"
    return {"file": made.text, "jobs": made.jobs, "usd": usd, "problems": made.problems, "command": command}


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise Failure(f"The setting {text} has no value. Write it as {name}=VALUE.")
    return name.strip(), yaml.safe_load(value)
