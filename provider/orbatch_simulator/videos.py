"""POST /videos, GET /videos/{id}, GET /videos/models: which requests are refused, what the others cost, how jobs run.

Rules and charges are written from the API's description and the model's record only, not with ``check_video`` or
``orbatch_provider.pricing``, so that a mistake in one cannot hide in the other. A list that the record gives as null
refuses nothing, except where the field belongs to some models only (frames, ``upscale_factor``, ``creativity``).
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, Literal

from aiohttp import web

from orbatch_provider.catalog import VideoModel
from orbatch_simulator.faults import JOB_ENDS, Fault
from orbatch_simulator.journal import Job, fingerprint
from orbatch_simulator.middleware import (
    MEGAPIXEL,
    SIZE,
    UNKNOWN_PRICE_USD,
    Accept,
    Answer,
    api_call,
    check_fields,
    check_input,
    display_name,
    invalid,
    paid_call,
    respond,
    whole_nano,
)
from orbatch_simulator.state import RefusedError, SimulatorSettings, State, new_id

_ENUMS: Mapping[str, tuple[str, ...]] = {
    "resolution": ("360p", "480p", "720p", "768p", "1080p", "1K", "2K", "4K"),
    "aspect_ratio": ("16:9", "9:16", "1:1", "4:3", "3:4", "3:2", "2:3", "21:9", "9:21"),
}
_RANGES = {"duration": (1, math.inf)}
FRAME_TYPES = ("first_frame", "last_frame")
REFERENCE_TYPES = ("image_url", "video_url", "audio_url")

_TYPES: Mapping[str, str] = {
    **dict.fromkeys(("model", "prompt", "size", "previous_job_id", *_ENUMS), "a string"),
    **dict.fromkeys(("callback_url", "user", "session_id"), "a string"),
    **dict.fromkeys(("duration", "seed", "creativity"), "an integer"),
    **dict.fromkeys(("frame_images", "input_references"), "an array"),
    **dict.fromkeys(("provider", "trace"), "an object"),
    "generate_audio": "a boolean",
    "upscale_factor": "a number",
}

# The 16:9 frame of each resolution class: its short side and its area define the class.
_FRAMES = {
    "360p": (640, 360),
    "480p": (854, 480),
    "720p": (1280, 720),
    "768p": (1366, 768),
    "1080p": (1920, 1080),
    "1k": (1822, 1024),
    "2k": (2560, 1440),
    "4k": (3840, 2160),
}
_RATIO_TOLERANCE = 0.04  # between a listed size and an aspect ratio, as |ln(a / b)|

_CENTS = Decimal(100)
_TOKEN_PIXELS = Decimal(1024)
_TOKEN_FPS = 24
_BYOK_FEE = Decimal("0.05")  # of the list price: all that OpenRouter charges if the caller's own provider key pays

_USUAL_LENGTH_S = 5.0  # a clip of this length takes the median render time
_ERRORS: Mapping[str, str] = {
    "failed": "Provider error: the generation did not pass the output check",
    "cancelled": "The generation was cancelled by the provider",
    "expired": "The generation was not processed in time",
}


# -- rules


def check_form(body: object) -> Mapping[str, Any]:
    """The body, if its form is valid. Raises RefusedError 400. What the model supports is another question."""
    fields = check_fields(body, _TYPES, _ENUMS, _RANGES)
    if "size" in fields and not SIZE.fullmatch(fields["size"]):
        raise invalid("size: must be WIDTHxHEIGHT in pixels")
    if "size" in fields and ("resolution" in fields or "aspect_ratio" in fields):
        raise invalid("size: cannot be combined with resolution or aspect_ratio")
    if not fields.get("callback_url", "https://").startswith("https://"):
        raise invalid("callback_url: must be an https URL")
    options = fields.get("provider", {}).get("options", {})
    if not isinstance(options, dict) or not all(isinstance(block, dict) for block in options.values()):
        raise invalid("provider.options: must map provider slugs to objects")
    _check_frames(fields.get("frame_images", []))
    for item in fields.get("input_references", []):
        check_input("input_references", item, REFERENCE_TYPES)
    # An input image or reference may stand without a prompt.
    if not any(fields.get(name) for name in ("prompt", "frame_images", "input_references")):
        raise invalid("prompt: required", "invalid_prompt")
    return fields


def _check_frames(frames: list[Any]) -> None:
    for item in frames:
        check_input("frame_images", item, ("image_url",))
        if item.get("frame_type") not in FRAME_TYPES:
            raise invalid(f"frame_images: frame_type must be one of {', '.join(FRAME_TYPES)}")
    types = [item["frame_type"] for item in frames]
    if len(set(types)) != len(types):
        raise invalid("frame_images: at most one frame of each frame_type")


def check_model(body: Mapping[str, Any], model: VideoModel, *, refuse_audio_off: bool = False) -> None:
    """Raises RefusedError 400 for the first thing that the model does not support."""
    offered: Mapping[str, Sequence[object] | None] = {
        "duration": model.durations,
        "resolution": model.resolutions,
        "aspect_ratio": model.aspect_ratios,
        "size": model.sizes,
        "creativity": model.creativity or (),
    }
    for name, values in offered.items():
        if name in body and values is not None and body[name] not in values:
            supported = ", ".join(str(value) for value in values) or "nothing"
            raise invalid(f"{name}: {model.id} does not support {body[name]!r}; supported: {supported}")
    for frame in body.get("frame_images", ()):
        if frame["frame_type"] not in (model.frame_types or ()):
            raise invalid(f"frame_images: {model.id} does not support {frame['frame_type']}")
    # Audio off on a model without audio: accepted by most, refused by some (heygen-video-1).
    if "generate_audio" in body and model.generate_audio is not True and (body["generate_audio"] or refuse_audio_off):
        raise invalid(f"generate_audio: {model.id} does not support audio generation")
    if "seed" in body and model.seed is not True:
        raise invalid(f"seed: {model.id} does not support seed")
    factor = body.get("upscale_factor")
    if factor is not None:
        if model.upscale_min is None or model.upscale_max is None:
            raise invalid(f"upscale_factor: {model.id} is not an upscaler")
        if not model.upscale_min <= factor <= model.upscale_max:
            raise invalid(f"upscale_factor: must be between {model.upscale_min:g} and {model.upscale_max:g}")


def _check_continuation(state: State, owner: str, body: Mapping[str, Any]) -> None:
    if "previous_job_id" not in body:
        return
    previous = state.job_of(owner, body["previous_job_id"])
    if state.status(previous) != "completed":
        raise invalid("previous_job_id: the job is not completed")
    if previous.model != body["model"]:
        raise invalid(f"previous_job_id: the job was made with {previous.model}")


# -- what an accepted request means


@dataclass(frozen=True, slots=True)
class EffectiveRequest:
    """Every dimension that the frame and the charge depend on, whether the request sets it or not.

    The service documents no defaults. The simulator's own: the model's shortest duration, 720p (else the lowest
    resolution), 16:9 (else the first ratio), audio by the model's flag, upscaling by the smallest factor in precise
    mode. Models without durations work on a source clip, which the settings describe. ``resolution``: in lower case,
    None for models without; ``images``: image references, not counting ``frames``.
    """

    model: str
    prompt: str
    seconds: Decimal
    resolution: str | None
    width: int
    height: int
    audio: bool
    mode: Literal["text", "image", "reference"]
    frames: int
    images: int
    has_video: bool
    continues: bool
    upscaled_pixels: Decimal
    creative: bool

    @classmethod
    def from_body(cls, body: Mapping[str, Any], model: VideoModel, settings: SimulatorSettings) -> EffectiveRequest:
        """From a request body that passed the rules."""
        frames = body.get("frame_images") or []
        references = [item["type"] for item in body.get("input_references") or []]
        resolution = _resolution(body, model)
        source = settings.source_width, settings.source_height
        factor = Decimal(str(body.get("upscale_factor") or model.upscale_min or 1))
        width, height = _frame_size(body, model, resolution, source, float(factor))
        duration = body.get("duration") or (min(model.durations) if model.durations else settings.source_seconds)
        audio = body.get("generate_audio")
        return cls(
            model=model.id,
            prompt=body.get("prompt") or "",
            seconds=Decimal(duration),
            resolution=resolution,
            width=width,
            height=height,
            audio=audio if audio is not None else model.generate_audio is True,
            mode="image" if frames else "reference" if references else "text",  # frames win over references
            frames=len(frames),
            images=references.count("image_url"),
            has_video="video_url" in references,
            continues=body.get("previous_job_id") is not None,
            upscaled_pixels=source[0] * source[1] * factor**2,
            creative=bool(body.get("creativity")),  # 0 is precise mode
        )


def _resolution(body: Mapping[str, Any], model: VideoModel) -> str | None:
    if body.get("resolution"):
        return str(body["resolution"]).lower()
    if not model.resolutions:
        return None
    if body.get("size"):
        return _class_of(*_pair(body["size"]), model)
    offered = [name.lower() for name in model.resolutions]
    return "720p" if "720p" in offered else min(offered, key=lambda name: _FRAMES[name])


def _class_of(width: int, height: int, model: VideoModel) -> str:
    """The resolution class of a size: by its short side, else the nearest by area."""

    def distance(name: str) -> tuple[bool, float]:
        long, short = _FRAMES[name]
        return min(width, height) != short, abs(math.log(width * height / (long * short)))

    return min((name.lower() for name in model.resolutions or ()), key=distance)


def _frame_size(
    body: Mapping[str, Any], model: VideoModel, resolution: str | None, source: tuple[int, int], factor: float
) -> tuple[int, int]:
    if body.get("size"):
        return _pair(body["size"])
    if model.upscale_min is not None:
        return _even(source[0] * factor), _even(source[1] * factor)
    name = body.get("aspect_ratio")
    if resolution is None:
        return source if name is None else _scaled(min(source), *_pair(name))
    offered = model.aspect_ratios or ("16:9",)
    wide, high = _pair(name or ("16:9" if "16:9" in offered else offered[0]))
    # A listed size wins over a computed one: providers round sides in their own ways (854x480, 480x854).
    for width, height in map(_pair, model.sizes or ()):
        fits = abs(math.log(width / height / (wide / high))) <= _RATIO_TOLERANCE
        if fits and _class_of(width, height, model) == resolution:
            return width, height
    return _scaled(_FRAMES[resolution][1], wide, high)


def _scaled(short: int, wide: int, high: int) -> tuple[int, int]:
    long = _even(short * max(wide, high) / min(wide, high))
    return (long, short) if wide >= high else (short, long)


def _pair(text: str) -> tuple[int, int]:
    """The numbers of a size such as 1280x720 or a ratio such as 16:9."""
    width, height = re.split("[x:]", text)
    return int(width), int(height)


def _even(length: float) -> int:
    # H.264 with 4:2:0 colour has even sides only; the epsilon keeps 720.0000001 from becoming 722.
    return 2 * math.ceil(length / 2 - 1e-9)


# -- charges


def charge_video(request: EffectiveRequest, prices: Mapping[str, str]) -> Decimal:
    """USD for a completed job.

    ``orbatch_provider.pricing`` weighs every line that applies. Here the names of the lines are tried from the most
    specific to the most general, and the first that the model has is the rate.

    Where the public rules leave a band, this takes an amount within it: tokens without the extra frame; output seconds
    only for a video reference; the image line only for a reference where there are text and image lines; continuation
    for ``previous_job_id`` only; megapixels of 2^20; ``reference_images`` for image references but not for frames.
    """
    line = next((name for name in _price_lines(request) if name in prices), None)
    if line is None:
        return UNKNOWN_PRICE_USD
    amount = Decimal(prices[line]) * _quantity(line, request)
    # Additions to the rate, each with a unit of its own.
    if "cents_per_image_input" in prices:
        amount += Decimal(prices["cents_per_image_input"]) / _CENTS * (request.frames + request.images)
    if "reference_images" in prices:
        amount += Decimal(prices["reference_images"]) * request.images
    if "minimum_cents_per_generation" in prices:
        amount = max(amount, Decimal(prices["minimum_cents_per_generation"]) / _CENTS)
    return whole_nano(amount)


def _price_lines(request: EffectiveRequest) -> list[str]:
    """Names of price lines that can set the rate, the decisive one first."""
    at = f"_{request.resolution}"
    # Veo prices audio by separate lines; without them, one line covers both.
    audio = "with_audio" if request.audio else "without_audio"
    lines = (
        (request.continues, f"cents_per_second_video_continuation{at}"),
        (request.has_video, f"video_tokens{at}_with_video_input"),
        (request.has_video, "video_tokens_with_video_input"),
        (True, f"video_tokens{at}"),
        (not request.audio, "video_tokens_without_audio"),
        (True, "video_tokens"),
        (request.mode == "reference", f"reference_duration_seconds{at}"),
        (True, f"duration_seconds_{audio}{at}"),
        (True, f"duration_seconds_{audio}"),
        (request.mode != "text", f"image_to_video_duration_seconds{at}"),
        (request.mode != "image", f"text_to_video_duration_seconds{at}"),
        (True, f"duration_seconds{at}"),
        (True, "duration_seconds"),
        (True, f"cents_per_video_output_second{at}"),
        (True, f"cents_per_second_output{at}"),
        (True, "cents_per_second_output"),
        (True, f"cents_per_megapixel_second_{'creative' if request.creative else 'precise'}"),
    )
    return [name for is_possible, name in lines if is_possible]


def _quantity(line: str, request: EffectiveRequest) -> Decimal:
    """What the line's value is multiplied by to give USD."""
    if line.startswith("video_tokens"):
        return request.width * request.height * request.seconds * _TOKEN_FPS / _TOKEN_PIXELS
    if line.startswith("cents_per_megapixel_second"):
        return request.upscaled_pixels / MEGAPIXEL * request.seconds / _CENTS
    return request.seconds / _CENTS if line.startswith("cents") else request.seconds


