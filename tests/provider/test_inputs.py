"""Local images: checked and hashed before anything is spent, sent as data URLs."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, features

from orbatch_provider import ImageRequest, VideoRequest, inputs
from orbatch_provider.errors import BadRequestError, ConfigurationError
from orbatch_provider.inputs import InputError, check_sizes, content_hash, hashed, inspect, materialise, resolve_image
from orbatch_provider.requests import first_frame
from tests.images import painted
from tests.provider.conftest import Mocked

FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A small PNG file."""
    path = tmp_path / "a.png"
    path.write_bytes(painted())
    return path


def reference(path: Path | str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": str(path), **more}}


def data_url() -> str:
    return "data:image/png;base64," + base64.b64encode(painted()).decode()


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_type_is_taken_from_the_content(tmp_path: Path, file_format: str) -> None:
    path, content = tmp_path / "picture.txt", painted(file_format=file_format)
    path.write_bytes(content)
    found = inspect(path)
    assert (found.media_type, found.size) == (FORMATS[file_format], len(content))
    assert content_hash(str(path)) == "sha256:" + hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(painted(file_format="GIF"), "is neither PNG, JPEG nor WebP", id="gif"),
        pytest.param(b"\0\0\0\x20ftypisom", "is a video; providers fetch video and audio themselves", id="mp4"),
        pytest.param(b"\x1aE\xdf\xa3....", "is a video", id="webm"),
        pytest.param(b"ID3\x04....", "is an audio file", id="mp3"),
        pytest.param(b"RIFF\x04\0\0\0WAVEfmt ", "is an audio file", id="wav"),
        pytest.param(painted(size=(90, 90))[:-20], "does not open as an image", id="png cut short"),
        pytest.param(painted("red", "JPEG", (90, 90))[:-40], "does not open as an image", id="jpeg cut short"),
        pytest.param(painted("red", "WEBP", (90, 90))[:-10], "does not open as an image", id="webp cut short"),
        pytest.param(b"\x89PNG\r\n\x1a\n<html>", "does not open as an image", id="a signature and nothing behind it"),
        pytest.param(
            painted() + b"x" * 2_000_000, r"has 2\.0 MB, at most 1 MB can be sent; set downscale", id="too large"
        ),
        pytest.param(painted(size=(1001, 1000)), "more than 1 megapixels", id="small, and unpacks to a huge image"),
    ],
)
def test_what_is_no_whole_image_is_refused_with_the_reason(
    image: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, reason: str
) -> None:
    monkeypatch.setattr(inputs, "MAX_LOCAL_BYTES", 1_000_000)
    monkeypatch.setattr(inputs, "MAX_PIXELS", 1_000_000)
    image.write_bytes(content)
    with pytest.raises(InputError, match=reason):
        inspect(image)
    if "downscale" in reason:
        assert inspect(image, downscaled=True).size > 2_000_000


def sent(path: Path) -> Image.Image:
    """The image that a request holds for a file."""
    return Image.open(io.BytesIO(base64.b64decode(inputs.data_url(str(path)).partition(",")[2])))


def saved(path: Path, file_format: str, mode: str = "RGB", **options: Any) -> Path:
    Image.new(mode, (40, 20), "red").save(path, file_format, **options)
    return path


def test_a_photo_that_its_camera_turned_is_sent_upright_and_said(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "phone.jpg", "JPEG", exif=exif)
    assert inspect(path).note == "is turned by its EXIF note and is sent upright"
    assert sent(path).size == (20, 40)
    assert inputs.image_notes()[str(path)] == inspect(path).note


