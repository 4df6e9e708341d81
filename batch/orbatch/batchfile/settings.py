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
    problem_at,
    whole,
)
from orbatch_provider.inputs import DOWNSCALE, is_local, url_of

# Fields that never reach the model: who calls, and where to report. Changing them buys nothing new.
OBSERVABILITY = frozenset({"user", "session_id", "trace", "callback_url"})
FRAMES = ("first_frame", "last_frame")
_INPUTS = ("frame_images", "input_references")
# Where a number stands for itself as it was written, such as the size class 512. pydantic's coerce_numbers_to_str does
# nothing beside strict types.
_NUMBERS_AS_TEXT = frozenset(
    {"user", "session_id", "resolution", "size", "previous_job_id", "id", "name", "output_dir"}
)


def read_numbers(data: Any) -> Any:
    """Values of a mapping with its numbers in the form that their keys take."""
    if not isinstance(data, dict):
        return data
    return {
        name: str(value)
        if name in _NUMBERS_AS_TEXT and isinstance(value, (int, Decimal)) and not isinstance(value, bool)
        else whole(value)
        for name, value in data.items()
    }


def _given(data: Any) -> Any:
    data = read_numbers(data)
    return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data


GIVEN = BeforeValidator(_given)  # a key without a value counts as left out

_KIND = "what is generated"
_ASPECT_RATIO = "width to height; quotes are not needed"
_SIZE = "exact size, instead of resolution and aspect_ratio"
_API_REFERENCES = "references in the API's own form"
_DOWNSCALE = "longest side in pixels that a local image is sent with; a larger one is made smaller first"
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


class _CommonSettings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    seed: StrictInt | None = Field(
        None, ge=-(2**63), le=2**63 - 1, title="a whole number of 64 bits",
        description="seed for reproducible output, if the model supports it",
    )  # fmt: skip
    user: Text | None = Field(None, description="name of the end user, for OpenRouter's records")
    session_id: Text | None = Field(None, max_length=256, description="groups requests in OpenRouter's activity")
    trace: Json | None = Field(None, description="labels for observability: trace_id, trace_name, span_name, ...")

    @model_validator(mode="before")
    @classmethod
    def _numbers(cls, data: Any) -> Any:
        return read_numbers(data)


class VideoSettings(_CommonSettings):
    """Settings of a job that makes a video."""

    kind: Literal["video"] = Field("video", description=_KIND)
    duration: StrictInt | None = Field(
        None, ge=1, le=3600, description="length in whole seconds, one that the model offers"
    )
    resolution: VideoResolution | None = Field(None, description="resolution class, one that the model offers")
    aspect_ratio: VideoRatio | None = Field(None, description=_ASPECT_RATIO)
    size: VideoSize | None = Field(None, description=_SIZE)
    generate_audio: StrictBool | None = Field(
        None, description="audio; most models generate it by default, and charge more for it"
    )
    first_frame: ImageSource | None = Field(
        None, description="image to start from: https URL, or a local PNG, JPEG or WebP file"
    )
    last_frame: ImageSource | None = Field(
        None, description="image to end on: https URL, or a local PNG, JPEG or WebP file"
    )
    frame_images: list[Frame] | None = Field(None, max_length=2, description="frames in the API's own form")
    references: ShortReferences | None = Field(
        None, description="reference images (https URL or local file), videos and audio (https URL only)"
    )
    input_references: list[Reference] | None = Field(None, max_length=50, description=_API_REFERENCES)
    downscale: StrictInt | None = Field(None, ge=16, le=16_384, description=_DOWNSCALE)
    previous_job_id: Text | None = Field(
        None, title="a job id", description="completed job to edit or extend, of the same model"
    )
    upscale_factor: Annotated[StrictFloat, Field(gt=0), SHORTEN] | None = Field(
        None, description="for upscaling models"
    )
    creativity: StrictInt | None = Field(None, ge=0, description="for upscaling models: 0 is precise, 1 is creative")
    provider: Json | None = Field(
        None, description="options that only one provider knows: {options: {SLUG: {NAME: value}}}"
    )
    callback_url: Link | None = Field(None, description="URL that is called when a job ends")


class ImageSettings(_CommonSettings):
    """Settings of a job that makes images."""

    kind: Literal["image"] = Field("image", description=_KIND)
    n: StrictInt | None = Field(
        None,
        ge=1,
        le=10,
        description="number of images per request; the second and later files get a -2, -3 ... suffix",
    )
    resolution: ImageResolution | None = Field(None, description="size class, one that the model offers")
    aspect_ratio: ImageRatio | None = Field(None, description=_ASPECT_RATIO)
    size: ImageSize | None = Field(None, description=_SIZE)
    quality: Literal["auto", "low", "medium", "high", "xhigh", "max"] | None = Field(
        None, description="higher quality costs more"
    )
    output_format: Literal["png", "jpeg", "webp", "svg"] | None = Field(
        None, description="file format, if the model supports it"
    )
    background: Literal["auto", "transparent", "opaque"] | None = Field(
        None, description="transparent needs png or webp"
    )
    output_compression: StrictInt | None = Field(None, ge=0, le=100, description="for jpeg and webp")
    references: ShortImages | None = Field(None, description="reference images: https URLs or local files")
    input_references: list[ImageReference] | None = Field(None, max_length=50, description=_API_REFERENCES)
    downscale: StrictInt | None = Field(None, ge=16, le=16_384, description=_DOWNSCALE)
    provider: Json | None = Field(
        None, description="routing and options: {only: [SLUG], options: {SLUG: {NAME: value}}}; only fixes the price"
    )


