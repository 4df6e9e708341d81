"""The allowed value that a refused one most likely means, and the order in which values are listed."""

from __future__ import annotations

import math
from collections.abc import Sequence


def nearest(value: object, allowed: Sequence[object]) -> str | None:
    if not allowed:
        return None
    if isinstance(value, int):
        numbers = [item for item in allowed if isinstance(item, int)]
        return str(min(numbers, key=lambda item: (abs(item - value), item))) if numbers else None
    if isinstance(value, str) and "x" in value.lower():
        return _nearest_size(value, allowed)
    wanted = natural(value)
    by_case = [str(item) for item in allowed if str(item).lower() == str(value).lower()]
    if by_case:
        return by_case[0]
    if wanted[0]:
        numbered = [item for item in allowed if natural(item)[0]]
        if numbered:
            return str(min(numbered, key=lambda item: abs(natural(item)[0] - wanted[0])))
    return None


def _nearest_size(value: str, allowed: Sequence[object]) -> str | None:
    """The size with the most similar sides, so that a wide one is never offered for a tall one of as many pixels."""
    wanted = _sides(value)
    sizes = {str(item): _sides(str(item)) for item in allowed}
    distance = {
        name: abs(math.log(sides[0] / wanted[0])) + abs(math.log(sides[1] / wanted[1]))
        for name, sides in sizes.items()
        if sides and wanted
    }
    return min(distance, key=distance.__getitem__, default=None)


def _sides(size: str) -> tuple[int, int] | None:
    width, _, height = size.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()) or not (int(width) and int(height)):
        return None
    return int(width), int(height)


def natural(value: object) -> tuple[float, str]:
    """Sort key and distance of a capability value: lines for 720p, 2K and 1280x720, width / height for 16:9."""
    text = str(value).lower()
    head, separator, tail = text.partition(":")
    try:
        if separator:
            return float(head) / float(tail), text
        if text.endswith("k"):
            return 720 + 360 * float(text[:-1]), text  # 2K is 1440 lines, 4K is 2160
        width, separator, height = text.partition("x")
        if separator:
            return float(width) * float(height), text
        return float(text.removesuffix("p")), text
    except (ValueError, ZeroDivisionError):
        return 0.0, text
