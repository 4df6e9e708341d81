"""The schema, the reference and the examples say what the rules check."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from orbatch.batchfile.loader import load_config
from orbatch.batchfile.reference import config_schema, reference
from orbatch.plan.catalogs import Catalogs
from orbatch.plan.estimate import price_jobs
from orbatch.plan.jobs import expand
from orbatch_provider.catalog import snapshot
from orbatch_provider.requests import VideoRequest
from orbatch_simulator.images import image_examples
from orbatch_simulator.text import text_examples

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "configs").glob("*.yaml"))
OFFERS = Catalogs({"video": snapshot(), "image": image_examples(), "text": text_examples()})
STARTER = Path(str(files("orbatch").joinpath("starter.yaml")))


def test_the_schema_beside_the_examples_is_the_one_that_is_printed() -> None:
    committed = json.loads((ROOT / "configs" / "orbatch.schema.json").read_text("utf-8"))
    assert committed == config_schema(), "write it anew: orbatch schema > configs/orbatch.schema.json"


def test_every_key_of_the_schema_is_described_and_every_reference_leads_somewhere() -> None:
    schema = config_schema()

    def walk(part: Any) -> None:
        for child in part if isinstance(part, list) else part.values() if isinstance(part, dict) else ():
            walk(child)
        if isinstance(part, dict) and isinstance(part.get("$ref"), str):
            target: Any = schema
            for name in part["$ref"].removeprefix("#/").split("/"):
                target = target[name]

    walk(schema)
    sections = [each for name, each in schema["$defs"].items() if re.search("Config|Limits|Settings|Entry", name)]
    assert len(sections) == 10
    for section in [schema, *sections]:
        assert [
            key for key, described in section["properties"].items() if not described.keys() & {"description", "$ref"}
        ] == []
        assert section["additionalProperties"] is False
    assert set(schema["required"]) == {"name", "models"}


def test_the_reference_in_the_docs_is_up_to_date() -> None:
    document = (ROOT / "docs" / "batch-file.md").read_text("utf-8")
    begin, end = document.index("<!-- reference: begin"), document.index("<!-- reference: end")
    assert document[begin:end].split("-->\n", 1)[1].strip() == reference()


def test_there_are_examples() -> None:
    names = "cats comparison from-csv image-comparison image-to-video mixed text"
    assert [path.stem for path in EXAMPLES] == names.split()


@pytest.mark.parametrize("path", [*EXAMPLES, STARTER], ids=lambda path: path.name)
def test_each_example_asks_only_for_what_its_models_offer_and_leaves_nothing_to_chance(path: Path) -> None:
    assert path.read_text("utf-8").startswith("# yaml-language-server: $schema=./orbatch.schema.json\n")  # for editors
    config = load_config(path)
    jobs = list(price_jobs(expand(config), OFFERS))
    assert jobs
    assert [(job.spec.model, job.problems, job.unset) for job in jobs if job.problems or job.unset] == []
    assert config.budget.total_usd is not None
    assert sum(job.estimate.high or config.budget.total_usd for job in jobs) <= config.budget.total_usd
    for request in [job.spec.request for job in jobs if isinstance(job.spec.request, VideoRequest)]:
        model = snapshot().find(request.model)
        assert model is not None
        assert None not in (request.duration, request.resolution, request.aspect_ratio)
        # The API refuses the field at models without the capability, and takes the dearer way at those with it.
        assert (request.generate_audio is not None) == (model.generate_audio is not None)


@pytest.mark.parametrize(("number", "kinds"), [(1, ["video"] * 6), (2, ["video", "image", "text"])])
def test_an_example_in_the_docs_makes_the_jobs_it_says(number: int, kinds: list[str], tmp_path: Path) -> None:
    document = (ROOT / "docs" / "batch-file.md").read_text("utf-8")
    path = tmp_path / "batch.yaml"
    path.write_text(document.split("```yaml\n")[number].split("```", 1)[0], "utf-8")
    jobs = list(price_jobs(expand(load_config(path)), OFFERS))
    assert [job.spec.kind for job in jobs] == kinds
    assert not any(job.problems for job in jobs)
    assert "These are six jobs" in document
