"""Download the outputs of a completed job: verified, placed and recorded.

Downloading again is free, so nothing but the provider's "gone" ends it for good: every other failure leaves the job
completed, for the next run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path

from orbatch.ledger import AttemptRecord, JobRecord, Ledger, OutputRecord, Status
from orbatch.outputs.files import (
    MOST_NUMBER,
    FileConflict,
    NotPlayable,
    discard,
    find_existing,
    load_decoder,
    mime_type_of,
    parts_below,
    place,
    probe,
    sha256_of,
    sync_directory,
    target_path,
)
from orbatch.runner.context import OUTAGE_LIMIT_S, Provider, RunContext, StopRun, is_outage, retry_text
from orbatch_provider import (
    APIError,
    AuthenticationError,
    BadRequestError,
    GoneError,
    NotFoundError,
    OpenRouterError,
    PartFile,
    VideoJob,
    extension,
    run_in_disk_pool,
)
from orbatch_provider.download import part_path

FIRST_BACKOFF_S = 5.0
DOWNLOAD_TRIES = 5  # in one run; the next run tries again
NOT_READY_TRIES = 12  # 404 and 409 right after completion
CHANGED_SUFFIX = ".changed"
UNPLAYABLE_SUFFIX = ".unplayable"


class Downloader:
    """completed -> done or lost."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._directories: dict[Path, _Directory] = {}
        self._is_warm = False

    def warm_up(self) -> None:
        """Load the decoder in the background, before the first download needs it."""
        if not self._is_warm:
            self._is_warm = True
            run_in_disk_pool(load_decoder)

    def sweep_parts(self) -> None:
        """Remove the parts that a run left which was killed right after recording a file, and those with nothing in
        them: empty, or with the one byte of a check whether files can be written."""
        directory = self._context.options.output_dir
        for part in parts_below(directory) if directory.is_dir() else ():
            existing = find_existing(part)
            is_recorded = existing is not None and self._context.ledger.queries.path_owner(str(existing)) is not None
            with contextlib.suppress(OSError):  # one that cannot be read is left alone
                if is_recorded or part.stat().st_size <= 1:
                    discard(part)

    async def download(self, job: JobRecord, attempt: AttemptRecord, answer: VideoJob | None) -> None:
        """Download every output. ``answer``: the last poll's, None when an earlier run has seen it.

        Raises StopRun and LedgerError.
        """
        context, ledger = self._context, self._context.ledger
        outputs = _Outputs(context, self._directories, job, attempt.remote_id or "", answer)
        failures = _Failures(context)
        while True:
            try:
                async with context.limits.downloads:
                    if context.stop.is_set():
                        return
                    records = await outputs.download()
            except GoneError as exc:
                ledger.attempts.mark_lost(attempt.id, f"paid, but {exc}")
                context.log(job, f"lost: it was paid for, and {exc}", "failed")
                return
            except AuthenticationError as exc:
                raise StopRun(str(exc)) from exc
            except FileConflict as exc:
                context.leave_for_next_run(job, attempt, str(exc))
                return
            except OSError as exc:
                path = exc.filename or context.options.output_dir / job.stem  # the system often names none
                context.leave_for_next_run(job, attempt, f"{path} could not be written ({exc.strerror or exc})")
                return
            except (OpenRouterError, NotPlayable) as exc:
                is_known = failures.add(exc)
                if failures.are_enough:
                    context.leave_for_next_run(job, attempt, f"the download failed: {exc}")
                    return
                pause_s = context.pause_s(exc, failures.count, FIRST_BACKOFF_S)
                if not is_known:
                    context.log(job, f"download failed: {exc} {retry_text(pause_s)}", "warning")
                if not await context.wait(pause_s):
                    return
            else:
                await ledger.commits.durably(partial(ledger.attempts.mark_done, attempt.id, records))
                outputs.discard_parts()  # only now: until it is recorded, a part proves that the file is ours
                context.log_done(job, attempt.id, records)
                return


