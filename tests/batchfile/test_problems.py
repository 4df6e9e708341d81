"""What is said about a batch file that cannot be used: everything at once, with file, line and key."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from orbatch.batchfile.errors import ConfigError
from orbatch.batchfile.loader import load_config
from orbatch.plan.jobs import expand

HEAD = "name: x\nmodels: [alibaba/wan-2.6]\nprompts: [a cat]\n"
PROMPTS = "name: x\nmodels: [alibaba/wan-2.6]\nprompts:\n"


def problems(folder: Path, content: str | bytes) -> list[str]:
    """The problems of a file, without the folder it is in."""
    path = folder / "b.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        list(expand(load_config(path)))
    return [str(problem).replace(f"{path}", "b.yaml") for problem in caught.value.problems]


def test_all_problems_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        """
name: my cats
defaults:
  duratoin: 5
  resolution: 720P
models:
  - alibaba/wan-2.6
prompts:
  - prompt: A {{ colour }} cat
    vars: {color: red}
    models: [alibaba/wan-2.5]
budgets: {total_usd: 1}
""",
    )
    assert found == [
        (
            "b.yaml:2: name: found 'my cats'; allowed: letters, digits, - and _, beginning with a letter or digit, "
            "at most 64"
        ),
        "b.yaml:4: defaults.duratoin: unknown key; did you mean 'duration'?",
        (
            "b.yaml:5: defaults.resolution: found '720P'; allowed: 360p, 480p, 720p, 768p, 1080p, 1K, 2K, 4K, 512, "
            "768, 1.5K; did you mean '720p'?"
        ),
        (
            "b.yaml:9: prompts[1].models: 'alibaba/wan-2.5' is not among the batch's models; "
            "did you mean 'alibaba/wan-2.6'?"
        ),
        "b.yaml:9: prompts[1].prompt: uses {{ colour }}, which has no value; known here: color; did you mean 'color'?",
        "b.yaml:12: budgets: unknown key; did you mean 'budget'?",
    ]


UNREADABLE: dict[str, Any] = {
    "empty": ("", "b.yaml:1: is empty"),
    "only a comment": ("# only a comment\n", "b.yaml:1: is empty"),
    "null": ("null\n", "b.yaml:1: is empty"),
    "a list": ("- a\n", "b.yaml:1: found a list; allowed: a mapping"),
    "tab": ("name: x\nmodels:\n\t- a/b\n", "b.yaml:3: a tab is used"),
    "duplicate key": (HEAD + "name: y\n", "b.yaml:4: name: this key is here twice, first on line 1"),
    "two documents": (HEAD + "---\nname: y\n", "b.yaml:4: a second document begins here"),
    "python tag": ("name: !!python/name:os.system x\n", "b.yaml:1: the tag"),
    "deep flow": ("a: " + "[" * 100_000, "b.yaml:1: is nested more than 20 levels"),
    "deep blocks": ("\n".join(" " * at + "a:" for at in range(200)), "b.yaml:22: is nested more than 20"),
    "depth by aliases": (
        "a: &a []\n" + "".join(f"k{at}: &k{at} [*{'a' if not at else f'k{at - 1}'}]\n" for at in range(50)),
        "b.yaml:20: is nested more than 20 levels",
    ),
    "alias bomb": (
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
        "contains more than 500,000 values once its aliases",
    ),
    "alias of itself": ("a: &a [*a]\n", "b.yaml:1: *a refers to nothing above it"),
    "control character": ('name: "a\x01"\n', "b.yaml:1: contains a control character"),
    "colon": (PROMPTS + "  - prompt: A cat: two\n", "put text that contains a colon and a space in quotes"),
    "braces": (PROMPTS + "  - prompt: {{ a }} cat\n", "text that begins with { or [ needs quotes"),
    "at sign": (PROMPTS + "  - @cat\n", "put text that begins with a special character in quotes"),
    "utf-16": (HEAD.encode("utf-16"), "is not UTF-8 text"),
    "latin-1": ("name: x\nuser: café\n".encode("latin-1"), "b.yaml:2: is not UTF-8 text"),
    "too large": (b"# " + b"x" * 5_000_000, "b.yaml: is larger than 5 MB"),
}


@pytest.mark.parametrize(("content", "expected"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_file_that_cannot_be_read_is_explained(tmp_path: Path, content: str | bytes, expected: str) -> None:
    assert expected in problems(tmp_path, content)[0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cat.yaml", r"there is no such file; did you mean 'cats\.yaml'\?"),
        ("", "is a directory"),
        pytest.param(
            "/dev/zero", "larger than 5 MB", marks=pytest.mark.skipif(sys.platform == "win32", reason="no /dev/zero")
        ),
    ],
)
def test_what_is_no_batch_file_is_named(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "cats.yaml").write_text(HEAD)
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / name)


WRONG: dict[str, Any] = {
    "fraction": ("defaults: {duration: 2.5}", "defaults.duration: found 2.5; allowed: a whole number"),
    "flag as number": ("defaults: {duration: true}", "found true; allowed: a whole number"),
    "zero seconds": ("defaults: {duration: 0}", "found 0; allowed: a whole number from 1"),
    "yes": ("defaults: {generate_audio: yes}", "found 'yes'; allowed: true, false"),
    "size": ("defaults: {size: 12}", "allowed: WIDTHxHEIGHT"),
    "kind": ("defaults: {kind: audio}", "found 'audio'; allowed: video, image, text"),
    "list for mapping": ("defaults: {provider: [1]}", "found a list; allowed: a mapping"),
    "callback without TLS": ("defaults: {callback_url: http://a.b}", "allowed: an https:// URL"),
    "callback with login": ("defaults: {callback_url: 'https://a:b@c.d'}", "works without a login"),
    "long session": ("defaults: {session_id: " + "x" * 257 + "}", "at most 256"),
    "two forms": (
        "defaults: {references: https://a.b, input_references: []}",
        "defaults.input_references: is given as references as well",
    ),
    "frame": (
        "defaults: {frame_images: [{type: image_url, image_url: {url: https://a.b}, frame_type: first}]}",
        "defaults.frame_images[1].frame_type: found 'first'; allowed: first_frame, last_frame",
    ),
    "misplaced": ("duration: 5", "b.yaml:4: duration: is a setting of jobs; put it under defaults"),
    "key": ("api_key: sk-or-v1-0123456789", "set the environment variable OPENROUTER_API_KEY"),
    "negative": ("budget: {total_usd: -1}", "budget.total_usd: found -1; allowed: an amount in USD"),
    "cap": ("budget: {per_model_usd: {alibaba/wan-2.6: -1}}", "found -1; allowed: an amount in USD"),
    "not a number": ("budget: {total_usd: .nan}", "found '.nan'"),
    "infinite": ("budget: {total_usd: .inf}", "found '.inf'"),
    "dollar sign": ("budget: {total_usd: $5}", "found '$5'"),
    "below the nano-dollar": ("budget: {total_usd: 0.0000000001}", "found 0.0000000001"),
    "unpriced": ("budget: {unpriced: refused}", "allowed: refuse, or an amount"),
    "unknown model": ("budget: {per_model_usd: {a/b: 1}}", "budget.per_model_usd.a/b: is not among"),
    "no job in flight": ("limits: {in_flight: 0}", "limits.in_flight: found 0"),
    "no job of a model in flight": (
        "limits: {models: {alibaba/wan-2.6: {in_flight: 0}}}",
        "limits.models.alibaba/wan-2.6.in_flight: found 0; allowed: a whole number from 1 to 10000",
    ),
    "limit of another model": (
        "limits: {models: {alibaba/wan: {in_flight: 1}}}",
        "limits.models.alibaba/wan: is not among the batch's models; did you mean 'alibaba/wan-2.6'?",
    ),
    "polling": ("polling: {interval: 0}", "polling.interval: found 0; allowed: a number from 0.1"),
    "retries": ("retries: {on: [fail]}", "did you mean 'failed'?"),
    "no attempt": ("retries: {attempts: 0}", "retries.attempts: found 0"),
    "same seed twice": ("seeds: [1, 1]", "seeds[2]: 1 is in the list twice"),
    "seed and seeds": ("seeds: [1]\ndefaults: {seed: 2}", "defaults.seed is given as well"),
    "repeat": ("repeat: many", "repeat: found 'many'"),
    "uncertain": (
        "uncertain: resubmit",
        (
            "uncertain: was removed, because `resubmit` could pay for a job twice. Delete this line; to submit an "
            "uncertain job again on purpose: `orbatch resolve JOB --not-charged`"
        ),
    ),
    "offset": ("prompts_from: {file: a.csv, offset: 3}", "prompts_from.offset: was removed"),
    "image_url": ("defaults: {image_url: a.png}", "defaults.image_url: was removed; use first_frame"),
    "file name": ("filename: '{{ colour }}'", "filename: for prompt 'p1': uses {{ colour }}"),
    "format": ("prompts_from: prompts.doc", "has an unknown extension; allowed: .csv"),
    "no prompt file": ("prompts_from: prompts.csv", "file 'prompts.csv' was not found next to the batch file"),
    "number": ("  - 1984", "prompts[1]: found 1984; allowed: text; put it in quotes"),
    "flag": ("  - true", "found true; allowed: text; put it in quotes"),
    "empty": ("  - ''", "is empty"),
    "NUL": ('  - "a\\0b"', "contains a character that cannot be sent"),
    "nothing to go by": ("  - {id: a}", "prompts[1].prompt: is missing: give a text, or an image"),
    "broken template": ("  - {prompt: '{{ a'}", "is not a valid template"),
    "text": ("  - {prompt: a, text: b}", "did you mean 'prompt'?"),
    "variable without values": ("  - {prompt: a, vars: {c: []}}", "is an empty list"),
    "nested variable": ("  - {prompt: a, vars: {c: {d: 1}}}", "prompts[1].vars.c: found a mapping"),
    "variable name": ("  - {prompt: a, vars: {a-b: 1}}", "'a-b' cannot be a variable"),
    "missing image": ("  - {first_frame: no.png}", "does not exist"),
    "file URL": ("  - {first_frame: 'file:///a.png'}", "use the plain path"),
}


@pytest.mark.parametrize(("line", "expected"), WRONG.values(), ids=WRONG)
def test_a_wrong_value_is_named_with_what_is_allowed(tmp_path: Path, line: str, expected: str) -> None:
    found = problems(tmp_path, (PROMPTS if line.startswith("  - ") else HEAD) + line + "\n")
    assert len(found) == 1
    assert expected in found[0]
    assert found[0].startswith("b.yaml:4: ")


def test_too_many_combinations_are_refused_before_any_is_made(tmp_path: Path) -> None:
    ten = list(range(10))
    item = f"  - {{prompt: a, vars: {{a: {ten}, b: {ten}, c: {ten}, d: {ten}, e: [1, 2]}}}}\n"
    assert "makes 20,000 combinations" in problems(tmp_path, PROMPTS + item)[0]


def test_ids_are_unique_even_against_those_by_position(tmp_path: Path) -> None:
    found = problems(tmp_path, PROMPTS + "  - {id: p2, prompt: a}\n  - b\n")
    assert found == ["b.yaml:5: prompts[2].id: 'p2' is the id of prompts[1] (line 4) as well"]


def test_a_file_full_of_slips_is_not_told_for_ever(tmp_path: Path) -> None:
    found = problems(tmp_path, PROMPTS + "  - 1\n" * 5000)
    assert len(found) == 101
    assert found[-1].endswith("stopped after 100 problems; there may be more")


def test_secrets_in_a_value_are_not_repeated(tmp_path: Path) -> None:
    text = HEAD + "defaults: {callback_url: 'http://a.b/?token=hidden', resolution: sk-or-v1-0123456789}\n"
    assert "hidden" not in str(problems(tmp_path, text))
    assert "0123456789" not in str(problems(tmp_path, text))
