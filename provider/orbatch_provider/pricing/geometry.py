"""From resolution, size and aspect ratio to pixels. Resolutions are in lower case throughout."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

Size = tuple[int, int]  # width, height in pixels

# The 16:9 size of each resolution.
CLASS_SIZE: dict[str, Size] = {
    "360p": (640, 360),
    "480p": (854, 480),
    "720p": (1280, 720),
    "768p": (1366, 768),
    "1080p": (1920, 1080),
    "2k": (2560, 1440),
    "4k": (3840, 2160),
}
_BY_SHORT_SIDE = {min(size): name for name, size in CLASS_SIZE.items()}

# Renders are up to this much larger than the catalog's size: 864x496 and 560x752 were seen for 480p.
RENDER_MARGIN = Decimal("1.05")
# e ** 0.04: sizes are rounded, so a size has a ratio when they differ by at most 4 % on a logarithmic scale.
_RATIO_TOLERANCE = Decimal("1.0408107741923882")

_PAIR = re.compile(r"\s*(\d{1,6})\s*[x:]\s*(\d{1,6})\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Area:
    """The pixels of one frame: the sizes it may have at list price, and the most that a render may have.

    ``is_known`` is False where the catalog names no fitting size and the 16:9 size of the resolution stands in.
    """

    sizes: tuple[Size, ...]
    most_pixels: Decimal
    is_known: bool

    @property
    def smallest(self) -> Size:
        return min(self.sizes, key=pixels)

    @property
    def only(self) -> Size | None:
        """The size to be billed where there is no doubt about its pixels."""
        return self.sizes[0] if self.is_known and len({pixels(size) for size in self.sizes}) == 1 else None


def parse_pair(text: str | None) -> Size | None:
    """``1280x720`` or ``16:9``; None for anything else, such as ``auto``."""
    match = _PAIR.fullmatch(text) if text else None
    if match is None:
        return None
    first, second = int(match[1]), int(match[2])
    return (first, second) if first and second else None


def pixels(size: Size) -> int:
    return size[0] * size[1]


def resolution_of(size: Size, supported: Sequence[str]) -> str | None:
    """The resolution a size belongs to: that of its short side where the model has it, else the nearest in pixels."""
    by_side = _BY_SHORT_SIDE.get(min(size))
    if by_side in supported:
        return by_side
    known = [name for name in supported if name in CLASS_SIZE]
    return min(known, key=lambda name: _quotient(pixels(size), pixels(CLASS_SIZE[name])), default=None)


def area(
    resolution: str | None, size: Size | None, ratio: Size | None, sizes: Sequence[Size], supported: Sequence[str]
) -> Area | None:
    """The pixels of a frame with this resolution, size or aspect ratio on a model with these ``sizes`` and
    ``supported`` resolutions; None where nothing is known about them."""
    if size is not None:
        fitting = [size]
        resolution = resolution or resolution_of(size, tuple(CLASS_SIZE))
    else:
        fitting = [
            listed
            for listed in sizes
            if resolution_of(listed, supported) == resolution and (ratio is None or _has_ratio(listed, ratio))
        ]
    standard = CLASS_SIZE.get(resolution or "")
    if standard is None:
        return None
    candidates = tuple(fitting) or (standard,)
    most = max(Decimal(max(map(pixels, candidates))), RENDER_MARGIN * pixels(standard))
    return Area(candidates, most, is_known=bool(fitting))


def _has_ratio(size: Size, ratio: Size) -> bool:
    return _quotient(size[0] * ratio[1], size[1] * ratio[0]) <= _RATIO_TOLERANCE


def _quotient(first: int, second: int) -> Decimal:
    return Decimal(max(first, second)) / Decimal(min(first, second))
