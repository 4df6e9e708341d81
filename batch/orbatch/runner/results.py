"""From the answer that holds a paid result to files that the ledger can vouch for. Nothing here asks the provider."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

from orbatch.ledger import OutputRecord
from orbatch.outputs import files as outputs
from orbatch_provider.images import ImagesResult
from orbatch_provider.media import extension
from orbatch_provider.texts import TextResult

FREE_BYTES = 100_000_000  # on the disk before a request is sent: an answer may hold ten large pictures
_WORDS_SHOWN = 80  # characters of a text that an error repeats


class SaveError(Exception):
    """The result is paid for and could not be put in its place; ``str()`` says why, and where what came of it is."""


class UnusableText(Exception):
    """The text is not what was asked for; ``str()`` says why. ``text``: all of it."""

    def __init__(self, why: str, text: str) -> None:
        self.text = text
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class SavedFile:
    """A file in its place, and the part that is the same file until it is recorded."""

    record: OutputRecord
    part: Path


@dataclass(frozen=True, slots=True)
class Place:
    """Where the results of one attempt go. ``stem``: of the file names, with ``/`` for folders; ``number``: of the
    attempt, from 1; ``tag``: tells its parts from those of every other one."""

    output_dir: Path
    stem: str
    number: int
    job_id: str
    tag: str = field(default_factory=lambda: secrets.token_hex(4))

    @property
    def folder(self) -> Path:
        return self.target(0, "").parent

    @property
    def part_stem(self) -> str:
        """Of the parts while they come: no other attempt's, so that nothing that was paid for is written over. It names
        the job, so that what a killed run leaves of an answer can be found."""
        return f"answer-{self.job_id}-{self.tag}"

    def target(self, index: int, ending: str, *, is_taken: bool = False) -> Path:
        return outputs.target_path(self.output_dir, self.stem, index, ending, self.number if is_taken else None)

    def part(self, target: Path) -> Path:
        return outputs.part_path(target, f"{self.job_id} {self.tag}")

    def check_writable(self) -> None:
        """Raises OSError when a result could not be kept here."""
        self.folder.mkdir(parents=True, exist_ok=True)
        trial = self.part(self.target(0, ".trial"))
        try:
            trial.write_bytes(b"x")
        finally:
            trial.unlink(missing_ok=True)
        free = shutil.disk_usage(self.folder).free
        if free < FREE_BYTES:
            raise OSError(f"{free // 1_000_000} MB are free on the disk of {self.folder}, which may be too few")


def keep_pictures(result: ImagesResult, place: Place) -> list[SavedFile]:
    """Put the pictures in their places. Raises SaveError."""
    warning = _fewer(result)
    kept = []
    for index, picture in enumerate(result.files):
        target = place.target(index, extension(picture.mime_type))
        record = OutputRecord(
            path=str(target),
            bytes=picture.size,
            sha256=picture.sha256,
            mime_type=picture.mime_type,
            width=picture.width,
            height=picture.height,
            warning=warning if index == 0 else None,
        )
        try:
            part = picture.path.replace(place.part(target))
        except OSError as exc:
            raise SaveError(f"{exc}; it is in {picture.path}") from exc
        kept.append(_place(part, record, place, index))
    return kept


def _fewer(result: ImagesResult) -> str | None:
    if not result.missing:
        return None
    problems = "".join(f"; {problem}" for problem in result.problems)
    return f"{len(result.files)} of {result.asked} pictures came{problems}"


def keep_text(result: TextResult, place: Place, *, as_json: bool) -> list[SavedFile]:
    """Put the text in its place, ``.json`` when it was asked for and is JSON. Raises SaveError, and UnusableText for an
    empty answer and for one that was to be JSON and is not."""
    if not result.text.strip():
        hint = "; max_tokens may be too small" if result.finish_reason == "length" else ""
        raise UnusableText(f"the answer holds no text (it ended by {result.finish_reason or 'nothing said'}){hint}", "")
    if as_json:
        _check_json(result)
    ending, mime_type = (".json", "application/json") if as_json else (".txt", "text/plain")
    warning = "cut off at max_tokens" if result.finish_reason == "length" else None
    return [_keep(result.text, place, ending, mime_type, warning)]


def keep_unusable(text: str, place: Place) -> Path | None:
    """A text that is no result is paid for all the same: kept beside the results, outside the ledger."""
    if not text.strip():
        return None
    kept = _keep(text, place, ".invalid.txt", "text/plain", None)
    outputs.discard(kept.part)
    return Path(kept.record.path)


def _check_json(result: TextResult) -> None:
    try:
        json.loads(result.text)
    except (ValueError, RecursionError) as exc:
        why = exc.msg if isinstance(exc, json.JSONDecodeError) else "it is nested too deeply"
        hint = ", because it was cut off at max_tokens" if result.finish_reason == "length" else ""
        began = " ".join(result.text[:_WORDS_SHOWN].split())
        raise UnusableText(f"JSON was asked for, and the answer is none ({why}){hint}: {began!r}", result.text) from exc


def _keep(text: str, place: Place, ending: str, mime_type: str, warning: str | None) -> SavedFile:
    target = place.target(0, ending)
    # Half a character cannot be encoded, and a single odd one is no reason to lose the text.
    content = text.encode("utf-8", "replace")
    part = place.part(target)
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        raise SaveError(str(exc)) from exc
    digest = hashlib.sha256(content).hexdigest()
    record = OutputRecord(str(target), len(content), digest, mime_type, warning=warning)
    return _place(part, record, place, 0)


def _place(part: Path, record: OutputRecord, place: Place, index: int) -> SavedFile:
    """Give a part its name. Where another file has it, the attempt's number makes it another: the result is paid for,
    and cannot be fetched again."""
    target = Path(record.path)
    try:
        try:
            outputs.place(part, target, record.sha256)
        except outputs.FileInTheWay:
            ending = target.name.removeprefix(place.target(index, "").name)
            free = place.target(index, ending, is_taken=True)
            outputs.place(part, free, record.sha256)
            also = f"; {record.warning}" if record.warning else ""
            record = replace(record, path=str(free), warning=f"another file has the name {target.name}{also}")
        outputs.sync_folder(target.parent)
    except OSError as exc:
        raise SaveError(f"{exc}; it is in {part}") from exc
    return SavedFile(record, part)
