"""The blocking one-call forms: exported where users look for them, and of no use in an event loop."""

from __future__ import annotations

import inspect
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import orbatch
import orbatch_provider
from orbatch_provider import OpenRouterProvider
from orbatch_simulator import simulator_thread

KEY = "sk-or-v1-c0ffee0123456789"
NAMES = ["generate_image", "generate_text", "generate_video"]


def test_a_picture_and_a_text_in_one_call_each(tmp_path: Path) -> None:
    with simulator_thread() as simulator:
        where: Any = {"api_key": KEY, "base_url": simulator.base_url}
        image = orbatch.generate_image("A cat", "openrouter/recraft/recraft-v4", n=2, directory=tmp_path, **where)
        text = orbatch_provider.generate_text("Hi", "openai/gpt-4o-mini", max_tokens=5, **where)
        assert image.cost_usd == Decimal("0.08")
        assert sorted(file.path for file in image.images) == sorted(tmp_path.iterdir())
        assert (text.text, text.files) == ("A simulated answer o", ())
        assert simulator.journal.charged == Decimal("0.08") + (text.cost_usd or 0)


@pytest.mark.parametrize("name", NAMES)
async def test_in_an_event_loop_they_point_to_the_provider(name: str) -> None:
    with pytest.raises(RuntimeError, match=rf"await provider\.{name}\("):
        getattr(orbatch, name)("A cat", "a/b", api_key=KEY)


@pytest.mark.parametrize("name", NAMES)
def test_they_take_what_the_provider_takes(name: str) -> None:
    method = inspect.signature(getattr(OpenRouterProvider, name)).parameters
    function = inspect.signature(getattr(orbatch_provider, name)).parameters
    assert list(function) == ["prompt", "model", "api_key", "base_url", *list(method)[3:]]


def test_every_kind_is_a_supported_modality() -> None:
    assert OpenRouterProvider.supported_modalities == ["image", "video", "text"]
