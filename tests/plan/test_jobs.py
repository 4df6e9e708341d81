"""A batch as jobs: how many, with which settings, under which key and name."""

from __future__ import annotations

import hashlib
import itertools
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orbatch.batchfile.errors import ConfigError
from orbatch.batchfile.loader import load_config
from orbatch.plan.jobs import Job, expand, job_key
from orbatch_provider import VideoRequest
from tests.images import painted
from tests.plan.conftest import Jobs

HEAD = "name: cats\nmodels: [alibaba/wan-2.6, google/veo-3.1-lite]\n"
A, G = "alibaba/wan-2.6", "google/veo-3.1-lite"
BASE = {"model": A, "prompt": "a", "duration": 5, "resolution": "720p", "generate_audio": False, "user": "me"}


def frames(job: Job) -> list[tuple[str, str]]:
    return [(f["frame_type"][:5], f["image_url"]["url"][-5]) for f in job.body.get("frame_images", ())]


@pytest.mark.parametrize(
    ("text", "of_job", "expected"),
    [
        pytest.param(
            HEAD + "prompts:\n  - a\n  - {id: b, prompt: 'b {{ x }} {{ y }}', vars: {x: [1, 2], y: [3, 4]}}\n",
            lambda job: (job.position, job.prompt_id, job.prompt, job.model),
            [
                *((1, "p1", "a", A), (2, "p1", "a", G), (3, "b", "b 1 3", A), (4, "b", "b 1 3", G)),
                *((5, "b", "b 1 4", A), (6, "b", "b 1 4", G), (7, "b", "b 2 3", A), (8, "b", "b 2 3", G)),
                *((9, "b", "b 2 4", A), (10, "b", "b 2 4", G)),
            ],
            id="every prompt meets every model, in the order of the file",
        ),
        pytest.param(
            """
name: cats
defaults: {duration: 5, resolution: 720p, generate_audio: false, user: me}
models: [alibaba/wan-2.6, {model: google/veo-3.1-lite, duration: 4, generate_audio: null}]
prompts: [a, {prompt: b, resolution: 1080p, duration: 8}]
""",
            lambda job: {"generate_audio": None} | job.body,
            [
                BASE,
                BASE | {"model": G, "duration": 4, "generate_audio": None},
                BASE | {"prompt": "b", "duration": 8, "resolution": "1080p"},
                BASE | {"model": G, "prompt": "b", "duration": 8, "resolution": "1080p", "generate_audio": None},
            ],
            id="the prompt goes before the model, and the model before the defaults",
        ),
        pytest.param(
            """
name: cats
defaults: {first_frame: https://a.b/1.png, last_frame: https://a.b/2.png}
models: [a/b]
prompts:
  - {id: same}
  - {id: first, first_frame: https://a.b/3.png}
  - {id: api, frame_images: [{type: image_url, image_url: {url: https://a.b/4.png}, frame_type: last_frame}]}
  - {id: none, prompt: x, frame_images: null}
""",
            lambda job: (job.prompt, job.request.prompt, frames(job)),
            [
                ("", None, [("first", "1"), ("last_", "2")]),
                ("", None, [("first", "3"), ("last_", "2")]),
                ("", None, [("last_", "4")]),
                ("x", "x", []),
            ],
            id="one way to give a frame replaces another of a lower level",
        ),
        pytest.param(
            """
name: cats
seeds: [1, 2]
models: [alibaba/wan-2.6, {model: google/veo-3.1-lite, seed: null}]
prompts: [a, {prompt: b, seed: 7}]
""",
            lambda job: (job.prompt, job.model, job.request.seed),
            [("a", A, 1), ("a", A, 2), ("a", G, None), ("b", A, 7), ("b", G, 7)],
            id="seeds multiply the jobs that have no seed of their own",
        ),
        pytest.param(
            HEAD + "prompts: [{prompt: b, models: openrouter/google/veo-3.1-lite}, a]\nrepeat: 2\n",
            lambda job: (job.prompt, job.model, job.repeat),
            [("b", G, 1), ("b", G, 2), ("a", A, 1), ("a", A, 2), ("a", G, 1), ("a", G, 2)],
            id="repeats, and a prompt for some models only",
        ),
    ],
)
def test_a_batch_expands_to_its_jobs(jobs: Jobs, text: str, of_job: Callable[[Job], Any], expected: list[Any]) -> None:
    found = jobs(text)
    assert [of_job(job) for job in found] == expected
    assert len({job.key for job in found}) == len({job.stem for job in found}) == len(found)
    assert all(job.body == job.request.body() for job in found)


def test_a_job_knows_its_variables_and_its_place(jobs: Jobs) -> None:
    [_, job] = jobs("name: a\nmodels: [a/b]\nprompts:\n  - {prompt: '{{ x }}', vars: {x: [1, 2]}}\n")
    assert (job.variables, job.line, job.where.rsplit("/", 1)[-1]) == ({"x": 2}, 4, "b.yaml:4")


