"""Checking and pricing every job of a batch, without memory for every job."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice

import pytest

from orbatch.plan import estimate
from orbatch.plan.catalogs import Catalogs
from orbatch.plan.estimate import PricedJob, price_jobs
from orbatch.plan.jobs import Job
from orbatch_provider.catalog import Catalog, VideoModel, snapshot
from orbatch_provider.pricing import Estimate
from orbatch_provider.requests import VideoRequest

MODEL = "alibaba/wan-2.6"


@pytest.fixture(scope="module")
def offers() -> Catalogs:
    return Catalogs({"video": snapshot()})


def spec(position: int = 1, *, model: str = MODEL, **fields: object) -> Job:
    request = VideoRequest(model, f"prompt {position}", **{"duration": 5, "resolution": "720p", **fields})  # type: ignore[arg-type] # by its own names
    key, prompt, settings = f"k1:{position:064x}", f"prompt {position}", str(fields | {"seed": None})
    return Job(position, key, "video", model, str(position), prompt, {}, request, request.body(), 1, "", settings)


def test_a_job_is_priced_and_what_its_model_does_not_support_is_a_problem_of_it_alone(offers: Catalogs) -> None:
    good, bad = price_jobs([spec(1), spec(2, duration=999)], offers)
    assert (good.problems, good.bounds_nusd) == ((), (400_000_000, 400_000_000, 400_000_000))
    assert "duration" in str(bad.problems[0])


@pytest.mark.parametrize(("model", "nearest"), [("alibaba/wan-2.7-x", True), ("nobody/nothing-at-all-like-it", None)])
def test_an_unknown_model_is_named_and_never_free(offers: Catalogs, model: str, nearest: bool | None) -> None:
    [job] = price_jobs([spec(model=model)], offers)
    assert job.bounds_nusd == (None, None, None)
    assert f"{model} is not among the video models" in str(job.problems[0])
    assert (job.problems[0].nearest is not None) is bool(nearest)


@pytest.mark.parametrize("price", ["1e6", "1e12", "1e17", "1e300"])
def test_a_price_that_no_job_has_makes_it_unpriced(price: str) -> None:
    record = {"id": "a/b", "pricing_skus": {"duration_seconds": price}, "supported_durations": [5]}
    catalog = Catalog.from_json(VideoModel, {"data": [record]}, captured_at=datetime.now(UTC), source="a test")

    [job] = price_jobs([spec(model="a/b")], Catalogs({"video": catalog}))

    assert job.bounds_nusd == (None, None, None)


def test_jobs_that_differ_only_in_prompt_and_seed_are_worked_out_once(
    offers: Catalogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked_out = []

    def count(job: Job, _: Catalogs) -> PricedJob:
        worked_out.append(job)
        return PricedJob(job, Estimate(Decimal(1), Decimal(1), Decimal(1)))

    monkeypatch.setattr(estimate, "_priced", count)
    jobs = list(price_jobs((spec(n, seed=n) for n in range(1, 100)), offers))
    assert len(worked_out) == 1
    assert [job.spec.position for job in jobs] == list(range(1, 100))
    assert len(list(price_jobs([spec(1, seed=1), spec(2), spec(3, duration=10)], offers))) == 3
    assert len(worked_out) == 4


def test_a_plan_is_lazy_and_keeps_no_more_than_it_must(offers: Catalogs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "_KEPT", 2)
    frames = ([{"type": "image_url", "image_url": {"url": f"https://example.com/{n}.png"}}] for n in range(10**9))
    jobs = price_jobs((spec(n, frame_images=frame) for n, frame in enumerate(frames, 1)), offers)
    assert len({job.bounds_nusd for job in islice(jobs, 20)}) == 1


@pytest.mark.parametrize(
    ("low", "exact", "high", "expected"),
    [
        pytest.param("0.4", "0.4", "0.4", (400_000_000, 400_000_000, 400_000_000), id="exact"),
        pytest.param(
            "0.1000000001", None, "0.2000000001", (100_000_000, None, 200_000_001), id="the worst case is rounded up"
        ),
        pytest.param("0.1", None, None, (100_000_000, None, None), id="no upper bound"),
        pytest.param(None, None, None, (None, None, None), id="unpriced"),
    ],
)
def test_an_estimate_becomes_nano_dollars(
    low: str | None, exact: str | None, high: str | None, expected: tuple[int | None, ...]
) -> None:
    bounds = [None if usd is None else Decimal(usd) for usd in (low, exact, high)]
    job = PricedJob(spec(), Estimate(bounds[0], bounds[1], bounds[2]))
    assert job.bounds_nusd == expected
