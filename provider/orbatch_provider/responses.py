"""Responses of the API as frozen values, and the two errors that carry one. Each ``from_json`` is the only way in.

Dataclasses and not pydantic models: what a paid response brings is kept field by field, whatever else in it is wrong,
and importing pydantic would cost every command a tenth of a second.
"""

from __future__ import annotations

import base64
import html
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypeGuard

from orbatch_provider.errors import InvalidResponseError, OpenRouterError, redact

MAX_OUTPUTS = 16  # of one job; a list of 100,000 URLs is a fault of the provider
COMPLETED = "completed"
ENDED_WITHOUT_RESULT = frozenset({"failed", "cancelled", "expired"})
TERMINAL = ENDED_WITHOUT_RESULT | {COMPLETED}
PENDING = "pending"  # assumed for an accepted job until a poll says more

CHARGE_LIMIT_USD = Decimal(10_000)  # of one job: a number from here on is an error, not a charge
_BALANCE_LIMIT_USD = Decimal(10) ** 9  # of an account
LONGEST_SHOWN = 20_000_000  # bytes of a file that is put into a notebook
_SHOWN = 40  # characters of a value that is no amount
_LONGEST_ID = 512  # characters
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")  # a surrogate, which cannot be encoded


def charge_or_none(value: object) -> Decimal | None:
    """The charge of one job in USD: a finite number or decimal text, at least 0 and below CHARGE_LIMIT_USD.

    None for anything else. An amount that cannot be read is unknown; it is not zero, and no reason to lose a result.
    """
    if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
        return None
    try:
        amount = Decimal(value)
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and 0 <= amount < CHARGE_LIMIT_USD else None


def text_or_none(value: object) -> str | None:
    """A text from JSON; None for an empty one and for any other type."""
    return value if isinstance(value, str) and value else None


@dataclass(frozen=True, slots=True)
class Usage:
    """``cost``: USD charged to OpenRouter credits, None while unknown. ``is_byok``: the provider charges the rest.

    The tokens are those of images and texts, None where the response names none. ``unreadable_cost``: what came in
    place of an amount, shortened; "" where the cost was an amount or null.
    """

    cost: Decimal | None
    is_byok: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    unreadable_cost: str = ""

    @property
    def total_tokens(self) -> int | None:
        """Of prompt and completion, None while one is unknown."""
        known = (self.prompt_tokens, self.completion_tokens)
        return None if None in known else sum(filter(None, known))

    def keys(self) -> tuple[str, ...]:
        """The names of what is known, so that a usage can be read like the API's object."""
        names = ("cost", "is_byok", "prompt_tokens", "completion_tokens", "total_tokens")
        return tuple(name for name in names if getattr(self, name) is not None)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __getitem__(self, name: str) -> Any:
        if name not in self.keys():
            raise KeyError(name)
        value = getattr(self, name)
        return float(value) if isinstance(value, Decimal) else value

    def get(self, name: str, default: Any = None) -> Any:
        """As of a dictionary; amounts are floats here, exact in ``cost``."""
        return self[name] if name in self.keys() else default

    @classmethod
    def from_json(cls, data: object) -> Usage | None:
        """None for what is not an object."""
        if not isinstance(data, Mapping):
            return None
        sent = data.get("cost")
        cost = charge_or_none(sent)
        prompt, completion = (_integer(data.get(name)) for name in ("prompt_tokens", "completion_tokens"))
        return cls(
            cost,
            data.get("is_byok") is True,
            None if prompt is None or prompt < 0 else prompt,
            None if completion is None or completion < 0 else completion,
            "" if cost is not None or sent is None else _shortened(sent),
        )


