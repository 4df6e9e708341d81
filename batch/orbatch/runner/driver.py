"""One job's way through its lifecycle: send, follow, collect. Each step is durable before the next begins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from orbatch.ledger import AttemptRecord, JobRecord, Ledger, OnDisk, Reservation
from orbatch.plan.kinds import KINDS
from orbatch.runner.context import Clock, Notify, Provider, RunContext, StopRun, StopSubmits, Terms
from orbatch.runner.download import Downloader
from orbatch.runner.limits import Limits
from orbatch.runner.poll import Poller
from orbatch.runner.poll_schedule import PollSchedule
from orbatch.runner.submit import Answering, Sending
from orbatch_provider.responses import VideoJob

__all__ = ["Driver", "Provider", "StopRun", "StopSubmits", "Terms"]


class Driver:
    """Drives jobs of one batch. Raises StopRun or StopSubmits for what concerns more than its job; every other fault
    ends in the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        provider: Provider,
        gates: Limits,
        terms: Terms,
        pace: Clock,
        notify: Notify,
        timetable: PollSchedule,
        block_model: Callable[[str, str], None],
    ) -> None:
        shared = RunContext(ledger, provider, gates, terms, pace, notify)
        self._sending = Sending(shared)
        self._answering = Answering(shared, block_model)
        self._following = Poller(shared, timetable, block_model)
        self._collecting = Downloader(shared)
        self.stopping: asyncio.Event = shared.stopping

    async def send(self, job: JobRecord, reservation: Reservation, on_disk: OnDisk | None = None) -> VideoJob | None:
        """submitting -> submitted, with the answer; None when the job ended here, as those do that are answered at
        once. ``on_disk``: of the reservation, None when it is already; nothing leaves before it."""
        if KINDS[job.kind].is_synchronous:
            await self._answering.answer(job, reservation, on_disk)
            return None
        return await self._sending.send(job, reservation, on_disk)

    async def follow(self, job: JobRecord, attempt: AttemptRecord, *, resumed: bool = False) -> VideoJob | None:
        """submitted -> completed, with the provider's last word; None when it ended otherwise or is left for the next
        run. ``resumed``: an earlier run has submitted it."""
        self._collecting.expect()
        return await self._following.follow(job, attempt, resumed=resumed)

    async def collect(self, job: JobRecord, attempt: AttemptRecord, seen: VideoJob | None) -> None:
        """completed -> done or lost. A disk that does not take the file leaves the job completed, for the next run."""
        await self._collecting.collect(job, attempt, seen)