class _Failures:
    """Failures so far with one job's files: an outage is waited out, a wrong answer only met a number of times."""

    def __init__(self, context: RunContext) -> None:
        self._clock = context.clock
        self._wrong = self._not_ready = 0
        self._outage_since: float | None = None
        self.count = 0

    def add(self, error: Exception) -> bool:
        """Returns whether this continues an outage that is already known."""
        self.count += 1
        if is_outage(error):
            is_known = self._outage_since is not None
            self._outage_since = self._clock.now() if self._outage_since is None else self._outage_since
            return is_known
        self._outage_since = None
        if isinstance(error, APIError) and error.status_code in (404, 409):
            self._not_ready += 1
        else:
            self._wrong += 1
        return False

    @property
    def are_enough(self) -> bool:
        outage_s = 0.0 if self._outage_since is None else self._clock.now() - self._outage_since
        return self._wrong >= DOWNLOAD_TRIES or self._not_ready >= NOT_READY_TRIES or outage_s > OUTAGE_LIMIT_S


@dataclass(slots=True)
class _Directory:
    """A directory that this run has created or found. Files placed in it together share a sync of their names."""

    path: Path
    running: asyncio.Task[None] | None = None  # a sync that has begun, and may miss what comes now
    following: asyncio.Task[None] | None = None

    async def sync(self) -> None:
        """Return once the name of a file that was just placed is durable. Raises OSError."""
        if self.following is None:
            self.following = asyncio.create_task(self._sync_after(self.running))
        await asyncio.shield(self.following)

    async def _sync_after(self, running: asyncio.Task[None] | None) -> None:
        if running is not None:
            await asyncio.wait([running])
        self.running, self.following = self.following, None
        await run_in_disk_pool(sync_directory, self.path)


class _Outputs:
    """The outputs of one attempt. What is placed is not downloaded again by the next ``download``."""

    def __init__(
        self,
        context: RunContext,
        directories: dict[Path, _Directory],
        job: JobRecord,
        remote_id: str,
        answer: VideoJob | None,
    ) -> None:
        self._provider = context.provider
        self._path = partial(target_path, context.options.output_dir, job.stem)
        self._directories = directories
        self._seconds = job.seconds
        self._remote_id = remote_id
        self._answer = answer
        self._placed: dict[int, OutputRecord] = {}
        self._gone: dict[int, GoneError] = {}

    async def download(self) -> list[OutputRecord]:
        """The outputs, in place. Raises OpenRouterError, NotPlayable and OSError; GoneError when none is left."""
        if self._answer is None:
            # The number of outputs is in the poll's answer. A job that is forgotten may still have its content.
            with contextlib.suppress(NotFoundError, GoneError):
                self._answer = await self._provider.poll(self._remote_id)
        count = self._answer.output_count if self._answer is not None else 1
        for index in range(count):
            if index not in self._placed and index not in self._gone:
                try:
                    self._placed[index] = await self._download(index)
                except GoneError as exc:
                    self._gone[index] = exc
                except BadRequestError:
                    if index == 0:
                        raise
                    count = index  # there are fewer than were announced
                    break
        if not self._placed:
            raise self._gone[0]
        records = [self._placed[index] for index in sorted(self._placed)]
        if self._gone:
            missing = ", ".join(str(index + 1) for index in sorted(self._gone))
            warning = "; ".join(filter(None, [records[0].warning, f"of {count} outputs, {missing} is gone"]))
            records[0] = replace(records[0], warning=warning)
        if self._answer is not None and self._answer.announced > count:
            warning = f"only {count} of the {self._answer.announced} outputs that were announced"
            records[0] = replace(records[0], warning="; ".join(filter(None, [records[0].warning, warning])))
        return records

    def discard_parts(self) -> None:
        for index in self._placed:
            discard(self._part(index))

    def _part(self, index: int) -> Path:
        # The extension is known only with the content, so the part has none.
        return part_path(self._path(index, ""), self._remote_id)

    async def _download(self, index: int) -> OutputRecord:
        part = self._part(index)
        existing = find_existing(part)
        if existing is not None:
            return await run_in_disk_pool(_describe_existing, existing, part, self._seconds)
        directory = self._directories.get(part.parent)
        if directory is None:
            part.parent.mkdir(parents=True, exist_ok=True)
            directory = self._directories[part.parent] = _Directory(part.parent)
        received = await self._provider.receive(self._remote_id, index, part)
        record = await run_in_disk_pool(_verify_and_place, received, partial(self._path, index), self._seconds)
        await directory.sync()
        return record


