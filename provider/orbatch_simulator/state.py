"""The state behind the routes: settings, clock, catalogs, journal and faults, and what follows from them."""

from __future__ import annotations

import asyncio
import hashlib
import math
import secrets
import string
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import field
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from orbatch_provider.catalog import Catalog, ImageModel, TextModel, VideoModel
from orbatch_simulator.faults import STRICT, Fault, FaultRules
from orbatch_simulator.journal import Job, Journal, fingerprint

_RATE_WINDOW_S = 60.0
_ALPHANUMERIC = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True, config=STRICT)
class SimulatorSettings:
    """Settings of a simulator. Seconds are simulated unless stated otherwise; amounts are USD; None means no limit.

    Raises ValidationError, a ValueError, for unknown fields and values of the wrong type.
    """

    seed: int = 0  # of render times and of faults with a probability
    speed: Annotated[float, Field(gt=0)] = 1.0  # simulated seconds per real second

    render_median_s: float = 60.0  # for a clip of 5 s; longer clips take longer
    render_spread: float = 0.25  # sigma of the lognormal spread around the median; 0 makes all render times equal
    render_s: Mapping[str, float] = field(default_factory=dict)  # fixed render time, by model
    usage_lag_s: float = 0.0  # until a charge shows in GET /key
    generation_lag_s: float = 120.0  # until GET /generation knows a finished job
    analytics_lag_s: float = 300.0  # until POST /analytics/query lists a finished job
    records_user: bool = True  # whether the account's records keep the ``user`` of a request

    api_keys: frozenset[str] | None = field(default=None, repr=False)  # None: any key that begins with sk-or-
    management_keys: frozenset[str] = field(
        default=frozenset(), repr=False
    )  # these may read GET /credits and analytics
    credit_usd: Decimal | None = None  # of the account; a job beyond it is refused with 402
    key_limit_usd: Decimal | None = None  # of each key; also 402
    in_flight_usd: Decimal | None = None  # list prices of running jobs together; 402 with Retry-After beyond it
    budget_usd: Decimal | None = None  # of the workspace; a job beyond it is refused with 403
    submits_per_minute: int | None = None  # for each key; more are refused with 429
    max_body_bytes: int = 32 * 1024 * 1024
    refuse_audio_off: bool = False  # 400 also for generate_audio: false on a model without audio

    failures_report_usage: bool = False  # polls of failed jobs report their cost; GET /generation does so in any case
    source_seconds: Decimal = Decimal(5)  # of every input video or audio that is edited, upscaled or spoken
    source_width: int = 1280
    source_height: int = 720

    outputs: PositiveInt = 1  # per completed job
    ranges: bool = False  # True: Content-Length, ETag and Range on downloads; the live service has none of them
    clip_bytes: int | None = None  # serve one tiny clip, padded to this length, instead of rendering

    faults: tuple[Fault, ...] = ()


