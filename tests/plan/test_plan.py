"""From a batch file to a plan in the ledger: what is written and refused, how it stands to its caps, and that planning
again changes nothing but what has changed; an open job takes a new price only when it may be submitted again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orbatch.batchfile.errors import ConfigError
from orbatch.batchfile.loader import load_config
from orbatch.ledger import Filter, Ledger, Reservation, utc_now
from orbatch.ledger.budget import Caps
from orbatch.ledger.records import Charge
from orbatch.ledger.status import Status
from orbatch.plan.catalogs import Catalogs
from orbatch.plan.plan import (
    Plan,
    PlanError,
    PlanProblems,
    caps_from_config,
    forecast_caps,
    make_plan,
    simulated,
)
from orbatch_provider import inputs
from orbatch_provider.catalog import Catalog, VideoModel, snapshot
from tests.images import painted
from tests.ledger.books import NO_CAPS, Books

ORIGIN = "https://openrouter.ai"
LITE, WAN = "google/veo-3.1-lite", "alibaba/wan-2.7"
UNPRICED = {"model": "runway/aleph-2", "duration": None, "resolution": None, "generate_audio": None}
PRICE = 120_000_000  # nano-dollars of one job

# All that a plan writes of a job, and whether it is still in the file.
WRITTEN = (
    "id, key, position, kind, model, prompt_id, prompt, variables, request, repeat, stem, estimate_low_nusd, "
    "estimate_exact_nusd, estimate_high_nusd, price_lines, price_why"
)


class Shop:
    """A folder with a batch file, its prompts and its images, and the catalog that it is planned with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.catalog = snapshot()
        self.batch: dict[str, Any] = {
            "name": "cats",
            "defaults": {"duration": 4, "resolution": "720p", "generate_audio": False},
            "models": [LITE],
            "prompts": [{"prompt": "a cat moves", "first_frame": "one.png"}],
            "prompts_from": "more.csv",
        }
        self.file = folder / "cats.yaml"
        self.prompts = folder / "more.csv"
        rows = "".join(f"cat {number},\n" for number in range(1, 40))
        self.prompts.write_text(f"prompt,first_frame\n{rows}last,two.png\n")
        (folder / "one.png").write_bytes(painted("red"))
        (folder / "two.png").write_bytes(painted("lime"))
        self.write()

    def write(self, **changes: Any) -> None:
        """Change sections of the batch file; None removes one."""
        self.batch |= changes
        self.file.write_text(json.dumps({name: part for name, part in self.batch.items() if part is not None}), "utf-8")

    def planned(self, ledger: Ledger, **changes: Any) -> Plan:
        self.write(**changes)
        return self.plan(ledger)

    def plan(self, ledger: Ledger, only: str | None = None) -> Plan:
        return make_plan(ledger, load_config(self.file), Catalogs({"video": self.catalog}), ORIGIN, only)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.fixture
def few(shop: Shop) -> Shop:
    """Three jobs instead of 41."""
    shop.write(prompts=["a cat", "a dog", "a cow"], prompts_from=None)
    return shop


def rows(ledger: Ledger, what: str = WRITTEN, table: str = "jobs where retired = 0") -> list[tuple[Any, ...]]:
    with ledger.database.read() as db:
        return [tuple(row) for row in db.execute(f"select {what} from {table} order by id")]  # noqa: S608 - a test's own


def in_a_new_ledger(shop: Shop) -> tuple[str, list[tuple[Any, ...]]]:
    """Digest and jobs of a plan into a ledger that knows nothing."""
    with Ledger.open(shop.folder / f"fresh-{len(list(shop.folder.iterdir()))}.db") as fresh:
        return shop.plan(fresh).digest, rows(fresh)


def dearer(times: int, model: str = LITE) -> Catalog[VideoModel]:
    body = json.loads(snapshot().to_json())
    for record in body["data"]:
        if record["id"] == model:
            record["pricing_skus"] = {line: float(price) * times for line, price in record["pricing_skus"].items()}
    return Catalog.from_json(VideoModel, body, captured_at=snapshot().captured_at, source="test")


def claimed(ledger: Ledger, shop: Shop) -> Books:
    books = Books(ledger)
    shop.plan(ledger)
    ledger.leases.claim(1, books.holder, utc_now())
    return books


# -- what a plan writes, what it refuses, and how it stands to its caps ------------------------------------------------


