"""A strict OpenRouter on loopback, for rehearsals and tests: real HTTP, real clips, play money.

    async with Simulator(SimulatorSettings(speed=30)) as simulator:
        ...  # any client, with base URL simulator.base_url and a key that begins with sk-or-
        simulator.books.accepted, simulator.books.charged

rules refuse what the service refuses, order settles what a request leaves open, billing prices it, timing says when it
ends, clips draws it, books remember it, faults spoil it, routes answer. Images (imagerules, imagebilling, pictures) and
texts (chat) come in the answer; their models are in examples.
"""

from __future__ import annotations

from orbatch_simulator.books import Books, Job, Served, fingerprint
from orbatch_simulator.faults import Fault
from orbatch_simulator.server import Simulator, run_forever, simulator_thread
from orbatch_simulator.settings import SimulatorSettings
from orbatch_simulator.timing import Clock, ManualClock, WallClock

__all__ = [
    "Books",
    "Clock",
    "Fault",
    "Job",
    "ManualClock",
    "Served",
    "Simulator",
    "SimulatorSettings",
    "WallClock",
    "fingerprint",
    "run_forever",
    "simulator_thread",
]
