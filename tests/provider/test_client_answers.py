"""Answers that cannot be read, exchanges that fail, and redirects, for every call: the right error, and no request
sent twice."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import Any

import httpx
import pytest

from orbatch_provider import GenerationRow, errors
from orbatch_provider.catalog import price_changes
from orbatch_provider.pricing import estimate_video
from orbatch_provider.requests import VideoRequest
from tests.images import painted
from tests.provider.conftest import CALLS, MORNING, READS, REQUEST, Mocked

BAD_SUCCESSES = {
    "html": "<html>Hello</html>",
    "empty": "",
    "truncated": '{"id": "job-1", "sta',
    "list": "[]",
    "null": "null",
    "number": "7",
    "nan": "NaN",
    "no-id": '{"status": "pending"}',
    "id-of-wrong-type": '{"id": 7, "status": "pending"}',
    "empty-id": '{"id": " ", "status": "pending"}',
    "id-that-climbs": '{"id": "..", "status": "pending"}',
    "half-a-character": '{"id": "\\ud800", "status": "pending"}',
    "deep": "[" * 100_000,
    "long-number": '{"id": ' + "1" * 10_000 + "}",
    "error-without-code": '{"error": {"message": "no"}}',
    "not-utf-8": "\xff",
}


@pytest.mark.parametrize("body", BAD_SUCCESSES)
@pytest.mark.parametrize("call", ["video", "poll", "models", "key", "generation"])
async def test_a_success_that_cannot_be_read_is_invalid(mocked: Mocked, call: str, body: str) -> None:
    mocked.router.route().respond(200, content=BAD_SUCCESSES[body].encode("latin-1"))

    with pytest.raises(errors.InvalidResponseError) as caught:
        await mocked.call(call)

    assert (caught.value.nothing_started, caught.value.may_resend, caught.value.temporary) == (False, False, True)
    assert body != "html" or "Hello" in str(caught.value)


@pytest.mark.parametrize("code", [pytest.param(429, id="number"), pytest.param("429", id="text")])
@pytest.mark.parametrize("call", READS)
async def test_a_success_that_holds_an_error_is_that_error_for_a_read(
    mocked: Mocked, call: str, code: int | str
) -> None:
    error = {"code": code, "message": "slow down"}
    mocked.router.route().respond(200, json={"error": error}, headers={"Retry-After": "7"})

    with pytest.raises(errors.RateLimitError, match="slow down") as caught:
        await mocked.call(call)

    assert caught.value.retry_after_s == 7
    assert list(mocked.folder.iterdir()) == []


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param({}, id="nothing-else"),
        pytest.param({"status": 7}, id="status-of-wrong-type"),
        pytest.param({"status": "pending", "usage": "much"}, id="usage-is-text"),
        pytest.param({"status": "pending", "usage": {"cost": "NaN"}}, id="cost-is-no-amount"),
        pytest.param({"status": "pending", "usage": {"cost": 1e99}}, id="cost-is-absurd"),
        pytest.param({"status": "pending", "urls": "x", "unsigned_urls": [1], "expires_at": "soon"}, id="odd-urls"),
        pytest.param({"status": "pending", "error": {"code": 500}}, id="with-an-error"),
    ],
)
@pytest.mark.parametrize("status_code", [200, 201, 202])
async def test_the_id_of_an_accepted_job_is_kept_whatever_else_is_wrong(
    mocked: Mocked, extra: dict[str, Any], status_code: int
) -> None:
    mocked.router.post().respond(status_code, json={"id": "gen-vid-1", **extra})

    job = await mocked.provider.submit(REQUEST)

    assert (job.id, job.status) == ("gen-vid-1", "pending")


async def test_a_poll_about_another_job_is_invalid(mocked: Mocked) -> None:
    mocked.router.get().respond(200, json={"id": "job-2", "status": "completed"})

    with pytest.raises(errors.InvalidResponseError, match="job-2"):
        await mocked.provider.poll("job-1")


# As JSON text: none of these is the charge of one job.
ODD_AMOUNTS = [
    *("-0.4", "1e300", "1e99999999", "1e99999999999999999999", "10000", "7" * 5000, "0." + "1" * 5000 + "e5000"),
    *(
        "NaN",
        "Infinity",
        "-Infinity",
        "true",
        "[0.4]",
        '{"total_cost": 0.4}',
        '"free"',
        '""',
        '"NaN"',
        '"sNaN"',
        '"1e300"',
    ),
]


def answer_about(amount: str) -> bytes:
    """The answer to a call for each kind, and the record of a generation, with this as its cost."""
    image = base64.b64encode(painted()).decode()
    return (
        f'{{"id": "job-1", "status": "completed", "usage": {{"cost": {amount}, "prompt_tokens": {amount}}}, '
        f'"expires_at": {amount}, "data": [{{"b64_json": "{image}"}}], '
        '"choices": [{"message": {"content": "A cat."}, "finish_reason": "stop"}]}'
    ).encode()


@pytest.mark.parametrize("amount", ODD_AMOUNTS, ids=lambda text: text[:22])
@pytest.mark.parametrize("call", ["video", "poll", "image", "text"])
async def test_an_odd_cost_is_an_unknown_charge_and_loses_nothing_else(mocked: Mocked, call: str, amount: str) -> None:
    mocked.router.route().respond(200, content=answer_about(amount))

    result: Any = await mocked.call(call)

    assert result.usage.cost is None
    assert 0 < len(result.usage.unreadable_cost) <= 43 or amount == '""'
    assert call != "image" or len(result.files) == 1
    assert call != "text" or result.text == "A cat."


@pytest.mark.parametrize("amount", ["0", "0.4", '"0.4"', "4e-1", "1e-400", "9999.999999999", "0." + "1" * 40])
async def test_an_amount_below_ten_thousand_dollars_is_a_charge(mocked: Mocked, amount: str) -> None:
    mocked.router.route().respond(200, content=answer_about(amount))

    job: Any = await mocked.call("poll")

    assert (job.usage.cost, job.usage.unreadable_cost) == (Decimal(amount.strip('"')), "")


@pytest.mark.parametrize("amount", ODD_AMOUNTS, ids=lambda text: text[:22])
async def test_an_odd_cost_of_a_generation_is_unknown(mocked: Mocked, amount: str) -> None:
    body = f'{{"data": {{"id": "gen-1", "total_cost": {amount}, "upstream_inference_cost": {amount}}}}}'
    mocked.router.route().respond(200, content=body.encode())

    generation = await mocked.provider.generation("gen-1")

    assert (generation.total_cost, generation.upstream_inference_cost) == (None, None)


@pytest.mark.parametrize("amount", ["1e20", "-1e20", "1e9999999", "-1e9999999", "7" * 5000, "NaN", "-Infinity", "true"])
async def test_a_balance_that_no_account_has_is_unknown(mocked: Mocked, amount: str) -> None:
    names = ("usage", "limit", "limit_remaining")
    amounts = ", ".join(f'"{name}": {amount}' for name in names)
    body = f'{{"data": {{{amounts}, "effective_budget": {{"remaining_usd": {amount}}}}}}}'
    mocked.router.route().respond(200, content=body.encode())

    key = await mocked.provider.key()

    assert (key.usage, key.limit, key.remaining) == (None, None, None)


@pytest.mark.parametrize(
    "amount", sorted({*ODD_AMOUNTS, "1e-99999999", "1" * 400} - {"10000"}), ids=lambda text: text[:22]
)
async def test_a_catalog_with_an_odd_price_is_read_and_the_model_is_unpriced(mocked: Mocked, amount: str) -> None:
    model = f'{{"id": "a/b", "pricing_skus": {{"duration_seconds": {amount}}}, "supported_durations": [5, {amount}]}}'
    mocked.router.route().respond(200, content=f'{{"data": [{model}]}}'.encode())

    catalog = await mocked.provider.catalog()

    assert estimate_video(VideoRequest("a/b", "a cat", duration=5), catalog.models["a/b"]).high is None
    assert price_changes(catalog, catalog, ["a/b"]) == []


async def test_amounts_are_exact(mocked: Mocked) -> None:
    mocked.router.get().respond(
        200, content=b'{"id": "job-1", "status": "completed", "usage": {"cost": 0.1234567890123}}'
    )

    job = await mocked.provider.poll("job-1")

    assert job.usage is not None
    assert job.usage.cost == Decimal("0.1234567890123")


NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
UNKNOWN = (httpx.ReadTimeout, httpx.WriteTimeout, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
NOT_HTTP = (httpx.ProxyError, ConnectionResetError, TimeoutError, ValueError)


@pytest.mark.parametrize("failure", [*NOT_SENT, *UNKNOWN, *NOT_HTTP])
@pytest.mark.parametrize("call", CALLS)
async def test_a_failed_exchange_is_never_sent_or_unknown_and_not_tried_twice(
    mocked: Mocked, call: str, failure: type[Exception]
) -> None:
    route = mocked.router.route().mock(side_effect=failure("odd"))

    with pytest.raises(errors.NotSentError if failure in NOT_SENT else errors.OutcomeUnknownError):
        await mocked.call(call)

    assert route.call_count == 1


@pytest.mark.parametrize("call", [call for call in CALLS if call != "content"])
async def test_a_redirect_is_named_and_not_followed(mocked: Mocked, call: str) -> None:
    elsewhere = mocked.router.route(host="elsewhere.example").respond(200)
    mocked.router.route(host="openrouter.ai").respond(
        307, headers={"Location": "https://elsewhere.example/api?t=secret"}
    )

    with pytest.raises(errors.UnexpectedStatusError, match=r"elsewhere\.example") as caught:
        await mocked.call(call)

    assert "secret" not in str(caught.value)
    assert not elsewhere.called


ROW = {"generation_id": "gen-vid-1-a", "external_user": "key-1", "request_count": 1, "total_usage": 0.12}
WHOLE = {"row_count": 1, "truncated": False, "query_time_ms": 3}


@pytest.mark.parametrize(
    ("data", "rows", "is_complete"),
    [
        ({"data": [ROW], "metadata": WHOLE}, ("gen-vid-1-a",), True),
        ({"data": [ROW], "metadata": WHOLE | {"truncated": True}}, ("gen-vid-1-a",), False),
        ({"data": [ROW]}, ("gen-vid-1-a",), False),
        ({"data": [ROW, {"external_user": "key-1"}, 7], "metadata": WHOLE}, ("gen-vid-1-a",), False),
        ({"data": [ROW | {"generation_id": ".."}], "metadata": WHOLE}, (), False),
        ({"data": [], "metadata": WHOLE}, (), True),
    ],
)
async def test_a_list_of_generations_says_whether_it_is_whole(
    mocked: Mocked, data: dict[str, object], rows: tuple[str, ...], is_complete: bool
) -> None:
    route = mocked.router.post("https://openrouter.ai/api/v1/analytics/query").respond(json={"data": data})
    found = await mocked.provider.generations_between(MORNING, MORNING, {"key-1"})
    assert (tuple(row.id for row in found.rows), found.is_complete, found.cached_at) == (rows, is_complete, None)
    asked = json.loads(route.calls.last.request.content)
    assert asked["time_range"] == {"start": "2026-11-25T10:00:00Z", "end": "2026-11-25T10:00:01Z"}
    assert asked["filters"] == [{"field": "external_user", "operator": "in", "value": ["key-1"]}]


async def test_a_row_without_user_or_amount_is_still_a_row_and_an_old_answer_says_its_time(mocked: Mocked) -> None:
    row = ROW | {"external_user": None, "total_usage": "many"}
    data = {"data": [row], "metadata": WHOLE, "cachedAt": "2026-11-25T09:00:00Z"}
    mocked.router.route().respond(json={"data": data})
    found = await mocked.provider.generations_between(MORNING, MORNING)
    assert found.rows == (GenerationRow("gen-vid-1-a", "", None),)
    assert found.cached_at == MORNING.replace(hour=9, microsecond=0)
