"""A batch as jobs: prompts x variables x models x seeds x repeats, one at a time, each with the key that tells whether
it is already paid for."""

from __future__ import annotations

import hashlib
import itertools
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

from orbatch.batchfile.errors import Report
from orbatch.batchfile.loader import ModelCheck, check_defaults, check_models
from orbatch.batchfile.models import BatchConfig, ModelItem, PromptItem
from orbatch.batchfile.rows import read_prompts
from orbatch.batchfile.settings import INPUTS, OBSERVABILITY, kind_of, merge, request_fields
from orbatch.batchfile.templates import TemplateError, template
from orbatch.plan.filenames import model_slug, safe_stem, safe_value, take_name
from orbatch.plan.kinds import KINDS, AnyRequest, Kind
from orbatch_provider import InputError, check_sizes, hashed

KEY_TAG = "k1:"  # identifies the form of the hashed text, so that the form can change without mixing old and new keys
MAX_JOBS = 1_000_000
_KEPT = 100  # prepared settings that a model of the batch keeps
# Made once, because making an encoder costs more than encoding a job.
_ENCODE = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode
_ENCODE_SETTINGS = json.JSONEncoder(sort_keys=True, default=str).encode


@dataclass(frozen=True, slots=True)
class Job:
    """One job of a batch: one request, to be paid for once.

    ``position`` and ``repeat`` count from 1. ``stem`` is the path of the output below the output directory, with ``/``,
    without extension. A local input file is in ``request`` as its absolute path and in ``key`` by its content; ``body``
    is that of ``request``. ``settings``: its fields without model, prompt and seed, as JSON. ``line`` is the prompt's.
    """

    position: int
    key: str
    kind: str
    model: str
    prompt_id: str
    prompt: str
    variables: Mapping[str, Any]
    request: AnyRequest
    body: Mapping[str, Any]
    repeat: int
    stem: str
    settings: str
    line: int | None = None
    file: str = ""

    @property
    def where(self) -> str:
        """Where its prompt is, as ``file:line``."""
        return f"{self.file}:{self.line}" if self.line else self.file


def expand(config: BatchConfig) -> Iterator[Job]:
    """The jobs of a batch, in order; memory does not grow with the length of a prompt file.

    Problems are collected on the way and raised together as ConfigError after the last job, so jobs may be acted upon
    only when the iteration has come to its end.
    """
    report = Report(config.path)
    unique = _Uniqueness()
    for job in _without_doubles(config, report):
        unique.add(job)
        yield job
    unique.report_doubles(lambda: _without_doubles(config, Report(config.path)), config, report)
    report.raise_any()


def job_key(request: AnyRequest, repeat: int = 1, kind: str = "video") -> str:
    """The tagged hash of what is paid for: the request with the content of local files in place of their paths, without
    the fields that only observe, and the repeat index.

    Raises InputError when a local file is gone. The same request has the same key wherever it is in a batch.
    """
    body = request.body()
    return _key(kind, body | _by_content(body), repeat)