@dataclass(frozen=True, slots=True)
class VideoJob:
    """A video job as submit and poll report it.

    ``status`` is an open set: pending, in_progress, completed, failed, cancelled, expired, or a new one.
    ``urls`` are signed and therefore secret: they are not in the repr.
    """

    id: str
    status: str
    polling_url: str | None = None  # never followed: the key goes to the configured origin only
    generation_id: str | None = None
    unsigned_urls: tuple[str, ...] = ()
    urls: tuple[str, ...] = field(default=(), repr=False)
    expires_at: int | None = None  # Unix seconds, UTC
    usage: Usage | None = None
    error: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_terminal(self) -> bool:
        """Whether the status is final."""
        return self.status in TERMINAL

    @property
    def output_count(self) -> int:
        """Outputs to download: those announced, but at least one, since a completed job may list none and still have
        content, and at most MAX_OUTPUTS."""
        return max(1, min(MAX_OUTPUTS, self.announced))

    @property
    def announced(self) -> int:
        """Outputs that the answer lists."""
        return max(len(self.unsigned_urls), len(self.urls))

    @classmethod
    def from_json(cls, data: object) -> VideoJob:
        """From a poll. Raises InvalidResponseError for an unusable id or status: polling again is free."""
        job = cls.from_submit(data)
        if job.raw.get("status") != job.status:
            raise InvalidResponseError(f"Job {job.id} has no status", detail=repr(job.raw))
        return job

    @classmethod
    def from_submit(cls, data: object) -> VideoJob:
        """From the response to a paid submit, where only the id matters: it is kept whatever else is wrong, and the
        next poll reads the rest. Raises InvalidResponseError when there is no usable id."""
        if not isinstance(data, Mapping):
            raise InvalidResponseError("The job is not a JSON object", detail=repr(data))
        job_id = data.get("id")
        if not is_job_id(job_id):
            raise InvalidResponseError("The response has no job id", detail=repr(data))
        return cls(
            id=job_id,
            status=text_or_none(data.get("status")) or PENDING,
            polling_url=text_or_none(data.get("polling_url")),
            generation_id=text_or_none(data.get("generation_id")),
            unsigned_urls=_texts(data.get("unsigned_urls")),
            urls=_texts(data.get("urls")),
            expires_at=_integer(data.get("expires_at")),
            usage=Usage.from_json(data.get("usage")),
            error=_reason(data.get("error")),
            raw=data,
        )


@dataclass(frozen=True, slots=True)
class Generation:
    """One record of ``GET /generation``: the authoritative cost of a generation, in USD; None where it is no amount.

    ``model`` and ``user`` (the ``user`` of its request): "" where the record has none."""

    id: str
    total_cost: Decimal | None
    is_byok: bool
    upstream_inference_cost: Decimal | None
    model: str = ""
    user: str = ""

    @classmethod
    def from_json(cls, body: object) -> Generation:
        """Raises InvalidResponseError for a body without a data object."""
        data = _data(body, "generation")
        return cls(
            id=str(data.get("id", "")),
            total_cost=charge_or_none(data.get("total_cost")),
            is_byok=data.get("is_byok") is True,
            upstream_inference_cost=charge_or_none(data.get("upstream_inference_cost")),
            model=_text(data.get("model")),
            user=_text(data.get("external_user")),
        )


@dataclass(frozen=True, slots=True)
class GenerationRow:
    """One generation in the account's analytics. ``user``: of its request, "" where none was recorded; ``cost`` in USD,
    None where it is no amount."""

    id: str
    user: str
    cost: Decimal | None


@dataclass(frozen=True, slots=True)
class GenerationRows:
    """What ``POST /analytics/query`` lists. ``is_complete``: no row was left out. ``cached_at``: when it was made,
    where it is an older answer; else None."""

    rows: tuple[GenerationRow, ...]
    is_complete: bool
    cached_at: datetime | None = None

    @classmethod
    def from_json(cls, body: object) -> GenerationRows:
        """Raises InvalidResponseError for a body without a list of rows."""
        data = _data(body, "analytics")
        listed, metadata = data.get("data"), data.get("metadata")
        if not isinstance(listed, list):
            raise InvalidResponseError("The analytics response has no list of rows", detail=repr(body))
        rows = tuple(
            GenerationRow(row["generation_id"], _text(row.get("external_user")), charge_or_none(row.get("total_usage")))
            for row in listed
            if isinstance(row, Mapping) and is_job_id(row.get("generation_id"))
        )
        # A row that cannot be read may be the one in question.
        is_whole = isinstance(metadata, Mapping) and metadata.get("truncated") is False and len(rows) == len(listed)
        return cls(rows, is_whole, _time_or_none(data.get("cachedAt")))


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """``GET /key``: what the calling key may still spend. All amounts in USD; None means no such limit, or a number
    that no account has.

    ``budget_remaining`` is the limit that blocks first (``effective_budget.remaining_usd``).
    """

    label: str
    usage: Decimal | None
    limit: Decimal | None
    limit_remaining: Decimal | None
    budget_remaining: Decimal | None

    @property
    def remaining(self) -> Decimal | None:
        """The smaller of the key's own limit and the budget that blocks first; None when neither is set."""
        known = [amount for amount in (self.limit_remaining, self.budget_remaining) if amount is not None]
        return min(known) if known else None

    @classmethod
    def from_json(cls, body: object) -> KeyInfo:
        """Raises InvalidResponseError for a body without a data object."""
        data = _data(body, "key")
        budget = data.get("effective_budget")  # absent for keys without a budget
        return cls(
            label=str(data.get("label", "")),
            usage=_signed(data.get("usage")),
            limit=_signed(data.get("limit")),
            limit_remaining=_signed(data.get("limit_remaining")),
            budget_remaining=_signed(budget.get("remaining_usd")) if isinstance(budget, Mapping) else None,
        )


