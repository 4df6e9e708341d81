"""``from: {batch, picked}``: a batch whose prompts are what is picked of another one, at the moment of the plan."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.conftest import Open
from tests.desk import HORSE, Desk


def pick(desk: Desk, *prompts: str, mark: str | None = "pick") -> None:
    with desk.ledger() as ledger:
        batch = ledger.plans.find("films")
        assert batch is not None
        for job in ledger.reports.exported_jobs(batch.id):
            if job.prompt in prompts:
                ledger.reviews.add(job.job_id, "me", "mark", mark)


def finals(desk: Desk, **changes: Any) -> Path:
    follows = {"prompts": None, "from": {"batch": "films", "picked": True}}
    return desk.write(name="finals", **follows | changes)


def test_finals_follow_the_picks_of_today(desk: Desk) -> None:
    desk.run(desk.write(prompts=[{"prompt": "a {{ pet }}", "vars": {"pet": ["cat", "dog"]}, "seed": 7}, "a cow"]))
    path = finals(desk, models=[HORSE], defaults={"duration": 5, "resolution": "1080p"})
    nothing = desk.call("plan", path, code=2).err
    assert "from.picked: nothing of films is picked; `orbatch view films` is where to pick" in nothing

    pick(desk, "a cat", "a cow")
    assert "finals: 2 jobs to submit" in desk.call("plan", path).out
    desk.run(path)
    pick(desk, "a cow", mark=None)
    pick(desk, "a dog")
    assert "finals: 1 job to submit" in desk.call("plan", path).out
    desk.run(path)
    made = [dict(job.body) for job in desk.simulator.journal.jobs.values() if job.model == HORSE]
    assert sorted(body["prompt"] for body in made) == ["a cat", "a cow", "a dog"]
    assert {(body["prompt"], body.get("seed")) for body in made} >= {("a cat", 7), ("a dog", 7), ("a cow", None)}
    assert {(body["duration"], body["resolution"]) for body in made} == {(5, "1080p")}, "the file's, not the draft's"


def test_picks_on_two_models_are_one_final(desk: Desk) -> None:
    desk.run(desk.write(prompts=["a cat"], models=["google/veo-3.1-lite", "google/veo-3.1-fast"]))
    pick(desk, "a cat")
    assert "finals: 1 job to submit" in desk.call("plan", finals(desk, models=[HORSE], defaults={"duration": 5})).out


def test_what_is_wrong_with_from_is_said_with_its_line(desk: Desk) -> None:
    desk.run(desk.write(prompts=["a cat"]))
    unknown = finals(desk, **{"from": {"batch": "film", "picked": True}})
    line = 1 + next(at for at, text in enumerate(unknown.read_text().splitlines()) if '"from"' in text)
    said = desk.call("plan", unknown, code=2).err
    assert f"finals.yaml:{line}: from.batch: the ledger has no batch film; it has: films" in said
    unpicked = finals(desk, **{"from": {"batch": "films", "picked": False}})
    assert "from.picked: found false; allowed: true" in desk.call("plan", unpicked, code=2).err
    both = finals(desk, prompts=["a dog"])
    assert "from: takes the place of prompts and prompts_from" in desk.call("plan", both, code=2).err


def test_upscaling_keeps_the_picked_clip_and_says_what_it_costs(open_desk: Open) -> None:
    desk = open_desk(clip_bytes=None, source_seconds=Decimal(4))
    desk.run(desk.write(prompts=["a cat", "a dog"]))
    assert "no video is picked" in desk.call("final", "films", "--upscale", "2", code=2).err
    pick(desk, "a cat")
    on_disk = desk.call("final", "films", "--upscale", "2", code=2).err
    assert "reads each clip from an https URL, and the picked ones are only on this machine. Upload p1-veo" in on_disk

    where = ["--upscale", "2", "--urls", "https://cdn.example.com/films/", "-o", "upscaled.yaml"]
    refused = desk.call("final", "films", *where, "--model", HORSE, code=2).err
    assert f"{HORSE} does not upscale. Models that do: black-forest-labs/flux-video-upscale" in refused
    assert "--set does not go with --upscale" in desk.call("final", "films", *where, "--set", "seed=1", code=2).err
    said = desk.call("final", "films", *where)
    assert "Created upscaled.yaml from 1 pick of films." in said.err
    assert "Upscaling 1 clip by 2 with black-forest-labs/flux-video-upscale costs 1.0547 to 1.5483 USD" in said.err
    assert "any amount" not in said.out
    desk.run("upscaled.yaml", "--refresh")
    (made,) = [job for job in desk.simulator.journal.jobs.values() if job.model.endswith("upscale")]
    (source,) = made.body["input_references"]
    assert source["video_url"]["url"].startswith("https://cdn.example.com/films/p1-veo-3.1-lite-")
    assert Decimal("1.0546") < made.cost_usd < Decimal("1.5483")
