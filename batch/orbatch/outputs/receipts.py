"""Receipts: a second record beside the outputs of what was submitted, so that a ledger that is lost, old, damaged or
forgotten buys nothing twice and a new one can be made from them.

One line before each submit and one after each answer, appended to ``<output_dir>/.orbatch/receipts.jsonl`` and never
changed. A ledger remembers how far it has read them, so that what it wrote itself is not read again.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orbatch.ledger import BatchRecord, Ledger, LedgerError, OutputRecord
from orbatch.ledger.receipts import VERSION, Line, Receipt, held_elsewhere
from orbatch.outputs.files import sha256_of, sync_directory

FOLDER, NAME = ".orbatch", "receipts.jsonl"


def receipts_path(output_dir: Path) -> Path:
    """Where the receipts of the batches that place their files in ``output_dir`` are."""
    return output_dir / FOLDER / NAME


@dataclass(frozen=True, slots=True)
class Adopted:
    """What the receipts knew more than the ledger. ``attempts``: how many it took over; ``elsewhere``: job
    keys that another ledger, which exists, has paid for, with its path."""

    attempts: int = 0
    elsewhere: dict[str, Path] = field(default_factory=dict)


def adopt_receipts(ledger: Ledger, output_dir: Path) -> Adopted:
    """Bring into the ledger what the receipts in ``output_dir`` know and it does not. Raises LedgerError."""
    path = receipts_path(output_dir)
    batches = [batch for batch in ledger.plans.batches() if Path(batch.output_dir) == output_dir]
    positions = {batch.id: ledger.receipts.position(batch.id) for batch in batches}
    size = _size(path)
    read = max((read for read, _ in positions.values() if read <= size), default=0)
    if read == size:
        return Adopted()
    receipts = _read(path, read)
    missing = list(ledger.receipts.missing(receipts.values()))
    elsewhere = _held_elsewhere(ledger, [receipt for receipt, attempt_id, _ in missing if attempt_id is None])
    count = 0
    for receipt, attempt_id, status in missing:
        if receipt.key not in elsewhere:
            outputs = _intact(receipt.outputs, output_dir)
            ledger.receipts.adopt(receipt, attempt_id, status, outputs)
            count += 1
    # What another ledger has may be gone with it tomorrow, so such lines are read again.
    for batch in batches if not elsewhere else ():
        ledger.receipts.set_position(batch.id, size, positions[batch.id][1])
    return Adopted(
        count, {receipt.job_key: elsewhere[receipt.key] for receipt, *_ in missing if receipt.key in elsewhere}
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # none yet, or a directory that is tested before the first submit
        return 0


def _read(path: Path, start: int) -> dict[str, Receipt]:
    """By attempt. Raises LedgerError for lines that a newer orbatch wrote."""
    receipts: dict[str, Receipt] = {}
    for line in _lines(path, start):
        if line.get("v") != VERSION:
            raise LedgerError(f"{path} was written by a newer orbatch. Upgrade orbatch; nothing was submitted.")
        try:
            if "job" in line:
                line["output_dir"] = str(path.parent.parent)  # where the folder is now
            receipts.setdefault(line["attempt"], Receipt(line["attempt"])).add(line)
        except (KeyError, TypeError, ValueError) as exc:
            raise LedgerError(f"{path} has a line that is not a receipt ({exc!r}). Remove that line.") from exc
    return receipts


def _lines(path: Path, start: int) -> Iterator[dict[str, Any]]:
    """The lines from byte ``start``; one that a kill has cut off is left out."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            for raw in file:
                try:
                    line = json.loads(raw)
                except ValueError:
                    continue
                if isinstance(line, dict):
                    yield line
    except OSError as exc:
        raise LedgerError(f"{path} cannot be read: {exc.strerror}. Make it readable; nothing was submitted.") from exc


