"""``from: {batch, picked}``: a batch whose prompts are what is picked of another one, at the moment of the plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
