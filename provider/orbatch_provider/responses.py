"""What the API answers, as frozen values. Each ``from_json`` is the only way in from the wire."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypeGuard

from orbatch_provider.errors import InvalidResponseError

COMPLETED = "completed"
ENDED_WITHOUT_RESULT = frozenset({"failed", "cancelled", "expired"})
TERMINAL = ENDED_WITHOUT_RESULT | {COMPLETED}
PENDING = "pending"  # what an accepted job is taken for until a poll says more

_LARGEST_AMOUNT = Decimal(10) ** 9  # USD; beyond it a number is an error, not a price
_LONGEST_ID = 512  # characters


def decimal_or_none(value: object, what: str) -> Decimal | None:
    """A finite, non-negative USD amount from JSON, None for null. Bodies are parsed with ``parse_float=Decimal``.

    Raises InvalidResponseError for anything else: an amount that cannot be read is not zero.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
        raise InvalidResponseError(f"{what} is not a number", detail=repr(value))
    try:
        amount = Decimal(value)
    except InvalidOperation as exc:
        raise InvalidResponseError(f"{what} is not a number", detail=repr(value)) from exc
    if not amount.is_finite() or not 0 <= amount <= _LARGEST_AMOUNT:
        raise InvalidResponseError(f"{what} is not an amount", detail=repr(value))
    return amount


@dataclass(frozen=True, slots=True)
class Usage:
    """``cost``: USD charged to OpenRouter credits, None while unknown. ``is_byok``: the provider bills the rest.

    The tokens are those of images and texts, None where nothing is said of them.
    """

    cost: Decimal | None
    is_byok: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    @classmethod
    def from_json(cls, data: object) -> Usage | None:
        if not isinstance(data, Mapping):
            return None
        cost = decimal_or_none(data.get("cost"), "usage.cost")
        tokens = (_count(data.get(name)) for name in ("prompt_tokens", "completion_tokens"))
        return cls(cost, data.get("is_byok") is True, *tokens)

    @classmethod
    def from_result(cls, data: object) -> Usage | None:
        """From the answer that brings the paid result itself, which an unreadable charge must not cost: then None."""
        try:
            return cls.from_json(data)
        except InvalidResponseError:
            return None


@dataclass(frozen=True, slots=True)
class VideoJob:
    """A video job as submit and poll report it.

    ``status`` is an open set: pending, in_progress, completed, failed, cancelled, expired, or a word of tomorrow.
    ``urls`` are signed and therefore secret: they are not in the repr.
    """

    id: str
    status: str
    polling_url: str | None = None
    generation_id: str | None = None
    unsigned_urls: tuple[str, ...] = ()
    urls: tuple[str, ...] = field(default=(), repr=False)
    expires_at: int | None = None  # Unix seconds, UTC
    usage: Usage | None = None
    error: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL

    @property
    def output_count(self) -> int:
        """Outputs announced; at least one, since a completed job may list none and still have content."""
        return max(1, len(self.unsigned_urls), len(self.urls))

    @classmethod
    def from_json(cls, data: object) -> VideoJob:
        """From a poll. Raises InvalidResponseError when there is no usable id or status, or the usage is unreadable:
        asking again costs nothing."""
        job = cls.from_submit(data)
        if not isinstance(job.raw.get("status"), str) or not job.raw["status"]:
            raise InvalidResponseError(f"Job {job.id} has no status", detail=repr(job.raw))
        return replace(job, usage=Usage.from_json(job.raw.get("usage")))

    @classmethod
    def from_submit(cls, data: object) -> VideoJob:
        """From the answer to a paid submit, where only the id matters: it is kept whatever else is wrong, and the
        next poll tells the rest. Raises InvalidResponseError when there is no usable id."""
        if not isinstance(data, Mapping):
            raise InvalidResponseError("The job is not a JSON object", detail=repr(data))
        job_id, status, expires_at = data.get("id"), data.get("status"), data.get("expires_at")
        if not is_job_id(job_id):
            raise InvalidResponseError("The answer has no job id", detail=repr(dict(data)))
        return cls(
            id=job_id,
            status=status if isinstance(status, str) and status else PENDING,
            polling_url=_text(data.get("polling_url")),
            generation_id=_text(data.get("generation_id")),
            unsigned_urls=_texts(data.get("unsigned_urls")),
            urls=_texts(data.get("urls")),
            expires_at=expires_at if isinstance(expires_at, int) and not isinstance(expires_at, bool) else None,
            usage=Usage.from_result(data.get("usage")),
            error=_reason(data.get("error")),
            raw=dict(data),
        )


