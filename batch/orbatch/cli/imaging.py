"""``models --kind image``: what image models can do, and what a picture costs on each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from orbatch.cli.session import Session
from orbatch.cli.shots import Shot, show_priced
from orbatch.cli.tables import table
from orbatch_provider.catalog import Capability, ImageModel, check_image
from orbatch_provider.pricing import describe_image_prices, estimate_image_model


def show_image_models(session: Session, models: Sequence[ImageModel], shot: Shot) -> None:
    if shot.is_open:
        _show_capabilities(session, sorted(models, key=lambda model: model.id))
        return
    show_priced(
        session, [(model.id, estimate_image_model(shot.image(model.id), model)) for model in _able(models, shot)]
    )


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
