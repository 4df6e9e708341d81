"""A card that says which model made it from which prompt: the picture of every simulated video and image."""

from __future__ import annotations

import hashlib

from PIL import Image, ImageDraw, ImageFont

_BACKGROUNDS = ("#1f3a5f", "#4a2545", "#24523b", "#5c3a21", "#33415c", "#5b2333", "#2b4c4f", "#3f3d56")
_TEXT, _SMALL_TEXT = "white", "#d9dee7"
_MAX_LINES = 9


def background_of(model: str, prompt: str) -> str:
    """The colour of a model and prompt, as ``#rrggbb``."""
    shade = hashlib.sha256(f"{model}\n{prompt}".encode()).digest()[0]
    return _BACKGROUNDS[shade % len(_BACKGROUNDS)]


def drawable(prompt: str) -> str:
    """JSON can hold half a surrogate pair, which no font and no hash takes."""
    return prompt.encode("utf-8", "replace").decode()


def card(model: str, prompt: str, facts: str, width: int, height: int, *, transparent: bool = False) -> Image.Image:
    """``prompt`` in the picture, ``model`` and ``facts`` at its lower edge."""
    prompt = drawable(prompt)
    image = Image.new("RGBA", (width, height)) if transparent else _filled(model, prompt, width, height)
    text_height = max(8, min(width, height) // 16)
    font = ImageFont.load_default(size=text_height)
    small = ImageFont.load_default(size=max(8, text_height * 2 // 3))
    margin = text_height
    draw = ImageDraw.Draw(image)
    lines = _wrapped(prompt, font, width - 2 * margin)
    draw.multiline_text((margin, margin), "\n".join(lines), font=font, fill=_TEXT, spacing=text_height // 3)
    draw.multiline_text((margin, height - 4 * text_height), f"{model}\n{facts}", font=small, fill=_SMALL_TEXT)
    return image


def _filled(model: str, prompt: str, width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), background_of(model, prompt))


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """``text`` in lines of at most ``width`` pixels, words of any length cut, at most _MAX_LINES of them."""
    lines = [""]
    for word in " ".join(text.split())[:2000].split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for char in word:
            if lines[-1] and font.getlength(lines[-1] + char) > width:
                lines.append("")
            lines[-1] += char
        if len(lines) > _MAX_LINES:
            return [*lines[: _MAX_LINES - 1], lines[_MAX_LINES - 1] + " ..."]
    return lines
