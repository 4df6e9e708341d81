"""``models``: which models can take a shot, and what it costs on each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from orbatch.cli.provider import connected
from orbatch.cli.session import Failure, Session
from orbatch.cli.tables import table
from orbatch.money import format_usd, to_nano_up_to
from orbatch.plan.catalogs import Catalogs
from orbatch_provider.catalog import (
    Capability,
    Catalog,
    ImageModel,
    TextModel,
    VideoModel,
    check_image,
    check_video,
)
from orbatch_provider.pricing import (
    Estimate,
    describe_image_prices,
    describe_text_extras,
    describe_video_prices,
    estimate_image,
    estimate_video,
    usd_per_million,
)
from orbatch_provider.requests import ImageRequest, VideoRequest

_PICTURE = "https://example.com/picture.png"  # stands for any; capabilities do not depend on it
_OPTIONS = {
    "duration": "--duration",
    "resolution": "--resolution",
    "aspect_ratio": "--aspect-ratio",
    "audio": "--audio",
    "first_frame": "--first-frame",
    "last_frame": "--last-frame",
    "seed": "--seed",
}
_OF_KIND = {"video": tuple(_OPTIONS), "image": ("resolution", "aspect_ratio", "seed"), "text": ()}


@dataclass(frozen=True, slots=True)
class Shot:
    """What is wanted; None and False mean that it does not matter. ``duration`` in seconds."""

    duration: int | None = None
    resolution: str | None = None
    aspect_ratio: str | None = None
    audio: bool | None = None
    first_frame: bool = False
    last_frame: bool = False
    seed: bool = False

    @property
    def is_open(self) -> bool:
        return self == Shot()

    def check_kind(self, kind: str) -> None:
        """Raises Failure for what a kind of output does not have."""
        own = _OF_KIND[kind]
        for field, option in _OPTIONS.items():
            if field not in own and getattr(self, field) != getattr(Shot(), field):
                has = ", ".join(_OPTIONS[name] for name in own) or "no such options"
                raise Failure(f"{option} does not go with --kind {kind}, which has {has}.")

    def video(self, model: str) -> VideoRequest:
        frames = [
            {"type": "image_url", "image_url": {"url": _PICTURE}, "frame_type": frame_type}
            for frame_type, wanted in (("first_frame", self.first_frame), ("last_frame", self.last_frame))
            if wanted
        ]
        return VideoRequest(
            model,
            prompt="a shot",
            duration=self.duration,
            resolution=self.resolution,
            aspect_ratio=self.aspect_ratio,
            generate_audio=self.audio,
            frame_images=frames or None,
            seed=1 if self.seed else None,
        )

    def image(self, model: str) -> ImageRequest:
        """One picture."""
        return ImageRequest(
            model,
            prompt="a shot",
            n=1,
            resolution=self.resolution,
            aspect_ratio=self.aspect_ratio,
            seed=1 if self.seed else None,
        )


def show_priced(session: Session, capable: Iterable[tuple[str, Estimate]]) -> None:
    """Models that can do a shot, the cheapest first, unpriced ones last."""
    ordered = sorted(capable, key=lambda entry: (entry[1].is_unpriced, entry[1].high or Decimal(0), entry[0]))
    if session.json:
        session.data([{"model": model} | _estimate_data(price) for model, price in ordered])
        return
    if not ordered:
        session.result("No model says that it can do this.")
        return
    rows = [[model, _usd(price.low), _usd(price.high), price.why] for model, price in ordered]
    session.print(table(["model", "low USD", "high USD", "how"], rows, numbers=[1, 2]))


def _usd(value: Decimal | None) -> str:
    return "?" if value is None else format_usd(to_nano_up_to(value))


def _estimate_data(price: Estimate) -> dict[str, Any]:
    return {
        "low_usd": None if price.low is None else float(price.low),
        "high_usd": None if price.high is None else float(price.high),
        "price_lines": list(price.lines),
        "why": price.why,
    }


def show_image_models(session: Session, models: Sequence[ImageModel], shot: Shot) -> None:
    if shot.is_open:
        _show_capabilities(session, sorted(models, key=lambda model: model.id))
        return
    show_priced(session, [(model.id, estimate_image(shot.image(model.id), model)) for model in _able(models, shot)])


def _able(models: Iterable[ImageModel], shot: Shot) -> list[ImageModel]:
    """Those whose records say that they can; one that says nothing is not among them."""
    return [model for model in models if _says_something(model) and not check_image(shot.image(model.id), model)]


def _says_something(model: ImageModel) -> bool:
    records = (model.capabilities, *(endpoint.capabilities for endpoint in model.endpoints))
    return any(record is not None for record in records)


def _show_capabilities(session: Session, models: Sequence[ImageModel]) -> None:
    if session.json:
        session.data([_capability_data(model) for model in models])
        return
    rows = [
        [
            model.id,
            _values(model, "resolution"),
            _values(model, "aspect_ratio"),
            ", ".join(_abilities(model)) or "-",
            "; ".join(describe_image_prices(model)),
        ]
        for model in models
    ]
    session.print(table(["model", "resolutions", "ratios", "takes", "prices"], rows))


def _capability_data(model: ImageModel) -> dict[str, Any]:
    """``max_images`` and ``max_references``: None where nothing is known."""
    return {
        "model": model.id,
        "resolutions": _offered(model, "resolution"),
        "aspect_ratios": _offered(model, "aspect_ratio"),
        "qualities": _offered(model, "quality"),
        "output_formats": _offered(model, "output_format"),
        "backgrounds": _offered(model, "background"),
        "max_images": _most(model, "n"),
        "max_references": _most(model, "input_references"),
        "seed": _capability(model, "seed") is not None,
        "prices": describe_image_prices(model),
    }


def _capability(model: ImageModel, name: str) -> Capability | None:
    return (model.capabilities or {}).get(name)


def _offered(model: ImageModel, name: str) -> list[str] | None:
    capability = _capability(model, name)
    return None if capability is None else list(capability.values)


def _values(model: ImageModel, name: str) -> str:
    return " ".join(_offered(model, name) or ("-",))


def _most(model: ImageModel, name: str) -> int | None:
    capability = _capability(model, name)
    return None if capability is None or capability.high is None else int(capability.high)


def _abilities(model: ImageModel) -> list[str]:
    words = []
    for name, noun in (("n", "picture"), ("input_references", "reference")):
        most = _most(model, name)
        if most:
            words.append(f"up to {most} {noun}s" if most > 1 else f"1 {noun}")
    words += [f"{name} {_values(model, name)}" for name in ("quality", "background") if _offered(model, name)]
    if _capability(model, "seed") is not None:
        words.append("seed")
    return words


def show_text_models(session: Session, models: Sequence[TextModel]) -> None:
    """The cheapest completion first, unpriced models last."""
    ordered = sorted(models, key=_order)
    if session.json:
        session.data(
            [
                {
                    "model": model.id,
                    "context_tokens": model.context_length,
                    "max_completion_tokens": model.max_completion_tokens,
                    "prompt_usd_per_million": _number(usd_per_million(model, "prompt")),
                    "completion_usd_per_million": _number(usd_per_million(model, "completion")),
                    "extras": describe_text_extras(model),
                    "takes": model.capabilities,
                }
                for model in ordered
            ]
        )
        return
    rows = [
        [
            model.id,
            _tokens(model.context_length),
            _tokens(model.max_completion_tokens),
            _usd_texting(usd_per_million(model, "prompt")),
            _usd_texting(usd_per_million(model, "completion")),
            "; ".join(describe_text_extras(model)) or "-",
        ]
        for model in ordered
    ]
    titles = ["model", "context", "answer", "USD per million prompt", "and completion tokens", "also"]
    session.print(table(titles, rows, numbers=[1, 2, 3, 4]))


def _order(model: TextModel) -> tuple[bool, Decimal, Decimal, str]:
    prompt, completion = (usd_per_million(model, line) for line in ("prompt", "completion"))
    return (prompt is None or completion is None, completion or Decimal(0), prompt or Decimal(0), model.id)


def _tokens(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _usd_texting(value: Decimal | None) -> str:
    return "?" if value is None else f"{value.normalize():f}"


def _number(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def list_models(session: Session, pattern: str | None, *, kind: str, shot: Shot, refresh: bool, simulate: bool) -> None:
    """``kind``: video, image or text. Raises Failure for a shot that the kind does not have, or an id of none."""
    shot.check_kind(kind)

    async def read() -> Catalogs:
        async with connected(session, simulate=simulate, with_journal=False) as connection:
            # Every endpoint record is a request of its own, so only those of the models in question are read.
            listed = await connection.catalogs({kind: () if pattern else None}, refresh=refresh)
            if kind != "image" or not pattern:
                return listed
            return await connection.catalogs({kind: _matching(listed.by_kind[kind].models, pattern)}, refresh=refresh)

    loaded = asyncio.run(read())
    session.say(loaded.note)
    catalog: Catalog[Any] = loaded.by_kind[kind]
    models = [catalog.models[name] for name in _named(catalog, pattern)]
    if kind == "text":
        show_text_models(session, models)
    elif kind == "image":
        show_image_models(session, models, shot)
    else:
        _show_video_models(session, models, shot)


def _matching(models: Iterable[str], pattern: str | None) -> list[str]:
    return [name for name in models if pattern is None or pattern.lower() in name.lower()]


def _named(catalog: Catalog[Any], pattern: str | None) -> list[str]:
    """The ids that contain ``pattern``. Raises Failure when there is none."""
    found = _matching(catalog.models, pattern)
    if not found:
        near = catalog.nearest(pattern or "")
        raise Failure(f"No model's id contains {pattern}." + (f" Did you mean {near}?" if near else ""))
    return found


def _show_video_models(session: Session, models: list[VideoModel], shot: Shot) -> None:
    if shot.is_open:
        _show_capabilities_modelling(session, sorted(models, key=lambda model: model.id))
        return
    capable = [
        (model.id, estimate_video(request, model))
        for model in models
        if not check_video(request := shot.video(model.id), model) and _offers(model, shot)
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


def _show_capabilities_modelling(session: Session, models: list[VideoModel]) -> None:
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
                    "prices": describe_video_prices(model),
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
            ", ".join(_abilities_modelling(model)) or "-",
            "; ".join(describe_video_prices(model)),
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


def _abilities_modelling(model: VideoModel) -> list[str]:
    words = [frame_type.replace("_", " ") for frame_type in model.frame_types or ()]
    if model.generate_audio:
        words.append("sound")
    if model.seed:
        words.append("seed")
    return words
