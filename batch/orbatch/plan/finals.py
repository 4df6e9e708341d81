"""What was picked as the prompts of another batch: a batch file of finals, and ``from: {batch, picked}`` in one."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import yaml

from orbatch.batchfile.errors import ConfigError, Report
from orbatch.batchfile.loader import load_config
from orbatch.batchfile.models import PROMPT, BatchConfig, PromptItem
from orbatch.ledger import ExportedJob, Ledger
from orbatch.plan.catalogs import Catalogs
from orbatch.plan.estimate import price_jobs
from orbatch.plan.jobs import expand, models_by_kind
from orbatch_provider import VideoModel, VideoRequest, estimate_video
from orbatch_provider.pricing import Hints


@dataclass(frozen=True, slots=True)
class Final:
    """A prompt to render again. ``settings``: seed, inputs and all else of its request but the model; ``sources``: the
    jobs that were picked, each with its model."""

    id: str
    prompt: str
    settings: dict[str, Any]
    sources: list[str]


def picked_jobs(ledger: Ledger, batch_id: int) -> list[ExportedJob]:
    """The jobs that somebody has picked, in the order of the batch file."""
    reviews = ledger.reviews.of_batch(batch_id)
    exported = ledger.reports.exported_jobs(batch_id)
    return [job for job in exported if job.job_id in reviews and reviews[job.job_id].is_picked]


def finals(jobs: Sequence[ExportedJob]) -> list[Final]:
    """One for each request that was picked, on however many models; ids are made distinct."""
    made: dict[str, Final] = {}
    used: set[str] = set()
    for job in jobs:
        settings = {key: value for key, value in job.request.items() if key not in ("model", "prompt", "messages")}
        settings |= {"kind": job.kind} if job.kind != "video" else {}
        same = json.dumps([job.prompt, settings], sort_keys=True, default=str)
        if same not in made:
            id_ = next(text for text in _numbered(job.prompt_id) if text not in used)
            used.add(id_)
            made[same] = Final(id_, job.prompt, settings, [])
        made[same].sources.append(f"{job.job_id} {job.model}")
    return list(made.values())


def finals_file(name: str, chosen: Sequence[Final], model: str, settings: dict[str, Any]) -> str:
    """The text of a batch file. What all have in common is in its defaults; each says which jobs it comes from."""
    wanted = [final.settings | settings for final in chosen]
    common = {key: value for key, value in wanted[0].items() if all(own.get(key) == value for own in wanted)}
    common.pop("seed", None)
    lines = []
    for final, own in zip(chosen, wanted, strict=True):
        rest = {key: value for key, value in own.items() if key not in common}
        item = {"id": final.id, "prompt": final.prompt, "template": False, **rest}
        lines += [f"  # picked: {', '.join(final.sources)}", *(f"  {line}" for line in _yaml([item]).splitlines())]
    head = {"name": f"{name}-finals", "defaults": common, "models": [model]}
    return "\n".join([f"{_yaml(head)}prompts:", *lines, ""])


@dataclass(frozen=True, slots=True)
class Upscaling:
    """A batch file that enlarges clips, and what that costs together, in USD."""

    text: str
    low_usd: Decimal
    high_usd: Decimal


def upscaling(
    name: str, output_dir: Path, jobs: Sequence[ExportedJob], model: VideoModel, factor: float, urls: str
) -> Upscaling:
    """Enlarge ``jobs``, videos of known length. ``urls``: an https folder with the files of ``output_dir``.

    The price follows from size and length of each clip, which no request contains; so the file reserves that of the
    most expensive one for each, and caps the sum.
    """
    prompts: list[dict[str, Any]] = []
    low, highs = Decimal(0), [Decimal(0)]
    for job in jobs:
        clip = job.outputs[0]
        url = f"{urls.rstrip('/')}/{quote(os.path.relpath(clip.path, output_dir))}"
        source = [{"type": "video_url", "video_url": {"url": url}}]
        request = VideoRequest(model.id, job.prompt, input_references=source, upscale_factor=factor)
        seconds = Decimal(str(clip.seconds))
        price = estimate_video(request, model, Hints(seconds, clip.width, clip.height))
        low += price.low or Decimal(0)
        highs.append(price.high or Decimal(0))
        entry = {"id": f"{job.prompt_id}-{len(prompts) + 1}", "prompt": job.prompt, "template": False}
        prompts.append(entry | {"references": [url]})
    reserved = max(highs).quantize(Decimal("0.01"), ROUND_CEILING)
    head = {
        "name": f"{name}-upscaled",
        "defaults": {"upscale_factor": factor},
        "budget": {"unpriced": float(reserved), "total_usd": float(reserved * len(prompts))},
        "models": [model.id],
        "prompts": prompts,
    }
    return Upscaling(_yaml(head), low, sum(highs, Decimal(0)))


@dataclass(frozen=True, slots=True)
class Offer:
    """A batch file that is not written yet, and what it would cost: USD at most, None where no upper price is known."""

    text: str
    jobs: int
    high_usd: Decimal | None
    problems: list[str]


LoadCatalogs = Callable[[Mapping[str, Collection[str] | None]], Awaitable[Catalogs]]


async def offer_finals(text: str, load: LoadCatalogs) -> Offer:
    """Check and price the jobs of a batch file, given as its text. ``load``: the catalogs of these models by kind.

    Raises OpenRouterError where there is no price list.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "finals.yaml"
        path.write_text(text, "utf-8")
        try:
            config = load_config(path)
            priced = list(price_jobs(expand(config), await load({"video": (), **models_by_kind(config)})))
        except ConfigError as exc:
            return Offer(text, 0, None, [f"{problem.key}: {problem.message}" for problem in exc.problems])
    problems = dict.fromkeys(str(problem) for job in priced for problem in job.problems)
    highs = [job.estimate.high for job in priced]
    known = [high for high in highs if high is not None]
    return Offer(text, len(priced), sum(known, Decimal(0)) if len(known) == len(highs) else None, list(problems))


def with_picks(ledger: Ledger, config: BatchConfig) -> BatchConfig:
    """The batch with what is picked now as its prompts, where its file has ``from``; else as it is.

    What the file says in ``defaults`` or beside a model is not taken from a pick. Raises ConfigError for a batch that
    is unknown, or of which nothing is picked.
    """
    if config.picks_of is None:
        return config
    report = Report(config.path)
    line, name = config.picks_of.line, config.picks_of.batch
    batch = ledger.plans.find(name)
    if batch is None:
        known = ", ".join(each.name for each in ledger.plans.batches()) or "none"
        report.add(line, "from.batch", f"the ledger has no batch {name}; it has: {known}")
        report.raise_any()
        raise AssertionError  # there is a problem
    chosen = finals(picked_jobs(ledger, batch.id))
    if not chosen:
        report.add(line, "from.picked", f"nothing of {name} is picked; `orbatch view {name}` is where to pick")
    report.raise_any()
    said = {*config.defaults, *(setting for model in config.models for setting in model.settings)}
    prompts = []
    for final in chosen:
        own = {key: value for key, value in final.settings.items() if key not in said}
        entry = PROMPT.validate_python({"id": final.id, "prompt": final.prompt, "template": False, **own}, context=None)
        prompts.append(PromptItem.of(entry, final.id, line, "from", report.file))
    return replace(config, prompts=tuple(prompts))


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1


def _yaml(value: Any) -> str:
    return str(yaml.safe_dump(value, allow_unicode=True, sort_keys=False, width=1000))