def test_a_plan_with_a_problem_leaves_the_ledger_as_it_was(ledger: Ledger, few: Shop) -> None:
    few.plan(ledger)
    with pytest.raises(PlanProblems) as refused:
        few.planned(ledger, defaults={"duration": 5, "resolution": "480p"}, prompts=["new", "prompts"])
    assert [(group.model, group.count) for group in refused.value.problems] == [(LITE, 2), (LITE, 2)]
    with pytest.raises(ConfigError, match="is the same request as prompt 'p1'"):
        few.planned(ledger, prompts=["new", "new"])
    assert ledger.queries.counts(1).by_status == {"pending": 3}
    with pytest.raises(PlanProblems):
        few.planned(ledger, name="other", prompts=["a cat"], defaults={"duration": 5})
    assert ledger.plans.names() == ["cats"]


def test_play_money_and_real_money_do_not_mix(ledger: Ledger, few: Shop) -> None:
    few.plan(ledger)
    with pytest.raises(PlanError, match="must not mix"):
        make_plan(ledger, load_config(few.file), Catalogs({"video": few.catalog}), "http://127.0.0.1:8787")


def test_a_pattern_chooses_by_prompt_model_or_job(ledger: Ledger, few: Shop) -> None:
    assert few.plan(ledger, "p1").total.to_submit == 1
    assert few.plan(ledger, "google/*").total.to_submit == 3
    [job, *_] = ledger.queries.next_pending(1, LITE, room_nusd=None, unpriced_nusd=None, limit=9)
    assert few.plan(ledger, job.id).total.to_submit == 1
    with pytest.raises(PlanError, match="matches no prompt id"):
        few.plan(ledger, "nothing")


def test_a_rehearsal_has_an_output_directory_of_its_own(shop: Shop) -> None:
    real = load_config(shop.file)
    assert simulated(real).output_dir == real.output_dir.with_name("cats-sim")


def test_caps_are_those_of_the_file_unless_the_command_line_says_otherwise(shop: Shop) -> None:
    assert caps_from_config(load_config(shop.file).budget) == Caps()
    shop.write(budget={"total_usd": 1, "per_job_usd": "0.5", "per_model_usd": {LITE: 2}, "unpriced": 0.25})
    budget = load_config(shop.file).budget
    expected = Caps(total=10**9, per_job=5 * 10**8, per_model={LITE: 2 * 10**9}, unpriced=25 * 10**7)
    assert caps_from_config(budget) == expected
    assert caps_from_config(budget, Decimal("0.1")) == replace(expected, total=10**8)


# What is needed in thousandths of a USD, jobs above the cap, jobs without an upper price, whether it covers all.
M = 10**6
FORECASTS: dict[str, Any] = {
    "total covers": (LITE, Caps(total=400 * M), ("budget.total_usd", 360, 0, 0, True)),
    "total does not": (LITE, Caps(total=300 * M), ("budget.total_usd", 360, 0, 0, False)),
    "total below each": (LITE, Caps(total=100 * M), ("budget.total_usd", 360, 3, 0, False)),
    "per day": (LITE, Caps(per_day=360 * M), ("budget.per_day_usd", 360, 0, 0, True)),
    "per job: the most expensive counts": (LITE, Caps(per_job=120 * M), ("budget.per_job_usd", 120, 0, 0, True)),
    "per model": (
        LITE,
        Caps(per_model={LITE: 300 * M, "another/model": 1}),
        (f"budget.per_model_usd of {LITE}", 360, 0, 0, False),
    ),
    "no upper price": (UNPRICED, Caps(total=10**10), ("budget.total_usd", 0, 0, 3, False)),
    "an amount named": (UNPRICED, Caps(total=10**10, unpriced=2000 * M), ("budget.total_usd", 6000, 0, 0, True)),
}


