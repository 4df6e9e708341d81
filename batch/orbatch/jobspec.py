"""One job of a batch, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orbatch.kinds import AnyRequest

KEY_TAG = "k1:"  # names the form of the hashed text, so that the form can change without mixing old and new keys


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One job of a batch: one request, to be bought once.

    ``position`` counts from 1 in the order of the batch. ``repeat`` counts from 1 as well. ``stem`` is the path of the
    result below the output folder, with ``/``, without extension. A local input is in ``request`` as its absolute path,
    and in ``pictures`` with the hash of the content that is in ``key``. ``line`` is the prompt's, in ``file``.
    """

    position: int
    key: str
    kind: str
    model: str
    prompt_id: str
    prompt: str
    variables: Mapping[str, Any]
    request: AnyRequest
    repeat: int
    stem: str
    line: int | None = None
    file: str = ""
    pictures: Mapping[str, str] = field(default_factory=dict)

    @property
    def key8(self) -> str:
        """The first 8 hex digits of the key."""
        return self.key[len(KEY_TAG) : len(KEY_TAG) + 8]

    @property
    def where(self) -> str:
        """Where its prompt stands, as ``file:line``."""
        return f"{self.file}:{self.line}" if self.line else self.file
