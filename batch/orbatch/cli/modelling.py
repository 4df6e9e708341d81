"""``models``: which models can take a shot, and what it costs on each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TypeVar

from orbatch.cli.connecting import Connection, connected
from orbatch.cli.imaging import show_image_models
from orbatch.cli.session import Failure, Session
from orbatch.cli.shots import Shot, show_priced
from orbatch.cli.tables import table
from orbatch.cli.texting import show_text_models
from orbatch_provider.catalog import Catalog, ImageCatalog, TextCatalog, VideoModel, check
from orbatch_provider.pricing import describe_prices, estimate

AnyCatalog = TypeVar("AnyCatalog", Catalog, ImageCatalog, TextCatalog)


def list_models(session: Session, pattern: str | None, *, kind: str, shot: Shot, refresh: bool, simulate: bool) -> None:
    """``kind``: video, image or text. Raises Failure for a shot that the kind does not have, or an id of none."""
    shot.check_kind(kind)

    async def read() -> tuple[Catalog | ImageCatalog | TextCatalog, str]:
        async with connected(session, simulate=simulate, with_books=False) as connection:
            if kind == "image":
                return await _image_models(connection, pattern)
            if kind == "text":
                texts = await connection.provider.text_catalog()
                return texts, _read_now(connection, texts)
            loaded = await connection.catalog(refresh=refresh)
            return loaded.catalog, loaded.note

    catalog, note = asyncio.run(read())
    session.say(note)
    if isinstance(catalog, ImageCatalog):
        show_image_models(session, [catalog.models[name] for name in _named(catalog, pattern)], shot)
    elif isinstance(catalog, TextCatalog):
        show_text_models(session, [catalog.models[name] for name in _named(catalog, pattern)])
    else:
        _show_video_models(session, [catalog.models[name] for name in _named(catalog, pattern)], shot)


async def _image_models(connection: Connection, pattern: str | None) -> tuple[ImageCatalog, str]:
    """Every endpoint record is a request of its own, so only those of the models in question are read."""
    wanted = None
    if pattern is not None:
        listed, _ = await connection.images(())
        wanted = _matching(listed.models, pattern)
    catalog, note = await connection.images(wanted)
    return catalog, note or _read_now(connection, catalog)


def _read_now(connection: Connection, catalog: ImageCatalog | TextCatalog) -> str:
    if connection.simulated:
        return "Prices of the simulator, for rehearsals."
    return f"Prices read live at {catalog.captured_at:%Y-%m-%d %H:%M} UTC."


def _matching(models: Iterable[str], pattern: str | None) -> list[str]:
    return [name for name in models if pattern is None or pattern.lower() in name.lower()]


def _named(catalog: AnyCatalog, pattern: str | None) -> list[str]:
    """The ids that contain ``pattern``. Raises Failure when there is none."""
    found = _matching(catalog.models, pattern)
    if not found:
        near = catalog.nearest(pattern or "")
        raise Failure(f"No model's id contains {pattern}." + (f" Did you mean {near}?" if near else ""))
    return found


def _show_video_models(session: Session, models: list[VideoModel], shot: Shot) -> None:
    if shot.is_open:
        _show_capabilities(session, sorted(models, key=lambda model: model.id))
        return
    capable = [
        (model.id, estimate(request, model))
        for model in models
        if not check(request := shot.video(model.id), model) and _offers(model, shot)
    ]
    show_priced(session, capable)


def _offers(model: VideoModel, shot: Shot) -> bool:
    """Whether the record says that the model can; one that says nothing (an editor, say) cannot take a shot."""
    wanted: list[tuple[object, tuple[object, ...] | None]] = [
        (shot.duration, model.durations),
        (shot.resolution, model.resolutions),
        (shot.aspect_ratio, model.aspect_ratios),
    ]
    return all(value is None or offered is not None for value, offered in wanted)


def _show_capabilities(session: Session, models: list[VideoModel]) -> None:
    if session.json:
        session.data(
            [
                {
                    "model": model.id,
                    "durations": model.durations,
                    "resolutions": model.resolutions,
                    "aspect_ratios": model.aspect_ratios,
                    "frames": model.frame_types,
                    "audio": model.generate_audio,
                    "seed": model.seed,
                    "prices": describe_prices(model),
                }
                for model in models
            ]
        )
        return
    rows = [
        [
            model.id,
            _seconds(model.durations),
            " ".join(model.resolutions or ("-",)),
            " ".join(model.aspect_ratios or ("-",)),
            ", ".join(_abilities(model)) or "-",
            "; ".join(describe_prices(model)),
        ]
        for model in models
    ]
    session.print(table(["model", "seconds", "resolutions", "ratios", "takes", "prices"], rows))


def _seconds(durations: tuple[int, ...] | None) -> str:
    if not durations:
        return "-"
    ordered = sorted(durations)
    if len(ordered) > 2 and ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"{ordered[0]}-{ordered[-1]}"
    return " ".join(map(str, ordered))


def _abilities(model: VideoModel) -> list[str]:
    words = [frame_type.replace("_", " ") for frame_type in model.frame_types or ()]
    if model.generate_audio:
        words.append("sound")
    if model.seed:
        words.append("seed")
    return words
