"""``models``: what the models of each kind support and charge, and the cheapest ones for a given request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Annotated, Any, Literal

import typer

from orbatch.cli.errors import Failure
from orbatch.cli.options import Refresh
from orbatch.cli.provider import connect
from orbatch.cli.session import Session
from orbatch.cli.tables import amount, json_number, table
from orbatch.money import to_nano_up_to
from orbatch.plan import KINDS, Catalogs
from orbatch_provider import AnyModel, ImageModel, VideoModel
from orbatch_provider.pricing import (
    Estimate,
    describe_image_prices,
    describe_text_extras,
    describe_video_prices,
    usd_per_million,
)

_SAMPLE_IMAGE = "https://example.com/image.png"  # support and price of a frame do not depend on its content
# The settings that a request of each kind can be described by.
_SETTINGS_OF: Mapping[str, tuple[str, ...]] = {
    "video": ("duration", "resolution", "aspect_ratio", "audio", "first_frame", "last_frame", "seed"),
    "image": ("resolution", "aspect_ratio", "seed"),
    "text": (),
}


def models(
    context: typer.Context,
    pattern: Annotated[str | None, typer.Argument(help="Filter by model id (substring).")] = None,
    kind: Annotated[Literal["video", "image", "text"], typer.Option(help="Output kind.")] = "video",
    duration: Annotated[int | None, typer.Option(min=1, max=3600, help="Length in seconds.")] = None,
    resolution: Annotated[str | None, typer.Option(help="Such as 720p; for an image 2K.")] = None,
    aspect_ratio: Annotated[str | None, typer.Option(help="Such as 9:16.")] = None,
    audio: Annotated[bool | None, typer.Option("--audio/--no-audio", help="With or without audio.")] = None,
    first_frame: Annotated[bool, typer.Option("--first-frame", help="Model supports a first-frame image.")] = False,
    last_frame: Annotated[bool, typer.Option("--last-frame", help="Model supports a last-frame image.")] = False,
    seed: Annotated[bool, typer.Option("--seed", help="Model supports a seed.")] = False,
    wide: Annotated[bool, typer.Option("--wide", help="Every column.")] = False,
    refresh: Refresh = False,
) -> None:
    """List models, what they support and what they charge.

    With settings (--duration, --resolution ...) only the models that support them, the cheapest first. For an image the
    settings are --resolution, --aspect-ratio and --seed; text models are listed by the price of their tokens.
    """
    session: Session = context.obj
    # A flag that is not given must not filter; --no-audio does.
    flags = {"first_frame": first_frame, "last_frame": last_frame, "seed": seed}
    given = {"duration": duration, "resolution": resolution, "aspect_ratio": aspect_ratio, "audio": audio}
    settings = {name: value for name, value in given.items() if value is not None}
    settings |= {name: True for name, wanted in flags.items() if wanted}
    for name in settings:
        if name not in _SETTINGS_OF[kind]:
            raise Failure(f"--{name.replace('_', '-')} does not apply to --kind {kind}.")

    async def read() -> Catalogs:
        async with connect(session, with_journal=False) as connection:
            loaded = await connection.catalogs({kind: () if pattern else None}, refresh=refresh)
            if kind != "image" or not pattern:
                return loaded
            # Every record of an endpoint is a request of its own, so only those of the matching models are read.
            names = _matching(loaded.by_kind[kind].models, pattern)
            return await connection.catalogs({kind: names}, refresh=refresh)

    loaded = asyncio.run(read())
    session.say(loaded.note)  # stderr, so that --json stays clean
    catalog = loaded.by_kind[kind]
    names = _matching(catalog.models, pattern)
    if not names:
        near = catalog.nearest(pattern or "")
        raise Failure(f"No model id contains {pattern}." + (f" Did you mean {near}?" if near else ""))
    found = [catalog.models[name] for name in names]
    if settings:
        _show_priced(session, _supporting(kind, found, settings))
    else:
        _show_listed(session, [_listed(model) for model in found], wide=wide)


def _matching(names: Iterable[str], pattern: str | None) -> list[str]:
    return sorted(name for name in names if pattern is None or pattern.lower() in name.lower())


def _supporting(kind: str, models: Sequence[AnyModel], settings: Mapping[str, Any]) -> list[tuple[str, Estimate]]:
    """The models that support a request with these settings, with its price."""
    fields = {name: settings[name] for name in ("duration", "resolution", "aspect_ratio") if name in settings}
    if "audio" in settings:
        fields["generate_audio"] = settings["audio"]
    image = {"type": "image_url", "image_url": {"url": _SAMPLE_IMAGE}}
    frames = [image | {"frame_type": name} for name in ("first_frame", "last_frame") if name in settings]
    if frames:
        fields["frame_images"] = frames
    if kind == "image":
        fields["n"] = 1  # the price of one image
    seed = 1 if "seed" in settings else None
    found = []
    for model in models:
        request = KINDS[kind].requests_with(model.id, fields)(prompt="any prompt", seed=seed)
        if _is_described(model, settings) and not KINDS[kind].check(request, model):
            found.append((model.id, KINDS[kind].estimate(request, model)))
    return found


def _is_described(model: AnyModel, settings: Collection[str]) -> bool:
    """Whether the catalog says something about the settings: a model without such a record may support none of them,
    and ``check`` lets it pass."""
    if isinstance(model, VideoModel):
        offered = {"duration": model.durations, "resolution": model.resolutions, "aspect_ratio": model.aspect_ratios}
        return all(offered.get(name, ()) is not None for name in settings)
    if not isinstance(model, ImageModel):
        return True
    return model.capabilities is not None or any(endpoint.capabilities is not None for endpoint in model.endpoints)


def _show_priced(session: Session, supporting: Iterable[tuple[str, Estimate]]) -> None:
    """The cheapest model first, unpriced ones last."""
    by_price = sorted(supporting, key=lambda entry: (entry[1].is_unpriced, entry[1].high or Decimal(0), entry[0]))
    if session.json:
        data = [
            {"model": model, "low_usd": json_number(price.low), "high_usd": json_number(price.high)}
            | {"price_lines": list(price.lines), "why": price.why}
            for model, price in by_price
        ]
        session.data(data)
    elif not by_price:
        session.result("No model supports this combination.")
    else:
        columns: Mapping[str, Callable[[tuple[str, Estimate]], str]] = {
            "model": lambda entry: entry[0],
            "low USD": lambda entry: _usd(entry[1].low),
            "high USD": lambda entry: _usd(entry[1].high),
            "price": lambda entry: entry[1].why,
        }
        session.print(table(by_price, columns, numbers=("low USD", "high USD"), flexible=["model"], prose=True).lines)


def _usd(value: Decimal | None) -> str:
    return amount(None if value is None else to_nano_up_to(value))


@dataclass(frozen=True, slots=True)
class ListedModel:
    """One model of any kind, as far as its record goes. ``options``: the values it offers for a setting; ``limits``:
    the highest number; ``usd_per_million``: tokens of a text model, None for a price that is unknown or varies."""

    model: str
    options: Mapping[str, Sequence[Any]]
    limits: Mapping[str, int]
    supports: Sequence[str]
    prices: Sequence[str]
    usd_per_million: Mapping[str, float | None] = field(default_factory=dict)


def _listed(model: AnyModel) -> ListedModel:
    options: Mapping[str, Sequence[Any] | None] = {}
    limits: Mapping[str, float | None] = {}
    tokens: Mapping[str, Decimal | None] = {}
    if isinstance(model, VideoModel):
        options = {"duration": model.durations, "resolution": model.resolutions, "aspect_ratio": model.aspect_ratios}
        supports = [frame_type.replace("_", " ") for frame_type in model.frame_types or ()]
        supports += [word for word, has in (("audio", model.generate_audio), ("seed", model.seed)) if has]
        prices = describe_video_prices(model)
    elif isinstance(model, ImageModel):
        capabilities = model.capabilities or {}
        options = {name: capability.values for name, capability in capabilities.items()}
        counted = {"n": "images", "input_references": "references"}
        limits = {noun: capabilities[name].high for name, noun in counted.items() if name in capabilities}
        supports = ["seed"] if "seed" in capabilities else []
        prices = describe_image_prices(model)
    else:
        limits = {"context tokens": model.context_length, "output tokens": model.max_completion_tokens}
        tokens = {line: usd_per_million(model, line) for line in ("prompt", "completion")}
        supports = list(model.capabilities or ())
        prices = [
            f"{usd.normalize():f} USD per million {line} tokens" for line, usd in tokens.items() if usd is not None
        ]
        prices = [*(prices if len(prices) == len(tokens) else ["unpriced"]), *describe_text_extras(model)]
    return ListedModel(
        model.id,
        {name: list(values) for name, values in options.items() if values},
        {noun: int(limit) for noun, limit in limits.items() if limit},
        supports,
        prices,
        {line: json_number(usd) for line, usd in tokens.items()},
    )


def _show_listed(session: Session, models: list[ListedModel], *, wide: bool) -> None:
    """One table for all kinds; text models by the price of their tokens, unpriced ones last."""
    models.sort(key=_token_prices)  # stable: models without token prices stay in the order of their ids
    if session.json:
        session.data([asdict(model) for model in models])
        return
    columns: dict[str, Callable[[ListedModel], str]] = {
        "model": lambda model: model.model,
        "seconds": lambda model: _duration(model.options.get("duration", [])),
        "resolutions": lambda model: " ".join(model.options.get("resolution", "-")),
    }
    if wide:
        columns["ratios"] = lambda model: " ".join(model.options.get("aspect_ratio", "-"))
        columns["supports"] = lambda model: ", ".join(_abilities(model)) or "-"
    columns["prices"] = lambda model: "; ".join(model.prices)
    session.print(table(models, columns, flexible=["model"], prose=True).lines)


def _token_prices(model: ListedModel) -> tuple[bool, float, float]:
    prompt, completion = (model.usd_per_million.get(line) for line in ("prompt", "completion"))
    is_unpriced = bool(model.usd_per_million) and None in (prompt, completion)
    return (is_unpriced, completion or 0, prompt or 0)


def _duration(seconds: Sequence[int]) -> str:
    """``4 6 8``, or ``3-10`` for every whole number between."""
    low_to_high = sorted(seconds)
    if len(low_to_high) > 2 and low_to_high == list(range(low_to_high[0], low_to_high[-1] + 1)):
        return f"{low_to_high[0]}-{low_to_high[-1]}"
    return " ".join(map(str, low_to_high)) or "-"


def _abilities(model: ListedModel) -> list[str]:
    """Limits and options that have no column of their own, then what is simply supported."""
    words = [f"{limit:,} {noun if limit != 1 else noun.removesuffix('s')}" for noun, limit in model.limits.items()]
    words += [f"{name} {' '.join(model.options[name])}" for name in ("quality", "background") if name in model.options]
    # The parameters of a text model are too many for a table; --json has them.
    return [*words, *(() if model.usd_per_million else model.supports)]