@pytest.mark.parametrize(("model", "caps", "expected"), FORECASTS.values(), ids=FORECASTS)
def test_each_cap_is_put_beside_the_worst_case(
    ledger: Ledger, few: Shop, model: object, caps: Caps, expected: tuple[object, ...]
) -> None:
    plan = few.planned(ledger, models=[model])
    [cap] = forecast_caps(ledger, plan, caps)
    assert (cap.name, cap.needed_nusd // M, cap.never, cap.unpriced, cap.covers) == expected
    assert forecast_caps(ledger, replace(plan, groups=[]), caps) == []  # nothing to submit needs no room


# -- nothing has changed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("only", [None, "p1", "p[12]", LITE], ids=str)
def test_an_unchanged_plan_says_what_the_first_one_said(ledger: Ledger, shop: Shop, only: str | None) -> None:
    shop.write(
        models=[LITE, WAN],
        defaults={"duration": 4, "resolution": "720p"},
        # What these do not set differs, although they cost the same.
        prompts=["a", {"prompt": "b", "models": [WAN], "provider": {"options": {"alibaba": {"audio": "b.mp3"}}}}],
    )
    first, before = shop.plan(ledger, only), rows(ledger, "*")
    second = shop.plan(ledger, only)
    assert rows(ledger, "*") == before
    assert replace(second, batch=first.batch, config=first.config) == first
    assert first.unset
    assert second.batch.planned_at >= first.batch.planned_at


def test_prices_of_other_models_change_nothing(ledger: Ledger, shop: Shop) -> None:
    first = shop.plan(ledger)
    shop.write(budget={"total_usd": 3})
    shop.catalog = dearer(2, WAN)
    plan = shop.plan(ledger)
    assert (plan.digest, plan.price_changes) == (first.digest, [])
    assert plan.batch.catalog_digest == first.batch.catalog_digest, "only the batch's own models are kept with it"
    shop.catalog = dearer(2)
    plan = shop.plan(ledger)
    assert plan.digest != first.digest
    assert plan.price_changes
    assert plan.batch.catalog_digest == shop.catalog.only([LITE]).digest


def test_another_origin_or_output_folder_is_taken_over_immediately(ledger: Ledger, shop: Shop) -> None:
    shop.plan(ledger)
    config = replace(load_config(shop.file), output_dir=shop.folder / "elsewhere")
    plan = make_plan(ledger, config, Catalogs({"video": shop.catalog}), "https://eu.openrouter.ai")
    assert (plan.batch.origin, plan.batch.output_dir) == ("https://eu.openrouter.ai", str(shop.folder / "elsewhere"))


# -- prices that rise while jobs are open -----------------------------------------------------------------------------


def _fails(books: Books, job_id: str, attempt_id: int) -> None:
    books.ledger.attempts.end(attempt_id, Status.FAILED, Charge(0), NO_CAPS, error="it failed")
    books.ledger.attempts.reopen([job_id], reset_attempts=True)


def _is_refused_late(books: Books, job_id: str, attempt_id: int) -> None:
    books.ledger.attempts.reject(attempt_id, "no such model")
    books.ledger.attempts.reopen([job_id], reset_attempts=True)


def _never_left(books: Books, job_id: str, attempt_id: int) -> None:
    books.ledger.attempts.release(attempt_id, "503")


def _was_not_charged(books: Books, job_id: str, attempt_id: int) -> None:
    books.ledger.attempts.resolve_not_charged(books.attempt(job_id))


def _is_found_and_fails(books: Books, job_id: str, attempt_id: int) -> None:
    books.ledger.attempts.attach_remote_id(books.attempt(job_id), "found")
    _fails(books, job_id, attempt_id)


@pytest.mark.parametrize(
    ("status", "comes_back"),
    [
        pytest.param(Status.SUBMITTED, _fails, id="submitted, then failed"),
        pytest.param(Status.SUBMITTING, _never_left, id="submitting, then never sent"),
        pytest.param(Status.SUBMITTING, _is_refused_late, id="submitting, then refused"),
        pytest.param(Status.UNCERTAIN, _was_not_charged, id="uncertain, then not charged"),
        pytest.param(Status.UNCERTAIN, _is_refused_late, id="uncertain, then refused"),
        pytest.param(Status.UNCERTAIN, _is_found_and_fails, id="uncertain, then found and failed"),
    ],
)
def test_a_job_that_was_open_when_prices_rose_reserves_the_new_price_when_it_is_submitted_again(
    ledger: Ledger, shop: Shop, status: Status, comes_back: Callable[[Books, str, int], None]
) -> None:
    books = claimed(ledger, shop)
    job_id = books.job_ids()[0]
    attempt_id = books.bring_to(job_id, status)
    assert attempt_id is not None
    ledger.leases.release(1, books.holder)
    shop.catalog = dearer(2)
    for _ in range(2):
        shop.plan(ledger)
        accepted = status is Status.SUBMITTED
        assert ledger.queries.job(job_id).estimate_high_nusd == (PRICE if accepted else 2 * PRICE)
    comes_back(books, job_id, attempt_id)
    shop.plan(ledger)
    ledger.leases.claim(1, books.holder, utc_now())
    reservation = books.try_to_reserve(job_id)
    assert isinstance(reservation, Reservation)
    assert reservation.amount_nusd == 2 * PRICE


def _accepted_late(books: Books, job_id: str, attempt_id: int) -> None:
    books.ledger.attempts.accept(attempt_id, "late")


def _found(books: Books, job_id: str, attempt_id: int) -> None:
    books.ledger.attempts.attach_remote_id(books.attempt(job_id), "found")


# An answer that was lost in the run before, or with it: then the job becomes uncertain only after the plan.
@pytest.mark.parametrize("left", [Status.UNCERTAIN, Status.SUBMITTING])
@pytest.mark.parametrize("turns_out", [_accepted_late, _found])
def test_an_attempt_that_was_accepted_after_all_is_held_to_the_price_and_the_name_it_was_submitted_at(
    ledger: Ledger, shop: Shop, turns_out: Callable[[Books, str, int], None], left: Status
) -> None:
    books = claimed(ledger, shop)
    job_id = books.job_ids()[0]
    attempt_id = books.bring_to(job_id, left)
    assert attempt_id is not None
    stem = ledger.queries.job(job_id).stem
    ledger.leases.release(1, books.holder)
    before = rows(ledger, "*", "attempts")
    shop.catalog = dearer(2)
    shop.write(filename="{{ index }}-new")
    shop.plan(ledger)
    assert rows(ledger, "*", "attempts") == before
    ledger.attempts.recover_interrupted(1)
    turns_out(books, job_id, attempt_id)
    job = ledger.queries.job(job_id)
    assert (job.status, job.stem) == (Status.SUBMITTED, stem)
    settled = ledger.attempts.end(attempt_id, Status.COMPLETED, Charge(PRICE + 1), Caps(total=PRICE))
    assert (settled.overrun_nusd, settled.cap_exceeded) == (1, "budget.total_usd")
    [model], _ = ledger.reports.report("model", Filter(1))
    assert (model.charged_nusd, model.reserved_nusd, model.estimated_nusd) == (PRICE + 1, 0, PRICE)


# -- whatever the jobs are made from, a change of it is seen ----------------------------------------------------------


def _same_look(path: Path, content: bytes) -> None:
    """Another content with the size and the times of the one before."""
    before = path.stat()
    assert len(content) == before.st_size
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    inputs._inspect.cache_clear()  # the next command is a process of its own


def _move_the_batch(shop: Shop) -> None:
    """The same text elsewhere names other images."""
    other = shop.folder / "other"
    other.mkdir()
    shop.file = Path(shutil.copy(shop.file, other))
    shutil.copy(shop.prompts, other)
    for name in ("one.png", "two.png"):
        (other / name).write_bytes(painted("blue"))


def _lengthen_the_prompt_file(shop: Shop) -> None:
    shop.prompts.write_text(shop.prompts.read_text() + "one more,\n")


def _change_the_prices(shop: Shop) -> None:
    shop.catalog = dearer(2)


CHANGES: dict[str, Callable[[Shop], None]] = {
    "a prompt": lambda shop: _same_look(shop.prompts, shop.prompts.read_bytes().replace(b"cat 7", b"dog 7")),
    "a longer prompt file": _lengthen_the_prompt_file,
    "an image of the batch file": lambda shop: _same_look(shop.folder / "one.png", painted("#fe0000")),
    "an image of the prompt file": lambda shop: _same_look(shop.folder / "two.png", painted("#00fe00")),
    "the prices": _change_the_prices,
    "the batch file": lambda shop: shop.write(prompts=["another"]),
    "the names of files": lambda shop: shop.write(filename="{{ index }}"),
    "the place of the batch": _move_the_batch,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_is_seen_and_one_that_is_taken_back_too(
    ledger: Ledger, shop: Shop, change: Callable[[Shop], None]
) -> None:
    first, before = shop.plan(ledger).digest, rows(ledger)
    contents = {path: path.read_bytes() for path in shop.folder.iterdir() if path.suffix in (".yaml", ".csv", ".png")}
    file = shop.file
    change(shop)
    digest, expected = in_a_new_ledger(shop)
    for _ in range(2):
        assert shop.plan(ledger).digest == digest
        assert rows(ledger) == expected
    for path, content in contents.items():
        path.write_bytes(content)
    shop.file, shop.catalog = file, snapshot()
    assert shop.plan(ledger).digest == first
    assert rows(ledger) == before
