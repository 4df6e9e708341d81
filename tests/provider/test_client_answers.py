"""Every status and every malformed body, for every call: the class, what it says of the money, and Retry-After."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
import respx

from orbatch_provider.client import OpenRouterProvider
from orbatch_provider.errors import (
    STATUS_RULES,
    APIError,
    BadRequestError,
    DownloadError,
    InvalidResponseError,
    NotSentError,
    OpenRouterError,
    OutcomeUnknownError,
    RateLimitError,
    UnexpectedStatusError,
    status_rule,
)

BASE = "https://openrouter.ai/api/v1"
KEY = "sk-or-v1-c0ffee0123456789"

Call = Callable[[OpenRouterProvider, Path], Awaitable[object]]


async def submit(provider: OpenRouterProvider, _: Path) -> object:
    return await provider.submit({"model": "alibaba/wan-2.6", "prompt": "a cat"})


async def poll(provider: OpenRouterProvider, _: Path) -> object:
    return await provider.poll("job-1")


async def content(provider: OpenRouterProvider, folder: Path) -> object:
    return await provider.download("job-1", 0, folder / "clip.part")


async def models(provider: OpenRouterProvider, _: Path) -> object:
    return await provider.catalog()


async def key(provider: OpenRouterProvider, _: Path) -> object:
    return await provider.key()


async def generation(provider: OpenRouterProvider, _: Path) -> object:
    return await provider.generation("gen-1")


CALLS: dict[str, Call] = {
    "submit": submit,
    "poll": poll,
    "content": content,
    "models": models,
    "key": key,
    "generation": generation,
}
READS = {name: call for name, call in CALLS.items() if name != "submit"}
ENVELOPE = '{"error": {"code": 1, "message": "The words of the provider", "metadata": {"error_type": "server"}}}'
BODIES = {
    "envelope": ("application/json", ENVELOPE),
    "html": ("text/html", "<html><head><style>p{}</style></head><body><p>The words</p> of the provider</body></html>"),
    "empty": ("application/json", ""),
    "truncated": ("application/json", ENVELOPE[:-20]),
    "text": ("text/plain", "The words of the provider"),
    "not-an-object": ("application/json", "[1, 2]"),
    "odd-error": ("application/json", '{"error": {"message": 7, "metadata": []}}'),
    "not-utf-8": ("application/json", "\xff\xfe"),
}


@pytest.fixture
async def client() -> OpenRouterProvider:
    return OpenRouterProvider(KEY, base_url=BASE)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", STATUS_RULES)
async def test_every_status_raises_its_class_whatever_the_body(
    client: OpenRouterProvider, tmp_path: Path, status: int, call: str, body: str
) -> None:
    content_type, text = BODIES[body]
    with respx.mock(using="httpx") as router:
        router.route().respond(status, headers={"content-type": content_type}, content=text.encode("latin-1"))

        async with client:
            with pytest.raises(STATUS_RULES[status].error) as caught:
                await CALLS[call](client, tmp_path)

    assert f"answered {status}" in str(caught.value)
    if body in {"envelope", "html", "text"}:
        assert "The words of the provider" in str(caught.value)
    if body == "envelope":
        assert isinstance(caught.value, APIError)
        assert caught.value.error_type == "server"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", STATUS_RULES)
async def test_a_message_about_a_paid_request_says_what_became_of_the_money(
    client: OpenRouterProvider, tmp_path: Path, status: int
) -> None:
    with respx.mock(using="httpx") as router:
        router.route().respond(status)

        async with client:
            with pytest.raises(APIError) as paid:
                await submit(client, tmp_path)
            with pytest.raises(APIError) as free:
                await poll(client, tmp_path)

    known = "Nothing was started or charged" in str(paid.value)
    unknown = "It may have been charged, so it is not retried" in str(paid.value)
    assert (known, unknown) == (paid.value.nothing_started, not paid.value.nothing_started)
    assert "charged" not in str(free.value)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        pytest.param(418, BadRequestError, id="unknown-4xx"),
        pytest.param(599, UnexpectedStatusError, id="unknown-5xx"),
        pytest.param(302, UnexpectedStatusError, id="redirect"),
    ],
)
def test_an_undocumented_status_has_a_class(status: int, kind: type[APIError]) -> None:
    assert status_rule(status).error is kind


def test_only_what_was_refused_or_never_sent_may_be_sent_again() -> None:
    assert {status for status, rule in STATUS_RULES.items() if rule.error(status).may_resend} == {429, 503}
    assert NotSentError().may_resend
    assert not OutcomeUnknownError().may_resend
    assert not InvalidResponseError("odd").may_resend


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
@pytest.mark.parametrize("call", ["submit", "poll"])
async def test_a_success_that_cannot_be_read_is_invalid(
    client: OpenRouterProvider, tmp_path: Path, call: str, body: str
) -> None:
    with respx.mock(using="httpx") as router:
        router.route().respond(200, content=BAD_SUCCESSES[body].encode("latin-1"))

        async with client:
            with pytest.raises(InvalidResponseError) as caught:
                await CALLS[call](client, tmp_path)

    assert not caught.value.may_resend
    assert caught.value.temporary


@pytest.mark.parametrize("call", ["models", "key", "generation"])
@pytest.mark.parametrize("body", ["html", "empty", "truncated", "list", "no-id", "error-without-code"])
async def test_other_reads_refuse_the_same_bodies(
    client: OpenRouterProvider, tmp_path: Path, call: str, body: str
) -> None:
    with respx.mock(using="httpx") as router:
        router.route().respond(200, content=BAD_SUCCESSES[body].encode("latin-1"))

        async with client:
            with pytest.raises(InvalidResponseError):
                await CALLS[call](client, tmp_path)


@pytest.mark.parametrize("code", [pytest.param(429, id="number"), pytest.param("429", id="text")])
@pytest.mark.parametrize("call", READS)
async def test_a_success_that_holds_an_error_is_that_error_for_a_read(
    client: OpenRouterProvider, tmp_path: Path, call: str, code: int | str
) -> None:
    with respx.mock(using="httpx") as router:
        router.route().respond(
            200, json={"error": {"code": code, "message": "slow down"}}, headers={"Retry-After": "7"}
        )

        async with client:
            with pytest.raises(RateLimitError, match="slow down") as caught:
                await READS[call](client, tmp_path)

    assert caught.value.retry_after_s == 7
    assert list(tmp_path.iterdir()) == []


async def test_a_success_that_holds_an_error_leaves_a_submit_unknown(
    client: OpenRouterProvider, tmp_path: Path
) -> None:
    with respx.mock(using="httpx") as router:
        router.route().respond(200, json={"error": {"code": 429, "message": "slow down"}})

        async with client:
            with pytest.raises(InvalidResponseError, match="slow down") as caught:
                await submit(client, tmp_path)

    assert not caught.value.nothing_started


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
    client: OpenRouterProvider, extra: dict[str, object], status_code: int
) -> None:
    with respx.mock(using="httpx") as router:
        router.post(f"{BASE}/videos").respond(status_code, json={"id": "gen-vid-1", **extra})

        async with client:
            job = await client.submit({"model": "alibaba/wan-2.6", "prompt": "a cat"})

    assert (job.id, job.status) == ("gen-vid-1", "pending")


async def test_a_poll_with_an_unreadable_cost_is_invalid_and_not_free(client: OpenRouterProvider) -> None:
    with respx.mock(using="httpx") as router:
        router.get().respond(200, json={"id": "job-1", "status": "completed", "usage": {"cost": "much"}})

        async with client:
            with pytest.raises(InvalidResponseError, match="cost"):
                await client.poll("job-1")


async def test_a_poll_answered_for_another_job_is_not_believed(client: OpenRouterProvider) -> None:
    with respx.mock(using="httpx") as router:
        router.get().respond(200, json={"id": "job-2", "status": "completed"})

        async with client:
            with pytest.raises(InvalidResponseError, match="job-2"):
                await client.poll("job-1")


async def test_amounts_are_exact(client: OpenRouterProvider) -> None:
    with respx.mock(using="httpx") as router:
        router.get().respond(200, content=b'{"id": "job-1", "status": "completed", "usage": {"cost": 0.1234567890123}}')

        async with client:
            job = await client.poll("job-1")

    assert job.usage is not None
    assert job.usage.cost == Decimal("0.1234567890123")


MOCKED = [
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
]


@pytest.mark.parametrize(("failure", "kind"), MOCKED)
@pytest.mark.parametrize("call", CALLS)
async def test_a_failed_exchange_is_never_sent_or_unknown(
    client: OpenRouterProvider, tmp_path: Path, call: str, failure: Exception, kind: type[OpenRouterError]
) -> None:
    sent = []

    def fail(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        raise failure

    with respx.mock(using="httpx") as router:
        router.route().mock(side_effect=fail)

        async with client:
            with pytest.raises(kind):
                await CALLS[call](client, tmp_path)

    assert len(sent) == 1


NOW = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("call", CALLS)
async def test_retry_after_reaches_the_error(
    client: OpenRouterProvider, tmp_path: Path, status: int, call: str
) -> None:
    with respx.mock(using="httpx") as router:
        router.route().respond(status, headers={"Retry-After": "Wed, 21 Oct 2026 07:28:12 GMT", "Date": NOW})

        async with client:
            with pytest.raises(APIError) as caught:
                await CALLS[call](client, tmp_path)

    assert caught.value.retry_after_s == 12


@pytest.mark.parametrize("call", ["submit", "poll", "models", "key", "generation"])
async def test_a_redirect_is_named_and_not_followed(client: OpenRouterProvider, tmp_path: Path, call: str) -> None:
    with respx.mock(using="httpx", assert_all_called=False) as router:
        elsewhere = router.route(host="elsewhere.example").respond(200)
        router.route(host="openrouter.ai").respond(307, headers={"Location": "https://elsewhere.example/api?t=secret"})

        async with client:
            with pytest.raises(UnexpectedStatusError, match=r"elsewhere\.example") as caught:
                await CALLS[call](client, tmp_path)

    assert "secret" not in str(caught.value)
    assert not elsewhere.called


async def test_content_that_is_an_error_page_is_not_saved(client: OpenRouterProvider, tmp_path: Path) -> None:
    with respx.mock(using="httpx") as router:
        router.get().respond(200, html="<html>Please sign in</html>")

        async with client:
            with pytest.raises(DownloadError, match="text/html instead of a video"):
                await content(client, tmp_path)

    assert list(tmp_path.iterdir()) == []
