"""What may still be reserved under the caps of a batch. Pure: numbers in, a decision out.

A submit is allowed when its worst case fits under every cap, next to all that is charged and all that is reserved.
Amounts are nano-dollars. The ledger asks inside the transaction that writes the reservation, so that the answer
holds for every process on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from orbatch.money import format_usd


@dataclass(frozen=True, slots=True)
class Caps:
    """The caps of a batch; None is no cap. ``per_day`` holds over all batches of the ledger, per UTC day.

    ``unpriced``: what to reserve for a job that has no upper bound; None refuses it under any cap.
    """

    total: int | None = None
    per_job: int | None = None
    per_day: int | None = None
    per_model: Mapping[str, int] = field(default_factory=dict)
    unpriced: int | None = None

    def apply_to(self, model: str) -> bool:
        """Whether any cap limits a job of this model."""
        return model in self.per_model or any(cap is not None for cap in (self.total, self.per_job, self.per_day))


@dataclass(frozen=True, slots=True)
class Committed:
    """Charged plus reserved so far, in each scope a cap may have."""

    total: int = 0
    job: int = 0
    day: int = 0
    model: int = 0


@dataclass(frozen=True, slots=True)
class Allowed:
    """``amount``: what to reserve; None for an unpriced job that no cap limits."""

    amount: int | None


@dataclass(frozen=True, slots=True)
class Refused:
    """``missing``: what the tightest cap lacks, None when no amount would do."""

    reason: str
    missing: int | None


def decide(model: str, high: int | None, caps: Caps, committed: Committed) -> Allowed | Refused:
    """Whether a job of ``model`` with worst case ``high`` may be submitted now."""
    amount = caps.unpriced if high is None else high
    if not caps.apply_to(model):
        return Allowed(amount)
    if amount is None:
        return Refused(
            f"no upper price is known for {model}, and a cap is set: give what bounds it (max_tokens for a text), "
            "or name an amount to reserve with budget.unpriced",
            None,
        )
    short = [(name, cap, used, used + amount - cap) for name, cap, used in _scopes(model, caps, committed)]
    name, cap, used, missing = max(short, key=lambda scope: scope[3])
    if missing <= 0:
        return Allowed(amount)
    return Refused(
        f"needs up to {format_usd(amount)} USD, {name} {format_usd(cap)} has {format_usd(max(0, cap - used))} USD left "
        f"({format_usd(missing)} USD missing)",
        missing,
    )


def room(model: str, caps: Caps, committed: Committed) -> int | None:
    """The largest worst case of ``model`` that fits now; None without a cap. Never below zero."""
    # A job's own earlier attempts are not known here; reserve() counts them.
    left = [cap - used for _, cap, used in _scopes(model, caps, replace(committed, job=0))]
    return max(0, min(left)) if left else None


def broken_cap(model: str, caps: Caps, committed: Committed) -> str | None:
    """The name of a cap that what is committed already exceeds, or None."""
    return next((name for name, cap, used in _scopes(model, caps, committed) if used > cap), None)


def _scopes(model: str, caps: Caps, committed: Committed) -> list[tuple[str, int, int]]:
    """Every cap that limits this model: its name, its amount, and what is committed under it."""
    scopes = [
        ("budget.per_job_usd", caps.per_job, committed.job),
        ("budget.total_usd", caps.total, committed.total),
        (f"budget.per_model_usd of {model}", caps.per_model.get(model), committed.model),
        ("budget.per_day_usd", caps.per_day, committed.day),
    ]
    return [(name, cap, used) for name, cap, used in scopes if cap is not None]