def test_cmyk_and_animated_images_are_said(tmp_path: Path) -> None:
    print_ready = saved(tmp_path / "print.jpg", "JPEG", "CMYK")
    assert inspect(print_ready).note == "is CMYK and is sent as RGB"
    assert sent(print_ready).mode == "RGB"
    frames = [Image.new("RGB", (40, 20), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "two.webp", "WEBP", save_all=True, append_images=frames[1:])
    assert inspect(tmp_path / "two.webp").note == "is animated; most models use its first frame"


def test_large_profiles_and_metadata_pass(tmp_path: Path) -> None:
    path = saved(tmp_path / "monitor.png", "PNG", icc_profile=b"\0" * 2_000_000)
    assert inspect(path).media_type == "image/png"


def test_avif_is_converted_where_pillow_can(tmp_path: Path) -> None:
    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF decoder")
    path = saved(tmp_path / "web.avif", "AVIF")
    assert inspect(path).note == "is AVIF and is sent as JPEG"
    assert sent(path).format == "JPEG"


def test_heic_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\0\0\0\x24ftypheic\0\0\0\0mif1heic" + b"\0" * 64)
    with pytest.raises(InputError, match="is HEIC, which cannot be read here; save it as JPEG or PNG"):
        inspect(path)


def test_images_that_are_too_large_together_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MAX_REQUEST_BYTES", 1_500_000)
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        path.write_bytes(painted() + b"x" * 1_000_000)
    references = [reference(path) for path in paths]
    check_sizes({"input_references": references[:1]})
    with pytest.raises(InputError, match=r"the images of one request have 2\.0 MB, at most 1 MB"):
        check_sizes({"input_references": references})
    with pytest.raises(InputError, match="the images of one request"):
        materialise(ImageRequest("a/b", "x", input_references=references))


def test_a_changed_file_is_read_anew(image: Path) -> None:
    before = content_hash(str(image))
    image.write_bytes(painted() + b"more")
    assert content_hash(str(image)) != before


@pytest.mark.parametrize("text", ["https://a.b/c.png", "data:image/png;base64,AAAA", "https://a.b/c.png?sig=1#x"])
def test_urls_stay_as_they_are(tmp_path: Path, text: str) -> None:
    assert resolve_image(text, tmp_path) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("http://a.b/c.png", "allowed: an https:// URL", id="http"),
        pytest.param("ftp://a.b/c.png", "allowed: an https:// URL", id="ftp"),
        pytest.param("https://u:p@a.b/c.png", "works without a login", id="login"),
        pytest.param("https:///c.png", "allowed: an https:// URL", id="no host"),
        pytest.param("https://[a/c.png", "allowed: an https:// URL", id="broken host"),
        pytest.param("file:///c.png", "use the plain path", id="file"),
        pytest.param("data:text/html,hi", "is not a base64 data URL", id="data of another type"),
        pytest.param("none.png", "does not exist", id="missing"),
        pytest.param(".", "is not a file", id="folder"),
        pytest.param("a\0b", "does not exist", id="NUL"),
    ],
)
def test_what_cannot_be_sent_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        resolve_image(text, tmp_path)


def test_paths_are_relative_to_the_file_they_stand_in(image: Path) -> None:
    (image.parent / "shots").mkdir()
    assert resolve_image("../a.png", image.parent / "shots") == str(image)


def test_a_request_is_sent_with_data_urls_in_place_of_paths(image: Path) -> None:
    video = {"type": "video_url", "video_url": {"url": "https://a.b/c.mp4"}}
    frames = [first_frame(str(image))]
    request = VideoRequest("a/b", "x", frame_images=frames, input_references=[video, reference(image)])
    sent = materialise(request)
    assert sent.frame_images == [first_frame(data_url())]
    assert sent.input_references == [video, reference(data_url())]
    assert request.frame_images == [first_frame(str(image))]
    remote = VideoRequest("a/b", "x", frame_images=[first_frame("https://a.b/c.png")])
    assert materialise(remote) is remote


def test_what_cannot_be_put_into_a_request_is_noticed_before_it_is_sent() -> None:
    video = {"type": "video_url", "video_url": {"url": "clip.mp4"}}
    wrong = {"does not exist": reference("gone.png"), "allowed: an https:// URL": reference("http://a.b/c.png")}
    for reason, item in (wrong | {"video_url must be an https URL": video}).items():
        with pytest.raises(InputError, match=reason):
            materialise(VideoRequest("a/b", "x", input_references=[item]))


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_large_image_is_sent_smaller_only_when_asked(image: Path, file_format: str) -> None:
    image.write_bytes(painted("red", file_format, (400, 200)))

    def sent(**more: Any) -> tuple[tuple[int, int], str | None]:
        request = materialise(ImageRequest("a/b", "x", input_references=[reference(image, **more)]))
        [item] = request.input_references or ()
        assert set(item["image_url"]) == {"url"}
        with Image.open(io.BytesIO(base64.b64decode(item["image_url"]["url"].partition(",")[2]))) as opened:
            return opened.size, opened.format

    assert sent() == ((400, 200), file_format)
    assert sent(downscale=100) == ((100, 50), file_format)
    assert sent(downscale=400) == ((400, 200), file_format)


def test_an_image_that_is_sent_smaller_is_another_one(image: Path) -> None:
    remote = reference("https://a.b/c.png")
    plain, small = hashed([reference(image), remote]), hashed([reference(image, downscale=100), remote])
    assert plain != small
    assert plain[1] == small[1] == remote
    assert plain[0]["image_url"] == {"url": content_hash(str(image))}


async def test_the_sdk_takes_a_local_file_wherever_a_url_is_allowed(mocked: Mocked, image: Path) -> None:
    refusal = httpx.Response(400, json={"error": {"code": 400, "message": "no"}})
    sent = mocked.router.post(path__in=["/api/v1/videos", "/api/v1/images"]).mock(return_value=refusal)

    with pytest.raises(BadRequestError):
        await mocked.provider.generate_video("x", "a/b", image_url=str(image))
    with pytest.raises(BadRequestError):
        await mocked.provider.generate_image("x", "a/b", input_references=[reference(image)])
    with pytest.raises(ConfigurationError, match="does not exist"):
        await mocked.provider.generate_image("x", "a/b", input_references=[reference("gone.png")])

    video, picture = (json.loads(call.request.content) for call in sent.calls)
    assert video["frame_images"] == [first_frame(data_url())]
    assert picture["input_references"] == [reference(data_url())]
