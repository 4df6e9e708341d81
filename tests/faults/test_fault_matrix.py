"""Every fault in every call: the lifecycle step, whether the paid request may be sent again, and the words for it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from orbatch.ledger import Charge, JobRecord, LedgerConflict
from orbatch.ledger.status import Status
from orbatch.plan.catalogs import CatalogCache, load_catalogs
from orbatch.runner.context import StopRun, StopSubmits
from orbatch.runner.reconcile import reconcile, record_usage
from orbatch_provider.errors import STATUS_RULES, AuthenticationError
from tests.faults.faults import FAULTS, RETRY_AFTER, RETRY_AFTER_S, STATUSES, Fault, status_fault
from tests.faults.matrix import CELLS, OUTCOMES, Outcome
from tests.faults.workshop import CALLS, NO_CAPS, PAID_CALLS, Healthy, Switch, Workshop, call_of, provider_at
from tests.provider.rawserver import Exchange, Servers, Step, close, send

ONCE, ALWAYS = 1, float("inf")
RESENDS = 3  # tries of a submit that never goes well
WAITING_CALLS = (*PAID_CALLS, "poll", "content")
Workshops = dict[str, Workshop]


def test_the_table_has_a_cell_for_every_fault_in_every_call() -> None:
    assert set(CELLS) == {(fault, call) for fault in FAULTS for call in CALLS}
    assert {str(status) for status in STATUS_RULES} <= set(FAULTS)
    unknown = [status for status in STATUSES if status not in STATUS_RULES]
    assert {status // 100 for status in unknown} == {3, 4, 5}
    assert all(word in OUTCOMES[call] for (_, call), word in CELLS.items())


class Bench:
    """One cell: a fault in one call of one job, so and so many times."""

    def __init__(self, workshop: Workshop, provider: Switch, cache: Path) -> None:
        self.workshop = workshop
        self.provider = provider
        self.heard: list[str] = []
        self._cache = cache

    async def meet(self, call: str) -> JobRecord:
        job: JobRecord = await (self._pay() if call in PAID_CALLS else getattr(self, f"_{call}")())
        self.heard += [self.workshop.text, self.workshop.shown(job)]
        return job

    @property
    def text(self) -> str:
        return "\n".join(self.heard)

    async def _pay(self) -> JobRecord:
        job = self.workshop.take()
        steps = self.workshop.steps(self.provider)
        with self._stops():
            while self.workshop.status(job) is Status.PENDING and self.provider.calls < RESENDS:
                await steps.submit(job, self.workshop.reserve(job))
        return job

    async def _poll(self) -> JobRecord:
        job, attempt = self.workshop.submitted()
        with self._stops():
            await self.workshop.steps(self.provider).poll(job, attempt)
        return job

    async def _content(self) -> JobRecord:
        job, attempt = self.workshop.completed()
        with self._stops():
            await self.workshop.steps(self.provider).download(job, attempt, await self.provider.poll("job-seen"))
        return job

    async def _models(self) -> JobRecord:
        loaded = await load_catalogs(self.provider, {"video": None}, CatalogCache("http://127.0.0.1", self._cache))
        self.workshop.said = []
        self.heard.append(loaded.note)
        return self.workshop.take()

    async def _key(self) -> JobRecord:
        self.workshop.said = []
        job = self.workshop.take()
        self.workshop.ledger.attempts.mark_uncertain(self.workshop.reserve(job).attempt_id, "")
        await record_usage(self.workshop.ledger, self.provider)
        return job

    async def _generation(self) -> JobRecord:
        self.workshop.said = []
        job, attempt = self.workshop.submitted()
        self.workshop.ledger.attempts.end(attempt.id, Status.COMPLETED, Charge(None), NO_CAPS)
        job, _ = self.workshop.now(job)
        with self._stops():
            settled = await reconcile(self.workshop.ledger, self.provider, [job], NO_CAPS)
            assert (settled.settled, settled.open) == (0, 1)
        return job

    @contextlib.contextmanager
    def _stops(self) -> Any:
        try:
            yield
        except (StopRun, StopSubmits, AuthenticationError) as exc:
            self.heard.append(f"{exc} budget" if isinstance(exc, StopSubmits) else str(exc))


@asynccontextmanager
async def bench(
    workshops: Workshops, servers: Servers, cache: Path, call: str, fault: Fault, times: float
) -> AsyncIterator[Bench]:
    workshop = workshops[PAID_CALLS.get(call, "video")]
    healthy = await servers.start(Healthy().script)
    ill = await servers.start([only_for(call, fault.steps[call]) if fault.steps else close])
    url = {
        "": ill.url,
        "refused": f"http://127.0.0.1:{unused_port()}",
        "dns": "https://name.invalid",
        "tls": ill.url.replace("http:", "https:"),
    }[fault.place]
    if fault.place == "tls":
        ill.scripts[:] = [[send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), close]]
    if fault.place == "dns":
        asyncio.get_running_loop().getaddrinfo = no_such_name  # type: ignore[method-assign]
    async with provider_at(url, patience_s=fault.patience_s) as broken, provider_at(healthy) as well:
        yield Bench(workshop, Switch(broken, well, call, times), cache)


def only_for(call: str, steps: list[Step]) -> Step:
    """The other calls of a faulty server go well: a lost file is looked up with a poll."""

    async def step(exchange: Exchange) -> None:
        exchange.head = await exchange.take_head()
        method, target = exchange.head.decode("latin-1").split(" ")[:2]
        for part in steps if call_of(method, target) == call else Healthy().script:
            await part(exchange)

    return step


async def no_such_name(*_: object, **__: object) -> Any:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def outcome_of(fault: str, call: str) -> Outcome:
    return OUTCOMES[call][CELLS[fault, call]]


def check(met: Bench, call: str, job: JobRecord, outcome: Outcome, status: Status) -> None:
    workshop = met.workshop
    assert workshop.status(job) is status
    assert outcome.says in met.text
    if not outcome.says:
        assert met.text.strip() == ""
    if status in (Status.DONE, Status.LOST):
        assert not list(workshop.output_dir.glob(f"{job.stem}*.part"))
    elif PAID_CALLS.get(call, "video") != "video":
        assert not list(workshop.output_dir.glob(f"{job.stem}*"))  # nothing that is no result stands where one would
    elif call == "content":
        assert not list(workshop.output_dir.glob(f"{job.stem}.mp4"))  # no error page is ever saved as a video
    if status is not Status.PENDING:
        with pytest.raises(LedgerConflict):
            workshop.reserve(job)
    if call in PAID_CALLS:
        goes_on = outcome.resend and outcome.once is not Status.PENDING
        assert met.provider.calls == (1 if not goes_on else 2 if status is outcome.once else RESENDS)


@pytest.mark.parametrize(("fault", "call"), list(CELLS))
async def test_a_fault_that_passes(
    workshops: Workshops, servers: Servers, tmp_path: Path, fault: str, call: str
) -> None:
    outcome = outcome_of(fault, call)
    async with bench(workshops, servers, tmp_path, call, FAULTS[fault], ONCE) as met:
        job = await met.meet(call)

        check(met, call, job, outcome, outcome.once)
        if outcome.says and call != "models" and CELLS[fault, call] != "accepted":
            assert FAULTS[fault].says in met.text or call == "content"


@pytest.mark.parametrize(("fault", "call"), list(CELLS))
async def test_a_fault_that_stays(
    workshops: Workshops, servers: Servers, tmp_path: Path, fault: str, call: str
) -> None:
    outcome = outcome_of(fault, call)
    async with bench(workshops, servers, tmp_path, call, FAULTS[fault], ALWAYS) as met:
        job = await met.meet(call)

        check(met, call, job, outcome, outcome.always)
        if outcome.always in (Status.SUBMITTED, Status.COMPLETED) and call in ("poll", "content"):
            assert (
                CELLS[fault, call] == "stops-run" or "The job is paid for; run the same command to resume." in met.text
            )


@pytest.mark.parametrize("form", list(RETRY_AFTER))
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", STATUSES)
async def test_retry_after_changes_when_and_never_what(
    workshops: Workshops,
    servers: Servers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    call: str,
    form: str,
) -> None:
    asked: list[float] = []

    def instantly(retry_after_s: float) -> float:
        asked.append(retry_after_s)
        return 0.0

    monkeypatch.setattr("orbatch.runner.context.bounded_retry_after", instantly)
    outcome = outcome_of(str(status), call)
    fault = status_fault(status, RETRY_AFTER[form])
    async with bench(workshops, servers, tmp_path, call, fault, ONCE) as met:
        job = await met.meet(call)

        check(met, call, job, outcome, outcome.once)
    waits = outcome.once in (Status.SUBMITTED, Status.COMPLETED, Status.DONE) and call in WAITING_CALLS
    is_obeyed = waits and CELLS[str(status), call] != "stops-run" and not (status == 302 and call == "content")
    assert asked == ([RETRY_AFTER_S] if is_obeyed else [])
