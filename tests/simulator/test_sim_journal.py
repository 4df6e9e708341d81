"""The journal: complete, durable, and without a key in it."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path

import pytest

from orbatch_simulator import Fault, Simulator
from tests.simulator.conftest import HOUR, KEY, REQUEST, Caller, Open


async def test_a_restarted_simulator_resumes_with_the_same_jobs(open_simulator: Open, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    before = await open_simulator(journal_path=path)
    job_id = await before.finish()
    content = (await before.call("GET", f"/videos/{job_id}/content")).body
    running = await before.start(prompt="another")
    seen = await before.journal()
    await before.simulator.stop()
    with path.open("ab") as file:
        file.write(b'{"event": "acc')  # cut off by a kill, before its answer was sent

    after = await open_simulator(journal_path=path)
    after.clock.advance(HOUR)
    assert await after.journal() == seen
    assert (await after.poll(job_id))["usage"]["cost"] == 0.12
    assert (await after.call("GET", f"/videos/{job_id}/content")).body == content
    assert after.simulator.journal.downloads == 2
    after.clock.advance(HOUR)
    assert (await after.poll(running))["status"] == "completed"
    assert after.simulator.journal.charged == Decimal("0.24")
    await after.simulator.stop()
    assert (await open_simulator(journal_path=path)).simulator.journal.accepted == 2
    assert KEY not in path.read_text("utf-8") + json.dumps(seen)


async def test_a_journal_of_an_older_version_is_read(open_simulator: Open, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    before = await open_simulator(journal_path=path)
    await before.start()
    await before.simulator.stop()
    entry = json.loads(path.read_text("utf-8"))
    del entry["kind"]  # before there were images
    path.write_text(json.dumps(entry | {"queue_s": 0.0}) + "\n", "utf-8")
    assert (await open_simulator(journal_path=path)).only_job().kind == "video"


async def test_an_accepted_job_is_on_disk_before_its_answer(open_simulator: Open, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    caller = await open_simulator(journal_path=path)
    caller.simulator.set_faults(Fault("submit", "delay", accept=True, delay_s=60))
    submit = asyncio.ensure_future(caller.submit())
    await caller.clock.until_someone_sleeps()
    (line,) = path.read_text("utf-8").splitlines()
    assert (json.loads(line)["event"], json.loads(line)["body"]) == ("accepted", dict(REQUEST))
    caller.clock.advance(60)
    await submit


async def test_a_file_that_is_not_a_journal_is_not_touched(tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("dear diary\n", "utf-8")
    with pytest.raises(ValueError, match=r"notes.txt is not a simulator journal \(line 1\)"):
        await Simulator(journal_path=other).start()
    assert other.read_text("utf-8") == "dear diary\n"


async def test_duplicates_are_equal_bodies_under_one_key(caller: Caller) -> None:
    await caller.start()
    await caller.start(prompt="another")
    same = json.dumps(dict(reversed(dict(REQUEST).items())))
    for key in (KEY, "sk-or-v1-another"):
        assert (await caller.call("POST", "/videos", key=key, data=same)).status == 202
    journal = caller.simulator.journal
    assert (journal.accepted, journal.duplicates, sorted(journal.bodies.values())) == (4, 1, [1, 1, 2])
    assert [job.submit_count for job in journal.jobs.values()] == [1, 1, 2, 1]
