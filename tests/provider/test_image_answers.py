"""The answer to an image request: what becomes a file, what is kept of the rest, what is said when it goes wrong."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
import tracemalloc
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from orbatch_provider.client import OpenRouterProvider
from orbatch_provider.errors import ConfigurationError, InvalidResponseError, NotSentError, OutcomeUnknownError
from orbatch_provider.image_stream import ImageFile, ImageStream
from orbatch_provider.responses import UnusableResultError
from tests.images import SVG, answer_with, painted, usage
from tests.provider.conftest import KEY, Wire
from tests.provider.rawserver import answer, raw_answer, read_request, reset, send

REQUEST = {"model": "openrouter/a/painter", "prompt": "a cat", "n": 2}


def folder_of(tmp_path: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in tmp_path.iterdir()}


def noise(side: int) -> bytes:
    target = io.BytesIO()
    pixels = random.Random(1).randbytes(3 * side * side)
    Image.frombytes("RGB", (side, side), pixels).save(target, "PNG", compress_level=0)
    return target.getvalue()


async def test_images_come_as_verified_parts_and_the_rest_of_the_answer_without_them(
    wire: Wire, tmp_path: Path
) -> None:
    png, jpeg = noise(700), painted(file_format="JPEG")  # one of many chunks
    wire.script(answer(answer_with(png, jpeg), chunked=True))

    result = await wire.provider.create_images(REQUEST, tmp_path, "cat")

    assert [(each.path.name, each.mime_type, each.width, each.height) for each in result.files] == [
        ("cat.part", "image/png", 700, 700),
        ("cat-2.part", "image/jpeg", 30, 20),  # whatever the answer called it
    ]
    assert [each.path.read_bytes() for each in result.files] == [png, jpeg]
    assert result.files[0].sha256 == hashlib.sha256(png).hexdigest()
    assert result.files[0].size == len(png)
    assert result.usage is not None
    assert (result.usage.cost, result.usage.prompt_tokens) == (Decimal("0.04"), 3)
    assert (result.requested, result.missing) == (2, 0)
    assert result.raw["data"] == [{"media_type": "image/png"}] * 2
    sent = json.loads(wire.requests[0].body)
    assert sent == {"model": "a/painter", "prompt": "a cat", "n": 2}
    assert wire.requests[0].headers["authorization"] == f"Bearer {KEY}"


async def test_one_call_gives_files_with_the_ending_of_what_they_are(wire: Wire, tmp_path: Path) -> None:
    images = [painted(), painted(file_format="JPEG"), painted(file_format="WEBP"), SVG]
    wire.script(answer(answer_with(*images)))

    result = await wire.provider.generate_image(
        "a cat", "a/painter", n=4, resolution="2K", directory=tmp_path / "new", extra={"steps": 30}
    )

    assert [(file.path.suffix, file.mime_type) for file in result.images] == [
        (".png", "image/png"),
        (".jpg", "image/jpeg"),
        (".webp", "image/webp"),
        (".svg", "image/svg+xml"),
    ]
    assert [file.get_bytes() for file in result.files] == images
    assert [file.size for file in result.files] == [len(each) for each in images]
    assert result.cost_usd == 0.04
    assert len(folder_of(tmp_path / "new")) == 4
    sent = json.loads(wire.requests[0].body)
    assert (sent["resolution"], sent["steps"]) == ("2K", 30)


async def test_without_a_folder_the_files_outlive_the_client(wire: Wire) -> None:
    wire.script(answer(answer_with(painted())))
    result = await wire.provider.generate_image("a cat", "a/painter")
    await wire.provider.aclose()
    assert result.files[0].get_bytes() == painted()
    result.files[0].path.unlink()
    result.files[0].path.parent.rmdir()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(b"hello, I am text", "it is not a PNG", id="text"),
        pytest.param(painted()[:-40], "does not open as image/png", id="truncated PNG"),
        pytest.param(painted(file_format="JPEG")[:-30], "does not open as image/jpeg", id="truncated JPEG"),
        pytest.param(b"", "it is empty", id="empty"),
    ],
)
async def test_an_image_that_does_not_open_is_told_apart_from_those_that_do(
    wire: Wire, tmp_path: Path, content: bytes, problem: str
) -> None:
    wire.script(answer(answer_with(content, painted())), answer(answer_with(content)))

    result = await wire.provider.create_images(REQUEST, tmp_path, "one")
    assert [each.path.name for each in result.files] == ["one-2.part"]
    assert problem in result.problems[0]

    with pytest.raises(UnusableResultError, match=problem) as caught:
        await wire.provider.create_images(REQUEST, tmp_path, "two")
    assert not caught.value.nothing_started
    assert not caught.value.may_resend
    assert caught.value.usage is not None
    assert "charged 0.04 USD" in str(caught.value)


async def test_an_answer_without_images_is_unusable_and_says_what_it_cost(wire: Wire, tmp_path: Path) -> None:
    wire.script(answer({"created": 1, "data": [], "usage": usage(cost=None)}))
    with pytest.raises(UnusableResultError, match=r"the response has none \(the charge is unknown\)"):
        await wire.provider.create_images(REQUEST, tmp_path, "cat")
    assert folder_of(tmp_path) == {}


@pytest.mark.parametrize("cost", [pytest.param(None, id="null"), pytest.param("free", id="unreadable")])
async def test_fewer_images_without_a_cost_are_still_a_result(wire: Wire, tmp_path: Path, cost: object) -> None:
    wire.script(answer(answer_with(painted(), usage=usage(cost=cost)), headers={"X-Generation-Id": "gen-1"}))
    result = await wire.provider.create_images(REQUEST, tmp_path, "cat")
    assert result.usage is None or result.usage.cost is None
    assert (len(result.files), result.requested, result.missing, result.generation_id) == (1, 2, 1, "gen-1")


CUT = json.dumps(answer_with(painted(), painted())).encode()
LOST: list[object] = [
    pytest.param([read_request, reset], OutcomeUnknownError, id="no answer"),
    pytest.param(
        [read_request, send(raw_answer(CUT[:40], length=len(CUT))), reset], OutcomeUnknownError, id="cut early"
    ),
    pytest.param(answer(b""), InvalidResponseError, id="empty"),
    pytest.param(answer(b"<html>"), InvalidResponseError, id="html"),
    pytest.param(answer([1]), InvalidResponseError, id="a list"),
    pytest.param(answer({"data": "none"}), InvalidResponseError, id="no list"),
    pytest.param(answer({"error": {"code": 502, "message": "no"}}), InvalidResponseError, id="an error in a 200"),
    pytest.param(answer(b"{" + b" " * 5_000_000), InvalidResponseError, id="megabytes of nothing"),
]


@pytest.mark.parametrize(("script", "kind"), LOST)
async def test_an_answer_that_is_lost_leaves_the_payment_unknown_and_no_file(
    wire: Wire, tmp_path: Path, script: Any, kind: type[Exception]
) -> None:
    wire.script(script)
    with pytest.raises(kind) as caught:
        await wire.provider.create_images(REQUEST, tmp_path, "cat")
    assert isinstance(caught.value, OutcomeUnknownError | InvalidResponseError)
    assert not caught.value.nothing_started
    assert folder_of(tmp_path) == {}
    assert len(wire.requests) == 1  # never sent again


async def test_the_whole_images_of_an_answer_that_broke_off_are_kept_and_named(wire: Wire, tmp_path: Path) -> None:
    wire.script([read_request, send(raw_answer(CUT[:-150], length=len(CUT))), reset])
    with pytest.raises(OutcomeUnknownError) as caught:
        await wire.provider.create_images(REQUEST, tmp_path, "cat")
    assert folder_of(tmp_path) == {"cat.part": len(painted())}
    assert str(tmp_path / "cat.part") in caught.value.__notes__[-1]


REFUSED: dict[str, Any] = {
    "a folder that cannot be written to": ("file", "cat", {}, OSError, "file"),
    "no name": ("", "", {}, ConfigurationError, "not a file name"),
    "a name that leaves the folder": ("", "../up", {}, ConfigurationError, "not a file name"),
    "a name with a folder": ("", "a/b", {}, ConfigurationError, "not a file name"),
    "a stream": ("", "cat", {"stream": True}, ConfigurationError, "remove stream"),
}


@pytest.mark.parametrize(("folder", "stem", "fields", "kind", "message"), REFUSED.values(), ids=REFUSED)
async def test_what_cannot_work_is_refused_before_anything_is_sent(
    wire: Wire, tmp_path: Path, folder: str, stem: str, fields: dict[str, Any], kind: type[Exception], message: str
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(kind, match=message):
        await wire.provider.create_images({**REQUEST, **fields}, tmp_path / folder, stem)
    assert wire.server.connections == 0


async def test_a_request_that_never_left_leaves_no_file(tmp_path: Path) -> None:
    async with OpenRouterProvider(KEY, base_url="http://127.0.0.1:9") as provider:
        with pytest.raises(NotSentError):
            await provider.create_images(REQUEST, tmp_path, "cat")
    assert folder_of(tmp_path) == {}


def streamed(folder: Path, body: bytes, piece: int) -> tuple[list[ImageFile | str], bytes]:
    with ImageStream(folder, "x") as stream:
        for at in range(0, len(body), piece):
            stream.write(body[at : at + piece])
        return [stream.open(number) for number in range(len(stream))], stream.getvalue()


CONTENT = noise(18)
PLAIN = base64.b64encode(CONTENT).decode()
SPELLINGS = {
    "plain": PLAIN,
    "escaped slashes": PLAIN.replace("/", "\\/"),
    "escaped plus": PLAIN.replace("+", "\\u002B"),
    "in lines": "\\n".join(PLAIN[at : at + 76] for at in range(0, len(PLAIN), 76)),
    "no padding": PLAIN.rstrip("="),
    "data URL": f"data:image/png;base64,{PLAIN}",
}


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 100_000])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_base64_is_read_however_it_is_written_and_cut(tmp_path: Path, spelling: str, piece: int) -> None:
    value = SPELLINGS[spelling]
    words = r"the words \"b64_json\": \"AAAA\" are no image \\"
    body = f'{{"note": "{words}", "data": [{{"b64_json" :\n "{value}"}}, {{"b64_json": null}}], "end": 1}}'.encode()

    [image], kept = streamed(tmp_path, body, piece)

    assert isinstance(image, ImageFile)
    assert image.path.read_bytes() == CONTENT
    assert image.sha256 == hashlib.sha256(CONTENT).hexdigest()
    whole = json.loads(kept)
    assert whole == json.loads(body) | {"data": [{"b64_json": "0"}, {"b64_json": None}]}


@pytest.mark.parametrize("value", ["!!!!", "A", "AAAA=AAA", "\\u00zz", "\\ud800"])
def test_what_is_no_base64_is_a_problem_of_that_image_alone(tmp_path: Path, value: str) -> None:
    body = f'[{{"b64_json": "{value}"}}, {{"b64_json": "{PLAIN}"}}]'.encode()
    (problem, image), _ = streamed(tmp_path, body, 5)
    assert "image 1: it is not valid base64" in str(problem)
    assert isinstance(image, ImageFile)
    assert list(folder_of(tmp_path)) == ["x-2.part"]


def test_a_full_disk_is_a_problem_and_the_rest_of_the_answer_is_still_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    body = json.dumps(answer_with(CONTENT)).encode()
    with ImageStream(tmp_path, "x") as stream:
        monkeypatch.setattr(Path, "open", full)
        stream.write(body)
        assert stream.open(0) == "image 1: it could not be written (No space left on device)"
    assert json.loads(stream.getvalue())["usage"]["cost"] == 0.04


def test_memory_does_not_grow_with_the_answer(tmp_path: Path) -> None:
    body = b'{"data": [{"b64_json": "' + base64.b64encode(bytes(9_000_000)) + b'"}]}'
    tracemalloc.start()
    try:
        streamed(tmp_path, body, 256 * 1024)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000
