"""The last step: the files of a completed job, fetched, verified, placed and recorded. Fetching again is free, so no
fault but the provider's "gone" ends it for good."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from orbatch.ledger import AttemptRecord, JobRecord, Ledger, OutputRecord
from orbatch.ledger.status import Status
from orbatch.outputs import files as outputs
from orbatch.runner import poll_schedule
from orbatch.runner.context import OUTAGE_PATIENCE_S, Clock, RunContext, StopRun, is_outage
from orbatch_provider.download import PartFile, run_in_disk_pool
from orbatch_provider.errors import APIError, AuthenticationError, GoneError, NotFoundError, OpenRouterError
from orbatch_provider.media import extension
from orbatch_provider.responses import VideoJob

FIRST_BACKOFF_S = 5.0
DOWNLOAD_TRIES = 5  # in one run; the next run tries again
NOT_READY_TRIES = 12  # 404 and 409 right after completion
CHANGED_SUFFIX = ".changed"
UNPLAYABLE_SUFFIX = ".unplayable"


class ContentSource(Protocol):
    """What collecting needs of the provider."""

    async def poll(self, job_id: str) -> VideoJob: ...
    async def receive(self, job_id: str, index: int, part: Path) -> PartFile: ...


class Downloader:
    """completed -> done or lost."""

    def __init__(self, shared: RunContext) -> None:
        self._context = shared
        self._folders: dict[Path, _Folder] = {}
        self._expects = False

    def expect(self) -> None:
        """There will be files."""
        if not self._expects:
            self._expects = True
            run_in_disk_pool(outputs.load_decoder)

    async def collect(self, job: JobRecord, attempt: AttemptRecord, seen: VideoJob | None) -> None:
        """Fetch what the attempt made. ``seen``: the provider's last word on it, None when another run saw it.

        A disk or a provider that fails leaves the job completed, for the next run. Raises StopRun and LedgerError.
        """
        fetching = Fetching(
            self._context.provider,
            self._context.terms.output_dir,
            job,
            attempt,
            seen,
            folders=self._folders,
            is_overtaken=self._context.ledger.queries.is_overtaken(attempt),
        )
        failures = _Failures(self._context.pace)
        while True:
            try:
                async with self._context.gates.downloads:
                    if self._context.stopping.is_set():
                        return
                    records = await fetching.all()
            except GoneError as exc:
                self._context.ledger.attempts.mark_lost(attempt.id, f"paid, but {exc}")
                self._context.say(job, f"lost: it was paid for, and {exc}", "error")
                return
            except AuthenticationError as exc:
                raise StopRun(str(exc)) from exc
            except OSError as exc:
                self._context.leave(job, attempt, _what_the_disk_says(exc, self._context.terms.output_dir / job.stem))
                return
            except (OpenRouterError, outputs.NotPlayable) as exc:
                if not await self._try_again(job, attempt, failures, exc):
                    return
            else:
                ledger = self._context.ledger
                await ledger.commits.durably(partial(ledger.attempts.mark_done, attempt.id, records))
                fetching.discard_parts()
                for record in records:
                    warning = f" ({record.warning})" if record.warning else ""
                    self._context.say(job, f"done: {record.path}{warning}", "warning" if warning else "info")
                return

    async def _try_again(self, job: JobRecord, attempt: AttemptRecord, failures: _Failures, error: Exception) -> bool:
        """Wait; False when the job is left for the next run."""
        repeated = failures.add(error)
        if failures.are_enough:
            self._context.leave(job, attempt, f"the download failed: {error}")
            return False
        pause_s = self._context.pause_s(error, poll_schedule.backoff(failures.count, FIRST_BACKOFF_S, random.random()))
        if not repeated:
            self._context.say(job, f"download: {error} Trying again in {pause_s:.0f} s.", "warning")
        return await self._context.wait(pause_s)


class _Failures:
    """What went wrong so far with one job's files. An outage is ridden out; an answer that is wrong is met again only
    so many times."""

    def __init__(self, pace: Clock) -> None:
        self._pace = pace
        self._wrong = 0
        self._not_ready = 0
        self._outage_since: float | None = None
        self.count = 0

    def add(self, error: Exception) -> bool:
        """Returns whether this goes on an outage that is known already."""
        self.count += 1
        if is_outage(error):
            repeated = self._outage_since is not None
            self._outage_since = self._pace.now() if self._outage_since is None else self._outage_since
            return repeated
        self._outage_since = None
        if isinstance(error, APIError) and error.status_code in (404, 409):
            self._not_ready += 1
        else:
            self._wrong += 1
        return False

    @property
    def are_enough(self) -> bool:
        outage_s = 0.0 if self._outage_since is None else self._pace.now() - self._outage_since
        return self._wrong >= DOWNLOAD_TRIES or self._not_ready >= NOT_READY_TRIES or outage_s > OUTAGE_PATIENCE_S


class Fetching:
    """Puts every output of one attempt in its place. What is placed is not fetched again by the next ``all``."""

    def __init__(
        self,
        provider: ContentSource,
        output_dir: Path,
        job: JobRecord,
        attempt: AttemptRecord,
        seen: VideoJob | None,
        *,
        folders: dict[Path, _Folder],
        is_overtaken: bool,
    ) -> None:
        self._provider = provider
        self._output_dir = output_dir
        self._job = job
        self._attempt = attempt
        self._seen = seen
        self._folders = folders
        self._overtaken = attempt.number if is_overtaken else None
        self._parts: dict[int, Path] = {}
        self._placed: dict[int, OutputRecord] = {}
        self._gone: dict[int, GoneError] = {}

    async def all(self) -> list[OutputRecord]:
        """The outputs, in place. Raises OpenRouterError, NotPlayable and OSError; GoneError when none is left."""
        if self._seen is None:
            # How many outputs there are is in the poll's answer. A job that is forgotten may still have its content.
            with contextlib.suppress(NotFoundError, GoneError):
                self._seen = await self._provider.poll(self._attempt.remote_id or "")
        count = self._seen.output_count if self._seen is not None else 1
        for number in range(count):
            if number in self._placed or number in self._gone:
                continue
            try:
                self._placed[number] = await self._fetch(number)
            except GoneError as exc:
                self._gone[number] = exc
        if not self._placed:
            raise self._gone[0]
        records = [self._placed[number] for number in sorted(self._placed)]
        if self._gone:
            missing = ", ".join(str(number + 1) for number in sorted(self._gone))
            warning = "; ".join(filter(None, [records[0].warning, f"of {count} outputs, {missing} is gone"]))
            records[0] = replace(records[0], warning=warning)
        return records

    def discard_parts(self) -> None:
        """To be called once the outputs are recorded."""
        for number in self._placed:
            outputs.discard(self._part(number))

    def _target(self, number: int, suffix: str) -> Path:
        return outputs.target_path(self._output_dir, self._job.stem, number, suffix, self._overtaken)

    def _part(self, number: int) -> Path:
        if number not in self._parts:
            # The extension is known only with the answer, so the part carries none.
            self._parts[number] = outputs.part_path(self._target(number, ""), self._attempt.remote_id or "")
        return self._parts[number]

    async def _fetch(self, number: int) -> OutputRecord:
        part = self._part(number)
        placed = outputs.find_existing(part)
        if placed is not None:
            return await run_in_disk_pool(_describe_placed, self._job, placed, part)
        if part.parent not in self._folders:
            part.parent.mkdir(parents=True, exist_ok=True)
            self._folders[part.parent] = _Folder(part.parent)
        received = await self._provider.receive(self._attempt.remote_id or "", number, part)
        record = await run_in_disk_pool(self._put_in_place, number, received)
        await self._folders[part.parent].sync()
        return record

    def _put_in_place(self, number: int, received: PartFile) -> OutputRecord:
        return _put_in_place(received, lambda ending: self._target(number, ending), self._job.seconds)


class _Folder:
    """A folder that this run has made sure of. Files that are placed in it together share a sync of their names."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._running: asyncio.Task[None] | None = None  # a sync that has begun, and may miss what comes now
        self._next: asyncio.Task[None] | None = None

    async def sync(self) -> None:
        """Once the name of a file that was just placed is durable. Raises OSError."""
        if self._next is None:
            self._next = asyncio.create_task(self._sync_after(self._running))
        await asyncio.shield(self._next)

    async def _sync_after(self, running: asyncio.Task[None] | None) -> None:
        if running is not None:
            await asyncio.wait([running])
        self._running, self._next = self._next, None
        await run_in_disk_pool(outputs.sync_folder, self._path)