def test_the_key_is_a_tagged_hash_of_the_request_and_the_repeat() -> None:
    request = VideoRequest("openrouter/alibaba/wan-2.6", "a cat", duration=5)
    text = '{"kind":"video","repeat":1,"request":{"duration":5,"model":"alibaba/wan-2.6","prompt":"a cat"}}'
    assert job_key(request) == "k1:" + hashlib.sha256(text.encode()).hexdigest()
    assert job_key(request, repeat=2) != job_key(request)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("prompts: [a, b]", "prompts: [b, a]", id="reordering"),
        pytest.param("prompts: [{id: x, prompt: a}]", "prompts: [{id: y, prompt: a}]", id="renaming"),
        pytest.param("prompts: [a]", "prompts: ['{{ x }}']", id="another way to write it"),
        pytest.param("prompts: [a]", "prompts: [{prompt: a, user: me, trace: {x: 1}}]", id="observability"),
        pytest.param("prompts: [a]", "prompts: [a]\nfilename: '{{ key }}'\noutput_dir: else", id="file names"),
    ],
)
def test_what_buys_nothing_new_keeps_the_keys(jobs: Jobs, before: str, after: str) -> None:
    after = after.replace("'{{ x }}'", "{prompt: '{{ x }}', vars: {x: a}}")
    assert {job.key for job in jobs(HEAD + before + "\n")} == {job.key for job in jobs(HEAD + after + "\n")}


@pytest.mark.parametrize("change", ["prompt: b", "duration: 6", "seed: 1", "provider: {options: {x: {y: 1}}}"])
def test_what_buys_something_else_changes_the_key(jobs: Jobs, change: str) -> None:
    field = f"{{{change}}}" if change.startswith("prompt") else f"{{prompt: a, {change}}}"
    before = {job.key for job in jobs(HEAD + "prompts: [a]\n")}
    assert not before & {job.key for job in jobs(HEAD + f"prompts: [{field}]\n")}


def test_a_local_picture_counts_by_its_content_not_by_its_path(jobs: Jobs, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(painted("red"))
    (tmp_path / "b.dat").write_bytes(painted("red"))
    text = "name: a\nmodels: [a/b]\nprompts: [{prompt: x, first_frame: a.png}]\n"
    [first], [moved] = jobs(text), jobs(text.replace("a.png", "./b.dat"))
    (tmp_path / "b.dat").write_bytes(painted("blue"))
    [changed] = jobs(text.replace("a.png", "b.dat"))
    assert first.key == moved.key != changed.key
    assert changed.key == job_key(changed.request)
    assert first.body["frame_images"][0]["image_url"]["url"] == str(tmp_path / "a.png")


def test_the_names_of_files_come_from_the_template(jobs: Jobs) -> None:
    found = jobs(
        """
name: cats
filename: "{{ name }}/{{ prompt_id }}/{{ color }}_{{ model_slug }}_{{ seed }}_{{ repeat }}_{{ index }}_{{ key8 }}"
models: [openrouter/alibaba/wan-2.6]
prompts: [{id: a/../b, prompt: "{{ color }}", vars: {color: ["../red", "a\\\\b"]}, seed: 3}]
"""
    )
    assert [job.stem for job in found] == [
        f"cats/a-..-b/red_alibaba-wan-2.6_3_1_1_{found[0].key[3:11]}",
        f"cats/a-..-b/a-b_alibaba-wan-2.6_3_1_2_{found[1].key[3:11]}",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param(
            "models: [a/b]\nprompts:\n  - x\n  - {id: again, prompt: x}",
            r"b\.yaml:5: prompt 'again' with a/b is the same request as prompt 'p1' \(.*b\.yaml:4\); "
            "remove one, or use repeat: 2 to pay for it twice",
            id="the same request twice",
        ),
        pytest.param(
            "filename: '{{ prompt_id }}'\nmodels: [a/b]\nprompts: [{id: B, prompt: x}, {id: b, prompt: y}]",
            r"b\.yaml:2: filename: gives the name 'b' to two jobs, prompt 'B' .* prompt 'b' ",
            id="one file name for two jobs, whatever its case",
        ),
        pytest.param(
            "filename: '{{ x }}-{{ key8 }}'\nmodels: [a/b]\nprompts: [{prompt: y, vars: {x: 1}}, z]",
            r"filename: for prompt 'p2': uses \{\{ x \}\}",
            id="a variable in the file name that only some prompts have",
        ),
    ],
)
def test_jobs_that_cannot_be_told_apart_are_refused_and_named(jobs: Jobs, text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        jobs(f"name: a\n{text}\n")


def test_a_batch_larger_than_a_million_jobs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orbatch.plan.jobs.MAX_JOBS", 10)
    path = tmp_path / "b.yaml"
    path.write_text(f"name: a\nmodels: [a/b]\nprompts: [x]\nseeds: {list(range(1000))}\nrepeat: 1000\n")
    with pytest.raises(ConfigError, match="expands to 10 jobs or more"):
        list(expand(load_config(path)))


def test_expansion_is_lazy_and_needs_no_memory_for_the_rows_behind(tmp_path: Path) -> None:
    """What is kept for each of 20,000 jobs is a few bytes, far less than a job."""
    with (tmp_path / "rows.jsonl").open("w") as file:
        file.writelines(json.dumps({"prompt": f"cat {at}", "color": "red"}) + "\n" for at in range(20_000))
    (tmp_path / "b.yaml").write_text("name: a\nmodels: [a/b]\nprompts_from: rows.jsonl\n")
    jobs = expand(load_config(tmp_path / "b.yaml"))
    next(jobs)
    tracemalloc.start()
    try:
        assert sum(1 for _ in itertools.islice(jobs, 19_000)) == 19_000
        kept, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 100 * 19_000
