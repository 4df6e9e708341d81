"""Answers that cannot be read, exchanges that fail, and redirects, for every call: the right error, and no request
sent twice."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx

from orbatch_provider import OpenRouterProvider
from orbatch_provider.errors import (
    InvalidResponseError,
    NotSentError,
    OpenRouterError,
    OutcomeUnknownError,
    RateLimitError,
    UnexpectedStatusError,
)
from tests.provider.conftest import CALLS, READS, REQUEST

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
async def test_a_success_that_cannot_be_read_is_invalid(
    client: OpenRouterProvider, router: respx.MockRouter, tmp_path: Path, call: str, body: str
) -> None:
    router.route().respond(200, content=BAD_SUCCESSES[body].encode("latin-1"))

    with pytest.raises(InvalidResponseError) as caught:
        await CALLS[call](client, tmp_path)

    assert not caught.value.may_resend
    assert caught.value.temporary


@pytest.mark.parametrize("code", [pytest.param(429, id="number"), pytest.param("429", id="text")])
@pytest.mark.parametrize("call", READS)
async def test_a_success_that_holds_an_error_is_that_error_for_a_read(
    client: OpenRouterProvider, router: respx.MockRouter, tmp_path: Path, call: str, code: int | str
) -> None:
    error = {"code": code, "message": "slow down"}
    router.route().respond(200, json={"error": error}, headers={"Retry-After": "7"})

    with pytest.raises(RateLimitError, match="slow down") as caught:
        await READS[call](client, tmp_path)

    assert caught.value.retry_after_s == 7
    assert list(tmp_path.iterdir()) == []


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
    client: OpenRouterProvider, router: respx.MockRouter, extra: dict[str, Any], status_code: int
) -> None:
    router.post().respond(status_code, json={"id": "gen-vid-1", **extra})

    job = await client.submit(REQUEST)

    assert (job.id, job.status) == ("gen-vid-1", "pending")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        pytest.param({"id": "job-1", "status": "completed", "usage": {"cost": "much"}}, "cost", id="unreadable-cost"),
        pytest.param({"id": "job-2", "status": "completed"}, "job-2", id="another-job"),
    ],
)
async def test_a_poll_that_is_not_free_of_doubt_is_invalid(
    client: OpenRouterProvider, router: respx.MockRouter, answer: dict[str, Any], says: str
) -> None:
    router.get().respond(200, json=answer)

    with pytest.raises(InvalidResponseError, match=says):
        await client.poll("job-1")


async def test_amounts_are_exact(client: OpenRouterProvider, router: respx.MockRouter) -> None:
    router.get().respond(200, content=b'{"id": "job-1", "status": "completed", "usage": {"cost": 0.1234567890123}}')

    job = await client.poll("job-1")

    assert job.usage is not None
    assert job.usage.cost == Decimal("0.1234567890123")


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        pytest.param(httpx.ConnectError("refused"), NotSentError, id="connect-error"),
        pytest.param(httpx.ConnectTimeout("slow"), NotSentError, id="connect-timeout"),
        pytest.param(httpx.PoolTimeout("full"), NotSentError, id="pool-timeout"),
        pytest.param(httpx.ReadTimeout("slow"), OutcomeUnknownError, id="read-timeout"),
        pytest.param(httpx.WriteTimeout("slow"), OutcomeUnknownError, id="write-timeout"),
        pytest.param(httpx.ReadError("cut"), OutcomeUnknownError, id="read-error"),
        pytest.param(httpx.WriteError("cut"), OutcomeUnknownError, id="write-error"),
        pytest.param(httpx.RemoteProtocolError("odd"), OutcomeUnknownError, id="remote-protocol-error"),
        pytest.param(httpx.ProxyError("odd"), OutcomeUnknownError, id="proxy-error"),
        pytest.param(ConnectionResetError("cut"), OutcomeUnknownError, id="bare-reset"),
        pytest.param(TimeoutError(), OutcomeUnknownError, id="bare-timeout"),
        pytest.param(ValueError("odd"), OutcomeUnknownError, id="bare-value-error"),
    ],
)
@pytest.mark.parametrize("call", CALLS)
async def test_a_failed_exchange_is_never_sent_or_unknown_and_not_tried_twice(
    client: OpenRouterProvider,
    router: respx.MockRouter,
    tmp_path: Path,
    call: str,
    failure: Exception,
    kind: type[OpenRouterError],
) -> None:
    route = router.route().mock(side_effect=failure)

    with pytest.raises(kind):
        await CALLS[call](client, tmp_path)

    assert route.call_count == 1


@pytest.mark.parametrize("call", [call for call in CALLS if call != "content"])
async def test_a_redirect_is_named_and_not_followed(
    client: OpenRouterProvider, router: respx.MockRouter, tmp_path: Path, call: str
) -> None:
    elsewhere = router.route(host="elsewhere.example").respond(200)
    router.route(host="openrouter.ai").respond(307, headers={"Location": "https://elsewhere.example/api?t=secret"})

    with pytest.raises(UnexpectedStatusError, match=r"elsewhere\.example") as caught:
        await CALLS[call](client, tmp_path)

    assert "secret" not in str(caught.value)
    assert not elsewhere.called
