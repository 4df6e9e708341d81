"""From an answer that holds a paid result to files that the ledger can vouch for. Nothing here asks the provider."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orbatch.ledger import OutputRecord
from orbatch.outputs.files import FileConflict, discard, place, sync_directory, target_path
from orbatch_provider import ImagesResult, TextResult, extension, redact
from orbatch_provider.download import part_path

FREE_BYTES = 100_000_000  # on the disk before a request is submitted: an answer may hold ten large images
_CHARACTERS_SHOWN = 80  # of a text that an error repeats


class SaveError(Exception):
    """The result is paid for and could not be saved; ``str()`` says why, and where what there is of it lies."""


class UnusableText(Exception):
    """The text is not what was requested; ``str()`` says why, and where it is kept."""


@dataclass(frozen=True, slots=True)
class SavedFile:
    """A file under its final name, and the part that is the same file until the ledger has recorded it."""

    record: OutputRecord
    part: Path


@dataclass(frozen=True, slots=True)
class OutputTarget:
    """Where the results of one attempt go. ``stem``: of the file names, with ``/`` for directories; ``number``: of the
    attempt, from 1; ``tag``: tells its parts from those of every other attempt."""

    output_dir: Path
    stem: str
    number: int
    job_id: str
    tag: str = field(default_factory=lambda: secrets.token_hex(4))

    @property
    def directory(self) -> Path:
        """Of all files of the attempt."""
        return self.path(0, "").parent

    @property
    def part_stem(self) -> str:
        """Of the parts while they arrive. No other attempt's, so that nothing that was paid for is overwritten; it
        names the job, so that what a killed run leaves can be found."""
        return f"answer-{self.job_id}-{self.tag}"

    def path(self, index: int, suffix: str, *, is_taken: bool = False) -> Path:
        """Of output ``index``; with the attempt's number where another file has the name. Raises OSError."""
        return target_path(self.output_dir, self.stem, index, suffix, self.number if is_taken else None)

    def part(self, path: Path) -> Path:
        """Where the file at ``path`` is put together."""
        return part_path(path, f"{self.job_id} {self.tag}")

    def why_not_writable(self) -> str:
        """Why a result could not be saved here; "" where it can be."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            probe = self.part(self.path(0, ".probe"))
            try:
                probe.write_bytes(b"x")
            finally:
                probe.unlink(missing_ok=True)
            free = shutil.disk_usage(self.directory).free
        except OSError as exc:
            return str(exc)
        return "" if free >= FREE_BYTES else f"only {free // 1_000_000} MB are free on the disk of {self.directory}"


def save_images(result: ImagesResult, _request: Any, target: OutputTarget) -> list[SavedFile]:
    """Give the images their names. Raises SaveError."""
    problems = "".join(f"; {problem}" for problem in result.problems)
    missing = f"{len(result.files)} of {result.requested} images were returned{problems}" if result.missing else None
    saved = []
    for index, image in enumerate(result.files):
        path = target.path(index, extension(image.mime_type))
        record = OutputRecord(
            path=str(path),
            bytes=image.size,
            sha256=image.sha256,
            mime_type=image.mime_type,
            width=image.width,
            height=image.height,
            warning=missing if index == 0 else None,
        )
        try:
            part = image.path.replace(target.part(path))
        except OSError as exc:
            raise SaveError(f"{exc}; it is in {image.path}") from exc
        saved.append(_place(part, record, target, index))
    return saved


def save_text(result: TextResult, request: Any, target: OutputTarget) -> list[SavedFile]:
    """Save the text, as ``.json`` when JSON was requested. Raises SaveError, and UnusableText for an empty answer and
    for JSON that is invalid; that is kept beside the outputs and outside the ledger, because it is paid for."""
    is_cut = result.finish_reason == "length"
    if not result.text.strip():
        hint = "; max_tokens may be too small" if is_cut else ""
        reason = f"the answer holds no text (finish_reason {result.finish_reason or 'not given'}){hint}"
        raise UnusableText(redact(reason))
    suffix, mime_type = ".txt", "text/plain"
    if request.wants_json:
        problem = _json_problem(result.text)
        if problem:
            hint = ", because it was cut off at max_tokens" if is_cut else ""
            start = " ".join(result.text[:_CHARACTERS_SHOWN].split())
            reason = redact(f"JSON was requested, and the answer is not JSON ({problem}){hint}: {start!r}")
            raise UnusableText(f"{reason}; {_keep(result.text, target)}")
        suffix, mime_type = ".json", "application/json"
    return [_write(result.text, target, suffix, mime_type, "cut off at max_tokens" if is_cut else None)]


def discard_parts(saved: Sequence[SavedFile]) -> None:
    """Remove the parts of files that the ledger has recorded."""
    for each in saved:
        discard(each.part)


# By kind of job, for those whose result is in the answer itself.
SAVERS: Mapping[str, Callable[[Any, Any, OutputTarget], list[SavedFile]]] = {"image": save_images, "text": save_text}


def _json_problem(text: str) -> str:
    try:
        json.loads(text)
    except (ValueError, RecursionError) as exc:
        return exc.msg if isinstance(exc, json.JSONDecodeError) else "it is nested too deeply"
    return ""


def _keep(text: str, target: OutputTarget) -> str:
    try:
        saved = _write(text, target, ".invalid.txt", "text/plain", None)
    except SaveError as exc:
        return f"its text could not be saved: {exc}"
    discard_parts([saved])
    return f"the text is saved in {saved.record.path}"


def _write(text: str, target: OutputTarget, suffix: str, mime_type: str, warning: str | None) -> SavedFile:
    path = target.path(0, suffix)
    # Half a character (a lone surrogate) cannot be encoded, and a single one is no reason to lose the text.
    content = text.encode("utf-8", "replace")
    part = target.part(path)
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        raise SaveError(str(exc)) from exc
    digest = hashlib.sha256(content).hexdigest()
    return _place(part, OutputRecord(str(path), len(content), digest, mime_type, warning=warning), target, 0)


def _place(part: Path, record: OutputRecord, target: OutputTarget, index: int) -> SavedFile:
    path = Path(record.path)
    try:
        try:
            place(part, path, record.sha256)
        except FileConflict:
            # The result is paid for and cannot be downloaded again, so it gets another name: with the attempt's number.
            suffix = path.name.removeprefix(target.path(index, "").name)
            free = target.path(index, suffix, is_taken=True)
            place(part, free, record.sha256)
            also = f"; {record.warning}" if record.warning else ""
            record = replace(record, path=str(free), warning=f"another file has the name {path.name}{also}")
        sync_directory(path.parent)
    except OSError as exc:
        raise SaveError(f"{exc}; it is in {part}") from exc
    return SavedFile(record, part)