class _Named(TypedDict):
    name: str
    schema: Json


class _SchemaFormat(TypedDict):
    type: Literal["json_schema"]
    json_schema: Annotated[_Named, Field(description="the schema that the answer follows")]


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

    kind: Literal["text"] = Field("text", description=_KIND)
    system: Text | None = Field(None, description="instructions before the prompt")
    max_tokens: StrictInt | None = Field(
        None, ge=1, le=10_000_000, description="longest answer in tokens; without it there is no upper price"
    )
    temperature: Annotated[StrictFloat, Field(ge=0, le=2), SHORTEN] | None = Field(
        None, description="0 is the most predictable"
    )
    top_p: Annotated[StrictFloat, Field(gt=0, le=1), SHORTEN] | None = Field(
        None, description="share of the likeliest words to choose from"
    )
    stop: Annotated[list[str], Field(min_length=1, max_length=4), ONE_OR_MORE] | None = Field(
        None, description="texts that end the answer"
    )
    response_format: ResponseFormat | None = Field(
        None, description="text, json, or a JSON Schema in the API's own form; json makes .json files"
    )
    provider: Json | None = Field(None, description="routing: {only: [SLUG], order: [SLUG], ...}")


class Settings(TextSettings, ImageSettings, VideoSettings):
    """The settings of all kinds; where several have one of the same name, it takes the values of each."""

    # The ignores: a wider type than in a base is unsound for mutable attributes, and these are frozen.
    kind: Literal["video", "image", "text"] = Field("video", description=_KIND)  # type: ignore[assignment]  # frozen
    resolution: VideoResolution | ImageResolution | None = Field(  # type: ignore[assignment]  # frozen
        None, description="resolution or size class, one that the model offers"
    )
    aspect_ratio: VideoRatio | ImageRatio | None = Field(None, description=_ASPECT_RATIO)  # type: ignore[assignment]  # frozen
    size: VideoSize | ImageSize | None = Field(None, description=_SIZE)
    references: ShortReferences | None = Field(None, description="reference images, videos and audio")  # type: ignore[assignment]  # frozen
    input_references: list[Reference] | None = Field(None, max_length=50, description=_API_REFERENCES)  # type: ignore[assignment]  # frozen
    provider: Json | None = Field(None, description="routing, and options that only one provider knows")

    def given(self, *, without: frozenset[str] = frozenset()) -> dict[str, Any]:
        """The settings that were given, each thing in one form, so that a later level replaces an earlier one's.

        ``first_frame`` and ``last_frame`` stand for frames, ``input_references`` for references. None is kept: it
        removes the setting of an earlier level.
        """
        settings = {name: getattr(self, name) for name in self.model_fields_set if name not in without}
        if "references" in settings:
            settings["input_references"] = settings.pop("references")
        if "frame_images" in settings:
            frames = settings.pop("frame_images") or []
            settings |= dict.fromkeys(FRAMES) | {item["frame_type"]: item["image_url"]["url"] for item in frames}
        return settings

    @model_validator(mode="after")
    def _one_form(self) -> Settings:
        for short, api in (("references", "input_references"), *((frame, "frame_images") for frame in FRAMES)):
            if {short, api} <= self.model_fields_set:
                raise problem_at(api, f"is given as {short} as well; use one of them")
        if len({item["frame_type"] for item in self.frame_images or ()}) < len(self.frame_images or ()):
            raise problem_at("frame_images", "only one first_frame and one last_frame can be sent")
        return self


KINDS: Mapping[str, type[BaseModel]] = {"video": VideoSettings, "image": ImageSettings, "text": TextSettings}
FIELDS: Mapping[str, frozenset[str]] = {kind: frozenset(model.model_fields) for kind, model in KINDS.items()}
DEFAULT_KIND = "video"
ALL_KINDS = frozenset(KINDS)
JOB_SETTINGS: TypeAdapter[Any] = TypeAdapter(
    Annotated[VideoSettings | ImageSettings | TextSettings, Field(discriminator="kind")],
    config=ConfigDict(defer_build=True),
)


def kind_of(*levels: Mapping[str, Any]) -> str:
    """The kind of a job with these settings, the last level first."""
    return str(next((level["kind"] for level in reversed(levels) if level.get("kind") is not None), DEFAULT_KIND))


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
    for name in _INPUTS if longest is not None else ():
        if name in fields:
            fields[name] = [_downscaled(item, longest) for item in fields[name]]
    return fields


def has_input(fields: Mapping[str, Any]) -> bool:
    """Whether a request starts from something else than a prompt."""
    return not fields.keys().isdisjoint(_INPUTS)


def _downscaled(item: Mapping[str, Any], longest: int) -> Mapping[str, Any]:
    url = url_of(item)
    # Only a local image: nobody can make a remote one smaller.
    return dict(item) | {"image_url": {"url": url, DOWNSCALE: longest}} if url is not None and is_local(url) else item
