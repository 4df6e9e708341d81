"""Batches that mix kinds, from the batch file to the report: run, stopped, killed, and gone on with."""

from __future__ import annotations

import json
import shutil
import signal
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from orbatch_simulator import Fault
from tests.desk import LITE, Desk
from tests.images import painted

CONFIGS = Path(__file__).parents[2] / "configs"
LONG = 1e6  # simulated seconds: far beyond a test
SEEDREAM = "bytedance-seed/seedream-4.5"  # 0.04 USD a picture
MINI = "openai/gpt-4o-mini"
VIDEO = {"model": LITE, "duration": 4, "resolution": "720p", "generate_audio": False}
IMAGE = {"model": SEEDREAM, "kind": "image", "n": 2}
TEXT = {"model": MINI, "kind": "text", "max_tokens": 60}


def mixed(desk: Desk, **changes: Any) -> Path:
    """Two prompts for a video, two pictures and a text each."""
    given = {"models": [VIDEO, IMAGE, TEXT], "prompts": ["a cat", "a dog"], "defaults": None} | changes
    return desk.write("mixed", **given)


def exported(desk: Desk, *more: object, name: str = "mixed") -> list[dict[str, Any]]:
    return [json.loads(line) for line in desk.call("export", name, "--all", "--absolute", *more).out.splitlines()]


def test_a_mixed_batch_is_planned_run_reported_and_exported(desk: Desk) -> None:
    path = mixed(desk, budget={"total_usd": 2})
    plan = desk.call("plan", path, "--json").json
    assert [model["to_submit"] for model in plan["models"]] == [2, 2, 2]
    assert "6 of 6 done" in desk.run(path).out
    assert (desk.accepted(), desk.simulator.journal.duplicates) == (6, 0)
    desk.assert_report_equals_journal()
    rows = exported(desk)
    assert [(row["kind"], row["prompt"], len(row["paths"])) for row in rows] == [
        (kind, prompt, count)
        for prompt in ("a cat", "a dog")
        for kind, count in (("video", 1), ("image", 2), ("text", 1))
    ]
    for row in rows:
        if row["kind"] == "image":
            for name in row["paths"]:
                with Image.open(name) as opened:
                    opened.load()
        assert (row["text"] is not None) == (row["kind"] == "text")
    assert sum(Decimal(str(row["cost_usd"])) for row in rows) == sum(
        job.cost_usd for job in desk.simulator.journal.ended()
    )
    bought = desk.accepted()
    assert "nothing to submit" in desk.run(path).err
    assert desk.accepted() == bought
    assert not list(desk.folder.rglob("*.part"))


def test_a_text_is_shown_whole(desk: Desk) -> None:
    desk.run(mixed(desk, models=[TEXT], prompts=["a cat"]))
    [job] = desk.jobs()
    text = Path(job["output_path"]).read_text("utf-8")
    shown = desk.call("show", job["job_id"]).out
    assert all(line in shown for line in text.splitlines())
    assert desk.call("show", job["job_id"], "--json").json["text"] == text


def test_a_capped_text_without_max_tokens_is_refused_and_the_reason_names_it(desk: Desk) -> None:
    path = mixed(desk, models=[{"model": MINI, "kind": "text"}], budget={"total_usd": 1})
    ended = desk.run(path, code=4)
    assert "max_tokens" in ended.err
    assert desk.accepted() == 0


def test_fewer_pictures_than_asked_for_are_recorded_and_shown(desk: Desk) -> None:
    desk.simulator.set_faults(Fault("images", "fewer", times=1))
    path = mixed(desk, models=[IMAGE], prompts=["a cat"])
    assert "1 of 2 images were returned" in desk.run(path).err
    [row] = desk.jobs()
    assert "1 of 2 images were returned" in desk.call("show", row["job_id"]).out
    desk.assert_report_equals_journal()


def test_a_charge_that_the_answer_does_not_know_is_settled_later(desk: Desk) -> None:
    desk.simulator.set_faults(Fault("chat", "null_cost", times=1))
    path = mixed(desk, models=[TEXT], prompts=["a cat"])
    assert "reserved 0.0000" in desk.run(path).out
    # The service knows it after a while only.
    desk.until(lambda: "Every charge is known" in desk.call("report", "--settle").err, "the charge")
    desk.assert_report_equals_journal()


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        pytest.param(Fault("images", "answer", status=502, times=1), "done", id="502: sent again"),
        pytest.param(Fault("images", "answer", status=503, times=1), "done", id="503: sent again"),
        pytest.param(Fault("images", "answer", status=500, accept=True, times=1), "uncertain", id="500"),
        pytest.param(Fault("images", "cut_answer", accept=True, times=1), "uncertain", id="cut off"),
    ],
)
def test_a_failing_image_call_never_costs_twice(desk: Desk, fault: Fault, status: str) -> None:
    desk.simulator.set_faults(fault)
    path = mixed(desk, models=[IMAGE], prompts=["a cat"])
    for _ in range(2):
        desk.run(path, code=None)
        assert desk.statuses() == [status]
        assert desk.accepted() == 1


