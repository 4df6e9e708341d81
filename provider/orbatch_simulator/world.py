"""The state behind the routes: settings, clock, catalog, books and faults, and what follows from them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import secrets
from collections import defaultdict, deque
from decimal import Decimal
from pathlib import Path

from orbatch_provider.catalog import Catalog, ImageModel, TextModel, VideoModel
from orbatch_simulator import clips
from orbatch_simulator.answers import RefusedError
from orbatch_simulator.books import Books, Job
from orbatch_simulator.examples import image_examples, text_examples
from orbatch_simulator.faults import Fault, FaultBook, Stage
from orbatch_simulator.order import Order
from orbatch_simulator.settings import SimulatorSettings
from orbatch_simulator.timing import Clock

_RATE_WINDOW_S = 60.0
STORED_COPY_S = 3600.0  # how long `urls` work


class World:
    """One simulated service. Not thread-safe: everything runs in the event loop of its server."""

    def __init__(
        self, settings: SimulatorSettings, clock: Clock, catalog: Catalog[VideoModel], books_path: Path | None
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.catalog = catalog
        self.image_catalog: Catalog[ImageModel] = image_examples()
        self.text_catalog: Catalog[TextModel] = text_examples()
        self.books = Books(books_path, self.status)
        self.faults = FaultBook(settings.faults, settings.seed)
        self.origin = ""  # set when the port is known
        self._submits: dict[str, deque[float]] = defaultdict(deque)  # owner -> times of the last minute
        self._secret = secrets.token_bytes(16)

    # -- time

    def simulated_now(self) -> float:
        return self.clock.now() * self.settings.speed

    def age_s(self, job: Job) -> float:
        """Simulated seconds since the job was accepted."""
        return (self.clock.now() - job.accepted_at) * self.settings.speed

    def ended_for_s(self, job: Job) -> float:
        """Simulated seconds since the job's end; negative while it runs."""
        return float("-inf") if job.ends_as == "never_ends" else self.age_s(job) - job.queue_s - job.render_s

    async def pause(self, simulated_s: float) -> None:
        if simulated_s > 0:
            await self.clock.sleep(simulated_s / self.settings.speed)

    def status(self, job: Job) -> str:
        if self.ended_for_s(job) >= 0:
            return job.ends_as
        renders = self.age_s(job) >= job.queue_s + 0.1 * job.render_s
        return "in_progress" if renders and self.settings.shows_in_progress else "pending"

    def fault(self, call: str, stage: Stage = "answer", job: Job | None = None) -> Fault | None:
        """The fault that strikes this call, about ``job`` where it is about one."""
        if job is None:
            return self.faults.pick(call, stage, self.simulated_now())
        return self.faults.pick(call, stage, self.simulated_now(), model=job.model, prompt=job.prompt, job=job.id)

    # -- keys

    def owner_of(self, key: str) -> str:
        """Who calls. Raises RefusedError 401 for a key that is malformed or not known."""
        allowed = self.settings.api_keys
        known = key in allowed | self.settings.management_keys if allowed is not None else key.startswith("sk-or-")
        if not known:
            raise RefusedError(401, "User not found." if key else "No auth credentials found")
        return hashlib.sha256(key.encode()).hexdigest()[:16]

    def job_of(self, owner: str, job_id: str) -> Job:
        """Raises RefusedError 404 for an unknown job, which another key's job is, too."""
        job = self.books.jobs.get(job_id)
        if job is None or job.owner != owner or job.kind != "video":
            raise RefusedError(404, f"Video generation {job_id} not found")
        return job

    # -- refusing

    def limit_rate(self, owner: str) -> None:
        """Raises RefusedError 429 when the key submits more than the settings allow."""
        limit = self.settings.submits_per_minute
        if limit is None:
            return
        now, recent = self.simulated_now(), self._submits[owner]
        while recent and recent[0] <= now - _RATE_WINDOW_S:
            recent.popleft()
        if len(recent) >= limit:
            # Callers wait in real time.
            wait_s = max(1, math.ceil((recent[0] + _RATE_WINDOW_S - now) / self.settings.speed))
            reset_ms = round((self.clock.now() + wait_s) * 1000)
            limits = {"X-RateLimit-Limit": limit, "X-RateLimit-Remaining": 0, "X-RateLimit-Reset": reset_ms}
            headers = {name: str(value) for name, value in (limits | {"Retry-After": wait_s}).items()}
            raise RefusedError(429, "Rate limit exceeded", headers=headers)
        recent.append(now)

    def check_credit(self, owner: str, price: Decimal) -> None:
        """Raises RefusedError 402 or 403 when ``price`` does not fit any more; running jobs count as spent."""
        settings = self.settings
        spent, spent_by_key = self.books.ordered, self.books.ordered_by[owner]
        if settings.budget_usd is not None and spent + price > settings.budget_usd:
            raise RefusedError(403, "The workspace budget is spent", "permission_denied")
        if settings.key_limit_usd is not None and spent_by_key + price > settings.key_limit_usd:
            raise RefusedError(402, "Key limit exceeded", "payment_required")
        if settings.credit_usd is not None and spent + price > settings.credit_usd:
            raise RefusedError(402, "Insufficient credits", "payment_required")

    # -- outputs

    async def payload(self, job: Job, index: int) -> clips.Payload:
        """Output ``index`` of a completed job, rendered in a worker thread; always the same bytes for the same job."""
        label = f"{job.id}/{index}"
        size = self.settings.clip_bytes
        clip = clips.TINY if size is not None else self._clip(job)
        return await asyncio.to_thread(clips.payload, clip, label, size)

    def _clip(self, job: Job) -> clips.Clip:
        order = Order.read(job.body, self.catalog.models[job.model], self.settings)
        return clips.Clip(order.model, order.prompt, order.seconds, order.width, order.height, order.audio)

    def signature(self, job: Job, index: int) -> str:
        """What makes a stored copy's URL work without a key. It holds as long as this simulator runs."""
        return hmac.new(self._secret, f"{job.id}/{index}".encode(), hashlib.sha256).hexdigest()
