"""Every error status for every call: the class, what it means for the money, what it says and never repeats, and how
long to wait."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from orbatch_provider import errors
from orbatch_provider.errors import MESSAGE_LIMIT, STATUS_RULES, redact, status_rule
from orbatch_provider.http.decode import LONGEST_RETRY_AFTER_S, retry_after
from orbatch_provider.responses import JobEndedError, Usage, VideoJob
from tests.provider.conftest import CALLS, PAID, Mocked

DOCUMENTED = [400, 401, 402, 403, 404, 408, 409, 410, 413, 422, 429, 499, 500, 502, 503, 504, 524, 529]
# Statuses after which a request of the kind was certainly not started, and those after which it may be sent again.
REFUSED = {400, 401, 402, 403, 404, 409, 410, 413, 422, 429, 503}
NOT_STARTED = {"video": REFUSED, "image": REFUSED | {502, 529}, "text": REFUSED | {529}}
SENT_AGAIN = {"video": {429, 503}, "image": {429, 502, 503, 529}, "text": {429, 503, 529}}
ENVELOPE = '{"error": {"code": 1, "message": "The words of the provider", "metadata": {"error_type": "server"}}}'
# Content type, body, and whether the body has words to repeat.
BODIES = [
    ("application/json", ENVELOPE, True),
    ("text/html", "<html><head><style>p{}</style></head><p>The words</p> of the provider</html>", True),
    ("text/plain", "The words of the provider", True),
    ("application/json", "", False),
    ("application/json", ENVELOPE[:-20], False),
    ("application/json", "[1, 2]", False),
    ("application/json", '{"error": {"message": 7, "metadata": []}}', False),
    ("application/json", "\xff\xfe", False),
]
NOW = "Wed, 21 Oct 2026 07:28:00 GMT"
WAIT = {"Retry-After": "Wed, 21 Oct 2026 07:28:12 GMT", "Date": NOW}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", DOCUMENTED)
async def test_every_status_raises_its_class_whatever_the_body_and_says_what_happened_to_the_money(
    mocked: Mocked, status: int, call: str
) -> None:
    for number, (content_type, text, has_words) in enumerate(BODIES, start=1):
        headers = {"content-type": content_type, **WAIT}
        mocked.router.route().respond(status, headers=headers, content=text.encode("latin-1"))

        with pytest.raises(STATUS_RULES[status].error) as caught:
            await mocked.call(call)

        error, shown = caught.value, str(caught.value)
        title = STATUS_RULES[status].title
        assert shown.startswith(
            f"{title}: OpenRouter answered {status} to " if title else f"OpenRouter answered {status} to "
        )
        assert shown.endswith(".")
        assert "The words of the provider" in shown or not has_words
        assert error.error_type == ("server" if text == ENVELOPE else None)
        assert error.retry_after_s == 12
        if call in PAID:
            # Only the API itself knows that it started nothing: a gateway's page says nothing of the job behind it.
            refused = status in NOT_STARTED[call] and text == ENVELOPE
            assert (error.nothing_started, error.may_resend) == (refused, refused and status in SENT_AGAIN[call])
            assert ("Nothing was started or charged" in shown) is refused
            assert ("It may have been charged, so it is not retried" in shown) is not refused
            assert mocked.router.calls.call_count == number
        else:
            assert "charged" not in shown
    assert list(mocked.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("metadata", "may_resend", "advice"),
    [
        pytest.param(
            {"limit_source": "openrouter_in_flight_budget"}, True, "when running jobs have ended", id="in flight"
        ),
        pytest.param({"limit_source": "openrouter_credits"}, False, "add credits", id="credits"),
        pytest.param({"limit_source": ["openrouter_in_flight_budget"]}, False, "add credits", id="not a name"),
        pytest.param({}, False, "add credits", id="not said"),
    ],
)
async def test_a_full_in_flight_budget_is_waited_for_and_a_spent_one_is_not(
    mocked: Mocked, metadata: dict[str, Any], may_resend: bool, advice: str
) -> None:
    body = {"error": {"code": 402, "message": "Payment required", "metadata": metadata}}
    mocked.router.route().respond(402, headers={"Retry-After": "3"}, json=body)

    with pytest.raises(errors.PaymentRequiredError, match=advice) as caught:
        await mocked.call("video")

    assert (caught.value.may_resend, caught.value.retry_after_s) == (may_resend, 3)


def test_an_undocumented_status_has_a_class_too() -> None:
    assert status_rule(418).error is errors.BadRequestError
    assert status_rule(599).error is status_rule(302).error is errors.UnexpectedStatusError
    assert not errors.ServerError(502).nothing_started  # made by hand, an error is one of a video
    assert errors.ServerError(502, kind="image").nothing_started


RESENT, UNKNOWN = (True, True), (False, False)  # whether nothing was started, and whether it may be sent again


def again(retryable: object, code: int = 500) -> dict[str, Any]:
    return {"code": code, "availability": {"retryable": retryable, "retry_after": 7}}


@pytest.mark.parametrize(
    ("call", "status", "error", "expected", "money"),
    [
        *(("text", status, again(True), STATUS_RULES[status].error, RESENT) for status in (408, 500, 502, 504, 524)),
        pytest.param(
            "text", 503, again(False), errors.APIError, (True, False), id="not again, whatever the status allows"
        ),
        pytest.param("text", 500, again(False), errors.APIError, UNKNOWN, id="not again says nothing of the money"),
        pytest.param("text", 500, again("yes"), errors.APIError, UNKNOWN, id="not a flag"),
        pytest.param("image", 500, again(True), errors.APIError, UNKNOWN, id="an image is not covered by the promise"),
        pytest.param("video", 500, again(True), errors.APIError, UNKNOWN, id="nor is a video"),
        pytest.param("text", 200, again(True, 429), errors.RateLimitError, RESENT, id="inside a 200"),
        pytest.param("text", 200, again(True, 500), errors.ServerError, RESENT, id="inside a 200: 500"),
        pytest.param("text", 200, {"code": 429}, errors.InvalidResponseError, UNKNOWN, id="inside a 200, nothing said"),
        pytest.param("image", 200, again(True, 502), errors.InvalidResponseError, UNKNOWN, id="inside a 200, image"),
        pytest.param("video", 200, {"code": 429}, errors.InvalidResponseError, UNKNOWN, id="inside a 200 for a video"),
    ],
)
async def test_what_an_error_says_of_sending_it_again_counts_for_texts_alone(
    mocked: Mocked, call: str, status: int, error: Any, expected: type[errors.OpenRouterError], money: tuple[bool, bool]
) -> None:
    for wait_s, headers in ((7, {}), (3, {"Retry-After": "3"})):  # the header counts more than the body
        mocked.router.post().respond(status, json={"error": {"message": "Slow down.", **error}}, headers=headers)

        with pytest.raises(expected, match="Slow down") as caught:
            await mocked.call(call)

        assert (caught.value.nothing_started, caught.value.may_resend) == money
        assert not isinstance(caught.value, errors.APIError) or caught.value.retry_after_s == wait_s
        assert mocked.router.calls.call_count == (1 if wait_s == 7 else 2)


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        pytest.param("key sk-or-v1-0123456789abcdef is bad", "0123456789abcdef", id="key"),
        pytest.param("Authorization: Bearer abc.def-ghi", "abc.def-ghi", id="bearer"),
        pytest.param("see https://cdn.example/a.mp4?X-Sig=s3cret&e=1 now", "s3cret", id="signed-url"),
        pytest.param("\x1b[31mred\x07", "\x1b", id="control-characters"),
        pytest.param("first\nsecond", "\n", id="line-breaks"),
    ],
)
def test_secrets_and_control_characters_are_taken_out(text: str, gone: str) -> None:
    assert gone not in redact(text)
    assert gone not in str(errors.BadRequestError(400, text))


def test_long_words_of_a_provider_are_cut() -> None:
    assert len(redact("word " * 1_000_000)) == MESSAGE_LIMIT


def test_a_spent_budget_is_told_from_other_refusals() -> None:
    assert errors.PermissionDeniedError(403, "Workspace budget exceeded").budget_spent
    assert errors.PermissionDeniedError(403, "no", error_type="payment_required").budget_spent
    assert not errors.PermissionDeniedError(403, "Flagged by moderation").budget_spent


def test_a_message_names_what_happened_and_what_to_do() -> None:
    refused = errors.BadRequestError(400, "No.", request="POST /videos")
    assert str(refused).startswith("Bad request: OpenRouter answered 400 to POST /videos: No. ")
    assert "OPENROUTER_API_KEY" in str(errors.AuthenticationError(401))
    assert "charged 0 USD" in str(JobEndedError(VideoJob("j", "failed", usage=Usage.from_json({"cost": 0}))))
    assert "charge not reported yet" in str(JobEndedError(VideoJob("j", "failed")))
    assert "do not submit it again" in str(errors.JobTimeoutError("j", "pending", 600.0))


SECONDS = {"30": 30, "0": 0, "1.5": 1.5, "-5": 0, "99999999": LONGEST_RETRY_AFTER_S, "inf": None, "nan": None, "": None}
DATES = {
    "Wed, 21 Oct 2026 07:28:45 GMT": 45,
    "Wed, 21 Oct 2026 07:27:00 GMT": 0,  # it has gone by
    "Wed, 21 Oct 2026 09:28:10 +0200": 10,
    "Wed, 99 Oct 2026 07:28:45 GMT": None,
    "soon": None,
}


@pytest.mark.parametrize(("value", "expected"), [*SECONDS.items(), *DATES.items()])
def test_retry_after_is_read_in_every_form(value: str, expected: float | None) -> None:
    assert retry_after({"retry-after": value, "date": NOW}) == expected
    assert retry_after({"retry-after": value}, now=datetime(2026, 10, 21, 7, 28, tzinfo=UTC)) == expected
    assert retry_after({"retry-after-ms": "250", "retry-after": value}) == 0.25
    assert retry_after({}) is None