def _put_in_place(received: PartFile, target: Callable[[str], Path], ordered_s: int | None) -> OutputRecord:
    """All that is left to do with a file, in one go in a thread. ``target``: its place, by its ending.

    What does not play is set aside, not thrown away: it is what the provider gave for the money.
    """
    download = received.finish()
    part, path = download.path, target(extension(download.mime_type))
    aside = part.with_suffix(UNPLAYABLE_SUFFIX)
    try:
        media = outputs.probe(part, download.mime_type)
    except outputs.NotPlayable as exc:
        part.replace(aside)
        raise outputs.NotPlayable(f"{exc}; what came is kept as {aside}.") from exc
    outputs.discard(aside)
    outputs.place(part, path, download.sha256)
    return outputs.describe(path, download.size, download.sha256, download.mime_type, media, ordered_s)


def _describe_placed(job: JobRecord, path: Path, part: Path) -> OutputRecord:
    """A file that a killed run had placed. Should it not play any more, it is not taken for placed a second time."""
    try:
        mime_type = outputs.mime_type_of(path)
        media = outputs.probe(path, mime_type)
    except outputs.NotPlayable:
        outputs.discard(part)
        raise
    size, sha256 = path.stat().st_size, outputs.sha256_of(path)
    outputs.sync_folder(path.parent)  # which the killed run may not have come to
    return outputs.describe(path, size, sha256, mime_type, media, job.seconds)


