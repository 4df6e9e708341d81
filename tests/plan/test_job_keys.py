"""The keys of jobs are what tells a paid job from a new one: a changed key buys a whole batch again.

These digests may only change together with the tag that begins every key, and then a ledger must still know the old
keys. Never update them to make a test pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import pytest

from orbatch.batchfile.loader import load_config
from orbatch.plan.jobs import Job, expand

CONFIGS = Path(__file__).parents[2] / "configs"

PINNED = {
    "cats.yaml": (7, "e59de76e35dce066f8cf9df24648dc743c6355d64ba774c2a55d3d930d402043"),
    "comparison.yaml": (6, "df0c2d1d25993b1c88bc84095d211fd866aee5b96b35a41006a1e5e061d91b7f"),
    "from-csv.yaml": (8, "43a43d77f3ed701bfd29a316035496b5e0f030d9cdd780b1a7ccb9fe4c12b082"),
    "image-comparison.yaml": (8, "752c7185033b78006bf3d2fe6e9593c562acbe4bbf382c2cfc5e8ddfbd90881c"),
    "image-to-video.yaml": (5, "28982eb75e457ea6c0a95d9567a75e250368d8bb61da0bdf0db0711e52e42f7f"),
    "mixed.yaml": (3, "9043d6c914d2f1c449430f7a1d8ad7c7a47ce907fdadfdacae04a554052cd159"),
    "text.yaml": (9, "17d14faa6f0be874af22f5829c16a385d3c34fca5be40a331841aea3ba4ef834"),
    "generated": (2716, "591d9ace14263e0fe376fae28ec64ffeaa8b7be5ace1fb507d656d011aeb8a56"),
    "other kinds": (3, "85e44528424371bcef4c51fad711e2eae49e2364a0f0ec31acda3c96637263c5"),
}

GENERATED = """\
name: keys
repeat: 2
seeds: [1, 2]
models:
  - {model: alibaba/wan-2.6, kind: video, duration: 5, resolution: 720p}
  - {model: google/veo-3.1-lite, kind: video, duration: 4, generate_audio: false}
prompts:
  - {id: cat, prompt: "A {{ color }} cat at {{ time }}", vars: {color: [orange, black], time: [dawn, 1]}}
  - {id: reference, prompt: 'Änd "quotes"', first_frame: "https://example.com/a.png"}
  - {id: user, prompt: same, aspect_ratio: "16:9", user: somebody, duration: 8}
prompts_from: {file: rows.csv}
"""

OTHER_KINDS = """\
name: kinds
models:
  - {model: google/gemini-3.1-flash-image, kind: image, n: 2}
  - {model: openai/gpt-5.2, kind: text, temperature: 1, max_tokens: 100}
prompts:
  - {id: still, prompt: A cat, kind: image, aspect_ratio: "1:1", models: [google/gemini-3.1-flash-image]}
  - {id: words, prompt: A cat, kind: text, temperature: 0.5, seed: 7, models: [openai/gpt-5.2]}
  - {id: again, prompt: A cat, kind: text, system: Be short., models: [openai/gpt-5.2]}
"""


def digest(jobs: Iterable[Job]) -> tuple[int, str]:
    """How many jobs, and the hash of their keys in order."""
    keys = [job.key for job in jobs]
    return len(keys), hashlib.sha256("\n".join(keys).encode()).hexdigest()


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("*.yaml")))
def test_the_keys_of_every_example_stay(name: str) -> None:
    assert digest(expand(load_config(CONFIGS / name))) == PINNED[name]


def test_the_keys_of_settings_and_rows_stay(tmp_path: Path) -> None:
    rows = ["id,prompt,duration,seed,color"]
    rows += [f"r{i},Row {i} in {{{{ color }}}},{4 + i % 2 * 4},{i if i % 3 else ''},c{i % 7}" for i in range(500)]
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n", "utf-8")
    path = tmp_path / "keys.yaml"
    path.write_text(GENERATED, "utf-8")
    assert digest(expand(load_config(path))) == PINNED["generated"]


def test_the_keys_of_images_and_texts_stay(tmp_path: Path) -> None:
    path = tmp_path / "kinds.yaml"
    path.write_text(OTHER_KINDS, "utf-8")
    assert digest(expand(load_config(path))) == PINNED["other kinds"]
