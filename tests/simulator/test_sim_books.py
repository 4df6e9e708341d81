"""The books: complete, durable, and without a key in them."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path

import pytest

from orbatch_simulator import Fault, Simulator
from tests.simulator.conftest import HOUR, KEY, ORDER, Open


async def test_a_restarted_simulator_goes_on_with_the_same_jobs(open_simulator: Open, tmp_path: Path) -> None:
    journal = tmp_path / "books.jsonl"
    before = await open_simulator(journal_path=journal)
    job_id = await before.finish()
    content = (await before.call("GET", f"/videos/{job_id}/content")).body
    running = await before.start(prompt="another")
    seen = await before.journal()
    await before.simulator.stop()

    after = await open_simulator(journal_path=journal)
    after.clock.advance(HOUR)
    assert await after.journal() == seen
    assert (await after.poll(job_id))["usage"]["cost"] == 0.12
    assert (await after.call("GET", f"/videos/{job_id}/content")).body == content
    assert after.simulator.journal.downloads == 2
    after.clock.advance(HOUR)
    assert (await after.poll(running))["status"] == "completed"
    assert after.simulator.journal.charged == Decimal("0.24")


async def test_an_accepted_job_is_on_disk_before_its_answer(open_simulator: Open, tmp_path: Path) -> None:
    journal = tmp_path / "books.jsonl"
    caller = await open_simulator(journal_path=journal)
    caller.simulator.set_faults(Fault("submit", "delay", accept=True, delay_s=60))
    submit = asyncio.ensure_future(caller.submit())
    await caller.clock.until_someone_sleeps()
    (line,) = journal.read_text("utf-8").splitlines()
    assert (json.loads(line)["event"], json.loads(line)["body"]) == ("accepted", dict(ORDER))
    caller.clock.advance(60)
    await submit


async def test_a_line_that_was_cut_off_is_dropped(open_simulator: Open, tmp_path: Path) -> None:
    journal = tmp_path / "books.jsonl"
    caller = await open_simulator(journal_path=journal)
    await caller.start()
    await caller.simulator.stop()
    journal.write_bytes(journal.read_bytes() + b'{"event": "acc')

    again = await open_simulator(journal_path=journal)
    await again.start(prompt="another")
    assert again.simulator.journal.accepted == 2
    await again.simulator.stop()
    assert (await open_simulator(journal_path=journal)).simulator.journal.accepted == 2


async def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("dear diary\n", "utf-8")
    with pytest.raises(ValueError, match=r"notes.txt is not a simulator journal \(line 1\)"):
        await Simulator(journal_path=other).start()
    assert other.read_text("utf-8") == "dear diary\n"


async def test_duplicates_are_equal_bodies_under_one_key(open_simulator: Open) -> None:
    caller = await open_simulator()
    await caller.start()
    await caller.start(prompt="another")
    same = json.dumps(dict(reversed(dict(ORDER).items())))
    assert (await caller.call("POST", "/videos", data=same)).status == 202
    assert (await caller.call("POST", "/videos", key="sk-or-v1-another", data=same)).status == 202
    books = caller.simulator.journal
    assert (books.accepted, books.duplicates, sorted(books.bodies.values())) == (4, 1, [1, 1, 2])
    assert [job.submit_count for job in books.jobs.values()] == [1, 1, 2, 1]


async def test_a_reset_empties_the_books_for_good(open_simulator: Open, tmp_path: Path) -> None:
    journal = tmp_path / "books.jsonl"
    caller = await open_simulator(journal_path=journal)
    job_id = await caller.finish()
    assert (await caller.control("POST", "reset")).json["accepted"] == 0
    assert (await caller.call("GET", f"/videos/{job_id}")).status == 404
    await caller.simulator.stop()
    assert (await open_simulator(journal_path=journal)).simulator.journal.summary()["committed"] == "0"


async def test_the_key_is_in_no_book_answer_or_setting(open_simulator: Open, tmp_path: Path) -> None:
    journal = tmp_path / "books.jsonl"
    caller = await open_simulator(journal_path=journal)
    job_id = await caller.finish()
    await caller.call("GET", f"/videos/{job_id}/content")
    answers = [(await caller.control("GET", name)).body for name in ("journal", "settings")]
    assert KEY.encode() not in b"".join([journal.read_bytes(), *answers])


async def test_settings_change_while_it_runs_and_nonsense_is_refused(open_simulator: Open) -> None:
    caller = await open_simulator()
    reply = await caller.control("POST", "settings", {"speed": 30, "credit_usd": "0.10", "ranges": True})
    assert (reply.status, reply.json["speed"], reply.json["credit_usd"]) == (200, 30, "0.10")
    assert (await caller.submit()).status == 402
    for body, sentence in (
        ({"sped": 3}, "unknown setting 'sped'"),
        ({"speed": "fast"}, "speed: Input should be a valid number"),
        ({"speed": 0}, "speed: Input should be greater than 0"),
        ({"credit_usd": 0.1}, "credit_usd: must be an amount such as"),
        ({"api_keys": ["x"]}, "unknown setting 'api_keys'"),
        ([], "settings must be a JSON object"),
    ):
        refused = await caller.control("POST", "settings", body)
        assert refused.status == 400
        assert sentence in refused.json["error"]
