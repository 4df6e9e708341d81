"""The states of a job, and which may follow which. Pure data: the ledger enforces it, the runner drives it.

pending ──► submitting ──► submitted ──► completed ──► done
   ▲            │              │  └───────────┴──────► lost ──► pending (`orbatch retry --status lost`)
   │            ├──► rejected  └──► failed, cancelled, expired
   │            ├──► uncertain ──► submitted, pending, rejected (a late answer), lost (`orbatch resolve`)
   └────────────┘
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Status(StrEnum):
    """Where a job stands. The value is what the ledger stores and every report shows."""

    PENDING = "pending"  # planned; nothing was submitted
    SUBMITTING = "submitting"  # intent and reservation are durable; the request may have left
    SUBMITTED = "submitted"  # accepted: the remote id is durable
    COMPLETED = "completed"  # the provider is done and the charge is recorded; the file is not here yet
    DONE = "done"  # file in place, verified, hashed
    REJECTED = "rejected"  # refused before it started: not charged
    FAILED = "failed"  # the provider ended it without a result
    CANCELLED = "cancelled"  # the provider ended it: stopped from outside
    EXPIRED = "expired"  # the provider ended it: not finished in time
    UNCERTAIN = "uncertain"  # may have been accepted, no id is known; its worst case stays reserved
    LOST = "lost"  # paid, but the content is gone


# Ended by the provider without a result; a new attempt is a new payment.
ENDED_REMOTELY = frozenset({Status.FAILED, Status.CANCELLED, Status.EXPIRED})
# Accepted by the provider: paid for, and a run has work to do.
PAID_AND_OPEN = frozenset({Status.SUBMITTED, Status.COMPLETED})

TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.SUBMITTING}),
    Status.SUBMITTING: frozenset({Status.SUBMITTED, Status.REJECTED, Status.PENDING, Status.UNCERTAIN, Status.DONE}),
    Status.SUBMITTED: frozenset({Status.COMPLETED, Status.LOST}) | ENDED_REMOTELY,  # lost: given up by the user
    Status.COMPLETED: frozenset({Status.DONE, Status.LOST}),
    Status.DONE: frozenset(),
    Status.REJECTED: frozenset({Status.PENDING}),
    Status.FAILED: frozenset({Status.PENDING}),
    Status.CANCELLED: frozenset({Status.PENDING}),
    Status.EXPIRED: frozenset({Status.PENDING}),
    Status.UNCERTAIN: frozenset({Status.SUBMITTED, Status.PENDING, Status.REJECTED, Status.LOST}),
    Status.LOST: frozenset({Status.PENDING}),  # by the user alone: it is paid for a second time
}
