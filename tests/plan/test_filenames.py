"""File names stay inside the output folder and are valid everywhere, whatever a template or a value holds."""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbatch.plan.filenames import MAX_PART_BYTES, model_slug, safe_stem, safe_value


@pytest.mark.parametrize(
    ("text", "stem"),
    [
        pytest.param("p1-alibaba-wan-2.6-0123abcd", "p1-alibaba-wan-2.6-0123abcd", id="plain"),
        pytest.param("cats/red/p1", "cats/red/p1", id="folders"),
        pytest.param("a cat & a dog (1)", "a cat & a dog (1)", id="blanks and signs"),
        pytest.param("café", "café", id="letters of any language"),
        pytest.param(unicodedata.normalize("NFD", "café"), "café", id="composed"),
        pytest.param("../../etc/passwd", "etc/passwd", id="up and out"),
        pytest.param("/etc/passwd", "etc/passwd", id="absolute"),
        pytest.param("a/./b//c/..", "a/b/c", id="dots alone"),
        pytest.param("..\\..\\x", "x", id="backslashes"),
        pytest.param("C:\\x", "C--x", id="drive"),
        pytest.param("a\x00b\x1fc\x7f", "abc", id="control characters"),
        pytest.param("a\nb", "a b", id="line break"),
        pytest.param("fdp.\u202egpj", "fdp.gpj", id="direction marks"),
        pytest.param("a\u2044b\u2215c\uff0fd", "a-b-c-d", id="lookalike slashes"),
        pytest.param('a<b>c:d"e|f?g*h', "a-b-c-d-e-f-g-h", id="what Windows refuses"),
        pytest.param("CON", "_CON", id="device"),
        pytest.param("nul.txt/aux", "_nul.txt/_aux", id="devices with endings"),
        pytest.param("COM¹", "_COM¹", id="device with a superscript"),
        pytest.param("console", "console", id="no device"),
        pytest.param("name. . ", "name", id="trailing dots and blanks"),
        pytest.param(".hidden/-rf", "hidden/rf", id="leading dot and dash"),
        pytest.param("", "unnamed", id="nothing"),
        pytest.param("...", "unnamed", id="only dots"),
        pytest.param("\ud800x", "x", id="half a surrogate pair"),
    ],
)
def test_a_name_is_made_safe(text: str, stem: str) -> None:
    assert safe_stem(text) == stem


def test_a_long_name_is_cut_and_stays_unique() -> None:
    first, second = safe_stem("x" * 10_000 + "1"), safe_stem("x" * 10_000 + "2")
    assert first != second
    assert len(first) == len(second) == MAX_PART_BYTES
    assert safe_stem("é" * 10_000, "0123abcd").endswith("é-0123abcd")


def test_every_part_of_a_long_name_is_cut_by_itself() -> None:
    assert [len(part) for part in safe_stem("a" * 500 + "/" + "b" * 500).split("/")] == [MAX_PART_BYTES] * 2


@pytest.mark.parametrize("value", ["a/b", "a\\b", "../a", "a\u2044b", "/"])
def test_a_value_never_begins_a_new_folder(value: str) -> None:
    assert not set("/\\\u2044") & set(safe_value(value))


def test_a_model_is_named_with_a_dash_for_its_slash() -> None:
    assert model_slug("alibaba/wan-2.6") == "alibaba-wan-2.6"


@given(st.text(alphabet=st.characters(), max_size=300) | st.text("./\\ :-CONau\u202e\u2044", max_size=40))
def test_no_text_leaves_the_folder(text: str) -> None:
    stem = safe_stem(text)
    parts = stem.split("/")
    assert not PurePosixPath(stem).is_absolute()
    assert not PureWindowsPath(stem).drive
    assert not PureWindowsPath(stem).is_reserved()
    assert all(part and part not in (".", "..") and len(part.encode()) <= MAX_PART_BYTES for part in parts)
    assert safe_stem(stem) == stem
