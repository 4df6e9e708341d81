"""What is wanted of a model, and which models can do it at what price."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from orbatch.cli.session import Failure, Session
from orbatch.cli.tables import table
from orbatch.money import nusd_at_most, show_usd
from orbatch_provider.pricing import Estimate
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
    return "?" if value is None else show_usd(nusd_at_most(value))


def _estimate_data(price: Estimate) -> dict[str, Any]:
    return {
        "low_usd": None if price.low is None else float(price.low),
        "high_usd": None if price.high is None else float(price.high),
        "price_lines": list(price.lines),
        "why": price.why,
    }
