"""How long a server asks to wait, in every form it may say so."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from orbatch_provider.http.decode import LONGEST_RETRY_AFTER_S, retry_after

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
