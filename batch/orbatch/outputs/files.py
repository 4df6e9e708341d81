"""From a downloaded part to a file the ledger can vouch for: verified by decoding, placed atomically, never over
another file. A part is a file that is still being put together; a target is its final name."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING

from orbatch.ledger import OutputRecord
from orbatch_provider import SNIFF_BYTES, video_type
from orbatch_provider.download import PART_SUFFIX, entity_path, part_path

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

RETIRED = "retired"  # directory below the output directory, for files of jobs that left the batch file
MOST_NUMBER = 15  # of an output, from 0
# How far a clip may differ from the requested length without a warning; renders of 5.04 s for 5 s are normal.
TOLERANCE_S = 0.5
TOLERANCE_SHARE = 0.05
# How much of its own length a clip may lack at its end: containers round, and some count the length of the audio.
CUT_S = 1.0
CUT_SHARE = 0.1
# How much of the requested length a clip needs whose format does not say how long it is.
WHOLE_SHARE = 0.9

_DEMUXERS = {"video/mp4": "mp4", "video/quicktime": "mov"}
_MATROSKA = frozenset({"video/webm", "video/x-matroska"})

_OUR_PART = re.compile(rf"\.[0-9a-f]{{8}}{re.escape(PART_SUFFIX)}$")  # see part_path

# Errors of file systems that cannot do a thing at all (FAT, CIFS, some FUSE mounts), as against a disk that fails.
_UNSUPPORTED = {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_NO_LINKS = _UNSUPPORTED | {errno.EMLINK, errno.EXDEV}


# What an output of each kind may end in; a text or a table of the user beside the videos is none.
_EXTENSIONS = {
    "video": frozenset({".mp4", ".mov", ".webm", ".mkv", ".avi", ".ogv", ".mpg", ".mpeg", ".ts", ".gif", ".bin"}),
    "image": frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif", ".svg", ".bmp", ".tiff", ".bin"}),
    "text": frozenset({".txt", ".json"}),
}


class NotPlayable(Exception):
    """The file is not the video that was paid for: it does not open, or does not decode."""


class FileConflict(OSError):
    """Another file already has the name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{path} already exists and is not from this job. Move it, then run the command again.")


def target_path(output_dir: Path, stem: str, number: int, extension: str, attempt: int | None = None) -> Path:
    """Where output ``number`` (0 is the first) goes; with ``attempt`` in its name where the plain one is taken. Raises
    OSError for a name that leaves ``output_dir``."""
    suffix = "" if attempt is None else f"-attempt{attempt}"
    suffix += "" if number == 0 else f"-{number + 1}"
    target = output_dir / f"{stem}{suffix}{extension}"
    is_directly_inside = target.parent == output_dir and target.name != ".."
    if not is_directly_inside and not target.resolve().is_relative_to(output_dir.resolve()):
        raise OSError(errno.EACCES, "the file name leaves the output directory", str(target))
    return target


def find_outputs(output_dir: Path, jobs: Iterable[tuple[str, str]]) -> list[Path]:
    """The files that have the name of a job's first output. ``jobs``: stem and kind of each.

    Each directory is listed once, so that a batch of 100,000 jobs needs no 100,000 reads of the disk.
    """
    wanted: dict[Path, dict[str, str]] = {}
    for stem, kind in jobs:
        parent, _, name = stem.rpartition("/")
        wanted.setdefault(output_dir / parent, {})[name] = kind
    return sorted(path for directory, kinds in wanted.items() for path in _outputs_in(directory, kinds))


def _outputs_in(directory: Path, kinds: dict[str, str]) -> Iterator[Path]:
    try:
        with os.scandir(directory) as entries:
            names = [entry.name for entry in entries]
    except OSError:  # none yet; one that cannot be read is found when it is tested before the first submit
        return
    for name in names:
        stem, _, extension = name.rpartition(".")
        if f".{extension.lower()}" in _EXTENSIONS.get(kinds.get(stem, ""), ()):
            yield directory / name