@dataclass(frozen=True, slots=True)
class Generation:
    """One record of ``GET /generation``: the authoritative cost of a generation, in USD."""

    id: str
    total_cost: Decimal | None
    is_byok: bool
    upstream_inference_cost: Decimal | None

    @classmethod
    def from_json(cls, body: object) -> Generation:
        data = _data(body, "generation")
        return cls(
            id=str(data.get("id", "")),
            total_cost=decimal_or_none(data.get("total_cost"), "total_cost"),
            is_byok=data.get("is_byok") is True,
            upstream_inference_cost=decimal_or_none(data.get("upstream_inference_cost"), "upstream_inference_cost"),
        )


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """``GET /key``: what the calling key may still spend. All amounts in USD; None means no such limit.

    ``budget_remaining`` is the layer that blocks first (``effective_budget.remaining_usd``).
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
        data = _data(body, "key")
        budget = data.get("effective_budget")
        return cls(
            label=str(data.get("label", "")),
            usage=_signed(data.get("usage")),
            limit=_signed(data.get("limit")),
            limit_remaining=_signed(data.get("limit_remaining")),
            budget_remaining=_signed(budget.get("remaining_usd")) if isinstance(budget, Mapping) else None,
        )


@dataclass(frozen=True, slots=True)
class FileOutput:
    """One file of a result. The bytes stay on disk until asked for, and the file outlives the client.

    ``size`` in bytes; ``url`` is the API's content URL, which needs the key, and empty for a picture: it came in the
    answer itself.
    """

    url: str
    path: Path
    mime_type: str
    filename: str
    size: int

    def save(self, path: str | Path) -> Path:
        """Copy the file to ``path`` (its folders are made) and return it; an existing file is replaced whole."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        shutil.copyfile(self.path, part)
        part.replace(target)
        return target

    def get_bytes(self) -> bytes:
        return self.path.read_bytes()


@dataclass(frozen=True, slots=True)
class MultimodalResponse:
    """The result of one generation. ``cost_usd`` is what the provider charged, None while it has not said.

    ``job_id``: of a video, or the generation id of an image or text where the answer names it.
    """

    text: str | None = None
    files: tuple[FileOutput, ...] = ()
    usage: Usage | None = None
    job_id: str | None = None
    raw_response: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def cost_usd(self) -> Decimal | None:
        return self.usage.cost if self.usage is not None else None

    @property
    def images(self) -> tuple[FileOutput, ...]:
        return tuple(file for file in self.files if file.mime_type.startswith("image/"))

    @property
    def videos(self) -> tuple[FileOutput, ...]:
        return tuple(file for file in self.files if file.mime_type.startswith("video/"))


def is_job_id(value: object) -> TypeGuard[str]:
    """Whether this can be a job id: text that can be stored, and that stays one segment of a path."""
    if not isinstance(value, str) or not value.strip() or value in {".", ".."} or len(value) > _LONGEST_ID:
        return False
    return not any("\ud800" <= char <= "\udfff" for char in value)  # half a character cannot be encoded


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _reason(error: object) -> str | None:
    """A job's error is text by the documentation; an error object is taken for its message."""
    if isinstance(error, Mapping) and isinstance(error.get("message"), str):
        error = error["message"]
    return error if isinstance(error, str) else None if error is None else repr(error)


def _data(body: object, what: str) -> Mapping[str, Any]:
    data = body.get("data") if isinstance(body, Mapping) else None
    if not isinstance(data, Mapping):
        raise InvalidResponseError(f"The {what} answer has no data object", detail=repr(body))
    return data


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _texts(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _signed(value: object) -> Decimal | None:
    # Remaining amounts go below zero when a key is overspent.
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        return None
    return Decimal(value)
