"""Which job is sent next: the first of the file, among the pending ones, that the gates and the caps let through."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from orbatch.batchfile.models import LimitsConfig, ModelLimits
from orbatch.ledger import JobRecord, Ledger, utc_now
from orbatch.ledger.budget import Caps, room
from orbatch.ledger.status import Status
from orbatch.runner.context import Clock
from orbatch.runner.limits import Limits, Wait

CANDIDATES = 32  # pending jobs read ahead per model
RESUBMITS = 2  # attempts that `uncertain: resubmit` may leave uncertain for one job
RATE_WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class Choice:
    """What limits the choice of jobs to send. ``resubmit``: uncertain ones may be sent again, too."""

    limits: LimitsConfig
    caps: Caps
    only: str | None
    resubmit: bool


class Scheduler:
    """Chooses among the pending jobs of one batch, which stay in the ledger: only a few are in memory.

    ``blocked``: models of which nothing more is sent, each with the reason. ``other_runners``: how many other batches
    of this ledger are being run; limits are shared with them.
    """

    def __init__(self, ledger: Ledger, batch_id: int, gates: Limits, pace: Clock, choice: Choice) -> None:
        self._ledger = ledger
        self._batch_id = batch_id
        self._gates = gates
        self._pace = pace
        self._choice = choice
        self._started = pace.now()
        self._models: list[str] | None = None  # those with jobs to send; None when that may have changed
        self._candidates: dict[str, deque[JobRecord]] = {}
        self._refused: set[str] = set()
        self.blocked: dict[str, str] = {}
        self.other_runners = 0

    def choose(self, awaited: Collection[str]) -> JobRecord | Wait | None:
        """The next job that may be sent now; or why it must wait; or None when there is none to send.

        ``awaited``: jobs that this run is driving, whose answer may still come.
        """
        waits: list[Wait] = []
        ready: list[JobRecord] = []
        for model in self._models_to_send(awaited):
            candidate = self._candidate(model, awaited)
            if candidate is None:
                continue
            wait = self._why_not(model)
            if wait is None:
                ready.append(candidate)
            else:
                waits.append(wait)
        if ready:
            return min(ready, key=lambda job: job.position)
        timed = [wait for wait in waits if wait.seconds is not None]
        return min(timed, key=lambda wait: wait.seconds or 0.0) if timed else waits[0] if waits else None

    def take(self, job: JobRecord) -> None:
        """The chosen job is being sent."""
        self._candidates[job.model].popleft()

    def refuse(self, job: JobRecord) -> None:
        """The caps had no room for it after all: not before something settles, and perhaps a cheaper one fits."""
        self._refused.add(job.id)
        self._candidates.pop(job.model, None)

    def forget(self, model: str) -> None:
        """What was read ahead of this model is no longer what the ledger says."""
        self._candidates.pop(model, None)

    def reconsider(self) -> None:
        """A job has ended or settled: what did not fit may fit now, and a failed job may be pending again."""
        self._refused.clear()
        self._models = None

    def block(self, model: str, reason: str) -> None:
        self.blocked[model] = reason
        self._candidates.pop(model, None)

    def _models_to_send(self, awaited: Collection[str]) -> list[str]:
        if self._models is None:
            self._models = self._ledger.queries.pending_models(self._batch_id, self._choice.only)
            self._models += [job.model for job in self._uncertain(awaited)]
            self._models = list(dict.fromkeys(self._models))
        return [model for model in self._models if model not in self.blocked]

    def _candidate(self, model: str, awaited: Collection[str]) -> JobRecord | None:
        """The first pending job of this model whose worst case fits under the caps now."""
        queue = self._candidates.setdefault(model, deque())
        if not queue:
            caps = self._choice.caps
            left = (
                room(model, caps, self._ledger.attempts.committed(self._batch_id, model))
                if caps.apply_to(model)
                else None
            )
            found = self._ledger.queries.next_pending(
                self._batch_id,
                model,
                room_nusd=left,
                unpriced_nusd=caps.unpriced,
                limit=CANDIDATES + len(self._refused),
                only=self._choice.only,
            )
            found += [job for job in self._uncertain(awaited) if job.model == model]
            queue.extend(job for job in found if job.id not in self._refused)
        return queue[0] if queue else None

    def _uncertain(self, awaited: Collection[str]) -> list[JobRecord]:
        """Those that `uncertain: resubmit` sends again; not while the first answer may still come."""
        if not self._choice.resubmit:
            return []
        return [
            job
            for job in self._ledger.queries.uncertain(self._batch_id)
            if job.status is Status.UNCERTAIN
            and not job.retired
            and job.id not in self._refused
            and job.id not in awaited
            and self._ledger.queries.attempts_made(job.id) < RESUBMITS
        ]

    def _why_not(self, model: str) -> Wait | None:
        elsewhere, of_model = 0, 0
        if self.other_runners:
            now = utc_now()
            elsewhere = self._ledger.queries.in_flight_elsewhere(self._batch_id, None, now)
            of_model = self._ledger.queries.in_flight_elsewhere(self._batch_id, model, now)
        return self._gates.why_not(model, elsewhere, of_model) or self._shared_rate(model)

    def _shared_rate(self, model: str) -> Wait | None:
        """Submits of the last minute by other runs on this ledger, or by this batch's run before it was stopped."""
        if not self.other_runners and self._pace.now() - self._started > RATE_WINDOW_S:
            return None
        since = utc_now() - timedelta(seconds=self._pace.real(RATE_WINDOW_S))
        limits = self._choice.limits
        of_model = limits.models.get(model, ModelLimits()).submits_per_minute
        for limit, scope in ((limits.submits_per_minute, None), (of_model, model)):
            if limit is not None and self._ledger.queries.recent_submits(since, scope) >= limit:
                return Wait("rate limit of submits, shared with the other runs on this ledger", self._pace.real(1.0))
        return None
