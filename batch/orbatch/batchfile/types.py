"""What one value of the batch file may be. A ``title`` says what is allowed: in messages, the schema and the docs."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    ValidationInfo,
    with_config,
)
from typing_extensions import TypedDict  # pydantic does not read the one of Python 3.11

from orbatch.batchfile.errors import quoted
from orbatch.batchfile.templates import KEYWORDS, template
from orbatch.money import AN_AMOUNT, MOST_USD, USD_DECIMALS
from orbatch_provider import https_url, resolve_image, strip_prefix

MAX_TEXT = 100_000  # characters
# JSON cannot carry half of a surrogate pair as UTF-8, and providers cut text at a NUL.
UNSENDABLE = re.compile("[\x00\ud800-\udfff]")
UNSENDABLE_TEXT = "contains a character that cannot be sent (NUL, or half of a surrogate pair)"
_VARIABLE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_VIDEO_EXTENSIONS = (".mp4", ".mov", ".webm", ".mkv", ".m4v")
_AUDIO_EXTENSIONS = (".mp3", ".wav", ".m4a", ".ogg", ".flac", ".aac")


def problem_at(key: str | int, message: str) -> ValidationError:
    """A problem of one key, to be raised by a validator of the mapping or list that holds it.

    Elsewhere a validator raises a ValueError, whose text reaches the user as it is; TemplateError and InputError are
    such errors.
    """
    details = {"error": ValueError(message)}
    return ValidationError.from_exception_data(
        "batch", [{"type": "value_error", "loc": (key,), "input": None, "ctx": details}]
    )


def key(default: Any, meaning: str, **limits: Any) -> Any:
    """A key of the file that may be left out: its default, its meaning for the reference, and what pydantic checks.

    Any, so that type checkers see an ordinary default.
    """
    if callable(default):
        return Field(default_factory=default, description=meaning, **limits)
    return Field(default=default, description=meaning, **limits)


def plain(value: Any) -> Any:
    """A value of the YAML loader as JSON has it."""
    if isinstance(value, dict):
        return {key: plain(child) for key, child in value.items()}
    if isinstance(value, list):
        return [plain(child) for child in value]
    return float(value) if isinstance(value, Decimal) else value


def as_list(value: Any) -> Any:
    """A single value as a list of one."""
    return value if isinstance(value, list) or value is None else [value]


def distinct(values: list[Any]) -> list[Any]:
    """Refuses the second of two equal items."""
    for at, value in enumerate(values):
        if value in values[:at]:
            raise problem_at(at, f"{quoted(value)} is in the list twice")
    return values


def _sendable(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty; allowed: text")
    if "\x00" in text:  # pydantic itself refuses surrogates
        raise ValueError(UNSENDABLE_TEXT)
    return text


def _compiled(text: str) -> str:
    template(text)
    return text


def _image(text: str, info: ValidationInfo) -> str:
    return resolve_image(text, info.context or Path(), downscaled=True)  # context: where relative paths start


Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_sendable)]
Template = Annotated[Text, AfterValidator(_compiled)]
ModelId = Annotated[
    str,
    Field(
        title="a model id such as alibaba/wan-2.6",
        pattern=r"^(openrouter/)?[A-Za-z0-9_.~-]+/[A-Za-z0-9_.:-]+$",
        max_length=200,
    ),
    AfterValidator(strip_prefix),
]
# A number keeps the form it was written in: 1 and 1.0 are different JSON, so a different job key, so bought again.
SHORTEN = AfterValidator(lambda value: int(value) if value == int(value) else value)
Usd = Annotated[
    Decimal,
    Field(ge=0, le=MOST_USD, decimal_places=USD_DECIMALS),
    Field(title=AN_AMOUNT),
]
Json = Annotated[dict[str, Any], BeforeValidator(plain), Field(title="a mapping (key: value)")]
Link = Annotated[str, Field(title="an https:// URL", json_schema_extra={"format": "uri"}), AfterValidator(https_url)]
ImageSource = Annotated[
    str, Field(title="an https:// URL or the path of a PNG, JPEG or WebP file"), AfterValidator(_image)
]

# -- images, videos and audio in the API's own form, and by their URL or path alone ------------------------------------


class _Image(TypedDict):
    url: ImageSource


class _Remote(TypedDict):
    url: Link  # providers fetch videos and audio themselves, so no local files


@with_config(extra="forbid")
class ImageReference(TypedDict):
    """An image as the API takes it."""

    type: Literal["image_url"]
    image_url: _Image


@with_config(extra="forbid")
class VideoReference(TypedDict):
    """A video as the API takes it."""

    type: Literal["video_url"]
    video_url: _Remote


@with_config(extra="forbid")
class AudioReference(TypedDict):
    """Audio as the API takes it."""

    type: Literal["audio_url"]
    audio_url: _Remote


@with_config(extra="forbid")
class Frame(TypedDict):
    """A first or last frame as the API takes it."""

    type: Literal["image_url"]
    image_url: _Image
    frame_type: Literal["first_frame", "last_frame"]


Reference = Annotated[ImageReference | VideoReference | AudioReference, Field(discriminator="type")]


def _from_url(value: Any) -> Any:
    """The extension of a URL tells a video or audio from an image."""
    if not isinstance(value, str):
        return value
    path = value.split("?")[0].split("#")[0].lower() if value.startswith("https://") else ""
    kind = "video_url" if path.endswith(_VIDEO_EXTENSIONS) else "image_url"
    kind = "audio_url" if path.endswith(_AUDIO_EXTENSIONS) else kind
    return {"type": kind, kind: {"url": value}}


_BY_URL = BeforeValidator(_from_url, json_schema_input_type=str)
ONE_OR_MORE = BeforeValidator(as_list, json_schema_input_type=str | list[str])
ShortReferences = Annotated[list[Annotated[Reference, _BY_URL]], Field(max_length=50), ONE_OR_MORE]
ShortImages = Annotated[list[Annotated[ImageReference, _BY_URL]], Field(max_length=50), ONE_OR_MORE]

# -- variables ---------------------------------------------------------------------------------------------------------


def variable_name(name: str) -> str:
    """``name``, which a template can use. Raises ValueError when it cannot."""
    if _VARIABLE_NAME.fullmatch(name) and name.lower() not in KEYWORDS:
        return name
    raise ValueError(f"{quoted(name)} cannot be a variable; allowed: letters, digits and _, beginning with a letter")


def _values(values: list[Any]) -> tuple[Any, ...]:
    if not values:
        raise ValueError("is an empty list, which would leave no prompt at all")
    return tuple(values)


_Value = Annotated[
    StrictBool | StrictInt | StrictFloat | StrictStr,  # in this order: True is an int, too
    Field(title="text, a number, true or false, or a list of these"),
    BeforeValidator(plain),
]
Variables = Annotated[
    dict[
        Annotated[str, AfterValidator(variable_name)],
        Annotated[list[_Value], AfterValidator(_values), BeforeValidator(as_list)],
    ],
    Field(title="a mapping (name: value, or name: [value, value])"),
]
