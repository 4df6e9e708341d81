"""The worked examples of docs/pricing.md show what the code computes."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest

from orbatch_provider.catalog import snapshot
from orbatch_provider.pricing import estimate_video
from orbatch_provider.requests import VideoRequest
from tests.provider.conftest import model_named

PAGE = (Path(__file__).parents[2] / "docs" / "pricing.md").read_text("utf-8")
EXAMPLES = re.findall(r"```json\n(.*?)\n```\n```text\n(.*?)\n```", PAGE, re.DOTALL)


def usd(amount: Decimal | None) -> str:
    return "unknown" if amount is None else f"{amount.normalize():f} USD"


def test_the_page_has_its_examples() -> None:
    assert len(EXAMPLES) == 5
    assert f"{snapshot().captured_at:%Y-%m-%d}" in PAGE


@pytest.mark.parametrize(
    ("request_text", "expected"), EXAMPLES, ids=[json.loads(text)["model"] for text, _ in EXAMPLES]
)
def test_an_example_is_computed_as_shown(request_text: str, expected: str) -> None:
    request = VideoRequest.from_body(json.loads(request_text))
    found = estimate_video(request, model_named(request.model))
    assert f"low {usd(found.low)}, exact {usd(found.exact)}, high {usd(found.high)}\n{found.why}" == expected
