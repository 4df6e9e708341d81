"""A strict OpenRouter on loopback, for rehearsals and tests: real HTTP, real clips, made-up money.

    async with Simulator(SimulatorSettings(speed=30)) as simulator:
        ...  # any client, with base URL simulator.base_url and a key that begins with sk-or-
        simulator.journal.accepted, simulator.journal.charged

``server`` and ``middleware`` pass a call to ``videos``, ``images``, ``text``, ``content`` or ``account``, which check,
price and answer it. ``state`` has time, keys and limits; ``journal`` records; ``faults`` go wrong; ``clips`` renders.
"""

from __future__ import annotations

from orbatch_simulator.faults import NAMED, Fault, named_fault
from orbatch_simulator.server import Simulator, run_forever, simulator_thread
from orbatch_simulator.state import SimulatorSettings

__all__ = ["NAMED", "Fault", "Simulator", "SimulatorSettings", "named_fault", "run_forever", "simulator_thread"]
