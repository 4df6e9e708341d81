"""Real clips and images at little cost: H.264 in MP4, PNG, JPEG, WebP and SVG that show prompt and model.

A clip is a single drawn frame, with a growing bar along its lower edge as the only motion, so that the encoder skips
nearly every block. The same clip gives the same bytes. A padding box at the end (for images a comment) names the job,
so that no two outputs are equal and each can be recognised by its hash.
"""

from __future__ import annotations

import array
import hashlib
import io
import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any
from xml.sax.saxutils import escape

import av
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

_BACKGROUNDS = ("#1f3a5f", "#4a2545", "#24523b", "#5c3a21", "#33415c", "#5b2333", "#2b4c4f", "#3f3d56")
_TEXT, _SMALL_TEXT = "white", "#d9dee7"
_MAX_LINES = 9

# Few frames per second, and fewer for large frames: nobody judges a rehearsal by its motion.
_FPS = 8
_LARGE_FPS = 4
_LARGE_PIXELS = 1920 * 1080

_AUDIO_RATE = 24_000  # samples per second
_AUDIO_BITS = 32_000  # per second
_TONE_HZ = 220
_TONE_LEVEL = 3_000  # of 32767

_LUMA_WHITE = 235  # of the limited range
_CACHED_CLIPS = 64

_CHUNK = 64 * 1024  # bytes
_BOX_HEADER = 8  # bytes: length and type


@dataclass(frozen=True, slots=True)
class Clip:
    """The content of a video; ``seconds`` of any length above 0, ``width`` and ``height`` even."""

    model: str
    prompt: str
    seconds: Decimal
    width: int
    height: int
    audio: bool


@dataclass(frozen=True, slots=True)
class Still:
    """The content of an image, of any size in pixels."""

    model: str
    prompt: str
    width: int
    height: int
    mime_type: str
    transparent: bool