def _verify_and_place(
    received: PartFile, target: Path | Callable[[str], Path], requested_s: int | None
) -> OutputRecord:
    """All that is left to do with a file, in one go in a thread. ``target``: its path, or the path for an extension."""
    download = received.finish()
    part, path = download.path, target if isinstance(target, Path) else target(extension(download.mime_type))
    aside = part.with_suffix(UNPLAYABLE_SUFFIX)
    try:
        record = probe(part, download.mime_type, download.size, download.sha256, requested_s)
    except NotPlayable as exc:
        part.replace(aside)  # kept: it is what the provider gave for the money
        raise NotPlayable(f"{exc}; it is kept as {aside}.") from exc
    discard(aside)
    place(part, path, download.sha256)
    return replace(record, path=str(path))


def _describe_existing(path: Path, part: Path, requested_s: int | None) -> OutputRecord:
    """A file that a killed run had placed. Should it not play any more, it is not taken for placed a second time."""
    try:
        record = probe(path, mime_type_of(path), path.stat().st_size, sha256_of(path), requested_s)
    except NotPlayable:
        discard(part)
        raise
    sync_directory(path.parent)  # which the killed run may not have come to
    return record


def accept_unplayable(ledger: Ledger, output_dir: Path, job: JobRecord, attempt: AttemptRecord) -> list[OutputRecord]:
    """Take the files of a completed job as they are, which the run has kept because they do not decode. Returns none
    where it has kept none. Raises OSError and LedgerError."""
    records: list[OutputRecord] = []
    for index in range(MOST_NUMBER + 1):
        part = part_path(target_path(output_dir, job.stem, index, ""), attempt.remote_id or "")
        aside = part.with_suffix(UNPLAYABLE_SUFFIX)
        if not aside.is_file():
            break
        mime_type, sha256 = mime_type_of(aside), sha256_of(aside)
        path = target_path(output_dir, job.stem, index, extension(mime_type))
        place(aside, path, sha256)
        sync_directory(path.parent)
        size = path.stat().st_size
        records.append(OutputRecord(str(path), size, sha256, mime_type, warning="accepted although it does not decode"))
    if records:
        ledger.attempts.mark_done(attempt.id, records)
        for index in range(len(records)):
            part_path(target_path(output_dir, job.stem, index, ""), attempt.remote_id or "").with_suffix(
                UNPLAYABLE_SUFFIX
            ).unlink(missing_ok=True)
    return records


async def redownload(ledger: Ledger, provider: Provider, job: JobRecord) -> int:
    """Download the missing or changed files of a done job to the paths in the ledger; returns how many.

    A changed file is kept beside the new one, as ``NAME.changed``, the next one as ``NAME.changed-1``. Raises
    OpenRouterError, NotPlayable and OSError.
    """
    # An earlier version could pay for a job twice, and both results are kept.
    attempts = [attempt for attempt in ledger.queries.attempts(job.id) if attempt.status == Status.DONE]
    return sum([await _redownload(ledger, provider, job, attempt) for attempt in attempts])


async def _redownload(ledger: Ledger, provider: Provider, job: JobRecord, attempt: AttemptRecord) -> int:
    records: list[OutputRecord] = []
    parts: list[Path] = []
    remote_id = attempt.remote_id or ""
    for index, record in enumerate(ledger.queries.outputs(job.id, attempt.id)):
        path = Path(record.path)
        if await run_in_disk_pool(_is_intact_or_set_aside, path, record.sha256):
            records.append(record)
            continue
        parts.append(part_path(path, remote_id))
        received = await provider.receive(remote_id, index, parts[-1])
        records.append(await run_in_disk_pool(_verify_and_place, received, path, job.seconds))
        await run_in_disk_pool(sync_directory, path.parent)
    if parts:
        ledger.attempts.replace_outputs(attempt.id, records)
    for part in parts:
        discard(part)
    return len(parts)


def _is_intact_or_set_aside(path: Path, sha256: str) -> bool:
    """Whether the file is what was paid for; if not, its name is made free."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        return False
    if sha256_of(path) == sha256:
        return True
    numbered = (f"{path.name}{CHANGED_SUFFIX}" + (f"-{number}" if number else "") for number in count())
    path.replace(next(free for name in numbered if not os.path.lexists(free := path.with_name(name))))
    return False
