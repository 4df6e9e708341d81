"""Every worked example of the price rules, over every price family of the catalog."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orbatch_provider.catalog import snapshot
from orbatch_provider.pricing import Estimate, Hints, estimate_image_body, estimate_video
from orbatch_provider.pricing.estimate import FLOOR_LINE
from orbatch_provider.pricing.skus import price_list
from orbatch_provider.requests import VideoRequest
from tests.provider.conftest import model_named

DATA = Path(__file__).parents[1] / "data" / "pricing-vectors.json"
TOLERANCE = Decimal("1e-9")


def vectors() -> list[Any]:
    loaded = json.loads(DATA.read_text("utf-8"), parse_float=Decimal)
    return [
        pytest.param(vector, id=f"{index}-{vector['model'].split('/')[1]}-{vector['note'][:40]}")
        for index, vector in enumerate(loaded, 1)
    ]


def priced(vector: dict[str, Any]) -> Estimate:
    hints = Hints(**vector.get("hints", {}))
    if vector["api"] == "images":
        return estimate_image_body(vector["request"], [vector["endpoint_pricing"]], hints)
    return estimate_video(VideoRequest.from_body(vector["request"]), model_named(vector["model"]), hints)


def status_of(found: Estimate) -> str:
    """How much an estimate knows, in the words of the examples."""
    if found.high is not None:
        return "range" if found.exact is None else "exact" if found.low == found.high else "estimate"
    if found.exact is not None:
        return "estimate_no_upper_bound"
    # A low that is only the model's minimum charge says nothing about this job.
    return "unpriceable" if found.low is None or FLOOR_LINE in found.lines else "lower_bound_only"


def test_there_are_104_examples() -> None:
    assert len(vectors()) == 104


@pytest.mark.parametrize("vector", vectors())
def test_the_estimate_is_the_worked_example_and_explains_itself(vector: dict[str, Any]) -> None:
    found, expected = priced(vector), vector["expected"]
    for name in ("low", "exact", "high"):
        amount, wanted = getattr(found, name), expected[name]
        if wanted is None:
            assert amount is None, name
        else:
            assert amount is not None, name
            assert abs(amount - Decimal(wanted)) <= TOLERANCE, name
    assert list(found.lines) == expected["sku_keys"]
    assert status_of(found) == vector["status"]
    if found.low is None:
        assert found.why.startswith("unpriced: ")
    elif found.exact is not None:
        assert any(line in found.why for line in found.lines)


@pytest.mark.parametrize("model", snapshot().models.values(), ids=lambda model: model.id)
def test_every_price_line_of_the_catalog_is_of_a_known_kind(model: Any) -> None:
    prices = price_list(tuple(model.prices.items()))
    assert prices.unknown == ()
    assert len(prices.rates) + len(prices.adders) + (prices.floor_usd is not None) == len(model.prices)
