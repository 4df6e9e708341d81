"""Remote inputs are looked at before anything is spent: with no key, over https alone, and not too many at a time."""

from __future__ import annotations

import asyncio

import httpx
import pytest
import respx

from orbatch_provider.input_urls import check_urls

URL = "https://cdn.example/a.png?signature=secret"


@pytest.fixture
def web() -> respx.MockRouter:
    return respx.mock(using="httpx", assert_all_called=False)


async def problem(url: str = URL, kind: str = "image") -> str | None:
    [link] = await check_urls({url: kind})
    assert "secret" not in f"{link.name} {link.problem}"
    return link.problem


def answer(
    status: int = 200, content_type: str = "image/png", *, headers: dict[str, str] | None = None, location: str = ""
) -> httpx.Response:
    led = {"location": location} if location else {}
    return httpx.Response(status, headers={"content-type": content_type} | led | (headers or {}))


async def test_a_picture_is_fine_and_its_size_is_known(web: respx.MockRouter) -> None:
    with web:
        route = web.head(URL).mock(return_value=answer(headers={"content-length": "1234"}))
        [link] = await check_urls({URL: "image"})
    assert (link.mime_type, link.size, link.problem, link.name) == (
        "image/png",
        1234,
        None,
        "https://cdn.example/a.png",
    )
    request = route.calls.last.request
    assert "authorization" not in request.headers
    assert request.url.query == b"signature=secret"


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        pytest.param(answer(content_type="text/html; charset=utf-8"), "is text/html, expected an image", id="a page"),
        pytest.param(answer(content_type="video/mp4"), "is video/mp4, expected an image", id="a video for a picture"),
        pytest.param(answer(content_type="application/octet-stream"), None, id="a store that says nothing"),
        pytest.param(answer(410), "returns 410", id="gone"),
        pytest.param(answer(401), "returns 401; it must work without a login", id="a login"),
        pytest.param(answer(302, location="http://cdn.example/b.png"), "allowed: an https", id="led to http"),
        pytest.param(answer(302, location=URL), "is redirected more than 3 times", id="led in circles"),
    ],
)
async def test_what_is_behind_a_url_is_reported(
    web: respx.MockRouter, response: httpx.Response, expected: str | None
) -> None:
    with web:
        web.head(URL).mock(return_value=response)
        found = await problem()
    assert found is None if expected is None else expected in str(found)


@pytest.mark.parametrize("status", [403, 404, 405, 501])
async def test_a_server_that_knows_only_get_is_asked_for_one_byte(web: respx.MockRouter, status: int) -> None:
    with web:
        web.head(URL).mock(return_value=answer(status))
        get = web.get(URL).mock(return_value=answer(206, headers={"content-range": "bytes 0-0/99"}))
        [link] = await check_urls({URL: "image"})
    assert (link.problem, link.size) == (None, 99)
    assert get.calls.last.request.headers["range"] == "bytes=0-0"


async def test_a_redirect_over_https_is_followed(web: respx.MockRouter) -> None:
    with web:
        web.head(URL).mock(return_value=answer(301, location="/b.png"))
        web.head("https://cdn.example/b.png").mock(return_value=answer())
        assert await problem() is None


async def test_a_host_that_is_not_there_is_reported_without_the_query(web: respx.MockRouter) -> None:
    with web:
        web.head(URL).mock(side_effect=httpx.ConnectError("no such host"))
        assert "cannot be reached" in str(await problem())


async def test_only_so_many_are_asked_at_a_time(web: respx.MockRouter) -> None:
    now, most = 0, 0

    async def slow(_: httpx.Request) -> httpx.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return answer()

    with web:
        web.route().mock(side_effect=slow)
        links = await check_urls({f"https://cdn.example/{at}.png": "image" for at in range(20)}, at_once=3)
    assert [link.url for link in links] == [f"https://cdn.example/{at}.png" for at in range(20)]
    assert 1 < most <= 3