# -- jobs


def _check(state: State, owner: str, raw: object) -> tuple[Decimal, Accept]:
    body = check_form(raw)
    model = state.catalog.models.get(body["model"])
    if model is None:
        raise RefusedError(404, f"{body['model']} is not a valid video model ID")
    check_model(body, model, refuse_audio_off=state.settings.refuse_audio_off)
    _check_continuation(state, owner, body)
    effective = EffectiveRequest.from_body(body, model, state.settings)
    price = charge_video(effective, model.prices)
    return price, partial(_accept, state, owner, body, effective, price)


async def _accept(
    state: State,
    owner: str,
    body: Mapping[str, Any],
    effective: EffectiveRequest,
    price: Decimal,
    answer_fault: Fault | None,
) -> Answer:
    job_id = new_id("gen-vid", int(state.clock.now()))  # and the id of its generation
    fault = state.faults.pick("job", model=effective.model, prompt=effective.prompt, job_id=job_id)
    action = fault.action if fault is not None else ""
    ends_as = action if action in {*JOB_ENDS, "never_ends"} else "completed"
    request = fingerprint(owner, body)
    job = state.accept(
        owner,
        body,
        price,
        answer_fault,
        id=job_id,
        generation_id=job_id,
        prompt=effective.prompt,
        render_s=_render_s(state.settings, effective, f"{request}:{state.journal.bodies[request] + 1}"),
        ends_as=ends_as,
        cost_usd=price if fault is None else _cost(fault, price),
        reports_cost=action != "null_cost",
        reports_usage=ends_as == "completed" or state.settings.failures_report_usage,
        is_byok=action == "byok",
        error=(fault.message if fault is not None else "") or _ERRORS.get(ends_as),
    )
    return Answer(202, _submit_body(state, job))