@dataclass(frozen=True, slots=True)
class FileOutput:
    """One file of a result. The bytes stay on disk, and the file outlives the client.

    ``size`` in bytes; ``cost_usd`` of a result with one file; ``url`` is the API's content URL, which needs the key,
    and empty for an image: it came in the response itself.
    """

    url: str
    path: Path
    mime_type: str
    filename: str
    size: int
    cost_usd: float | None = None

    def save(self, path: str | Path) -> Path:
        """Copy the file to ``path`` and return it. Directories are created; an existing file is replaced atomically."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")  # so that a full disk leaves no half file under the name
        shutil.copyfile(self.path, part)
        part.replace(target)
        return target

    def get_bytes(self) -> bytes:
        """The whole content, read from disk."""
        return self.path.read_bytes()

    @property
    def data(self) -> str:
        """The content as base64, made when it is asked for."""
        return base64.b64encode(self.get_bytes()).decode()

    @property
    def b64_json(self) -> str:
        """The same, under the name that image APIs use."""
        return self.data

    def model_dump(self) -> dict[str, Any]:
        """The fields as a dictionary that ``json.dumps`` takes."""
        return {**asdict(self), "path": str(self.path)}

    def _repr_html_(self) -> str:
        """A player, or the picture, in a notebook; from the file itself while it is small."""
        kind = self.mime_type.partition("/")[0]
        if self.size > LONGEST_SHOWN or kind not in ("video", "image", "audio"):
            return f"<code>{html.escape(str(self.path))}</code>"
        source = f'src="data:{html.escape(self.mime_type)};base64,{self.data}"'
        if kind == "image":
            return f'<img {source} style="max-width: 480px">'
        return f'<{kind} controls {source} style="max-width: 480px"></{kind}>'


@dataclass(frozen=True, slots=True, repr=False)
class MultimodalResponse:
    """The result of one generation. ``text``: of a text, or the prompt. ``job_id``: of a video, or the generation id of
    an image or text where known. ``raw_response``: what came, as ``json.dumps`` takes it."""

    text: str | None = None
    files: list[FileOutput] = field(default_factory=list)
    usage: Usage | None = None
    job_id: str | None = None
    raw_response: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.files) == 1 and self.cost_usd is not None:
            self.files[0] = replace(self.files[0], cost_usd=self.cost_usd)

    @property
    def cost_usd(self) -> float | None:
        """What the provider charged, as the nearest float; exact in ``usage.cost``. None while unknown."""
        return float(self.usage.cost) if self.usage is not None and self.usage.cost is not None else None

    @property
    def images(self) -> list[FileOutput]:
        """The files that are images."""
        return [file for file in self.files if file.mime_type.startswith("image/")]

    @property
    def videos(self) -> list[FileOutput]:
        """The files that are videos."""
        return [file for file in self.files if file.mime_type.startswith("video/")]

    @property
    def audio(self) -> FileOutput | None:
        """The first file that is audio."""
        return next((file for file in self.files if file.mime_type.startswith("audio/")), None)

    @property
    def has_files(self) -> bool:
        """Whether there is any file."""
        return bool(self.files)

    @property
    def has_images(self) -> bool:
        """Whether a file is an image."""
        return bool(self.images)

    @property
    def has_videos(self) -> bool:
        """Whether a file is a video."""
        return bool(self.videos)

    @property
    def has_audio(self) -> bool:
        """Whether a file is audio."""
        return self.audio is not None

    @property
    def is_multimodal(self) -> bool:
        """Whether there is more than text."""
        return self.has_files

    def save_all(self, directory: str | Path, prefix: str = "output") -> dict[str, str]:
        """Copy every file into ``directory``; returns their paths by kind and number, such as ``video_0``."""
        counts: Counter[str] = Counter()
        saved: dict[str, str] = {}
        for file in self.files:
            kind = file.mime_type.partition("/")[0]
            name = f"{kind}_{counts[kind]}"
            counts[kind] += 1
            saved[name] = str(file.save(Path(directory) / f"{prefix}_{name}{Path(file.filename).suffix}"))
        return saved

    def __str__(self) -> str:
        return self.text or ""

    def __repr__(self) -> str:
        parts = [f"text={self.text[:50]!r}" if self.text else "", f"images={len(self.images)}" * self.has_images]
        parts += [f"videos={len(self.videos)}" * self.has_videos, "audio" * self.has_audio, f"cost_usd={self.cost_usd}"]
        return f"MultimodalResponse({', '.join(filter(None, parts))})"

    def _repr_html_(self) -> str:
        """The files in a notebook, and what they cost."""
        cost = "charge not reported yet" if self.cost_usd is None else f"{self.cost_usd} USD"
        shown = "".join(file._repr_html_() for file in self.files) or f"<p>{html.escape(self.text or '')}</p>"
        return f"<div>{shown}<p>{cost}</p></div>"


def plain_json(value: Any) -> Any:
    """A parsed answer with floats for decimals, as ``json.dumps`` takes it."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return {name: plain_json(child) for name, child in value.items()}
    return [plain_json(child) for child in value] if isinstance(value, (list, tuple)) else value


