"""What errors say, what they never repeat, and how long they ask to wait."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from orbatch_provider.errors import (
    MESSAGE_LIMIT,
    STATUS_RULES,
    AuthenticationError,
    BadRequestError,
    JobTimeoutError,
    PermissionDeniedError,
    redact,
)
from orbatch_provider.http.decode import LONGEST_RETRY_AFTER_S, retry_after
from orbatch_provider.responses import JobEndedError, Usage, VideoJob

DOCUMENTED = [400, 401, 402, 403, 404, 408, 409, 410, 413, 422, 429, 499, 500, 502, 503, 504, 524, 529]
REFUSED = {400, 401, 402, 403, 404, 409, 410, 413, 422, 429, 503}


@pytest.mark.parametrize("status", DOCUMENTED)
def test_every_documented_status_has_a_class_with_advice(status: int) -> None:
    error = STATUS_RULES[status].error(status, "No.", request="POST /videos")

    assert str(error).startswith(f"OpenRouter answered {status} to POST /videos: No. ")
    assert str(error).endswith(".")
    assert error.nothing_started is (status in REFUSED)


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
    assert gone not in str(BadRequestError(400, text))


def test_long_words_of_a_provider_are_cut() -> None:
    assert len(redact("word " * 1_000_000)) == MESSAGE_LIMIT


@pytest.mark.parametrize(
    ("error", "spent"),
    [
        pytest.param(PermissionDeniedError(403, "Workspace budget exceeded"), True, id="budget"),
        pytest.param(PermissionDeniedError(403, "no", error_type="payment_required"), True, id="by-type"),
        pytest.param(PermissionDeniedError(403, "Flagged by moderation"), False, id="moderation"),
    ],
)
def test_a_spent_budget_is_told_from_other_refusals(error: PermissionDeniedError, spent: bool) -> None:
    assert error.budget_spent is spent


def test_a_refused_key_names_the_variable() -> None:
    assert "OPENROUTER_API_KEY" in str(AuthenticationError(401))


def test_a_failed_job_says_what_it_cost() -> None:
    assert "charged 0 USD" in str(JobEndedError(VideoJob("j", "failed", usage=Usage.from_json({"cost": 0}))))
    assert "charge not reported yet" in str(JobEndedError(VideoJob("j", "failed")))


def test_a_timeout_forbids_to_submit_again() -> None:
    assert "do not submit it again" in str(JobTimeoutError("j", "pending", 600.0))


NOW = "Wed, 21 Oct 2026 07:28:00 GMT"
WAITS = [
    pytest.param({"retry-after": "30"}, 30.0, id="seconds"),
    pytest.param({"retry-after": "0"}, 0.0, id="zero"),
    pytest.param({"retry-after": "1.5"}, 1.5, id="fraction"),
    pytest.param({"retry-after": "-5"}, 0.0, id="negative"),
    pytest.param({"retry-after": "99999999"}, LONGEST_RETRY_AFTER_S, id="absurd"),
    pytest.param({"retry-after": "inf"}, None, id="infinite"),
    pytest.param({"retry-after": "nan"}, None, id="not-a-number"),
    pytest.param({"retry-after": "soon"}, None, id="word"),
    pytest.param({"retry-after": ""}, None, id="empty"),
    pytest.param({}, None, id="absent"),
    pytest.param({"retry-after": "Wed, 21 Oct 2026 07:28:45 GMT", "date": NOW}, 45.0, id="date"),
    pytest.param({"retry-after": "Wed, 21 Oct 2026 07:27:00 GMT", "date": NOW}, 0.0, id="date-gone-by"),
    pytest.param({"retry-after": "Wed, 21 Oct 2026 09:28:10 +0200", "date": NOW}, 10.0, id="date-elsewhere"),
    pytest.param({"retry-after": "Wed, 99 Oct 2026 07:28:45 GMT", "date": NOW}, None, id="no-such-date"),
    pytest.param({"retry-after-ms": "250", "retry-after": "30"}, 0.25, id="milliseconds-win"),
]


@pytest.mark.parametrize(("headers", "expected"), WAITS)
def test_retry_after_is_read_in_every_form(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after(headers) == expected


def test_a_date_is_compared_with_our_clock_when_the_answer_has_none() -> None:
    now = datetime(2026, 10, 21, 7, 28, tzinfo=UTC)

    assert retry_after({"retry-after": "Wed, 21 Oct 2026 07:28:05 GMT"}, now=now) == 5
