"""Request settings of each kind of job, checked by pydantic: one model per kind, told apart by ``kind``.

``Settings`` is what one level of a batch file (defaults, a model, a prompt) may set, where the kind of the job is not
known yet: the settings of all kinds. The levels are merged, and the result must be the settings of one kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    TypeAdapter,
    model_validator,
)
from typing_extensions import TypedDict  # pydantic does not read the one of Python 3.11

from orbatch.batchfile.types import (
    ONE_OR_MORE,
    SHORTEN,
    Frame,
    ImageReference,
    ImageSource,
    Json,
    Link,
    Reference,
    ShortImages,
    ShortReferences,
    Text,
    key,
    problem_at,
)
from orbatch_provider.inputs import DOWNSCALE, is_local, url_of

# Fields that never reach the model: who calls, and where to report. Changing them buys nothing new.
OBSERVABILITY = frozenset({"user", "session_id", "trace", "callback_url"})
FRAMES = ("first_frame", "last_frame")
INPUTS = ("frame_images", "input_references")  # what a request starts from, besides its prompt
# Where a number stands for itself as it was written, such as the size class 512. pydantic's coerce_numbers_to_str does
# nothing beside strict types.
_NUMBERS_AS_TEXT = frozenset(
    {"user", "session_id", "resolution", "size", "previous_job_id", "id", "name", "output_dir"}
)


def _with_numbers(data: Any) -> Any:
    """Values of a mapping with its numbers in the form that their keys take."""
    if not isinstance(data, dict):
        return data
    return {name: _number(name, value) if isinstance(value, (int, Decimal)) else value for name, value in data.items()}


def _number(name: str, value: int | Decimal) -> Any:
    if name in _NUMBERS_AS_TEXT and not isinstance(value, bool):
        return str(value)
    return int(value) if isinstance(value, Decimal) and value == value.to_integral_value() else value  # 5.0 is 5


def _given(data: Any) -> Any:
    data = _with_numbers(data)
    return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data


GIVEN = BeforeValidator(_given)  # a key without a value counts as left out

_KIND = "what is generated"
_PIXELS = r"[1-9][0-9]{1,4}x[1-9][0-9]{1,4}"
VideoResolution = Literal["360p", "480p", "720p", "768p", "1080p", "1K", "2K", "4K"]
VideoRatio = Literal["16:9", "9:16", "1:1", "4:3", "3:4", "3:2", "2:3", "21:9", "9:21"]
VideoSize = Annotated[str, Field(title="WIDTHxHEIGHT in pixels, such as 1280x720", pattern=f"^{_PIXELS}$")]
ImageResolution = Literal["512", "768", "1K", "1.5K", "2K", "4K"]
ImageRatio = Literal[
    "1:1", "1:2", "1:4", "1:8", "2:1", "2:3", "2.35:1", "3:2", "3:4", "4:1", "4:3", "4:5", "5:2", "5:4", "5:7",
    "7:5", "8:1", "9:16", "16:9", "9:19.5", "19.5:9", "9:20", "20:9", "9:21", "21:9", "auto",
]  # fmt: skip
ImageSize = Annotated[
    str, Field(title="a class such as 2K, or WIDTHxHEIGHT in pixels", pattern=rf"^(512|768|1K|1\.5K|2K|4K|{_PIXELS})$")
]
# Keys of several kinds. A seed is what JSON readers of every language hold exactly as an integer of 64 bits.
Seed = Annotated[StrictInt, Field(ge=-(2**63), le=2**63 - 1, title="a whole number of 64 bits")]
_RATIO = key(None, "width to height; quotes are not needed")
_SIZE = key(None, "exact size, instead of resolution and aspect_ratio")
_API_REFERENCES = key(None, "references in the API's own form", max_length=50)
_DOWNSCALE = key(
    None, "longest side in pixels that a local image is sent with; a larger one is made smaller first", ge=16, le=16_384
)


class _CommonSettings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    seed: Seed | None = key(None, "seed for reproducible output, if the model supports it")
    user: Text | None = key(
        None, "name of the end user, for OpenRouter's records; without it, each attempt sends a random key"
    )
    session_id: Text | None = key(None, "groups requests in OpenRouter's activity", max_length=256)
    trace: Json | None = key(None, "labels for observability: trace_id, trace_name, span_name, ...")

    @model_validator(mode="before")
    @classmethod
    def _numbers(cls, data: Any) -> Any:
        return _with_numbers(data)


class VideoSettings(_CommonSettings):
    """Settings of a job that makes a video."""

    kind: Literal["video"] = key("video", _KIND)
    duration: StrictInt | None = key(None, "length in whole seconds, one that the model offers", ge=1, le=3600)
    resolution: VideoResolution | None = key(None, "resolution class, one that the model offers")
    aspect_ratio: VideoRatio | None = _RATIO
    size: VideoSize | None = _SIZE
    generate_audio: StrictBool | None = key(None, "audio; most models generate it by default, and charge more for it")
    first_frame: ImageSource | None = key(None, "image to start from: https URL, or a local PNG, JPEG or WebP file")
    last_frame: ImageSource | None = key(None, "image to end on: https URL, or a local PNG, JPEG or WebP file")
    frame_images: list[Frame] | None = key(None, "frames in the API's own form", max_length=2)
    references: ShortReferences | None = key(
        None, "reference images (https URL or local file), videos and audio (https URL only)"
    )
    input_references: list[Reference] | None = _API_REFERENCES
    downscale: StrictInt | None = _DOWNSCALE
    previous_job_id: Text | None = key(None, "completed job to edit or extend, of the same model", title="a job id")
    upscale_factor: Annotated[StrictFloat, Field(gt=0), SHORTEN] | None = key(None, "for upscaling models")
    creativity: StrictInt | None = key(None, "for upscaling models: 0 is precise, 1 is creative", ge=0)
    provider: Json | None = key(None, "options that only one provider knows: {options: {SLUG: {NAME: value}}}")
    callback_url: Link | None = key(None, "URL that is called when a job ends")


class ImageSettings(_CommonSettings):
    """Settings of a job that makes images."""

    kind: Literal["image"] = key("image", _KIND)
    n: StrictInt | None = key(
        None, "number of images per request; the second and later files get a -2, -3 ... suffix", ge=1, le=10
    )
    resolution: ImageResolution | None = key(None, "size class, one that the model offers")
    aspect_ratio: ImageRatio | None = _RATIO
    size: ImageSize | None = _SIZE
    quality: Literal["auto", "low", "medium", "high", "xhigh", "max"] | None = key(None, "higher quality costs more")
    output_format: Literal["png", "jpeg", "webp", "svg"] | None = key(None, "file format, if the model supports it")
    background: Literal["auto", "transparent", "opaque"] | None = key(None, "transparent needs png or webp")
    output_compression: StrictInt | None = key(None, "for jpeg and webp", ge=0, le=100)
    references: ShortImages | None = key(None, "reference images: https URLs or local files")
    input_references: list[ImageReference] | None = _API_REFERENCES
    downscale: StrictInt | None = _DOWNSCALE
    provider: Json | None = key(
        None, "routing and options: {only: [SLUG], options: {SLUG: {NAME: value}}}; only fixes the price"
    )


class _NamedSchema(TypedDict):
    name: str
    schema: Json


class _SchemaFormat(TypedDict):
    type: Literal["json_schema"]
    json_schema: _NamedSchema


class _PlainFormat(TypedDict):
    type: Literal["text", "json_object"]


_FORMAT_WORDS = {"text": {"type": "text"}, "json": {"type": "json_object"}}
ResponseFormat = Annotated[
    Annotated[_SchemaFormat | _PlainFormat, Field(discriminator="type")],
    Field(title="text, json, or {type: json_schema, json_schema: {name: NAME, schema: {...}}}"),
    BeforeValidator(lambda given: _FORMAT_WORDS.get(given, given) if isinstance(given, str) else given),
]


class TextSettings(_CommonSettings):
    """Settings of a job that makes a text."""

    kind: Literal["text"] = key("text", _KIND)
    system: Text | None = key(None, "instructions before the prompt")
    max_tokens: StrictInt | None = key(
        None, "longest answer in tokens; without it there is no upper price", ge=1, le=10_000_000
    )
    temperature: Annotated[StrictFloat, Field(ge=0, le=2), SHORTEN] | None = key(None, "0 is the most predictable")
    top_p: Annotated[StrictFloat, Field(gt=0, le=1), SHORTEN] | None = key(
        None, "share of the likeliest words to choose from"
    )
    stop: Annotated[list[str], Field(min_length=1, max_length=4), ONE_OR_MORE] | None = key(
        None, "texts that end the answer"
    )
    response_format: ResponseFormat | None = key(
        None, "text, json, or a JSON Schema in the API's own form; json makes .json files"
    )
    provider: Json | None = key(None, "routing: {only: [SLUG], order: [SLUG], ...}")


class Settings(TextSettings, ImageSettings, VideoSettings):
    """The settings of all kinds; where several have one of the same name, it takes the values of each."""

    # The ignores: a wider type than in a base is unsound for attributes that can be set, and these are frozen.
    kind: Literal["video", "image", "text"] = key("video", _KIND)  # type: ignore[assignment]  # frozen
    resolution: VideoResolution | ImageResolution | None = key(None, "class that the model offers")  # type: ignore[assignment]  # frozen
    aspect_ratio: VideoRatio | ImageRatio | None = _RATIO  # type: ignore[assignment]  # frozen
    size: VideoSize | ImageSize | None = _SIZE
    references: ShortReferences | None = key(None, "reference images, videos and audio")  # type: ignore[assignment]  # frozen
    input_references: list[Reference] | None = _API_REFERENCES  # type: ignore[assignment]  # frozen
    provider: Json | None = key(None, "routing, and options that only one provider knows")

    def given(self) -> dict[str, Any]:
        """The settings that were given, each thing in one form, so that a later level replaces an earlier one's.

        ``first_frame`` and ``last_frame`` stand for frames, ``input_references`` for references. None is kept: it
        removes the setting of an earlier level. What a subclass adds is not a setting.
        """
        settings = {name: getattr(self, name) for name in self.model_fields_set if name in _SETTINGS}
        if "references" in settings:
            settings["input_references"] = settings.pop("references")
        if "frame_images" in settings:
            frames = settings.pop("frame_images") or []
            settings |= dict.fromkeys(FRAMES) | {item["frame_type"]: item["image_url"]["url"] for item in frames}
        return settings

    @model_validator(mode="after")
    def _one_form(self) -> Settings:
        if self.model_fields_set.isdisjoint(INPUTS):  # nearly always, and this runs for every row of a file
            return self
        for short, api in (("references", "input_references"), *((frame, "frame_images") for frame in FRAMES)):
            if {short, api} <= self.model_fields_set:
                raise problem_at(api, f"is given as {short} as well; use one of them")
        if len({item["frame_type"] for item in self.frame_images or ()}) < len(self.frame_images or ()):
            raise problem_at("frame_images", "only one first_frame and one last_frame can be sent")
        return self


_SETTINGS = frozenset(Settings.model_fields)
COMMON_SETTINGS = frozenset(_CommonSettings.model_fields)
KINDS: Mapping[str, type[BaseModel]] = {"video": VideoSettings, "image": ImageSettings, "text": TextSettings}
FIELDS: Mapping[str, frozenset[str]] = {kind: frozenset(model.model_fields) for kind, model in KINDS.items()}
ALL_KINDS = frozenset(KINDS)
JOB_SETTINGS: TypeAdapter[Any] = TypeAdapter(
    Annotated[VideoSettings | ImageSettings | TextSettings, Field(discriminator="kind")],
    config=ConfigDict(defer_build=True),
)


def kind_of(*levels: Mapping[str, Any]) -> str:
    """The kind of a job with these settings, the last level first."""
    return str(next((level["kind"] for level in reversed(levels) if level.get("kind") is not None), "video"))


def merge(kind: str, defaults: Mapping[str, Any], *levels: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a job of this kind; later levels win, and defaults for other kinds are left out."""
    own = {name: value for name, value in defaults.items() if name in FIELDS[kind]}
    for level in levels:
        own |= level
    return own


def request_fields(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Merged settings as the fields of the API's request; those that are None are not sent."""
    fields = {name: value for name, value in settings.items() if value is not None and name != "kind"}
    frames = [
        {"type": "image_url", "image_url": {"url": fields.pop(frame)}, "frame_type": frame}
        for frame in FRAMES
        if frame in fields
    ]
    if frames:
        fields["frame_images"] = frames
    longest = fields.pop(DOWNSCALE, None)
    for name in INPUTS if longest is not None else ():
        if name in fields:
            fields[name] = [_downscaled(item, longest) for item in fields[name]]
    return fields


def _downscaled(item: Mapping[str, Any], longest: int) -> Mapping[str, Any]:
    url = url_of(item)
    # Only a local image: nobody can make a remote one smaller.
    return dict(item) | {"image_url": {"url": url, DOWNSCALE: longest}} if url is not None and is_local(url) else item
