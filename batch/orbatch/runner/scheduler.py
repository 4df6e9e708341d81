"""Which job is submitted next: the first of the file, among the pending ones, that the limits and the caps allow."""

from __future__ import annotations

from collections import deque
from datetime import timedelta

from orbatch.ledger import JobRecord, room, utc_now
from orbatch.runner.context import RunContext
from orbatch.runner.limits import Wait

CANDIDATES = 32  # pending jobs read ahead per model
RATE_WINDOW_S = 60.0


class Scheduler:
    """Chooses among the pending jobs of one batch, which stay in the ledger: only a few are in memory.

    ``blocked``: models of which nothing more is submitted, each with the reason. ``held``: jobs that are not
    submitted, each with the batch that has the same request in flight.
    """

    def __init__(self, context: RunContext, batch_id: int) -> None:
        self._context = context
        self._ledger = context.ledger
        self._batch_id = batch_id
        self._started = context.clock.now()
        self._models: list[str] | None = None  # those with pending jobs; None when that may have changed
        self._candidates: dict[str, deque[JobRecord]] = {}
        self._refused: set[str] = set()
        self.held: dict[str, str] = {}
        self.blocked: dict[str, str] = {}
        self._shares_limits = False

    def hold(self) -> None:
        """Hold back what another batch has in flight; it is paid for, and the next run reuses its file."""
        options = self._context.options
        if options.submits and not options.fresh:
            self.held = self._ledger.queries.open_elsewhere(self._batch_id, options.only)

    def choose(self) -> JobRecord | Wait | None:
        """The next job that may be submitted now; or why it must wait; or None when there is none."""
        # Read each time: a run that has just begun elsewhere counts from its first submit.
        self._shares_limits = self._ledger.leases.other_runners(self._batch_id, utc_now()) > 0
        waits: list[Wait] = []
        ready: list[JobRecord] = []
        for model in self._pending_models():
            candidate = self._candidate(model)
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
        """The chosen job is being submitted."""
        self._candidates[job.model].popleft()

    def refuse(self, job: JobRecord) -> None:
        """The caps had no room for it after all: not before something settles, and perhaps a cheaper one fits."""
        self._refused.add(job.id)
        self.forget(job.model)

    def forget(self, model: str) -> None:
        """Drop what was read ahead of this model: the ledger has moved on."""
        self._candidates.pop(model, None)

    def reconsider(self) -> None:
        """A job has ended or settled: what did not fit may fit now, and a failed job may be pending again."""
        self._refused.clear()
        self._models = None

    def follow(self) -> None:
        """The caps or limits were changed, so that what was read ahead may fit no more, or more may fit. The submits of
        the last minute are counted in the ledger again, because the new limiter has not seen them."""
        self._started = self._context.clock.now()
        self._candidates.clear()
        self.reconsider()

    def block(self, model: str, reason: str) -> None:
        """Submit nothing more of this model in this run."""
        self.blocked[model] = reason
        self.forget(model)

    def _pending_models(self) -> list[str]:
        if self._models is None:
            self._models = self._ledger.queries.pending_models(self._batch_id, self._context.options.only)
        return [model for model in self._models if model not in self.blocked]

    def _candidate(self, model: str) -> JobRecord | None:
        """The first pending job of this model whose worst case fits under the caps now."""
        queue = self._candidates.setdefault(model, deque())
        if not queue:
            caps = self._context.options.caps
            # A read of the sums per model and batch of candidates; none at all where no cap applies.
            committed = self._ledger.attempts.committed
            left = room(model, caps, committed(self._batch_id, model)) if caps.apply_to(model) else None
            found = self._ledger.queries.next_pending(
                self._batch_id,
                model,
                room_nusd=left,
                unpriced_nusd=caps.unpriced,
                limit=CANDIDATES + len(self._refused) + len(self.held),
                only=self._context.options.only,
            )
            queue.extend(job for job in found if job.id not in self._refused and job.id not in self.held)
        return queue[0] if queue else None

    def _why_not(self, model: str) -> Wait | None:
        elsewhere, of_model = 0, 0
        if self._shares_limits:
            now = utc_now()
            elsewhere = self._ledger.queries.in_flight_elsewhere(self._batch_id, None, now)
            of_model = self._ledger.queries.in_flight_elsewhere(self._batch_id, model, now)
        return self._context.limits.why_not(model, elsewhere, of_model) or self._shared_rate(model)

    def _shared_rate(self, model: str) -> Wait | None:
        """Submits of the last minute by other runs on this ledger, or by this batch's run before it was stopped."""
        clock = self._context.clock
        if not self._shares_limits and clock.now() - self._started > RATE_WINDOW_S:
            return None  # this run's own limiter has seen the whole window
        since = utc_now() - timedelta(seconds=clock.real(RATE_WINDOW_S))
        limits = self._context.options.limits
        of_model = limits.of(model).submits_per_minute
        for limit, scope in ((limits.submits_per_minute, None), (of_model, model)):
            if limit is not None and self._ledger.queries.recent_submits(since, scope) >= limit:
                return Wait("rate limit of submits, shared with the other runs on this ledger", clock.real(1.0))
        return None