def test_killed_while_an_answer_is_on_its_way_the_job_is_uncertain_and_not_sent_again(desk: Desk) -> None:
    desk.simulator.set_faults(Fault("images", "delay", accept=True, delay_s=LONG))
    path = mixed(desk, prompts=["a cat"])
    with desk.running(path) as run:
        desk.until(lambda: sorted(desk.statuses()) == ["done", "done", "submitting"])
        run.signal(signal.SIGKILL)
        run.finish(-signal.SIGKILL)
    bought = desk.accepted()
    assert "1 job is uncertain" in desk.run(path, code=5).err
    assert sorted(desk.statuses()) == ["done", "done", "uncertain"]
    assert desk.accepted() == bought == 3
    [row] = [row for row in desk.jobs() if row["status"] == "uncertain"]
    desk.call("resolve", row["job_id"], "--charged", "0.08")
    desk.assert_report_equals_journal()


def test_interrupted_the_answers_in_the_air_are_kept_and_the_same_command_goes_on(desk: Desk) -> None:
    desk.simulator.set_faults(Fault("images", "delay", accept=True, delay_s=200, times=1))
    path = mixed(
        desk, limits={"in_flight": 1, "submits_per_minute": 6000}, models=[IMAGE], prompts=["one", "two", "three"]
    )
    with desk.running(path) as run:
        desk.until(lambda: desk.accepted() >= 1, "an image request")
        run.signal(signal.SIGINT)
        run.finish(130)
    assert desk.accepted() == 1
    assert desk.statuses() == ["done", "pending", "pending"]
    assert "3 of 3 done" in desk.run(path).out
    assert desk.accepted() == 3
    desk.assert_report_equals_journal()


@pytest.mark.parametrize("name", ["image-comparison", "mixed", "text"])
def test_the_examples_are_rehearsed_without_a_key(desk: Desk, name: str) -> None:
    shutil.copytree(CONFIGS, desk.folder / "configs")
    config = f"configs/{name}.yaml"
    assert "to submit" in desk.call("plan", config, "--simulate", OPENROUTER_API_KEY="").out
    desk.call("run", config, "--simulate", "--speed", 400, OPENROUTER_API_KEY="")
    rows = exported(desk, "--simulate", name=name)
    assert {row["status"] for row in rows} == {"done"}
    assert all(Path(path).is_file() for row in rows for path in row["paths"])


def test_urls_that_cannot_be_fetched_are_reported_by_the_plan(desk: Desk) -> None:
    image = IMAGE | {"references": ["https://127.0.0.1:9/a.png?signature=secret"]}
    path = mixed(desk, models=[image], prompts=["a cat"])
    ended = desk.call("plan", path, "--check-urls", code=2)
    assert "https://127.0.0.1/a.png: cannot be reached" in ended.err
    assert "secret" not in ended.text
    assert desk.call("plan", path).code == 0


def test_a_picture_that_is_cut_short_is_found_before_anything_is_sent(desk: Desk) -> None:
    (desk.folder / "a.png").write_bytes(painted(size=(90, 90))[:-20])
    path = mixed(desk, models=[IMAGE | {"references": "a.png"}], prompts=["a cat"])
    assert "does not open as an image" in desk.run(path, code=2).err
    assert desk.accepted() == 0


def test_a_prompt_file_may_mix_kinds_row_by_row(desk: Desk) -> None:
    (desk.folder / "rows.csv").write_text(
        f"prompt,kind,models,n,max_tokens\na cat,image,{SEEDREAM},1,\na dog,text,{MINI},,40\n", "utf-8"
    )
    desk.run(mixed(desk, models=[SEEDREAM, MINI], prompts=None, prompts_from="rows.csv"))
    assert [(row["kind"], row["status"]) for row in exported(desk)] == [("image", "done"), ("text", "done")]
    desk.assert_report_equals_journal()


def test_an_uncertain_picture_cannot_be_followed_and_a_missing_one_not_fetched_again(desk: Desk) -> None:
    path = mixed(desk, models=[IMAGE], prompts=["a cat", "a dog"])
    desk.simulator.set_faults(Fault("images", "cut_answer", accept=True, times=1))
    ended = desk.run(path, code=5)
    assert "--charged USD     charged, and the output cannot be retrieved" in ended.err
    assert "--remote-id" not in ended.err
    [lost] = [row for row in desk.jobs() if row["status"] == "uncertain"]
    assert "cannot be polled" in desk.call("resolve", lost["job_id"], "--remote-id", "x", code=2).err
    [done] = [row for row in desk.jobs() if row["status"] == "done"]
    Path(done["output_path"]).unlink()
    assert "cannot be downloaded again" in desk.call("verify", "--yes", code=1).err


def test_every_submit_names_its_attempt_unless_the_batch_file_names_a_user(desk: Desk) -> None:
    desk.run(mixed(desk, models=[VIDEO, IMAGE, {**TEXT, "user": "studio-7"}]))
    with desk.ledger() as ledger, ledger.database.read() as db:
        keys = {row["key"] for row in db.execute("select key from attempts where model != :text", {"text": MINI})}
    jobs = desk.simulator.journal.jobs.values()
    assert {job.body["user"] for job in jobs if job.kind != "text"} == keys
    assert {job.body["user"] for job in jobs if job.kind == "text"} == {"studio-7"}
    assert len(keys) == 4