def copy_of(output: OutputRecord, output_dir: Path, stem: str, number: int) -> OutputRecord:
    """The file of another batch under a name of this one: a hard link, or a copy where there is none. Raises OSError
    for a file that is missing or was changed, and FileConflict for a name that is taken."""
    source = Path(output.path)
    target = target_path(output_dir, stem, number, source.suffix)
    if source.stat().st_size != output.bytes or sha256_of(source) != output.sha256:
        raise OSError(errno.ESTALE, "the file has changed", str(source))
    target.parent.mkdir(parents=True, exist_ok=True)
    part = part_path(target, secrets.token_hex(4))
    try:
        try:
            os.link(source, part)
        except OSError as exc:
            if exc.errno not in _NO_LINKS:
                raise
            shutil.copyfile(source, part)
        place(part, target, output.sha256)
    finally:
        part.unlink(missing_ok=True)
    sync_directory(target.parent)
    return replace(output, path=str(target))


def is_outside(output: OutputRecord, directory: Path) -> bool:
    """Whether the file exists, and not below ``directory``."""
    path = Path(output.path)
    return directory not in path.parents and path.is_file()


def why_unusable(output_dir: Path, stems: Iterable[str]) -> str:
    """Why outputs could not be placed in ``output_dir``; "" where they can be. ``stems``: of the names that are needed.

    Tried, not looked up: a directory is made, and files with the longest names are written, synced, linked and removed.
    """
    names = list(stems)
    longest = {max(names, key=length) for length in (len, lambda stem: len(stem.rpartition("/")[2])) if names}
    try:
        for stem in longest:
            target = target_path(output_dir, f"{stem}-attempt99", MOST_NUMBER, ".probe")
            target.parent.mkdir(parents=True, exist_ok=True)
            # Both are parts by name, so that what a kill leaves of them is swept.
            _try_files(*(part_path(target, secrets.token_hex(4)) for _ in range(2)))
    except OSError as exc:
        return exc.strerror or str(exc)
    return ""


def _try_files(part: Path, target: Path) -> None:
    try:
        with part.open("xb") as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
        place(part, target, "")
        sync_directory(target.parent)
    finally:
        for path in (part, target):
            path.unlink(missing_ok=True)


def load_decoder() -> None:
    """Load what ``probe`` needs: it takes 0.1 s, which nobody misses while the first job renders."""
    with contextlib.suppress(ImportError):  # reported when there is a file that needs it
        import av  # noqa: F401


def probe(
    path: Path, mime_type: str = "", size: int = 0, sha256: str = "", requested_s: int | None = None
) -> OutputRecord:
    """Open a video, decode its first and its last part, and describe what it really contains.

    ``mime_type``: by its first bytes, so that the format is not guessed again. A length that was not requested is a
    warning, not a failure, where the file itself says that it is whole. Raises NotPlayable.
    """
    import av  # here: it takes 0.1 s, and commands that only read never need it

    try:
        with av.open(str(path), format=_DEMUXERS.get(mime_type)) as container:
            for each in container.streams.video:
                # Several files are checked in parallel; threads within each would only get in each other's way.
                each.codec_context.thread_count = 1
            stream, frame, seconds = _decode(container)
            if requested_s is not None and not _says_its_length(container, stream, mime_type):
                _check_requested(seconds, requested_s)
            audio = container.streams.audio[0].codec_context.name if container.streams.audio else None
            return OutputRecord(
                path=str(path),
                bytes=size,
                sha256=sha256,
                mime_type=mime_type,
                seconds=seconds,
                width=frame.width,
                height=frame.height,
                fps=float(stream.average_rate) if stream.average_rate else None,
                video_codec=stream.codec_context.name,
                audio_codec=audio,
                warning=length_warning(seconds, requested_s),
            )
    except av.FFmpegError as exc:
        raise NotPlayable(f"it cannot be decoded ({exc})") from exc


def length_warning(seconds: float | None, requested_s: int | None) -> str | None:
    """A sentence for a video whose length is not what was requested; None where it is, or is not known."""
    if requested_s is None or seconds is None:
        return None
    if abs(seconds - requested_s) <= max(TOLERANCE_S, requested_s * TOLERANCE_SHARE):
        return None
    return f"{seconds:.1f} s long, {requested_s} s were requested"


def _decode(container: InputContainer) -> tuple[VideoStream, VideoFrame, float]:
    if not container.streams.video:
        raise NotPlayable("it has no video stream")
    stream = container.streams.video[0]
    first = next(iter(container.decode(stream)), None)
    if first is None:
        raise NotPlayable("its video stream has no frame")
    if not container.duration:  # it was written while it was recorded
        return stream, first, _read_on(container, stream, 0.0)[1]
    seconds = container.duration / 1_000_000
    if seconds > 1:
        _check_end(container, stream, seconds)
    return stream, first, seconds


