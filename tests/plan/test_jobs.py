"""A batch as jobs: how many, with which settings, under which key and name."""

from __future__ import annotations

import hashlib
import itertools
import json
import tracemalloc
from pathlib import Path

import pytest

from orbatch.batchfile.errors import ConfigError
from orbatch.batchfile.loader import load_config
from orbatch.plan.jobs import Job, expand, job_key
from orbatch_provider.requests import VideoRequest
from tests.pictures import picture
from tests.plan.conftest import Jobs

HEAD = "name: cats\nmodels: [alibaba/wan-2.6, google/veo-3.1-lite]\n"


def video(job: Job) -> VideoRequest:
    """The job's request, which is for a video."""
    assert isinstance(job.request, VideoRequest)
    return job.request


def test_every_prompt_meets_every_model_in_the_order_of_the_file(jobs: Jobs) -> None:
    found = jobs(HEAD + "prompts:\n  - a\n  - {id: b, prompt: 'b {{ x }} {{ y }}', vars: {x: [1, 2], y: [3, 4]}}\n")
    assert [(job.position, job.prompt_id, job.prompt, job.model.split("/")[0]) for job in found] == [
        (1, "p1", "a", "alibaba"),
        (2, "p1", "a", "google"),
        (3, "b", "b 1 3", "alibaba"),
        (4, "b", "b 1 3", "google"),
        (5, "b", "b 1 4", "alibaba"),
        (6, "b", "b 1 4", "google"),
        (7, "b", "b 2 3", "alibaba"),
        (8, "b", "b 2 3", "google"),
        (9, "b", "b 2 4", "alibaba"),
        (10, "b", "b 2 4", "google"),
    ]
    assert found[4].variables == {"x": 1, "y": 4}
    assert (found[4].line, found[4].where.rsplit("/", 1)[-1]) == (5, "b.yaml:5")


def test_the_prompt_goes_before_the_model_and_the_model_before_the_defaults(jobs: Jobs) -> None:
    found = jobs(
        """
name: cats
defaults: {duration: 5, resolution: 720p, generate_audio: false, user: me}
models: [alibaba/wan-2.6, {model: google/veo-3.1-lite, duration: 4, generate_audio: null}]
prompts: [a, {prompt: b, resolution: 1080p, duration: 8}]
"""
    )
    assert [job.request.body() for job in found] == [
        {
            "model": "alibaba/wan-2.6",
            "prompt": "a",
            "duration": 5,
            "resolution": "720p",
            "generate_audio": False,
            "user": "me",
        },
        {"model": "google/veo-3.1-lite", "prompt": "a", "duration": 4, "resolution": "720p", "user": "me"},
        {
            "model": "alibaba/wan-2.6",
            "prompt": "b",
            "duration": 8,
            "resolution": "1080p",
            "generate_audio": False,
            "user": "me",
        },
        {"model": "google/veo-3.1-lite", "prompt": "b", "duration": 8, "resolution": "1080p", "user": "me"},
    ]


def test_one_way_to_give_a_frame_replaces_another_of_a_lower_level(jobs: Jobs) -> None:
    found = jobs(
        """
name: cats
defaults: {first_frame: https://a.b/1.png, last_frame: https://a.b/2.png}
models: [a/b]
prompts:
  - {id: same}
  - {id: first, first_frame: https://a.b/3.png}
  - {id: api, frame_images: [{type: image_url, image_url: {url: https://a.b/4.png}, frame_type: last_frame}]}
  - {id: none, prompt: x, frame_images: null}
"""
    )
    frames = [
        [(f["frame_type"][:5], f["image_url"]["url"][-5]) for f in video(job).frame_images or ()] for job in found
    ]
    assert frames == [[("first", "1"), ("last_", "2")], [("first", "3"), ("last_", "2")], [("last_", "4")], []]
    assert found[0].request.prompt is None
    assert found[0].prompt == ""


def test_seeds_multiply_the_jobs_that_have_no_seed_of_their_own(jobs: Jobs) -> None:
    found = jobs(
        """
name: cats
seeds: [1, 2]
models: [alibaba/wan-2.6, {model: google/veo-3.1-lite, seed: null}]
prompts: [a, {prompt: b, seed: 7}]
"""
    )
    assert [(job.prompt, job.model[:3], job.request.seed) for job in found] == [
        ("a", "ali", 1),
        ("a", "ali", 2),
        ("a", "goo", None),
        ("b", "ali", 7),
        ("b", "goo", 7),
    ]


def test_repeats_are_jobs_of_their_own(jobs: Jobs) -> None:
    found = jobs("name: a\nmodels: [a/b]\nprompts: [x]\nrepeat: 3\n")
    assert [job.repeat for job in found] == [1, 2, 3]
    assert len({job.key for job in found}) == len({job.stem for job in found}) == 3


def test_a_prompt_can_be_for_some_models_only(jobs: Jobs) -> None:
    found = jobs(HEAD + "prompts: [a, {prompt: b, models: openrouter/google/veo-3.1-lite}]\n")
    assert [(job.prompt, job.model) for job in found][2:] == [("b", "google/veo-3.1-lite")]


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
    (tmp_path / "a.png").write_bytes(picture("red"))
    (tmp_path / "b.dat").write_bytes(picture("red"))
    first = jobs("name: a\nmodels: [a/b]\nprompts: [{prompt: x, first_frame: a.png}]\n")[0]
    moved = jobs("name: a\nmodels: [a/b]\nprompts: [{prompt: x, first_frame: ./b.dat}]\n")[0]
    (tmp_path / "b.dat").write_bytes(picture("blue"))
    changed = jobs("name: a\nmodels: [a/b]\nprompts: [{prompt: x, first_frame: b.dat}]\n")[0]
    assert first.key == moved.key != changed.key
    assert changed.key == job_key(changed.request)
    frames = video(first).frame_images
    assert frames is not None
    assert frames[0]["image_url"]["url"] == str(tmp_path / "a.png")


def test_the_same_request_twice_is_refused_and_both_are_named(jobs: Jobs) -> None:
    with pytest.raises(
        ConfigError, match=r"b\.yaml:5: prompt 'again' with a/b is the same request as prompt 'p1' "
    ) as caught:
        jobs("name: a\nmodels: [a/b]\nprompts:\n  - x\n  - {id: again, prompt: x}\n")
    assert "b.yaml:4); remove one, or use repeat: 2 to pay for it twice" in str(caught.value)


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


def test_one_name_for_two_jobs_is_refused_whatever_its_case(jobs: Jobs) -> None:
    with pytest.raises(
        ConfigError, match=r"b\.yaml:2: filename: gives the name 'b' to two jobs, prompt 'B' .* prompt 'b' "
    ):
        jobs("name: a\nfilename: '{{ prompt_id }}'\nmodels: [a/b]\nprompts: [{id: B, prompt: x}, {id: b, prompt: y}]\n")


def test_a_variable_that_only_some_prompts_have_is_missed_in_the_file_name(jobs: Jobs) -> None:
    with pytest.raises(ConfigError, match=r"filename: for prompt 'p2': uses \{\{ x \}\}"):
        jobs("name: a\nfilename: '{{ x }}-{{ key8 }}'\nmodels: [a/b]\nprompts: [{prompt: y, vars: {x: 1}}, z]\n")


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
