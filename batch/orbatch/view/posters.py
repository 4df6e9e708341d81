"""Small JPEGs of videos and images, made once and kept beside the receipts."""

from __future__ import annotations

import os
from pathlib import Path

from orbatch.ledger import OutputRecord

WIDTH = 480  # pixels: twice a cell, for dense screens
DIRECTORY = Path(".orbatch") / "posters"


def poster_of(output: OutputRecord, output_dir: Path) -> Path:
    """The first frame of a video, or the image, as a small JPEG; its name is that of the content.

    Made where it is not there, which is slow, so call it in a thread. Raises OSError or ValueError for what has no
    picture.
    """
    path = output_dir / DIRECTORY / f"{output.sha256[:24]}.jpg"
    if not path.is_file():
        _make(output, path)
    return path


def _make(output: OutputRecord, path: Path) -> None:
    import av
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    if output.mime_type.startswith("video/"):
        try:
            with av.open(output.path) as container:
                frame = next(container.decode(video=0)).to_image()  # type: ignore[no-untyped-call]  # of PyAV
        except (av.FFmpegError, StopIteration, IndexError) as exc:
            raise ValueError(f"{output.path} has no frame that decodes") from exc
    else:
        frame = Image.open(output.path)
    frame = frame.convert("RGB")
    frame.thumbnail((WIDTH, WIDTH * 4))
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    frame.save(part, "JPEG", quality=80)
    part.replace(path)
