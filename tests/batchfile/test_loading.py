"""What a batch file means once it is read."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orbatch.batchfile.loader import load_config
from orbatch.batchfile.models import BatchConfig, BudgetConfig, LimitsConfig, ModelLimits, PollingConfig, RetriesConfig

MINIMAL = "name: cats\nmodels: [alibaba/wan-2.6]\nprompts: [A cat]\n"

Load = Callable[[str], BatchConfig]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def from_text(text: str) -> BatchConfig:
        path = tmp_path / "batch.yaml"
        path.write_text(text, "utf-8")
        return load_config(path)

    return from_text


def test_a_minimal_file_gets_every_default(load: Load, tmp_path: Path) -> None:
    config = load(MINIMAL)
    assert config.name == "cats"
    assert config.output_dir == tmp_path / "outputs" / "cats"
    assert config.filename == "{{ take }}-{{ key8 }}"
    assert (config.seeds, config.repeat) == ((), 1)
    assert config.budget == BudgetConfig(None, None, None, {}, None)
    assert config.limits == LimitsConfig(16, 30, 10, 4, {})
    assert config.polling == PollingConfig(30, 1800)
    assert config.retries == RetriesConfig(1, frozenset({"failed", "expired"}))
    assert config.sha256 == hashlib.sha256(MINIMAL.encode()).hexdigest()


def test_every_key_of_the_contract_is_read(load: Load, tmp_path: Path) -> None:
    config = load(
        """
name: cats
output_dir: ../films
filename: "{{ name }}/{{ key }}"
defaults: {kind: video, duration: 5, generate_audio: false}
models:
  - openrouter/alibaba/wan-2.6
  - {model: google/veo-3.1-lite, duration: 4}
prompts:
  - A cat
  - {id: 7, prompt: "{{ x }}", vars: {x: [1, 2.5, true, no]}, models: openrouter/alibaba/wan-2.6, seed: 7}
repeat: 2
budget:
  total_usd: 0.1
  per_job_usd: "2.50"
  per_day_usd: 50
  per_model_usd: {openrouter/google/veo-3.1-lite: 1e-9}
  unpriced: 3
limits:
  in_flight: 1
  submits_per_minute: 2
  polls_per_second: 3
  downloads: 4
  models: {google/veo-3.1-lite: {in_flight: 2, submits_per_minute: 5}}
polling: {interval: 2.5, timeout: 60}
retries: {attempts: 2, on: [cancelled]}
"""
    )
    assert config.output_dir == tmp_path.parent / "films"
    assert config.defaults == {"kind": "video", "duration": 5, "generate_audio": False}
    assert [(item.model, item.settings) for item in config.models] == [
        ("alibaba/wan-2.6", {}),
        ("google/veo-3.1-lite", {"duration": 4}),
    ]
    assert [item.id for item in config.prompts] == ["p1", "7"]
    assert config.prompts[1].variables == {"x": (1, 2.5, True, "no")}
    assert config.prompts[1].models == frozenset({"alibaba/wan-2.6"})
    assert config.prompts[1].settings == {"seed": 7}
    assert config.budget == BudgetConfig(
        Decimal("0.1"), Decimal("2.50"), Decimal(50), {"google/veo-3.1-lite": Decimal("1e-9")}, Decimal(3)
    )
    assert config.limits == LimitsConfig(1, 2, 3, 4, {"google/veo-3.1-lite": ModelLimits(2, 5)})
    assert config.polling == PollingConfig(2.5, 60)
    assert config.retries == RetriesConfig(2, frozenset({"cancelled"}))
    assert config.repeat == 2


VALUES: dict[str, Any] = {
    "no sexagesimal number": ("aspect_ratio: 16:9", {"aspect_ratio": "16:9"}),
    "no date": ("user: 2024-01-01", {"user": "2024-01-01"}),
    "no is text": ("user: no", {"user": "no"}),
    "no octal number": ("user: 007", {"user": "007"}),
    "no underscores in numbers": ("user: 1_000", {"user": "1_000"}),
    "a number as text is what was written": ("user: 42", {"user": "42"}),
    "a whole number in decimals": ("duration: 5.0", {"duration": 5}),
    "true in capitals": ("generate_audio: TRUE", {"generate_audio": True}),
    "a negative seed": ("seed: -3", {"seed": -3}),
    "a fraction": ("upscale_factor: 1.5", {"upscale_factor": 1.5}),
    "null is kept, to take a field back": ("seed: null", {"seed": None}),
    "provider options": (
        "provider: {options: {google: {a: [1, 0.5, x]}}}",
        {"provider": {"options": {"google": {"a": [1, 0.5, "x"]}}}},
    ),
    "short form": ("first_frame: https://a.b/c.png", {"first_frame": "https://a.b/c.png"}),
    "references by their URLs": (
        "references: [https://a.b/c.png, https://a.b/c.MP4?x=1]",
        {
            "input_references": [
                {"type": "image_url", "image_url": {"url": "https://a.b/c.png"}},
                {"type": "video_url", "video_url": {"url": "https://a.b/c.MP4?x=1"}},
            ]
        },
    ),
}


@pytest.mark.parametrize(("written", "meant"), VALUES.values(), ids=VALUES)
def test_values_mean_what_they_look_like(load: Load, written: str, meant: dict[str, object]) -> None:
    assert load(MINIMAL + f"defaults:\n  {written}\n").defaults == meant


def test_a_byte_order_mark_and_windows_line_ends_are_read_over(tmp_path: Path) -> None:
    path = tmp_path / "batch.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert load_config(path).prompts[0].prompt == "A cat"


def test_keys_without_a_value_count_as_left_out(load: Load) -> None:
    assert load(MINIMAL + "defaults:\nbudget:\nseeds:\nlimits: {}\n").budget == BudgetConfig()


def test_anchors_can_be_shared(load: Load) -> None:
    config = load(
        "name: a\nmodels: [a/b]\nprompts:\n"
        "  - {prompt: '{{ c }}', vars: &v {c: [x]}}\n"
        "  - {prompt: 'a {{ c }}', vars: *v}\n"
    )
    assert config.prompts[0].variables == config.prompts[1].variables == {"c": ("x",)}


@pytest.mark.parametrize("module", ["orbatch.cli.status", "orbatch.batchfile.errors"])
def test_what_only_reads_the_ledger_starts_without_the_models(module: str) -> None:
    code = f"import sys, {module}; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
