"""Prompts from files: every format, which rows are taken, and what is said about bad ones."""

from __future__ import annotations

import csv
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orbatch.batchfile.errors import ConfigError, Report
from orbatch.batchfile.loader import load_config
from orbatch.batchfile.rows import read_prompts
from orbatch.plan.jobs import Job, expand
from orbatch_provider.requests import VideoRequest
from tests.images import painted

Jobs = Callable[..., list[Job]]


def video(job: Job) -> VideoRequest:
    """The job's request, which is for a video."""
    assert isinstance(job.request, VideoRequest)
    return job.request


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    """Jobs of a batch with one model whose prompts come from a file with this content."""

    def of(name: str, content: str | bytes, options: str = "", more: str = "") -> list[Job]:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        source = f"{{file: {name}, {options}}}" if options else name
        (tmp_path / "b.yaml").write_text(f"name: x\nmodels: [a/b, a/c]\nprompts_from: {source}\n{more}", "utf-8")
        return [job for job in expand(load_config(tmp_path / "b.yaml")) if job.model == "a/b"]

    return of


def problems(jobs: Jobs, *arguments: Any, **options: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        jobs(*arguments, **options)
    return [f"{Path(each.file).name}:{each.line}: {each.key}: {each.message}" for each in caught.value.problems]


FORMATS: dict[str, Any] = {
    "csv": ("p.csv", 'prompt,duration\nA cat,5\n"A dog,\nrunning",6\n'),
    "csv with semicolons": ("p.csv", 'prompt;duration\nA cat;5\n"A dog,\nrunning";6\n'),
    "csv of a spreadsheet": ("p.csv", '\ufeffPrompt,Duration\r\nA cat,5\r\n\r\n"A dog,\nrunning",6\r\n'),
    "tsv": ("p.tsv", 'text\tduration\nA cat\t5\n"A dog,\nrunning"\t6\n'),
    "jsonl": ("p.jsonl", '{"prompt": "A cat", "duration": 5}\n\n{"text": "A dog,\\nrunning", "duration": 6}\n'),
    "yaml": ("p.yaml", '- {prompt: A cat, duration: 5}\n- {prompt: "A dog,\\nrunning", duration: 6}\n'),
}


@pytest.mark.parametrize(("name", "content"), FORMATS.values(), ids=FORMATS)
def test_each_format_gives_the_same_prompts(jobs: Jobs, name: str, content: str) -> None:
    found = jobs(name, content)
    assert [(job.prompt_id, job.prompt, video(job).duration) for job in found] == [
        ("p1", "A cat", 5),
        ("p2", "A dog,\nrunning", 6),
    ]


def test_columns_are_settings_or_variables(jobs: Jobs) -> None:
    rows = [
        ["ID", "prompt", "color", "Time of day", "duration", "generate_audio", "model", "seed", "references", "user"],
        ["a", "A {{ color }} cat at {{ Time_of_day }}", "red", "noon", "5", "TRUE", "a/b a/c", "", "", "42"],
        ["", "{{ color }}", "blue", "", "", "", "openrouter/a/b", "null", '["https://x.y/z.png"]', ""],
    ]
    content = "".join(",".join('"' + cell.replace('"', '""') + '"' for cell in row) + "\n" for row in rows)
    first, second = jobs("p.csv", content, more="defaults: {duration: 4, seed: 1}\n")
    assert (first.prompt_id, first.prompt) == ("a", "A red cat at noon")
    assert first.variables == {"color": "red", "Time_of_day": "noon"}
    assert first.request.body() == {
        "model": "a/b", "prompt": first.prompt, "duration": 5, "generate_audio": True, "seed": 1, "user": "42"
    }  # fmt: skip
    assert second.request.body() == {
        "model": "a/b",
        "prompt": "blue",
        "duration": 4,
        "input_references": [{"type": "image_url", "image_url": {"url": "https://x.y/z.png"}}],
    }


PROMPTS: dict[str, Any] = {
    "a line each": (("p.txt", "#1 cat\n\n  A dog  \n"), ["p1:#1 cat", "p2:A dog"]),
    "quotes are letters in a tsv cell that does not close them": (
        ("p.tsv", 'prompt\tid\n"Welcome" written on a sign\ta\na 5" screen\tb\n"open\tc\n"it is ""so"""\td\n'),
        ['a:"Welcome" written on a sign', 'b:a 5" screen', 'c:"open', 'd:it is "so"'],
    ),
    "a tsv cell of several lines": (
        ("p.tsv", 'prompt\tid\n"two\nlines"\ta\n"not closed\tb\nlast\tc\n'),
        ["a:two\nlines", 'b:"not closed', "c:last"],
    ),
    "invisible characters in a header": (("p.csv", "\u200bprompt,\u2060id\na,x\n"), ["x:a"]),
    "two byte order marks": (("p.csv", '\ufeff\ufeff"prompt",id\na,x\n'), ["x:a"]),
    "a separator for Excel": (("p.csv", "sep=;\nprompt;id\na, b;x\n"), ["x:a, b"]),
    "braces as they are written": (
        ("p.csv", "prompt\n{{char}} {% 80 %}\n", "template: false"),
        ["p1:{{char}} {% 80 %}"],
    ),
    "braces as they are written, for the whole batch": (
        (
            "p.txt",
            "{{char}}\n",
            "",
            "template: false\nprompts: ['{% if %}', {prompt: '{{ a }}', vars: {a: 1}, template: true}]\n",
        ),
        ["p1:{% if %}", "p2:1", "p3:{{char}}"],
    ),
    "several values of a variable": (
        ("p.jsonl", '{"prompt": "{{ a }}{{ b }}{{ c }}", "a": [1, 2], "vars": {"b": "x", "c": 0.5}}\n"text"\n'),
        ["p1:1x0.5", "p1:2x0.5", "p2:text"],
    ),
    "one template for rows without a text": (
        ("p.csv", "animal,prompt\nfox,\nowl,An owl\n", 'prompt: "A {{ animal }}"'),
        ["p1:A fox", "p2:An owl"],
    ),
    "ids go on from the batch file": (("p.txt", "b\nc\n", "", "prompts: [a]\n"), ["p1:a", "p2:b", "p3:c"]),
    "the first rows": (("p.txt", "cat 1\ncat 2\ncat 3\n", "limit: 2"), ["p1:cat 1", "p2:cat 2"]),
}


@pytest.mark.parametrize(("source", "expected"), PROMPTS.values(), ids=PROMPTS)
def test_rows_become_prompts(jobs: Jobs, source: tuple[str, ...], expected: list[str]) -> None:
    assert [f"{job.prompt_id}:{job.prompt}" for job in jobs(*source)] == expected


def test_a_sample_is_the_same_every_time_and_mostly_the_same_when_rows_are_added(jobs: Jobs) -> None:
    rows = [f"cat {at}\n" for at in range(200)]
    first = {job.prompt for job in jobs("p.txt", "".join(rows), "sample: 20")}
    assert first == {job.prompt for job in jobs("p.txt", "".join(rows), "sample: 20")}
    assert first != {job.prompt for job in jobs("p.txt", "".join(rows), "sample: 20, seed: 1")}
    longer = {job.prompt for job in jobs("p.txt", "".join([*rows, "cat 200\n", "cat 201\n"]), "sample: 20")}
    assert len(first) == len(longer) == 20
    assert len(first & longer) >= 18


def test_bad_rows_are_named_all_at_once_as_a_spreadsheet_counts_them(jobs: Jobs) -> None:
    content = 'prompt,duration\n"two\nlines",5\nB,five\nC\nD,4,9\nE {{ x }},3\nF,1\n'
    assert problems(jobs, "p.csv", content) == [
        "p.csv:4: row 3.duration: found 'five'; allowed: a whole number from 1 to 3600",
        "p.csv:5: row 4: has 1 cells, the header has 2; quote cells that contain commas",
        "p.csv:6: row 5: has 3 cells, the header has 2; quote cells that contain commas",
        (
            "p.csv:7: row 6.prompt: uses {{ x }}, which has no value; there are no variables here; "
            "to send braces as they are written, set template: false"
        ),
    ]


UNUSABLE: dict[str, Any] = {
    "empty csv": ("p.csv", "", "p.csv:1: header: has no column 'prompt'"),
    "only a header": ("p.csv", "prompt\n", "p.csv:None: : contains no prompts"),
    "no header": ("p.csv", "A cat\nA dog\n", "has no column 'prompt' (found: 'A cat')"),
    "misspelt setting": ("p.csv", "prompt,duratoin\na,5\n", "looks like 'duration'"),
    "column twice": ("p.csv", "prompt,a,a\nx,1,2\n", "there are two columns for 'a'"),
    "vars": ("p.csv", "prompt,vars\nx,1\n", "every other column is a variable"),
    "column name": ("p.csv", "prompt,2nd\nx,1\n", "'2nd' cannot be a variable"),
    "cell without name": ("p.csv", "prompt,,\nx,,1\n", "row 2: has 3 cells, the header has 1 named"),
    "open quote": ("p.csv", 'prompt\n"A cat\nA dog\n', "row 2 cannot be read: a quote is opened"),
    "NUL": ("p.csv", "prompt\na\nb\0\n", "p.csv:3: : contains a NUL"),
    "another model": ("p.csv", "prompt,model\na,a/d\n", "'a/d' is not among the batch's models"),
    "no model id": ("p.csv", "prompt,model\na,wan\n", "'wan' is not among the batch's models"),
    "id twice": ("p.csv", "id,prompt\nz,a\nz,b\n", "p.csv:3: id: 'z' is also the id of another prompt"),
    "row twice": ("p.txt", "cats\n\na\na\n", "p.txt:4: : prompt 'p3' with a/b is the same request"),
    "latin-1": ("p.txt", "ok\ncafé\n".encode("latin-1"), "p.txt:2: : is not UTF-8"),
    "utf-16": ("p.csv", "prompt\na\n".encode("utf-16"), "p.csv:1: : is not UTF-8"),
    "only blanks": ("p.txt", " \n", "contains no prompts"),
    "spreadsheet error": ("p.csv", "prompt,a\nx,1\n#REF!,2\n", "p.csv:3: row 3: has the spreadsheet error #REF!"),
    "spreadsheet error in a variable": ("p.tsv", "prompt\ta\nx\t#N/A\n", "row 2: has the spreadsheet error #N/A"),
    "seed of a spreadsheet": (
        "p.csv",
        "prompt,seed\nx,1.23457E+10\n",
        "row 2.seed: found '1.23457E+10'",
    ),
    "endless line": ("p.txt", "x" * 1_000_001, "is longer than 1,000,000 characters"),
    "json": ("p.jsonl", "{a\n", "p.jsonl:1: row 1: is not valid JSON"),
    "list": ("p.jsonl", "[1]\n", "row 1: found a list; allowed: an object"),
    "deep json": ("p.jsonl", "[" * 100_000, "row 1: is not valid JSON"),
    "levels": ("p.jsonl", '{"prompt": "a", "x": ' + "[" * 50 + "]" * 50 + "}", "more than 20 levels"),
    "NaN": ("p.jsonl", '{"prompt": "a", "seed": NaN}', "NaN is not a JSON number"),
    "half a surrogate pair": ("p.jsonl", '{"prompt": "a\\ud800"}', "cannot be sent"),
    "two texts": ("p.jsonl", '{"prompt": "a", "text": "b"}', "gives 'prompt' twice"),
    "yaml mapping": ("p.yaml", "prompts: [a]\n", "p.yaml:1: : found a mapping"),
    "yaml typo": ("p.yaml", "- {prompt: a, sed: 1}\n", "p.yaml:1: prompts[1].sed: unknown key"),
}


@pytest.mark.parametrize(("name", "content", "expected"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_file_that_cannot_be_used_says_where_and_why(
    jobs: Jobs, name: str, content: str | bytes, expected: str
) -> None:
    assert expected in problems(jobs, name, content)[0]


def test_problems_of_the_batch_file_and_of_the_header_come_together(jobs: Jobs) -> None:
    found = problems(jobs, "p.csv", "prompt,duratoin\na,5\n", more="repeat: 0\n")
    assert [each.split(":")[0] for each in found] == ["b.yaml", "p.csv"]


def test_paths_in_a_row_are_relative_to_the_file_of_the_row(jobs: Jobs, tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.png").write_bytes(painted())
    (job,) = jobs("rows/p.csv", "first_frame\na.png\n")
    frames = video(job).frame_images
    assert frames is not None
    assert frames[0]["image_url"]["url"] == str(tmp_path / "rows" / "a.png")


def test_a_hundred_thousand_rows_need_no_more_memory_than_a_few(tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        with (tmp_path / "p.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["prompt", "color"])
            writer.writerows([f"cat {at} " + "x" * 200, "red"] for at in range(rows))
        (tmp_path / "b.yaml").write_text("name: x\nmodels: [a/b]\nprompts_from: p.csv\n")
        config = load_config(tmp_path / "b.yaml")
        assert config.prompts_from is not None
        tracemalloc.start()
        try:
            assert sum(1 for _ in read_prompts(config.prompts_from, Report(tmp_path / "b.yaml"))) == rows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(100_000) < peak(1000) + 100_000


def test_numbers_in_json_keep_their_meaning(jobs: Jobs) -> None:
    content = json.dumps({"prompt": "{{ n }} {{ f }}", "n": 3, "f": 0.25, "upscale_factor": 2.0})
    (job,) = jobs("p.jsonl", content)
    assert (job.prompt, video(job).upscale_factor) == ("3 0.25", 2)
