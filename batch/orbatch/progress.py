"""What a run tells whoever watches it. Display only: every figure that counts comes from the ledger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """One thing that happened. ``level``: info, warning or error. ``job`` names the job by prompt and model."""

    text: str
    job: str = ""
    level: str = "info"


Notify = Callable[[Progress], None]