def _says_its_length(container: InputContainer, stream: VideoStream, mime_type: str) -> bool:
    """Whether a file that was cut has its length still on record; else its length is only what is there."""
    if mime_type in _DEMUXERS:
        return stream.frames > 0  # a fragmented MP4 has no index of its frames
    return mime_type in _MATROSKA and container.duration is not None


def _check_requested(seconds: float, requested_s: int) -> None:
    if seconds < requested_s * WHOLE_SHARE:
        raise NotPlayable(
            f"it has {seconds:.1f} of the {requested_s} s requested, and its format does not say how long it is"
        )


def _check_end(container: InputContainer, stream: VideoStream, seconds: float) -> None:
    """A file that was cut has its whole index, and no frames at its end."""
    # Not every container can seek, or finds a keyframe; then it is read from the start.
    for start_s in (seconds - 0.5, 0.0):
        decoded, reached_s = _read_on(container, stream, start_s)
        if decoded:
            break
    else:
        raise NotPlayable("its end does not decode")
    ends_s = seconds
    if stream.duration is not None and stream.time_base is not None:
        ends_s = float((stream.duration + (stream.start_time or 0)) * stream.time_base)
    elif container.streams.audio:
        return  # the length is that of all streams, and the audio may be longer
    if ends_s - reached_s > max(CUT_S, ends_s * CUT_SHARE):
        raise NotPlayable(f"it ends after {reached_s:.1f} of {ends_s:.1f} s")


def _read_on(container: InputContainer, stream: VideoStream, start_s: float) -> tuple[bool, float]:
    """Whether a frame decodes from there on, and how far the frames reach, in seconds. One is decoded, which proves the
    codec; decoding all of them would take longer than the download."""
    import av

    with contextlib.suppress(av.FFmpegError):
        container.seek(int(start_s * 1_000_000))
    decoded, reached_s = False, 0.0
    for packet in container.demux(stream):
        if packet.pts is not None and packet.time_base is not None:
            reached_s = max(reached_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        decoded = decoded or bool(packet.decode())
    return decoded, reached_s


def sha256_of(path: Path) -> str:
    """In hex; reads the whole file."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def place(part: Path, target: Path, sha256: str) -> None:
    """Give the verified part its name, without ever replacing another file. The part stays until ``discard``; the name
    is durable after ``sync_directory``.

    A hard link, because it is atomic, fails where a file exists, and proves after a crash that the file is ours: part
    and target are then one file. Raises FileConflict, or OSError for what the disk says.
    """
    try:
        os.link(part, target)
    except FileExistsError:
        if not _is_ours(part, target, sha256):
            raise FileConflict(target) from None
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
        if target.exists() and not _is_ours(part, target, sha256):
            raise FileConflict(target) from None
        part.replace(target)


def find_existing(part: Path) -> Path | None:
    """The file that a killed run had already verified and placed: a hard link makes it one file with its part."""
    try:
        is_placed = part.stat().st_nlink > 1
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not is_placed:
        return None
    target = part.name.removesuffix(PART_SUFFIX).rpartition(".")[0]  # with its extension only where that was known
    siblings = (path for path in part.parent.iterdir() if f"{path.name}.".startswith(f"{target}.") and path != part)
    return next((path for path in siblings if path.samefile(part)), None)


def mime_type_of(path: Path) -> str:
    """By the first bytes of the file, whatever its name."""
    with path.open("rb") as file:
        return video_type(file.read(SNIFF_BYTES)) or "application/octet-stream"


def discard(part: Path) -> None:
    """Remove the part of a file that the ledger has recorded. One that cannot be removed stays: the file is safe."""
    with contextlib.suppress(OSError):
        entity_path(part).unlink(missing_ok=True)
        part.unlink()


def parts_below(directory: Path) -> Iterator[Path]:
    """Every part of orbatch in a directory and its subdirectories; other programs have files of that suffix, too."""
    yield from (path for path in directory.rglob(f"*{PART_SUFFIX}") if _OUR_PART.search(path.name))


def _is_ours(part: Path, target: Path, sha256: str) -> bool:
    return part.samefile(target) or sha256_of(target) == sha256


def sync_directory(path: Path) -> None:
    """Make new names durable, where the platform and the file system can. Raises OSError for a disk that fails."""
    if os.name != "posix":
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as exc:
        if exc.errno not in _UNSUPPORTED:
            raise