class UnusableResultError(OpenRouterError):
    """A paid request was answered in full, but the response holds no image or text that can be used or saved.

    The same request may cost as much again, so it is not retried. ``usage``: the charge, None where the response names
    none. ``generation_id``: for ``GET /generation``, None where unknown. ``raw``: the response without its images.
    """

    nothing_started = False

    def __init__(
        self,
        message: str,
        usage: Usage | None = None,
        generation_id: str | None = None,
        raw: Mapping[str, Any] | None = None,
    ) -> None:
        self.usage = usage
        self.generation_id = generation_id
        self.raw = dict(raw or {})
        super().__init__(f"{message} ({_charge(usage, 'the charge is unknown')}).")


class JobEndedError(OpenRouterError):
    """The job ended without a result; it may be charged. ``job`` is its state in the last poll."""

    nothing_started = False

    def __init__(self, job: VideoJob) -> None:
        self.job = job
        reason = f": {redact(job.error)}" if job.error else ""
        charge = _charge(job.usage, "charge not reported yet")
        super().__init__(f"Job {job.id} ended as {job.status}{reason} ({charge}).")


def _charge(usage: Usage | None, unknown: str) -> str:
    return unknown if usage is None or usage.cost is None else f"charged {usage.cost} USD"


def is_job_id(value: object) -> TypeGuard[str]:
    """Whether this can be a job id: text that can be stored, and that stays one segment of a path."""
    if not isinstance(value, str) or not value.strip() or value in {".", ".."} or len(value) > _LONGEST_ID:
        return False
    return _HALF_CHARACTER.search(value) is None


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None


def _shortened(value: object) -> str:
    text = " ".join(redact(value if isinstance(value, str) else str(value)).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _reason(error: object) -> str | None:
    # A text by the documentation; of an error object the message is used.
    if isinstance(error, Mapping) and isinstance(error.get("message"), str):
        error = error["message"]
    return error if isinstance(error, str) else None if error is None else repr(error)


def _data(body: object, what: str) -> Mapping[str, Any]:
    data = body.get("data") if isinstance(body, Mapping) else None
    if not isinstance(data, Mapping):
        raise InvalidResponseError(f"The {what} response has no data object", detail=repr(body))
    return data


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _time_or_none(value: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(_text(value))
    except ValueError:
        return None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _texts(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _signed(value: object) -> Decimal | None:
    # Remaining amounts are negative when a key is overspent.
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        return None
    amount = Decimal(value)
    return amount if -_BALANCE_LIMIT_USD < amount < _BALANCE_LIMIT_USD else None
