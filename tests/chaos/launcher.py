"""Starts simulators, and ``orbatch`` processes that kill or freeze themselves at the n-th passing of a named point.

The product knows nothing of it: the methods at the point are wrapped before the command begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import inspect
import json
import os
import select
import signal
import sys
import threading
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Point:
    """A place in a job's life: before or after a call of ``name``, which is a function or ``Class.method`` of
    ``module``."""

    module: str
    name: str
    when: str  # before, after, or accepted: when the simulator has taken the order, and the answer is still to come


POINTS = {
    "before the intent": Point("orbatch.ledger.attempts", "Attempts.reserve", "before"),
    "right after the intent": Point("orbatch.runner.submit", "Submitter._may_leave", "before"),
    "between intent and send": Point("orbatch_provider.client", "OpenRouterProvider.submit", "before"),
    "while the answer is awaited": Point("orbatch_provider.client", "OpenRouterProvider.submit", "accepted"),
    "between answer and commit": Point("orbatch.ledger.attempts", "Attempts.accept", "before"),
    "right after the id is committed": Point("orbatch.runner.limits", "Limits.note_success", "before"),
    "while polling": Point("orbatch_provider.client", "OpenRouterProvider.poll", "after"),
    "before the charge is written": Point("orbatch.ledger.attempts", "Attempts.end", "before"),
    "right after the charge is written": Point("orbatch.runner.download", "Downloader.download", "before"),
    "in the middle of a download": Point("orbatch_provider.download", "PartFile.write", "after"),
    "between download and link": Point("orbatch.runner.download", "place", "before"),
    "between link and commit": Point("orbatch.runner.download", "place", "after"),
    "between commit and removal of the part": Point("orbatch.runner.download", "discard", "before"),
    "in the recovery of an earlier kill": Point("orbatch.ledger.attempts", "Attempts.recover_interrupted", "after"),
    "before the lease is released": Point("orbatch.ledger.leases", "Leases.release", "before"),
}


class Trap:
    """Counts calls over all threads and springs at the n-th."""

    def __init__(self, number: int, signal_number: signal.Signals) -> None:
        self._left = number
        self._signal = signal_number
        self._lock = threading.Lock()

    def spring(self) -> None:
        with self._lock:
            self._left -= 1
            is_due = self._left == 0
        if is_due:
            sys.stderr.flush()
            os.kill(os.getpid(), self._signal)


def set_trap(point: Point, trap: Trap) -> None:
    owner: Any = importlib.import_module(point.module)
    *holders, name = point.name.split(".")
    for holder in holders:
        owner = getattr(owner, holder)
    original = getattr(owner, name)
    if point.when == "accepted":
        wrapped = _when_accepted(original, trap)
    elif inspect.iscoroutinefunction(original):
        wrapped = _around_coroutine(original, trap, point.when)
    else:
        wrapped = _around(original, trap, point.when)
    setattr(owner, name, wrapped)


def _around(original: Callable[..., Any], trap: Trap, when: str) -> Callable[..., Any]:
    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            trap.spring()
        result = original(*args, **kwargs)
        if when == "after":
            trap.spring()
        return result

    return wrapper


def _around_coroutine(original: Callable[..., Any], trap: Trap, when: str) -> Callable[..., Any]:
    @functools.wraps(original)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            trap.spring()
        result = await original(*args, **kwargs)
        if when == "after":
            trap.spring()
        return result

    return wrapper


def _when_accepted(original: Callable[..., Any], trap: Trap) -> Callable[..., Any]:
    @functools.wraps(original)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        before = await asyncio.to_thread(_accepted_jobs)
        sending = asyncio.ensure_future(original(*args, **kwargs))
        while not sending.done() and await asyncio.to_thread(_accepted_jobs) == before:
            pass
        trap.spring()
        return await sending

    return wrapper


def _accepted_jobs() -> int:
    url = os.environ["OPENROUTER_BASE_URL"].removesuffix("/api/v1") + "/_sim/journal"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - the simulator on loopback
            return int(json.load(answer)["accepted"])
    except OSError:
        return -1  # the simulator is down as well


def run(order: Mapping[str, Any]) -> None:
    """A simulator or an ``orbatch``, in ``folder`` and with ``environment``, its output appended to ``log``."""
    os.chdir(order["folder"])
    os.environ.update(order["environment"])
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for descriptor in (sys.stdout.fileno(), sys.stderr.fileno()):
        os.dup2(log, descriptor)
    if "simulator" in order:
        simulate(order["simulator"])
    else:
        run_orbatch(order)


def simulate(order: Mapping[str, Any]) -> None:
    simulator = importlib.import_module("orbatch_simulator")
    slow = simulator.Fault("submit", "delay", accept=True, delay_s=order["answer_delay_s"])
    settings = simulator.SimulatorSettings(faults=(slow,), **order["settings"])
    simulator.run_forever(settings, port=order["port"], journal_path=Path("journal.jsonl"), on_ready=say)


def run_orbatch(order: Mapping[str, Any]) -> None:
    if order["point"]:
        set_trap(POINTS[order["point"]], Trap(order["number"], signal.Signals[order["signal"]]))
    if order["lease_s"] is not None:
        defaults = importlib.import_module("orbatch.runner.runner").BatchRun.__init__.__kwdefaults__
        defaults["lease_s"] = order["lease_s"]
    sys.argv = ["orbatch", *order["arguments"]]
    importlib.import_module("orbatch.cli").main()


def serve() -> None:
    """One process of its own for every line of JSON on stdin; tells pids and, later, wait statuses on stdout.

    Importing takes longer than most runs here; a fork of a process that has imported everything begins at once.
    """
    for module in ("orbatch.cli.app", "orbatch.cli.run", "orbatch_simulator", "av"):
        importlib.import_module(module)
    wake_up, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    orders = sys.stdin.buffer
    while True:
        ready, _, _ = select.select([wake_up, orders], [], [])
        if wake_up in ready:
            os.read(wake_up, 4096)
            report_ended()
        if orders in ready:
            line = orders.readline()
            if not line:
                return
            order = json.loads(line)
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                run(order)
                sys.exit(0)
            tell({"started": pid})


def report_ended() -> None:
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            tell({"ended": ended[0], "code": os.waitstatus_to_exitcode(ended[1])})


def tell(message: Mapping[str, int]) -> None:
    say(json.dumps(message))


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve()