def _by_content(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs among request fields by their content. Raises InputError for one that cannot be submitted."""
    return {name: hashed(fields[name]) for name in INPUTS if name in fields}


def _key(kind: str, identity: Mapping[str, Any], repeat: int) -> str:
    paid_for = {name: value for name, value in identity.items() if name not in OBSERVABILITY}
    text = _ENCODE({"kind": kind, "repeat": repeat, "request": paid_for})
    return KEY_TAG + hashlib.sha256(text.encode()).hexdigest()


def models_by_kind(config: BatchConfig) -> dict[str, set[str]]:
    """The models that a batch has jobs for, by the kind of the jobs. Problems are left for ``expand`` to report."""
    report = Report(config.path)
    found: dict[str, set[str]] = {}
    # Rows of a file mostly repeat the same few kinds and models.
    for own, models in {(item.settings.get("kind"), item.models) for item in _items(config, report)}:
        for model in config.models:
            if models is None or model.model in models:
                kind = kind_of(config.defaults, model.settings, {"kind": own})
                found.setdefault(kind, set()).add(model.model)
    return found


def _items(config: BatchConfig, report: Report) -> Iterator[PromptItem]:
    yield from config.prompts
    if config.prompts_from is not None:
        yield from read_prompts(config.prompts_from, report, before=len(config.prompts))


def _without_doubles(config: BatchConfig, report: Report) -> Iterator[Job]:
    """The jobs as ``duplicates`` says: of equal requests all, for a problem; the first; or each as a repeat."""
    if config.duplicates == "refuse":
        yield from _jobs(config, report)
        return
    met: Counter[str] = Counter()
    for job in _jobs(config, report):
        met[job.key] += 1
        if met[job.key] > 1 and config.duplicates == "drop":
            continue
        yield job if met[job.key] == 1 else _repeated(job, job.repeat + config.repeat * (met[job.key] - 1))


def _repeated(job: Job, repeat: int) -> Job:
    """The same request once more, with a key and a file of its own."""
    key = job_key(job.request, repeat, job.kind)
    digest = key.removeprefix(KEY_TAG)
    return replace(job, key=key, repeat=repeat, stem=f"{job.stem}-r{repeat}-{digest[:8]}")


def _jobs(config: BatchConfig, report: Report) -> Iterator[Job]:
    # Made once for the batch: a prompt has no cost of its own but its jobs.
    targets = [_Target(config, model, report) for model in config.models]
    positions = itertools.count(1)
    known = dict.fromkeys(target.model for target in targets)
    job, kinds = None, set()
    for item in _items(config, report):
        if item.models is not None:
            check_models(item, known, report.about(item.file))
        wanted = [target for target in targets if item.models is None or target.model in item.models]
        before = report.count
        kinds |= {target.check.kind_with(item, report) for target in wanted}
        if report.count > before:
            continue  # its jobs would only repeat the problem
        try:
            for variables in item.combinations():
                prompt = item.render(variables)
                for target in wanted:
                    for job in target.jobs(item, prompt, variables, positions):
                        yield job
                        if job.position >= MAX_JOBS:
                            report.add(None, "", f"expands to {MAX_JOBS:,} jobs or more; split it into several batches")
                            return
        except (TemplateError, InputError) as error:
            report.about(item.file).add(item.line, f"{item.key}.prompt", str(error))
    if job is not None:
        check_defaults(config.defaults, config.default_lines, kinds, report)
    elif report.count == 0:
        report.add(None, "", "makes no job: no prompt goes with any of the models")


class _Prepared(NamedTuple):
    """Settings worked out once for all jobs that share them. ``by_content``: the inputs as they are in the key."""

    kind: Kind
    request: Callable[..., AnyRequest]
    by_content: dict[str, Any]
    settings: str
    seeds: tuple[int | None, ...]


class _Target:
    """A model of the batch with all that its jobs have in common."""

    def __init__(self, config: BatchConfig, item: ModelItem, report: Report) -> None:
        self.model = item.model
        self.check = ModelCheck(item, config.defaults, config.default_lines)
        self._config, self._item, self._report = config, item, report
        self._seeds: tuple[int | None, ...] = config.seeds or (None,)
        self._repeats = range(1, config.repeat + 1)
        self._slug = model_slug(item.model)
        self._render_name = template(config.filename)
        self._kept: dict[int, tuple[Mapping[str, Any], _Prepared]] = {}

    def jobs(
        self, item: PromptItem, prompt: str | None, variables: Mapping[str, Any], positions: Iterator[int]
    ) -> Iterator[Job]:
        """The jobs of one prompt with these variables: every seed, every repeat."""
        prepared = self._under(item.settings)
        kind = prepared.kind
        if prompt is None and (kind.needs_prompt or not prepared.by_content):
            raise TemplateError(f"is missing: give a text{'' if kind.needs_prompt else ', or an image to start from'}")
        names = {
            "name": self._config.name,
            "prompt_id": safe_value(item.id),
            "model": self._slug,
            "model_slug": self._slug,
            "kind": kind.name,
            # The prompt's variables go before.
            **{name: safe_value(value) if isinstance(value, str) else value for name, value in variables.items()},
        }
        several = [value for name, value in variables.items() if len(item.variables[name]) > 1]
        take = partial(take_name, names["prompt_id"], self.model, several)
        has_seeds, has_repeats = len(prepared.seeds) > 1, len(self._repeats) > 1
        for seed in prepared.seeds:
            request = prepared.request(prompt=prompt, seed=seed)
            body = request.body()
            identity = body | prepared.by_content
            for repeat in self._repeats:
                position = next(positions)
                key = _key(kind.name, identity, repeat)
                named = {"take": take(seed if has_seeds else None, repeat if has_repeats else None)} | names
                yield Job(
                    position=position,
                    key=key,
                    kind=kind.name,
                    model=self.model,
                    prompt_id=item.id,
                    prompt=prompt or "",
                    variables=variables,
                    request=request,
                    body=body,
                    repeat=repeat,
                    stem=self._stem(named, key, seed, repeat, position),
                    settings=prepared.settings,
                    line=item.line,
                    file=item.file,
                )

    def _under(self, own: Mapping[str, Any]) -> _Prepared:
        """What is prepared for a prompt's own settings. Rows of a file share theirs, so the same object is kept."""
        kept, prepared = self._kept.get(id(own), (None, None))
        # An id may be used again once its object is gone.
        if prepared is not None and kept is own:
            return prepared
        prepared = self._prepared(own)
        if len(self._kept) >= _KEPT:
            self._kept.clear()
        self._kept[id(own)] = (own, prepared)
        return prepared

    def _prepared(self, own: Mapping[str, Any]) -> _Prepared:
        kind = KINDS[kind_of(self._config.defaults, self._item.settings, own)]
        settings = merge(kind.name, self._config.defaults, self._item.settings, own)
        # A seed of its own, null included, replaces those of the batch.
        seeds = (settings.pop("seed"),) if "seed" in settings else self._seeds
        fields = request_fields(settings)
        check_sizes(fields)
        request = kind.requests_with(self.model, fields)
        return _Prepared(kind, request, _by_content(fields), _ENCODE_SETTINGS(fields), seeds)

    def _stem(self, shared: Mapping[str, Any], key: str, seed: int | None, repeat: int, position: int) -> str:
        digest = key.removeprefix(KEY_TAG)
        names = {"key": digest, "key8": digest[:8], "repeat": repeat, "index": position, "position": position, **shared}
        if seed is not None:
            names.setdefault("seed", seed)
        try:
            return safe_stem(self._render_name(names), digest[:8])
        except TemplateError as error:
            # The other problems are worth finding too, and no job is acted upon after one.
            self._report.add(self._config.filename_line, "filename", str(error))
            return digest


class _Uniqueness:
    """Keeps eight bytes for each value that must be unique. Only when some are equal, the jobs are made once more, to
    name those that clash."""

    def __init__(self) -> None:
        self._keys = array("q")
        self._stems = array("q")
        self._ids = array("q")
        self._prompt: tuple[str, str, int | None] | None = None

    def add(self, job: Job) -> None:
        self._keys.append(hash(job.key))
        # Some file systems take names that differ only in case for the same.
        self._stems.append(hash(job.stem.casefold()))
        prompt = (job.prompt_id, job.file, job.line)
        if prompt != self._prompt:  # the jobs of one prompt come one after another
            self._prompt = prompt
            self._ids.append(hash(job.prompt_id))

    def report_doubles(self, jobs: Callable[[], Iterable[Job]], config: BatchConfig, report: Report) -> None:
        """Report every job that is not unique, beside the one it clashes with."""
        keys, stems, ids = _doubles(self._keys), _doubles(self._stems), _doubles(self._ids)
        if not (keys or stems or ids):
            return
        first: dict[tuple[str, str], Job] = {}
        for job in jobs():
            about = report.about(job.file)
            if hash(job.prompt_id) in ids:
                other = first.setdefault(("id", job.prompt_id), job)
                if (other.file, other.line) != (job.file, job.line):
                    about.add(job.line, "id", f"'{job.prompt_id}' is also the id of another prompt ({other.where})")
            if hash(job.key) in keys:
                other = first.setdefault(("key", job.key), job)
                if other is not job:
                    same = (
                        f"prompt '{job.prompt_id}' with {job.model} is the same request as prompt '{other.prompt_id}'"
                    )
                    about.add(job.line, "", f"{same} ({other.where}); remove one, or use repeat: 2 to pay for it twice")
                    continue
            if hash(job.stem.casefold()) in stems:
                other = first.setdefault(("stem", job.stem.casefold()), job)
                if other is not job:
                    two = " and ".join(
                        f"prompt '{each.prompt_id}' with {each.model} ({each.where})" for each in (other, job)
                    )
                    message = f"gives the name '{job.stem}' to two jobs, {two}; add {{{{ key8 }}}} to it"
                    report.add(config.filename_line, "filename", message)


def _doubles(values: array[int]) -> frozenset[int]:
    return frozenset(first for first, second in pairwise(sorted(values)) if first == second)
