"""The keys of jobs are what tells a paid job from a new one: a changed key buys a whole batch again.

These digests may only change together with the tag that begins every key, and then a ledger must still know the old
keys. Never update them to make a test pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import pytest

from orbatch.config import load_config
from orbatch.expand import JobSpec, expand

CONFIGS = Path(__file__).parents[1] / "configs"

PINNED = {
    "cats.yaml": (0, ""),
}

GENERATED = """\
name: keys
filename: "{{ prompt_id }}-{{ model_slug }}-{{ seed }}-{{ repeat }}-{{ key8 }}"
repeat: 2
seeds: [1, 2]
models:
  - {model: alibaba/wan-2.6, duration: 5, resolution: 720p}
  - {model: google/veo-3.1-lite, duration: 4, generate_audio: false}
  - {model: google/gemini-3.1-flash-image, kind: image, n: 2}
  - {model: openai/gpt-5.2, kind: text, temperature: 1, max_tokens: 100}
prompts:
  - {id: cat, prompt: "A {{ color }} cat at {{ time }}", kind: video, vars: {color: [orange, black], time: [dawn, 1]}}
  - {id: reference, prompt: 'Änd "quotes"', kind: video, first_frame: "https://example.com/a.png"}
  - {id: user, prompt: same, kind: video, aspect_ratio: "16:9", user: somebody, duration: 8}
  - {id: still, prompt: A cat, kind: image, aspect_ratio: "1:1"}
  - {id: words, prompt: A cat, kind: text, temperature: 0.5, seed: 7}
  - {id: again, prompt: A cat, kind: text, system: Be short.}
prompts_from: {file: rows.csv}
"""


def digest(jobs: Iterable[JobSpec]) -> tuple[int, str]:
    """How many jobs, and the hash of their keys in order."""
    keys = [job.key for job in jobs]
    return len(keys), hashlib.sha256("\n".join(keys).encode()).hexdigest()


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("*.yaml")))
def test_the_keys_of_every_example_stay(name: str) -> None:
    assert digest(expand(load_config(CONFIGS / name))) == PINNED[name]


def test_the_keys_of_every_kind_of_setting_stay(tmp_path: Path) -> None:
    rows = ["id,prompt,kind,duration,seed,color"]
    rows += [f"r{i},Row {i} in {{{{ color }}}},video,{4 + i % 2 * 4},{i if i % 3 else ''},c{i % 7}" for i in range(500)]
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n", "utf-8")
    path = tmp_path / "keys.yaml"
    path.write_text(GENERATED, "utf-8")
    assert digest(expand(load_config(path))) == (0, "")
