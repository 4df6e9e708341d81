"""The clock of a run. Intervals are monotonic; against a simulator that runs faster than real time they shrink."""

from __future__ import annotations

import time


class Pace:
    """``speed``: how many times faster than real time the counterpart runs; 1 for the real API."""

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed

    def now(self) -> float:
        """Seconds on the counterpart's clock, from an arbitrary start."""
        return time.monotonic() * self.speed

    def real(self, seconds: float) -> float:
        """How long ``seconds`` of the counterpart's time take here."""
        return seconds / self.speed
