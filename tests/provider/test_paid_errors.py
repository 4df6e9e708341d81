"""What an error of a paid call means for the money, by the kind of the call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import respx

from orbatch_provider.client import OpenRouterProvider
from orbatch_provider.errors import STATUS_RULES, APIError, InvalidResponseError, RateLimitError, ServerError

BASE = "https://openrouter.ai/api/v1"
Call = Callable[[OpenRouterProvider, Path], Awaitable[object]]
CALLS: Mapping[str, Call] = {
    "video": lambda provider, _: provider.submit({"model": "a/b", "prompt": "p"}),
    "image": lambda provider, folder: provider.create_images({"model": "a/b", "prompt": "p"}, folder, "x"),
    "text": lambda provider, _: provider.complete_text({"model": "a/b", "prompt": "p"}),
}
# Statuses after which a request of the kind was certainly not started.
REFUSED = {400, 401, 402, 403, 404, 409, 410, 413, 422, 429, 503}
NOT_STARTED = {"video": REFUSED, "image": REFUSED | {502, 529}, "text": REFUSED | {529}}
SENT_AGAIN = {"video": {429, 503}, "image": {429, 502, 503, 529}, "text": {429, 503, 529}}


async def failed(kind: str, folder: Path, status: int, body: object = None, **headers: str) -> Exception:
    """The error of one call that is answered so, and sent once."""
    with respx.mock(using="httpx") as router:
        route = router.post().respond(status, json=body, headers=headers)
        async with OpenRouterProvider("sk-or-v1-c0ffee", base_url=BASE) as provider:
            with pytest.raises(Exception, match=r".") as caught:
                await CALLS[kind](provider, folder)
        assert route.call_count == 1
    return caught.value


@pytest.mark.parametrize("status", STATUS_RULES)
@pytest.mark.parametrize("kind", CALLS)
async def test_every_status_says_whether_this_kind_of_request_was_started(
    tmp_path: Path, kind: str, status: int
) -> None:
    error = await failed(kind, tmp_path, status, {"error": {"code": status, "message": "No."}})
    assert isinstance(error, STATUS_RULES[status].error)
    assert error.nothing_started is (status in NOT_STARTED[kind])
    assert error.may_resend is (status in SENT_AGAIN[kind])
    assert ("Nothing was started or charged" in str(error)) is error.nothing_started
    assert list(tmp_path.iterdir()) == []


def available(*, retryable: object, **fields: Any) -> dict[str, Any]:
    return {"error": {"code": 500, "message": "No.", "availability": {"retryable": retryable, **fields}}}


@pytest.mark.parametrize("status", [408, 500, 502, 504, 524])
async def test_a_text_may_be_sent_again_when_the_answer_says_so(tmp_path: Path, status: int) -> None:
    error = await failed("text", tmp_path, status, available(retryable=True, retry_after=7))
    assert isinstance(error, APIError)
    assert (error.nothing_started, error.may_resend, error.retry_after_s) == (True, True, 7)


@pytest.mark.parametrize(
    ("kind", "status", "retryable", "started", "resend"),
    [
        pytest.param("text", 503, False, True, False, id="text: not again, although the status would allow it"),
        pytest.param("text", 500, False, False, False, id="text: not again says nothing of the money"),
        pytest.param("text", 500, "yes", False, False, id="text: not a flag"),
        pytest.param("image", 500, True, False, False, id="an image is not covered by the promise"),
        pytest.param("video", 500, True, False, False, id="nor is a video"),
    ],
)
async def test_the_answers_word_counts_for_texts_alone(
    tmp_path: Path, kind: str, status: int, retryable: object, started: bool, resend: bool
) -> None:
    error = await failed(kind, tmp_path, status, available(retryable=retryable))
    assert isinstance(error, APIError)
    assert (error.nothing_started, error.may_resend) == (started, resend)


async def test_the_header_is_believed_before_the_body_on_how_long_to_wait(tmp_path: Path) -> None:
    error = await failed("text", tmp_path, 503, available(retryable=True, retry_after=7), **{"Retry-After": "3"})
    assert isinstance(error, APIError)
    assert error.retry_after_s == 3


@pytest.mark.parametrize(
    ("kind", "error", "found"),
    [
        pytest.param("text", {"code": 429, "availability": {"retryable": True}}, RateLimitError, id="text: again"),
        pytest.param("text", {"code": 500, "availability": {"retryable": True}}, ServerError, id="text: 500, again"),
        pytest.param("text", {"code": 429}, InvalidResponseError, id="text: nothing said"),
        pytest.param("image", {"code": 502, "availability": {"retryable": True}}, InvalidResponseError, id="image"),
    ],
)
async def test_an_error_inside_a_200_is_uncertain_unless_it_says_otherwise(
    tmp_path: Path, kind: str, error: Mapping[str, Any], found: type[Exception]
) -> None:
    raised = await failed(kind, tmp_path, 200, {"error": {"message": "No.", **error}})
    assert type(raised) is found
    assert getattr(raised, "nothing_started", None) is (found is not InvalidResponseError)


def test_a_status_means_for_an_error_made_by_hand_what_it_means_for_a_video() -> None:
    assert not ServerError(502).nothing_started
    assert ServerError(502, kind="image").nothing_started