def _what_the_disk_says(error: OSError, target: Path) -> str:
    """A sentence that names the path, which the system's own words often lack."""
    if isinstance(error, outputs.FileInTheWay):
        return str(error)
    return f"{error.filename or target} could not be written ({error.strerror or error})"


async def fetch_again(ledger: Ledger, provider: ContentSource, job: JobRecord) -> int:
    """Fetch the missing or changed files of a done job into the places the ledger names; returns how many.

    A changed file is kept beside the new one, as ``NAME.changed``. Raises OpenRouterError, NotPlayable and OSError.
    """
    attempts = [attempt for attempt in ledger.queries.attempts(job.id) if attempt.status == Status.DONE]
    return sum([await _fetch_attempt_again(ledger, provider, job, attempt) for attempt in attempts])


async def _fetch_attempt_again(ledger: Ledger, provider: ContentSource, job: JobRecord, attempt: AttemptRecord) -> int:
    records: list[OutputRecord] = []
    parts: list[Path] = []
    for number, record in enumerate(ledger.queries.outputs(job.id, attempt.id)):
        path = Path(record.path)
        if await run_in_disk_pool(_is_intact_or_set_aside, path, record.sha256):
            records.append(record)
            continue
        parts.append(outputs.part_path(path, attempt.remote_id or ""))
        received = await provider.receive(attempt.remote_id or "", number, parts[-1])
        records.append(await run_in_disk_pool(_put_in_place, received, _at(path), job.seconds))
        await run_in_disk_pool(outputs.sync_folder, path.parent)
    if parts:
        ledger.attempts.replace_outputs(attempt.id, records)
    for part in parts:
        outputs.discard(part)
    return len(parts)


def _at(path: Path) -> Callable[[str], Path]:
    """The place that is in the ledger already, whatever ending the content asks for."""
    return lambda _: path


def _is_intact_or_set_aside(path: Path, sha256: str) -> bool:
    """Whether the file is what was paid for; if not, its place is made free."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        return False
    if outputs.sha256_of(path) == sha256:
        return True
    path.replace(path.with_name(path.name + CHANGED_SUFFIX))
    return False
