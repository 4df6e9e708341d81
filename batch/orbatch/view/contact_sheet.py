"""A batch as one picture, or one silent video, for a mail: prompts down, models across, with what each output cost."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orbatch.export import text_of
from orbatch.ledger import BatchRecord, Ledger, OutputRecord, variant_text
from orbatch.money import format_usd
from orbatch.view.data import batch_data
from orbatch.view.posters import poster_of

if TYPE_CHECKING:
    from av import VideoFrame
    from PIL.Image import Image as Picture
    from PIL.ImageDraw import ImageDraw

SUFFIXES = (".jpg", ".jpeg", ".png", ".mp4")
MOST_PIXELS = 65_000  # a JPEG has no longer side
MOST_CLIPS = 64  # that are decoded at the same time
FRAMES_PER_S = 12
_CELL = (320, 180)
_GAP, _LEFT, _HEAD, _CAPTION = 16, 280, 84, 26
_INK, _SOFT, _PAPER, _LINE = "#1b1c1d", "#5f6265", "#fbfbfa", "#d8d8d4"


@dataclass(frozen=True, slots=True)
class _Place:
    """An output and where it stands: its top left corner in pixels."""

    cell: Mapping[str, Any]
    output: OutputRecord | None
    x: int
    y: int


def write_contact_sheet(ledger: Ledger, batch: BatchRecord, path: Path, *, picked: bool) -> int:
    """Write the sheet in the format of the suffix, and return how many outputs are on it.

    Raises ValueError with a sentence for a batch that does not fit, and OSError.
    """
    from PIL import Image, ImageDraw

    data = batch_data(ledger, batch, picked=picked)
    rows = data["rows"]
    models = [model for model in data["models"] if any(model["id"] in row["cells"] for row in rows)]
    if not rows:
        raise ValueError("nothing is picked" if picked else "it has no jobs")
    step = (_CELL[0] + _GAP, _CELL[1] + _CAPTION + _GAP)
    heights = [step[1] * max(map(len, row["cells"].values())) for row in rows]
    size = (_LEFT + step[0] * len(models) + _GAP, _HEAD + sum(heights) + _GAP)
    if max(size) > MOST_PIXELS:
        raise ValueError(f"{len(rows)} prompts and {len(models)} models do not fit one picture; use --select picked")
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    _text(draw, (_GAP, 18), data["batch"], 24)
    _text(draw, (_GAP, 52), f"{_usd(data['spent'])} USD spent", 14, _SOFT)
    for at, model in enumerate(models):
        vendor, _, name = model["id"].rpartition("/")
        _text(draw, (_LEFT + at * step[0], 18), vendor, 13, _SOFT)
        _text(draw, (_LEFT + at * step[0], 36), name, 18)
    places, y = [], _HEAD
    for row, height in zip(rows, heights, strict=True):
        draw.line((0, y - _GAP // 2, size[0], y - _GAP // 2), _LINE)
        _text(draw, (_GAP, y), row["prompt_id"], 16)
        words = [*_wrapped(row["prompt"], 38, 6), *_wrapped(variant_text(row["variables"], row["seed"]), 38, 2)]
        _text(draw, (_GAP, y + 24), "\n".join(words), 13, _SOFT)
        for at, model in enumerate(models):
            for take, cell in enumerate(row["cells"].get(model["id"], ())):
                outputs = [each for each in ledger.queries.outputs(cell["id"]) if Path(each.path).is_file()]
                place = _Place(cell, outputs[0] if outputs else None, _LEFT + at * step[0], y + take * step[1])
                _draw(sheet, draw, place, Path(batch.output_dir))
                places.append(place)
        y += height
    if path.suffix.lower() == ".mp4":
        _write_video(sheet, [place for place in places if place.output is not None], path)
    else:
        sheet.save(path, quality=88)
    return sum(place.output is not None for place in places)


def _draw(sheet: Picture, draw: ImageDraw, place: _Place, output_dir: Path) -> None:
    from PIL import Image

    cell, output = place.cell, place.output
    if output is None:
        words = _wrapped(f"{cell['exact']}: {cell['error']}" if cell["error"] else cell["exact"], 44, 8)
        _box(draw, place, words)
    elif cell["kind"] == "text":
        _box(draw, place, _wrapped(text_of([output.path]) or "", 44, 9))
    else:
        try:
            with Image.open(poster_of(output, output_dir)) as picture:
                _paste(sheet, picture, place)
        except (OSError, ValueError):
            _box(draw, place, ["no picture can be made of it"])
    facts = ["" if cell["cost"] is None else f"{_usd(cell['cost'])} USD"]
    facts += [f"{cell['seconds']:.0f} s"] if cell["seconds"] else []
    facts += ["picked"] if cell["mark"] == "pick" else []
    _text(draw, (place.x, place.y + _CELL[1] + 5), "   ".join(filter(None, facts)), 13)


def _paste(sheet: Picture, picture: Picture, place: _Place) -> None:
    """Into its cell, whole, with black where it has another shape."""
    from PIL import Image, ImageOps

    fitted = ImageOps.contain(picture.convert("RGB"), _CELL)
    frame = Image.new("RGB", _CELL, "black")
    frame.paste(fitted, ((_CELL[0] - fitted.width) // 2, (_CELL[1] - fitted.height) // 2))
    sheet.paste(frame, (place.x, place.y))


def _box(draw: ImageDraw, place: _Place, lines: Sequence[str]) -> None:
    draw.rectangle((place.x, place.y, place.x + _CELL[0], place.y + _CELL[1]), None, _LINE)
    _text(draw, (place.x + 8, place.y + 8), "\n".join(lines), 13, _SOFT)


def _text(draw: ImageDraw, at: tuple[int, int], text: str, size: int, color: str = _INK) -> None:
    from PIL import ImageFont

    draw.multiline_text(at, text, color, ImageFont.load_default(size))


def _usd(amount: float) -> str:
    return format_usd(round(amount * 10**9))


def _wrapped(text: str, width: int, lines: int) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), width, max_lines=lines, placeholder=" …")


def _write_video(sheet: Picture, places: Sequence[_Place], path: Path) -> None:
    """The sheet with every clip in motion, as long as the longest; a clip that has ended stands still."""
    import av

    moving = [place for place in places if place.output is not None and place.output.mime_type.startswith("video/")]
    if len(moving) > MOST_CLIPS:
        raise ValueError(f"{len(moving)} clips are too many for one video; use --select picked, or a .jpg")
    seconds = max((place.output.seconds or 0.0 for place in moving if place.output), default=0.0)
    if not seconds:
        raise ValueError("it has no clip that moves; write a .jpg")
    width, height = (side + side % 2 for side in sheet.size)  # H.264 has even sides
    with ExitStack() as stack:
        clips = []
        for place in moving:
            assert place.output is not None
            container = stack.enter_context(av.open(place.output.path))
            clips.append((place, _at_rate(container.decode(video=0))))
        out = stack.enter_context(av.open(str(path), "w"))
        stream = out.add_stream("libx264", FRAMES_PER_S)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(round(seconds * FRAMES_PER_S)):
            for place, frames in clips:
                if (picture := next(frames, None)) is not None:
                    _paste(sheet, picture, place)
            frame = av.VideoFrame.from_image(sheet.crop((0, 0, width, height)))  # type: ignore[no-untyped-call]  # of PyAV
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def _at_rate(frames: Iterator[VideoFrame]) -> Iterator[Picture]:
    """The pictures of a clip at FRAMES_PER_S, each shown at its own time."""
    due = Fraction(0)
    for frame in frames:
        at = Fraction(0) if frame.time is None else Fraction(frame.time)
        while due <= at:
            yield frame.to_image()  # type: ignore[no-untyped-call]  # of PyAV
            due += Fraction(1, FRAMES_PER_S)
