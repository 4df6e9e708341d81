"""Every fault, as a caller meets it, and what it leaves in the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest

from orbatch_simulator import Fault, SimulatorSettings
from tests.simulator.conftest import HOUR, KEY, REQUEST, Caller, Open

STATUSES = (400, 401, 402, 403, 404, 408, 409, 410, 413, 422, 429, 499, 500, 502, 503, 504, 524, 529)
MP4 = "video/mp4"
READS = ("poll", "content", "models", "key", "generation")
PAID: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "submit": ("/videos", REQUEST),
    "images": ("/images", {"model": "bytedance-seed/seedream-4.5", "prompt": "A cat"}),
    "chat": ("/chat/completions", {"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": "A cat"}]}),
}


async def make(caller: Caller, call: str) -> Any:
    """One call of the kind; reads are about a finished job."""
    if call in PAID:
        path, body = PAID[call]
        return await caller.call("POST", path, json=dict(body))
    job_id = next(iter(caller.simulator.journal.jobs), None) or await caller.finish()
    generation_id = caller.simulator.journal.jobs[job_id].generation_id
    paths = {
        "poll": f"/videos/{job_id}",
        "content": f"/videos/{job_id}/content",
        "models": "/videos/models",
        "key": "/key",
        "generation": f"/generation?id={generation_id}",
    }
    return await caller.call("GET", paths[call])


@pytest.mark.parametrize("call", [*PAID, *READS])
@pytest.mark.parametrize("status", STATUSES)
async def test_any_call_can_be_refused_with_any_status_in_an_envelope(caller: Caller, call: str, status: int) -> None:
    caller.simulator.set_faults(Fault(call, status=status))
    reply = await make(caller, call)
    assert (reply.status, reply.json["error"]["code"]) == (status, status)
    assert reply.json["error"]["metadata"]["error_type"]
    assert "Retry-After" not in reply.headers
    assert call not in PAID or caller.simulator.journal.accepted == 0
    caller.simulator.set_faults()
    assert (await make(caller, call)).status == (202 if call == "submit" else 200)


LOST: tuple[Mapping[str, Any], ...] = (
    *({"status": status} for status in (408, 429, 500, 502, 503, 504, 524, 529)),
    {"action": "cut"},
    {"action": "cut_answer"},
    {"action": "cut_answer", "at_byte": 10},
    {"action": "redirect", "status": 307, "location": "https://elsewhere.example"},
    {"status": 502, "body": "html"},
    {"status": 200, "body": "truncated"},
    {"status": 202, "body": "empty"},
    {"status": 200, "body": "json"},  # an error object in a 200
    {"action": "edit", "drop": ["id", "data", "choices"]},
    {"action": "edit", "fields": {"id": 5, "data": [{"b64_json": "!"}], "choices": None}},
)


@pytest.mark.parametrize("call", PAID)
@pytest.mark.parametrize("fault", LOST, ids=str)
async def test_an_accepted_request_can_lose_its_answer(caller: Caller, call: str, fault: Mapping[str, Any]) -> None:
    caller.simulator.set_faults(Fault(call, accept=True, times=1, prompt_contains="cat", **fault))
    is_cut = fault.get("action") in ("cut", "cut_answer")
    try:
        reply = await make(caller, call)
    except aiohttp.ClientError:
        assert is_cut
    else:
        assert not is_cut
        assert reply.status == fault.get("status", reply.status)
        assert b'"id": "gen-vid-' not in reply.body or fault.get("body") == "truncated"
    job = caller.only_job()
    assert (job.withheld, caller.simulator.journal.downloads) == (True, 0)
    caller.clock.advance(HOUR)
    assert caller.simulator.journal.charged == job.cost_usd > 0


@pytest.mark.parametrize("call", [*PAID, *READS])
@pytest.mark.parametrize("action", ["cut", "hang_up"])
async def test_any_call_can_be_cut_without_an_answer(caller: Caller, call: str, action: str) -> None:
    caller.simulator.set_faults(Fault(call, action))
    with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
        await make(caller, call)
    assert call not in PAID or caller.simulator.journal.accepted == 0


@pytest.mark.parametrize("call", READS)
async def test_a_read_can_be_cut_inside_its_answer(caller: Caller, call: str) -> None:
    caller.simulator.set_faults(Fault(call, "cut_answer"))
    with pytest.raises(aiohttp.ClientPayloadError):
        await make(caller, call)


@pytest.mark.parametrize("call", [*PAID, *READS])
async def test_any_call_can_be_redirected(caller: Caller, call: str) -> None:
    caller.simulator.set_faults(Fault(call, "redirect", status=302, location="https://elsewhere.example/x"))
    reply = await make(caller, call)
    assert (reply.status, reply.headers["Location"]) == (302, "https://elsewhere.example/x")


@pytest.mark.parametrize(
    ("call", "fault", "media_type", "beginning"),
    [
        ("poll", {"body": "html"}, "text/html", b"<!DOCTYPE html>"),
        ("poll", {"body": "text"}, "text/plain", b"upstream"),
        ("poll", {"body": "empty"}, "application/json", b""),
        ("poll", {"body": "list"}, "application/json", b"[]"),
        ("poll", {"body": "truncated"}, "application/json", b'{"id": "gen-vid-'),
        ("poll", {"body": "json"}, "application/json", b'{"error": {"code": 200'),
        ("content", {"body": "html"}, "text/html", b"<!DOCTYPE"),
        ("content", {"body": "html", "word": MP4}, MP4, b"<!DOCTYPE"),
        ("content", {"body": "empty", "word": MP4}, MP4, b""),
        ("content", {"action": "content_type", "word": "text/plain"}, "text/plain", b"\0\0\0"),
    ],
)
async def test_a_success_can_carry_any_body(
    caller: Caller, call: str, fault: Mapping[str, Any], media_type: str, beginning: bytes
) -> None:
    caller.simulator.set_faults(Fault(call, status=200, **fault))
    reply = await make(caller, call)
    assert (reply.status, reply.headers["Content-Type"].partition(";")[0]) == (200, media_type)
    assert reply.body.startswith(beginning)
    if fault.get("body") in ("truncated", "text", "empty"):
        with pytest.raises(ValueError, match=r"line 1"):
            _ = reply.json


@pytest.mark.parametrize("accept", [True, False])
async def test_a_submit_is_accepted_before_or_after_a_delay_of_simulated_seconds(
    open_simulator: Open, accept: bool
) -> None:
    caller = await open_simulator(SimulatorSettings(speed=30))
    caller.simulator.set_faults(Fault("submit", "delay", delay_s=90, accept=accept))
    submit = asyncio.ensure_future(caller.submit())
    await caller.clock.until_someone_sleeps()
    assert caller.simulator.journal.accepted == int(accept)
    caller.clock.advance(3)
    assert (await submit).status == 202
    assert not caller.only_job().withheld


async def test_a_simulator_closes_while_answers_are_held_back(caller: Caller) -> None:
    caller.simulator.set_faults(Fault("submit", "delay", delay_s=HOUR, accept=True))
    submit = asyncio.ensure_future(caller.submit())
    await caller.clock.until_someone_sleeps()
    await caller.simulator.stop()
    with pytest.raises(aiohttp.ClientError):
        await submit


@pytest.mark.parametrize(("given", "header"), [(7, "7"), (0.5, "0.5"), ("soon", "soon")])
async def test_retry_after_is_sent_as_given(caller: Caller, given: float | str, header: str) -> None:
    caller.simulator.set_faults(Fault("submit", status=429, retry_after=given))
    assert (await caller.submit()).headers["Retry-After"] == header


async def test_fields_of_an_answer_can_be_replaced_and_left_out(caller: Caller) -> None:
    job_id = await caller.finish()
    caller.simulator.set_faults(Fault("poll", "edit", fields={"status": "warming_up"}, drop=["unsigned_urls"]))
    job = await caller.poll(job_id)
    assert job["status"] == "warming_up"
    assert "unsigned_urls" not in job
    assert job["usage"]["cost"] == 0.12


async def read_into(received: bytearray, response: aiohttp.ClientResponse) -> None:
    async for chunk in response.content.iter_any():
        received += chunk


@pytest.mark.parametrize("ranges", [False, True])
@pytest.mark.parametrize("at_byte", [0, 100, 70_000, None])
async def test_a_download_can_be_cut_anywhere(open_simulator: Open, ranges: bool, at_byte: int | None) -> None:
    caller = await open_simulator(SimulatorSettings(clip_bytes=100_000, ranges=ranges))
    path = f"{caller.simulator.base_url}/videos/{await caller.finish()}/content"
    caller.simulator.set_faults(Fault("content", "cut_answer", at_byte=at_byte, times=1))
    received = bytearray()
    async with caller.http.get(path, headers={"Authorization": f"Bearer {KEY}"}) as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await read_into(received, response)
    assert len(received) <= (50_000 if at_byte is None else at_byte)
    assert caller.simulator.journal.downloads == 0
    whole = await caller.call("GET", path)
    assert (len(whole.body), whole.body[: len(received)]) == (100_000, bytes(received))
    assert caller.simulator.journal.downloads == 1


async def test_a_download_can_stall_and_continue(open_simulator: Open) -> None:
    caller = await open_simulator(SimulatorSettings(clip_bytes=100_000))
    job_id = await caller.finish()
    caller.simulator.set_faults(Fault("content", "stall", at_byte=10, delay_s=30))
    download = asyncio.ensure_future(caller.call("GET", f"/videos/{job_id}/content"))
    await caller.clock.until_someone_sleeps()
    caller.clock.advance(30)
    assert len((await download).body) == 100_000


async def test_content_can_be_late_by_some_tries_for_each_job(caller: Caller) -> None:
    caller.simulator.set_faults(Fault("content", status=409, times=2, per_job=True))
    for prompt in ("one", "two"):
        job_id = await caller.finish(prompt=prompt)
        replies = [await caller.call("GET", f"/videos/{job_id}/content") for _ in range(3)]
        assert [reply.status for reply in replies] == [409, 409, 200]


async def statuses(caller: Caller, count: int, **changes: Any) -> list[int]:
    return [(await caller.submit(**changes)).status for _ in range(count)]


async def test_a_fault_can_skip_some_calls_strike_a_number_of_times_or_last_for_a_while(caller: Caller) -> None:
    caller.simulator.set_faults(Fault("submit", status=503, after=1, times=2))
    assert await statuses(caller, 5) == [202, 503, 503, 202, 202]
    caller.simulator.set_faults(Fault("submit", status=429, for_s=60))
    assert await statuses(caller, 2) == [429, 429]
    caller.clock.advance(60)
    assert await statuses(caller, 2) == [202, 202]


async def test_a_fault_can_concern_one_model_or_some_prompts(caller: Caller) -> None:
    caller.simulator.set_faults(
        Fault("submit", status=503, model="google/veo-3.1-fast"), Fault("submit", status=500, prompt_contains="dog")
    )
    assert await statuses(caller, 1) == [202]
    assert await statuses(caller, 1, model="google/veo-3.1-fast") == [503]
    assert await statuses(caller, 1, prompt="A dog") == [500]


async def test_faults_with_a_probability_repeat_with_the_seed(open_simulator: Open) -> None:
    seen = []
    for seed in (1, 1, 2):
        settings = SimulatorSettings(seed=seed, faults=(Fault("submit", status=503, probability=0.5),))
        seen.append(await statuses(await open_simulator(settings), 20))
    assert seen[0] == seen[1] != seen[2]
    assert {202, 503} == set(seen[0])


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ({"call": "sumbit"}, "call must be one of"),
        ({"call": "submit", "action": "stall"}, "submit knows the actions"),
        ({"call": "poll", "body": "xml"}, "body must be one of"),
        ({"call": "submit", "staus": 500}, "unknown field"),
        ({"call": "submit", "action": "redirect"}, "redirect needs a location"),
        ({"call": "poll", "accept": True}, "accept is only for submit, images and chat"),
        ({"call": "chat", "action": "fewer"}, "chat knows the actions"),
        ({"call": "images", "action": "edit"}, "edit on images needs accept"),
        ({"call": "chat", "action": "cut_answer"}, "cut_answer on chat needs accept"),
        ({"call": "submit", "action": "edit", "drop": ["id"]}, "edit on submit needs accept"),
        ({"call": "poll", "status": 99}, "status: Input should be greater than or equal to 200"),
        ({"call": "poll", "status": "500"}, "status: Input should be a valid integer"),
        ({"call": "poll", "times": 0}, "times: Input should be greater than 0"),
        ({"call": "submit", "action": "hang_up", "model": "m"}, "hang_up strikes before"),
        ({"status": 500}, "call: Field required"),
        ("cut", "a fault must be a JSON object"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused_with_a_sentence(rule: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Fault.from_json(rule)
