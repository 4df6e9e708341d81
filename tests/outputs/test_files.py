"""From a downloaded part to a file the ledger vouches for."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from random import Random

import av
import pytest
from av.video.frame import VideoFrame

from orbatch.outputs import files as outputs
from orbatch.outputs.files import NotPlayable
from orbatch_provider.download import part_path

CONTAINERS = {
    "mp4": ("clip.mp4", {"movflags": "faststart"}, "h264"),
    "fragmented mp4": ("clip.mp4", {"movflags": "frag_keyframe+empty_moov"}, "h264"),
    "mov with its index at the end": ("clip.mov", {}, "h264"),
    "webm": ("clip.webm", {}, "libvpx"),
    "mpeg-ts": ("clip.ts", {}, "h264"),
    "live webm": ("live.webm", {"live": "1"}, "libvpx"),
    "avi": ("clip.avi", {}, "mpeg4"),
}


def write_clip(path: Path, options: dict[str, str], codec: str, seconds: float = 4, sound: bool = False) -> None:
    """Noise, so that its bytes are spread over its length."""
    rate, width, height = 6, 64, 64
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        noise = container.add_stream("aac", rate=16000) if sound else None
        for number in range(int(seconds * rate)):
            frame = VideoFrame(width, height, "yuv420p")
            for plane in frame.planes:
                plane.update(Random(number).randbytes(plane.buffer_size))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if noise is not None:
            assert isinstance(noise, av.AudioStream)
            samples = av.AudioFrame(format="fltp", layout="mono", samples=1024)
            samples.sample_rate = 16000
            for channel in samples.planes:
                channel.update(bytes(channel.buffer_size))
            container.mux(noise.encode(samples))
            container.mux(noise.encode())


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name, (file, options, codec) in CONTAINERS.items():
        made[name] = tmp_path_factory.mktemp("clips") / file
        write_clip(made[name], options, codec, sound=name == "mp4")
    return made


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_whole_video_is_measured(clips: dict[str, Path], name: str) -> None:
    media = outputs.probe(clips[name], outputs.mime_type_of(clips[name]), size=9, sha256="ab", requested_s=4)
    assert (media.path, media.bytes, media.sha256) == (str(clips[name]), 9, "ab")
    assert media.seconds == pytest.approx(4, abs=0.2)
    assert (media.width, media.height, media.fps) == (64, 64, 6.0)
    assert media.audio_codec == ("aac" if name == "mp4" else None)
    assert media.video_codec in ("h264", "vp8", "mpeg4")
    assert media.warning is None


@pytest.mark.parametrize("name", ["mp4", "fragmented mp4", "mov with its index at the end", "webm"])
def test_a_video_that_breaks_off_is_not_what_was_paid_for(clips: dict[str, Path], name: str, tmp_path: Path) -> None:
    whole = clips[name]
    cut = tmp_path / whole.name
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(NotPlayable, match=r"ends after \d\.\d of 4\.\d s|cannot be decoded"):
        outputs.probe(cut)


@pytest.mark.parametrize("name", ["fragmented mp4", "live webm", "mpeg-ts", "avi"])
def test_where_a_file_cannot_tell_that_it_was_cut_the_requested_length_does(
    clips: dict[str, Path], name: str, tmp_path: Path
) -> None:
    whole = clips[name]
    cut = tmp_path / whole.name
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.7)])
    mime_type = outputs.mime_type_of(cut)
    with pytest.raises(NotPlayable, match=r"it has [23]\.\d of the 4 s requested|it ends after 3"):
        outputs.probe(cut, mime_type, requested_s=4)
    assert outputs.probe(whole, mime_type, requested_s=4).warning is None
    assert outputs.probe(clips["webm"], "video/webm", requested_s=8).warning == "4.0 s long, 8 s were requested"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"<!doctype html><title>Bad gateway</title>", id="an error page"),
        pytest.param(b'{"error": {"code": 502}}', id="an error as JSON"),
        pytest.param(b"\x00\x00\x00\x18ftypmp42" + b"\x00" * 500, id="only the beginning of an MP4"),
    ],
)
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(NotPlayable):
        outputs.probe(path)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame(format="s16", layout="mono", samples=800)
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(NotPlayable, match="no video stream"):
        outputs.probe(tmp_path / "sound.wav")


@pytest.mark.parametrize(
    ("seconds", "requested", "warned"),
    [
        (5.04, 5, False),
        (5.5, 5, False),
        (5.6, 5, True),
        (3.0, 5, True),
        (20.9, 20, False),
        (21.1, 20, True),
        (None, 5, False),
        (9.0, None, False),
    ],
)
def test_a_length_that_was_not_requested_is_a_warning(
    seconds: float | None, requested: int | None, warned: bool
) -> None:
    expected = f"{seconds:.1f} s long, {requested} s were requested" if warned else None
    assert outputs.length_warning(seconds, requested) == expected


@pytest.mark.parametrize(
    ("number", "attempt", "name"),
    [(0, None, "cat.mp4"), (1, None, "cat-2.mp4"), (0, 1, "cat-attempt1.mp4"), (2, 1, "cat-attempt1-3.mp4")],
)
def test_outputs_and_overtaken_attempts_have_names_of_their_own(
    tmp_path: Path, number: int, attempt: int | None, name: str
) -> None:
    assert outputs.target_path(tmp_path, "cat", number, ".mp4", attempt) == tmp_path / name


@pytest.mark.parametrize("stem", ["../cat", "a/../../cat", "/etc/cat", "link/cat"])
def test_a_file_name_never_leaves_the_output_folder(tmp_path: Path, stem: str) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(OSError, match="leaves the output directory"):
        outputs.target_path(folder, stem, 0, ".mp4")
    assert outputs.target_path(folder, "sub/cat", 0, ".mp4") == folder / "sub" / "cat.mp4"


@pytest.fixture
def part(tmp_path: Path) -> Path:
    path = part_path(tmp_path / "cat", "job-1")
    path.write_bytes(b"a cat")
    return path


def test_what_a_killed_run_had_placed_is_found_again_by_its_part(part: Path) -> None:
    assert outputs.find_existing(part) is None
    (part.parent / "cat.txt").write_text("another")
    (part.parent / "category.mp4").write_text("another")
    outputs.place(part, part.with_name("cat.mp4"), outputs.sha256_of(part))
    assert outputs.find_existing(part) == part.with_name("cat.mp4")
    outputs.discard(part)
    assert outputs.find_existing(part) is None


def test_what_the_disk_says_is_passed_on(part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="No space left"):
        outputs.place(part, part.with_name("cat.mp4"), "")
    monkeypatch.undo()
    with pytest.raises(OSError, match="No such file"):
        outputs.place(part, part.parent / "nowhere" / "cat.mp4", "")


def test_the_media_type_comes_from_the_content(clips: dict[str, Path], tmp_path: Path) -> None:
    assert outputs.mime_type_of(clips["webm"]) == "video/webm"
    assert outputs.mime_type_of(clips["mp4"]) == "video/mp4"
    (tmp_path / "text.mp4").write_text("no video")
    assert outputs.mime_type_of(tmp_path / "text.mp4") == "application/octet-stream"