def _cost(fault: Fault, price: Decimal) -> Decimal:
    if fault.action == "byok":
        return whole_nano(price * _BYOK_FEE)
    is_charged = fault.action == "null_cost" or (fault.action in JOB_ENDS and fault.charged)
    return price if is_charged else Decimal(0)


def _render_s(settings: SimulatorSettings, request: EffectiveRequest, label: str) -> float:
    """Simulated seconds from the start of a render to its end, at most four medians.

    ``label`` names the job: the same seed and label give the same time.
    """
    fixed = settings.render_s.get(request.model)
    if fixed is not None:
        return fixed
    by_length = 0.5 + 0.5 * float(request.seconds) / _USUAL_LENGTH_S  # half of a render does not depend on the length
    luck = random.Random(f"{settings.seed}:{label}").lognormvariate(0, settings.render_spread)
    return settings.render_median_s * by_length * min(luck, 4.0)


def _submit_body(state: State, job: Job) -> dict[str, Any]:
    """What a submit answers: only these three."""
    return {"id": job.id, "polling_url": f"{state.origin}/api/v1/videos/{job.id}", "status": "pending"}


def _poll_body(state: State, job: Job) -> dict[str, Any]:
    """What a poll answers."""
    status = state.status(job)
    body = _submit_body(state, job) | {"status": status, "generation_id": job.generation_id}
    if state.ended_for_s(job) < 0:
        return body
    if job.reports_usage:
        body["usage"] = job.usage
    if status != "completed":
        return body | {"error": job.error}
    content = f"{body['polling_url']}/content"
    return body | {"unsigned_urls": [f"{content}?index={index}" for index in range(state.settings.outputs)]}


# -- routes


@api_call("poll")
async def poll(request: web.Request, state: State, owner: str) -> web.StreamResponse:
    """GET /videos/{id}."""
    job = state.job_of(owner, request.match_info["job_id"])
    return await respond(request, state, "poll", lambda: Answer(200, _poll_body(state, job)), job)


@api_call("models", needs_key=False)
async def models(request: web.Request, state: State, _: str) -> web.StreamResponse:
    """GET /videos/models: the captured records, with the documented fields that were not captured."""
    created = int(state.catalog.captured_at.timestamp())
    usual = {"created": created, "description": "", "hugging_face_id": None}
    # input_modalities was added by the capture; the live list does not have it.
    records = [
        usual | {"name": display_name(record["id"])} | {k: v for k, v in record.items() if k != "input_modalities"}
        for record in state.catalog.records
    ]
    return await respond(request, state, "models", lambda: Answer(200, {"data": records}))


ROUTES = [
    web.post("/api/v1/videos", paid_call("submit", _check)),
    web.get("/api/v1/videos/models", models),  # before {job_id}, which would match "models", too
    web.get("/api/v1/videos/{job_id}", poll),
]
