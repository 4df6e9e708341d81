"""Real clips, cheaply: H.264 in MP4 with the prompt and the model in the picture, and a tone when sound is on.

One picture is drawn and stays; a bar that grows along its lower edge is the only thing that moves, so that the encoder
skips nearly every block. The same clip gives the same bytes, and a padding box at the end names the job, so that no two
outputs are alike and each can be told from any other by its hash.
"""

from __future__ import annotations

import array
import hashlib
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

import av
from PIL import Image

from orbatch_simulator.drawing import card

# Few pictures per second, fewer for large ones: nobody looks at a rehearsal for its motion.
_FPS = 8
_LARGE_FPS = 4
_LARGE_PIXELS = 1920 * 1080

_SOUND_RATE = 24_000  # samples per second
_SOUND_BITS = 32_000  # per second
_TONE_HZ = 220
_TONE_LEVEL = 3_000  # of 32767

_LUMA_WHITE = 235
_CACHED_CLIPS = 64

_CHUNK = 64 * 1024  # bytes
_BOX_HEADER = 8  # bytes: length and type


@dataclass(frozen=True, slots=True)
class Clip:
    """What is in a picture; ``seconds`` of any length above 0, ``width`` and ``height`` even."""

    model: str
    prompt: str
    seconds: Decimal
    width: int
    height: int
    audio: bool


@dataclass(frozen=True, slots=True)
class Payload:
    """An output as bytes that need not be in memory: ``head``, then zeros up to ``size``."""

    head: bytes
    size: int

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        stop = self.size if stop is None else stop
        for at in range(start, stop, _CHUNK):
            end = min(at + _CHUNK, stop)
            part = self.head[at:end]
            yield part + bytes(end - at - len(part))

    def sha256(self) -> str:
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()


def payload(clip: Clip, label: str, size: int | None = None) -> Payload:
    """The clip with a ``free`` box that holds ``label``; padded to ``size`` bytes when it is given and larger."""
    content = render(clip)
    note = label.encode()
    wanted = max(size or 0, len(content) + _BOX_HEADER + len(note))
    box = (wanted - len(content)).to_bytes(4, "big") + b"free" + note
    return Payload(content + box, wanted)


TINY = Clip("padding", "", Decimal(1), 64, 64, audio=False)


@lru_cache(maxsize=_CACHED_CLIPS)
def render(clip: Clip) -> bytes:
    """The MP4. Takes 0.1 s for 720p and 5 s, so call it in a worker thread; the cache may be shared by threads."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        fps = _FPS if clip.width * clip.height <= _LARGE_PIXELS else _LARGE_FPS
        # One thread: the bytes must not depend on how many cores there are.
        options = {"preset": "ultrafast", "tune": "stillimage", "crf": "30", "threads": "1"}
        video = container.add_stream("libx264", rate=fps, options=options)
        video.width, video.height, video.pix_fmt = clip.width, clip.height, "yuv420p"
        sound = container.add_stream("aac", rate=_SOUND_RATE, layout="mono") if clip.audio else None
        if sound is not None:
            sound.bit_rate = _SOUND_BITS
        for frame in _pictures(clip, fps):
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None:
            for samples in _tone(clip.seconds):
                container.mux(sound.encode(samples))
            container.mux(sound.encode(None))
    return target.getvalue()


def _pictures(clip: Clip, fps: int) -> Iterator[av.VideoFrame]:
    picture = av.VideoFrame.from_image(_draw(clip))  # type: ignore[no-untyped-call]  # PyAV leaves it bare
    frame = picture.reformat(format="yuv420p")
    luma = memoryview(frame.planes[0])
    stride = frame.planes[0].line_size
    bar = range(clip.height - max(2, clip.height // 40), clip.height)
    count = max(1, round(clip.seconds * fps))
    for number in range(count):
        length = clip.width * (number + 1) // count
        # The encoder has taken its copy of the last picture, so the same frame can be painted on.
        for row in bar:
            luma[row * stride : row * stride + length] = bytes([_LUMA_WHITE]) * length
        frame.pts, frame.time_base = number, Fraction(1, fps)
        yield frame


def _draw(clip: Clip) -> Image.Image:
    facts = f"{clip.seconds} s  {clip.width}x{clip.height}  {'sound' if clip.audio else 'silent'}  simulated"
    return card(clip.model, clip.prompt, facts, clip.width, clip.height)


def _tone(seconds: Decimal) -> Iterator[av.AudioFrame]:
    left = round(seconds * _SOUND_RATE)
    done = 0
    while left > 0:
        count = min(left, _SOUND_RATE)
        frame = av.AudioFrame(format="s16", layout="mono", samples=count)
        frame.planes[0].update(_second_of_tone()[: 2 * count])
        frame.rate, frame.pts, frame.time_base = _SOUND_RATE, done, Fraction(1, _SOUND_RATE)
        yield frame
        done += count
        left -= count


@lru_cache(maxsize=1)
def _second_of_tone() -> bytes:
    turns = (2 * math.pi * _TONE_HZ * n / _SOUND_RATE for n in range(_SOUND_RATE))
    return array.array("h", (round(_TONE_LEVEL * math.sin(turn)) for turn in turns)).tobytes()
