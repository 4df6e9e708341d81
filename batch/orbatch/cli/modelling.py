"""``models``: which models can take a shot, and what it costs on each."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from orbatch.cli.connecting import connected
from orbatch.cli.session import Failure, Session
from orbatch.cli.tables import table
from orbatch.money import nusd_at_most, show_usd
from orbatch_provider.catalog import Catalog, VideoModel, check
from orbatch_provider.pricing import Estimate, describe_prices, estimate
from orbatch_provider.requests import VideoRequest

_PICTURE = "https://example.com/picture.png"  # stands for any; capabilities do not depend on it


@dataclass(frozen=True, slots=True)
class Shot:
    """What is wanted; None and False mean that it does not matter."""

    duration: int | None
    resolution: str | None
    aspect_ratio: str | None
    audio: bool | None
    first_frame: bool
    last_frame: bool
    seed: bool

    @property
    def is_open(self) -> bool:
        return self == Shot(None, None, None, None, False, False, False)

    def request(self, model: VideoModel) -> VideoRequest:
        frames = [
            {"type": "image_url", "image_url": {"url": _PICTURE}, "frame_type": frame_type}
            for frame_type, wanted in (("first_frame", self.first_frame), ("last_frame", self.last_frame))
            if wanted
        ]
        return VideoRequest(
            model.id,
            prompt="a shot",
            duration=self.duration,
            resolution=self.resolution,
            aspect_ratio=self.aspect_ratio,
            generate_audio=self.audio,
            frame_images=frames or None,
            seed=1 if self.seed else None,
        )


def list_models(session: Session, pattern: str | None, *, kind: str, shot: Shot, refresh: bool, simulate: bool) -> None:
    if kind != "video":
        raise Failure(f"--kind {kind}: there is video.")

    async def read() -> tuple[Catalog, str]:
        async with connected(session, simulate=simulate, with_books=False) as connection:
            loaded = await connection.catalog(refresh=refresh)
            return loaded.catalog, loaded.note

    catalog, note = asyncio.run(read())
    found = [model for model in catalog.models.values() if pattern is None or pattern.lower() in model.id.lower()]
    session.say(note)
    if not found:
        near = catalog.nearest(pattern or "")
        raise Failure(f"No model's id contains {pattern}." + (f" Did you mean {near}?" if near else ""))
    if shot.is_open:
        _show_capabilities(session, sorted(found, key=lambda model: model.id))
    else:
        _show_prices(session, found, shot)


def _show_prices(session: Session, models: list[VideoModel], shot: Shot) -> None:
    """Capable models only, the cheapest first, unpriced ones last."""
    capable = [
        (model, estimate(request, model))
        for model in models
        if not check(request := shot.request(model), model) and _offers(model, shot)
    ]
    capable.sort(key=lambda entry: (entry[1].is_unpriced, entry[1].high or Decimal(0), entry[0].id))
    if session.json:
        session.data([{"model": model.id} | _estimate_data(price) for model, price in capable])
        return
    if not capable:
        session.result("No model says that it can do this.")
        return
    rows = [[model.id, _usd(price.low), _usd(price.high), price.why] for model, price in capable]
    session.print(table(["model", "low USD", "high USD", "how"], rows, numbers=[1, 2]))


def _offers(model: VideoModel, shot: Shot) -> bool:
    """Whether the record says that the model can; one that says nothing (an editor, say) cannot take a shot."""
    wanted: list[tuple[object, tuple[object, ...] | None]] = [
        (shot.duration, model.durations),
        (shot.resolution, model.resolutions),
        (shot.aspect_ratio, model.aspect_ratios),
    ]
    return all(value is None or offered is not None for value, offered in wanted)


def _usd(value: Decimal | None) -> str:
    return "?" if value is None else show_usd(nusd_at_most(value))


def _estimate_data(price: Estimate) -> dict[str, Any]:
    return {
        "low_usd": None if price.low is None else float(price.low),
        "high_usd": None if price.high is None else float(price.high),
        "price_lines": list(price.lines),
        "why": price.why,
    }


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
