"""A request that another batch of the ledger has paid for is reused, and not bought a second time."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from orbatch_simulator import Fault
from tests.desk import Desk


@pytest.fixture
def bought(desk: Desk) -> Desk:
    """A desk whose batch ``films`` is done."""
    desk.run(desk.write())
    return desk


def files(desk: Desk, batch: str) -> list[Path]:
    return sorted((desk.folder / "outputs" / batch).glob("*.mp4"))


def test_a_renamed_batch_buys_nothing(bought: Desk) -> None:
    run = bought.run(bought.write(name="renamed"))
    assert "3 jobs reused from batch films" in run.err
    assert "This saves 0.36 USD" in run.err
    assert "3 of 3 done. Spent 0.00 USD" in run.out
    assert bought.accepted() == 3
    assert [path.read_bytes() for path in files(bought, "renamed")] == [p.read_bytes() for p in files(bought, "films")]
    assert {row["cost_usd"] for row in bought.jobs("renamed")} == {0}
    assert "reused from job" in bought.call("show", bought.jobs("renamed")[0]["job_id"]).out


def test_a_plan_says_what_is_reused_and_counts_only_the_rest(bought: Desk) -> None:
    plan = bought.call("plan", bought.write(name="more", prompts=["a cat", "a bee"]))
    assert "1 job reused from batch films" in plan.err
    assert "more: 1 job to submit, 0.12 USD." in plan.out
    bought.run("more.yaml")
    assert bought.accepted() == 4


def test_a_price_that_changed_is_told_also_where_jobs_are_reused(bought: Desk) -> None:
    bought.call("plan", bought.write(name="more", prompts=["a bee"]))
    with bought.ledger() as ledger, ledger.database.write() as db:
        db.execute("update catalogs set digest = 'earlier', models = replace(models, '\"0.03\"', '\"0.05\"')")
    plan = bought.call("plan", bought.write(name="more", prompts=["a bee", "a cat"]))
    assert "1 job reused from batch films" in plan.err
    assert "Price change since the last plan" in plan.out


def test_fresh_buys_it_anew(bought: Desk) -> None:
    assert "3 of 3 done. Spent 0.36 USD" in bought.run(bought.write(name="anew"), "--fresh").out
    assert bought.accepted() == 6


@pytest.mark.parametrize("change", ["removed", "edited"])
def test_a_file_that_is_not_what_was_paid_for_is_bought(bought: Desk, change: str) -> None:
    first = files(bought, "films")[0]
    first.unlink() if change == "removed" else first.write_bytes(b"edited")
    bought.run(bought.write(name="renamed"))
    assert bought.accepted() == 4


def test_a_ledger_that_is_lost_knows_reused_jobs_from_the_receipts(bought: Desk) -> None:
    bought.run(bought.write(name="renamed"))
    for path in bought.folder.glob("orbatch.db*"):
        path.unlink()
    shutil.rmtree(bought.folder / "outputs" / "films")
    bought.run("renamed.yaml")
    assert bought.accepted() == 3


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({"prompt": "a cat\r\nand a dog"}, {"prompt": "a cat\nand a dog"}, id="line endings"),
        pytest.param({"prompt": "caf\u00e9"}, {"prompt": "cafe\u0301"}, id="composed accents"),
        pytest.param(
            {"prompt": "a", "first_frame": "https://b.example/a.png?v=1&X-Amz-Signature=aa&X-Amz-Expires=60"},
            {"prompt": "a", "first_frame": "https://b.example/a.png?v=1&X-Amz-Signature=bb&X-Amz-Expires=90"},
            id="signature",
        ),
    ],
)
def test_the_same_words_are_the_same_job(desk: Desk, before: dict[str, str], after: dict[str, str]) -> None:
    desk.run(desk.write(prompts=[{"id": "one", **before}]))
    for written in (after, before):
        path = desk.write(prompts=[{"id": "one", **written}])
        assert "nothing to submit" in desk.run(path).err
    assert desk.accepted() == 1
    other = {
        name: text.replace("v=1", "v=2").replace("a cat", "a bat").replace("caf", "Caf") for name, text in after.items()
    }
    desk.run(desk.write(prompts=[{"id": "one", **other}]))
    assert desk.accepted() == 2, "other words are another job"


def test_a_parameter_of_an_url_that_is_not_signed_is_part_of_it(desk: Desk) -> None:
    for version in (1, 2):
        frame = f"https://b.example/a.png?st={version}"
        desk.run(desk.write(prompts=[{"id": "one", "prompt": "a", "first_frame": frame}]))
    assert desk.accepted() == 2


def test_what_another_batch_has_in_flight_is_not_bought_beside_it(desk: Desk) -> None:
    desk.simulator.set_faults(Fault("job", "never_ends", prompt_contains="cat"))
    briefly = {"interval": 10, "timeout": 60}
    films = desk.write(polling=briefly)
    desk.run(films, code=3)  # it leaves the cat at the provider
    twin = desk.write(name="twin", prompts=["a cat", "a bee"], polling=briefly)
    plan = desk.call("plan", twin)
    assert "1 job waits for batch films, which has submitted the same request and has no file of it yet." in plan.err
    run = desk.run(twin, code=3)
    assert "1 job not submitted: batch films has submitted the same request" in run.err
    assert desk.prompts_bought() == ["a bee", "a cat", "a cow", "a dog"]
    assert desk.statuses().count("pending") == 1

    run = desk.run(twin, "--fresh", code=3)
    assert "waits for batch films" not in run.err
    assert desk.prompts_bought().count("a cat") == 2


def test_a_held_job_takes_the_file_when_the_other_batch_has_it(desk: Desk) -> None:
    desk.simulator.set_faults(Fault("content", "answer", status=503, prompt_contains="cat", times=400))
    films = desk.write()
    with desk.running(films) as first:
        desk.until(lambda: desk.accepted() == 3, "the submits")
        twin = desk.write(name="twin", prompts=["a cat"])
        assert "twin: 0 of 1 done" in desk.run(twin, code=3).out
        desk.simulator.set_faults()
        first.finish(0)
    assert "1 job reused from batch films" in desk.run(twin).err
    assert desk.accepted() == 3
