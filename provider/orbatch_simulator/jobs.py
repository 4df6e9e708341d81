"""How an accepted job comes to be, and how it looks to its owner afterwards."""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from orbatch_simulator.billing import BYOK_FEE, nano
from orbatch_simulator.books import Job, fingerprint
from orbatch_simulator.faults import JOB_ENDS, Fault
from orbatch_simulator.order import Order
from orbatch_simulator.timing import render_time
from orbatch_simulator.world import STORED_COPY_S, World

_ALPHANUMERIC = string.ascii_letters + string.digits
_REASONS: Mapping[str, str] = {
    "failed": "Provider error: the generation did not pass the output check",
    "cancelled": "The generation was cancelled by the provider",
    "expired": "The generation was not processed in time",
}


def new_job(world: World, owner: str, order: Order, body: Mapping[str, Any], price: Decimal, *, withheld: bool) -> Job:
    """A job that starts now, with all that will happen to it; it is accepted once the books have it."""
    now = world.clock.now()
    job_id = f"gen-vid-{int(now)}-{_letters()}"
    moment = world.simulated_now()
    fate = world.faults.pick("job", "answer", moment, model=order.model, prompt=order.prompt, job=job_id)
    ends_as = fate.action if fate is not None and fate.action in {*JOB_ENDS, "never_ends"} else "completed"
    is_byok = fate is not None and fate.action == "byok"
    mark = fingerprint(owner, body)
    count = world.books.bodies[mark] + 1
    return Job(
        id=job_id,
        generation_id=f"gen-{int(now)}-{_letters()}",
        owner=owner,
        model=order.model,
        prompt=order.prompt,
        body=body,
        fingerprint=mark,
        submit_count=count,
        accepted_at=now,
        queue_s=_queue(world, order.model),
        render_s=render_time(world.settings, order.model, order.seconds, f"{mark}:{count}"),
        ends_as=ends_as,
        cost_usd=_cost(world, fate, ends_as, price, is_byok=is_byok),
        list_usd=price,
        reports_cost=fate is None or fate.action != "null_cost",
        reports_usage=ends_as == "completed" or world.settings.failures_report_usage,
        is_byok=is_byok,
        withheld=withheld,
        error=(fate.message if fate is not None else "") or _REASONS.get(ends_as),
    )


def instant_job(
    world: World, owner: str, kind: str, body: Mapping[str, Any], prompt: str, price: Decimal, lost: Fault | None
) -> Job:
    """An image or text job, which ends when it is accepted. ``lost``: the fault that strikes its answer."""
    now = world.clock.now()
    mark = fingerprint(owner, body)
    return Job(
        id=f"gen-{int(now)}-{_letters()}",
        generation_id=f"gen-{int(now)}-{_letters()}",
        owner=owner,
        model=body["model"],
        prompt=prompt,
        body=body,
        fingerprint=mark,
        submit_count=world.books.bodies[mark] + 1,
        accepted_at=now,
        queue_s=0,
        render_s=0,
        ends_as="completed",
        cost_usd=price,
        list_usd=price,
        reports_cost=lost is None or lost.action != "null_cost",
        reports_usage=True,
        is_byok=False,
        withheld=lost is not None and lost.hides_the_job,
        kind=kind,
    )


def job_body(world: World, job: Job) -> dict[str, Any]:
    """What a poll answers."""
    status = world.status(job)
    body = submit_body(world, job) | {"status": status}
    if world.ended_for_s(job) < 0:
        return body
    body["generation_id"] = job.generation_id
    if job.reports_usage:
        body["usage"] = {"cost": job.cost_usd if job.reports_cost else None, "is_byok": job.is_byok}
    if status != "completed":
        return body | {"error": job.error}
    outputs = range(world.settings.outputs)
    body["unsigned_urls"] = [f"{_api(world)}/videos/{job.id}/content?index={index}" for index in outputs]
    if world.settings.stored_copies:
        body["urls"] = [stored_url(world, job, index) for index in outputs]
        body["expires_at"] = int(world.clock.now() + (STORED_COPY_S - world.ended_for_s(job)) / world.settings.speed)
    return body


def submit_body(world: World, job: Job) -> dict[str, Any]:
    """What a submit answers: nothing but these three."""
    path = f"/api/v1/videos/{job.id}"
    polling_url = path if world.settings.polling_paths else f"{_origin(world)}{path}"
    return {"id": job.id, "polling_url": polling_url, "status": "pending"}


def stored_url(world: World, job: Job, index: int) -> str:
    return f"{_origin(world)}/_store/{job.id}/{index}?signature={world.signature(job, index)}"


def _cost(world: World, fate: Fault | None, ends_as: str, price: Decimal, *, is_byok: bool) -> Decimal:
    if ends_as in JOB_ENDS:
        assert fate is not None
        charged = world.settings.charge_failures if fate.charged is None else fate.charged
        return price if charged else Decimal(0)
    if ends_as == "never_ends":
        return Decimal(0)
    return nano(price * BYOK_FEE) if is_byok else price


def _queue(world: World, model: str) -> float:
    """Simulated seconds until one of the model's slots is free."""
    slots = world.settings.slots_per_model
    if slots is None:
        return 0.0
    left = (-world.ended_for_s(job) for job in world.books.jobs.values() if job.model == model)
    running = sorted(seconds for seconds in left if 0 < seconds < float("inf"))
    return running[-slots] if len(running) >= slots else 0.0


def _api(world: World) -> str:
    return f"{_origin(world)}/api/v1"


def _origin(world: World) -> str:
    return world.settings.public_origin or world.origin


def _letters() -> str:
    return "".join(secrets.choice(_ALPHANUMERIC) for _ in range(20))
