"""Finds jobs that are the same request, write the same file, or come from prompts of one name."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from itertools import pairwise

from orbatch.batchfile.problems import Report
from orbatch.config import BatchConfig
from orbatch.jobspec import JobSpec


class Uniqueness:
    """Keeps eight bytes for each value that must be unique. Only when some are equal, the jobs are made once more, to
    name those that clash."""

    def __init__(self) -> None:
        self._keys = array("q")
        self._stems = array("q")
        self._ids = array("q")
        self._prompt: tuple[str, str, int | None] | None = None

    def add(self, job: JobSpec) -> None:
        self._keys.append(hash(job.key))
        self._stems.append(hash(job.stem.casefold()))
        prompt = (job.prompt_id, job.file, job.line)
        if prompt != self._prompt:  # the jobs of one prompt come one after another
            self._prompt = prompt
            self._ids.append(hash(job.prompt_id))

    def report_doubles(self, jobs: Callable[[], Iterable[JobSpec]], config: BatchConfig, report: Report) -> None:
        """Reports every job that is not unique, beside the one it clashes with."""
        keys, stems, ids = _doubles(self._keys), _doubles(self._stems), _doubles(self._ids)
        if not (keys or stems or ids):
            return
        first: dict[tuple[str, str], JobSpec] = {}
        for job in jobs():
            about = report.about(job.file, config.path.parent)
            if hash(job.prompt_id) in ids:
                other = first.setdefault(("id", job.prompt_id), job)
                if (other.file, other.line) != (job.file, job.line):
                    about.add(job.line, "id", f"'{job.prompt_id}' is the id of another prompt as well ({other.where})")
            if hash(job.key) in keys:
                other = first.setdefault(("key", job.key), job)
                if other is not job:
                    about.add(job.line, "", _same_request(job, other))
                    continue
            if hash(job.stem.casefold()) in stems:
                other = first.setdefault(("stem", job.stem.casefold()), job)
                if other is not job:
                    report.add(config.filename_line, "filename", _same_file(job, other))


def _doubles(values: array[int]) -> frozenset[int]:
    return frozenset(first for first, second in pairwise(sorted(values)) if first == second)


def _same_request(job: JobSpec, other: JobSpec) -> str:
    return (
        f"prompt '{job.prompt_id}' with {job.model} is the same request as prompt '{other.prompt_id}' ({other.where}); "
        "take one away, or use repeat: 2 to buy it twice"
    )


def _same_file(job: JobSpec, other: JobSpec) -> str:
    one = f"prompt '{other.prompt_id}' with {other.model} ({other.where})"
    two = f"prompt '{job.prompt_id}' with {job.model} ({job.where})"
    return f"gives the name '{job.stem}' to two jobs, {one} and {two}; add {{{{ key8 }}}} to it"
