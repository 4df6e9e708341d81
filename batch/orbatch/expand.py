"""A batch as jobs: prompts x variables x models x seeds x repeats, one at a time, each with the key that tells
whether it was bought before."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from orbatch.batchfile.fields import DEFAULT_KIND, OBSERVABILITY, REQUESTS, Body, body_of
from orbatch.batchfile.items import check_models, rendered
from orbatch.batchfile.problems import Report
from orbatch.config import BatchConfig, ModelItem, PromptItem
from orbatch.filenames import model_slug, safe_stem, safe_value
from orbatch.inputs import InputError, content_hash, with_urls
from orbatch.jobspec import KEY_TAG, JobSpec
from orbatch.promptfiles import read_prompts
from orbatch.templates import TemplateError, template
from orbatch.uniqueness import Uniqueness
from orbatch_provider.requests import VideoRequest

MAX_JOBS = 1_000_000

__all__ = ["JobSpec", "expand", "job_key"]

_ENCODE = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def expand(config: BatchConfig) -> Iterator[JobSpec]:
    """The jobs of a batch, in order; memory does not grow with the length of a prompt file.

    Problems are collected on the way and raised together as ConfigError after the last job, so jobs may be acted upon
    only when the iteration has come to its end.
    """
    report = Report(config.file, config.path.parent)
    unique = Uniqueness()
    for job in _jobs(config, report):
        unique.add(job)
        yield job
    unique.report_doubles(lambda: _jobs(config, Report(config.file, config.path.parent)), config, report)
    report.raise_any()


def job_key(request: VideoRequest, repeat: int = 1, kind: str = "video") -> str:
    """The tagged hash of what is bought: the request with the content of local files in place of their paths, without
    the fields that only observe, and the repeat index.

    Raises InputError when a local file is gone. The same request has the same key wherever it stands in a batch.
    """
    return _key(kind, _identity(request.body()), repeat)


def _identity(body: Mapping[str, Any]) -> dict[str, Any]:
    identity = {name: value for name, value in body.items() if name not in OBSERVABILITY}
    for name in ("frame_images", "input_references"):
        if name in identity:
            identity[name] = with_urls(identity[name], content_hash)
    return identity


def _key(kind: str, identity: Mapping[str, Any], repeat: int) -> str:
    text = _ENCODE({"kind": kind, "repeat": repeat, "request": identity})
    return KEY_TAG + hashlib.sha256(text.encode()).hexdigest()


def _jobs(config: BatchConfig, report: Report) -> Iterator[JobSpec]:
    naming = _Naming(config, report)
    try:
        targets = [_Target(config, model, naming) for model in config.models]
    except InputError as error:
        report.add(None, "models", str(error))
        return
    positions = itertools.count(1)
    known = dict.fromkeys(target.model for target in targets)
    job = None
    for item in _items(config, report):
        if item.models is not None:
            check_models(item, known, report.about(item.file, report.base))
        wanted = [target for target in targets if item.models is None or target.model in item.models]
        try:
            for variables in item.combinations():
                prompt = rendered(item, variables)
                for target in wanted:
                    for job in target.jobs(item, prompt, variables, positions):
                        yield job
                        if job.position >= MAX_JOBS:
                            report.add(None, "", f"expands to {MAX_JOBS:,} jobs or more; split it into several batches")
                            return
        except (TemplateError, InputError) as error:
            report.about(item.file, report.base).add(item.line, f"{item.key}.prompt", str(error))
    if job is None and report.count == 0:
        report.add(None, "", "makes no job: no prompt goes with any of the models")


def _items(config: BatchConfig, report: Report) -> Iterator[PromptItem]:
    yield from config.prompts
    if config.prompts_from is not None:
        yield from read_prompts(config.prompts_from, report, before=len(config.prompts))


_Prepared = tuple[str, Body, dict[str, Any], tuple[int | None, ...]]
_KEPT = 100  # prepared settings that a model keeps


class _Target:
    """A model of the batch with all that its jobs have in common."""

    def __init__(self, config: BatchConfig, item: ModelItem, naming: _Naming) -> None:
        self.model = item.model
        self._seeds: tuple[int | None, ...] = config.seeds or (None,)
        self._repeats = range(1, config.repeat + 1)
        self._naming = naming
        self._slug = model_slug(item.model)
        self._settings = {**config.defaults, **item.settings}
        self._plain = self._prepared({})
        self._kept: dict[int, tuple[Mapping[str, Any], _Prepared]] = {}

    def jobs(
        self, item: PromptItem, prompt: str | None, variables: Mapping[str, Any], positions: Iterator[int]
    ) -> Iterator[JobSpec]:
        """The jobs of one prompt with these variables: every seed, every repeat."""
        kind, body, identity, seeds = self._under(item.settings)
        if prompt is None and not body.has_input:
            raise TemplateError("is missing: give a text, or a picture to start from")
        names = self._naming.shared(item.id, self._slug, kind, variables)
        for seed in seeds:
            request = REQUESTS[kind](self.model, prompt, seed, body)
            given = {"model": self.model, "prompt": prompt, "seed": seed}
            bought = identity | {name: value for name, value in given.items() if value is not None}
            for repeat in self._repeats:
                position = next(positions)
                key = _key(kind, bought, repeat)
                yield JobSpec(
                    position=position,
                    key=key,
                    kind=kind,
                    model=self.model,
                    prompt_id=item.id,
                    prompt=prompt or "",
                    variables=variables,
                    request=request,
                    repeat=repeat,
                    stem=self._naming.stem(names, key, seed, repeat, position),
                    line=item.line,
                    file=item.file,
                )

    def _under(self, own: Mapping[str, Any]) -> _Prepared:
        """What was prepared for a prompt's own settings. Rows of a file share theirs, so the same object is kept."""
        if not own:
            return self._plain
        kept, prepared = self._kept.get(id(own), (None, None))
        if kept is own and prepared is not None:
            return prepared
        prepared = self._prepared(own)
        if len(self._kept) >= _KEPT:
            self._kept.clear()
        self._kept[id(own)] = (own, prepared)
        return prepared

    def _prepared(self, own: Mapping[str, Any]) -> _Prepared:
        """Kind, body, the part of the body that makes the key, and seeds, under a prompt's own settings."""
        settings = {**self._settings, **own}
        seeds = (settings.pop("seed"),) if "seed" in settings else self._seeds
        body = body_of(settings)
        return settings.get("kind") or DEFAULT_KIND, body, _identity(body.as_json()), seeds


class _Naming:
    """Renders the file name template."""

    def __init__(self, config: BatchConfig, report: Report) -> None:
        self._render = template(config.filename)
        self._batch = config.name
        self._line = config.filename_line
        self._report = report

    def shared(self, prompt_id: str, slug: str, kind: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The names that do not change between the jobs of one prompt and model; the prompt's variables go before."""
        return {
            "name": self._batch,
            "prompt_id": safe_value(prompt_id),
            "model": slug,
            "model_slug": slug,
            "kind": kind,
            **{name: safe_value(value) if isinstance(value, str) else value for name, value in variables.items()},
        }

    def stem(self, shared: Mapping[str, Any], key: str, seed: int | None, repeat: int, position: int) -> str:
        digest = key.removeprefix(KEY_TAG)
        names = {"key": digest, "key8": digest[:8], "repeat": repeat, "index": position, "position": position, **shared}
        if seed is not None:
            names.setdefault("seed", seed)
        try:
            return safe_stem(self._render(names), digest[:8])
        except TemplateError as error:
            # The other problems are worth finding too, and no job is acted upon after one.
            self._report.add(self._line, "filename", str(error))
            return digest
