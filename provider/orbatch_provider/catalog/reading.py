"""What every catalog is: the models of one reading, stored as text and found by name."""

from __future__ import annotations

import difflib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Generic, Self, TypeVar

from orbatch_provider.catalog.imagemodels import ImageModel
from orbatch_provider.catalog.models import VideoModel
from orbatch_provider.catalog.textmodels import TextModel
from orbatch_provider.requests import strip_prefix

M = TypeVar("M", VideoModel, ImageModel, TextModel)


@dataclass(frozen=True, slots=True)
class Reading(ABC, Generic[M]):
    """The models of one reading. ``captured_at`` is UTC; ``source`` says where it was read; ``digest`` names the
    content, so that two readings can be compared; ``records`` are the models as they were sent."""

    models: Mapping[str, M]
    captured_at: datetime
    source: str
    digest: str
    records: tuple[Mapping[str, Any], ...] = field(default=(), repr=False, compare=False)

    @classmethod
    @abstractmethod
    def from_json(cls, body: Mapping[str, Any], *, captured_at: datetime, source: str) -> Self:
        """From the body of the API's answer; entries without an id are passed over."""

    @classmethod
    def from_text(cls, text: str) -> Self:
        """What ``to_json`` wrote. Raises ValueError when it is anything else."""
        body = json.loads(text, parse_float=Decimal)
        try:
            captured_at = datetime.fromisoformat(body["captured_at"])
            if captured_at.tzinfo is None:
                raise ValueError("the catalog's time has no zone")
            return cls.from_json(body, captured_at=captured_at.astimezone(UTC), source=str(body["source"]))
        except (AttributeError, KeyError, TypeError) as exc:
            raise ValueError(f"this is no stored catalog: {exc!r}") from exc

    def to_json(self) -> str:
        """The listing as JSON text, with ``captured_at`` and ``source``."""
        body = {"captured_at": self.captured_at.isoformat(), "source": self.source, "data": self.records}
        return json.dumps(body, ensure_ascii=False, allow_nan=False)

    def find(self, model: str) -> M | None:
        """The record for an id, a dated canonical slug, or either with the ``openrouter/`` prefix."""
        name = strip_prefix(model)
        found = self.models.get(name)
        if found is not None:
            return found
        return next((entry for entry in self.models.values() if entry.canonical_slug == name), None)

    def nearest(self, model: str) -> str | None:
        """The id that a misspelt one most likely means."""
        close = difflib.get_close_matches(strip_prefix(model), self.models, n=1, cutoff=0.6)
        return close[0] if close else None