@dataclass(frozen=True, slots=True)
class Payload:
    """An output whose bytes need not be in memory: ``head``, then zeros up to ``size``."""

    head: bytes
    size: int

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes from ``start`` to ``stop``, in pieces."""
        stop = self.size if stop is None else stop
        for at in range(start, stop, _CHUNK):
            end = min(at + _CHUNK, stop)
            part = self.head[at:end]
            yield part + bytes(end - at - len(part))

    def sha256(self) -> str:
        """The hash of all bytes."""
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()


def payload(clip: Clip, label: str, size: int | None = None) -> Payload:
    """The clip with a ``free`` box that holds ``label``, padded to ``size`` bytes if given and larger."""
    content = render(clip)
    note = label.encode()
    total = max(size or 0, len(content) + _BOX_HEADER + len(note))
    # Players skip a `free` box, so the padding may be as long as a test needs.
    box = (total - len(content)).to_bytes(4, "big") + b"free" + note
    return Payload(content + box, total)


TINY = Clip("padding", "", Decimal(1), 64, 64, audio=False)


@lru_cache(maxsize=_CACHED_CLIPS)
def render(clip: Clip) -> bytes:
    """The MP4. Takes 0.1 s for 5 s of 720p, so call it in a worker thread; threads may share the cache."""
    target = io.BytesIO()
    # Bit-exact: no encoder version and no creation time in the file.
    with av.open(target, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        fps = _FPS if clip.width * clip.height <= _LARGE_PIXELS else _LARGE_FPS
        # A single thread: the bytes must not depend on the number of cores.
        options = {"preset": "ultrafast", "tune": "stillimage", "crf": "30", "threads": "1"}
        video = container.add_stream("libx264", rate=fps, options=options)
        video.width, video.height, video.pix_fmt = clip.width, clip.height, "yuv420p"
        # All streams before the first packet: the header is written with it.
        audio = container.add_stream("aac", rate=_AUDIO_RATE, layout="mono") if clip.audio else None
        if audio is not None:
            audio.bit_rate = _AUDIO_BITS
        for frame in _frames(clip, fps):
            container.mux(video.encode(frame))
        container.mux(video.encode(None))  # None: what the encoder still holds
        if audio is not None:
            for samples in _tone(clip.seconds):
                container.mux(audio.encode(samples))
            container.mux(audio.encode(None))
    return target.getvalue()


def paint(still: Still, label: str) -> bytes:
    """An image file; ``label`` is a comment in it. Takes up to a second for the largest, so call it in a worker
    thread."""
    facts = f"{still.width}x{still.height}  simulated"
    if still.mime_type == "image/svg+xml":
        return _svg(still, facts, label)
    image = _card(still.model, still.prompt, facts, still.width, still.height, transparent=still.transparent)
    target = io.BytesIO()
    image.save(target, **_encoding(still.mime_type, label))
    return target.getvalue()


def _frames(clip: Clip, fps: int) -> Iterator[av.VideoFrame]:
    facts = f"{clip.seconds} s  {clip.width}x{clip.height}  {'audio' if clip.audio else 'silent'}  simulated"
    card = _card(clip.model, clip.prompt, facts, clip.width, clip.height)
    image = av.VideoFrame.from_image(card)  # type: ignore[no-untyped-call]  # PyAV leaves it bare
    frame = image.reformat(format="yuv420p")
    luma = memoryview(frame.planes[0])
    stride = frame.planes[0].line_size  # rows are padded to a multiple of the alignment
    bar = range(clip.height - max(2, clip.height // 40), clip.height)
    count = max(1, round(clip.seconds * fps))
    for number in range(count):
        length = clip.width * (number + 1) // count
        # The encoder has copied the previous frame, so the same memory can be painted again.
        for row in bar:
            luma[row * stride : row * stride + length] = bytes([_LUMA_WHITE]) * length
        frame.pts, frame.time_base = number, Fraction(1, fps)
        yield frame


def _tone(seconds: Decimal) -> Iterator[av.AudioFrame]:
    total = round(seconds * _AUDIO_RATE)
    for done in range(0, total, _AUDIO_RATE):
        count = min(total - done, _AUDIO_RATE)
        frame = av.AudioFrame(format="s16", layout="mono", samples=count)
        frame.planes[0].update(_second_of_tone()[: 2 * count])  # 2 bytes per sample
        frame.rate, frame.pts, frame.time_base = _AUDIO_RATE, done, Fraction(1, _AUDIO_RATE)
        yield frame


@lru_cache(maxsize=1)
def _second_of_tone() -> bytes:
    turns = (2 * math.pi * _TONE_HZ * n / _AUDIO_RATE for n in range(_AUDIO_RATE))
    return array.array("h", (round(_TONE_LEVEL * math.sin(turn)) for turn in turns)).tobytes()


def _card(model: str, prompt: str, facts: str, width: int, height: int, *, transparent: bool = False) -> Image.Image:
    """``prompt`` at the top, ``model`` and ``facts`` at the lower edge."""
    prompt = _drawable(prompt)
    colours = ("RGBA", (0, 0, 0, 0)) if transparent else ("RGB", _background(model, prompt))
    image = Image.new(colours[0], (width, height), colours[1])
    text_height = max(8, min(width, height) // 16)
    font = ImageFont.load_default(size=text_height)
    small = ImageFont.load_default(size=max(8, text_height * 2 // 3))
    margin = text_height
    draw = ImageDraw.Draw(image)
    # Most letters are narrower than 0.6 of their height; a line that is wider after all is cut at the edge.
    columns = max(8, int((width - 2 * margin) / (0.6 * text_height)))
    lines = textwrap.wrap(prompt[:2000], columns, max_lines=_MAX_LINES, placeholder=" ...")
    draw.multiline_text((margin, margin), "\n".join(lines), font=font, fill=_TEXT, spacing=text_height // 3)
    draw.multiline_text((margin, height - 4 * text_height), f"{model}\n{facts}", font=small, fill=_SMALL_TEXT)
    return image


def _encoding(mime_type: str, label: str) -> dict[str, Any]:
    """Pillow's fastest options for a format, with the label where the format has room for it."""
    if mime_type == "image/jpeg":
        return {"format": "JPEG", "quality": 80, "comment": label}
    if mime_type == "image/webp":
        return {"format": "WEBP", "quality": 80, "method": 0, "xmp": label.encode()}  # WebP has no comments
    notes = PngInfo()
    notes.add_text("Comment", label)
    return {"format": "PNG", "compress_level": 1, "pnginfo": notes}


def _svg(still: Still, facts: str, label: str) -> bytes:
    width, height, prompt = still.width, still.height, _drawable(still.prompt)
    # XML cannot represent most control characters.
    lines = ["".join(char if char.isprintable() else " " for char in text) for text in (prompt, still.model, facts)]
    size = max(8, min(width, height) // 16)
    texts = "".join(
        f'<text x="{size}" y="{2 * size * (number + 1)}" font-size="{size}" fill="white">{escape(line)}</text>'
        for number, line in enumerate(lines)
    )
    fill = "none" if still.transparent else _background(still.model, prompt)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f'<desc>{escape(label)}</desc><rect width="{width}" height="{height}" fill="{fill}"/>{texts}</svg>'
    ).encode()


def _background(model: str, prompt: str) -> str:
    # By hash: the same request keeps its colour in every run.
    shade = hashlib.sha256(f"{model}\n{prompt}".encode()).digest()[0]
    return _BACKGROUNDS[shade % len(_BACKGROUNDS)]


def _drawable(prompt: str) -> str:
    # JSON can hold half a surrogate pair, which no font and no hash accepts.
    return prompt.encode("utf-8", "replace").decode()