class RefusedError(Exception):
    """The service refuses a request; ``status`` is the HTTP status and the code of the error envelope."""

    def __init__(
        self,
        status: int,
        message: str,
        error_type: str | None = None,
        headers: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type
        self.headers = headers or {}
        self.metadata = metadata or {}  # of the error envelope, beside the type


class Clock:
    """Real time. Tests replace it, so that hours can pass immediately."""

    def now(self) -> float:
        """Unix seconds: wall time, so that jobs continue after a restart of the simulator."""
        return time.time()

    async def sleep(self, real_s: float) -> None:
        """Pause for real seconds."""
        await asyncio.sleep(real_s)


class State:
    """The state of one simulated service. Not thread-safe: everything runs in the event loop of its server."""

    def __init__(
        self,
        settings: SimulatorSettings,
        clock: Clock,
        catalog: Catalog[VideoModel],
        image_catalog: Catalog[ImageModel],
        text_catalog: Catalog[TextModel],
        journal_path: Path | None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.catalog = catalog
        self.image_catalog = image_catalog
        self.text_catalog = text_catalog
        self.journal = Journal(journal_path, self.status)
        self.faults = FaultRules(settings.faults, settings.seed, self.simulated_now)
        self.origin = ""  # set when the port is known
        self._submits: dict[str, deque[float]] = defaultdict(deque)  # owner -> times within the last minute

    # -- time

    def simulated_now(self) -> float:
        """Simulated seconds on a scale of its own."""
        return self.clock.now() * self.settings.speed

    def ended_for_s(self, job: Job) -> float:
        """Simulated seconds since the job's end; negative while it runs."""
        return float("-inf") if job.ends_as == "never_ends" else self._age_s(job) - job.render_s

    def _age_s(self, job: Job) -> float:
        return (self.clock.now() - job.accepted_at) * self.settings.speed

    async def pause(self, simulated_s: float) -> None:
        """Sleep for simulated seconds."""
        if simulated_s > 0:
            await self.clock.sleep(simulated_s / self.settings.speed)

    def status(self, job: Job) -> str:
        """The job's status as the API reports it now."""
        if self.ended_for_s(job) >= 0:
            return job.ends_as
        # The first tenth of a render still shows as pending, as with providers that queue.
        return "in_progress" if self._age_s(job) >= 0.1 * job.render_s else "pending"

    # -- faults

    def fault(self, call: str, job: Job | None = None) -> Fault | None:
        """The fault that strikes a read, which may be about a job; counts the call."""
        if job is None:
            return self.faults.pick(call)
        return self.faults.pick(call, model=job.model, prompt=job.prompt, job_id=job.id)

    # -- keys

    def owner_of(self, key: str) -> str:
        """The caller. Raises RefusedError 401 for a malformed or unknown key."""
        allowed = self.settings.api_keys
        known = key in allowed | self.settings.management_keys if allowed is not None else key.startswith("sk-or-")
        if not known:
            raise RefusedError(401, "User not found." if key else "No auth credentials found")
        return hashlib.sha256(key.encode()).hexdigest()[:16]  # in place of the key, which is never stored

    def job_of(self, owner: str, job_id: str) -> Job:
        """A video job of this owner. Raises RefusedError 404 for any other, since jobs of other keys are invisible."""
        job = self.journal.jobs.get(job_id)
        if job is None or job.owner != owner or job.kind != "video":
            raise RefusedError(404, f"Video generation {job_id} not found")
        return job

    # -- limits

    def limit_rate(self, owner: str) -> None:
        """Raises RefusedError 429 if the key submits more than the settings allow."""
        limit = self.settings.submits_per_minute
        if limit is None:
            return
        now, recent = self.simulated_now(), self._submits[owner]
        while recent and recent[0] <= now - _RATE_WINDOW_S:
            recent.popleft()
        if len(recent) >= limit:
            # Real seconds, because that is how the caller waits.
            wait_s = max(1, math.ceil((recent[0] + _RATE_WINDOW_S - now) / self.settings.speed))
            reset_ms = round((self.clock.now() + wait_s) * 1000)
            limits = {"X-RateLimit-Limit": limit, "X-RateLimit-Remaining": 0, "X-RateLimit-Reset": reset_ms}
            headers = {name: str(value) for name, value in (limits | {"Retry-After": wait_s}).items()}
            raise RefusedError(429, "Rate limit exceeded", headers=headers)
        recent.append(now)

    def check_credit(self, owner: str, price: Decimal) -> None:
        """Raises RefusedError 402 or 403 if ``price`` no longer fits; running jobs count as spent."""
        settings = self.settings
        spent, spent_by_key = self.journal.committed, self.journal.committed_by[owner]
        if settings.budget_usd is not None and spent + price > settings.budget_usd:
            raise RefusedError(403, "The workspace budget is spent", "permission_denied")
        if settings.key_limit_usd is not None and spent_by_key + price > settings.key_limit_usd:
            raise RefusedError(402, "Key limit exceeded", "payment_required")
        if settings.credit_usd is not None and spent + price > settings.credit_usd:
            raise RefusedError(402, "Insufficient credits", "payment_required")
        if settings.in_flight_usd is not None and self._in_flight_usd() + price > settings.in_flight_usd:
            # As documented under "In-flight spending budget": it passes when running jobs end.
            reasons = {"limit_source": "openrouter_in_flight_budget", "reason": "in_flight_budget_exhausted"}
            text = "The in-flight budget of this account is used up"
            raise RefusedError(402, text, "payment_required", {"Retry-After": "3"}, reasons)

    def _in_flight_usd(self) -> Decimal:
        jobs = self.journal.jobs.values()
        return sum((job.list_usd for job in jobs if self.ended_for_s(job) < 0), Decimal(0))

    # -- jobs

    def accept(
        self, owner: str, body: Mapping[str, Any], price: Decimal, answer_fault: Fault | None, **job: Any
    ) -> Job:
        """Record a job whose list price is ``price`` USD; ``job`` overrides what holds for images and texts, which end
        when they are accepted. ``answer_fault``: the fault that will strike the answer."""
        now = int(self.clock.now())
        request = fingerprint(owner, body)
        usual: dict[str, Any] = {
            "id": new_id("gen", now),
            "generation_id": new_id("gen", now),
            "owner": owner,
            "model": body["model"],
            "body": body,
            "fingerprint": request,
            "submit_count": self.journal.bodies[request] + 1,
            "accepted_at": self.clock.now(),
            "cost_usd": price,
            "list_usd": price,
            "reports_cost": answer_fault is None or answer_fault.action != "null_cost",
            "withheld": answer_fault is not None and answer_fault.hides_result,
        }
        accepted = Job(**usual | job)
        self.journal.accept(accepted)
        return accepted


def new_id(prefix: str, now: int) -> str:
    """An id in the service's format: prefix, Unix seconds and 20 alphanumerics."""
    return f"{prefix}-{now}-{''.join(secrets.choice(_ALPHANUMERIC) for _ in range(20))}"
