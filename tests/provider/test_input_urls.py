"""Remote inputs are looked at before anything is spent: with no key, over https alone, and not too many at a time."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from orbatch_provider.inputs import check_urls
from tests.provider.conftest import Mocked

URL = "https://cdn.example/a.png?signature=secret"


def answer(status: int = 200, content_type: str = "image/png", header: tuple[str, str] | None = None) -> httpx.Response:
    return httpx.Response(status, headers=[("content-type", content_type), *([header] if header else [])])


async def test_an_image_is_fine_and_its_url_is_read_without_a_key(mocked: Mocked) -> None:
    route = mocked.router.head(URL).mock(return_value=answer())

    [link] = await check_urls({URL: "image"})

    assert (link.name, link.problem) == ("https://cdn.example/a.png", None)
    request = route.calls.last.request
    assert "authorization" not in request.headers
    assert request.url.query == b"signature=secret"


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        pytest.param(answer(content_type="text/html; charset=utf-8"), "is text/html, expected an image", id="a page"),
        pytest.param(answer(content_type="video/mp4"), "is video/mp4, expected an image", id="a video for an image"),
        pytest.param(answer(content_type="application/octet-stream"), "", id="a store that says nothing"),
        pytest.param(answer(410), "returns 410", id="gone"),
        pytest.param(answer(401), "returns 401; it must work without a login", id="a login"),
        pytest.param(answer(301, header=("location", "/b.png")), "", id="led on over https"),
        pytest.param(
            answer(302, header=("location", "http://cdn.example/b.png")), "allowed: an https", id="led to http"
        ),
        pytest.param(answer(302, header=("location", URL)), "is redirected more than 3 times", id="led in circles"),
        pytest.param(httpx.ConnectError("no such host"), "cannot be reached", id="no such host"),
    ],
)
async def test_what_is_behind_a_url_is_reported_without_its_query(
    mocked: Mocked, response: httpx.Response | Exception, expected: str
) -> None:
    mocked.router.head(URL).mock(side_effect=[response] * 9)
    mocked.router.head("https://cdn.example/b.png").mock(return_value=answer())

    [link] = await check_urls({URL: "image"})

    assert expected in str(link.problem)
    assert (link.problem is None) is (not expected)
    assert "secret" not in f"{link.name} {link.problem}"


@pytest.mark.parametrize("status", [403, 404, 405, 501])
async def test_a_server_that_knows_only_get_is_asked_for_one_byte(mocked: Mocked, status: int) -> None:
    mocked.router.head(URL).mock(return_value=answer(status))
    get = mocked.router.get(URL).mock(return_value=answer(206, header=("content-range", "bytes 0-0/99")))

    [link] = await check_urls({URL: "image"})

    assert link.problem is None
    assert get.calls.last.request.headers["range"] == "bytes=0-0"


async def test_only_so_many_are_asked_at_a_time(mocked: Mocked) -> None:
    now, most = 0, 0

    async def slow(_: httpx.Request) -> httpx.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return answer()

    mocked.router.route().mock(side_effect=slow)
    urls = [f"https://cdn.example/{at}.png" for at in range(20)]

    links = await check_urls(dict.fromkeys(urls, "image"), at_once=3)

    assert [link.url for link in links] == urls
    assert 1 < most <= 3