def _held_elsewhere(ledger: Ledger, receipts: Sequence[Receipt]) -> dict[str, Path]:
    """Attempt keys that the ledger named in their receipt has, where that is another file which exists."""
    by_path: dict[Path, list[str]] = {}
    for receipt in receipts:
        by_path.setdefault(Path(receipt.intent["ledger"]), []).append(receipt.key)
    others = {path: keys for path, keys in by_path.items() if path.is_file() and not path.samefile(ledger.path)}
    return {key: path for path, keys in others.items() for key in held_elsewhere(path, keys)}


def _intact(outputs: Sequence[OutputRecord], output_dir: Path) -> list[OutputRecord]:
    """The files with their absolute paths, [] where one is missing or was changed."""
    placed = [replace(output, path=str(output_dir / output.path)) for output in outputs]
    try:
        whole = all(Path(each.path).stat().st_size == each.bytes for each in placed)
        return placed if whole and all(sha256_of(Path(each.path)) == each.sha256 for each in placed) else []
    except OSError:
        return []


class ReceiptsWriter:
    """Appends the history of a batch while it runs. ``problem``: why the last lines could not be written, "" when they
    were: then nothing may be submitted."""

    def __init__(self, ledger: Ledger, batch: BatchRecord) -> None:
        self._ledger = ledger
        self._batch = batch
        self._path = receipts_path(Path(batch.output_dir))
        self._descriptor = -1
        self._read, self._written = ledger.receipts.position(batch.id)
        self.problem = ""

    def start(self) -> None:
        """Append what is missing, and from now on what every commit of the ledger adds."""
        if _size(self._path) < self._read:  # cut off: all of the history again
            self._read = self._written = 0
        self.follow()
        self._ledger.database.after_commit = self.follow

    def stop(self) -> None:
        """Append nothing more. Raises LedgerError when the ledger cannot remember how far it came."""
        self._ledger.database.after_commit = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self.remember()

    def remember(self) -> None:
        """Record in the ledger that the receipts, as they are now, are known to it."""
        if not self.problem:
            self._ledger.receipts.set_position(self._batch.id, self._read, self._written)

    def follow(self) -> None:
        """Append what the ledger has committed since the last time; a failure is noted in ``problem``."""
        try:
            while lines := self._ledger.receipts.lines(self._batch.id, self._written):
                if self._open() == 0 and self._written:  # removed: all of the history again
                    self._read = self._written = 0
                    continue
                self._append(lines)
                self._written = lines[-1].event_id
            self.problem = ""
        except OSError as exc:
            self.problem = f"The receipts {self._path} cannot be written: {exc.strerror or exc}."
        except LedgerError as exc:
            self.problem = str(exc)

    def note(self, attempt_key: str, remote_id: str) -> None:
        """Append the id of an attempt immediately, for when the ledger cannot take it. Raises OSError."""
        line = {"v": VERSION, "attempt": attempt_key, "status": "submitted", "remote_id": remote_id}
        self._append([Line(self._written, True, json.dumps(line))])

    def _append(self, lines: Sequence[Line]) -> None:
        before = self._open()
        data = "".join(f"{line.text}\n" for line in lines).encode("utf-8", "surrogatepass")
        # A line that was cut off by a kill ends here.
        if before:
            os.lseek(self._descriptor, before - 1, os.SEEK_SET)
            if os.read(self._descriptor, 1) != b"\n":
                data = b"\n" + data
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        if any(line.is_urgent for line in lines):
            os.fsync(self._descriptor)
        if before == self._read:  # nothing in between that the ledger has not read
            self._read = before + len(data)

    def _open(self) -> int:
        """The size of the file, which is opened, or opened again after it was removed."""
        if self._descriptor >= 0:
            opened = os.fstat(self._descriptor)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(opened, self._path.stat()):
                    return opened.st_size
            os.close(self._descriptor)
            self._descriptor = -1
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(self._path, flags, 0o600)
        sync_directory(self._path.parent)
        return os.fstat(self._descriptor).st_size
